"""Which pixels the stain of an image is estimated from, and which pictures have no stain: blank, grey, painted.

Statistics come from pixels of kept tiles under the mask (or tissue; from all where no tile has any of it). The number
of pixels is bounded, so that a slide costs as much as a small image. Pixels alone decide what is blank, grey or
painted; names of files are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .density import LEAST_DENSITY, STAIN_DENSITY
from .foreground import find_dense
from .frames import STAINS, UNKNOWN
from .gamut import measure_excess

KINDS = ("", "blank", "grey", "painted")  # by number; the first has a stain
MOST_PIXELS, MOST_TILES = 20_000, 200  # of an image, and those of its tiles that they come from
LEAST_PIXELS = 200  # stained; percentiles of fewer are the pixels themselves
TILE_STEP = 4  # every fourth pixel either way is enough to judge a tile
SOME_FRAC = 0.02  # of a picture is no glass, or it is blank
PAINT_FRAC = 0.1  # of what is no glass has a colour that no stain has, or it is not painted
# Spread of the three channels beside their mean density: 0.35 to 0.8 in H&E, below 0.02 in a grey picture even after
# JPEG, whose colour blocks are coarse.
GREY_CHROMA = 0.05

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Staining:
    """The stain of the images of a store, as far as it is known.

    Attributes:
        frames: (images, 3, 4), by one of `STAINS`; NaN where it cannot be told.
        kind: (images,) why there is none, number of `KINDS`; 0 where there is.
        tile_kind: (rows,) the same of each tile, which is judged by itself.
    """

    frames: NDArray[np.float64]
    kind: NDArray[np.uint8]
    tile_kind: NDArray[np.uint8]


def judge_tile(tile: Pixels) -> int:
    """Return the number of `KINDS` of a tile (H, W, 3)."""
    return judge_pixels(tile[::TILE_STEP, ::TILE_STEP].reshape(-1, 3))


def judge_pixels(pixels: Pixels) -> int:
    """Return the number of `KINDS` of a picture, from evenly spaced pixels of it, (n, 3)."""
    densities = STAIN_DENSITY[pixels]
    some = find_dense(densities, channels="any")
    if some.sum() <= SOME_FRAC * len(pixels):
        return KINDS.index("blank")
    shown = densities[some]
    if np.median(shown.std(axis=1) / shown.mean(axis=1).clip(LEAST_DENSITY / 3)) < GREY_CHROMA:
        return KINDS.index("grey")
    return KINDS.index("painted") if _find_paint(pixels[some]).mean() > PAINT_FRAC else 0


def measure_frame(pixels: Pixels, method: str) -> tuple[NDArray[np.float64], int]:
    """Return the frame (3, 4) by one of `STAINS` and the kind of an image, from chosen pixels of its tiles, (n, 3)."""
    kind = judge_pixels(pixels)
    if kind:
        return UNKNOWN, kind
    densities = STAIN_DENSITY[pixels].astype(np.float64)
    stained = densities[find_dense(densities, channels="all") & ~_find_paint(pixels)]
    if len(stained) < LEAST_PIXELS:
        return UNKNOWN, KINDS.index("blank")
    return STAINS.build(method)(stained), 0


def _find_paint(pixels: Pixels) -> NDArray[np.bool_]:
    """Return which pixels (n, 3) have a colour that haematoxylin, eosin, blood and pigment cannot have."""
    return np.asarray(measure_excess(pixels[None])[0] > 1)
