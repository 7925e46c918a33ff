"""Connected components of a mask as regions: each is cut by itself, so that a bag is a bag of regions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .. import recipe
from .grid import make_grid, place_square, select_tiles, spread_evenly
from .plane import Plane
from .shape import Component, find_components

Squares = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]  # positions, sides, coverage


def find_regions(mask: Plane, tile: recipe.Tile, tile_px: int) -> Squares | None:
    """Squares of the components of a mask, the largest component first; None for a mask of nothing.

    ``mask_box`` gives one square around each, to be shrunk or enlarged; ``tiles`` lays a grid on the box of each, the
    box in the middle where it is smaller than a tile, and chooses by coverage with this component alone, one tile at
    the least. Of more than ``tile.max_tiles`` squares an even choice is kept, or the largest components.
    """
    components = find_components(mask.pixels, most=tile.max_tiles)
    if not components:
        return None
    if tile.source == "mask_box":
        boxes = [_scale_box(c, mask) for c in components]
        sides = np.array([max(box[2:]) for box in boxes], dtype=np.int64)
        positions = np.array([_center(b, mask, int(s)) for b, s in zip(boxes, sides, strict=True)], dtype=np.int64)
        cover = [_cover(c, mask, positions[i : i + 1], int(sides[i])) for i, c in enumerate(components)]
        return positions, sides, np.concatenate(cover)
    floor = math.ceil(tile.min_tiles / len(components))
    chosen, coverage = [], []
    for component in components:
        positions = _lay_grid(_scale_box(component, mask), mask, tile=tile, tile_px=tile_px)
        share = _cover(component, mask, positions, tile_px)
        kept = select_tiles(share, min_coverage=tile.min_coverage, min_tiles=floor, max_tiles=None)
        chosen.append(positions[kept])
        coverage.append(share[kept])
    squares, shares = np.concatenate(chosen), np.concatenate(coverage)
    if tile.max_tiles is not None:
        kept = spread_evenly(np.arange(len(squares)), tile.max_tiles)
        squares, shares = squares[kept], shares[kept]
    return squares, np.full(len(squares), tile_px, dtype=np.int64), shares


def _scale_box(component: Component, mask: Plane) -> tuple[int, int, int, int]:
    """Row, column, height, width in the image."""
    (top, bottom), (left, right) = (
        (int(start * scale), min(limit, math.ceil((start + length) * scale)))
        for start, length, scale, limit in zip(
            component.box[:2], component.box[2:], mask.scale, mask.size_px, strict=True
        )
    )
    return top, left, bottom - top, right - left


def _center(box: tuple[int, int, int, int], mask: Plane, side: int) -> list[int]:
    return [
        place_square(start, length, side=side, limit=limit)
        for start, length, limit in zip(box[:2], box[2:], mask.size_px, strict=True)
    ]


def _lay_grid(box: tuple[int, int, int, int], mask: Plane, *, tile: recipe.Tile, tile_px: int) -> NDArray[np.int64]:
    """A grid over the box; along an axis where the box is shorter than a tile, one tile with the box in its middle."""
    grid = make_grid(box[2], box[3], tile_px=tile_px, overlap_frac=tile.overlap_frac)
    middle = _center(box, mask, tile_px)
    start = [middle[axis] if box[2 + axis] < tile_px else box[axis] for axis in (0, 1)]
    return grid + np.array(start, dtype=np.int64)


def _cover(component: Component, mask: Plane, positions: NDArray[np.int64], side_px: int) -> NDArray[np.float32]:
    """Share of each square's part inside the image that is under this component alone, (N,)."""
    coverage = np.empty(len(positions), dtype=np.float32)
    for i, position in enumerate(positions.tolist()):
        spans, inside = [], 1
        for axis in (0, 1):
            start, stop = max(0, position[axis]), min(position[axis] + side_px, mask.size_px[axis])
            inside *= stop - start
            first, last = (round(v / mask.scale[axis]) - component.box[axis] for v in (start, stop))
            spans.append(slice(max(0, first), max(0, last)))
        count = np.count_nonzero(component.part[spans[0], spans[1]])
        coverage[i] = min(1.0, count * mask.scale[0] * mask.scale[1] / max(1, inside))
    return coverage
