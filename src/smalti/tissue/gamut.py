"""The colours that a cohort has, and how far the pixels of an image are from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .density import BLOOD, MELANIN, count_densities, measure_distance

LEAST_IMAGES = 20  # fewer do not show what their stain can be
COMMON_FRAC = 0.25  # of the images have a native colour; one paint may be on a sixth of them
BIN_FRAC = 0.0005  # of an image, that a colour fills to count
COARSE_BIN, FINE_BIN = 0.06, 0.03  # density
# Stain is everywhere in an image: a hundredth of most of 4 x 4 cells; paint is somewhere.
CELLS, CELL_FRAC, SPREAD_FRAC = 4, 0.01, 0.7

Colours = NDArray[np.float32]


def find_common(thumbnails: Sequence[NDArray[np.uint8]]) -> Colours | None:
    """Densities that at least a quarter of the images have, (n, 3); None where there are too few images."""
    if len(thumbnails) < LEAST_IMAGES:
        return None
    seen: Counter[tuple[float, ...]] = Counter()
    for thumbnail in thumbnails:
        centres, which = count_densities(thumbnail, width=COARSE_BIN)
        counts = np.bincount(which.ravel())
        seen.update(map(tuple, centres[counts >= BIN_FRAC * which.size].tolist()))
    return np.array([c for c, n in seen.items() if n >= COMMON_FRAC * len(thumbnails)], np.float32).reshape(-1, 3)


def measure_strangeness(thumbnail: NDArray[np.uint8], common: Colours) -> NDArray[np.float32]:
    """Density between each pixel and what stains native to the cohort or to the whole image can make, (h, w)."""
    rays = np.concatenate([common, find_widespread(thumbnail), np.array([BLOOD, MELANIN], np.float32)])
    return measure_foreignness(thumbnail, rays)


def measure_foreignness(thumbnail: NDArray[np.uint8], rays: Colours) -> NDArray[np.float32]:
    """Density between each pixel and the nearest of the rays, (h, w)."""
    centres, which = count_densities(thumbnail, width=FINE_BIN)
    return measure_distance(centres, rays)[which]


def find_widespread(thumbnail: NDArray[np.uint8]) -> Colours:
    """Densities that occur all over an image, (n, 3): a lab's own stain is no paint."""
    centres, which = count_densities(thumbnail, width=COARSE_BIN)
    cells = np.zeros(len(centres), int)
    for rows in np.array_split(which, CELLS, axis=0):
        for cell in np.array_split(rows, CELLS, axis=1):
            cells += np.bincount(cell.ravel(), minlength=len(centres)) >= max(1.0, CELL_FRAC * cell.size)
    return centres[cells >= SPREAD_FRAC * CELLS**2]
