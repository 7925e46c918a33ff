"""Draw pictures for the page from files inside one folder; each is decoded once, within bounds of memory."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(eq=False)
class Shelf(Generic[Thing]):
    """Keep what was used last, within a number of bytes; safe between threads."""

    most_bytes: int
    held_bytes: int = 0
    _things: OrderedDict[object, tuple[Thing, int]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: object) -> Thing | None:
        """Return what was put there; None if it had to make room."""
        with self._lock:
            if key not in self._things:
                return None
            self._things.move_to_end(key)
            return self._things[key][0]

    def put(self, key: object, thing: Thing, *, size_bytes: int) -> None:
        """Keep something; what was not used for longest is dropped."""
        with self._lock:
            if key in self._things or size_bytes > self.most_bytes:
                return
            self._things[key] = (thing, size_bytes)
            self.held_bytes += size_bytes
            while self.held_bytes > self.most_bytes:
                self.held_bytes -= self._things.popitem(last=False)[1][1]


class Pictures:
    """Draw files that lie inside a folder; links out of it are not followed.

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
        """Return (height_px, width_px) from the header alone."""
        self._refuse_outside(path)
        return read_size(path)

    def draw_picture(self, path: Path, *, longest_px: int, box: tuple[int, int, int, int] | None = None) -> bytes:
        """Return a JPEG of the picture, its longer side no more than ``longest_px``.

        Args:
            path: the file.
            longest_px: size of the JPEG; small pictures are not enlarged.
            box: draw this part only, (row_px, col_px, height_px, width_px).

        Raises:
            DataError: the box does not lie inside the picture, or the picture cannot be read.
        """

        def draw() -> bytes:
            bits, pixels = self._bits.get(path), self._pixels.get(stamp_file(path))
            if box is None:
                part = read_thumbnail(path, longest_px=longest_px, bits=bits) if pixels is None else pixels
            else:
                row, col, height, width = box
                if pixels is None and path.suffix.lower() not in SLIDE_SUFFIXES and np.prod(read_size(path)) <= KEPT_PX:
                    pixels = read_image(path, bits=bits)
                    self._pixels.put(stamp_file(path), pixels, size_bytes=pixels.nbytes)
                inside = pixels is not None and min(row, col) >= 0 and min(height, width) >= 1
                if pixels is None or not inside or row + height > len(pixels) or col + width > len(pixels[0]):
                    part = read_region(
                        path, row, col, height_px=height, width_px=width, longest_px=longest_px, bits=bits
                    )  # it says what is wrong with the box
                else:
                    part = pixels[row : row + height, col : col + width]
            scale = longest_px / max(part.shape[:2])
            if scale < 1:
                size = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
                part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            return cv2.imencode(".jpg", part[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()

        return self._draw(path, (box, longest_px), draw)

    def draw_outline(self, path: Path, reading: MaskReading) -> bytes:
        """Return JSON polygons [[row, col], ...] around the foreground of a mask, as shares of its height and width."""

        def draw() -> bytes:
            mask = read_mask(path, reading=reading, most_px=WHOLE_PX)[0]
            scale = min(1.0, OUTLINE_PX / max(mask.shape))
            size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
            small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            contours, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            sides = np.array([size[1], size[0]])
            corners = (cv2.approxPolyDP(contour, OUTLINE_ERROR_PX, True)[:, 0, ::-1] for contour in contours)
            return json.dumps([np.round((points + 0.5) / sides, 5).tolist() for points in corners]).encode()

        for part in reading.more:
            self._refuse_outside(part)
        return self._draw(path, ("outline", reading, *map(stamp_file, reading.more)), draw)

    def _draw(self, path: Path, what: tuple[object, ...], draw: Callable[[], bytes]) -> bytes:
        self._refuse_outside(path)
        key = (*stamp_file(path), *what)
        if (known := self._drawn.get(key)) is not None:
            return known
        height_px, width_px = read_size(path)
        with self._large if height_px * width_px > LARGE_PX else self._small:
            drawn = self._drawn.get(key) or draw()  # another thread may have drawn it meanwhile
        self._drawn.put(key, drawn, size_bytes=len(drawn))
        return drawn

    def _refuse_outside(self, path: Path) -> None:
        try:
            inside = path.resolve().is_relative_to(self._root)
        except RuntimeError:  # a ring of links; in later Pythons opening the file finds it
            inside = True
        if not inside:
            message = "is a link to a file outside the data folder, which this page does not show."
            fix = "copy the file into the data folder, or review the folder that holds it"
            raise DataError("an image is not shown", [Problem("outside", str(path), message, fix)])
        if path.exists() and not path.is_file():
            problem = Problem("unreadable", str(path), "is no ordinary file.", "put the image there")
            raise DataError("an image is not shown", [problem])  # a pipe would keep the page waiting for ever


def stamp_file(path: Path) -> tuple[str, int, int, int]:
    """Return path, size in bytes, and times in ns; -1 each if there is no file. It differs once the file changed."""
    try:
        state = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns  # programs cannot set the last one back
