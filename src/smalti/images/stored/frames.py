"""What size a compressed strip or tile claims for itself: a decoder would reserve, and fill, as much as that."""

from __future__ import annotations

import struct

JPEGS = (6, 7, 34892, 33007)  # compressions of TIFF
PNG, JPEG2000 = (34933,), (33003, 33004, 33005, 34712)


def read_claim(data: bytes, compression: int) -> tuple[int, int]:
    """(height_px, width_px) in the header of a JPEG, JPEG 2000 or PNG; (0, 0) where there is none to be read."""
    if compression in JPEGS:
        return _read_jpeg(data)
    if compression in JPEG2000:
        at = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, then its size: whole, and offset
        if 0 <= at <= len(data) - 24:
            width, height, left, top = struct.unpack_from(">IIII", data, at + 8)
            return max(0, height - top), max(0, width - left)
    if compression in PNG and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return height, width
    return 0, 0


def _read_jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return height, width
        at += 1 if marker == 0xFF else 2 + length
    return 0, 0
