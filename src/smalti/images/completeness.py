"""Checks that Pillow leaves out: it fills missing pixels with black and skips checksums."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

from PIL import Image

from ..errors import DataError, Problem
from .failures import COPY_AGAIN, data_error
from .sources import open_file

PIECE_BYTES = 1 << 20
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by kind of colour
# Start and step, down and across, of the seven passes of an interlaced PNG.
PNG_PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
JPEG_BLOCK_PX = 8
JPEG_FILLING = 128  # what libjpeg puts where data end early


def check_whole(image: Image.Image, path: Path) -> None:
    """Raise a `DataError` where a decoded PNG holds fewer pixels than it says, or one of its checksums is wrong."""
    if image.format != "PNG":
        return
    # Rows that never came are black, and counting all bytes takes half as long as decoding them.
    end = image.crop((0, max(0, image.height - 2), image.width, image.height))
    count = end.getbbox(alpha_only=False) is None
    wanted = got = 0
    unpacker = zlib.decompressobj()
    with open_file(path) as file:
        file.seek(8)
        kind = b""
        while kind != b"IEND" and len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind[0] & 0x20:  # for people, not for the decoder
                file.seek(length + 4, 1)
                continue
            total = zlib.crc32(kind)
            while length:
                piece = file.read(min(length, PIECE_BYTES))
                if not piece:
                    raise _short_error(path, f"it ends inside a chunk {kind.decode('latin-1')}")
                total = zlib.crc32(piece, total)
                length -= len(piece)
                if kind == b"IHDR":
                    wanted = _count_png_bytes(piece) if count else 0
                while kind == b"IDAT" and piece and got < wanted:
                    got += len(unpacker.decompress(piece, PIECE_BYTES))
                    piece = unpacker.unconsumed_tail
            said = file.read(4)
            if len(said) == 4 and struct.unpack(">I", said)[0] != total:
                message = f"is damaged: the checksum of a chunk {kind.decode('latin-1')} is wrong."
                raise data_error(path, "unreadable", message=message, fix=COPY_AGAIN)
    if got < wanted:
        raise _short_error(path, f"only {got / wanted:.0%} of its pixels are there")


def find_doubts(image: Image.Image, path: Path) -> list[Problem]:
    """Return doubts about a decoded picture: it is one of several, or its data seem to end early."""
    doubts = []
    if image.format == "JPEG" and image.mode in {"L", "RGB"}:
        corner = image.crop((image.width - JPEG_BLOCK_PX, image.height - JPEG_BLOCK_PX, image.width, image.height))
        flat = [(JPEG_FILLING, JPEG_FILLING)] * len(image.getbands())
        ends, whole = ([band.getextrema() for band in part.split()] for part in (corner, image))
        if ends == flat and whole != flat:
            message = "ends in the flat grey that takes the place of missing data: it may have been cut short."
            doubts.append(Problem("image-cut", str(path), message, COPY_AGAIN, warning=True))
    if image.format == "MPO":
        size = image.size
        with suppress(EOFError, OSError, SyntaxError, ValueError):  # no second picture that could be read
            image.seek(1)
            if image.size == size:  # smaller ones are previews of the first
                message, fix = (
                    "holds a second picture of the same size, and only the first is read.",
                    "save the one that ",
                )
                doubts.append(Problem("several-frames", str(path), message, f"{fix}is meant by itself", warning=True))
    return doubts


def _count_png_bytes(header: bytes) -> int:
    """Return bytes of all rows, each with the one that names its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    bits = depth * PNG_CHANNELS.get(colour, 1)
    total = 0
    for top, down, left, across in PNG_PASSES if interlaced else ((0, 1, 0, 1),):
        rows, columns = -(-(height - top) // down), -(-(width - left) // across)
        if rows > 0 and columns > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _short_error(path: Path, reason: str) -> DataError:
    return data_error(path, "unreadable", message=f"is cut short: {reason}.", fix=COPY_AGAIN)
