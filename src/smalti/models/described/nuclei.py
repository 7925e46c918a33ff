"""Nuclei of a tile: dark spots of haematoxylin, how many, how large, how round, how far from one another."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from .channels import STAIN_GAIN, Bytes, Doubles, Planes, blur
from .description import DESCRIPTIONS, Description

BLURS_PX = (3, 5, 9, 17, 33)  # blobs are what one blur keeps and the next does not (Lindeberg 1998)
LEAST_BLOB = 0.04 * STAIN_GAIN  # amount of haematoxylin by which a blob is darker than what surrounds it
LEAST_STEP = 0.06 * STAIN_GAIN  # the same between inside and outside of all nuclei
LEAST_AREA = 12  # pixels of a nucleus
FIELD = 1e4  # pixels that counts are given for
NAMES = (
    *("contrast", "separation", "share", "density", "single"),
    *("area", "area spread", "largest", "eccentricity", "eccentricity spread", "fullness", "radius", "radius spread"),
    *("amount", "amount spread", "amount within", "gap", "gap spread"),
    *(f"blob {side_px} {what}" for side_px in BLURS_PX[1:] for what in ("density", "strength")),
)

Ints = NDArray[np.int32]


def describe_nuclei(planes: Planes) -> Doubles:
    """Measure the numbers of `NAMES`; without any spot all about spots are 0 but the gap, which is the tile's side."""
    plane = planes.nuclear
    smooth = np.rint(blur(plane, 3)).astype(np.uint8)
    side = float(np.sqrt(smooth.size))
    spots, contrast, separation = find_spots(smooth)
    # Each connected spot of `LEAST_AREA` has a number from 1 on, all else is 0.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(spots, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA
    large[0] = False
    labels = np.where(large, np.cumsum(large), 0).astype(np.int32)[labels]
    areas = stats[large, cv2.CC_STAT_AREA].astype(np.int64)
    # Middles of what is thickest in spots, and the distance to their rim; nuclei that touch have a core each.
    depth = np.asarray(cv2.distanceTransform((labels > 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    depth = np.sqrt(np.rint(depth * depth))  # roots of whole numbers, which turning must not round another way
    highest = cv2.dilate(depth, np.ones((7, 7), dtype=np.uint8))
    peaks = ((depth == highest) & (depth >= 2)).astype(np.uint8)
    _, numbered, _, middles = cv2.connectedComponentsWithStats(peaks, connectivity=8)
    rows, cols = np.nonzero(peaks)
    radii = np.zeros(len(middles))
    radii[numbered[rows, cols]] = depth[rows, cols]
    cores, radii = np.asarray(middles[1:, ::-1], dtype=np.float64), radii[1:]
    gaps = KDTree(cores).query(cores, k=2)[0][:, 1] if len(cores) > 1 else np.array([side])
    numbers = [contrast / STAIN_GAIN, separation, float((labels > 0).mean())]
    numbers += [float(np.log1p(len(cores) * FIELD / smooth.size)), len(areas) / max(1, len(cores))]
    shapes = _measure_spots(labels, areas, smooth) if len(areas) else [0.0] * 9
    numbers += [*shapes[:6], *_average(np.log(radii)), *shapes[6:], *_average(np.log(gaps))]
    # Blobs of each size: how many, and how much darker than their surroundings on average.
    for narrow, wide in pairwise(blur(plane, side_px) for side_px in BLURS_PX):
        response = narrow - wide
        highest = cv2.dilate(response, np.ones((5, 5), dtype=np.uint8))
        strong = response[(response == highest) & (response > LEAST_BLOB)].astype(np.float64)
        numbers += [float(np.log1p(len(strong) * FIELD / plane.size)), _average(strong)[0] / STAIN_GAIN]
    return np.array(numbers)


# Spots above a threshold, their cores, and blobs at four sizes.
DESCRIPTIONS.add(
    "nuclei",
    Description(NAMES, describe_nuclei),
    summary="dark spots of haematoxylin: density, area, roundness, amount of stain, distance to the next",
    reference="Otsu 1979; Lindeberg 1998",
)


def find_spots(smooth: Bytes) -> tuple[Bytes, float, float]:
    """Return pixels (H, W) above the threshold of Otsu 1979 as 0 and 1, how much they stand out, and the share of
    variance that the two classes explain. None stand out where it is less than `LEAST_STEP`."""
    counts = np.bincount(smooth.ravel(), minlength=256)
    levels = np.arange(256)
    below, total = np.cumsum(counts)[:-1], counts.sum()
    sums, whole = np.cumsum(counts * levels)[:-1], int(counts @ levels)
    above = total - below
    step = (whole - sums) / np.maximum(above, 1) - sums / np.maximum(below, 1)
    between = below * above * step**2 / float(total) ** 2
    cut = int(np.argmax(between))
    variance = float(counts @ (levels - whole / total) ** 2) / total
    if between[cut] <= 0 or step[cut] < LEAST_STEP:
        return np.zeros_like(smooth), 0.0, 0.0
    opened = cv2.morphologyEx((smooth > cut).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    return np.asarray(opened, dtype=np.uint8), float(step[cut]), float(between[cut]) / variance


def _measure_spots(labels: Ints, areas: NDArray[np.int64], smooth: Bytes) -> list[float]:
    """Return the size, shape and stain of n spots: means over them and spreads between them."""
    rows, cols = np.nonzero(labels)
    which, amounts = labels[rows, cols] - 1, smooth[rows, cols] / STAIN_GAIN

    def average(values: NDArray[np.generic]) -> Doubles:
        return np.bincount(which, weights=values, minlength=len(areas)) / areas

    y, x = rows - average(rows)[which], cols - average(cols)[which]
    # A pixel is a square, not a point: its own second moment is a twelfth.
    yy, xx, xy = average(y * y) + 1 / 12, average(x * x) + 1 / 12, average(x * y)
    middle, apart = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    eccentricity = np.sqrt(np.clip(2 * apart / (middle + apart), 0, 1))
    fullness = areas / (4 * np.pi * np.sqrt(np.maximum(yy * xx - xy**2, 1 / 144)))
    amount = average(amounts)
    within = np.sqrt(average((amounts - amount[which]) ** 2))
    sizes = np.log(areas)
    shapes = [*_average(sizes), float(sizes.max()), *_average(eccentricity), float(fullness.mean())]
    return [*shapes, *_average(amount), float(within.mean())]


def _average(values: Doubles) -> list[float]:
    """Return the mean and standard deviation; 0 of nothing."""
    return [float(values.mean()), float(values.std())] if len(values) else [0.0, 0.0]
