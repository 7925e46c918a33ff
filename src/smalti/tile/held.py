"""The tiles of one image in memory, for whoever reads a store of tiles."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import recipe
from ..errors import DataError, Problem
from ..records.layout import TILE_MASKS, TILE_PIXELS
from ..tissue.foreground import find_tissue
from ..tissue.stainable import Staining, measure_frame
from .cut import Bag, cut_scene
from .plane import Plane
from .scene import Scene
from .store import TileStore, pack_masks, shrink_masks


@dataclass(frozen=True, slots=True, eq=False)
class HeldTiles(TileStore):
    """A store of one bag that is on no disk; ``kind`` and ``stained`` are empty, and measured by `read_staining`.

    Attributes:
        bag: the tiles.
    """

    bag: Bag
    _stainings: dict[str, Staining] = field(init=False, repr=False, default_factory=dict)

    def read_staining(self, method: str) -> Staining:
        """Return the stain of the image by one of `smalti.tissue.frames.STAINS`; measured once."""
        if method not in self._stainings:
            frame, kind = measure_frame(self.bag.choose_tissue(), method)
            kinds = np.array([kind], dtype=np.uint8)
            self._stainings[method] = Staining(frame[None], kinds, self.bag.judge_tiles())
        return self._stainings[method]

    def read_shapes(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the whole mask, (1, S, S) 0 to 255, and its `SHAPE_NAMES`, (1, K)."""
        outline, shape = self.bag.describe_whole()
        return outline[None], shape[None]

    def _read(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        if name == TILE_PIXELS:
            return self.bag.pixels.reshape(len(self), -1)[rows]
        packed = (pack_masks if name == TILE_MASKS else shrink_masks)(self.bag.masks[rows])
        return packed.reshape(len(rows), -1)


def hold_scene(scene: Scene, tile: recipe.Tile, *, tile_px: int, given: bool, name: str) -> HeldTiles:
    """Return the tiles of an open image as a store.

    Args:
        scene: the image.
        tile: the knobs; the picture has ``tile.image_mpp`` microns per pixel.
        tile_px: side of a tile.
        given: whether the image came with a mask.
        name: of the image.

    Raises:
        RecipeError: squares that are far larger than the image.
    """
    cut = cut_scene(scene, tile, tile_px=tile_px, own_mpp=None, given=given, name=name)
    bag = cut.take(0, len(cut))
    ends = np.array([0, len(bag.pixels)], dtype=np.int64)
    kind, stained = np.empty(0, dtype=np.uint8), np.empty(0, dtype=np.int64)
    index = (ends, bag.positions, bag.coverage, bag.scale, kind, stained)
    return HeldTiles("", Path(), tile_px, (name,), *index, bag)


def frame_array(name: str, pixels: NDArray[np.uint8], mask: NDArray[np.generic] | None) -> Scene:
    """Return a picture that is in memory as an open image.

    Args:
        name: of the picture, for messages.
        pixels: (H, W, 3) RGB.
        mask: (H, W), not 0 where the disease is; None takes tissue.

    Raises:
        DataError: it is no picture of 8 bits and three colours, or the mask is of another size.
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
    return Scene(pixels.shape[:2], Plane(wanted, (1, 1), pixels.shape[:2]), pixels)
