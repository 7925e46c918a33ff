"""The luck of single trainings: how much scores vary between networks of one recipe, beyond what their cases explain.

All images of a fold are scored by one network, and another seed would have made another network. Resampling cases does
not see that. What shows it is the influence of each case in each fold and seed, summed over the cases of a network: the
squared sums exceed the squared single influences by the variance that networks add (Cameron, Gelbach & Miller 2011).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import Resampled
from .pool import Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Luck:
    """How a number varies between networks.

    Attributes:
        between: its variance as the squared sums over networks tell it, cases and luck together.
        alone: the part of it that cases explain.
        degrees: degrees of freedom of ``between``.
    """

    between: float
    alone: float
    degrees: float

    @property
    def exceeding(self) -> float:
        """Variance that networks add; negative where they differ less than their cases explain."""
        return self.between - self.alone

    @property
    def noise(self) -> float:
        """Half the variance of the estimate (Satterthwaite 1946).

        Networks that differ less than their cases explain say little about their number: they count as far as they do.
        """
        share = min(1.0, self.between / self.alone) if self.alone > 0 else 0.0
        return (share * self.between) ** 2 / self.degrees


def count_networks(pool: Pool) -> int:
    """Networks that scored a pool: one for each fold of each seed."""
    return sum(len(np.unique(row)) for row in pool.fold)


def measure_luck(first: Resampled, second: Resampled, metric: str) -> Luck | None:
    """Measure the luck of a difference, first minus second; None where a side has one network a seed.

    Where both used the same folds, the two networks of a fold are one draw; else each side's networks are.
    """
    a, b = _measure_influence(first, metric), _measure_influence(second, metric)
    if not a.size or not b.size:
        return None
    folds_a, folds_b = _find_folds(first.pool), _find_folds(second.pool)
    if np.array_equal(folds_a, folds_b):
        return exceed_cases(a - b, folds_a)
    return _add((
        exceed_cases(a - b.sum(axis=0) / len(a), folds_a),
        exceed_cases(b - a.sum(axis=0) / len(b), folds_b),
    ))  # fmt: skip


def exceed_cases(influence: Floats, folds: NDArray[np.int64]) -> Luck | None:
    """Compare squared sums over networks with squared single influences, both (S, n_cases); None for lone networks."""
    between, alone, degrees = 0.0, 0.0, 0
    for row, fold in zip(influence, folds, strict=True):
        networks = np.unique(fold, return_inverse=True)[1]
        number = int(networks.max()) + 1
        if number < 2:
            continue
        between += float(number / (number - 1) * (np.bincount(networks, weights=row) ** 2).sum())
        alone += float((row**2).sum())
        degrees += number - 1
    if degrees == 0:
        return None
    return Luck(between, alone, degrees)


def _add(parts: Iterable[Luck | None]) -> Luck | None:
    """The luck of two sides whose networks are drawn apart."""
    known = [part for part in parts if part is not None]
    between = sum(part.between for part in known)
    if between <= 0:
        return known[0] if known else None
    degrees = between**2 / sum(part.between**2 / part.degrees for part in known)
    return Luck(between, sum(part.alone for part in known), degrees)


def _measure_influence(resampled: Resampled, metric: str) -> Floats:
    """Influence of each case in each seed on the mean over seeds, (S, n_cases)."""
    values = resampled.left_out.metrics[metric]
    if not values.size:
        return values
    centred = np.nanmean(values, axis=1, keepdims=True) - values
    return np.asarray(np.nan_to_num(centred) / len(values), dtype=np.float64)


def _find_folds(pool: Pool) -> NDArray[np.int64]:
    """Fold that held each case out, (S, n_cases)."""
    first = np.unique(pool.case, return_index=True)[1]
    return pool.fold[:, first]
