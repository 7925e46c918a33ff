"""TIFF files, read with tifffile: their structure is looked at before anything is decoded."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TIFF, TiffFile

from ..colours import SAMPLES, Meaning
from ..failures import COPY_AGAIN, data_error, name_failures
from ..pictures import LARGEST_BYTES
from ..pyramids import Box
from ..sources import open_file
from .descriptions import find_ome, read_sides
from .pages import Choice, check_triple, choose_pages
from .picture import Level, Stored

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEGS = (6, 7, 34892, 33007)  # compressions
PNG, JPEG2000 = 34933, (33003, 33004, 33005, 34712)
PHOTOMETRICS = {0: "miniswhite", 1: "minisblack", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr"}
COLOUR_CODECS = (*JPEGS, 50001, 34927, 22610, 34933, 50002, 52546)  # their decoders turn YCbCr into RGB
APERIO_YCBCR = 33003
SLACK = 2  # last strips and tiles may be whole, and those of JPEG are filled up to blocks
CACHE_BYTES = 64_000_000  # decoded strips and tiles that are kept while regions are read
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # its remarks on odd tags are no news to the user


@contextmanager
def open_tiff(path: Path) -> Iterator[Stored]:
    """Open the picture in a TIFF, its values as they are stored; what fails inside becomes a `DataError`.

    Raises:
        DataError: it is damaged, cut short, of a kind that is refused, or which of its pages is meant cannot be told.
    """
    with open_file(path) as file, name_failures(path), TiffFile(file, name=path.name, _multifile=False) as tif:
        choice = choose_pages(tif, path)
        page = choice.levels[0][0].keyframe
        _refuse_page(page, path)
        lock = threading.Lock()
        levels = []
        for pages in choice.levels:
            key = pages[0].keyframe
            read = partial(_read_planes, [_Plane(p, path, lock) for p in pages])
            levels.append(Level((key.imagelength, key.imagewidth), read))
        orientation = page.tags.valueof(274, 1)
        meaning = _read_meaning(tif, choice, path)
        remarks = choice.remarks
        if meaning.samples == 1 and meaning.extras[:2] == (0, 0):
            remarks += check_triple(meaning, path)
            meaning = replace(meaning, photometric="rgb", extras=meaning.extras[2:])
        elif left := len(meaning.extras) - (meaning.alpha is not None):
            message = f"has {left} more value(s) a pixel than colour and opacity take; they are left out."
            remarks += (("extra-samples", message),)
        planes = len(choice.levels[0])
        samples, words = page.samplesperpixel * planes, [f"TIFF {PHOTOMETRICS[page.photometric]}"]
        words += [f"{samples}x{page.bitspersample}", getattr(page.compression, "name", page.compression).lower()]
        words += ["planes"] if planes > 1 or (samples > 1 and page.planarconfig == 2) else []
        words += ["tiles"] if page.is_tiled else []
        yield Stored(
            path,
            tuple(levels),
            meaning,
            orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1,
            form=" ".join(words),
            mpp=read_sides(tif, page, choice.series),
            remarks=remarks,
        )


def _read_planes(planes: Sequence[_Plane], box: Box) -> NDArray[Any]:
    """Return the values of a box of a level, (h, w) or (h, w, samples)."""
    parts = [plane.read(box) for plane in planes]
    return parts[0] if len(parts) == 1 else np.stack(parts, axis=2)


def _refuse_page(page: Any, path: Path) -> None:
    """Raise a `DataError` about a page of a kind that is not read."""
    if page.photometric not in PHOTOMETRICS:
        kind = getattr(page.photometric, "name", page.photometric)
        message = f"holds colours of kind {kind}, which smalti does not convert."
        raise data_error(path, "unsupported-pixels", message=message, fix="export it as 8-bit or 16-bit RGB or grey")
    if page.imagedepth > 1:
        message = f"holds a volume of {page.imagedepth} planes."
        raise data_error(path, "several-pictures", message=message, fix="save the plane that is meant as RGB")
    if page.compression != 1 and page.compression not in TIFF.DECOMPRESSORS:
        message = f"is compressed with {getattr(page.compression, 'name', page.compression)}, which cannot be decoded."
        fix = "export it with LZW, deflate or JPEG, or without compression"
        raise data_error(path, "unsupported-compression", message=message, fix=fix)
    if page.dtype is None or min(page.imagelength, page.imagewidth) < 1:
        size = f"{page.bitspersample} bits, {page.imagelength} x {page.imagewidth} px"
        raise data_error(path, "unreadable", message=f"holds no pixels that can be read ({size}).", fix=COPY_AGAIN)


def _read_meaning(tif: TiffFile, choice: Choice, path: Path) -> Meaning:
    """Return the meaning of the values of the picture, as the tags of its first page and OME-XML say.

    Raises:
        DataError: it has fewer samples than its colours take, or no colours for its palette.
    """
    page = choice.levels[0][0].keyframe
    photometric = PHOTOMETRICS[page.photometric]
    converted = photometric == "ycbcr" and page.compression in COLOUR_CODECS and page.planarconfig == 1
    if len(choice.levels[0]) == 3 or converted:
        photometric = "rgb"
    elif page.compression == APERIO_YCBCR:  # whatever its tag says
        photometric = "ycbcr"
    samples, needed = page.samplesperpixel * len(choice.levels[0]), SAMPLES[photometric]
    if samples < needed:
        message = f"has {samples} values a pixel, and {photometric} takes {needed}."
        raise data_error(path, "unreadable", message=message, fix=COPY_AGAIN)
    extras = tuple(int(kind) for kind in page.extrasamples)
    extras = (extras + (0,) * samples)[: samples - needed]
    # Bits of a value that are in use, as far as the file says them.
    bits, said = page.bitspersample, True
    if isinstance(bits, tuple):  # as 5, 6, 5: tifffile spreads them over whole bytes
        bits = 8 * np.dtype(page.dtype).itemsize
    elif bits == 16:
        pixels = find_ome(tif, choice.series)
        text = pixels.get("SignificantBits", "") if pixels is not None else ""
        most = page.tags.valueof(281, 0)  # MaxSampleValue; many write the largest that occurs, which says nothing
        most = max(most) if isinstance(most, tuple) else most
        if text.isdecimal() and 1 <= int(text) < 16:  # 16 is what writers put that do not know
            bits = max(8, int(text))
        elif isinstance(most, int) and 255 < most < 65535 and most & (most + 1) == 0:
            bits = most.bit_length()
        else:
            said = False
    palette = None
    if photometric == "palette":
        if page.colormap is None:
            raise data_error(path, "unreadable", message="has no colours for its palette.", fix=COPY_AGAIN)
        palette = np.ascontiguousarray(page.colormap.T.astype(np.uint16))
    return Meaning(photometric, str(np.dtype(page.dtype)), bits, said, extras, palette)


@dataclass(eq=False)
class _Plane:
    """One page of a TIFF, decoded strip by strip or tile by tile; ``_lock`` guards the file, which pages share."""

    page: Any
    path: Path
    _lock: threading.Lock
    _kept: OrderedDict[int, NDArray[Any]] = field(default_factory=OrderedDict, init=False, repr=False)
    _kept_bytes: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        key = self.page.keyframe
        self.samples = key.samplesperpixel
        self.separate = self.samples if key.planarconfig == 2 and self.samples > 1 else 1
        self.side_px = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        self.grid = (math.ceil(key.imagelength / self.side_px[0]), math.ceil(key.imagewidth / self.side_px[1]))
        held = math.prod(self.side_px) * (self.samples if self.separate == 1 else 1) * np.dtype(key.dtype).itemsize
        if held > LARGEST_BYTES:
            message = f"keeps {held / 1e9:.1f} GB in one strip or tile, more than is decoded at once."
            raise data_error(self.path, "image-too-large", message=message, fix="export it as tiled TIFF")
        # The file may list fewer strips or tiles than it has, or end before one of them.
        count = self.separate * self.grid[0] * self.grid[1]
        size = self.page.parent.filehandle.size
        places = list(zip(self.page.dataoffsets, self.page.databytecounts, strict=False))[:count]
        there = sum(start > 0 and length > 0 and start + length <= size for start, length in places)
        if there < count:
            message = f"is cut short: only {there / count:.0%} of its pixels are there."
            raise data_error(self.path, "unreadable", message=message, fix=COPY_AGAIN)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the values of a box, (h, w) or (h, w, samples)."""
        row, col, height, width = box
        key = self.page.keyframe
        values = np.empty((height, width, self.samples), dtype=key.dtype)
        per_plane = self.grid[0] * self.grid[1]
        (down, across) = self.side_px
        keep = height * width < key.imagelength * key.imagewidth
        for plane in range(self.separate):
            target = values if self.separate == 1 else values[..., plane : plane + 1]
            for i in range(row // down, -(-(row + height) // down)):
                for j in range(col // across, -(-(col + width) // across)):
                    part = self._decode(plane * per_plane + i * self.grid[1] + j, keep=keep)
                    top, left = max(row, i * down), max(col, j * across)
                    low, right = min(row + height, i * down + down), min(col + width, j * across + across)
                    target[top - row : low - row, left - col : right - col] = part[
                        top - i * down : low - i * down, left - j * across : right - j * across
                    ]
        return values[..., 0] if self.samples == 1 else values

    def _decode(self, index: int, *, keep: bool) -> NDArray[Any]:
        """Return a strip or tile, (h, w, samples of the plane)."""
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            handle = self.page.parent.filehandle
            handle.seek(self.page.dataoffsets[index])
            data = handle.read(self.page.databytecounts[index])
        key = self.page.keyframe
        claim = _read_claim(data, key.compression)
        if any(said > SLACK * side for said, side in zip(claim, self.side_px, strict=True)):
            message = f"is damaged: a part of {self.side_px} px calls itself {claim} px large."
            raise data_error(self.path, "unreadable", message=message, fix=COPY_AGAIN)
        tables = {"jpegtables": self.page.jpegtables, "jpegheader": key.jpegheader} if key.compression in JPEGS else {}
        part, _, _ = key.decode(data, index, **tables)
        if part is None:
            raise data_error(self.path, "unreadable", message="is cut short: a part of it is empty.", fix=COPY_AGAIN)
        part = part[0]
        if keep:
            with self._lock:
                self._kept[index] = part
                self._kept_bytes += part.nbytes
                while self._kept_bytes > CACHE_BYTES and len(self._kept) > 1:
                    self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return part


def _read_claim(data: bytes, compression: int) -> tuple[int, int]:
    """Return (height_px, width_px) that a strip or tile claims in the header of its JPEG, JPEG 2000 or PNG.

    A decoder would reserve, and fill, as much as that. It is (0, 0) where there is none to be read.
    """
    if compression in JPEGS:
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:
            marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
                height, width = struct.unpack_from(">HH", data, at + 5)
                return height, width
            at += 1 if marker == 0xFF else 2 + length
    if compression in JPEG2000:
        at = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, then its size: whole, and offset
        if 0 <= at <= len(data) - 24:
            width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
            return max(0, height - top), max(0, width - left)
    if compression == PNG and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    return 0, 0
