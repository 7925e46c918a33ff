"""Pictures that Pillow reads: their headers, and their pixels as RGB or as one plane."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .failures import data_error, name_failures, refuse_whole
from .files import open_file

# What Pillow may open whatever the suffix says; its other readers are stubs, or start programs (EPS).
PICTURE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

LARGE_PX = 89_478_485  # where Pillow begins to warn; a larger .tif goes to OpenSlide if that is installed
LARGEST_WHOLE_PX = 2 * LARGE_PX  # where Pillow refuses; no slide is read whole beyond it either
LARGEST_BYTES = 4 * LARGEST_WHOLE_PX  # what so many pixels take in Pillow; grey ones, as of masks, take one byte each
NARROW_MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes; all others take four

PLAIN_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"})
EXIF_ORIENTATION = 0x0112
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
    """Pillow without its own limit and without warnings; what fails inside becomes a `DataError` about the file.

    Pillow counts pixels; what matters is the memory that they take (`refuse_large`). Odd metadata are no news to the
    user; damage that matters shows in the pixels.
    """
    global _decoders
    with _free_lock:
        _decoders += 1
        if _decoders == 1:
            _free.append(_free_pillow())
    try:
        with name_failures(path):
            yield
    finally:
        with _free_lock:
            _decoders -= 1
            if _decoders == 0:
                _free.pop().close()


def _free_pillow() -> ExitStack:
    stack = ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.MAX_IMAGE_PIXELS = None
    Image.init()  # the formats asked for must be registered; does nothing the second time
    return stack


@contextmanager
def open_picture(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """The lazy Pillow image and its EXIF orientation; what fails inside becomes a `DataError`."""
    with open_header(path) as (image, orientation), decode_freely(path):
        refuse_large(image, path)
        yield image, orientation


@contextmanager
def open_header(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """The lazy Pillow image, however large, and its EXIF orientation."""
    with open_file(path) as file:
        with decode_freely(path):
            try:
                image = Image.open(file, formats=PICTURE_FORMATS)
            except UnidentifiedImageError:
                raise data_error(
                    path,
                    "unreadable",
                    message=f"is no image that Pillow knows ({_describe_content(file)}).",
                    fix="export it again as PNG or 8-bit TIFF; slides need pip install 'smalti[openslide]'",
                ) from None
            if getattr(image, "is_animated", False) and image.format != "MPO":  # of which the first is the picture
                message = f"holds {image.n_frames} frames."  # type: ignore[attr-defined]
                raise data_error(
                    path, "several-pictures", message=message, fix="save the frame that is meant as a file of its own"
                )
            orientation = _read_orientation(image)
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


def _read_orientation(image: Image.Image) -> int:
    # getexif() would decode a whole PNG, so the block from the header is parsed here.
    block = image.info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    try:
        with name_failures(Path("exif")):
            exif.load(block)
            return int(exif.get(EXIF_ORIENTATION, 1))
    except DataError:
        return 1  # a damaged note beside good pixels


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
    """(height_px, width_px) after `turn`."""
    width_px, height_px = image.size
    return (width_px, height_px) if orientation >= 5 and orientation in TURNS else (height_px, width_px)


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """The image as its EXIF orientation wants it."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def refuse_mode(image: Image.Image, path: Path) -> None:
    """Raise a `DataError` about pixels whose range is not known."""
    if image.mode not in PLAIN_MODES and not image.mode.startswith("I;16"):
        raise data_error(
            path,
            "unsupported-pixels",
            message=f"has pixels of kind '{image.mode}' (32-bit or Lab), whose range is not known.",
            fix="export it as 8-bit or 16-bit RGB or grey",
        )


def shrink(image: Image.Image, longest_px: int | None) -> Image.Image:
    """The image itself, its longer side no more than ``longest_px``."""
    if longest_px is not None:
        image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return image


def is_unfilled(image: Image.Image) -> bool:
    """Whether a picture has an opacity that is 0 everywhere: it was never filled, and the colours count."""
    return image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() == (0, 0)


def drop_opacity(image: Image.Image) -> Image.Image:
    """The whole picture without an opacity that was never filled; any other as it is."""
    return image.convert("RGBA").convert("RGB") if is_unfilled(image) else image


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """RGB by the rules of `smalti.images`."""
    refuse_mode(image, path)
    refuse_whole(path, (image.height, image.width), most_px=LARGEST_WHOLE_PX)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # a copy of the largest picture is 0.7 GB
    colour = image.convert("RGBA")
    paper = Image.new("RGBA", colour.size, "white")
    return Image.alpha_composite(paper, colour).convert("RGB")


def to_planes(image: Image.Image, path: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """One number per pixel, (H, W), of the kind that the file holds; opacity (H, W) where it has one."""
    if image.mode in {"L", "I", "F"} or image.mode.startswith("I;16"):
        return np.asarray(image), None
    refuse_mode(image, path)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L")), None
    colour = image.convert("RGBA")
    return np.asarray(colour.convert("RGB").convert("L")), np.asarray(colour.getchannel("A"))
