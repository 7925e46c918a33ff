"""Masks compared by their outlines: how far apart they lie, whatever the size and the coding of the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 64  # cells along either side
COARSE_GRID = 32
NEAR_FRAC = 0.004  # of the side: 4 px of 1,000. Two outlines drawn by hand of one gland lie further apart
ALIKE = 0.9  # correlation of coarse grids below which outlines lie cells apart
RECTANGLE_FILL, ELLIPSE_FILL = 0.95, 0.99  # share of the figure around a mask that it fills
CHUNK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """One mask, summed up in 4 kB.

    Attributes:
        coverage: (64, 64) share of each cell under the mask, 255 is all; aspect dropped.
    """

    coverage: NDArray[np.uint8]


def describe_outline(mask: NDArray[np.uint8]) -> Outline:
    """Outline of a mask (H, W) of 0 and 1."""
    return Outline(np.asarray(cv2.resize(255 * mask, (GRID, GRID), interpolation=cv2.INTER_AREA), dtype=np.uint8))


def measure_distance(first: Outline, second: Outline) -> float:
    """Mean distance of two outlines as a share of the side: the area between them by their length.

    The length is the total variation of the coverage (the coarea formula, Federer 1959).
    """
    a, b = (o.coverage.astype(np.float64) / 255 for o in (first, second))
    length = min(_measure_length(a), _measure_length(b))
    return float(np.abs(a - b).sum() / length / GRID) if length else float("inf")


def is_plain(outline: Outline) -> bool:
    """Whether a mask is one rectangle or ellipse: two of them are soon alike, which says nothing."""
    inside = (outline.coverage > 127).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(contours) != 1:
        return False
    area = float(inside.sum())
    width, height = cv2.minAreaRect(contours[0])[1]
    rows, cols = np.nonzero(inside)
    spread = np.cov(rows, cols) if len(rows) > 1 else np.zeros((2, 2))
    ellipse = 4 * np.pi * np.sqrt(max(float(np.linalg.det(spread)), 1e-9))  # area of the ellipse with these moments
    return bool(area >= RECTANGLE_FILL * (width + 1) * (height + 1) or area >= ELLIPSE_FILL * ellipse)


def find_near_outlines(outlines: Sequence[Outline]) -> list[tuple[int, int, float]]:
    """(earlier, later, distance): each outline and its nearest before it, where these are nearly equal.

    That links all of a group; further pairs would say nothing new. Plain figures are left out.
    """
    telling = [i for i, outline in enumerate(outlines) if not is_plain(outline)]
    if len(telling) < 2:
        return []
    links = _link_nearest([outlines[i] for i in telling])
    return [(telling[i], telling[j], distance) for i, j, distance in links if distance <= NEAR_FRAC]


def _link_nearest(outlines: Sequence[Outline]) -> list[tuple[int, int, float]]:
    rows = np.stack(
        [cv2.resize(o.coverage, (COARSE_GRID, COARSE_GRID), interpolation=cv2.INTER_AREA) for o in outlines]
    )
    unit = rows.reshape(len(rows), -1).astype(np.float32)
    unit -= unit.mean(axis=1, keepdims=True)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    links = []
    for start in range(1, len(unit), CHUNK):
        later = np.arange(start, min(start + CHUNK, len(unit)))
        likeness = unit[later] @ unit[: later[-1]].T
        likeness[np.arange(later[-1]) >= later[:, None]] = -1
        for second, first in zip(later.tolist(), likeness.argmax(axis=1).tolist(), strict=True):
            if likeness[second - start, first] >= ALIKE:
                links.append((first, second, measure_distance(outlines[first], outlines[second])))
    return links


def _measure_length(coverage: NDArray[np.float64]) -> float:
    down, across = np.gradient(coverage)
    return float(np.hypot(down, across).sum())
