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
        shares: (n, C) labels of the nearest other images as probabilities; an image's own label has no part.
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

    Images of the same case vote too, since they are the best witnesses of a slip of the pen; only shown are others.
    """
    n = len(labels)
    counts = np.bincount(labels, minlength=classes)
    voters = min(VOTERS, n - 1)
    shares = np.empty((n, classes))
    nearest = np.full((n, classes, SHOWN), -1, dtype=np.int64)
    likeness = np.full((n, classes, SHOWN), -np.inf)
    members = [np.flatnonzero(labels == c) for c in range(classes)]
    for start, block in _compare(embeddings):
        for i, similar in enumerate(block, start=start):
            similar[i] = -np.inf
            chosen = np.argpartition(-similar, voters - 1)[:voters]
            votes = np.bincount(labels[chosen], minlength=classes)
            # One more vote as all others cast it: no class is impossible because five images say nothing about it.
            rest = (counts - (np.arange(classes) == labels[i])) / (n - 1)
            shares[i] = (votes + rest) / (voters + 1)
            similar[cases == cases[i]] = -np.inf
            for label, of_class in enumerate(members):
                best = of_class[np.argsort(-similar[of_class], kind="stable")[:SHOWN]]
                best = best[np.isfinite(similar[best])]
                nearest[i, label, : len(best)], likeness[i, label, : len(best)] = best, similar[best]
    return Neighbours(shares, nearest, likeness)


def regress_labels(embeddings: NDArray[np.floating], labels: NDArray[np.int64], *, classes: int) -> NDArray[np.float64]:
    """Probabilities (n, C) of the classes by ridge regression on embeddings (n, D), each image left out in turn.

    Leaving out has a closed form (PRESS, Allen 1974), and the penalty is the one with the least error of it. A single
    wrong label hardly moves a plane through all images, where it may well be one of five neighbours.
    """
    # The intercept is fitted, so that it is left out too: of centred points and targets the rest of a cohort gives
    # away the one that is missing, and with more dimensions than images a regression finds that.
    points = _standardise(embeddings).astype(np.float64)
    points -= points.mean(axis=0)
    given = np.eye(classes)[labels]
    targets = given - given.mean(axis=0)
    left, values, _ = np.linalg.svd(points, full_matrices=False)
    best, least = given, np.inf
    for penalty in PENALTIES * (values**2).sum() / len(labels):
        kept = values**2 / (values**2 + penalty)
        leverage = 1 / len(labels) + ((left**2) @ kept)[:, None]
        errors = (targets - left @ (kept[:, None] * (left.T @ targets))) / np.maximum(1 - leverage, 1e-9)
        if (error := float((errors**2).mean())) < least:
            best, least = given - errors, error
    return _project(best)


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
