"""Whole-slide files, read with OpenSlide."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import DataError, MissingExtraError
from .failures import data_error, name_failures
from .files import refuse_special
from .pictures import LARGE_PX, open_header, shrink

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".vms", ".vmu", ".bif")
TIFF_SUFFIXES = (".tif", ".tiff")
BAND_PX = 16_000_000  # pixels of a slide that are decoded at once; 64 MB

Box = tuple[int, int, int, int]


def is_slide(path: Path) -> bool:
    """Whether OpenSlide reads this file: by its suffix, or a large TIFF that it knows."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    if not path.is_file() or importlib.util.find_spec("openslide") is None:
        return False
    try:
        with open_header(path) as (image, _):
            large = image.width * image.height > LARGE_PX
    except DataError:
        large = True
    with name_failures(path):
        return large and _import_openslide(path).OpenSlide.detect_format(path) is not None


def _import_openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the Python part is there, the library is not
        raise MissingExtraError(f"{path}: a whole-slide file", "openslide") from None
    return openslide


def load_slide(path: Path) -> Any:
    """The OpenSlide object, to be closed by the caller.

    Raises:
        DataError: OpenSlide does not read the file.
        MissingExtraError: OpenSlide is not installed.
    """
    openslide = _import_openslide(path)
    refuse_special(path)
    with name_failures(path):
        try:
            return openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            reason = str(error) or type(error).__name__
            raise data_error(
                path,
                "unreadable",
                message=f"cannot be read by OpenSlide: {reason}.",
                fix="copy the file again, or export it as tiled TIFF",
            ) from None


@contextmanager
def open_slide(path: Path) -> Iterator[Any]:
    """The OpenSlide object; what fails inside becomes a `DataError`."""
    with load_slide(path) as slide, name_failures(path):
        yield slide


def find_slide_size(slide: Any) -> tuple[int, int]:
    """(height_px, width_px) of the highest resolution."""
    width_px, height_px = slide.dimensions
    return height_px, width_px


def read_slide_region(slide: Any, box: Box, *, longest_px: int | None = None) -> Image.Image:
    """The box (row_px, col_px, height_px, width_px), from the smallest level of the file that is fine enough.

    Where that level is much finer than what is wanted (a file without a pyramid), it is read and averaged in bands.
    """
    height_px, width_px = box[2:]
    level = 0 if longest_px is None else slide.get_best_level_for_downsample(max(height_px, width_px) / longest_px)
    scale = slide.level_downsamples[level]
    height, width = (max(1, round(n / scale)) for n in (height_px, width_px))
    step = 1 if longest_px is None else max(height, width) // (2 * longest_px)  # twice too fine; the last step is exact
    if step <= 1 or height * width <= BAND_PX:
        return shrink(_read_level(slide, box, level=level), longest_px)
    rows = max(1, BAND_PX // width // step) * step
    whole = Image.new("RGB", (-(-width // step), -(-height // step)))
    for row in range(0, height, rows):
        part = (box[0] + round(row * scale), box[1], round(min(rows, height - row) * scale), width_px)
        whole.paste(_read_level(slide, part, level=level).reduce(step), (0, row // step))
    return shrink(whole, longest_px)


def _read_level(slide: Any, box: Box, *, level: int) -> Image.Image:
    row_px, col_px, height_px, width_px = box
    scale = slide.level_downsamples[level]
    size = (max(1, round(width_px / scale)), max(1, round(height_px / scale)))
    region = slide.read_region((col_px, row_px), level, size)
    paper = Image.new("RGBA", region.size, "white")
    return Image.alpha_composite(paper, region).convert("RGB")
