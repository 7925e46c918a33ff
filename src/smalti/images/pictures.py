"""Pictures that Pillow reads: their headers, and their pixels as RGB or as one plane."""

from __future__ import annotations

import os
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .failures import data_error, name_failures, refuse_whole
from .sources import open_file

# What Pillow may open whatever the suffix says; its other readers are stubs, or start programs (EPS).
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

LARGE_PX = 89_478_485  # where Pillow begins to warn; a larger .tif goes to OpenSlide if that is installed
LARGEST_WHOLE_PX = 2 * LARGE_PX  # where Pillow refuses; no slide is read whole beyond it either
LARGEST_BYTES = 4 * LARGEST_WHOLE_PX  # memory of as many pixels in Pillow; grey ones, as of masks, take one byte each
NARROW_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes; all others take four

# "I" is a PGM of more than 8 bits, which Pillow spreads over 0..65535 by the largest value that its header allows.
PLAIN_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I"})
EXIF_ORIENTATION = 0x0112
LATE_BYTES = 1 << 16  # at the end of a PNG, among which its EXIF is looked for where its header has none
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's limit and the filters of warnings belong to the whole process: set by the first of the threads that decode,
# given back by the last.
_free_lock = threading.Lock()
_free: list[ExitStack] = []
_decoders = 0


@contextmanager
def decode_freely(path: Path) -> Iterator[None]:
    """Free Pillow of its own limit and of warnings; what fails inside becomes a `DataError` about the file.

    Pillow counts pixels; what matters is the memory that they take (`refuse_large`). Odd metadata are no news to the
    user; damage that matters shows in the pixels.
    """
    global _decoders
    with _free_lock:
        _decoders += 1
        if _decoders == 1:
            stack = ExitStack()
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
            Image.MAX_IMAGE_PIXELS = None
            Image.init()  # the formats asked for must be registered; does nothing the second time
            _free.append(stack)
    try:
        with name_failures(path):
            yield
    finally:
        with _free_lock:
            _decoders -= 1
            if _decoders == 0:
                _free.pop().close()


@contextmanager
def open_picture(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """Open the lazy Pillow image and its EXIF orientation; what fails inside becomes a `DataError`."""
    with open_header(path) as (image, orientation), decode_freely(path):
        refuse_large(image, path)
        yield image, orientation


@contextmanager
def open_header(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """Open the lazy Pillow image, however large, and its EXIF orientation."""
    with open_file(path) as file:
        with decode_freely(path):
            try:
                image = Image.open(file, formats=PICTURE_FORMATS)
            except UnidentifiedImageError:
                message = f"is no image that Pillow knows ({_describe_content(file)})."
                fix = "export it again as PNG or 8-bit TIFF; slides need pip install 'smalti[openslide]'"
                raise data_error(path, "unreadable", message=message, fix=fix) from None
            if getattr(image, "is_animated", False) and image.format != "MPO":  # of which the first is the picture
                message = f"holds {image.n_frames} frames."  # type: ignore[attr-defined]
                fix = "save the frame that is meant as a file of its own"
                raise data_error(path, "several-pictures", message=message, fix=fix)
            block = image.info.get("exif")
            if block is None and image.format == "PNG":
                block = _find_late_exif(file)
            orientation = _read_orientation(block) if block else 1
        with image:
            yield image, orientation


def refuse_large(image: Image.Image, path: Path) -> None:
    """Raise a `DataError` where the decoded picture would take more than `LARGEST_BYTES`."""
    most_px = LARGEST_BYTES // NARROW_MODES.get(image.mode, 4)
    if image.width * image.height > most_px:
        raise data_error(
            path,
            "image-too-large",
            message=f"has more than {most_px // 10**6} million pixels, the limit of what is decoded whole.",
            fix="read it as a slide: pip install 'smalti[openslide]' (tiled TIFF), or export it smaller",
        )


def _read_orientation(block: bytes) -> int:
    """Return the orientation that an EXIF block says. ``getexif()`` would decode a whole PNG for it."""
    exif = Image.Exif()
    try:
        with name_failures(Path("exif")):
            exif.load(block)
            return int(exif.get(EXIF_ORIENTATION, 1))
    except DataError:
        return 1  # a damaged note beside good pixels


def _find_late_exif(file: BinaryIO) -> bytes:
    """Return the EXIF block behind the pixels of a PNG; empty for none. The file stays where it is."""
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LATE_BYTES))
    end = file.read()
    file.seek(at)
    start = end.rfind(b"eXIf")
    if start < 4:
        return b""
    stop = start + 4 + int.from_bytes(end[start - 4 : start], "big")
    sound = int.from_bytes(end[stop : stop + 4], "big") == zlib.crc32(end[start:stop])
    return end[start + 4 : stop] if sound else b""  # else these letters are part of the pixels


def _describe_content(file: BinaryIO) -> str:
    file.seek(0)
    start = file.read(512)
    if not start:
        return "the file is empty"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "it holds a web page: the download failed"
    if text.startswith(b"version https://git-lfs"):
        return "it holds a Git LFS pointer: run 'git lfs pull'"
    return f"it begins with {start[:8]!r}"


def find_turned_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Return (height_px, width_px) after `turn`."""
    width_px, height_px = image.size
    return (width_px, height_px) if orientation >= 5 and orientation in TURNS else (height_px, width_px)


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image as its EXIF orientation wants it."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def refuse_mode(image: Image.Image, path: Path) -> None:
    """Raise a `DataError` about pixels whose range is not known."""
    if image.mode not in PLAIN_MODES and not image.mode.startswith("I;16"):
        message = f"has pixels of kind '{image.mode}' (32-bit or Lab), whose range is not known."
        raise data_error(path, "unsupported-pixels", message=message, fix="export it as 8-bit or 16-bit RGB or grey")


def shrink(image: Image.Image, longest_px: int | None) -> Image.Image:
    """Return the image itself, its longer side no more than ``longest_px``."""
    if longest_px is not None:
        image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return image


def is_unfilled(image: Image.Image) -> bool:
    """Return whether a picture has an opacity that is 0 everywhere: it was never filled, and the colours count."""
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def drop_opacity(image: Image.Image) -> Image.Image:
    """Return the whole picture without an opacity that was never filled; any other as it is."""
    return image.convert("RGBA").convert("RGB") if is_unfilled(image) else image


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Return RGB by the rules of `smalti.images`."""
    refuse_mode(image, path)
    refuse_whole(path, (image.height, image.width), most_px=LARGEST_WHOLE_PX)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # a copy of the largest picture is 0.7 GB
    colour = image.convert("RGBA")
    paper = Image.new("RGBA", colour.size, "white")
    return Image.alpha_composite(paper, colour).convert("RGB")
