"""The text of a table, or what its bytes are instead."""

from __future__ import annotations

import codecs

from ...errors import DataError, Problem

LARGEST_BYTES = 1 << 30
LONGEST_LINE = 8 << 20  # a hundred thousand columns of numbers are some 2 MB
# How files begin that are no text.
ARCHIVES = {
    b"PK\x03\x04": "a spreadsheet or archive",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
ZERO_FRAC = 0.4  # of the signs of a text in UTF-16 that belong to ASCII, at least
PROBED_BYTES = 2000


def decode_table(data: bytes, file: str) -> str:
    """The text of a table in UTF-8.

    Raises:
        DataError: it is in another encoding, is no text, or is too large for a table of images.
    """
    kind = next((kind for start, kind in ARCHIVES.items() if data.startswith(start)), None)
    if kind is not None:
        message = f"is {kind} (it begins with '{data[:2].decode('latin-1')}'), not text."
        raise _refuse(file, message, fix="open it in the program that made it and save it as 'CSV UTF-8'")
    if len(data) > LARGEST_BYTES or max(map(len, data.split(b"\n"))) > LONGEST_LINE:
        message = f"has more than {LARGEST_BYTES >> 20} MB, or {LONGEST_LINE >> 20} MB in a line."
        raise _refuse(file, message, fix="save the columns of image, label, mask, case and part alone as CSV")
    guess = guess_encoding(data)
    position = max(0, data.find(b"\0")) if guess is not None and data[0] < codecs.BOM_UTF16_BE[0] else 0
    if guess is None:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            guess, position = "WINDOWS-1252", error.start
    line = data[:position].count(b"\n") + 1
    where = f"byte 0x{data[position]:02x} at position {position}, line {line}"
    if guess == "":
        raise _refuse(file, f"is no text: {where}.", fix="put the table in its place, as CSV in UTF-8")
    fix = f"save it as 'CSV UTF-8', or: iconv -f {guess} -t UTF-8 {file} > fixed.csv, then mv it back"
    raise _refuse(file, f"is not UTF-8: {where}; probably {guess}.", fix=fix)


def guess_encoding(data: bytes) -> str | None:
    """What a text is written in when it is not UTF-8; None where it may be that, "" for what is no text."""
    for mark, name in MARKS.items():
        if data.startswith(mark):
            return name
    if b"\0" not in data:
        return None
    start = data[:PROBED_BYTES]
    for name, first in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        zeros = start[first::2].count(0)
        if zeros > ZERO_FRAC * len(start) / 2 and not start[1 - first :: 2].count(0):
            return name
    return ""


def _refuse(file: str, message: str, *, fix: str) -> DataError:
    return DataError("a table cannot be read", [Problem("table-encoding", file, message, fix)])
