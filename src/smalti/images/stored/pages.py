"""The pages of a TIFF that are the picture; others are passed over, put together or refused.

1. Labels, macros, thumbnails and overviews (by name), reduced-resolution pages and transparency masks (by the tag
   NewSubfileType) are passed over.
2. Of what remains, the picture with the most pixels is the main one, and its largest level is read. Smaller pictures of
   its proportions are levels of it; others must have less than a quarter of its pixels.
3. Three grey pages are red, green and blue where the file calls them channels (OME, ImageJ) and does not name them
   after something else, or where the pages themselves bear these names.
   So are three values a pixel of one page that the file calls grey; more of them are refused.
4. Whatever else has several pages of one size (focal planes, points in time, channels, unnamed pages) is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from ..colours import Meaning
from ..failures import data_error
from .descriptions import list_channels

BESIDE = re.compile(r"\b(label|macro|thumbnail|thumb|overview|preview|map)\b", re.IGNORECASE)
Remarks = tuple[tuple[str, str], ...]  # code and sentence of each thing that was not plain
REDUCED, MASK = 1, 4  # bits of NewSubfileType
ALIKE = 0.02  # proportions of two levels differ by rounding
BESIDE_SHARE = 0.25  # of the pixels of the main picture; a crop or another section is larger
PRIMARIES = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
AXES = {"Z": "focal planes", "T": "points in time", "C": "channels"}
FIX_ONE = "save the picture that is meant as a file of its own (RGB)"
FIX_CHANNELS = f"{FIX_ONE}; red, green and blue as three grey pages are read where OME-XML names the channels so"


@dataclass(frozen=True)
class Choice:
    """The pages that are read: for each level, largest first, one page or those of red, green and blue.

    Attributes:
        levels: pages of each level.
        series: number of the picture among those of the file.
        remarks: what is to be said about the choice.
    """

    levels: tuple[tuple[Any, ...], ...]
    series: int = 0
    remarks: Remarks = ()


def choose_pages(tif: TiffFile, path: Path) -> Choice:
    """Find the picture among the pages of a TIFF.

    Raises:
        DataError: it cannot be told, or the file holds no picture.
    """
    first = tif.pages.first
    described = first.is_imagej or first.is_shaped or first.is_ome
    if len(tif.pages) == 1 and not first.subifds and not described:
        return Choice(((first,),))
    every = [s for s in tif.series if s.keyframe is not None and len(s.keyframe.shape) >= 2]
    if any(page is None for s in every for page in s.pages):
        message = "is one of several files of one OME image, and names pages that lie in the others."
        raise data_error(path, "several-files", message=message, fix=FIX_ONE)
    kept = [s for s in every if not s.keyframe.subfiletype & (REDUCED | MASK) and not BESIDE.search(s.name or "")]
    if not kept:
        message = "holds only thumbnails, labels, masks or reduced copies."
        raise data_error(path, "no-picture", message=message, fix=FIX_ONE)
    main = max(kept, key=lambda series: math.prod(_find_size(series)))
    most_px = math.prod(_find_size(main))
    rivals = []
    for series in kept:
        other = math.prod(_find_size(series)) >= BESIDE_SHARE * most_px and not _are_alike(series, main)
        if series is not main and (_find_size(series) == _find_size(main) or other):
            rivals.append(series)
    if rivals:
        _refuse([main, *rivals], path, what="pictures, and nothing says which is meant", fix=FIX_ONE)
    number = next(i for i, s in enumerate(tif.series) if s is main)
    pages, remarks = _gather_planes(tif, main, number, path)
    chosen = []
    for level in main.levels:  # those that hold the same values as the largest, in its proportions
        one, other = level.keyframe, main.keyframe
        same = all(getattr(one, name) == getattr(other, name) for name in ("dtype", "samplesperpixel", "photometric"))
        if same and len(level.pages) == len(main.pages) and _are_alike(level, main):
            chosen.append(tuple(level.pages[i] for i in pages))
    others = [s for s in every if s is not main]
    if others:
        passed = ", ".join(_name_series(s) for s in others[:4]) + (", ..." if len(others) > 4 else "")
        remarks += (("page-chosen", f"holds several pictures: {_name_series(main)} is read; passed over: {passed}."),)
    return Choice(tuple(chosen), number, remarks)


def _find_size(series: Any) -> tuple[int, int]:
    return int(series.keyframe.imagelength), int(series.keyframe.imagewidth)


def _are_alike(series: Any, main: Any) -> bool:
    """Return whether a picture is no larger than another in its proportions."""
    (height, width), (most_height, most_width) = _find_size(series), _find_size(main)
    off_px = abs(height * most_width / most_height - width)
    return off_px <= max(1.5, ALIKE * width)


def _gather_planes(tif: TiffFile, main: Any, number: int, path: Path) -> tuple[tuple[int, ...], Remarks]:
    """Return the positions of the pages that make up the picture, and what is to be said about them."""
    page = main.keyframe
    count = int(np.prod(main.get_shape(False), dtype=np.int64) // np.prod(page.shape, dtype=np.int64))
    if count == 1:
        return (0,), ()
    lengths = dict(zip(main.get_axes(False), main.get_shape(False), strict=True))
    outer = {axis: n for axis, n in lengths.items() if n > 1 and axis not in "YXS"}
    grey = page.samplesperpixel == 1 and page.photometric == 1
    if count != 3 or len(main.pages) != 3 or not grey or set(outer) & {"Z", "T"}:
        _refuse([main], path, what=AXES.get(next(iter(outer), ""), "pictures of one size"), fix=FIX_ONE)
    names, colours = list_channels(tif, main, number)
    plain = [name.strip().casefold() for name in names]
    order = tuple(next((i for i, name in enumerate(plain) if name in primary), -1) for primary in PRIMARIES)
    named = sorted(order) == [0, 1, 2]
    if not named and (any(names) or not colours):
        found = f"channels ({', '.join(n or 'without a name' for n in names)})" if any(names) else "grey pictures"
        _refuse([main], path, what=f"{found}, which nothing calls red, green and blue", fix=FIX_CHANNELS)
    why = "as they are named" if named else "in this order, as its three channels have no other names"
    remark = ("channel-pages", f"keeps red, green and blue as three grey pages, {why}.")
    return order if named else (0, 1, 2), (remark,)


def check_triple(meaning: Meaning, path: Path) -> Remarks:
    """Return the remark on a page that calls three values a pixel grey: they are taken for red, green and blue.

    Raises:
        DataError: they are more than three, or white is zero, or they are numbers of colours.
    """
    if 0 in meaning.extras[2:] or meaning.photometric != "minisblack":
        message = f"holds {1 + meaning.extras.count(0)} values a pixel, which it does not call red, green and blue."
        raise data_error(path, "several-pictures", message=message, fix=FIX_ONE)
    return (("channel-pages", "calls the three values of its pixels grey: they are taken for red, green and blue."),)


def _name_series(series: Any) -> str:
    height, width = _find_size(series)
    numbers = sorted(page.index + 1 if isinstance(page.index, int) else page.index[0] + 1 for page in series.pages)
    pages = f"page {numbers[0]}" if len(numbers) == 1 else f"pages {numbers[0]} to {numbers[-1]}"
    name = f" '{series.name}'" if series.name else ""
    return f"{pages}{name} ({height} x {width} px)"


def _refuse(series: list[Any], path: Path, *, what: str, fix: str) -> None:
    listed = " and ".join(_name_series(s) for s in series[:4])
    count = sum(max(len(s.pages), 1) for s in series)
    raise data_error(path, "several-pictures", message=f"holds {count} {what}: {listed}.", fix=fix)
