"""Hashes of texts and files."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import images
from .files import write_json

TICK_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's


def hash_text(*parts: str) -> str:
    """Short hash of texts, in order."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part.encode("utf-8"))
        digest.update(b"\0")
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()


def hash_files(paths: Iterable[Path], *, memo: Path | None) -> dict[Path, str]:
    """Hash of each image; files that were not touched since are looked up in ``memo``, where there is one.

    Raises:
        DataError: a file is gone, cannot be read, or changes while it is read.
    """
    known = {} if memo is None else read_memo(memo)
    hashes: dict[Path, str] = {}
    changed = False
    for path in dict.fromkeys(paths):
        stamp = list(images.read_stamp(path))
        entry = known.get(str(path))
        if entry is None or entry[:-1] != stamp:
            entry = [*stamp, images.hash_image(path)]
            if list(images.read_stamp(path)) != stamp:
                raise images.changed_error(path)
            # Clocks tick: what is written right after the hash may bear the time that was seen before it.
            if all(abs(time.time_ns() - moment) > TICK_NS for moment in images.list_times(stamp)):
                known[str(path)] = entry
                changed = True
        hashes[path] = str(entry[-1])
    if changed and memo is not None:
        write_json(memo, known)
    return hashes


def read_memo(memo: Path) -> dict[str, list[Any]]:
    """Read path -> stamp and hash of files seen so far. It only saves time, so a damaged one is an empty one."""
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) > 1}


def name_apart(root: Path) -> str:
    """Name a data folder so that another one of the same last name is named otherwise."""
    return f"{root.name}-{hash_text(str(root))[:8]}"
