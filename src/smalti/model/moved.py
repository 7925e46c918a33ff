"""Warn where new images come from another laboratory: many of them moved together in colour, contrast or sharpness.

Each new image is measured by its distance from the nearest twentieth of the training images, each training image by its
distance from those of the other cases. Where the new images come from the same laboratories, both kinds of distances
are alike, also where they come from one of several laboratories of the training population.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from ..records import TrainingPopulation
from ..stats.permutation import code_groups
from .look import LABORATORY, NAMES
from .population import measure_distances, scale_traits

ALPHA = 0.01  # chance of a false alarm, where cases are independent
FEWEST_IMAGES, FEWEST_CASES = 8, 3  # fewer have no distribution to speak of
PLAIN_AUC = 0.7  # a new case is the farther one seven times of ten
USUAL_QUANTILE, PLAIN_FRAC = 0.95, 0.25  # or a quarter of the images lie beyond nearly all of the training images
MOST_NAMED = 3

Floats = NDArray[np.float64]


def warn_shift(
    population: TrainingPopulation, traits: NDArray[np.floating], *, cases: Sequence[str] | None = None
) -> str | None:
    """Return a warning where new images look like those of a laboratory that the model did not learn from.

    The test is that of Mann and Whitney (1947) on the mean logarithm of the distances of each case.

    Args:
        population: what the model learned from.
        traits: (n, T) `Look.traits` of new images, without those refused as blank, foreign or painted.
        cases: of the new images; without, each is its own, and several images of a patient raise the rate of false
            alarms above `ALPHA`.

    Returns:
        One paragraph with the numbers; None where nothing moved, or there are too few images or cases to tell.
    """
    own = population.case
    apart = own if own.max(initial=0) else np.arange(len(own))
    new_cases = np.arange(len(traits)) if cases is None else code_groups(list(cases))
    if (
        min(len(traits), len(own)) < FEWEST_IMAGES
        or min(len(np.unique(apart)), len(np.unique(new_cases))) < FEWEST_CASES
    ):
        return None
    ranges = population.facts.ranges
    points, others = (scale_traits(t, ranges)[:, LABORATORY] for t in (traits, population.traits))
    here = measure_distances(points, others)
    there = measure_distances(others, others, cases=(apart, apart))
    mean_here, mean_there = _average(here, new_cases), _average(there, apart)
    test = mannwhitneyu(mean_here, mean_there, alternative="greater")
    auc = float(test.statistic) / (len(mean_here) * len(mean_there))
    beyond = float((here > np.quantile(there, USUAL_QUANTILE)).mean())
    if test.pvalue > ALPHA or (auc < PLAIN_AUC and beyond < PLAIN_FRAC):
        return None
    middles = np.median(traits, axis=0)
    shifts = {i: float(middles[i] - ranges[i].middle) / ranges[i].spread for i in LABORATORY}
    most = sorted(shifts, key=lambda i: -abs(shifts[i]))[:MOST_NAMED]
    words = [
        f"{NAMES[i]} (median {middles[i]:.2f}, in training {ranges[i].middle:.2f}; {shifts[i]:+.1f} spreads)"
        for i in most
    ]
    return (
        f"The new images look like those of another laboratory: {beyond:.0%} lie farther from the training images than "
        f"{USUAL_QUANTILE:.0%} of those from each other (AUC {auc:.2f}, p = {test.pvalue:.2g}; {len(traits)} images of "
        f"{len(mean_here)} cases; where nothing moved, at most {ALPHA:.0%} of cohorts give this warning). Moved most: "
        f"{'; '.join(words)}. The stated score may not hold for them: score some with labels first."
    )


def _average(distances: Floats, cases: NDArray[np.integer]) -> Floats:
    """Return the mean logarithm (K,) of the distances (n,) of each case."""
    codes = np.unique(cases, return_inverse=True)[1]
    return np.asarray(np.bincount(codes, np.log(distances + 1e-9)) / np.bincount(codes))
