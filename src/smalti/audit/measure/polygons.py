"""The outline of a region as polygons."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 400
HOLE_FRAC = 0.002  # of the image; smaller holes are filled


def draw_outlines(inside: NDArray[np.bool_], size_px: tuple[int, int]) -> list[list[list[int]]]:
    """Return polygons of [row_px, col_px], each to be filled by itself, that cover a region.

    A hole is joined to its polygon by a slit, so that one line goes around both.

    Args:
        inside: (h, w) at any size.
        size_px: (height, width) of the image that the points refer to.
    """
    contours, tree = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes: dict[int, list[int]] = {n: [] for n in range(len(contours)) if tree[0, n, 3] < 0}  # of outer contours
    for number, contour in enumerate(contours):
        if tree[0, number, 3] >= 0 and cv2.contourArea(contour) >= HOLE_FRAC * inside.size:
            holes[int(tree[0, number, 3])].append(number)
    step = 1.0
    while True:
        lines = [np.asarray(cv2.approxPolyDP(c, step, True), dtype=np.int32).reshape(-1, 2) for c in contours]
        polygons = []  # points are (column, row)
        for outer, inner in holes.items():
            line = lines[outer]
            for hole in (lines[number] for number in inner):
                apart = np.linalg.norm((line[:, None] - hole[None]).astype(float), axis=2)
                here, there = np.unravel_index(int(apart.argmin()), apart.shape)
                around = np.concatenate([hole[there:], hole[: there + 1]])
                line = np.concatenate([line[: here + 1], around, line[here:]])
            polygons.append(line)
        if sum(map(len, polygons)) <= MOST_POINTS or step > max(inside.shape):
            break
        step *= 1.5
    factors = np.array(size_px) / inside.shape
    limits = np.array(size_px) - 1
    # The centre of a small pixel is the centre of the square of pixels that it stands for.
    scaled = [np.clip(np.rint((p[:, ::-1] + 0.5) * factors - 0.5), 0, limits).astype(int) for p in polygons]
    return [points.tolist() for points in scaled]
