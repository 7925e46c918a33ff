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

from .colours import count_bits, refuse_range, to_colours
from .failures import name_failures, refuse_outside, refuse_whole
from .opening import open_stored
from .pictures import (
    LARGEST_WHOLE_PX,
    decode_freely,
    drop_opacity,
    find_turned_size,
    open_header,
    open_picture,
    refuse_large,
    shrink,
    to_rgb,
    turn,
)
from .pyramids import BAND_PX, Box, read_shrunk
from .slides import find_slide_size, is_slide, load_slide, open_slide, read_slide_region
from .stored.picture import Stored


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
    _decoded: bool = field(default=False, init=False, repr=False)
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
            if not self._decoded:
                self.image.load()
                self.image, self.orientation = drop_opacity(turn(self.image, self.orientation)), 1
                self._decoded = True
            return self.image


@dataclass(frozen=True)
class StoredRegions:
    """Regions of a picture whose values are read as stored; each decodes the strips or tiles that it needs.

    Attributes:
        stored: the open picture.
        bits: bits of its 16-bit values that are in use, where the file does not say; None: as its largest value tells.
    """

    stored: Stored
    bits: int | None

    @property
    def size_px(self) -> tuple[int, int]:
        """(height_px, width_px)."""
        return self.stored.size_px

    def read(
        self, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
    ) -> NDArray[np.uint8]:
        """As `read_region`."""
        path, box = self.stored.path, (row_px, col_px, height_px, width_px)
        refuse_outside(path, box[:2], wanted=box[2:], size=self.size_px)
        if longest_px is None:
            refuse_whole(path, box[2:], most_px=LARGEST_WHOLE_PX)
        with name_failures(path):
            refuse_range(self.stored.meaning, path)
            if longest_px is None:
                return self._convert(self.stored.read(box), box)
            # Stored levels may have been made in any way, so a small picture is shrunk from its own pixels.
            count = len(self.stored.levels) if height_px * width_px > BAND_PX else 1
            downsamples = [self.size_px[0] / self.stored.find_size(i)[0] for i in range(count)]
            return np.array(read_shrunk(box, longest_px=longest_px, downsamples=downsamples, read=self._read_level))

    def _read_level(self, box: Box, level: int) -> Image.Image:
        if level == 0:
            return Image.fromarray(self._convert(self.stored.read(box), box))
        (height, width), (whole_height, whole_width) = self.stored.find_size(level), self.size_px
        top, left = round(box[0] * height / whole_height), round(box[1] * width / whole_width)
        low, right = round((box[0] + box[2]) * height / whole_height), round((box[1] + box[3]) * width / whole_width)
        top, left = min(top, height - 1), min(left, width - 1)
        part = (top, left, max(1, min(low, height) - top), max(1, min(right, width) - left))
        return Image.fromarray(self._convert(self.stored.read(part, level=level), None))

    def _convert(self, values: NDArray[Any], box: Box | None) -> NDArray[np.uint8]:
        whole = values if box is not None and box[2:] == self.size_px else None
        return convert_stored(self.stored, values, bits=self.bits, whole=whole)


def convert_stored(
    stored: Stored, values: NDArray[Any], *, bits: int | None, whole: NDArray[Any] | None = None
) -> NDArray[np.uint8]:
    """Values of a picture as (H, W, 3) RGB; ``whole`` are all of them, where they are at hand."""
    meaning = stored.meaning
    in_use = meaning.bits if meaning.said else bits
    ends = stored.find_ends(whole) if in_use is None or meaning.alpha is not None else None
    if in_use is None:
        assert ends is not None
        in_use = count_bits(ends.colour)
    return np.ascontiguousarray(to_colours(values, meaning, bits=in_use, ends=ends))


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
def open_regions(path: Path, *, bits: int | None = None) -> Iterator[Regions]:
    """The image, open for several reads; ``bits`` as in `read_image`.

    Raises:
        DataError, MissingExtraError: as `read_region`.
    """
    if is_slide(path):
        with load_slide(path) as slide:
            yield SlideRegions(path, slide)
        return
    with open_stored(path) as stored:
        if stored is not None:
            yield StoredRegions(stored, bits)
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


def read_image(path: Path, *, bits: int | None = None) -> NDArray[np.uint8]:
    """Pixels as (H, W, 3) RGB in 0..255, converted by the rules at the top of `smalti.images`.

    ``bits`` says how many bits of 16-bit values are in use, where the file does not; None takes the fewest of 8, 10,
    12, 14 and 16 that hold its largest value.

    Raises:
        DataError: the file is missing, damaged, too large to be read whole, of a kind that is refused, or no image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    with open_regions(path, bits=bits) as regions:
        height_px, width_px = regions.size_px
        return regions.read(0, 0, height_px=height_px, width_px=width_px)


def read_region(
    path: Path,
    row_px: int,
    col_px: int,
    *,
    height_px: int,
    width_px: int,
    longest_px: int | None = None,
    bits: int | None = None,
) -> NDArray[np.uint8]:
    """The rectangle from (row_px, col_px), (height_px, width_px, 3) RGB at full resolution.

    With ``longest_px`` it is shrunk so that its longer side has no more than that. Cheap for slides and tiled TIFF; any
    other image is decoded whole. For several regions of one image see `open_regions`; ``bits`` as in `read_image`.

    Raises:
        DataError: as `read_image`, or the rectangle does not lie inside the image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    with open_regions(path, bits=bits) as regions:
        return regions.read(row_px, col_px, height_px=height_px, width_px=width_px, longest_px=longest_px)


def read_thumbnail(path: Path, *, longest_px: int, bits: int | None = None) -> NDArray[np.uint8]:
    """The whole image, (h, w, 3) RGB, shrunk so that its longer side has ``longest_px``; never enlarged.

    Raises:
        DataError, MissingExtraError: as `read_image`; but a slide may be of any size.
    """
    if is_slide(path):
        with open_slide(path) as slide:
            return np.array(read_slide_region(slide, (0, 0, *find_slide_size(slide)), longest_px=longest_px))
    with open_stored(path) as stored:
        if stored is not None:
            height_px, width_px = stored.size_px
            regions = StoredRegions(stored, bits)
            return regions.read(0, 0, height_px=height_px, width_px=width_px, longest_px=longest_px)
    with open_picture(path) as (image, orientation):
        image.draft(None, (2 * longest_px, 2 * longest_px))  # lets a JPEG be decoded at 1/2, 1/4, 1/8
        whole = drop_opacity(turn(image, orientation))
        return np.array(shrink(to_rgb(whole, path), longest_px))
