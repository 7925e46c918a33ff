"""Decoding every pixel of an image, so that damage and doubt show before anything is built on it."""

from __future__ import annotations

from pathlib import Path

from ..errors import Problem
from .colours import refuse_range
from .completeness import check_whole, find_doubts
from .failures import data_error, name_failures, refuse_whole
from .opening import open_stored
from .pictures import LARGEST_WHOLE_PX, find_turned_size, is_unfilled, open_picture, refuse_mode, to_rgb
from .slides import find_slide_size, is_slide, open_slide, read_slide_region
from .stored.picture import Stored

CORNER_PX = 256  # side of what is read of an image that is too large to be decoded whole
RULES = frozenset({"page-chosen", "channel-pages", "extra-samples", "alpha-zero"})  # codes of remarks, not of doubts
UNFILLED = ("alpha-zero", "has an opacity of 0 everywhere, which was never filled: its colours are read.")


def check_image(
    path: Path, *, doubts: list[Problem] | None = None, largest: dict[Path, int] | None = None
) -> tuple[int, int]:
    """Decode every pixel, so that a damaged file shows, and return (height_px, width_px).

    Of a slide, only the header and the last corner are read. What may not be meant is added to ``doubts``: a JPEG that
    seems to end early; and what was read by a rule that is not plain, one of `RULES`. Where a file does not say how
    many bits of its 16-bit values are in use, ``largest`` gets its largest value.

    Raises:
        DataError, MissingExtraError: as `read_image`; but a slide may be of any size.
    """
    if is_slide(path):
        with open_slide(path) as slide:
            size_px = find_slide_size(slide)
            side_px = min(CORNER_PX, *size_px)
            read_slide_region(slide, (size_px[0] - side_px, size_px[1] - side_px, side_px, side_px))
            return size_px
    with open_stored(path) as stored:
        if stored is not None:
            with name_failures(path):
                _check_stored(stored, [] if doubts is None else doubts, {} if largest is None else largest)
            return stored.size_px
    with open_picture(path) as (image, orientation):
        refuse_mode(image, path)
        size_px = find_turned_size(image, orientation)
        refuse_whole(path, size_px, most_px=LARGEST_WHOLE_PX)
        image.load()
        check_whole(image, path)
        if image.mode in {"P", "PA"}:
            to_rgb(image, path)  # the palette may not be there
        if doubts is not None:
            doubts += find_doubts(image, path)
            if is_unfilled(image):
                doubts.append(_remark(path, *UNFILLED))
        return size_px


def find_remarks(path: Path) -> list[Problem]:
    """Return what is read of an image by a rule that is not plain, one of `RULES`; only an opacity is decoded.

    Raises:
        DataError: as `read_image`.
    """
    if is_slide(path):
        return []
    with open_stored(path) as stored:
        if stored is not None:
            remarks = [_remark(path, code, message) for code, message in stored.remarks]
            with name_failures(path):
                unfilled = stored.meaning.alpha is not None and stored.find_ends().alpha == 0
            return [*remarks, _remark(path, *UNFILLED)] if unfilled else remarks
    with open_picture(path) as (image, _):
        return [_remark(path, *UNFILLED)] if is_unfilled(image) else []


def _check_stored(stored: Stored, doubts: list[Problem], largest: dict[Path, int]) -> None:
    refuse_range(stored.meaning, stored.path)
    height_px, width_px = stored.size_px
    doubts += [_remark(stored.path, code, message) for code, message in stored.remarks]
    if height_px * width_px > LARGEST_WHOLE_PX and stored.meaning.said and stored.meaning.alpha is None:
        side_px = min(CORNER_PX, height_px, width_px)
        stored.read((height_px - side_px, width_px - side_px, side_px, side_px))
        return
    ends = stored.find_ends()
    if ends.colour >> stored.meaning.bits:
        message = f"says that it uses {stored.meaning.bits} bits, and has values up to {ends.colour}."
        raise data_error(stored.path, "bits-exceeded", message=message, fix="export it as 8-bit or 16-bit RGB")
    if ends.alpha == 0:
        doubts.append(_remark(stored.path, *UNFILLED))
    if not stored.meaning.said:
        largest[stored.path] = ends.colour


def _remark(path: Path, code: str, message: str) -> Problem:
    return Problem(code, str(path), message, "save it as 8-bit RGB if that is not what is meant", warning=True)
