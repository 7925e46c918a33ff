"""Masks as planes of 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .colours import to_colours
from .failures import data_error, name_failures, refuse_whole
from .integrity import check_whole
from .opening import open_stored
from .pictures import LARGEST_WHOLE_PX, open_picture, to_planes, turn
from .pyramids import BAND_PX
from .slides import find_slide_size, is_slide, open_slide, read_slide_region
from .stored import Stored

Planes = tuple[NDArray[Any], NDArray[np.uint8] | None]  # light and opacity


def read_mask(path: Path, *, most_px: int | None = None) -> tuple[NDArray[np.uint8], bool]:
    """A mask as (H, W) of 0 and 1, and whether it held grey levels.

    Colours become luminance. The foreground is what lies at or above half of the mask's own value range,
    (smallest + largest) / 2, so that 0/1, 0/255 and 16-bit masks all work; a mask of one value is all foreground
    unless that value is 0. Where the colour is the same everywhere and the opacity is not, the opacity is the mask;
    otherwise transparent pixels count as black. The flag is True when there were more than two values.

    With ``most_px`` a larger mask is given at every n-th row and column, from the first of each, by the smallest n
    that leaves about so many pixels; range and flag are those of all pixels. It is decoded in bands, so that little
    more than what a file without bands takes (PNG: a byte a pixel) is held.

    Raises:
        DataError, MissingExtraError: as `read_image`, without ``most_px`` also of the size; a float mask that is not
            finite is damaged.
    """
    with _open_bands(path, whole=most_px is None) as ((height_px, width_px), read):
        step = 1 if most_px is None else max(1, math.ceil(math.sqrt(height_px * width_px / most_px)))
        light, opacity, shown = _Levels(path, step), _Levels(path, step), _Levels(path, step)
        rows = height_px if step == 1 else max(1, BAND_PX // width_px // step) * step
        for row in range(0, height_px, rows):
            bright, solid = read(row, min(row + rows, height_px))
            light.add(bright)
            if solid is not None:
                opacity.add(solid)
                shown.add((bright.astype(np.uint16) * solid + 127) // 255)
    if not opacity.parts or opacity.low == opacity.high:
        return light.cut()
    return opacity.cut() if light.low == light.high else shown.cut()


@contextmanager
def _open_bands(path: Path, *, whole: bool) -> Iterator[tuple[tuple[int, int], Any]]:
    """Size and a function from first and last row to the planes between them."""
    if is_slide(path):
        with open_slide(path) as slide:
            height_px, width_px = find_slide_size(slide)

            def read_slide(row: int, stop: int) -> Planes:
                return np.asarray(read_slide_region(slide, (row, 0, stop - row, width_px)).convert("L")), None

            yield (height_px, width_px), read_slide
        return
    with open_stored(path) as stored:
        if stored is not None:
            if whole:
                refuse_whole(path, stored.size_px, most_px=LARGEST_WHOLE_PX)
            with name_failures(path):
                yield stored.size_px, lambda row, stop: _split_stored(stored, row, stop)
            return
    with open_picture(path) as (image, orientation):
        if whole:
            refuse_whole(path, (image.height, image.width), most_px=LARGEST_WHOLE_PX)
        image.load()
        check_whole(image, path)
        turned = turn(image, orientation)

        def read_picture(row: int, stop: int) -> Planes:
            whole = stop - row == turned.height
            return to_planes(turned if whole else turned.crop((0, row, turned.width, stop)), path)

        yield (turned.height, turned.width), read_picture


def _split_stored(stored: Stored, row: int, stop: int) -> Planes:
    values = stored.read((row, 0, stop - row, stored.size_px[1]))
    if values.ndim == 2 and stored.meaning.palette is None:
        return values.max() - values if stored.meaning.photometric == "miniswhite" else values, None
    colours = to_colours(values, stored.meaning, bits=stored.meaning.bits, ends=None)
    alpha = None if stored.meaning.alpha is None else values[..., stored.meaning.alpha]
    return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L")), alpha


@dataclass
class _Levels:
    """The values of one plane, band after band: what every ``step``-th pixel holds, and the range of all."""

    path: Path
    step: int
    parts: list[NDArray[Any]] = field(default_factory=list)
    ends: set[float] = field(default_factory=set)
    between: bool = False

    @property
    def low(self) -> float:
        return min(self.ends)

    @property
    def high(self) -> float:
        return max(self.ends)

    def add(self, band: NDArray[Any]) -> None:
        if not np.isfinite(band).all():
            raise data_error(
                self.path, "unreadable", message="holds values that are not finite.", fix="export the mask as 0 and 255"
            )
        low, high = band.min(), band.max()
        self.between |= bool(((band != low) & (band != high)).any())
        self.ends |= {float(low), float(high)}
        self.parts.append(band if self.step == 1 else band[:: self.step, :: self.step].copy())

    def cut(self) -> tuple[NDArray[np.uint8], bool]:
        plane = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        if self.low == self.high:
            return np.full(plane.shape, int(self.high != 0), dtype=np.uint8), False
        return (plane >= (self.low + self.high) / 2).astype(np.uint8), self.between or len(self.ends) > 2
