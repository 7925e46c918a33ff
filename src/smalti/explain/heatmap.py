"""Values of tiles stitched to a map of the whole image, at a reduced scale where the image is large.

Places that no tile covers are not a number: the network did not look there, which is not the same as a low value.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..tile import TileStore

HEAT_PX = 4096  # longest side of a map; images up to it have one at full resolution, at 64 MB a map

Floats = NDArray[np.float32]


def find_boxes(store: TileStore, position: int) -> NDArray[np.float64]:
    """Return the row, column, height and width in image pixels of every tile of an image, (N, 4); padding lies outside
    it."""
    rows = store.rows(position)
    chosen = np.s_[rows.start : rows.stop]
    sides = store.scale[chosen, None].astype(np.float64) * store.tile_px
    return np.hstack([store.positions[chosen], sides, sides])


def choose_scale(size_px: tuple[int, int]) -> float:
    """Return map pixels per image pixel, at most 1."""
    return min(1.0, HEAT_PX / max(size_px))


def shrink_size(size_px: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the size of the map of an image."""
    return max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale))


def stitch_tiles(values: Floats, boxes: NDArray[np.float64], *, size_px: tuple[int, int], scale: float = 1.0) -> Floats:
    """Return the map of an image, (H * scale, W * scale): mean of the tiles over each place, NaN where there is none.

    Args:
        values: (N,) one value a tile, or (N, h, w) a picture a tile, which is enlarged between its middles.
        boxes: (N, 4) see `find_boxes`.
        size_px: (H, W) of the image.
        scale: map pixels per image pixel.
    """
    height, width = shrink_size(size_px, scale)
    total = np.zeros((height, width), dtype=np.float32)
    count = np.zeros((height, width), dtype=np.uint16)
    for value, (row, col, tall, wide) in zip(values, boxes, strict=True):
        top, left = round(row * scale), round(col * scale)
        bottom, right = max(top + 1, round((row + tall) * scale)), max(left + 1, round((col + wide) * scale))
        inside = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        if value.ndim:
            grown = cv2.resize(value, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
            total[inside] += grown[max(-top, 0) : height - top, max(-left, 0) : width - left]
        else:
            total[inside] += value
        count[inside] += 1
    with np.errstate(invalid="ignore"):
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def share_inside(heat: Floats, mask: Floats) -> tuple[float, float]:
    """Return the share of a map's positive values inside a mask, and the mask's share of the area that was looked at.

    Args:
        heat: (h, w), NaN where nothing was looked at.
        mask: (h, w) share of each place under the mask, 0..1.

    Both are NaN where the map is nowhere positive.
    """
    seen = ~np.isnan(heat)
    mass = np.where(seen, np.maximum(heat, 0), 0).astype(np.float64)
    if not mass.sum() > 0:
        return float("nan"), float("nan")
    return float((mass * mask).sum() / mass.sum()), float(mask[seen].mean(dtype=np.float64))
