"""Scores of subgroups (one site, one scanner, one sex), each with its difference to all others.

The score is the mean recall of classes: shares of classes differ between subgroups, and recall does not depend on them.
A difference is over the classes that both sides have. Its error is the jackknife's by case on each side, with half a
right and half a wrong case added to each class (Agresti & Caffo 2000 add a whole of each), so that a subgroup without
an error is not taken for a perfect one. All rows are one family for Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..metrics import predict_classes
from ..records.scored import Margin
from ..records.studies.comparison import Difference, Verdict
from ..records.studies.sites import Subgroup
from ..stats.gap import Gap
from ..stats.intervals import count_degrees
from ..stats.luck import Luck
from ..stats.permutation import adjust_holm
from ..stats.pool import Pool
from .margins import measure_margins

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST_CASES = 5  # on each side of a difference; fewer give no error
METRIC = "balanced_accuracy"
NO_LUCK = Luck(0.0, 0.0, 0.0)  # the same networks score both sides


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of a difference, over C shared classes: recalls (C,), cases of each class (C,), influence (K,)."""

    recalls: Floats
    cases: Floats
    influence: Floats
    added: float


def measure_subgroups(
    pool: Pool, columns: Mapping[str, Sequence[str]], *, site_out: Pool | None = None, confidence: float = 0.95
) -> tuple[Subgroup, ...]:
    """Return one row for each value of each column, in their order.

    Args:
        pool: out-of-fold predictions of n units.
        columns: name -> value (n,) of each unit; empty where there is none.
        site_out: the same units by networks that had not seen their site; scored for the column ``site``.
        confidence: of the intervals.
    """
    right = (predict_classes(pool.scores) == pool.y_true).mean(axis=0)  # share of the seeds, (n,)
    rows, gaps = [], []
    for column, values in columns.items():
        found = np.array(values, dtype=str)
        for value in sorted(set(values) - {""}):
            inside = found == value
            gap, why = _measure_difference(pool, right, inside, found != "")
            counts = np.bincount(pool.y_true[inside], minlength=len(pool.classes))
            held = site_out if column == "site" else None
            rows.append(
                Subgroup(
                    column=column, value=value, n_images=int(inside.sum()),
                    n_cases=len(np.unique(pool.case[inside])),
                    classes={name: int(n) for name, n in zip(pool.classes, counts, strict=True) if n},
                    score=_score_part(pool, inside, confidence),
                    site_out=None if held is None else _score_part(held, inside, confidence),
                    difference=None, why=why,
                )
            )  # fmt: skip
            gaps.append(gap)
    known = [gap for gap in gaps if gap is not None]
    holm = iter(adjust_holm([gap.p for gap in known]))
    alpha = (1 - confidence) / max(1, len(known))
    return tuple(
        row if gap is None else row.model_copy(
            update={"difference": _describe(gap, next(holm), confidence=confidence, alpha=alpha)}
        )
        for row, gap in zip(rows, gaps, strict=True)
    )  # fmt: skip


def restrict_pool(pool: Pool, rows: Bools) -> Pool:
    """Return the pool of some of its units (n,)."""
    kept, case = np.unique(pool.case[rows], return_inverse=True)
    return replace(
        pool,
        images=tuple(name for name, one in zip(pool.images, rows, strict=True) if one),
        y_true=pool.y_true[rows],
        case=case.astype(np.int64),
        fold=pool.fold[:, rows],
        scores=pool.scores[:, rows],
        cases=tuple(pool.cases[i] for i in kept),
    )


def _score_part(pool: Pool, inside: Bools, confidence: float) -> Margin | None:
    if len(np.unique(pool.case[inside])) < LEAST_CASES:
        return None
    return measure_margins(restrict_pool(pool, inside), confidence=confidence)[METRIC]


def _measure_difference(pool: Pool, right: Floats, inside: Bools, known: Bools) -> tuple[Gap | None, str]:
    """Return the mean recall inside less that of the rest that is ``known``, or why there is none."""
    rest = known & ~inside
    shared = [
        c for c in range(len(pool.classes)) if (pool.y_true[inside] == c).any() and (pool.y_true[rest] == c).any()
    ]
    few = [len(np.unique(pool.case[part])) for part in (inside, rest)]
    if min(few) < LEAST_CASES:
        return None, f"only {min(few)} case(s) on one side, {LEAST_CASES} are needed"
    if not shared:
        return None, "it shares no class with the rest"
    sides = [_recall(pool, right, part, shared) for part in (inside, rest)]
    influence = sides[0].influence - sides[1].influence  # of a case on both sides, together
    number = np.count_nonzero(np.bincount(pool.case[known], minlength=pool.n_cases))
    variance = float((influence**2).sum()) * number / (number - 1) + sides[0].added + sides[1].added
    level = np.column_stack([sides[0].recalls, np.maximum(1, sides[0].cases)])
    touched = influence[influence != 0] if np.count_nonzero(influence) > 2 else np.ones(few[0])
    degrees = max(count_degrees(touched), float(min(few) - 1))
    return Gap(float(sides[0].recalls.mean() - sides[1].recalls.mean()), variance, degrees, NO_LUCK, level), ""


def _recall(pool: Pool, right: Floats, part: Bools, classes: Sequence[int]) -> _Side:
    """Return the recall of classes in a part with the linear influence of each case on their mean."""
    recalls, cases = np.zeros(len(classes)), np.zeros(len(classes))
    influence, added = np.zeros(pool.n_cases), 0.0
    for place, label in enumerate(classes):
        rows = part & (pool.y_true == label)
        images = np.bincount(pool.case[rows], minlength=pool.n_cases).astype(float)
        won = np.bincount(pool.case[rows], weights=right[rows], minlength=pool.n_cases)
        total, size = images.sum(), float((images**2).sum() / images.sum())
        recalls[place], cases[place] = won.sum() / total, np.count_nonzero(images)
        influence += (won - recalls[place] * images) / total / len(classes)
        full = (won.sum() + size / 2) / (total + size)
        added += size**2 * ((1 - full) ** 2 + full**2) / 2 / (total + size) ** 2 / len(classes) ** 2
    return _Side(recalls, cases, influence, added)


def _describe(gap: Gap, p_holm: float, *, confidence: float, alpha: float) -> Difference:
    low, high = gap.find_interval(confidence=confidence)
    verdict: Verdict = "cannot tell" if p_holm > 1 - confidence else "better" if gap.value > 0 else "worse"
    return Difference(
        value=gap.value, low=low, high=high, p=gap.p, p_holm=p_holm, verdict=verdict, why="", p_equal=1.0, margin=0.0,
        smallest_detectable=gap.find_smallest(alpha=alpha),
    )  # fmt: skip
