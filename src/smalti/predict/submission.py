"""The file that a competition expects, checked before it is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from ..errors import SubmissionError
from ..runs import write_table
from ..types import Cohort, score_columns


def average_scores(predictions: pd.DataFrame, *, classes: tuple[str, ...]) -> pd.DataFrame:
    """Mean score of each image over its rows (folds and seeds), in order of first appearance: image, score_..."""
    columns = score_columns(classes)
    return predictions.groupby("image", sort=False)[columns].mean().reset_index()


def find_unreadable(cohort: Cohort) -> tuple[str, ...]:
    """Rows that a submission must have although their images were left out; they get the most frequent class."""
    readable = {s.index for s in cohort.unlabelled}
    return tuple(name for name in cohort.submission_rows if name not in readable)


def write_submission(path: Path, cohort: Cohort, predictions: pd.DataFrame) -> Path:
    """Write the class of the highest mean score of each image, in the order of the sample file or folder.

    Raises:
        SubmissionError: the table would be refused; nothing is written.
    """
    means = average_scores(predictions, classes=cohort.classes).set_index("image")
    missing = [s.image for s in cohort.unlabelled if s.image not in means.index]
    if missing:
        raise SubmissionError(
            f"no prediction for {len(missing)} of {len(cohort.unlabelled)} images ({', '.join(missing[:3])}). "
            "Fix: run 'smalti predict' again"
        )
    best = means.loc[[s.image for s in cohort.unlabelled]].to_numpy().argmax(axis=1)
    chosen = {s.index: cohort.classes[i] for s, i in zip(cohort.unlabelled, best, strict=True)}
    chosen |= dict.fromkeys(find_unreadable(cohort), Counter(s.label for s in cohort.labelled).most_common(1)[0][0])
    table = pd.DataFrame([(name, chosen[name]) for name in cohort.submission_rows], columns=cohort.submission_columns)
    check_submission(table, cohort)
    return write_table(path, table)


def check_submission(table: pd.DataFrame, cohort: Cohort) -> None:
    """Compare a submission with what the competition expects: columns, count, names and their order, classes, blanks.

    Raises:
        SubmissionError: with everything that differs.
    """
    expected = list(cohort.submission_rows)
    if tuple(table.columns) != cohort.submission_columns:
        raise SubmissionError(
            f"columns are {', '.join(map(str, table.columns))}; expected {', '.join(cohort.submission_columns)}. "
            "Fix: rename them"
        )
    name_column, label_column = cohort.submission_columns
    names, labels = table[name_column].astype(str).tolist(), table[label_column]
    faults = []
    if len(names) != len(expected):
        faults.append(f"{len(names)} rows where {len(expected)} are expected")
    if unknown := sorted(set(names) - set(expected)):
        faults.append(f"{len(unknown)} unknown names ({', '.join(unknown[:3])})")
    if absent := sorted(set(expected) - set(names)):
        faults.append(f"{len(absent)} names without a row ({', '.join(absent[:3])})")
    if len(names) != len(set(names)):
        faults.append(f"{len(names) - len(set(names))} repeated names")
    if not faults and names != expected:
        faults.append("the rows are not in the expected order")
    blank = labels.isna() | (labels.astype(str).str.strip() == "")
    if blank.any():
        faults.append(f"{blank.sum()} blank labels")
    if strange := sorted(set(labels[~blank].astype(str)) - set(cohort.classes)):
        faults.append(f"unknown classes ({', '.join(strange[:3])}); known: {', '.join(cohort.classes)}")
    if faults:
        raise SubmissionError("the submission would be refused: " + "; ".join(faults) + ". Fix: predict again")
