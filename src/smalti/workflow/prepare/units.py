"""What the scores of a run count, images or cases: settled before training, and kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ...errors import RunError
from ...evaluate import average_cases, choose_unit
from ...project import SILENT, Listener
from ...recipe import Recipe
from ...records import CohortRecord, Environment, RunFolder, Scoring, Unit
from ...records.layout import BY_CASE, CASES, OUT_OF_FOLD, TEST, TEST_BY_CASE
from ...store import read_table, write_table
from ...types import PREDICTION_COLUMNS
from .ground import Ground

TABLES = {OUT_OF_FOLD: BY_CASE, TEST: TEST_BY_CASE}  # of predictions, and their means by case


def settle_unit(ground: Ground, recipe: Recipe, *, listener: Listener = SILENT) -> Scoring:
    """Choose what is counted from the labels that are learned, the cases that the data names, and the submission.

    The unit and its reason are said.

    Raises:
        DataError: the recipe asks for answers by case and there are none.
    """
    labels = {s.image: str(s.label) for s in ground.cohort.labelled}
    submitted: Unit | None = None
    form = ground.cohort.form
    if form is not None and form.file:
        submitted = "image"
        for row in form.rows:  # a row for several images, or one that is called as a case
            named = {ground.cases.get(image, image) for image in row.images} - set(row.images)
            if len(row.images) > 1 or row.cells[form.key].strip().strip('"') in named:
                submitted = "case"
                break
    scoring = choose_unit(labels, ground.cases, asked=recipe.evaluate.unit, submitted=submitted)
    listener.say(f"scored by {scoring.unit}: {scoring.reason}")
    return scoring


def record_cases(run: RunFolder, ground: Ground, scoring: Scoring) -> None:
    """Keep the named cases where there are answers by case."""
    if scoring.by_case:
        rows = sorted(ground.cases.items())
        write_table(run.path / CASES, pd.DataFrame(rows, columns=["image", "case"]))


def read_unit(run: Path) -> tuple[Scoring, dict[str, str] | None]:
    """Read what the scores of a run count, and image -> named case where there are answers by case.

    Raises:
        RunError: a record is missing or damaged, or the run is of another version.
    """
    Environment.find(run)  # its version is that of the run
    scoring = CohortRecord.read(run).scoring
    if not scoring.by_case:
        return scoring, None
    cases = RunFolder(run).read_cases()
    if cases is None:
        raise RunError(f"{run / CASES} does not exist", fix="bring it back, or run the same command again")
    return scoring, cases


def write_cases(run: RunFolder, classes: tuple[str, ...], cases: Mapping[str, str]) -> None:
    """Write the predictions by case: out of fold, and of the unlabelled part where it has named cases."""
    for source, target in TABLES.items():
        path = run.path / source
        table = read_table(path, *PREDICTION_COLUMNS) if path.is_file() else None
        if table is not None and any(cases.get(image, image) != image for image in table["image"]):
            write_table(run.path / target, average_cases(table, cases, classes=classes))
