"""Pictures for the page: drawn anew from files inside one folder, decoded once, within bounds of memory."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, Problem
from ..images import SLIDE_SUFFIXES, WHOLE_PX, read_image, read_mask, read_region, read_size, read_thumbnail
from ..types import MaskReading

LARGE_PX = 32_000_000  # while such a picture is decoded it takes 0.1 to 0.8 GB, so one at a time
KEPT_PX = 64_000_000  # pictures up to this size are kept decoded, together within the next bound
PIXELS_BYTES = 400_000_000
DRAWN_BYTES = 100_000_000  # some thousand thumbnails
OUTLINE_PX = 2048  # longer side of the mask in which its outline is followed
OUTLINE_ERROR_PX = 0.5

Thing = TypeVar("Thing")


class Shelf(Generic[Thing]):
    """Keeps what was made last, within a number of bytes; safe between threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._things: OrderedDict[object, tuple[Thing, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.held_bytes = 0

    def get(self, key: object) -> Thing | None:
        """What was put there, unless it had to make room."""
        with self._lock:
            if key not in self._things:
                return None
            self._things.move_to_end(key)
            return self._things[key][0]

    def put(self, key: object, thing: Thing, *, size_bytes: int) -> None:
        """Keep something; what was not asked for longest goes."""
        with self._lock:
            if key in self._things or size_bytes > self._most_bytes:
                return
            self._things[key] = (thing, size_bytes)
            self.held_bytes += size_bytes
            while self.held_bytes > self._most_bytes:
                self.held_bytes -= self._things.popitem(last=False)[1][1]


class Pictures:
    """Pictures of files that lie inside a folder, whatever links say.

    Args:
        root: the folder. A file outside it is refused with a `DataError`.
        bits: of files with 16-bit values, how many are in use (`Sample.bits`).
    """

    def __init__(self, root: Path, *, bits: Mapping[Path, int | None] = MappingProxyType({})) -> None:
        self._root = root.resolve()
        self._bits = bits
        self._pixels: Shelf[NDArray[np.uint8]] = Shelf(PIXELS_BYTES)
        self._drawn: Shelf[bytes] = Shelf(DRAWN_BYTES)
        self._small = threading.Semaphore(2)
        self._large = threading.Semaphore(1)

    def read_size(self, path: Path) -> tuple[int, int]:
        """(height_px, width_px) from the header alone."""
        self._refuse_outside(path)
        return read_size(path)

    def draw_whole(self, path: Path, *, longest_px: int) -> bytes:
        """JPEG of the whole picture, its longer side no more than ``longest_px``."""

        def draw() -> bytes:
            pixels = self._pixels.get(_key(path))
            if pixels is None:
                return _encode(read_thumbnail(path, longest_px=longest_px, bits=self._bits.get(path)))
            return _encode(_shrink(pixels, longest_px))

        return self._draw(path, ("whole", longest_px), draw)

    def draw_region(self, path: Path, box: tuple[int, int, int, int], *, longest_px: int) -> bytes:
        """JPEG of the box (row_px, col_px, height_px, width_px), its longer side no more than ``longest_px``.

        Raises:
            DataError: the box does not lie inside the picture, or the picture cannot be read.
        """

        def draw() -> bytes:
            row_px, col_px, height_px, width_px = box
            pixels = self._read_pixels(path)
            inside = pixels is not None and min(row_px, col_px) >= 0 and min(height_px, width_px) >= 1
            if pixels is None or not inside or row_px + height_px > len(pixels) or col_px + width_px > len(pixels[0]):
                part = read_region(
                    path,
                    row_px,
                    col_px,
                    height_px=height_px,
                    width_px=width_px,
                    longest_px=longest_px,
                    bits=self._bits.get(path),
                )  # it says what is wrong with the box
            else:
                part = _shrink(pixels[row_px : row_px + height_px, col_px : col_px + width_px], longest_px)
            return _encode(part)

        return self._draw(path, ("region", box, longest_px), draw)

    def draw_outline(self, path: Path, reading: MaskReading) -> bytes:
        """JSON list of polygons [[row, col], ...] around the foreground of a mask, in parts of its height and width."""

        def draw() -> bytes:
            return json.dumps(_follow_outline(read_mask(path, reading=reading, most_px=WHOLE_PX)[0])).encode()

        for part in reading.more:
            self._refuse_outside(part)
        return self._draw(path, ("outline", reading, *map(_key, reading.more)), draw)

    def _draw(self, path: Path, what: tuple[object, ...], draw: Callable[[], bytes]) -> bytes:
        self._refuse_outside(path)
        key = (*_key(path), *what)
        if (known := self._drawn.get(key)) is not None:
            return known
        with self._decoder(path):
            drawn = self._drawn.get(key) or draw()  # another thread may have been at it
        self._drawn.put(key, drawn, size_bytes=len(drawn))
        return drawn

    def _read_pixels(self, path: Path) -> NDArray[np.uint8] | None:
        """The whole picture where it is small enough to be kept."""
        if (known := self._pixels.get(_key(path))) is not None:
            return known
        height_px, width_px = read_size(path)
        if height_px * width_px > KEPT_PX or path.suffix.lower() in SLIDE_SUFFIXES:
            return None
        pixels = read_image(path, bits=self._bits.get(path))
        self._pixels.put(_key(path), pixels, size_bytes=pixels.nbytes)
        return pixels

    def _decoder(self, path: Path) -> AbstractContextManager[object]:
        height_px, width_px = read_size(path)
        return self._large if height_px * width_px > LARGE_PX else self._small

    def _refuse_outside(self, path: Path) -> None:
        try:
            inside = path.resolve().is_relative_to(self._root)
        except RuntimeError:  # a ring of links; later Pythons let the opener find out
            inside = True
        if not inside:
            message = "is a link to a file outside the data folder, which this page does not show."
            fix = "copy the file into the data folder, or look at the folder that holds it"
            raise DataError("an image is not shown", [Problem("outside", str(path), message, fix)])
        if path.exists() and not path.is_file():
            problem = Problem("unreadable", str(path), "is no ordinary file.", "put the image there")
            raise DataError("an image is not shown", [problem])  # a pipe would keep the page waiting for ever


def _key(path: Path) -> tuple[str, int, int, int]:
    try:
        state = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns  # which nobody sets back


def _shrink(pixels: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    scale = longest_px / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _follow_outline(mask: NDArray[np.uint8]) -> list[list[list[float]]]:
    scale = min(1.0, OUTLINE_PX / max(mask.shape))
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    sides = np.array([size[1], size[0]])
    outlines = []
    for contour in contours:
        corners = cv2.approxPolyDP(contour, OUTLINE_ERROR_PX, True)[:, 0, ::-1]
        outlines.append(np.round((corners + 0.5) / sides, 5).tolist())
    return outlines
