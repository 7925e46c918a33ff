"""Open any supported image; nothing else in smalti opens image files.

How pixels become 8-bit RGB:

    8 bits per channel   as they are; an embedded colour profile is not applied
    16 bits per channel  the high byte (linear, full range: value >> 8)
    grey                 repeated into three channels
    1 bit                0 and 255
    palette              the palette's colours
    alpha                laid over white, as paper would show it
    CMYK, YCbCr, HSV     Pillow's conversion
    32-bit, Lab          refused: their range is not known
    EXIF orientation     applied (the TIFF tag likewise); a mask is turned like its image
    several frames       the first

Whole-slide files are read with OpenSlide (extra ``openslide``), at the highest resolution, over white. A ``.tif`` goes
there only when it is too large for Pillow or Pillow does not know it.
"""

from __future__ import annotations

import importlib.util
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from .errors import DataError, MissingExtraError, Problem

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".vms", ".vmu", ".bif")
TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".bmp", ".webp", ".gif", ".jp2", *SLIDE_SUFFIXES)

# What Pillow may open whatever the suffix says; its other readers are stubs, or start programs (EPS).
PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

LARGE_PX = 89_478_485  # where Pillow begins to warn; a larger .tif goes to OpenSlide if that is installed
LARGEST_WHOLE_PX = 2 * LARGE_PX  # where Pillow refuses; no slide is read whole beyond it either
PLAUSIBLE_MPP = (0.05, 20.0)  # outside, a resolution tag speaks of print (96 dpi is 265 um), not of a microscope

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
# What Pillow's readers raise on damaged bytes; OSError is the usual one.
DAMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error)

# warnings.catch_warnings changes the whole process, so two threads must not be inside it at once.
_header_lock = threading.Lock()


