"""The features of a slide with all that any layout says about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE_ROWS = 4096  # rows that are in memory at once


@dataclass(frozen=True, slots=True, eq=False)
class FeatureBag:
    """The tiles of one slide after an encoder.

    Attributes:
        slide: name of the image in its folder, without its suffix: ``site-a/slide-1``.
        features: (N, D) float16 or float32; may be a memory map.
        coords: (N, 2) int64, (x, y) of the tiles in pixels of level 0, from the corner of what was scanned.
        corner: (x, y) of that corner on the plane of the file; (0, 0) but for slides with bounds.
        plane: (width, height) of that plane.
        tile_px: side of a tile as the encoder's input is made of it.
        side_px: the same in pixels of level 0.
        overlap_px: of neighbouring tiles, in pixels of a tile.
        mpp: microns per pixel of level 0; None where not known.
        tile_mpp: microns per pixel of a tile; None likewise.
        encoder: its name, of signs that names of folders may have.
        key: names encoder, weights, rules of tiles and code.
        version: of smalti.
        licence: of the weights.
    """

    slide: str
    features: NDArray[Any]
    coords: NDArray[np.int64]
    corner: tuple[int, int]
    plane: tuple[int, int]
    tile_px: int
    side_px: int
    overlap_px: int
    mpp: float | None
    tile_mpp: float | None
    encoder: str
    key: str
    version: str
    licence: str

    @property
    def plane_coords(self) -> NDArray[np.int64]:
        """Return `coords` on the plane of the file, as OpenSlide counts them."""
        return self.coords + np.array(self.corner, dtype=np.int64)

    def pieces(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield the rows of `features`, some at a time."""
        for start in range(0, len(self.features), PIECE_ROWS):
            rows = slice(start, min(start + PIECE_ROWS, len(self.features)))
            yield rows, np.asarray(self.features[rows])


def name_slide(slide: str) -> str:
    """Return the last part of the name of a slide, as tools that know no folders call it."""
    return slide.rpartition("/")[2]
