"""Folders that are built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from .leftovers import name_temporary, remove_leftovers

CACHE = "cache"  # in the folder of all runs


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Fill ``folder`` with ``build(temporary folder)`` unless it is there; safe when two processes do it at once.

    The first to finish renames its folder into place; a later one drops its own.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)
    temporary = name_temporary(folder.parent)
    try:
        temporary.mkdir()
        build(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
