"""How a score grows with the number of cases, and what a number of cases can show before any training.

Learning curves of classifiers follow a power law with a floor (Mukherjee et al. 2003; Figueroa et al. 2012; Viering &
Loog 2022): a - b n^-c. For a given exponent c it is a straight line in n^-c, so that weighted least squares are solved
exactly for each exponent of a grid, from the logarithm (c = 0, no end in sight) to c = 2 (nearly at its end), and the
exponents are weighed by how well they fit (variable projection, Golub & Pereyra 1973). Nothing asks the curve to rise.

The width of an extrapolation has four sources, and every replicate draws all of them: other cases (bootstrap by case,
the same draw at all sizes), other orders of the cases (bootstrap), the form (an exponent is drawn, not chosen), and the
learning cases that all orders have in common, which no order shows. How often the interval holds what more cases really
bring is measured in benchmarks/bench_learning.py.

Before any training, images of a case are between independent and one and the same. So `foresee_reach` computes twice:
as if all images counted by themselves, and as if each case counted once; the truth lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ..metrics import macro_f1_of_confusions
from ..stats.intervals import count_confusions, draw_weights
from ..stats.pool import Pool

Floats = NDArray[np.float64]

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
LEAST_SIZES = 4  # one more than a curve has parameters
RESAMPLES = 2000
SCORE = 0.8  # assumed for the width of an interval
DIFFERING = 0.2  # share of the images that two recipes are assumed to classify differently
POWER = 0.8
EDGE = 1e-3  # scores of 0 and 1 have no logit


@dataclass(frozen=True, slots=True)
class Growth:
    """The expected score with a multiple of the cases.

    Attributes:
        times: the multiple.
        value, low, high: the macro-F1 to expect, on other cases like these.
        gain, gain_low, gain_high: the increase; the luck of the scored cases cancels in it.
    """

    times: float
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


def forecast_growth(
    sizes: Sequence[float], pools: Sequence[Sequence[Pool]], *, times: Sequence[float], confidence: float, seed: int = 0
) -> list[Growth]:
    """Extrapolate the macro-F1 of growing numbers of learning cases.

    Args:
        sizes: (K,) learning cases, growing; at least `LEAST_SIZES`.
        pools: (K,) the predictions of each size, one pool for each order of the cases, all of the same images. The
            orders of one size are nested in the orders of the next; the last size may have a single one.
        times: how many times the largest size.
        confidence: of the intervals.
        seed: of the draws.
    """
    share = np.asarray(sizes, dtype=np.float64) / sizes[-1]
    rng = np.random.default_rng(seed)
    measured, drawn = _draw_scores(pools, rng)
    # The variance of the score between draws of as many learning cases falls with their number. Orders share cases,
    # more so the larger their part of all cases is; the variance between orders lacks that part.
    variances = []
    for part, of_size in zip(share[:-1], pools, strict=False):
        if len(of_size) > 1:
            scores = [macro_f1_of_confusions(count_confusions(pool).sum(axis=1)).mean() for pool in of_size]
            variances.append(float(np.var(scores, ddof=1)) * part / (1 - part))
    luck = np.sqrt(float(np.mean(variances)) if variances else 0.0)
    # What all learning cases have in common shifts the curve, and bends it a little. Orders are drawn anew in each of F
    # folds, whose luck averages out; but F - 2 of F - 1 learning cases of two folds are the same, which leaves F - 1
    # times the variance.
    folds = len(np.unique(pools[0][0].fold[0]))
    shared = luck * np.sqrt(max(folds - 1, 1)) * rng.standard_normal(RESAMPLES)
    drawn = drawn + luck * rng.standard_normal(drawn.shape) / 2
    fits, chances = _fit_forms(share, measured[None])
    ways, odds = _fit_forms(share, drawn)
    form = (odds.cumsum(axis=1) < rng.random((RESAMPLES, 1))).sum(axis=1).clip(max=len(EXPONENTS) - 1)
    ways = ways[np.arange(RESAMPLES), form]  # (R, 2)
    cases = pools[0][0].n_cases
    wide = float(stats.t.ppf((1 + confidence) / 2, cases - 1) / stats.norm.ppf((1 + confidence) / 2))
    found = []
    for one in times:
        reach = np.array([_bend(one, c) for c in EXPONENTS])
        rise = float(chances[0] @ (fits[0, :, 1] * reach))
        now = float(chances[0] @ fits[0, :, 0])
        rises = ways[:, 1] * reach[form]
        value = np.clip(_find_range(ways[:, 0] + shared + rises, now + rise, wide, confidence), 0, 1)
        gain = _find_range(rises, rise, wide, confidence)
        found.append(
            Growth(float(one), float(np.clip(now + rise, *value)), float(value[0]), float(value[1]), rise, *gain)
        )
    return found


def _find_range(drawn: Floats, value: float, wide: float, confidence: float) -> tuple[float, float]:
    """Return the middle share of the draws, stretched about their value by ``wide``; it contains the value."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return min(value, value + (float(low) - value) * wide), max(value, value + (float(high) - value) * wide)


