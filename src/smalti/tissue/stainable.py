"""Which pixels speak of an image's stain, and which pictures have none to speak of.

Statistics come from pixels of kept tiles under the mask (or tissue; from all where no tile has any of it), an even
choice of bounded number, so that a slide costs what a small image costs. Blank, grey and painted pictures are told by
what light and stain can do, not by names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .density import measure_excess
from .frames import DENSITIES, LEAST_DENSITY, STAINS, build_unknown

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
    """What is known of the stain of the images of a store.

    Attributes:
        frames: (images, 3, 4), by one of `STAINS`; not a number where it cannot be told.
        kind: (images,) why there is none, number of `KINDS`; 0 where there is.
        tile_kind: (rows,) the same of each tile, which is judged by itself.
    """

    frames: NDArray[np.float64]
    kind: NDArray[np.uint8]
    tile_kind: NDArray[np.uint8]


def share_pixels(tiles: int) -> tuple[int, int]:
    """Of an image with so many tiles, every how many-th is looked at, and how many of its pixels at most."""
    every = -(-tiles // MOST_TILES)
    return every, MOST_PIXELS // -(-tiles // every)


def choose_pixels(tile: Pixels, mask: Pixels, *, count: int) -> Pixels:
    """Up to ``count`` of the pixels of a tile (H, W, 3) that are under its mask (H, W), an even choice, (n, 3)."""
    under = np.flatnonzero(mask)
    return tile.reshape(-1, 3)[under[:: max(1, -(-len(under) // count))]]


def judge_tile(tile: Pixels) -> int:
    """Number of `KINDS` of a tile (H, W, 3)."""
    return judge_pixels(tile[::TILE_STEP, ::TILE_STEP].reshape(-1, 3))


def judge_pixels(pixels: Pixels) -> int:
    """Number of `KINDS` of a picture of which these are an even choice of pixels, (n, 3)."""
    densities = DENSITIES[pixels]
    some = (densities >= LEAST_DENSITY).any(axis=1)
    if some.sum() <= SOME_FRAC * len(pixels):
        return KINDS.index("blank")
    shown = densities[some]
    if np.median(shown.std(axis=1) / shown.mean(axis=1).clip(LEAST_DENSITY / 3)) < GREY_CHROMA:
        return KINDS.index("grey")
    return KINDS.index("painted") if _find_paint(pixels[some]).mean() > PAINT_FRAC else 0


def measure_frame(pixels: Pixels, method: str) -> tuple[NDArray[np.float64], int]:
    """Frame (3, 4) by one of `STAINS` and kind of an image, from chosen pixels of its tiles, (n, 3)."""
    kind = judge_pixels(pixels)
    if kind:
        return build_unknown(), kind
    densities = DENSITIES[pixels].astype(np.float64)
    stained = densities[(densities >= LEAST_DENSITY).all(axis=1) & ~_find_paint(pixels)]
    if len(stained) < LEAST_PIXELS:
        return build_unknown(), KINDS.index("blank")
    return STAINS.build(method)(stained), 0


def _find_paint(pixels: Pixels) -> NDArray[np.bool_]:
    """Which pixels (n, 3) have a colour that haematoxylin, eosin, blood and pigment cannot have."""
    return np.asarray(measure_excess(pixels[None])[0] > 1)
