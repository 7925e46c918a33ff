"""Pixels as RGB: whole, by region from a file that is opened once, or shrunk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import Problem
from .failures import name_failures, refuse_outside, refuse_whole
from .integrity import check_strips, check_whole, find_doubts
from .pictures import (
    LARGEST_WHOLE_PX,
    decode_freely,
    find_turned_size,
    open_header,
    open_picture,
    refuse_large,
    refuse_mode,
    shrink,
    to_rgb,
    turn,
)
from .slides import find_slide_size, is_slide, load_slide, open_slide, read_slide_region


class Regions(Protocol):
    """An image that stays open while several of its regions are read; threads may share it."""

    @property
    def size_px(self) -> tuple[int, int]:
        """(height_px, width_px)."""

    def read(
        self, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
    ) -> NDArray[np.uint8]:
        """As `read_region`."""


@dataclass
class PictureRegions:
    """Regions of what Pillow reads: decoded whole at the first of them, and kept as Pillow keeps it."""

    path: Path
    image: Image.Image
    orientation: int
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def size_px(self) -> tuple[int, int]:
        """(height_px, width_px)."""
        return find_turned_size(self.image, self.orientation)

    def read(
        self, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
    ) -> NDArray[np.uint8]:
        """As `read_region`."""
        refuse_outside(self.path, (row_px, col_px), wanted=(height_px, width_px), size=self.size_px)
        if longest_px is None:
            refuse_whole(self.path, (height_px, width_px), most_px=LARGEST_WHOLE_PX)
        with decode_freely(self.path):
            part = self._decode()
            if longest_px is not None or (height_px, width_px) != self.size_px:
                part = part.crop((col_px, row_px, col_px + width_px, row_px + height_px))
            return np.array(shrink(to_rgb(part, self.path), longest_px))

    def _decode(self) -> Image.Image:
        with self._lock:
            self.image.load()
            self.image, self.orientation = turn(self.image, self.orientation), 1
            return self.image


@dataclass(frozen=True)
class SlideRegions:
    """Regions of a whole-slide file."""

    path: Path
    slide: Any

    @property
    def size_px(self) -> tuple[int, int]:
        """(height_px, width_px)."""
        return find_slide_size(self.slide)

    def read(
        self, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
    ) -> NDArray[np.uint8]:
        """As `read_region`."""
        refuse_outside(self.path, (row_px, col_px), wanted=(height_px, width_px), size=self.size_px)
        if longest_px is None:
            refuse_whole(self.path, (height_px, width_px), most_px=LARGEST_WHOLE_PX)
        with name_failures(self.path):
            return np.array(read_slide_region(self.slide, (row_px, col_px, height_px, width_px), longest_px=longest_px))


@contextmanager
def open_regions(path: Path) -> Iterator[Regions]:
    """The image, open for several reads.

    Raises:
        DataError, MissingExtraError: as `read_region`.
    """
    if is_slide(path):
        with load_slide(path) as slide:
            yield SlideRegions(path, slide)
        return
    with open_header(path) as (image, orientation):
        refuse_large(image, path)
        yield PictureRegions(path, image, orientation)


def read_size(path: Path) -> tuple[int, int]:
    """Size (height_px, width_px) as `read_image` would give it, from the header alone.

    Raises:
        DataError: the file is missing, damaged, too large or no image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    with open_regions(path) as regions:
        return regions.size_px


def check_image(path: Path, *, doubts: list[Problem] | None = None) -> tuple[int, int]:
    """Decode every pixel, so that a damaged file shows, and return (height_px, width_px).

    Of a slide, only the header and the last corner are read. What may not be meant is added to ``doubts``: a file of
    several pictures, a JPEG that seems to end early.

    Raises:
        DataError, MissingExtraError: as `read_image`; but a slide may be of any size.
    """
    if is_slide(path):
        with open_slide(path) as slide:
            height_px, width_px = find_slide_size(slide)
            side_px = min(256, height_px, width_px)
            slide.read_region((width_px - side_px, height_px - side_px), 0, (side_px, side_px))
            return height_px, width_px
    with open_picture(path) as (image, orientation):
        refuse_mode(image, path)
        size_px = find_turned_size(image, orientation)
        refuse_whole(path, size_px, most_px=LARGEST_WHOLE_PX)
        check_strips(image, path)
        image.load()
        check_whole(image, path)
        if image.mode in {"P", "PA"}:
            to_rgb(image, path)  # the palette may not be there
        if doubts is not None:
            doubts += find_doubts(image, path)
        return size_px


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels as (H, W, 3) RGB in 0..255, converted by the rules at the top of `smalti.images`.

    Raises:
        DataError: the file is missing, damaged, too large to be read whole, of a kind that is refused, or no image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    with open_regions(path) as regions:
        height_px, width_px = regions.size_px
        return regions.read(0, 0, height_px=height_px, width_px=width_px)


def read_region(
    path: Path, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
) -> NDArray[np.uint8]:
    """The rectangle from (row_px, col_px), (height_px, width_px, 3) RGB at full resolution.

    With ``longest_px`` it is shrunk so that its longer side has no more than that. Cheap for slides; any other image
    is decoded whole. For several regions of one image see `open_regions`.

    Raises:
        DataError: as `read_image`, or the rectangle does not lie inside the image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    with open_regions(path) as regions:
        return regions.read(row_px, col_px, height_px=height_px, width_px=width_px, longest_px=longest_px)


def read_thumbnail(path: Path, *, longest_px: int) -> NDArray[np.uint8]:
    """The whole image, (h, w, 3) RGB, shrunk so that its longer side has ``longest_px``; never enlarged.

    Raises:
        DataError, MissingExtraError: as `read_image`; but a slide may be of any size.
    """
    if is_slide(path):
        with open_slide(path) as slide:
            return np.array(read_slide_region(slide, (0, 0, *find_slide_size(slide)), longest_px=longest_px))
    with open_picture(path) as (image, orientation):
        image.draft(None, (2 * longest_px, 2 * longest_px))  # lets a JPEG be decoded at 1/2, 1/4, 1/8
        return np.array(shrink(to_rgb(turn(image, orientation), path), longest_px))
