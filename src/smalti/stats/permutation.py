"""Prediction of groups from look-alikes, its chance level by permutation, and the correction for several tests.

An image is given to the group of its nearest neighbours among the images of *other* cases. Which images are neighbours
does not depend on the groups, so each permutation of the groups costs one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

PERMUTATIONS = 1999
BLOCK = 100  # permutations at a time
ENOUGH = 20  # permutations that reach the observed value; then it is chance (Besag & Clifford 1991)
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
    """Look-alikes of each image in other cases.

    Args:
        features: (n, D) numbers; only their order within a column counts.
        cases: (n,) codes 0..K-1 of at least two cases.
    """

    def __init__(self, features: Floats, cases: Codes) -> None:
        self.cases = cases
        # Weights of neighbours (n, n): Gaussian, as wide as the sqrt(n)-th nearest of other cases. Images at distance
        # zero count the same; rows sum to 1.
        ranks = np.asarray((rankdata(features, axis=0) - 0.5) / len(features))  # in 0..1, ties in their middle
        squares = (ranks**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * ranks @ ranks.T, 0))
        distances[distances < 1e-6] = 0
        distances[cases[:, None] == cases[None]] = np.inf
        nearest = max(5, round(len(ranks) ** 0.5))
        width = np.partition(distances, min(nearest, len(ranks)) - 1, axis=1)[:, :nearest]
        last = np.where(np.isfinite(width), width, 0).max(axis=1)[:, None]
        weights = np.where(distances <= last, np.exp(-2 * (distances / np.maximum(last, 1e-9)) ** 2), 0)
        self.weights = np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)

    def score(self, groups: Codes, count: int) -> NDArray[np.float32]:
        """Return how much more frequent each group is among the neighbours than among all images of other cases.

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

    def measure(self, groups: Codes, *, by: Callable[[NDArray[np.float32], Codes], Floats], count: int) -> Floats:
        """Return a statistic (P,) of groups (P, n) and their scores."""
        return by(self.score(groups, count), groups)


def permute_by_case(groups: Codes, cases: Codes, *, times: int, rng: np.random.Generator) -> Codes:
    """Return permutations (times, n) of groups (n,) that keep cases whole: each case takes the groups of another one.

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
    """Return a statistic of groups with its chance level and p-value.

    Args:
        groups: (n,) codes.
        cases: (n,) codes of what is permuted whole.
        measure: (P, n) groups -> (P,) statistics, larger is stronger.
        permutations: maximum number; fewer where the observed value is soon reached by chance.
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
    """Return the balanced accuracy (P,) of the largest score (P, n, C) for groups (P, n); empty groups do not count."""
    right = scores.argmax(axis=2) == groups
    members = groups[..., None] == np.arange(scores.shape[2])
    sizes = members.sum(axis=1)
    recall = (members & right[..., None]).sum(axis=1) / np.maximum(sizes, 1)
    return np.asarray(recall.sum(axis=1) / (sizes > 0).sum(axis=1))


def measure_auc(scores: NDArray[np.float32], groups: Codes) -> Floats:
    """Return the area under the ROC curve (P,) of score 1 in (P, n, 2) for groups 0 and 1, (P, n)."""
    ranks = rankdata(scores[..., 1], axis=1)
    ones = groups.sum(axis=1)
    zeros = groups.shape[1] - ones
    above = np.where(groups == 1, ranks, 0).sum(axis=1) - ones * (ones + 1) / 2
    return np.asarray(np.divide(above, ones * zeros, out=np.full(len(ones), 0.5), where=ones * zeros > 0))


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, step down, in the given order (Holm 1979).

    The chance of any false alarm among the tests is then at most what a corrected value says.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def draw_rows(count: int, *, most: int) -> Codes:
    """Return the positions 0..count-1, or ``most`` of them in order, drawn at random but always the same."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def join_groups(names: Sequence[str], cases: Sequence[str]) -> Codes:
    """Return codes 0..K-1 of groups that are named, (n,); groups that share a case are one."""
    groups, owners = code_groups(names), code_groups(cases)
    links = coo_matrix((np.ones(len(groups)), (groups, owners)), shape=(groups.max() + 1, owners.max() + 1)).tocsr()
    return np.asarray(connected_components(links @ links.T, directed=False)[1][groups], dtype=np.int64)


def code_groups(names: Sequence[str]) -> Codes:
    """Return names as codes 0..K-1 in alphabetical order."""
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)
