"""The geometry of a mask: its connected components, a small raster of the whole, and numbers that no turn changes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Map = NDArray[np.uint8]

OUTLINE_PX = 64  # side of the raster of a whole mask
WORK_PX = 512  # longer side of the copy that is described
# A component below this share of the largest one is a crumb of the drawing, not a region.
LEAST_SHARE = 0.05
RADII_PX = (1, 2, 4, 8, 16)  # of the Minkowski sausage, on the copy; five octaves for one slope

SHAPE_NAMES = (
    "given",  # 1 where the image came with a mask, 0 where tissue was found instead
    "area",  # share of the image
    "components",  # log of their number
    "largest",  # share of the largest in all
    "size_spread",  # standard deviation of the log areas
    "solidity",  # area over that of the convex hull; this and the next two weighted by area
    "eccentricity",  # of the ellipse with the same second moments
    "compactness",  # log of perimeter^2 / (4 pi area), 0 for a disc
    "holes",  # share of the filled components that is not mask
    "boundary",  # log of its length over the root of the image's area
    "dimension",  # Minkowski dimension of the boundary, 1 for smooth, towards 2 for ragged
    "thickness",  # mean distance to the boundary inside, over the root of the image's area
    "distance",  # mean distance of a component's centre to the nearest other's, over the same; 1 for a single one
    "distance_spread",  # standard deviation of these over their mean
)


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One connected part of a mask.

    Attributes:
        box: (row, col, height, width).
        area: pixels.
        center: (row, col).
        part: (height, width) of 0 and 1, this component alone.
    """

    box: tuple[int, int, int, int]
    area: int
    center: tuple[float, float]
    part: Map


def find_components(mask: Map, *, most: int | None = None) -> list[Component]:
    """Return connected parts of a mask (H, W) of 0 and 1, the largest first, without crumbs.

    ``most`` of them at most.
    """
    count, labels, stats, centers = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count == 1:
        return []
    order = np.argsort(-areas, kind="stable")[:most]
    found = []
    for i in order[areas[order] >= LEAST_SHARE * areas.max()]:
        col, row, width, height = (int(v) for v in stats[i + 1, :4])
        part = (labels[row : row + height, col : col + width] == i + 1).astype(np.uint8)
        center = (float(centers[i + 1][1]), float(centers[i + 1][0]))
        found.append(Component((row, col, height, width), int(areas[i]), center, part))
    return found


def shrink_mask(mask: Map, size_px: tuple[int, int], *, longest_px: int) -> Map:
    """Return a mask over an image of this size, at any scale, as coverage 0 to 255, in the image's proportions."""
    scale = longest_px / max(size_px)
    height, width = (max(1, round(n * scale)) for n in size_px)
    shrinks = height < mask.shape[0] or width < mask.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(255 * mask, (width, height), interpolation=how), dtype=np.uint8)


def draw_outline(mask: Map, size_px: tuple[int, int]) -> Map:
    """Return a whole mask of 0 and 1 in a square of `OUTLINE_PX`, letterboxed: coverage of each cell, 0 to 255."""
    small = shrink_mask(mask, size_px, longest_px=OUTLINE_PX)
    square = np.zeros((OUTLINE_PX, OUTLINE_PX), dtype=np.uint8)
    top, left = ((OUTLINE_PX - n) // 2 for n in small.shape)
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def describe_mask(mask: Map, size_px: tuple[int, int], *, given: bool) -> NDArray[np.float32]:
    """Return the numbers of `SHAPE_NAMES` of a mask of 0 and 1; turning or mirroring it changes none.

    Args:
        mask: (h, w), over the whole image, at any scale.
        size_px: (height_px, width_px) of the image.
        given: whether the image came with the mask.
    """
    small = shrink_mask(mask, size_px, longest_px=min(WORK_PX, max(size_px)))
    work = np.pad((small >= 128).astype(np.uint8), max(RADII_PX))
    side = float(np.sqrt(small.size))
    components = find_components(work)
    numbers = [float(given), float(work.sum()) / side**2]
    if components:
        sizes = np.array([c.area for c in components], dtype=np.float64)
        measured = np.array([_measure_outline(c.part) for c in components])
        solidity, eccentricity, compactness, _ = np.average(measured, axis=0, weights=sizes).tolist()
        holes = max(0.0, 1 - float(sizes.sum() / measured[:, 3].sum()))
        largest, spread = float(sizes.max() / sizes.sum()), float(np.log(sizes).std())
        numbers += [float(np.log(len(sizes))), largest, spread, solidity, eccentricity, compactness, holes]
        inside = measure_distances(work)
        edge = (inside > 0) & (inside <= 1)
        away = measure_distances((~edge).astype(np.uint8))
        areas = [np.count_nonzero(away <= radius) for radius in RADII_PX]
        slope = np.polyfit(np.log([2 * r + 1 for r in RADII_PX]), np.log(areas), 1)[0]  # a line of pixels is 1 wide
        numbers += [float(np.log1p(edge.sum() / side)), 2 - float(slope), float(inside[inside > 0].mean()) / side]
    else:
        numbers += [0.0] * 10
    nearest = np.array([side])  # from the centre of each component to the next
    if len(components) > 1:
        centers = np.array([c.center for c in components])
        nearest = KDTree(centers).query(centers, k=2)[0][:, 1]
    numbers += [float(nearest.mean()) / side, float(nearest.std() / max(nearest.mean(), 1e-9))]
    return np.array(numbers, dtype=np.float32)


def measure_distances(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the distance of each pixel of a mask (H, W) to the nearest 0, in pixels, the same in every run.

    OpenCV's last digits depend on where the memory lies; the squares of these distances are whole numbers.
    """
    found = np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float64)
    return np.asarray(np.sqrt(np.rint(found**2)))


def _measure_outline(part: Map) -> tuple[float, float, float, float]:
    """Return solidity, eccentricity, compactness and the pixels inside and on the outer outline of a component."""
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = np.asarray(max(contours, key=len), dtype=np.int32)  # (n, 1, 2) of (col, row)
    # A contour runs through the middles of the border pixels; half of it and one more complete the area (Pick).
    border = len(contour) / 2 + 1
    area = cv2.contourArea(contour) + border
    solidity = area / (cv2.contourArea(cv2.convexHull(contour)) + border)
    moments = cv2.moments(contour)
    if moments["m00"] > 0:
        spread = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]])
        small, large = np.linalg.eigvalsh(spread)
        eccentricity = float(np.sqrt(max(0.0, 1 - small / large)))
    else:
        eccentricity = 1.0  # a line of single pixels
    length = max(cv2.arcLength(contour, closed=True), 1.0)
    return min(1.0, solidity), eccentricity, float(np.log(length**2 / (4 * np.pi * area))), area
