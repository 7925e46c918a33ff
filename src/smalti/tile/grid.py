"""Positions of tiles, and the share of each that is under the mask; geometry only, no files.

Border rule: tiles start at 0 and step by ``tile_px * (1 - overlap_frac)``; the last row and the last column are moved
inward so that they end at the border. An image smaller than a tile has one tile at 0, padded when it is cut.
So every pixel belongs to some tile, and no tile of a larger image needs padding.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import RecipeError


def make_grid(height_px: int, width_px: int, *, tile_px: int, overlap_frac: float = 0.0) -> NDArray[np.int64]:
    """Return positions (row_px, col_px) of all tiles of an image, row by row, (N, 2).

    Raises:
        RecipeError: a tile without pixels, or an overlap outside [0, 1).
    """
    if tile_px < 1 or not 0 <= overlap_frac < 1:
        raise RecipeError(
            f"no grid of {tile_px} px tiles with overlap {overlap_frac}",
            fix="tile.size_px of 1 or more and tile.overlap_frac from 0 to below 1",
        )
    step_px = max(1, round(tile_px * (1 - overlap_frac)))
    starts = []
    for length_px in (height_px, width_px):
        last = max(0, length_px - tile_px)
        starts.append(np.minimum(np.arange(-(-last // step_px) + 1, dtype=np.int64) * step_px, last))
    rows, cols = starts
    return np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2)


def measure_coverage(
    mask: NDArray[np.uint8], positions: NDArray[np.int64], *, tile_px: int, scale: tuple[float, float] = (1, 1)
) -> NDArray[np.float32]:
    """Return exact share of each tile's pixels inside the image that are under the mask, (N,).

    Args:
        mask: (H, W) of zeros and ones, or coarser.
        positions: (N, 2), (row_px, col_px) in the image; of tiles that reach into it.
        tile_px: side of a tile.
        scale: image pixels per pixel of the mask, down and across. A mask pixel that a tile cuts counts by its share.

    Counting tile by tile touches each pixel once per tile over it and needs no memory of its own; an integral image
    writes eight bytes per pixel first, which costs more than all the counting (``benchmarks/bench_tile.py``).
    """
    coverage = np.empty(len(positions), dtype=np.float32)
    for i, (row, col) in enumerate(positions.tolist()):
        if scale == (1, 1):
            part = mask[max(0, row) : row + tile_px, max(0, col) : col + tile_px]
            coverage[i] = cv2.countNonZero(part) / part.size
            continue
        cells, weights = [], []  # along each axis: the cells that the tile reaches, and its share in each
        for start, step, limit in zip((row, col), scale, mask.shape, strict=True):
            begin, end = min(max(0.0, start / step), limit - 1e-6), min((start + tile_px) / step, float(limit))
            first, last = int(begin), int(np.ceil(end))
            ends = np.clip(np.arange(first, last + 1, dtype=np.float64), begin, end)
            cells.append(slice(first, last))
            weights.append(np.diff(ends) / (end - begin))
        coverage[i] = weights[0] @ mask[cells[0], cells[1]] @ weights[1]
    return coverage


def select_tiles(
    coverage: NDArray[np.float32], *, min_coverage: float, min_tiles: int, max_tiles: int | None
) -> NDArray[np.int64]:
    """Return indices of the tiles to keep, sorted, at least one.

    Tiles with ``coverage >= min_coverage`` are kept. Where these are fewer than ``min_tiles``, the best covered tiles
    are kept up to that number, as far as they touch the mask at all; where none does, an even choice of all tiles.
    Of more than ``max_tiles``, an even choice in reading order is kept.
    """
    chosen = np.flatnonzero(coverage >= min_coverage)
    if len(chosen) < min_tiles:
        best = np.argsort(-coverage, kind="stable")[:min_tiles]
        chosen = np.sort(best[coverage[best] > 0])
    if len(chosen) == 0:
        chosen = spread_evenly(np.arange(len(coverage)), min_tiles)
    return chosen if max_tiles is None else spread_evenly(chosen, max_tiles)


def spread_evenly(items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the middles of ``count`` equal stretches; all items when there are no more than ``count``."""
    if len(items) <= count:
        return items
    return items[(2 * np.arange(count) + 1) * len(items) // (2 * count)]


def place_square(start: int, length: int, *, side: int, limit: int) -> int:
    """Return the start of a span of ``side`` around the given one; before the image where it is longer than that."""
    return -((side - limit) // 2) if side > limit else min(max(start - (side - length) // 2, 0), limit - side)
