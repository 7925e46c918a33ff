"""Whether maps of where networks looked can be trusted, in numbers with intervals by case.

Three questions: does the score follow the map (deletion, insertion), does the map lie where the mask is, and do
networks that learned from other images draw the same map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..records import MapMeasures, Mean, RemovalCurves
from ..stats.intervals import LEAST_CASES, draw_weights, measure_spread

Floats = NDArray[np.float64]
SHUFFLES = 100  # of the tiles, for the rank correlation of maps that have nothing to do with each other
GRID = np.linspace(0, 1, 11)  # shares of the tiles at which curves of different images are averaged


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
    # Mean height of the curves over the number of tiles; NaN of a single tile.
    width = kept[-1] - kept[0]
    areas = np.trapezoid(curves, kept, axis=-1) / width if len(kept) > 1 else np.full(3, np.nan)
    deletion, insertion, random = areas
    # The mean rank correlation of every two maps, and the same of maps with shuffled tiles; NaN for fewer than two
    # maps, three tiles, or a map of one value.
    networks, tiles = maps.shape
    agreement, chance = float("nan"), np.full(SHUFFLES, np.nan)
    if networks >= 2 and tiles >= 3 and not (maps == maps[:, :1]).all(axis=1).any():
        ranks = stats.rankdata(maps, axis=1)
        ranks = (ranks - ranks.mean(axis=1, keepdims=True)) / ranks.std(axis=1, keepdims=True)
        rng = np.random.default_rng(0)
        # The square of the sum of standardised rows holds every pair twice.
        agreement, *shuffled = (
            float(((rows.sum(axis=0) ** 2).sum() / tiles - networks) / (networks * (networks - 1)))
            for rows in (ranks, *(rng.permuted(ranks, axis=1) for _ in range(SHUFFLES)))
        )
        chance = np.array(shuffled)
    grid = np.stack([np.interp(GRID, kept / kept[-1], row) for row in curves])
    return Measured(float(random - deletion), float(insertion - random), shares[0], shares[1], agreement, chance, grid)


def summarise_maps(
    measured: Sequence[Measured], cases: Sequence[str], *, resamples: int, confidence: float
) -> MapMeasures:
    """Return the means over images with intervals by case, the verdict, and the mean curves; what does not apply is
    None."""

    def mean(name: str) -> Mean:
        values = [getattr(m, name) for m in measured]
        return measure_ratio(values, np.ones(len(values)), cases, resamples=resamples, confidence=confidence)

    inside, area = ([getattr(m, name) for m in measured] for name in ("inside", "area"))
    deletion, insertion = mean("deletion"), mean("insertion")
    # Bags of one tile have no order, so no curve.
    drawn = [m.curves for m in measured if not np.isnan(m.deletion)]
    curves = np.mean(drawn, axis=0) if drawn else np.full((3, len(GRID)), np.nan)
    chance = np.array([m.chance for m in measured if not np.isnan(m.agreement)])
    # Better than a random order: the score falls and rises sooner.
    bounds = (deletion.low, insertion.low, deletion.high, insertion.high)
    known = [bound for bound in bounds if bound is not None]
    verdict = "cannot tell" if deletion.n_images else "not applicable"
    if deletion.n_images and len(known) == len(bounds):
        verdict = "better" if min(known[:2]) > 0 else "worse" if max(known[2:]) < 0 else verdict
    return MapMeasures(
        deletion=deletion,
        insertion=insertion,
        verdict=verdict,
        inside=mean("inside"),
        area=mean("area"),
        focus=measure_ratio(inside, area, cases, resamples=resamples, confidence=confidence),
        agreement=mean("agreement"),
        agreement_chance=float(np.quantile(chance.mean(axis=0), confidence)) if len(chance) else None,
        curves=RemovalCurves(**dict(zip(("deletion", "insertion", "random"), curves.tolist(), strict=True))),
    )


def measure_ratio(
    above: Sequence[float] | Floats,
    below: Sequence[float] | Floats,
    cases: Sequence[str],
    *,
    resamples: int,
    confidence: float,
) -> Mean:
    """Return the ratio of the sums of two values an image, NaN left out, with an interval from resampled cases."""
    top, bottom = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    known = ~(np.isnan(top) | np.isnan(bottom))
    if not known.any():
        return Mean(value=None, low=None, high=None, n_images=0, n_cases=0, trustworthy=False)
    names, case = np.unique(np.asarray(cases)[known], return_inverse=True)
    sums = np.stack([np.bincount(case, weights=x[known], minlength=len(names)) for x in (top, bottom)], axis=1)
    value = float(sums[:, 0].sum() / sums[:, 1].sum())
    drawn = np.concatenate([w @ sums for w in draw_weights(len(names), resamples=resamples)])
    left = (sums.sum(axis=0) - sums)[: len(names) if len(names) > 1 else 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = measure_spread(value, drawn[:, 0] / drawn[:, 1], left[:, 0] / left[:, 1])
    low, high = spread.find_interval(confidence=confidence)
    enough, n_images = len(names) >= LEAST_CASES, int(known.sum())
    return Mean(value=value, low=low, high=high, n_images=n_images, n_cases=len(names), trustworthy=enough)
