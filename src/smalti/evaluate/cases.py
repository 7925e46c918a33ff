"""Answers by case: a lab asks about patients, and a patient has several images.

The score of a case is the mean of its images' probabilities, as a submission that asks by case is filled. Its label is
the one that all of its images share; where they do not, a case has no one answer.

The cases meant here are those that the data names. What the audit joined because it shows the same tissue shares a fold
and is one in the intervals, but two patients that share a picture stay two patients, and two copies without a patient
are none: the column ``case`` of a table by case keeps what must not be parted, the column ``image`` names the patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd

from ..errors import DataError, Problem
from ..stats.pool import fill_columns
from ..types import PREDICTION_COLUMNS, score_columns
from .scores import score_predictions

Unit = Literal["image", "case"]
OTHER: dict[Unit, Unit] = {"image": "case", "case": "image"}
SHOWN = 5  # cases named in a message


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the first number of a run speaks of.

    Attributes:
        unit: whether images or cases are counted.
        by_case: whether there is an answer by case at all.
        reason: why, in words.
    """

    unit: Unit = "image"
    by_case: bool = False
    reason: str = "not recorded, as in runs of earlier versions"


def choose_unit(
    labels: Mapping[str, str],
    cases: Mapping[str, str] | None,
    *,
    asked: Unit | None = None,
    submitted: Unit | None = None,
) -> Scoring:
    """Choose whether images or cases are counted; by case where that has one answer, unless something asks otherwise.

    Args:
        labels: image -> label, of the labelled images.
        cases: image -> the case that the data names; an image that is missing is its own. None: no cases are named.
        asked: what a person says.
        submitted: what the sample submission has a row for; None where there is none.

    Raises:
        DataError: answers by case are asked for and there are none; it names the cases that have several labels.
    """
    of_case: dict[str, Counter[str]] = {}
    for image, label in labels.items():
        of_case.setdefault((cases or {}).get(image, image), Counter())[label] += 1
    mixed = {case: counts for case, counts in sorted(of_case.items()) if len(counts) > 1}
    named = any(case != image for image, case in (cases or {}).items())
    if not named:
        against = "the data names no cases"
    elif mixed:
        against = f"{len(mixed)} of {len(of_case)} cases have images with several labels ({_list_mixed(mixed)})"
    else:
        against = "" if len(of_case) < len(labels) else "every case has one image"
    if asked == "case" and (mixed or not named):
        fix = (
            "correct the labels" if mixed else "name their column (--set data.case=COLUMN; 'case' in a CSV to evaluate)"
        )
        problem = Problem("no-answer-by-case", "unit 'case'", f"{against}.", f"{fix}, or ask by image")
        raise DataError("there is no answer by case:", [problem])
    by_case = not against or asked == "case"
    if asked is not None:
        return Scoring(asked, by_case, f"as asked for; {against}" if asked == "image" and against else "as asked for")
    if against:
        return Scoring("image", by_case, against)
    if submitted == "image":
        return Scoring("image", by_case, "the sample submission asks by image")
    return Scoring("case", by_case, f"all images of each of the {len(of_case)} cases share their label")


def average_cases(table: pd.DataFrame, cases: Mapping[str, str], *, classes: Sequence[str]) -> pd.DataFrame:
    """Average a prediction table over the images of each case, fold and seed.

    Args:
        table: columns ``image, case, fold, seed, label, score_<class>...``, missing ones as in `score_predictions`.
        cases: image -> the case that the data names; an image that is missing is its own.
        classes: class names in score order.

    Returns:
        One row a case, fold and seed with the same columns: ``image`` is the name of the case, ``case`` what must not
        straddle two folds, ``label`` that of its images (empty where they have none), each score the mean.

    Raises:
        DataError: the images of a case differ in their label.
    """
    columns = score_columns(tuple(classes))
    filled = fill_columns(table, tuple(classes))
    named = filled.assign(image=[cases.get(image, image) for image in filled["image"]])
    counted = {str(case): Counter(labels) for case, labels in named.groupby("image")["label"]}
    if mixed := {case: counts for case, counts in counted.items() if len(counts) > 1}:
        problem = Problem(
            "no-answer-by-case", f"{len(mixed)} of {len(counted)} cases",
            f"the images of a case have several labels: {_list_mixed(mixed)}.", "correct the labels, or score by image",
        )  # fmt: skip
        raise DataError("there is no answer by case:", [problem])
    groups = named.groupby(["seed", "fold", "image"], sort=False, as_index=False)
    means = groups.agg({"case": "first", "label": "first"} | dict.fromkeys(columns, "mean"))
    return means[[*PREDICTION_COLUMNS, *columns]]


def score_units(
    out_of_fold: pd.DataFrame,
    scoring: Scoring,
    *,
    classes: Sequence[str],
    cases: Mapping[str, str] | None,
    inner: pd.DataFrame | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Score a table by the unit of ``scoring``, with the other unit's scores beside it.

    Args:
        out_of_fold: as in `score_predictions`.
        scoring: which unit comes first, and whether there are two.
        classes: class names in score order.
        cases: image -> the case that the data names.
        inner: as in `score_predictions`.
        confidence: of the intervals.

    Returns:
        As `score_predictions`, with ``unit`` and ``unit_reason``, and under ``by_image`` or ``by_case`` the same of the
        other unit. ``n_images`` counts the images behind a score, ``n_units`` what was scored.

    Raises:
        DataError: the table cannot be scored; every problem at once, with lines and fixes.
    """
    head = {"unit": scoring.unit, "unit_reason": scoring.reason}
    by_image = score_predictions(out_of_fold, classes=classes, inner=inner, confidence=confidence)
    if not scoring.by_case:
        return head | by_image
    average = partial(average_cases, cases=cases or {}, classes=classes)
    chosen = None if inner is None else average(inner)
    by_case = score_predictions(average(out_of_fold), classes=classes, inner=chosen, confidence=confidence)
    found = {"image": by_image, "case": by_case | {"n_images": by_image["n_images"]}}
    return head | found[scoring.unit] | {f"by_{OTHER[scoring.unit]}": found[OTHER[scoring.unit]]}


def take_unit(scores: Mapping[str, Any], unit: Unit) -> dict[str, Any] | None:
    """The scores of one unit, as in ``scores.json``; None where they are not there."""
    if scores.get("unit", "image") == unit:
        return {key: value for key, value in scores.items() if key != f"by_{OTHER[unit]}"}
    return scores.get(f"by_{unit}")


def _list_mixed(mixed: Mapping[str, Counter[str]]) -> str:
    shown = [f"{case}: {', '.join(f'{n} {label}' for label, n in counts.items())}" for case, counts in mixed.items()]
    return "; ".join(shown[:SHOWN]) + (f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
