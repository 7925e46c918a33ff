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
from ..types import Outside, Sample
from .grid import count_grid, make_grid, place_square, select_tiles
from .outside import find_pale, hide_outside
from .regions import Squares, find_regions
from .scene import Scene, open_scene
from .shape import describe_mask, draw_outline
from .staining import choose_pixels, judge_tile, share_pixels


@dataclass(frozen=True, slots=True, eq=False)
class Bag:
    """The kept tiles of one image, or a piece of them.

    Attributes:
        pixels: (N, tile_px, tile_px, 3) RGB.
        positions: (N, 2) (row_px, col_px) of the squares in the image; negative where they begin outside.
        coverage: (N,) share of the square's part inside the image that is under the mask (or tissue).
        scale: (N,) image pixels per pixel of the tile; the square has ``scale * tile_px`` image pixels to a side.
        masks: (N, tile_px, tile_px) of 0 and 1, the mask (or tissue) in each tile.
        outline, shape: the whole mask as a raster and in numbers.
        kind: (N,) why the stain of a tile is to be left alone, number of `KINDS`; 0 where it is not.
        tissue: of some of the tiles, an even choice of their pixels under the mask, (n, 3) each.
    """

    pixels: NDArray[np.uint8]
    positions: NDArray[np.int64]
    coverage: NDArray[np.float32]
    scale: NDArray[np.float32]
    masks: NDArray[np.uint8]
    outline: NDArray[np.uint8]
    shape: NDArray[np.float32]
    kind: NDArray[np.uint8]
    tissue: tuple[NDArray[np.uint8], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """An open image and the squares that are to be cut from it, before any pixel of a large one is read.

    Attributes:
        positions: (N, 2) (row_px, col_px) of the squares.
        sides_px: (N,) their sides.
        coverage: (N,) as in `Bag`.
        outline, shape: as in `Bag`.
        outside: what becomes of pixels outside the mask.
        pale: the colour of a blank.
    """

    scene: Scene
    tile_px: int
    positions: NDArray[np.int64]
    sides_px: NDArray[np.int64]
    coverage: NDArray[np.float32]
    outline: NDArray[np.uint8]
    shape: NDArray[np.float32]
    outside: Outside
    pale: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, start: int, stop: int) -> Bag:
        """Tiles ``start`` to ``stop`` (excluded)."""
        chosen = np.s_[start:stop]
        positions, sides_px = self.positions[chosen], self.sides_px[chosen]
        pixels = np.empty((len(positions), self.tile_px, self.tile_px, 3), dtype=np.uint8)
        masks = np.empty(pixels.shape[:3], dtype=np.uint8)
        for i, ((row, col), side) in enumerate(zip(positions.tolist(), sides_px.tolist(), strict=True)):
            pixels[i], masks[i] = _read_square(self.scene, (row, col), side_px=side, tile_px=self.tile_px)
        hide_outside(pixels, masks, outside=self.outside, pale=self.pale)
        scale = (sides_px / self.tile_px).astype(np.float32)
        kind = np.array([judge_tile(tile) for tile in pixels], dtype=np.uint8)
        every, count = share_pixels(len(self))
        some = range(-start % every, len(pixels), every)  # an even choice of the tiles of the whole image
        tissue = tuple(choose_pixels(pixels[i], masks[i], count=count) for i in some)
        return Bag(pixels, positions, self.coverage[chosen], scale, masks, self.outline, self.shape, kind, tissue)


