"""What a run of two classes is worth at a threshold."""

from __future__ import annotations

from collections.abc import Mapping

from ..evaluate import average_cases, measure_operating
from ..recipe import Recipe
from ..records import Operating, RunFolder, Scoring


def write_operating(
    run: RunFolder, recipe: Recipe, scoring: Scoring, *, classes: tuple[str, ...], cases: Mapping[str, str] | None
) -> Operating | None:
    """Write ``operating.json`` of a run of two classes, by the unit of its scores; None of any other run.

    Raises:
        RunError: a table is missing or damaged.
        DataError: a table cannot be used.
    """
    if len(classes) != 2:
        return None
    out_of_fold, inner = run.read_out_of_fold(), run.read_inner()
    if scoring.unit == "case":
        out_of_fold = average_cases(out_of_fold, cases or {}, classes=classes)
        inner = None if inner is None else average_cases(inner, cases or {}, classes=classes)
    positive = recipe.data.positive if recipe.data.positive in classes else None
    found = measure_operating(
        out_of_fold, inner, classes=classes, positive=positive, unit=scoring.unit,
        confidence=recipe.evaluate.confidence, resamples=recipe.evaluate.resamples,
    )  # fmt: skip
    found.write(run.path)
    return found
