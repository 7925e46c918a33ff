"""Texture of a tile in luminance and in haematoxylin: which grey levels lie beside one another, at which distance."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from .channels import Bytes, Doubles, Floats, Planes, blur
from .description import DESCRIPTIONS, Description

PLANES = ("light", "nuclear")
RADII = (1, 2)  # of the circle of neighbours, pixels
POINTS = 8
GRAIN = 256  # parts of a pixel that weights of interpolation come in: with them sums of grey levels are exact
DISTANCES = (1, 3, 6)
GREYS = 16
REACH = 2.5  # standard deviations on either side of the mean that the grey levels span
LEAST_SPREAD = 4.0  # grey levels; noise of an even tile is not stretched to texture
BLURS_PX = (3, 5, 9, 17, 33)
EDGES_PX = (9, 25)  # sides of the squares in which directions of edges are compared
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation", "entropy")
_PER_PLANE = (
    *(f"lbp {radius} {code}" for radius in RADII for code in range(POINTS + 2)),
    *(f"glcm {distance} {what}" for distance in DISTANCES for what in PROPERTIES),
    *(f"band {side_px}" for side_px in BLURS_PX),
    *("alignment", *(f"coherence {side_px}" for side_px in EDGES_PX)),
)
NAMES = tuple(f"{plane} {name}" for plane in PLANES for name in _PER_PLANE)

_BITS = (np.arange(256)[:, None] >> np.arange(POINTS)) & 1
_CHANGES = np.abs(_BITS - np.roll(_BITS, 1, axis=1)).sum(axis=1)
# Which of ten classes each of 256 patterns is in, one a column: the number of bright points, or not uniform.
UNIFORM = np.eye(POINTS + 2)[np.where(_CHANGES <= 2, _BITS.sum(axis=1), POINTS + 1)]


def describe_texture(planes: Planes) -> Doubles:
    """Measure the numbers of `NAMES`."""
    numbers: list[Doubles] = []
    levels = np.arange(256)
    for plane in (planes.light, planes.nuclear):
        # The root of a share: beside frequent patterns, rare ones have an effect as well.
        numbers += [np.sqrt(count_patterns(plane, radius)) for radius in RADII]
        # Grey levels around their mean: brightness and contrast are the business of colours.
        counts = np.bincount(plane.ravel(), minlength=256)
        mean = counts @ levels / plane.size
        spread = max(LEAST_SPREAD, float(np.sqrt(counts @ (levels - mean) ** 2 / plane.size)))
        ranks = np.floor((levels - mean) / (2 * REACH * spread) * GREYS + GREYS / 2).clip(0, GREYS - 1)
        greys = np.asarray(cv2.LUT(plane, ranks.astype(np.uint8)), dtype=np.uint8)
        numbers += [measure_pairs(count_pairs(greys, distance)) for distance in DISTANCES]
        # The logarithm of the spread of grey levels between one blur and the next.
        blurs = [plane.astype(np.float32), *(blur(plane, side_px) for side_px in BLURS_PX)]
        bands = (finer - coarser for finer, coarser in pairwise(blurs))
        numbers.append(np.array([0.5 * np.log(1 + np.square(band).mean(dtype=np.float64)) for band in bands]))
        numbers.append(measure_edges(plane))
    return np.concatenate(numbers)


# Of luminance and haematoxylin, at distances of 1 to 16 pixels.
DESCRIPTIONS.add(
    "texture",
    Description(NAMES, describe_texture),
    summary="local binary patterns, grey level co-occurrence, energies of octaves, alignment of edges",
    reference="Ojala et al. 2002; Haralick et al. 1973",
)


def count_patterns(plane: Bytes, radius: int) -> Doubles:
    """Return the share of each rotation-invariant uniform local binary pattern of 8 points (Ojala et al. 2002), (10,).

    Only pixels whose whole circle lies in the plane (H, W) are counted.
    """
    height, width = (n - 2 * radius for n in plane.shape)
    levels = plane.astype(np.float32)
    near = int(radius * np.sqrt(0.5))
    # Whole grey levels and weights in parts of 256: every sum is exact, and a turned plane has the turned sums.
    share = np.float32(round((radius * np.sqrt(0.5) - near) * GRAIN) / GRAIN)
    beside = [
        _mix(levels[:, radius + near * way :][:, :width], levels[:, radius + (near + 1) * way :][:, :width], share)
        for way in (1, -1)
    ]
    corners = [
        [
            _mix(part[radius + near * way :][:height], part[radius + (near + 1) * way :][:height], share)
            for way in (1, -1)
        ]
        for part in beside
    ]
    rows, columns = slice(radius, radius + height), slice(radius, radius + width)
    # The plane seen from each point of the circle, in their order, where all of it can be seen.
    circle = (
        levels[rows, 2 * radius :], corners[0][0], levels[2 * radius :, columns], corners[1][0],
        levels[rows, :width], corners[1][1], levels[:height, columns], corners[0][1],
    )  # fmt: skip
    codes = np.zeros((height, width), dtype=np.uint8)
    for bit, neighbour in enumerate(circle):
        codes |= (neighbour >= levels[rows, columns]).view(np.uint8) << np.uint8(bit)
    return np.bincount(codes.ravel(), minlength=256) @ UNIFORM / codes.size


def _mix(near: Floats, far: Floats, share: np.float32) -> Floats:
    mixed = far - near
    mixed *= share
    mixed += near
    return mixed


def count_pairs(greys: Bytes, distance: int) -> Doubles:
    """Count how often two of `GREYS` levels lie at a distance, in four directions and both ways, (GREYS, GREYS), sum
    1."""
    aside = round(distance * np.sqrt(0.5))
    shifted = np.left_shift(greys, 4)
    counts = np.zeros(GREYS * GREYS)
    for rows, cols in ((0, distance), (aside, aside), (distance, 0), (aside, -aside)):
        first = _cut_shifted(shifted, -rows, -cols)
        second = _cut_shifted(greys, rows, cols)
        found = cv2.calcHist([first | second], [0], None, [GREYS * GREYS], [0, GREYS * GREYS])
        counts += np.ravel(found).astype(np.float64) / first.size
    matrix = counts.reshape(GREYS, GREYS)
    return np.asarray((matrix + matrix.T) / (2 * counts.sum()))


def _cut_shifted(plane: Bytes, rows: int, cols: int) -> Bytes:
    """Return the part of a plane that is left when so many rows and columns go, from the top and left where
    positive."""
    height, width = plane.shape
    return plane[max(0, rows) : height + min(0, rows), max(0, cols) : width + min(0, cols)]


def measure_pairs(matrix: Doubles) -> Doubles:
    """Return `PROPERTIES` of a co-occurrence matrix (Haralick et al. 1973), as scikit-image has them; entropy in
    nats."""
    one, other = np.indices(matrix.shape)
    apart = (one - other) ** 2
    mean = (matrix * one).sum()
    variance = (matrix * (one - mean) ** 2).sum()
    shared = (matrix * (one - mean) * (other - mean)).sum()
    filled = matrix[matrix > 0]
    return np.array(
        [
            np.log1p((matrix * apart).sum()),
            (matrix / (1 + apart)).sum(),
            np.sqrt((matrix**2).sum()),
            shared / variance if variance > 1e-12 else 1.0,
            -(filled * np.log(filled)).sum(),
        ]
    )


def measure_edges(plane: Bytes) -> Doubles:
    """Measure how much all edges of a tile run the same way, and those within squares of `EDGES_PX`, (3,).

    These are lengths of mean doubled angles, 0 to 1 (structure tensor, Bigun & Granlund 1987).
    """
    smooth = blur(plane, 3)
    right = smooth[1:-1, 2:] - smooth[1:-1, :-2]
    down = smooth[2:, 1:-1] - smooth[:-2, 1:-1]
    tensor = (right * right - down * down, 2 * right * down)
    total = float((right * right + down * down).sum(dtype=np.float64)) + plane.size
    numbers = [float(np.hypot(*(part.sum(dtype=np.float64) for part in tensor))) / total]
    for side_px in EDGES_PX:
        along, across = (cv2.blur(p, (side_px, side_px), borderType=cv2.BORDER_REFLECT) for p in tensor)
        numbers.append(float(np.sqrt(along * along + across * across).sum(dtype=np.float64)) / total)
    return np.array(numbers)