def _draw_scores(pools: Sequence[Sequence[Pool]], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the curve (K,), mean over orders and seeds, and that of each resample of cases and orders (R, K)."""
    orders = max(len(of_size) for of_size in pools)
    picks = rng.integers(0, orders, (RESAMPLES, orders))
    weights = np.concatenate(list(draw_weights(pools[0][0].n_cases, resamples=RESAMPLES)))
    whole, drawn = [], []
    for of_size in pools:
        counts = np.stack([count_confusions(pool) for pool in of_size])  # (orders, S, n_cases, C, C)
        whole.append(macro_f1_of_confusions(counts.sum(axis=2)).mean())
        scores = macro_f1_of_confusions(np.einsum("rn,osnij->rosij", weights, counts, optimize=True)).mean(axis=2)
        taken = np.take_along_axis(scores, picks % len(of_size), axis=1).mean(axis=1)
        middle = scores.mean(axis=1)
        # Few orders vary less about their own mean than about that of all orders.
        drawn.append(middle + (taken - middle) * np.sqrt(orders / max(orders - 1, 1)))
    return np.array(whole), np.stack(drawn, axis=1)


def _fit_forms(share: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return score at all cases and slope of each exponent, (R, E, 2), and its weight, (R, E), for curves (R, K)."""
    weight = share / share.sum()  # the luck of a training falls with the number of its cases
    fits, misses = [], []
    for exponent in EXPONENTS:
        x = _bend(share, exponent)
        middle, level = weight @ x, scores @ weight
        slope = (scores - level[:, None]) @ (weight * (x - middle)) / (weight @ (x - middle) ** 2)
        start = level - slope * middle
        fits.append(np.stack([start, slope], axis=1))
        misses.append((scores - start[:, None] - slope[:, None] * x) ** 2 @ weight)
    miss = np.stack(misses, axis=1)
    noise = np.maximum(miss.min(axis=1, keepdims=True) / (len(share) - 3), 1e-12)
    chance = np.exp(-(miss - miss.min(axis=1, keepdims=True)) / (2 * noise))
    return np.stack(fits, axis=1), chance / chance.sum(axis=1, keepdims=True)


def _bend(share: Floats | float, exponent: float) -> Floats:
    """Return (1 - n^-c) / c, the logarithm for c = 0: zero at all cases, growing with n for each exponent."""
    return np.asarray(np.log(share) if exponent == 0 else (1 - np.power(share, -exponent)) / exponent)


@dataclass(frozen=True, slots=True)
class Reach:
    """The precision to expect, at best (images count alone) and at worst (cases count once).

    Attributes:
        width: of the interval of a score of `SCORE`, from lower to upper bound (Wilson 1927).
        smallest: difference of two recipes that is detected with a power of 80 % (McNemar's test; Connor 1987).
    """

    width: tuple[float, float]
    smallest: tuple[float, float]


def foresee_reach(images: int, cases: int, *, confidence: float = 0.95) -> Reach:
    """Return the precision to expect from numbers of labelled images and cases."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    power = float(stats.norm.ppf(POWER))
    width, smallest = [], []
    for count in (images, cases):
        width.append(2 * z / (1 + z * z / count) * math.sqrt(SCORE * (1 - SCORE) / count + (z / count / 2) ** 2))
        smallest.append((z + power) * math.sqrt(DIFFERING / count))
    return Reach((width[0], width[1]), (smallest[0], smallest[1]))


def foresee_score(value: float, low: float, high: float, *, cases: int, new_cases: int) -> tuple[float, float]:
    """Foresee between which bounds the score of ``new_cases`` other cases like these lies.

    The interval (low, high) of a score that ``cases`` cases gave holds the score of endless other cases. Few other
    cases have luck of their own: variances add, so that each distance to the score grows by sqrt(1 + cases / new_cases)
    on the logit scale (a prediction interval; Geisser 1993, ch. 2). Few cases have few scores, so that half a case is
    added on both sides. A hidden test part is such a part.
    """
    score, lower, upper = special.logit(np.clip([value, low, high], EDGE, 1 - EDGE))
    wider = math.sqrt(1 + cases / new_cases)
    found = special.expit([score - wider * (score - lower), score + wider * (upper - score)])
    half = 0.5 / new_cases
    return max(0.0, float(min(value, found[0]) - half)), min(1.0, float(max(value, found[1]) + half))