def read_size(path: Path) -> tuple[int, int]:
    """Size (height_px, width_px) as `read_image` would give it, from the header alone.

    Raises:
        DataError: the file is missing, damaged, too large or no image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    if _is_slide(path):
        with _open_slide(path) as slide:
            return _slide_size(slide)
    with _open_picture(path) as (image, orientation):
        return _turned_size(image, orientation)


def check_image(path: Path) -> tuple[int, int]:
    """Decode every pixel, so that a damaged file shows, and return (height_px, width_px).

    Of a slide, only the header and the last corner are read.

    Raises:
        DataError, MissingExtraError: as `read_image`.
    """
    if _is_slide(path):
        with _open_slide(path) as slide:
            height_px, width_px = _slide_size(slide)
            side_px = min(256, height_px, width_px)
            slide.read_region((width_px - side_px, height_px - side_px), 0, (side_px, side_px))
            return height_px, width_px
    with _open_picture(path) as (image, orientation):
        _refuse_mode(image, path)
        image.load()
        return _turned_size(image, orientation)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Pixels as (H, W, 3) RGB in 0..255, converted by the rules at the top of this module.

    Raises:
        DataError: the file is missing, damaged, too large to be read whole, of a kind that is refused, or no image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    if _is_slide(path):
        with _open_slide(path) as slide:
            height_px, width_px = _slide_size(slide)
            if height_px * width_px > LARGEST_WHOLE_PX:
                message = f"is too large ({height_px} x {width_px} px) to be read whole."
                fix = "read it by regions, or export the tissue at a lower magnification"
                raise _data_error(path, "image-too-large", message=message, fix=fix)
            return np.array(_read_slide_region(slide, path, box=(0, 0, height_px, width_px)))
    with _open_picture(path) as (image, orientation):
        return np.array(_to_rgb(_turn(image, orientation), path))


def read_mask(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """A mask as (H, W) of 0 and 1, and whether it held grey levels.

    Colours become luminance. The foreground is what lies at or above half of the mask's own value range,
    (smallest + largest) / 2, so that 0/1, 0/255 and 16-bit masks all work; a mask of one value is all foreground
    unless that value is 0. Where the colour is the same everywhere and the opacity is not, the opacity is the mask;
    otherwise transparent pixels count as black. The flag is True when there were more than two values.

    Raises:
        DataError, MissingExtraError: as `read_image`; a float mask that is not finite is damaged.
    """
    if _is_slide(path):
        plane = np.array(Image.fromarray(read_image(path)).convert("L"))
    else:
        with _open_picture(path) as (image, orientation):
            plane = _to_plane(_turn(image, orientation), path)
    if not np.isfinite(plane).all():
        raise _data_error(
            path, "unreadable", message="holds values that are not finite.", fix="export the mask as 0 and 255"
        )
    low, high = float(plane.min()), float(plane.max())
    if low == high:
        return np.full(plane.shape, int(high != 0), dtype=np.uint8), False
    grey = bool(((plane != plane.dtype.type(low)) & (plane != plane.dtype.type(high))).any())
    return (plane >= (low + high) / 2).astype(np.uint8), grey


def read_region(
    path: Path, row_px: int, col_px: int, *, height_px: int, width_px: int, longest_px: int | None = None
) -> NDArray[np.uint8]:
    """The rectangle from (row_px, col_px), (height_px, width_px, 3) RGB at full resolution.

    With ``longest_px`` it is shrunk so that its longer side has no more than that. Cheap for slides; any other image
    is decoded whole.

    Raises:
        DataError: as `read_image`, or the rectangle does not lie inside the image.
        MissingExtraError: a whole-slide file, and OpenSlide is not installed.
    """
    box, wanted = (row_px, col_px, height_px, width_px), (height_px, width_px)
    if _is_slide(path):
        with _open_slide(path) as slide:
            _refuse_outside(path, (row_px, col_px), wanted=wanted, size=_slide_size(slide))
            return np.array(_read_slide_region(slide, path, box=box, longest_px=longest_px))
    with _open_picture(path) as (image, orientation):
        _refuse_outside(path, (row_px, col_px), wanted=wanted, size=_turned_size(image, orientation))
        part = _turn(image, orientation).crop((col_px, row_px, col_px + width_px, row_px + height_px))
        return np.array(_shrink(_to_rgb(part, path), longest_px))


def read_thumbnail(path: Path, *, longest_px: int) -> NDArray[np.uint8]:
    """The whole image, (h, w, 3) RGB, shrunk so that its longer side has ``longest_px``; never enlarged.

    Raises:
        DataError, MissingExtraError: as `read_image`.
    """
    if _is_slide(path):
        with _open_slide(path) as slide:
            return np.array(_read_slide_region(slide, path, box=(0, 0, *_slide_size(slide)), longest_px=longest_px))
    with _open_picture(path) as (image, orientation):
        image.draft(None, (2 * longest_px, 2 * longest_px))  # lets a JPEG be decoded at 1/2, 1/4, 1/8
        return np.array(_shrink(_to_rgb(_turn(image, orientation), path), longest_px))


def read_mpp(path: Path) -> float | None:
    """Microns per pixel, mean of both directions, where known: slide properties, TIFF resolution; else None.

    Resolutions of PNG and JPEG speak of print and are not used; nor are TIFF values outside `PLAUSIBLE_MPP`.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    if _is_slide(path):
        with _open_slide(path) as slide:
            sides = [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        return None if None in sides else _plausible_mpp(float(sides[0]), float(sides[1]))
    with _open_picture(path) as (image, _):
        tags = getattr(image, "tag_v2", {})
        microns = {2: 25_400.0, 3: 10_000.0}.get(tags.get(296, 2))  # resolution unit: inch, centimetre
        across, down = tags.get(282), tags.get(283)
        if microns is None or not across or not down:
            return None
        return _plausible_mpp(microns / float(across), microns / float(down))


def read_encoding(path: Path) -> tuple[str, float]:
    """How a file holds its pixels, from the header: format, kind and compression; mean quantisation step of a JPEG.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    if _is_slide(path):
        return path.suffix.lower().lstrip("."), 0.0
    with _open_picture(path) as (image, _):
        steps = [step for table in getattr(image, "quantization", {}).values() for step in table]
        words = (image.format, image.mode, image.info.get("compression"))
        return " ".join(str(word) for word in words if word), sum(steps) / max(1, len(steps))


def _plausible_mpp(across: float, down: float) -> float | None:
    mpp = (across + down) / 2
    return mpp if PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1] else None


def _data_error(path: Path, code: str, *, message: str, fix: str) -> DataError:
    problem = Problem(code=code, file=str(path), message=message, fix=fix)
    return DataError("an image cannot be read", [problem])


def _refuse_outside(path: Path, corner: tuple[int, int], *, wanted: tuple[int, int], size: tuple[int, ...]) -> None:
    if min(corner) < 0 or min(wanted) < 1 or any(c + w > s for c, w, s in zip(corner, wanted, size, strict=True)):
        raise _data_error(
            path,
            "region-outside",
            message=f"region {wanted} px at {corner} leaves the image of {size} px.",
            fix="ask for a region inside the image",
        )


# --- pictures: Pillow ---------------------------------------------------------------------------------------------


@contextmanager
def _open_picture(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """The lazy Pillow image and its EXIF orientation; what fails inside becomes a `DataError`."""
    try:
        image, orientation = _read_header(path)
        with image:
            yield image, orientation
    except Image.DecompressionBombError:
        raise _data_error(
            path,
            "image-too-large",
            message=f"has more than {LARGEST_WHOLE_PX // 10**6} million pixels, Pillow's limit.",
            fix="read it as a slide: pip install 'smalti[openslide]' (tiled TIFF), or export it smaller",
        ) from None
    except UnidentifiedImageError:
        raise _data_error(
            path,
            "unreadable",
            message=f"is no image that Pillow knows ({_describe_content(path)}).",
            fix="export it again as PNG or 8-bit TIFF; slides need pip install 'smalti[openslide]'",
        ) from None
    except FileNotFoundError:
        raise _data_error(
            path, "missing-file", message="does not exist.", fix="copy the file there or remove its row"
        ) from None
    except DAMAGE_ERRORS as error:
        raise _data_error(
            path, "unreadable", message=f"cannot be decoded: {error}.", fix="copy or export the file again"
        ) from None


def _read_header(path: Path) -> tuple[Image.Image, int]:
    with _header_lock, warnings.catch_warnings():
        # Large pictures and odd metadata are no news to the user; damage that matters shows in the pixels.
        warnings.simplefilter("ignore")
        Image.init()  # the formats asked for must be registered; does nothing the second time
        image = Image.open(path, formats=PICTURE_FORMATS)
        return image, _read_orientation(image)


def _read_orientation(image: Image.Image) -> int:
    # Pillow turns TIFF by itself. getexif() would decode a whole PNG, so the block from the header is parsed here.
    block = image.info.get("exif")
    if image.format == "TIFF" or not block:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        return int(exif.get(EXIF_ORIENTATION, 1))
    except DAMAGE_ERRORS:
        return 1  # a damaged note beside good pixels


def _describe_content(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "it holds a web page: the download failed"
    if text.startswith(b"version https://git-lfs"):
        return "it holds a Git LFS pointer: run 'git lfs pull'"
    return f"it begins with {start[:8]!r}"


def _turned_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    width_px, height_px = image.size
    return (width_px, height_px) if orientation >= 5 and orientation in TURNS else (height_px, width_px)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _refuse_mode(image: Image.Image, path: Path) -> None:
    if image.mode not in PLAIN_MODES and not image.mode.startswith("I;16"):
        raise _data_error(
            path,
            "unsupported-pixels",
            message=f"has pixels of kind '{image.mode}' (32-bit or Lab), whose range is not known.",
            fix="export it as 8-bit or 16-bit RGB or grey",
        )


def _shrink(image: Image.Image, longest_px: int | None) -> Image.Image:
    if longest_px is not None:
        image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return image


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    _refuse_mode(image, path)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # a copy of the largest picture is 0.7 GB
    colour = image.convert("RGBA")
    paper = Image.new("RGBA", colour.size, "white")
    return Image.alpha_composite(paper, colour).convert("RGB")


def _to_plane(image: Image.Image, path: Path) -> NDArray[Any]:
    """One number per pixel, (H, W), of the kind that the file holds."""
    if image.mode in {"L", "I", "F"} or image.mode.startswith("I;16"):
        return np.asarray(image)
    _refuse_mode(image, path)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    colour = image.convert("RGBA")
    opacity = np.asarray(colour.getchannel("A"))
    light = np.asarray(colour.convert("RGB").convert("L"))
    if opacity.min() == opacity.max():
        return light
    if light.min() == light.max():
        return opacity
    return (light.astype(np.uint16) * opacity + 127) // 255


# --- slides: OpenSlide --------------------------------------------------------------------------------------------


def _is_slide(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    if not path.is_file() or importlib.util.find_spec("openslide") is None:
        return False
    try:
        image, _ = _read_header(path)
        with image:
            large = image.width * image.height > LARGE_PX
    except (*DAMAGE_ERRORS, Image.DecompressionBombError):
        large = True
    return large and _import_openslide(path).OpenSlide.detect_format(path) is not None


def _import_openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the Python part is there, the library is not
        raise MissingExtraError(f"{path}: a whole-slide file", "openslide") from None
    return openslide


@contextmanager
def _open_slide(path: Path) -> Iterator[Any]:
    openslide = _import_openslide(path)
    if not path.is_file():
        raise _data_error(path, "missing-file", message="does not exist.", fix="copy the file there or remove its row")
    try:
        with openslide.OpenSlide(path) as slide:
            yield slide
    except openslide.OpenSlideError as error:
        reason = str(error) or type(error).__name__
        raise _data_error(
            path,
            "unreadable",
            message=f"cannot be read by OpenSlide: {reason}.",
            fix="copy the file again, or export it as tiled TIFF",
        ) from None


def _slide_size(slide: Any) -> tuple[int, int]:
    width_px, height_px = slide.dimensions
    return height_px, width_px


def _read_slide_region(
    slide: Any, path: Path, *, box: tuple[int, int, int, int], longest_px: int | None = None
) -> Image.Image:
    """The box (row_px, col_px, height_px, width_px), from the smallest level of the file that is fine enough."""
    row_px, col_px, height_px, width_px = box
    level = 0 if longest_px is None else slide.get_best_level_for_downsample(max(height_px, width_px) / longest_px)
    scale = slide.level_downsamples[level]
    size = (max(1, round(width_px / scale)), max(1, round(height_px / scale)))
    if size[0] * size[1] > LARGEST_WHOLE_PX:
        message = f"has no level that shows {height_px} x {width_px} px at once."
        fix = "read a smaller region, or export it as a pyramid"
        raise _data_error(path, "image-too-large", message=message, fix=fix)
    region = slide.read_region((col_px, row_px), level, size)
    paper = Image.new("RGBA", region.size, "white")
    return _shrink(Image.alpha_composite(paper, region).convert("RGB"), longest_px)
