"""PNG and JPEG 2000 of more than 8 bits a value, read as stored, for fewer bits may be in use.

Pillow would cut PNG to the high byte; of colours in JPEG 2000 it makes white black.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
from numpy.typing import NDArray

from ..colours import OPACITY, Meaning
from ..failures import data_error, name_failures
from ..pictures import open_header, refuse_large
from ..pyramids import Box
from ..sources import open_file
from .picture import Level, Stored

PNG_START = b"\x89PNG\r\n\x1a\n"
DEPTH_AT, COLOUR_AT = 24, 25  # bytes of a PNG that hold bits a value and kind of colour
KINDS = {0: ("minisblack", ()), 2: ("rgb", ()), 4: ("minisblack", (OPACITY,)), 6: ("rgb", (OPACITY,))}
JP2_START, CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
HEADER = b"ihdr"  # the box of a JP2 with its size, channels, and bits less one; 255 where channels differ
CHANNELS_AT, BITS_AT = 40, 42  # bytes of a codestream
SNIFFED_BYTES = 512
SYCC = b"colr\x01\0\0\0\0\0\x12"  # the box that says that colours are YCbCr


@dataclass(frozen=True)
class Wide:
    """A picture of more than 8 bits a value: what its first bytes say, and what decodes it."""

    form: str
    decode: Callable[[bytes], NDArray[Any]]
    meaning: Meaning


def find_wide(start: bytes) -> Wide | None:
    """Return the kind of a file by its first bytes; None where Pillow reads it right."""
    if start.startswith(PNG_START):
        if len(start) <= COLOUR_AT or start[DEPTH_AT] != 16 or start[COLOUR_AT] not in KINDS:
            return None
        photometric, extras = KINDS[start[COLOUR_AT]]
        return Wide("PNG", imagecodecs.png_decode, Meaning(photometric, "uint16", 16, said=False, extras=extras))
    if start.startswith(CODESTREAM):
        at, bits_at = CHANNELS_AT, BITS_AT
    elif start.startswith(JP2_START) and (box := start.find(HEADER)) > 0:
        at, bits_at = box + 12, box + 14
    else:
        return None
    if len(start) <= bits_at or start[bits_at] == 255:
        return None
    channels, bits, signed = int.from_bytes(start[at : at + 2], "big"), (start[bits_at] & 127) + 1, start[bits_at] > 127
    if channels < 3 or bits <= 8:
        return None
    kind = ("int" if signed else "uint") + ("16" if bits <= 16 else "32")
    # The fourth is taken for the opacity, as Pillow takes it; more are left out.
    extras = tuple([OPACITY, *([0] * channels)][: channels - 3])
    return Wide("JPEG2000", imagecodecs.jpeg2k_decode, Meaning("rgb", kind, bits, said=bits < 16, extras=extras))


@contextmanager
def open_wide(path: Path, wide: Wide, start: bytes) -> Iterator[Stored]:
    """Open the picture in such a file; it is decoded whole when the first of it is asked for.

    Raises:
        DataError: it is damaged, too large, or of colours that are not RGB.
    """
    if SYCC in start:
        message = "holds colours of kind YCbCr in more than 8 bits, which smalti does not convert."
        raise data_error(path, "unsupported-pixels", message=message, fix="export it as 8-bit or 16-bit RGB or grey")
    whole: list[NDArray[Any]] = []
    lock = threading.Lock()

    def read(box: Box) -> NDArray[Any]:
        with lock:
            if not whole:
                with open_file(path) as file:
                    whole.append(wide.decode(file.read()))
        row, col, height, width = box
        return whole[0][row : row + height, col : col + width]

    with open_header(path) as (image, orientation), name_failures(path):
        refuse_large(image, path)
        level = Level((image.height, image.width), read)
        form = f"{wide.form} {wide.meaning.photometric} {wide.meaning.bits}"
        yield Stored(path, (level,), wide.meaning, orientation, form=form)
