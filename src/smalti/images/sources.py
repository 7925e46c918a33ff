"""The bytes behind an image: opened only where they are a regular file, hashed, and held while they are decoded."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import BufferedReader, BytesIO
from pathlib import Path

from .failures import data_error, name_failures

# What is no regular file: reading may wait for ever (a pipe), never end (a device), or make no sense (a folder).
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
SERIES_TAG, SERIES_BYTES = b"\x20\x00\x0e\x00UI", 1 << 16  # SeriesInstanceUID, and where in a file it is looked for
Stamp = tuple[int, ...]  # a change of a file changes it: size, times, and which file the name means


@lru_cache(maxsize=100_000)
def _read_series(path: Path, *stamp: int) -> bytes:
    """Return the DICOM series of a file, empty where it does not say; ``stamp`` tells one content from another."""
    with open_file(path) as file:
        start = file.read(SERIES_BYTES)
    at = start.find(SERIES_TAG) + len(SERIES_TAG)
    length = int.from_bytes(start[at : at + 2], "little")
    return start[at + 2 : at + 2 + length] if at >= len(SERIES_TAG) else b""


class Held(threading.local):
    """The bytes that a thread decodes in the place of what is on disk (`smalti.images.holding`)."""

    def __init__(self) -> None:
        self.bytes: dict[Path, bytes] = {}


HELD = Held()


def list_parts(path: Path) -> list[Path]:
    """Return the files that make up an image: itself, and what a slide of several files keeps beside it."""
    suffix = path.suffix.lower()
    beside: Iterable[Path] = ()
    if suffix == ".mrxs":
        beside = path.with_suffix("").rglob("*")
    elif suffix == ".dcm":  # each resolution is a file; all of them mean the slide, so that their order must be one
        parts, wanted = {path}, b""
        for part in (path, *path.parent.glob("*.dcm")):
            state = part.stat()
            series = _read_series(part, state.st_size, state.st_mtime_ns)
            wanted = wanted or series
            if not wanted:
                break  # it does not say its series
            parts |= {part} if series == wanted else set()
        return sorted(parts)
    elif suffix in {".vms", ".vmu"}:
        beside = (p for p in path.parent.iterdir() if p.name.startswith(path.stem) and p != path)
    return [path, *sorted(p for p in beside if p.is_file())]


def open_file(path: Path) -> BytesIO | BufferedReader:
    """Return the bytes of a regular file, those that are held where there are any.

    Raises:
        DataError: it is no regular file, is missing, or may not be read.
    """
    if path in HELD.bytes:
        return BytesIO(HELD.bytes[path])
    refuse_special(path)
    with name_failures(path):
        # What was a file a moment ago may be a pipe, and without O_NONBLOCK opening one waits for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(handle, "rb")
        try:
            state = os.fstat(handle)
            refuse_special(path, state.st_mode)
        except BaseException:
            file.close()
            raise
        # The system's own views, as in /proc, have no size; reading one may wait for ever.
        if state.st_size:
            return file
        file.close()
        return BytesIO()


def refuse_special(path: Path, mode: int | None = None) -> None:
    """Raise a `DataError` where a path is missing, or no regular file; ``mode`` is what `os.stat` says of it."""
    with name_failures(path):
        try:
            mode = path.stat().st_mode if mode is None else mode
        except (FileNotFoundError, NotADirectoryError):
            if not path.is_symlink():
                raise
            message = f"is a link to '{path.readlink()}', which does not exist."
            raise data_error(path, "missing-file", message=message, fix="put the file itself in its place") from None
    if not stat.S_ISREG(mode):
        kind = next((name for belongs, name in KINDS if belongs(mode)), "something else")
        fix = "move it away, or put the file in its place"
        raise data_error(path, "not-a-file", message=f"is {kind}, not a file.", fix=fix)


def read_stamp(path: Path) -> Stamp:
    """Return the stamp of the files of an image: it differs wherever one of them may have changed.

    Raises:
        DataError: it cannot be asked.
    """
    with name_failures(path):
        found = [part.stat() for part in list_parts(path)]
    # The time of the last change of an inode is not to be set back, which that of its content is.
    return tuple(n for s in found for n in (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev))


def list_times(stamp: Sequence[int]) -> list[int]:
    """Return when the files of a stamp were last written or touched, in nanoseconds."""
    return [n for i, n in enumerate(stamp) if i % 5 in {1, 2}]


def hash_image(path: Path) -> str:
    """Hash of the bytes of an image and of all that belongs to it; of those that are held, where there are any.

    Raises:
        DataError: they cannot be read, or are no regular file.
    """
    hashes = []
    with name_failures(path):
        for part in list_parts(path):
            with open_file(part) as file:
                hashes.append(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b("".join(hashes).encode(), digest_size=12).hexdigest()
