"""One image into its bag of tiles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import recipe
from ..types import Sample
from .grid import count_grid, make_grid, measure_coverage, select_tiles
from .repair import read_sample


@dataclass(frozen=True, slots=True)
class Bag:
    """The kept tiles of one image.

    Attributes:
        pixels: (N, tile_px, tile_px, 3) RGB.
        positions: (N, 2) (row_px, col_px) of the tile, or of the shrunken box, in the image; negative where padded.
        coverage: (N,) share of the tile under the mask (or tissue).
    """

    pixels: NDArray[np.uint8]
    positions: NDArray[np.int64]
    coverage: NDArray[np.float32]


def cut_bag(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> Bag:
    """Read an image and its mask once, repair them, and cut the tiles that the recipe asks for.

    Raises:
        DataError: as `read_sample`.
    """
    image, mask = read_sample(sample)
    if tile.source == "tiles":
        return _cut_grid(image, mask, tile=tile, tile_px=tile_px)
    height, width = mask.shape
    box = _bound_mask(mask) if tile.source == "mask_box" else (0, 0, height, width)
    return _shrink_box(image, mask, box=box, tile_px=tile_px)


def bound_bag(height_px: int, width_px: int, *, tile: recipe.Tile, tile_px: int) -> int:
    """The most tiles that an image of this size can have."""
    if tile.source != "tiles":
        return 1
    count = count_grid(height_px, width_px, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    return count if tile.max_tiles is None else min(count, tile.max_tiles)


def _cut_grid(image: NDArray[np.uint8], mask: NDArray[np.uint8], *, tile: recipe.Tile, tile_px: int) -> Bag:
    height, width = mask.shape
    positions = make_grid(height, width, tile_px=tile_px, overlap_frac=tile.overlap_frac)
    coverage = measure_coverage(mask, positions, tile_px=tile_px)
    kept = select_tiles(coverage, min_coverage=tile.min_coverage, min_tiles=tile.min_tiles, max_tiles=tile.max_tiles)
    pixels = np.empty((len(kept), tile_px, tile_px, 3), dtype=np.uint8)
    for i, (row, col) in enumerate(positions[kept].tolist()):
        part = image[row : row + tile_px, col : col + tile_px]
        pixels[i] = _pad_tile(part, bottom=tile_px - part.shape[0], right=tile_px - part.shape[1])
    return Bag(pixels, positions[kept], coverage[kept])


def _pad_tile(
    part: NDArray[np.uint8], *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0
) -> NDArray[np.uint8]:
    """Mirror the picture outward; white or black borders would tell a network the size of the image."""
    if not (top or bottom or left or right):
        return part
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REFLECT_101), dtype=np.uint8)


def _bound_mask(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Row, column, height, width of the mask's box; the whole image when the mask is empty."""
    col, row, width, height = cv2.boundingRect(mask)
    return (row, col, height, width) if width else (0, 0, mask.shape[0], mask.shape[1])


def _shrink_box(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], *, box: tuple[int, int, int, int], tile_px: int
) -> Bag:
    """Widen a box to a square around it, inside the image where that is possible, and shrink it to one tile."""
    side = max(box[2:])
    row, height = _widen_span(box[0], box[2], side=side, limit=image.shape[0])
    col, width = _widen_span(box[1], box[3], side=side, limit=image.shape[1])
    inside = np.s_[max(row, 0) : max(row, 0) + height, max(col, 0) : max(col, 0) + width]
    top, left = (side - height) // 2, (side - width) // 2
    square = _pad_tile(image[inside], top=top, bottom=side - height - top, left=left, right=side - width - left)
    # Area averaging keeps what shrinking can keep; it has no meaning when a small box is enlarged.
    how = cv2.INTER_AREA if side > tile_px else cv2.INTER_LINEAR
    pixels = np.asarray(cv2.resize(square, (tile_px, tile_px), interpolation=how), dtype=np.uint8)
    share = cv2.countNonZero(mask[inside]) / mask[inside].size
    return Bag(pixels[None], np.array([[row, col]], dtype=np.int64), np.array([share], dtype=np.float32))


def _widen_span(start: int, length: int, *, side: int, limit: int) -> tuple[int, int]:
    """Start and inner length of a span of ``side`` around the given one; the start is negative where it is padded."""
    if side > limit:
        return -((side - limit) // 2), limit
    return min(max(start - (side - length) // 2, 0), limit - side), side
