"""Which images look alike, by frozen embeddings; what their labels say about an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOTERS = 5  # few, since the rarest class of a small cohort has few images; single wrong labels are outvoted
SHOWN = 4  # of each class, for people to look at
BLOCK = 512  # rows of similarities held at once
PENALTIES = np.geomspace(1e-4, 10, 21)  # of the regression, relative to its mean eigenvalue; the data choose among them


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Look-alikes of n images.

    Attributes:
        shares: (n, C) labels of the nearest images of other cases as probabilities.
        nearest: (n, C, SHOWN) positions of the nearest images of each class in other cases, nearest first; -1 for none.
        likeness: (n, C, SHOWN) their cosine similarity.
    """

    shares: NDArray[np.float64]
    nearest: NDArray[np.int64]
    likeness: NDArray[np.float64]

    def list_of(self, image: int, label: int) -> list[int]:
        """Nearest images of one class."""
        return [int(i) for i in self.nearest[image, label] if i >= 0]

    def list_unlike(self, image: int, label: int) -> list[int]:
        """Nearest images of all classes but one."""
        others = [c for c in range(self.nearest.shape[1]) if c != label]
        names, likeness = self.nearest[image, others].ravel(), self.likeness[image, others].ravel()
        order = np.argsort(-likeness, kind="stable")
        return [int(i) for i in names[order] if i >= 0][:SHOWN]


def find_neighbours(
    embeddings: NDArray[np.floating], labels: NDArray[np.int64], cases: NDArray[np.str_], *, classes: int
) -> Neighbours:
    """Compare all images with each other by cosine similarity of standardised embeddings (n, D); n may exceed memory.

    Images of the same case neither vote nor are shown: they look like each other whatever is asked, so that where they
    share a label by birth their votes would tell any label.
    """
    case = np.unique(cases, return_inverse=True)[1].ravel()
    # How many images of each class every other case has, (n, C).
    rest = np.bincount(labels, minlength=classes) - _count_labels(case, labels, classes=classes)[case]
    shares = np.full((len(labels), classes), 1 / classes)
    nearest = np.full((len(labels), classes, SHOWN), -1, dtype=np.int64)
    likeness = np.full((len(labels), classes, SHOWN), -np.inf)
    members = [np.flatnonzero(labels == c) for c in range(classes)]
    for start, block in _compare(embeddings):
        for i, similar in enumerate(block, start=start):
            similar[case == case[i]] = -np.inf
            if voters := min(VOTERS, int(rest[i].sum())):
                chosen = np.argpartition(-similar, voters - 1)[:voters]
                votes = np.bincount(labels[chosen], minlength=classes)
                # One more vote as all others cast it: no class is impossible because five images say nothing about it.
                shares[i] = (votes + rest[i] / rest[i].sum()) / (voters + 1)
            for label, of_class in enumerate(members):
                best = of_class[np.argsort(-similar[of_class], kind="stable")[:SHOWN]]
                best = best[np.isfinite(similar[best])]
                nearest[i, label, : len(best)], likeness[i, label, : len(best)] = best, similar[best]
    return Neighbours(shares, nearest, likeness)


def regress_labels(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    cases: NDArray[np.str_] | None = None,
    *,
    classes: int,
) -> NDArray[np.float64]:
    """Probabilities (n, C) of the classes by ridge regression on embeddings (n, D), each case left out in turn.

    Leaving out has a closed form (PRESS, Allen 1974; of several rows at once, Cook & Weisberg 1982), and the penalty is
    the one with the least error of it. A single wrong label hardly moves a plane through all images, where it may well
    be one of five neighbours. Without ``cases`` each image is its own; a single case leaves nothing to learn from.
    """
    n = len(labels)
    case = np.arange(n) if cases is None else np.unique(cases, return_inverse=True)[1].ravel()
    if case.max() == 0:
        return np.full((n, classes), 1 / classes)
    # The intercept is fitted, so that it is left out too: of centred points and targets the rest of a cohort gives
    # away the one that is missing, and with more dimensions than images a regression finds that.
    points = _standardise(embeddings).astype(np.float64)
    points -= points.mean(axis=0)
    given = np.eye(classes)[labels]
    targets = given - given.mean(axis=0)
    left, values, _ = np.linalg.svd(points, full_matrices=False)
    blocks = _group_rows(case)
    best, least = given, np.inf
    for penalty in PENALTIES * (values**2).sum() / n:
        kept = values**2 / (values**2 + penalty)
        errors = targets - left @ (kept[:, None] * (left.T @ targets))
        for rows in blocks:
            inside = 1 / n + (left[rows] * kept) @ left[rows].transpose(0, 2, 1)  # of the hat matrix, (cases, m, m)
            errors[rows] = np.linalg.solve((1 + 1e-9) * np.eye(rows.shape[1]) - inside, errors[rows])
        if (error := float((errors**2).mean())) < least:
            best, least = given - errors, error
    return _project(best)


def _count_labels(case: NDArray[np.int64], labels: NDArray[np.int64], *, classes: int) -> NDArray[np.int64]:
    """Images of each class in each case, (cases, C)."""
    counts = np.bincount(case * classes + labels, minlength=(int(case.max()) + 1) * classes)
    return counts.reshape(-1, classes)


def _group_rows(case: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Positions of the images of each case, (cases, m) for each number m of images that a case has."""
    order, sizes = np.argsort(case, kind="stable"), np.bincount(case)
    starts = np.cumsum(sizes) - sizes
    return [order[starts[sizes == m][:, None] + np.arange(m)] for m in np.unique(sizes)]


def _compare(embeddings: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks (rows, n) of cosine similarities, each with its first row."""
    points = _standardise(embeddings)
    for start in range(0, len(points), BLOCK):
        yield start, points[start : start + BLOCK] @ points.T


def _project(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest probabilities to values (n, C) whose rows sum to one (Duchi et al. 2008)."""
    falling = np.sort(values, axis=1)[:, ::-1]
    excess = (np.cumsum(falling, axis=1) - 1) / np.arange(1, values.shape[1] + 1)
    last = (falling > excess).sum(axis=1) - 1
    return np.asarray(np.maximum(values - excess[np.arange(len(values)), last][:, None], 0))


def _standardise(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each dimension to mean 0 and deviation 1, then each image to length 1."""
    points = embeddings.astype(np.float32)
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-6)
    return np.asarray(points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6))
