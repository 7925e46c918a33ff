"""What systems, file servers and programs leave behind in a data folder; it is counted and passed over."""

from __future__ import annotations

import os
from pathlib import Path

# In lower case; what is hidden, or a lock of an office program (~$), is passed over besides.
LITTER_FOLDERS = frozenset({
    "__macosx", "__pycache__", "lost+found", "$recycle.bin", "recycler", "system volume information", "@eadir",
    "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "@transcode", "~snapshot",
    "network trash folder", "temporary items", "@__thumb",
})  # fmt: skip
LITTER_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
LITTER_SUFFIXES = (
    ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".filepart", ".!ut", ".aria2", ".lck",
    "@synoeastream", "@synoresource", ":encryptable", ":zone.identifier", "~",
)  # fmt: skip
MOST_LITTER = 1000  # files that are counted: the snapshots of a file server hold millions
LITTER = "hidden files and litter of systems"  # the kind under which it is told


def is_litter(name: str, *, is_folder: bool) -> bool:
    """Whether a file or folder is hidden, or left behind by a system, a file server or a program."""
    if name.startswith((".", "~$")):
        return True
    lower = name.lower()
    return lower in LITTER_FOLDERS if is_folder else lower in LITTER_FILES or lower.endswith(LITTER_SUFFIXES)


def list_litter(root: Path, name: str, *, is_folder: bool, known: int) -> list[str]:
    """The files of a piece of litter, relative to ``root``: itself or all below; `MOST_LITTER` with those known."""
    found = [] if is_folder else [name]
    for below, folders, files in os.walk(root / name) if is_folder else ():
        links = [folder for folder in folders if (Path(below) / folder).is_symlink()]
        found += [(Path(below) / file).relative_to(root).as_posix() for file in (*files, *links)]
        if len(found) + known >= MOST_LITTER:
            break
    return found[: max(0, MOST_LITTER - known)]
