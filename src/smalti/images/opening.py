"""The reader for a file, by its first bytes: Pillow, or that of stored values (TIFF, more than 8 bits)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .failures import name_failures
from .sources import open_file
from .stored.picture import Stored
from .stored.tiffs import MAGIC, open_tiff
from .stored.wide import SNIFFED_BYTES, find_wide, open_wide


@contextmanager
def open_stored(path: Path) -> Iterator[Stored | None]:
    """Open the picture as its file stores it; None where Pillow reads it.

    Raises:
        DataError: it is missing, damaged, of a kind that is refused, or which of its pages is meant cannot be told.
    """
    with name_failures(path), open_file(path) as file:
        start = file.read(SNIFFED_BYTES)
    if start[:4] in MAGIC:
        with open_tiff(path) as stored:
            yield stored
    elif (wide := find_wide(start)) is not None:
        with open_wide(path, wide, start) as stored:
            yield stored
    else:
        yield None
