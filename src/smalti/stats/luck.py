"""The luck of single trainings: variation of scores between networks of one recipe that their cases do not explain.

All images of a fold are scored by one network, and another seed would have made another network. Resampling cases does
not see that. The influence of each case in each fold and seed, summed over the cases of a network, shows it: the
squared sums exceed the squared single influences by the variance that networks add (cluster-robust variance in two
directions, Cameron, Gelbach & Miller 2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import Scored
from .pool import Pool

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Luck:
    """The variation of a number between networks.

    Attributes:
        between: its variance as the networks show it, with that of the cases that each of them scored.
        within: the part of it that those cases explain.
        degrees: degrees of freedom of ``between``; 0 where there is one network.
    """

    between: float
    within: float
    degrees: float

    @property
    def exceeding(self) -> float:
        """Variance that networks add; negative where they differ less than their cases explain."""
        return self.between - self.within

    @property
    def noise(self) -> float:
        """Half the variance of the estimate (Satterthwaite 1946).

        Networks that differ less than their cases explain say little about their number: they count as far as they do.
        """
        share = min(1.0, self.between / self.within) if self.within > 0 else 0.0
        return (share * self.between) ** 2 / self.degrees


def count_networks(pool: Pool) -> int:
    """Return the number of networks whose scores the pool holds: one for each fold of each seed."""
    return sum(len(np.unique(row)) for row in pool.fold)


def measure_luck(influence: Floats, pool: Pool) -> Luck:
    """Measure the variance between networks from the influence of each case in each seed (S, n_cases), zero in sum.

    Folds have similar shares of the classes, so what differs between classes explains nothing.
    """
    folds = pool.fold[:, np.unique(pool.case, return_index=True)[1]]  # that held each case out, (S, n_cases)
    network = np.unique(folds + np.arange(len(folds))[:, None] * (folds.max() + 1), return_inverse=True)[1]
    sums = np.bincount(network.ravel(), weights=influence.ravel())
    number = len(sums)
    of_class = pool.count_labels().argmax(axis=1)
    mean = np.array([np.bincount(of_class, weights=row) for row in influence]) / np.maximum(np.bincount(of_class), 1)
    within = float(((influence - mean[:, of_class]) ** 2).sum())
    return Luck(number / max(number - 1, 1) * float((sums**2).sum()), within, number - 1)


def measure_luck_of_difference(first: Scored, second: Scored, metric: str) -> Luck:
    """Measure the luck of the difference of a metric, first minus second.

    Where both used the same folds, the two networks of a fold are one draw; else each side's networks are.
    """
    a, b = (measure_influence(run.score_seeds(metric), run.left_out[metric]) for run in (first, second))
    if np.array_equal(first.pool.fold, second.pool.fold):
        return measure_luck(a - b, first.pool)
    sides = (
        measure_luck(a - b.sum(axis=0) / len(a), first.pool),
        measure_luck(b - a.sum(axis=0) / len(b), second.pool),
    )
    between = sum(side.between for side in sides)
    shares = [side.between**2 / side.degrees for side in sides if side.degrees > 0 and side.between > 0]
    degrees = between**2 / sum(shares) if shares else min(side.degrees for side in sides)
    return Luck(between, sum(side.within for side in sides), degrees)


def measure_influence(by_seed: Floats, left_out: Floats) -> Floats:
    """Measure the influence of each case in each seed on the mean over seeds, (S, n_cases); zero in sum.

    Args:
        by_seed: (S,) the score of each seed.
        left_out: (S, n_cases) the score without each case in turn.
    """
    present = ~np.isnan(left_out)
    mean = np.where(present, left_out, 0.0).sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1), 1)[:, None]
    influence = np.where(present, mean - left_out, 0.0) + (by_seed - by_seed.mean())[:, None] / left_out.shape[1]
    return np.asarray(influence / len(by_seed), dtype=np.float64)
