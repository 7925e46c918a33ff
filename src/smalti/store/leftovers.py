"""Names of temporary files and folders, and the end of those whose process is dead.

A name says which process of which machine made it, so that what a killed process left can be told from what a living
one is writing. It does not hold the final name, which may be as long as a file system allows.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from contextlib import suppress
from pathlib import Path

import psutil

PATTERN = re.compile(r"\.smalti-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<started>\d+)-[0-9a-f]{8}\.tmp")
SLACK_S = 5  # clocks are set
KEPT_S = 7 * 24 * 3600  # what another machine left; nothing takes so long


def name_temporary(folder: Path) -> Path:
    """A name in ``folder`` that nothing has."""
    process = os.getpid()
    return folder / f".smalti-{_hash_host()}-{process}-{_find_start(process)}-{secrets.token_hex(4)}.tmp"


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Remove temporary files and folders of dead processes in ``folder``; with ``deep``, below it too.

    What cannot be removed stays: it takes room and does no harm.
    """
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if (found := PATTERN.fullmatch(name)) is not None and _is_dead(Path(place, name), found):
                _remove(Path(place, name))
        folders[:] = [name for name in folders if deep and not PATTERN.fullmatch(name)]


@functools.cache
def _find_start(process: int) -> int:
    return int(psutil.Process(process).create_time())


def _hash_host() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_dead(path: Path, found: re.Match[str]) -> bool:
    if found["host"] != _hash_host():
        try:
            return time.time() - path.lstat().st_mtime > KEPT_S
        except OSError:
            return False  # its owner was faster
    try:
        started = psutil.Process(int(found["process"])).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False  # there is one, of somebody else
    return abs(started - int(found["started"])) > SLACK_S


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
