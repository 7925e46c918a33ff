"""Maps of 0 and 1 over an image: masks, tissue, paint; as fine as the image, or coarser where that is large."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .grid import measure_coverage


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A map over an image.

    Attributes:
        pixels: (h, w) of 0 and 1.
        scale: image pixels per pixel of the map, down and across; (1, 1) for a map as fine as the image.
        size_px: (height_px, width_px) of the image.
    """

    pixels: NDArray[np.uint8]
    scale: tuple[float, float]
    size_px: tuple[int, int]

    @classmethod
    def over(cls, pixels: NDArray[np.uint8], size_px: tuple[int, int]) -> Plane:
        """Return the map that spreads over an image of this size."""
        return cls(pixels, (size_px[0] / pixels.shape[0], size_px[1] / pixels.shape[1]), size_px)

    def cover(self, positions: NDArray[np.int64], *, side_px: int) -> NDArray[np.float32]:
        """Return share of squares of the image that is 1, (N,); exact for the map; what lies outside does not count."""
        return measure_coverage(self.pixels, positions, tile_px=side_px, scale=self.scale)

    def crop(self, row_px: int, col_px: int, *, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return a rectangle inside the image, (height_px, width_px) of 0 and 1: the nearest value of the map."""
        if self.scale == (1, 1):
            return self.pixels[row_px : row_px + height_px, col_px : col_px + width_px]
        rows, cols = (
            np.minimum((np.arange(start, start + count) / scale).astype(np.int64), limit - 1)
            for start, count, scale, limit in zip(
                (row_px, col_px), (height_px, width_px), self.scale, self.pixels.shape, strict=True
            )
        )
        return self.pixels[np.ix_(rows, cols)]

    def window(self, row_px: int, col_px: int, *, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return the part of the map over a rectangle inside the image, as fine as the map is."""
        rows, cols = (
            slice(int(start / scale), max(int(start / scale) + 1, int(np.ceil((start + length) / scale))))
            for start, length, scale in zip((row_px, col_px), (height_px, width_px), self.scale, strict=True)
        )
        return self.pixels[rows, cols]

    def bound(self) -> tuple[int, int, int, int]:
        """Return row, column, height, width in the image of the box around the ones.

        The whole image where there is none.
        """
        col, row, width, height = cv2.boundingRect(self.pixels)
        if not width:
            return (0, 0, *self.size_px)
        (first, last), (left, right) = (
            (int(start * scale), min(limit, int(np.ceil((start + count) * scale))))
            for start, count, scale, limit in zip((row, col), (height, width), self.scale, self.size_px, strict=True)
        )
        return first, left, last - first, right - left
