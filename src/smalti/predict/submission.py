"""The file that a competition expects: the sample with its gaps filled, checked before it is written."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import recipe
from ..errors import SubmissionError
from ..store import write_atomic
from ..types import Cohort, Form, FormRow, score_columns
from .rules import settle_tables

DECIMALS = 9
Scores = Mapping[str, NDArray[np.float64]]  # image -> (C,)


def average_scores(predictions: pd.DataFrame, *, classes: tuple[str, ...]) -> pd.DataFrame:
    """Return the mean score of each image over its rows (folds and seeds), in order of first appearance: image,
    score_..."""
    columns = score_columns(classes)
    return predictions.groupby("image", sort=False)[columns].mean().reset_index()


def calibrate_scores(
    inner: pd.DataFrame, test: pd.DataFrame, *, classes: tuple[str, ...], calibration: str
) -> pd.DataFrame:
    """Return the probabilities of a test table: calibrated on the inner table, and not moved by the weights of a
    decision.

    Args:
        inner: scores of the inner images before any rule.
        test: scores of the images to predict, likewise.
        classes: class names in score order.
        calibration: name of one of ``CALIBRATIONS``.
    """
    rules = recipe.Predict(calibration=calibration, decision="largest")
    return settle_tables(inner, {"test": test}, classes=classes, predict=rules)[1]["test"]


def find_unreadable(cohort: Cohort) -> tuple[str, ...]:
    """Return rows of the form none of whose images can be predicted; they get the shares of the classes."""
    if cohort.form is None:
        return ()
    readable = {s.image for s in cohort.unlabelled}
    return tuple(row.cells[cohort.form.key].strip() for row in cohort.form.rows if readable.isdisjoint(row.images))


def write_submission(
    path: Path, cohort: Cohort, predictions: pd.DataFrame, probabilities: pd.DataFrame | None = None
) -> Path:
    """Fill the form of the cohort: each row with the mean over its images, each image with the mean over its rows.

    Args:
        path: the file to write.
        cohort: one that has a form.
        predictions: decided scores of each image; the class of the largest is said.
        probabilities: the table that probabilities are taken from; by default ``predictions``.

    Raises:
        SubmissionError: the file would be refused, or the cohort has no form; nothing is written.
    """
    form, classes = cohort.form, cohort.classes
    if form is None:
        raise SubmissionError(f"no submission can be written: {cohort.no_submission}", fix="add what is missing")
    images, found = [s.image for s in cohort.unlabelled], []
    for table in (predictions, predictions if probabilities is None else probabilities):
        means = average_scores(table, classes=classes)
        scores = dict(zip(means["image"], means[score_columns(classes)].to_numpy(dtype=np.float64), strict=True))
        missing = [image for image in images if image not in scores or not np.isfinite(scores[image]).all()]
        if missing:
            raise SubmissionError(
                f"no prediction for {len(missing)} of {len(images)} images ({', '.join(missing[:3])})",
                fix="run 'smalti predict' again",
            )
        found.append({image: scores[image] for image in images})
    decided, shares = found
    prior = np.bincount(cohort.targets, minlength=len(classes)) / max(1, len(cohort.labelled))
    text = fill_form(form, classes, decided=decided, shares=shares, prior=prior)
    check_submission(text, form)
    return write_atomic(path, text)


def fill_form(
    form: Form, classes: tuple[str, ...], *, decided: Scores, shares: Scores, prior: NDArray[np.float64]
) -> str:
    """Return the text of a submission: the sample but for the columns that are asked for.

    Args:
        form: what is asked for.
        classes: class names in score order.
        decided: scores whose largest is said.
        shares: probabilities.
        prior: (C,) what a row gets that has no image with scores.
    """

    def answer(row: FormRow, scores: Scores) -> NDArray[np.float64]:
        known = [scores[image] for image in row.images if image in scores]
        mean: NDArray[np.float64] = np.mean(known, axis=0) if known else prior
        return mean

    parts = [form.head]
    for row in form.rows:
        cells = list(row.cells)
        if form.labels:
            said = classes[int(answer(row, decided).argmax())]
            for column, words in form.labels.items():
                cells[column] = _write_cell(cells[column], words[said], form.delimiter)
        if form.scores:
            # Decimals that add up to 1 to the last; the largest share takes the rest of the rounding.
            exact = answer(row, shares)
            units = np.rint(exact / exact.sum() * 10**DECIMALS).astype(np.int64)
            units[units.argmax()] += 10**DECIMALS - units.sum()
            for column, name in form.scores.items():
                whole, rest = divmod(int(units[classes.index(name)]), 10**DECIMALS)
                written = f"{whole}{',' if form.comma else '.'}{rest:0{DECIMALS}d}"
                cells[column] = _write_cell(cells[column], written, form.delimiter)
        parts += [form.delimiter.join(cells), row.end]
    return "".join(parts)


def _write_cell(sample: str, text: str, delimiter: str) -> str:
    """Return a cell with the spaces and the quotes of the sample's; quotes also where the text needs them."""
    before, inner, after = re.fullmatch(r"(\s*)(.*?)(\s*)", sample, re.DOTALL).groups()  # type: ignore[union-attr]
    needed = text != text.strip() or any(sign in text for sign in (delimiter, '"', "\r", "\n"))
    quoted = '"' + text.replace('"', '""') + '"' if needed or inner.startswith('"') else text
    return f"{before}{quoted}{after}"


