"""One image into its bag of tiles.

Every tile is a square of the image, brought to the side of a stored tile. Where a square leaves the image, the picture
is mirrored outward.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import recipe
from ..types import Sample
from .grid import count_grid, make_grid, select_tiles
from .scene import Scene, open_scene


@dataclass(frozen=True, slots=True, eq=False)
class Bag:
    """The kept tiles of one image, or a piece of them.

    Attributes:
        pixels: (N, tile_px, tile_px, 3) RGB.
        positions: (N, 2) (row_px, col_px) of the squares in the image; negative where they begin outside.
        coverage: (N,) share of the square's part inside the image that is under the mask (or tissue).
        scale: (N,) image pixels per pixel of the tile; the square has ``scale * tile_px`` image pixels to a side.
    """

    pixels: NDArray[np.uint8]
    positions: NDArray[np.int64]
    coverage: NDArray[np.float32]
    scale: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """An open image and the squares that are to be cut from it, before any pixel of a large one is read.

    Attributes:
        positions: (N, 2) (row_px, col_px) of the squares.
        sides_px: (N,) their sides.
        coverage: (N,) as in `Bag`.
    """

    scene: Scene
    tile_px: int
    positions: NDArray[np.int64]
    sides_px: NDArray[np.int64]
    coverage: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, start: int, stop: int) -> Bag:
        """Tiles ``start`` to ``stop`` (excluded)."""
        chosen = np.s_[start:stop]
        positions, sides_px = self.positions[chosen], self.sides_px[chosen]
        pixels = np.empty((len(positions), self.tile_px, self.tile_px, 3), dtype=np.uint8)
        for i, ((row, col), side) in enumerate(zip(positions.tolist(), sides_px.tolist(), strict=True)):
            pixels[i] = _read_square(self.scene, (row, col), side_px=side, tile_px=self.tile_px)
        scale = (sides_px / self.tile_px).astype(np.float32)
        return Bag(pixels, positions, self.coverage[chosen], scale)


@contextmanager
def open_cut(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> Iterator[Cut]:
    """Open an image and its mask once, and find the squares that the recipe asks for.

    Raises:
        DataError: as `open_scene`.
    """
    with open_scene(sample) as scene:
        find = _find_grid if tile.source == "tiles" else _find_box
        positions, sides_px, coverage = find(scene, tile, tile_px)
        yield Cut(scene, tile_px, positions, sides_px, coverage)


def cut_bag(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> Bag:
    """All tiles of an image at once.

    Raises:
        DataError: as `open_scene`.
    """
    with open_cut(sample, tile, tile_px=tile_px) as cut:
        return cut.take(0, len(cut))


def cut_pieces(sample: Sample, tile: recipe.Tile, *, tile_px: int, piece_tiles: int) -> Iterator[Bag]:
    """The tiles of an image, at most ``piece_tiles`` at a time.

    Raises:
        DataError: as `open_scene`.
    """
    with open_cut(sample, tile, tile_px=tile_px) as cut:
        for start in range(0, len(cut), piece_tiles):
            yield cut.take(start, start + piece_tiles)


def bound_bag(height_px: int, width_px: int, *, tile: recipe.Tile, tile_px: int) -> int:
    """The most tiles that an image of this size can have."""
    if tile.source != "tiles":
        return 1
    count = count_grid(height_px, width_px, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    return count if tile.max_tiles is None else min(count, tile.max_tiles)


Squares = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]  # positions, sides, coverage


def _find_grid(scene: Scene, tile: recipe.Tile, tile_px: int) -> Squares:
    positions = make_grid(*scene.size_px, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    coverage = scene.mask.cover(positions, side_px=tile_px)
    kept = select_tiles(coverage, min_coverage=tile.min_coverage, min_tiles=tile.min_tiles, max_tiles=tile.max_tiles)
    return positions[kept], np.full(len(kept), tile_px, dtype=np.int64), coverage[kept]


def _find_box(scene: Scene, tile: recipe.Tile, tile_px: int) -> Squares:
    """One square around the mask or the image, inside the image where that is possible."""
    row, col, height, width = scene.mask.bound() if tile.source == "mask_box" else (0, 0, *scene.size_px)
    side = max(height, width)
    position = [
        _place_square(start, length, side=side, limit=limit)
        for start, length, limit in zip((row, col), (height, width), scene.size_px, strict=True)
    ]
    positions = np.array([position], dtype=np.int64)
    return positions, np.array([side], dtype=np.int64), scene.mask.cover(positions, side_px=side)


def _place_square(start: int, length: int, *, side: int, limit: int) -> int:
    """Where a span of ``side`` around the given one begins; before the image where it is longer than that."""
    return -((side - limit) // 2) if side > limit else min(max(start - (side - length) // 2, 0), limit - side)


def _read_square(scene: Scene, position: tuple[int, int], *, side_px: int, tile_px: int) -> NDArray[np.uint8]:
    (row, height), (col, width) = (
        (max(start, 0), min(start + side_px, limit) - max(start, 0))
        for start, limit in zip(position, scene.size_px, strict=True)
    )
    # Twice as fine as wanted: the last halving is done by area below, the same for small and large images.
    part = scene.read((row, col, height, width), longest_px=2 * tile_px)
    shrunk = max(part.shape[:2]) / max(height, width)
    side = max(round(side_px * shrunk), *part.shape[:2])
    top, left = (
        min(round((inside - start) * shrunk), side - length)
        for inside, start, length in zip((row, col), position, part.shape[:2], strict=True)
    )
    square = _pad_tile(part, top=top, bottom=side - part.shape[0] - top, left=left, right=side - part.shape[1] - left)
    if side == tile_px:
        return square
    # Area averaging keeps what shrinking can keep; it has no meaning when a small box is enlarged.
    how = cv2.INTER_AREA if side > tile_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (tile_px, tile_px), interpolation=how), dtype=np.uint8)


def _pad_tile(part: NDArray[np.uint8], *, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """Mirror the picture outward; white or black borders would tell a network the size of the image."""
    if not (top or bottom or left or right):
        return part
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REFLECT_101), dtype=np.uint8)
