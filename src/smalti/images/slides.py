"""Whole-slide files, read with OpenSlide."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import MissingExtraError
from .failures import data_error, name_failures
from .pyramids import Box, read_shrunk
from .sources import refuse_special

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".vms", ".vmu", ".bif", ".dcm")
TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".qptiff")


def is_slide(path: Path) -> bool:
    """Return whether OpenSlide reads this file: by its suffix, or a TIFF whose scanner it knows.

    Other TIFFs are read with tifffile, however large: OpenSlide takes any tiled one, and shows its first page, and
    16-bit values by their high byte.
    """
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    if not path.is_file() or importlib.util.find_spec("openslide") is None:
        return False
    with name_failures(path):
        return _import_openslide(path).OpenSlide.detect_format(path) not in {None, "generic-tiff"}


def _import_openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the Python part is there, the library is not
        raise MissingExtraError(f"{path}: a whole-slide file", "openslide") from None
    return openslide


def load_slide(path: Path) -> Any:
    """Return the OpenSlide object, to be closed by the caller.

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
    """Open the OpenSlide object; what fails inside becomes a `DataError`."""
    with load_slide(path) as slide, name_failures(path):
        yield slide


def find_slide_size(slide: Any) -> tuple[int, int]:
    """Return (height_px, width_px) of the highest resolution."""
    return find_bounds(slide)[2:]


def read_slide_region(slide: Any, box: Box, *, longest_px: int | None = None) -> Image.Image:
    """Return the box (row_px, col_px, height_px, width_px), from the smallest level of the file that is fine enough."""
    top, left, _, _ = find_bounds(slide)

    def read(part: Box, level: int) -> Image.Image:
        row_px, col_px, height_px, width_px = part
        scale = slide.level_downsamples[level]
        size = (max(1, round(width_px / scale)), max(1, round(height_px / scale)))
        region = slide.read_region((left + col_px, top + row_px), level, size)
        paper = Image.new("RGBA", region.size, "white")
        return Image.alpha_composite(paper, region).convert("RGB")

    return read_shrunk(box, longest_px=longest_px, downsamples=slide.level_downsamples, read=read)


def find_bounds(slide: Any) -> Box:
    """Return the part of a slide that was scanned, where its file says so; a slide is cut to it, as QuPath shows it.

    Formats that place fields of view on a plane (MIRAX, Leica) leave most of the plane empty. QuPath counts its
    coordinates, those of objects and of masks, from the corner of this part (github.com/qupath/qupath/issues/1278).
    """
    width_px, height_px = slide.dimensions
    whole = (0, 0, height_px, width_px)
    names = ("y", "x", "height", "width")
    try:
        row, col, height, width = (int(slide.properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return whole
    inside = min(row, col) >= 0 and min(height, width) > 0 and row + height <= height_px and col + width <= width_px
    return (row, col, height, width) if inside else whole
