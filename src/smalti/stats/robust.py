"""Robust z-scores: how unusual a value is in its cohort, without any notion of a good image.

Medians are used because unusual images are part of the cohort that they are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SIGMA_PER_MAD = 1.4826  # of a normal distribution
NEIGHBOUR_FRAC = 0.1  # of the cohort must resemble an image for it to be usual
LEAST_SPREAD = 0.1  # of the logarithm of a distance: a tenth farther away is not unusual
LEAST_IMAGES = 20  # fewer give no reliable spread


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual values of a cohort: their median, and their scaled median absolute deviation."""

    centre: float
    spread: float

    def score(self, values: ArrayLike) -> Floats:
        """Return robust z of values of any shape."""
        return np.asarray((np.asarray(values, dtype=np.float64) - self.centre) / self.spread)


def find_usual(values: ArrayLike, *, floor: float) -> Usual:
    """Return what is usual among values (n,).

    ``floor`` is the smallest spread, in the unit of the values: in a cohort of equal values, no image is unusual.
    """
    numbers = np.asarray(values, dtype=np.float64)
    centre = float(np.median(numbers))
    return Usual(centre, max(SIGMA_PER_MAD * float(np.median(np.abs(numbers - centre))), floor))


def score_deviation(values: ArrayLike, *, floor: float) -> Floats:
    """Return robust z (n,) of values (n,) in their own cohort; ``floor`` as in `find_usual`."""
    return find_usual(values, floor=floor).score(values)


def score_isolation(points: NDArray[np.floating], groups: NDArray[np.int64], *, floor: float) -> Floats:
    """Return robust z (n,) of the logarithm of the distance from each point (n, d) to its k-th neighbour.

    k is a tenth of the cohort, so that a tight cluster of fewer images is still isolated (Ramaswamy et al. 2000 rank
    outliers by this distance). Points of one group count once, the first for all, and are no neighbours of each other.

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