@contextmanager
def open_cut(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> Iterator[Cut]:
    """Open an image and its mask once, and find the squares that the recipe asks for.

    Raises:
        DataError: as `open_scene`.
    """
    with open_scene(sample) as scene:
        squares = find_regions(scene.mask, tile, tile_px) if tile.regions == "components" else None
        if squares is None:
            squares = (_find_grid if tile.source == "tiles" else _find_box)(scene, tile, tile_px)
        pale = find_pale(scene.view()) if tile.outside == "blank" else (255, 255, 255)
        # A mask of nothing is no guide; blanking all would leave no picture.
        outside = tile.outside if scene.mask.pixels.any() else "keep"
        mask, given = scene.mask, sample.mask_path is not None
        outline = draw_outline(mask.pixels, mask.size_px)
        shape = describe_mask(mask.pixels, mask.size_px, given=given)
        yield Cut(scene, tile_px, *squares, outline, shape, outside, pale)


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
    if tile.regions == "components" and tile.max_tiles is not None:
        return tile.max_tiles
    if tile.source != "tiles":
        return 1
    count = count_grid(height_px, width_px, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    return count if tile.max_tiles is None else min(count, tile.max_tiles)


def _find_grid(scene: Scene, tile: recipe.Tile, tile_px: int) -> Squares:
    positions = make_grid(*scene.size_px, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    wanted = scene.find_tissue() if tile.within == "tissue" else scene.mask
    coverage = wanted.cover(positions, side_px=tile_px)
    kept = select_tiles(coverage, min_coverage=tile.min_coverage, min_tiles=tile.min_tiles, max_tiles=tile.max_tiles)
    positions = positions[kept]
    return positions, np.full(len(kept), tile_px, dtype=np.int64), scene.mask.cover(positions, side_px=tile_px)


def _find_box(scene: Scene, tile: recipe.Tile, tile_px: int) -> Squares:
    """One square around the mask or the image, inside the image where that is possible."""
    row, col, height, width = scene.mask.bound() if tile.source == "mask_box" else (0, 0, *scene.size_px)
    side = max(height, width)
    position = [
        place_square(start, length, side=side, limit=limit)
        for start, length, limit in zip((row, col), (height, width), scene.size_px, strict=True)
    ]
    positions = np.array([position], dtype=np.int64)
    return positions, np.array([side], dtype=np.int64), scene.mask.cover(positions, side_px=side)


def _read_square(
    scene: Scene, position: tuple[int, int], *, side_px: int, tile_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square of the image and its mask, both brought to the side of a tile in the same way."""
    (row, height), (col, width) = (
        (max(start, 0), min(start + side_px, limit) - max(start, 0))
        for start, limit in zip(position, scene.size_px, strict=True)
    )
    # Twice as fine as wanted: the last halving is done by area below, the same for small and large images.
    part = scene.read((row, col, height, width), longest_px=2 * tile_px)
    under = scene.mask.window(row, col, height_px=height, width_px=width)
    if under.shape != part.shape[:2]:
        size = (part.shape[1], part.shape[0])
        under = np.asarray(cv2.resize(255 * under, size, interpolation=cv2.INTER_AREA) >= 128, dtype=np.uint8)
    shrunk = max(part.shape[:2]) / max(height, width)
    side = max(round(side_px * shrunk), *part.shape[:2])
    top, left = (
        min(round((inside - start) * shrunk), side - length)
        for inside, start, length in zip((row, col), position, part.shape[:2], strict=True)
    )
    border = {"top": top, "bottom": side - part.shape[0] - top, "left": left, "right": side - part.shape[1] - left}
    square, mask = _pad_tile(part, **border), _pad_tile(under, **border)
    if side == tile_px:
        return square, mask
    # Area averaging keeps what shrinking can keep; it has no meaning when a small box is enlarged.
    how = cv2.INTER_AREA if side > tile_px else cv2.INTER_LINEAR
    size = (tile_px, tile_px)
    mask = np.asarray(cv2.resize(255 * mask, size, interpolation=how) >= 128, dtype=np.uint8)
    return np.asarray(cv2.resize(square, size, interpolation=how), dtype=np.uint8), mask


def _pad_tile(part: NDArray[np.uint8], *, top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """Mirror the picture outward; white or black borders would tell a network the size of the image."""
    if not (top or bottom or left or right):
        return part
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REFLECT_101), dtype=np.uint8)