def check_submission(text: str, form: Form) -> None:
    """Compare a submission with the sample: header, rows, their order and all that is not asked for; then the answers.

    Raises:
        SubmissionError: with everything that differs.
    """

    def parse(text: str) -> list[list[str]]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=form.delimiter, skipinitialspace=True)
        return [line for line in lines if any(line)]

    head = parse(form.head)
    wanted = parse("".join(form.delimiter.join(row.cells) + row.end for row in form.rows))
    found_head, found = parse(text)[: len(head)], parse(text)[len(head) :]
    asked = {*form.labels, *form.scores}
    faults = []
    if found_head != head:
        columns = ", ".join(found_head[-1]) if found_head else "none"
        faults.append(f"columns are {columns}; expected {', '.join(form.header)}")
    if len(found) != len(wanted):
        faults.append(f"{len(found)} rows where {len(wanted)} are expected")
    for number, (row, other) in enumerate(zip(found, wanted, strict=False), start=1):
        where = f"row {number} ({other[form.key].strip()})"
        if len(row) != len(other):
            faults.append(f"{where} has {len(row)} cells where {len(other)} are expected")
            continue
        others = [i for i in range(len(row)) if i not in asked and row[i] != other[i]]
        faults += [f"{where} has '{row[i]}' for '{other[i]}' in column {form.header[i]}" for i in others]
        own, numbers = [], []  # the answers: known labels, probabilities that add up to 1
        for column, words in form.labels.items():
            if row[column].strip() not in words.values():
                known = ", ".join(words.values())
                own.append(f"'{row[column]}' in column {form.header[column]} is no label; known: {known}")
        for column in form.scores:
            try:
                numbers.append(float(row[column].replace(",", ".") if form.comma else row[column]))
            except ValueError:
                numbers.append(math.nan)
            if not 0 <= numbers[-1] <= 1:
                own.append(f"'{row[column]}' in column {form.header[column]} is no probability")
        if len(numbers) > 1 and not own and abs(sum(numbers) - 1) > 10 ** (1 - DECIMALS):
            own.append(f"probabilities add up to {sum(numbers):.9g}")
        faults += [f"{where}: {fault}" for fault in own]
    if faults:
        more = f"; and {len(faults) - 12} more" if len(faults) > 12 else ""
        raise SubmissionError(f"the submission would be refused: {'; '.join(faults[:12])}{more}", fix="predict again")
