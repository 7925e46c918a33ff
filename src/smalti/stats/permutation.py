"""Is something betrayed by the company that images keep? Prediction from look-alikes, and chance by permutation.

An image is given to the group of its nearest neighbours among the images of *other* cases. Which images are neighbours
does not depend on the groups, so each permutation of the groups costs one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

PERMUTATIONS = 1999
BLOCK = 100  # permutations at a time
ENOUGH = 20  # as good as the observed so often, and it is chance (Besag & Clifford 1991)
ALPHA = 0.05  # chance of any false alarm
FEWEST = 12  # images; fewer have too few arrangements for a small p-value

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An observed statistic against its permutations.

    Attributes:
        value: observed.
        chance: mean over permutations.
        p: share of permutations that reach it, the observed one among them.
    """

    value: float
    chance: float
    p: float


class Neighbours:
    """Who looks like whom, over the cases.

    Args:
        features: (n, D) numbers; only their order within a column counts.
        cases: (n,) codes 0..K-1 of at least two cases.
    """

    def __init__(self, features: Floats, cases: Codes) -> None:
        self.cases = cases
        self.weights = _weigh(features, cases)

    def score(self, groups: Codes, count: int) -> NDArray[np.float32]:
        """How much more frequent each group is among the neighbours than among all images of other cases.

        Args:
            groups: (P, n) codes 0..count-1, one row a permutation.
            count: number of groups C.

        Returns:
            (P, n, C), rows that sum to 1; above 1/C where the neighbours speak for a group.
        """
        times, n = groups.shape
        members = (groups[..., None] == np.arange(count)).astype(np.float32)  # (P, n, C)
        flat = members.transpose(1, 0, 2).reshape(n, -1)
        near = (self.weights @ flat).reshape(n, times, count)
        own = np.zeros((int(self.cases.max()) + 1, times * count), np.float32)
        np.add.at(own, self.cases, flat)
        others = (flat.sum(axis=0) - own)[self.cases].reshape(n, times, count)
        lift = np.divide(near, others, out=np.zeros_like(near), where=others > 0)
        total = lift.sum(axis=2, keepdims=True)
        shares = np.divide(lift, total, out=np.full_like(lift, 1 / count), where=total > 0)
        return shares.transpose(1, 0, 2)


def _weigh(features: Floats, cases: Codes) -> NDArray[np.float32]:
    """(n, n) weights of neighbours, rows sum to 1: Gaussian, as wide as the sqrt(n)-th nearest of other cases is far.

    Of many images at no distance at all, each counts the same.
    """
    ranks = rank_columns(features)
    squares = (ranks**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * ranks @ ranks.T, 0))
    distances[distances < 1e-6] = 0
    distances[cases[:, None] == cases[None]] = np.inf
    nearest = max(5, round(len(ranks) ** 0.5))
    width = np.partition(distances, min(nearest, len(ranks)) - 1, axis=1)[:, :nearest]
    last = np.where(np.isfinite(width), width, 0).max(axis=1)[:, None]
    weights = np.where(distances <= last, np.exp(-2 * (distances / np.maximum(last, 1e-9)) ** 2), 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def rank_columns(features: Floats) -> Floats:
    """Each column as ranks in 0..1, ties in their middle."""
    return np.asarray((rankdata(features, axis=0) - 0.5) / len(features))


def permute_by_case(groups: Codes, cases: Codes, *, times: int, rng: np.random.Generator) -> Codes:
    """Permutations (times, n) of (n,) groups that keep what a case is: each takes the groups of another case.

    Whole-block exchange with shuffling inside the blocks (Winkler et al. 2015). Where each case has one group, whole
    cases are permuted; where each case is one image, images are. A larger case repeats what a smaller one holds.
    """
    order = np.argsort(cases, kind="stable")
    sizes = np.bincount(cases)
    starts = np.cumsum(sizes) - sizes
    block = cases[order]
    offset = np.arange(len(cases)) - starts[block]
    drawn = np.empty((times, len(groups)), np.int64)
    for row in drawn:
        inside = order[np.lexsort((rng.random(len(groups)), block))]
        source = rng.permutation(len(sizes))[block]
        row[order] = groups[inside[starts[source] + offset % sizes[source]]]
    return drawn


def measure_chance(
    groups: Codes, cases: Codes, *, measure: Callable[[Codes], Floats], permutations: int = PERMUTATIONS
) -> Outcome:
    """Test a statistic of groups.

    Args:
        groups: (n,) codes.
        cases: (n,) codes of what is permuted whole.
        measure: (P, n) groups -> (P,) statistics, larger is stronger.
        permutations: at most so many; fewer where chance shows early.
    """
    rng = np.random.default_rng(0)
    value = float(measure(groups[None])[0])
    drawn: list[float] = []
    reached = 0
    while len(drawn) < permutations and reached < ENOUGH:
        times = min(BLOCK, permutations - len(drawn))
        found = measure(permute_by_case(groups, cases, times=times, rng=rng))
        reached += int((found >= value - 1e-6).sum())
        drawn += found.tolist()
    return Outcome(value, float(np.mean(drawn)), (1 + reached) / (1 + len(drawn)))


def measure_accuracy(scores: NDArray[np.float32], groups: Codes) -> Floats:
    """Balanced accuracy (P,) of the largest score (P, n, C) for (P, n) groups; groups without images do not count."""
    right = scores.argmax(axis=2) == groups
    members = groups[..., None] == np.arange(scores.shape[2])
    sizes = members.sum(axis=1)
    recall = (members & right[..., None]).sum(axis=1) / np.maximum(sizes, 1)
    return np.asarray(recall.sum(axis=1) / (sizes > 0).sum(axis=1))


def measure_auc(scores: NDArray[np.float32], groups: Codes) -> Floats:
    """Area under the ROC curve (P,) of score 1 in (P, n, 2) for groups 0 and 1, (P, n)."""
    ranks = rankdata(scores[..., 1], axis=1)
    ones = groups.sum(axis=1)
    zeros = groups.shape[1] - ones
    above = np.where(groups == 1, ranks, 0).sum(axis=1) - ones * (ones + 1) / 2
    return np.asarray(np.divide(above, ones * zeros, out=np.full(len(ones), 0.5), where=ones * zeros > 0))


def adjust_holm(p: Mapping[str, float]) -> dict[str, float]:
    """P-values for several tests at once: any false alarm is as rare as each of them says (Holm 1979)."""
    adjusted: dict[str, float] = {}
    worst = 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        worst = max(worst, min(1.0, p[name] * (len(p) - i)))
        adjusted[name] = worst
    return adjusted


def code_groups(names: list[str]) -> Codes:
    """Names as codes 0..K-1 in alphabetical order."""
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)
