"""How unusual a value is among those of its cohort; nothing here knows what a good image looks like.

Robust on purpose: what is looked for is part of the cohort that it is held against.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SIGMA_PER_MAD = 1.4826  # of a normal distribution
NEIGHBOUR_FRAC = 0.1  # of the cohort must resemble an image before the resemblance vouches for it
LEAST_SPREAD = 0.1  # of the logarithm of a distance: a tenth farther away is no news
LEAST_IMAGES = 20  # fewer give no spread worth the name


def score_deviation(values: ArrayLike, *, floor: float) -> Floats:
    """Robust z (n,) of values (n,): distance from the median in scaled median absolute deviations.

    ``floor`` is the smallest spread believed, in the unit of the values: cohorts alike to the last digit accuse nobody.
    """
    numbers = np.asarray(values, dtype=np.float64)
    offset = numbers - np.median(numbers)
    return np.asarray(offset / max(SIGMA_PER_MAD * float(np.median(np.abs(offset))), floor))


def score_isolation(points: NDArray[np.floating], groups: NDArray[np.int64], *, floor: float) -> Floats:
    """Robust z (n,) of the logarithm of the distance from each point (n, d) to its k-th neighbour.

    k is a tenth of the cohort, so that a tight cluster of fewer does not vouch for itself (Ramaswamy et al. 2000 rank
    outliers by this distance). Points of one group count once, the first for all, and do not vouch for each
    other.

    Args:
        points: each column is first scaled by its robust spread, ``floor`` at least.
        groups: (n,) number of the group.
    """
    centred = np.asarray(points, dtype=np.float64) - np.median(points, axis=0)
    scaled = centred / np.maximum(SIGMA_PER_MAD * np.median(np.abs(centred), axis=0), floor)
    names, firsts, members = np.unique(groups, return_index=True, return_inverse=True)
    k = max(2, int(np.ceil(NEIGHBOUR_FRAC * len(names))))
    if len(names) <= k:
        return np.zeros(len(scaled))
    logs = np.empty(len(scaled))
    for i, point in enumerate(scaled):
        distances = np.sqrt(np.square(scaled[firsts] - point).sum(axis=1))
        distances[members[i]] = np.inf
        logs[i] = np.log(np.partition(distances, k - 1)[k - 1] + 1e-9)
    return score_deviation(logs, floor=LEAST_SPREAD)
