"""The tiles of one image in memory, for whoever reads a store of tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import recipe
from ..errors import DataError, Problem
from ..records.layout import STAINED_PIXELS
from ..tissue.foreground import find_tissue
from ..tissue.stainable import Staining, measure_frame
from .cut import Bag, cut_scene
from .plane import Plane
from .scene import Scene
from .store import TileStore, pack_bag


@dataclass(frozen=True, slots=True, eq=False)
class HeldTiles(TileStore):
    """A store of one bag that is on no disk.

    Attributes:
        packed: file -> what a store on disk would have in it.
        outline, whole: of the mask, as in `Bag`.
    """

    packed: Mapping[str, NDArray[np.uint8]]
    outline: NDArray[np.uint8]
    whole: NDArray[np.float32]
    _stainings: dict[str, Staining] = field(init=False, repr=False, default_factory=dict)

    def read_staining(self, method: str) -> Staining:
        """Return the stain of the image by one of `smalti.tissue.frames.STAINS`; measured once."""
        if method not in self._stainings:
            frame, kind = measure_frame(self.packed[STAINED_PIXELS], method)
            self._stainings[method] = Staining(frame[None], np.array([kind], dtype=np.uint8), self.kind)
        return self._stainings[method]

    def read_shapes(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the whole mask, (1, S, S) 0 to 255, and its `SHAPE_NAMES`, (1, K)."""
        return self.outline[None], self.whole[None]

    def _read(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.packed[name].reshape(len(self), -1)[rows]


def hold_bag(image: str, bag: Bag) -> HeldTiles:
    """Return the bag of an image as a store."""
    packed = pack_bag(bag)
    ends = np.array([0, len(bag.pixels)], dtype=np.int64)
    stained = np.array([0, len(packed[STAINED_PIXELS])], dtype=np.int64)
    return HeldTiles(
        "", Path(), bag.pixels.shape[1], (image,), ends, bag.positions, bag.coverage, bag.scale, bag.kind, stained,
        packed, bag.outline, bag.shape,
    )  # fmt: skip


def cut_array(
    name: str, pixels: NDArray[np.uint8], mask: NDArray[np.generic] | None, tile: recipe.Tile, *, tile_px: int
) -> Bag:
    """Return the tiles of a picture that is in memory.

    Args:
        name: of the picture, for messages.
        pixels: (H, W, 3) RGB.
        mask: (H, W), not 0 where the disease is; None takes tissue.
        tile: the knobs; the picture has ``tile.image_mpp`` microns per pixel.
        tile_px: side of a tile.

    Raises:
        DataError: it is no picture of 8 bits and three colours, or the mask is of another size.
        RecipeError: squares that are far larger than the picture.
    """
    wrong = ""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        wrong = f"has shape {pixels.shape} and type {pixels.dtype}, not (H, W, 3) and uint8"
    elif mask is not None and mask.shape != pixels.shape[:2]:
        wrong = f"has {pixels.shape[0]} x {pixels.shape[1]} px, and its mask has shape {mask.shape}"
    if wrong:
        problem = Problem("array", name, f"{wrong}.", "give RGB of 8 bits, and a mask of its height and width", (name,))
        raise DataError("an array is no picture", [problem])
    wanted = find_tissue(pixels) if mask is None else (np.asarray(mask) != 0).astype(np.uint8)
    scene = Scene(pixels.shape[:2], Plane(wanted, (1, 1), pixels.shape[:2]), pixels)
    cut = cut_scene(scene, tile, tile_px=tile_px, own_mpp=None, given=mask is not None, name=name)
    return cut.take(0, len(cut))
