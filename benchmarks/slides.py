"""Pyramids of JPEG tiles as scanners write them (tiled TIFF), drawn from a few patches."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_PX = 256
QUALITY = 85
SHORT, LONG, RATIONAL = 3, 4, 5  # TIFF's kinds of fields
SIZES = {SHORT: 2, LONG: 4, RATIONAL: 8}


def draw_slide(
    path: Path,
    patches: Sequence[NDArray[np.uint8]],
    inside: NDArray[np.uint8],
    *,
    side_px: int,
    mpp: float | None,
    sparse: bool = False,
) -> Path:
    """A square slide: patches (TILE_PX, TILE_PX, 3) in a random order where the map ``inside`` is, glass elsewhere.

    Levels are 1, 4 and 16 times smaller. A tile is written once for each place, as a scanner does; with ``sparse`` the
    glass of the first level is written once for all places.
    """
    count = -(-side_px // TILE_PX)
    there = cv2.resize(inside, (count, count), interpolation=cv2.INTER_AREA) > 0
    drawn = np.random.default_rng(0).integers(len(patches), size=(count, count))
    glass = np.full((TILE_PX, TILE_PX, 3), 244, np.uint8)
    tiles = [*patches, glass]
    chosen = np.where(there, drawn, len(patches))
    with path.open("wb") as file:
        file.write(b"II*\0" + struct.pack("<I", 0))
        link = 4
        for factor in (1, 4, 16):
            places = _write_tiles(file, tiles, chosen, factor=factor, sparse=sparse)
            link = _write_directory(file, link, side_px // factor, mpp=mpp, reduced=factor > 1, tiles=places)
    return path


def _write_tiles(
    file: BinaryIO, tiles: Sequence[NDArray[np.uint8]], chosen: NDArray[np.int64], *, factor: int, sparse: bool
) -> tuple[list[int], list[int]]:
    """Where the tiles of one level are in the file, and how long they are."""
    side = TILE_PX // factor
    small = [cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA) for tile in tiles]
    known = [_encode(tile) for tile in small] if factor == 1 else []
    count = -(-len(chosen) // factor)
    padded = np.pad(chosen, (0, count * factor - len(chosen)), constant_values=len(tiles) - 1)
    offsets, lengths = [], []
    glass_at: int | None = None
    for row, col in np.ndindex(count, count):
        block = padded[row * factor : (row + 1) * factor, col * factor : (col + 1) * factor]
        data = known[block[0, 0]] if known else _encode(np.vstack([np.hstack([small[i] for i in r]) for r in block]))
        lengths.append(len(data))
        shared = sparse and bool(known) and block[0, 0] == len(tiles) - 1
        if shared and glass_at is not None:
            offsets.append(glass_at)
            continue
        offsets.append(file.tell())
        glass_at = offsets[-1] if shared else glass_at
        file.write(data)
    return offsets, lengths


def _encode(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _write_directory(
    file: BinaryIO, link: int, side_px: int, *, mpp: float | None, reduced: bool, tiles: tuple[list[int], list[int]]
) -> int:
    """Append a directory, point ``link`` at it, and return where the link to the next one is."""
    fields = [
        (254, LONG, [int(reduced)]), (256, LONG, [side_px]), (257, LONG, [side_px]), (258, SHORT, [8, 8, 8]),
        (259, SHORT, [7]), (262, SHORT, [6]), (277, SHORT, [3]), (322, LONG, [TILE_PX]), (323, LONG, [TILE_PX]),
        (324, LONG, tiles[0]), (325, LONG, tiles[1]), (530, SHORT, [2, 2]),
    ]  # fmt: skip
    if mpp is not None:
        per_cm = (round(1e7 / mpp), 1000)
        fields += [(282, RATIONAL, [*per_cm]), (283, RATIONAL, [*per_cm]), (296, SHORT, [3])]
    entries = []
    for tag, kind, values in sorted(fields):
        data = struct.pack(f"<{len(values)}{'H' if kind == SHORT else 'I'}", *values)
        if len(data) > 4:
            position = file.tell()
            file.write(data)
            data = struct.pack("<I", position)
        count = len(values) // 2 if kind == RATIONAL else len(values)
        entries.append(struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0"))
    file.write(b"\0" * (file.tell() % 2))
    start = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0))
    end = file.tell()
    file.seek(link)
    file.write(struct.pack("<I", start))
    file.seek(end)
    return end - 4
