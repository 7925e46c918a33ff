"""Whether maps of where networks looked can be trusted, in numbers with intervals by case.

Three questions: does the score follow the map (deletion, insertion), does the map lie where the mask is, and do
networks that learned from other images draw the same map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..evaluate.scores import replace_nan
from ..stats.intervals import LEAST_CASES, draw_weights, measure_spread

Floats = NDArray[np.float64]
SHUFFLES = 100  # of the tiles, for the rank correlation of maps that have nothing to do with each other
GRID = np.linspace(0, 1, 11)  # shares of the tiles at which curves of different images are averaged


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over images with its interval from resampled cases.

    Attributes:
        value, low, high: NaN where there is no image.
        n_images, n_cases: that have a value.
        trustworthy: whether there are cases enough for the interval.
    """

    value: float
    low: float
    high: float
    n_images: int
    n_cases: int
    trustworthy: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured about one map of one image; NaN where something does not apply.

    Attributes:
        deletion: how much sooner the score falls than in a random order, mean over the number of tiles.
        insertion: how much sooner it rises.
        inside, area: share of the map inside the mask, and the mask's share of what was looked at.
        agreement: mean rank correlation between networks.
        chance: (SHUFFLES,) the same of shuffled tiles.
        curves: (3, 11) deletion, insertion and random order on `GRID`, share of the tiles that are there.
    """

    deletion: float
    insertion: float
    inside: float
    area: float
    agreement: float
    chance: Floats
    curves: Floats


def measure_map(
    maps: NDArray[np.float32], kept: NDArray[np.int64], curves: Floats, *, shares: tuple[float, float]
) -> Measured:
    """Measure one kind of map of one image.

    Args:
        maps: (S, N) of S networks.
        kept: (P,) number of tiles at each point of the curves.
        curves: (3, P) score at deletion, insertion and random order, mean over networks.
        shares: of the map inside the mask, and of the mask in the area.
    """
    deletion, insertion, random = integrate_curve(kept, curves)
    agreement, chance = correlate_maps(maps)
    grid = np.stack([np.interp(GRID, kept / kept[-1], row) for row in curves])
    return Measured(float(random - deletion), float(insertion - random), shares[0], shares[1], agreement, chance, grid)


def summarise_maps(
    measured: Sequence[Measured], cases: Sequence[str], *, resamples: int, confidence: float
) -> dict[str, Any]:
    """Means over images with intervals by case, the verdict, and the mean curves; what does not apply is None."""

    def mean(name: str) -> Mean:
        values = [getattr(m, name) for m in measured]
        return measure_mean(values, cases, resamples=resamples, confidence=confidence)

    inside, area = ([getattr(m, name) for m in measured] for name in ("inside", "area"))
    deletion, insertion = mean("deletion"), mean("insertion")
    # Bags of one tile have no order, so no curve.
    drawn = [m.curves for m in measured if not np.isnan(m.deletion)]
    curves = np.mean(drawn, axis=0) if drawn else np.full((3, len(GRID)), np.nan)
    chance = np.array([m.chance for m in measured if not np.isnan(m.agreement)])
    found = {
        "deletion": asdict(deletion), "insertion": asdict(insertion), "verdict": judge_map(deletion, insertion),
        "inside": asdict(mean("inside")), "area": asdict(mean("area")),
        "focus": asdict(measure_ratio(inside, area, cases, resamples=resamples, confidence=confidence)),
        "agreement": asdict(mean("agreement")),
        "agreement_chance": float(np.quantile(chance.mean(axis=0), confidence)) if len(chance) else None,
        "curves": dict(zip(("deletion", "insertion", "random"), curves.tolist(), strict=True)),
    }  # fmt: skip
    return dict(replace_nan(found))


def measure_mean(values: Sequence[float], cases: Sequence[str], *, resamples: int, confidence: float) -> Mean:
    """Mean of one value an image, NaN left out, with an interval from resampled cases."""
    return measure_ratio(values, np.ones(len(values)), cases, resamples=resamples, confidence=confidence)


def measure_ratio(
    above: Sequence[float] | Floats,
    below: Sequence[float] | Floats,
    cases: Sequence[str],
    *,
    resamples: int,
    confidence: float,
) -> Mean:
    """Sum of one value an image over the sum of another, NaN left out, with an interval from resampled cases."""
    top, bottom = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    known = ~(np.isnan(top) | np.isnan(bottom))
    if not known.any():
        return Mean(float("nan"), float("nan"), float("nan"), 0, 0, trustworthy=False)
    names, case = np.unique(np.asarray(cases)[known], return_inverse=True)
    sums = np.stack([np.bincount(case, weights=x[known], minlength=len(names)) for x in (top, bottom)], axis=1)
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    drawn = np.concatenate([w @ sums for w in draw_weights(len(names), resamples=resamples)])
    left = sums.sum(axis=0) - sums
    spread = measure_spread(value, _divide(drawn), _divide(left) if len(names) > 1 else np.array([]))
    low, high = spread.find_interval(confidence=confidence)
    return Mean(value, low, high, int(known.sum()), len(names), trustworthy=len(names) >= LEAST_CASES)


def _divide(sums: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[:, 0] / sums[:, 1], dtype=np.float64)


def integrate_curve(kept: NDArray[np.int64], scores: Floats) -> Floats:
    """Mean height of curves (..., P) over the number of tiles kept (P,); NaN of a single tile."""
    if len(kept) < 2:
        return np.full(scores.shape[:-1], np.nan)
    return np.asarray(np.trapezoid(scores, kept, axis=-1) / (kept[-1] - kept[0]), dtype=np.float64)


def correlate_maps(maps: NDArray[np.float32], *, seed: int = 0) -> tuple[float, Floats]:
    """Mean rank correlation of every two of S maps (S, N), and the same of maps with shuffled tiles, (SHUFFLES,).

    NaN for fewer than two maps, three tiles, or a map of one value.
    """
    networks, tiles = maps.shape
    if networks < 2 or tiles < 3 or (maps == maps[:, :1]).all(axis=1).any():
        return float("nan"), np.full(SHUFFLES, np.nan)
    ranks = stats.rankdata(maps, axis=1)
    ranks = (ranks - ranks.mean(axis=1, keepdims=True)) / ranks.std(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    chance = [_correlate(rng.permuted(ranks, axis=1)) for _ in range(SHUFFLES)]
    return _correlate(ranks), np.array(chance)


def _correlate(ranks: Floats) -> float:
    """Mean over pairs of standardised rows (S, N): the square of their sum holds every pair twice."""
    networks, tiles = ranks.shape
    return float(((ranks.sum(axis=0) ** 2).sum() / tiles - networks) / (networks * (networks - 1)))


def judge_map(deletion: Mean, insertion: Mean) -> str:
    """``better`` than a random order, ``worse``, or ``cannot tell``, from how much sooner the score falls and rises."""
    if not deletion.n_images:
        return "not applicable"
    if deletion.low > 0 and insertion.low > 0:
        return "better"
    if deletion.high < 0 and insertion.high < 0:
        return "worse"
    return "cannot tell"
