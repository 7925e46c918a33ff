"""Pairs of bags that hold the same tiles: copied, rounded, in another order, or a part of one another.

Bags are proposed by their mean, and compared tile by tile. Two slides of one patient are alike and no copies: what is
the same here differs by no more than rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..measure.bag_digest import BagDigest

Points = NDArray[np.float32]
LEAST_SIZE = 8  # dimensions that vary; vectors of fewer agree by chance
LEAST_FREEDOM = 5.0  # dimensions that vary by themselves (participation ratio), for bags of a few tiles
FEW_TILES = 4
MOST_FREE = 1000  # bags that these are measured on
SAME_TILE = 0.05  # root mean square of the differences, in spreads of the cohort; float16 and re-extraction keep it
NEAR_MEAN = 0.5  # of means; two unrelated bags are about 1.4 apart
LEAST_SHARED = 0.5  # of the tiles of the smaller bag that are in the other
MOST_CANDIDATES = 5  # of one bag
BLOCK = 512  # bags that are compared with all others at a time


@dataclass(frozen=True, slots=True)
class BagPair:
    """Two bags with the same tiles.

    Attributes:
        images: their names, the smaller bag first.
        shared_frac: share of the tiles of the smaller one that the other holds.
        distance: of their means, in spreads of the cohort.
        partial: never; copies of a part are copies.
    """

    images: tuple[str, str]
    shared_frac: float
    distance: float
    partial: bool = False


def scale_means(bags: Sequence[BagDigest]) -> tuple[Points, Points, Points]:
    """Return the means (n, D') in spreads of the cohort, of the D' dimensions that vary, with centre and spread (D').

    A spread is that of means and of tiles together, so that one dimension is not taken for all of the likeness.
    """
    means = np.stack([bag.mean for bag in bags]).astype(np.float64)
    inside = np.stack([bag.spread for bag in bags]).astype(np.float64)
    spread = np.sqrt(means.var(axis=0) + np.square(inside).mean(axis=0))
    centre = means.mean(axis=0)
    kept = spread > 1e-6 * np.maximum(np.abs(centre), 1e-12)
    centre, spread = np.where(kept, centre, 0), np.where(kept, spread, np.inf)
    points = ((means - centre) / spread)[:, kept]
    return points.astype(np.float32), centre.astype(np.float32), spread.astype(np.float32)


def find_bag_pairs(
    bags: Sequence[BagDigest], read: Callable[[str], Iterable[NDArray[np.floating]]]
) -> tuple[BagPair, ...]:
    """Return the pairs of bags with the same tiles, in the order of the bags.

    Args:
        bags: of which none has the same numbers as another.
        read: returns all tiles of a bag by its name, in parts.
    """
    if len(bags) < 3:  # two have no spread to speak of
        return ()
    points, centre, spread = scale_means(bags)
    size = points.shape[1]
    if size < LEAST_SIZE:
        return ()
    between = points / np.maximum(points.std(axis=0), 1e-6)  # means, by how far bags lie apart
    some = between[:MOST_FREE]
    gram = some @ some.T
    free = float(np.trace(gram)) ** 2 / max(float(np.square(gram, dtype=np.float64).sum()), 1e-12) >= LEAST_FREEDOM
    pairs = []
    for i, j in _propose(between, size):
        small, large = sorted((bags[i], bags[j]), key=lambda bag: bag.tiles)
        if small.tiles < FEW_TILES and not free:
            continue
        shared = _share(small.sampled, read(large.image), centre, spread, size)
        if shared >= LEAST_SHARED:
            distance = float(np.sqrt(np.square(between[i] - between[j]).mean()))
            pairs.append(BagPair((small.image, large.image), shared, distance))
    return tuple(pairs)


def _propose(points: Points, size: int) -> list[tuple[int, int]]:
    """Return pairs whose means are near, the nearest few of each."""
    squares = np.square(points).sum(axis=1)
    found: set[tuple[int, int]] = set()
    for start in range(0, len(points), BLOCK):
        some = points[start : start + BLOCK]
        apart = np.maximum(squares[start : start + BLOCK, None] + squares[None] - 2 * (some @ points.T), 0) / size
        apart[np.arange(len(some)), start + np.arange(len(some))] = np.inf
        most = min(MOST_CANDIDATES, len(points) - 1)
        nearest = np.argpartition(apart, most - 1, axis=1)[:, :most]
        for row, columns in enumerate(nearest):
            near = [int(j) for j in columns if apart[row, j] <= NEAR_MEAN**2]
            found |= {(min(start + row, j), max(start + row, j)) for j in near}
    return sorted(found)


def _share(tiles: Points, others: Iterable[NDArray[np.floating]], centre: Points, spread: Points, size: int) -> float:
    """Return the share of tiles (n, D) that are among others, parts of (N, D), up to rounding."""
    one = (tiles - centre) / spread
    found = np.zeros(len(one), dtype=bool)
    for part in others:
        two = (part.astype(np.float32, copy=False) - centre) / spread
        apart = np.square(one).sum(axis=1)[:, None] + np.square(two).sum(axis=1)[None] - 2 * (one @ two.T)
        found |= (apart / size <= SAME_TILE**2).any(axis=1)
    return float(found.mean())
