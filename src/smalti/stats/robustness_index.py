"""How far images lie by biology and how far by site: the robustness index, and a margin with its tail.

Both look at two kinds of neighbours of an image among other cases, by cosine distance: those of its class from other
sites (SO), and those of another class from its own site (OS). The index is the share of SO among both within the k
nearest (Kömen et al. 2025, PathoROB); 0.5 says that site counts as much as class. The margin of an image compares its
mean distances to the m nearest of each kind, (d_OS - d_SO) / (d_OS + d_SO), and is 0 where both count the same (Grisi
et al. 2026, CRoMa). Numbers equal those of the package croma 1.0 in its design "all".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics import balanced_accuracy

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

NUMBERS_OF_NEIGHBOURS = (5, 11, 21)  # that are tried; the one by which classes are told best counts
NEAREST = 5  # of each kind, for the margin
TAIL = 0.1  # share of the images with the smallest margins
BLOCK = 512  # rows of distances held at once


@dataclass(frozen=True, slots=True)
class Robustness:
    """Robustness of embeddings to the site.

    Attributes:
        index: share of same-class neighbours from other sites among them and other-class neighbours of the same site;
            NaN where there is neither.
        neighbours: k of the index.
        support: share of the images that have a neighbour of one of these kinds.
        margin: median over images, -1 to 1; NaN where an image lacks neighbours of a kind.
        tail: mean margin of the tenth with the smallest.
        dominated: share of the images with a margin of 0 or less: the site is nearer than the class.
        lacking: images without ``NEAREST`` neighbours of both kinds in other cases.
    """

    index: float
    neighbours: int
    support: float
    margin: float
    tail: float
    dominated: float
    lacking: int


def measure_robustness(
    points: Floats, labels: Codes, sites: Codes, cases: Codes, *, numbers: Sequence[int] = NUMBERS_OF_NEIGHBOURS
) -> Robustness:
    """Measure how robust embeddings are to the site.

    Args:
        points: (n, D) embeddings, at least two cases.
        labels, sites, cases: (n,) codes.
        numbers: of neighbours to choose from; a tie goes to the first.
    """
    unit = points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-12)
    numbers = [k for k in numbers if k < len(points)] or [len(points) - 1]
    most = max(numbers)
    near = np.full((len(points), most), -1, dtype=np.int64)
    kinds = np.full((len(points), 2), np.inf)  # mean distance to the nearest of SO and of OS
    for start in range(0, len(points), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(points)))
        distances = np.clip(1 - unit[rows] @ unit.T, 0, 2)
        distances[cases[rows][:, None] == cases[None]] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :most]
        near[rows, : order.shape[1]] = np.where(np.isfinite(np.take_along_axis(distances, order, axis=1)), order, -1)
        same_label, same_site = labels[rows][:, None] == labels[None], sites[rows][:, None] == sites[None]
        for kind, wanted in enumerate((same_label & ~same_site, ~same_label & same_site)):
            own = np.sort(np.where(wanted, distances, np.inf), axis=1)[:, :NEAREST]
            kinds[rows, kind] = own.mean(axis=1) if own.shape[1] == NEAREST else np.inf
    k = max(numbers, key=lambda k: _tell_classes(near[:, :k], labels))
    known, place = near[:, :k] >= 0, np.maximum(near[:, :k], 0)
    same_label, same_site = labels[place] == labels[:, None], sites[place] == sites[:, None]
    across, within = known & same_label & ~same_site, known & ~same_label & same_site
    total = int(across.sum() + within.sum())
    lacking = int((~np.isfinite(kinds).all(axis=1) | (kinds.sum(axis=1) == 0)).sum())
    margins = np.full(len(points), np.nan) if lacking else (kinds[:, 1] - kinds[:, 0]) / kinds.sum(axis=1)
    return Robustness(
        index=float(across.sum() / total) if total else float("nan"),
        neighbours=k,
        support=float((across | within).any(axis=1).mean()),
        margin=float(np.median(margins)),
        tail=float("nan") if lacking else float(margins[margins <= np.percentile(margins, 100 * TAIL)].mean()),
        dominated=float("nan") if lacking else float((margins <= 0).mean()),
        lacking=lacking,
    )


def _tell_classes(near: Codes, labels: Codes) -> float:
    """Return the balanced accuracy of the most frequent class among neighbours (n, k); -1 for a place without one."""
    count = int(labels.max()) + 1
    votes = ((labels[np.maximum(near, 0)][..., None] == np.arange(count)) & (near >= 0)[..., None]).sum(axis=1)
    voted = votes.sum(axis=1) > 0
    return balanced_accuracy(labels[voted], np.eye(count)[votes[voted].argmax(axis=1)]) if voted.any() else -1.0
