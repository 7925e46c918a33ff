"""Facts that a file states about its pixels."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .opening import open_stored
from .pictures import open_picture
from .regions import read_size
from .slides import find_bounds, is_slide, open_slide

PLAUSIBLE_MPP = (0.05, 20.0)  # outside, a resolution tag speaks of print (96 dpi is 265 um), not of a microscope


def read_mpp(path: Path) -> float | None:
    """Return microns per pixel, mean of both directions, where known: slide properties, TIFF resolution; else None.

    Resolutions of PNG and JPEG speak of print and are not used; nor are TIFF values outside `PLAUSIBLE_MPP`.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    sides: list[object] = []
    if is_slide(path):
        with open_slide(path) as slide:
            sides += [slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
    else:
        with open_stored(path) as stored:
            sides += [] if stored is None else stored.mpp
    total = 0.0
    for side in sides:
        with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):  # a tag may say no number
            total += float(side)  # type: ignore[arg-type]  # what is no number is told by trying
    return total / 2 if PLAUSIBLE_MPP[0] <= total / 2 <= PLAUSIBLE_MPP[1] else None


def read_plane(path: Path) -> tuple[int, int, int, int]:
    """Return (row_px, col_px, height_px, width_px): the corner of what smalti reads on the plane of the file, its size.

    They are (0, 0) and the size of the image but for slides with bounds; OpenSlide counts pixels on that plane.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    if not is_slide(path):
        return (0, 0, *read_size(path))
    with open_slide(path) as slide:
        width_px, height_px = slide.dimensions
        return (*find_bounds(slide)[:2], height_px, width_px)


def read_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image, or the tag of a TIFF that means the same; 1 for none.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    if is_slide(path):
        return 1
    with open_stored(path) as stored:
        if stored is not None:
            return stored.orientation
    with open_picture(path) as (_, orientation):
        return orientation


def read_encoding(path: Path) -> tuple[str, float]:
    """Return the encoding of the pixels, from the header: format, kind and compression.

    Mean quantisation step of a JPEG.

    Raises:
        DataError, MissingExtraError: as `read_size`.
    """
    if is_slide(path):
        return path.suffix.lower().lstrip("."), 0.0
    with open_stored(path) as stored:
        if stored is not None:
            return stored.form, 0.0
    with open_picture(path) as (image, _):
        steps = [step for table in getattr(image, "quantization", {}).values() for step in table]
        words = (image.format, image.mode, image.info.get("compression"))
        return " ".join(str(word) for word in words if word), sum(steps) / max(1, len(steps))
