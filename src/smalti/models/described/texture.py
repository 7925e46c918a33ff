"""Texture of a tile in luminance and in haematoxylin: which grey levels lie beside one another, at which distance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from .description import DESCRIPTIONS, Description
from .planes import Bytes, Floats, Planes

PLANES = ("light", "nuclear")
RADII = (1, 2, 4)  # of the circle of neighbours, pixels
POINTS = 8
GRAIN = 256  # parts of a pixel that weights of interpolation come in: with them sums of grey levels are exact
DISTANCES = (1, 3, 6)
GREYS = 16
REACH = 2.5  # standard deviations on either side of the mean that the grey levels span
LEAST_SPREAD = 4.0  # grey levels; noise of an even tile is not stretched to texture
OCTAVES = (0.7, 1.4, 2.8, 5.6, 11.2)  # standard deviations of blur, pixels; bands lie between
COHERENCES = (2.0, 6.0)  # blur of the structure tensor, pixels
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation", "entropy")
_PER_PLANE = (
    *(f"lbp {radius} {code}" for radius in RADII for code in range(POINTS + 2)),
    *(f"glcm {distance} {what}" for distance in DISTANCES for what in PROPERTIES),
    *(f"band {sigma:g}" for sigma in OCTAVES),
    *(f"{what} {sigma:g}" for sigma in COHERENCES for what in ("coherence", "alignment")),
)
NAMES = tuple(f"{plane} {name}" for plane in PLANES for name in _PER_PLANE)

Doubles = NDArray[np.float64]


@DESCRIPTIONS.register(
    "texture",
    summary="local binary patterns, grey level co-occurrence, energies of octaves, alignment of edges",
    reference="Ojala et al. 2002; Haralick et al. 1973",
)
def build_texture() -> Description:
    """Of luminance and haematoxylin, at distances of 1 to 11 pixels."""
    return Description(NAMES, describe_texture)


def describe_texture(planes: Planes) -> Doubles:
    """Measure the numbers of `NAMES`."""
    return np.concatenate([_describe_plane(plane) for plane in (planes.light, planes.nuclear)])


def _describe_plane(plane: Bytes) -> Doubles:
    # The root of a share: beside frequent patterns, rare ones are heard as well.
    patterns = [np.sqrt(count_patterns(plane, radius)) for radius in RADII]
    greys = _rank_greys(plane)
    matrices = [count_pairs(greys, distance) for distance in DISTANCES]
    return np.concatenate([*patterns, *map(measure_pairs, matrices), measure_bands(plane), measure_edges(plane)])


def count_patterns(plane: Bytes, radius: int) -> Doubles:
    """Share of each rotation-invariant uniform local binary pattern of 8 points (Ojala et al. 2002), (10,).

    Only pixels whose whole circle lies in the plane (H, W) are counted.
    """
    height, width = plane.shape
    inner = (slice(radius, height - radius), slice(radius, width - radius))
    centre = plane[inner].astype(np.float32)
    bits = [neighbour >= centre for neighbour in _iterate_circle(plane.astype(np.float32), radius)]
    ones = np.zeros(centre.shape, dtype=np.uint8)
    changes = np.zeros(centre.shape, dtype=np.uint8)
    for before, bit in zip(bits[-1:] + bits[:-1], bits, strict=True):
        ones += bit
        changes += before != bit
    codes = np.where(changes <= 2, ones, np.uint8(POINTS + 1))
    return np.bincount(codes.ravel(), minlength=POINTS + 2) / codes.size


def _iterate_circle(plane: Floats, radius: int) -> Iterator[Floats]:
    """The plane seen from each point of the circle, in their order, where all of it can be seen."""
    height, width = (n - 2 * radius for n in plane.shape)
    aside = radius * np.sqrt(0.5)
    far = int(aside)
    share = np.float32(round((aside - far) * GRAIN) / GRAIN)

    def cut(values: Floats, rows: int, cols: int) -> Floats:
        return values[radius + rows : radius + rows + height, radius + cols : radius + cols + width]

    # Whole grey levels and weights of 1/256: every sum is exact, and a turned plane has the turned sums.
    straight = {(0, 1): (0, radius), (1, 0): (radius, 0), (0, -1): (0, -radius), (-1, 0): (-radius, 0)}
    for rows, cols in ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)):
        if (rows, cols) in straight:
            yield cut(plane, *straight[rows, cols])
            continue
        near_row, far_row = rows * far, rows * (far + 1)
        near_col, far_col = cols * far, cols * (far + 1)
        near = cut(plane, near_row, near_col) * (1 - share) + cut(plane, near_row, far_col) * share
        off = cut(plane, far_row, near_col) * (1 - share) + cut(plane, far_row, far_col) * share
        yield near * (1 - share) + off * share


def _rank_greys(plane: Bytes) -> Bytes:
    """A plane in `GREYS` grey levels around its mean: brightness and contrast are the business of colours."""
    counts = np.bincount(plane.ravel(), minlength=256)
    levels = np.arange(256)
    mean = counts @ levels / plane.size
    spread = max(LEAST_SPREAD, float(np.sqrt(counts @ (levels - mean) ** 2 / plane.size)))
    ranks = np.floor((levels - mean) / (2 * REACH * spread) * GREYS + GREYS / 2).clip(0, GREYS - 1)
    return np.asarray(cv2.LUT(plane, ranks.astype(np.uint8)))


def count_pairs(greys: Bytes, distance: int) -> Doubles:
    """How often two of `GREYS` levels lie at a distance, in four directions and both ways, (GREYS, GREYS), sum 1."""
    aside = round(distance * np.sqrt(0.5))
    shifted = np.left_shift(greys, 4)
    counts = np.zeros(GREYS * GREYS)
    for rows, cols in ((0, distance), (aside, aside), (distance, 0), (aside, -aside)):
        first = _cut_shifted(shifted, -rows, -cols)
        second = _cut_shifted(greys, rows, cols)
        found = np.bincount((first | second).ravel(), minlength=GREYS * GREYS)
        counts += found / found.sum()
    matrix = counts.reshape(GREYS, GREYS)
    return np.asarray((matrix + matrix.T) / (2 * counts.sum()))


def _cut_shifted(plane: Bytes, rows: int, cols: int) -> Bytes:
    """The part of a plane that is left when so many rows and columns go, from the top and left where positive."""
    height, width = plane.shape
    return plane[max(0, rows) : height + min(0, rows), max(0, cols) : width + min(0, cols)]


def measure_pairs(matrix: Doubles) -> Doubles:
    """`PROPERTIES` of a co-occurrence matrix (Haralick et al. 1973), as scikit-image has them; entropy in nats."""
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


def measure_bands(plane: Bytes) -> Doubles:
    """Logarithm of the spread of grey levels in octaves of size, between the blurs of `OCTAVES`, (5,)."""
    levels = [plane.astype(np.float32)]
    levels += [cv2.GaussianBlur(levels[0], (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in OCTAVES]
    bands = [finer.astype(np.float64) - coarser for finer, coarser in pairwise(levels)]
    return np.array([0.5 * np.log(1 + (band * band).mean()) for band in bands])


def measure_edges(plane: Bytes) -> Doubles:
    """How much edges near one another run the same way, and how much all of the tile's do, by `COHERENCES`, (4,).

    Both are lengths of mean doubled angles, 0 to 1 (structure tensor, Bigun & Granlund 1987).
    """
    numbers = []
    for sigma in COHERENCES:
        smooth = cv2.GaussianBlur(plane.astype(np.float32), (0, 0), sigma / 2, borderType=cv2.BORDER_REFLECT)
        down, right = (np.asarray(part, dtype=np.float32) for part in np.gradient(smooth))
        parts = (right * right - down * down, 2 * right * down, right * right + down * down)
        along, across, energy = (cv2.GaussianBlur(p, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for p in parts)
        total = float(energy.sum(dtype=np.float64)) + plane.size
        local = np.sqrt(along.astype(np.float64) ** 2 + across.astype(np.float64) ** 2).sum()
        whole = np.hypot(along.sum(dtype=np.float64), across.sum(dtype=np.float64))
        numbers += [local / total, whole / total]
    return np.array(numbers)
