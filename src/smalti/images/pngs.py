"""PNG of 16 bits a value, which Pillow would cut to the high byte: read as stored, for fewer bits may be in use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from .colours import OPACITY, Meaning
from .failures import name_failures
from .files import open_file
from .pictures import open_header, refuse_large
from .pyramids import Box
from .stored import Level, Stored

START = b"\x89PNG\r\n\x1a\n"
DEPTH_AT, COLOUR_AT = 24, 25  # bytes of the file that hold bits a value and kind of colour
KINDS = {0: ("minisblack", ()), 2: ("rgb", ()), 4: ("minisblack", (OPACITY,)), 6: ("rgb", (OPACITY,))}
SNIFFED_BYTES = 26


def is_wide_png(start: bytes) -> bool:
    """Whether a file that begins so is a PNG of 16 bits a value."""
    return start.startswith(START) and len(start) > COLOUR_AT and start[DEPTH_AT] == 16 and start[COLOUR_AT] in KINDS


@contextmanager
def open_wide_png(path: Path, colour: int) -> Iterator[Stored]:
    """The picture in a PNG of 16 bits a value; it is decoded whole when the first of it is asked for."""
    photometric, extras = KINDS[colour]
    whole: list[NDArray[Any]] = []
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        with lock:
            if not whole:
                with open_file(path) as file:
                    whole.append(imagecodecs.png_decode(file.read()))
        row, col, height, width = box
        return whole[0][row : row + height, col : col + width]

    with open_header(path) as (image, orientation), name_failures(path):
        refuse_large(image, path)
        level = Level((image.height, image.width), read)
        meaning = Meaning(photometric, "uint16", 16, said=False, extras=extras)
        yield Stored(path, (level,), meaning, orientation, form=f"PNG {photometric} 16")
