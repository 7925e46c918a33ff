"""The files of a data folder, and how a text in a table finds one of them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from ..errors import Problem, is_plain, show_text
from ..types import MaskReading, Sample
from .masks.pairing import Pairs, is_mask_name, pair_masks
from .tables.names import NOTHING, Match, NameIndex, is_image_name, natural_key

ODD_NAMES = "files whose name no table can hold"
TABLE_SUFFIXES = (".csv", ".tsv")
EXACT_RANK = (1 << 20, 0)  # above whatever an index finds
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


def clean_path(text: str, root: Path) -> str | None:
    """Return a path from a table as POSIX text relative to ``root``; None when it leaves the folder.

    Judged as text: backslashes and Windows drives count, links inside the folder are not followed.
    """
    text = text.strip()
    if PureWindowsPath(text).drive or PureWindowsPath(text).root:
        for base in (root, root.resolve()):
            if text.startswith(f"{base.as_posix()}/"):
                text = text[len(base.as_posix()) + 1 :]
                break
        else:
            return None
    kept: list[str] = []
    for part in text.replace("\\", "/").split("/"):
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in {"", "."}:
            kept.append(part)
    return "/".join(kept)


@dataclass(slots=True)
class Folder:
    """Every file below a data folder, by POSIX path relative to it, naturally sorted.

    ``problems`` are about what is left out of ``files``: names that no table can hold, folders that cannot be listed
    or that bear the name of an image. Where ``bags`` are given, files of features take the place of images.
    """

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pairs: Pairs = field(default_factory=Pairs)
    bags: frozenset[str] | None = None
    _pictures: NameIndex = field(default_factory=lambda: NameIndex(()))
    _masks: NameIndex = field(default_factory=lambda: NameIndex(()))

    @classmethod
    def walk(cls, root: Path) -> Folder:
        """List the files; hidden ones and litter of systems and file servers are left out, loops of links are cut."""
        names: list[str] = []
        folder = cls(root)
        seen: set[tuple[int, int]] = set()
        waiting, links = [""], list[str]()
        while waiting or links:
            below = (waiting or links).pop()  # links last, so that what they lead to bears its own name
            with suppress(OSError):  # it is told when it is listed
                state = (root / below).stat()
                if (state.st_dev, state.st_ino) in seen:
                    continue
                seen.add((state.st_dev, state.st_ino))
            files, folders = folder._list(below)
            names += files
            for name in sorted(folders, reverse=True):
                (links if (root / name).is_symlink() else waiting).append(name)
        for name in sorted(names, key=natural_key):
            if is_plain(name):
                folder.files[name] = root / name
            elif is_image_name(name) or name.lower().endswith(TABLE_SUFFIXES):
                # Tables, pages and other systems cannot hold such a name.
                utf8 = not any("\ud800" <= sign <= "\udfff" for sign in name)
                what = "control signs, such as a line break" if utf8 else "bytes that are not UTF-8"
                message = f"has a name with {what} (shown as \\...)."
                folder._report("name", show_text(name), message=message, fix="rename it")
            else:
                folder.passed[ODD_NAMES].append(show_text(name))
        names, top = folder.list_images(), root.resolve().name
        folder.pairs = pair_masks(names)
        folder._pictures = NameIndex([name for name in names if name not in folder.pairs.names], top)
        folder._masks = NameIndex([name for name in names if name in folder.pairs.names], top)
        return folder

    def _list(self, below: str) -> tuple[list[str], list[str]]:
        """Return the paths of the files and of the folders in a folder."""
        start = f"{below}/" if below else ""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(self.root / below) as entries:
                for entry in entries:
                    name, is_folder = start + entry.name, False
                    with suppress(OSError):  # a ring of links is told where it is opened
                        is_folder = entry.is_dir()
                    # What is hidden, or left behind by a system, a file server or a program.
                    lower = entry.name.lower()
                    of_file = lower in LITTER_FILES or lower.endswith(LITTER_SUFFIXES)
                    if lower.startswith((".", "~$")) or (lower in LITTER_FOLDERS if is_folder else of_file):
                        passed = self.passed[LITTER]
                        passed += _list_litter(self.root, name, is_folder=is_folder, known=len(passed))
                    else:
                        (folders if is_folder else files).append(name)
        except OSError as error:
            self._report("folder-unreadable", below or str(self.root),
                         message=f"cannot be listed: {error.strerror}; nothing in it is read.",
                         fix="check its permissions and links", warning=True)  # fmt: skip
        # A folder with the name of an image takes the place of one, unless images are kept in it.
        kind = "table" if below.lower().endswith(TABLE_SUFFIXES) and "/" not in below else ""
        if is_image_name(below) and not any(map(is_image_name, files)) and not folders:
            kind = "image"
        if kind:
            self._report("not-a-file", below, message=f"is a folder, no {kind}.", fix="move it away or rename it")
        return files, folders

    def _report(self, code: str, file: str, *, message: str, fix: str, warning: bool = False) -> None:
        images = () if warning else (show_text(file),)
        self.problems.append(Problem(code, file, message, fix, images, warning))

    def list_images(self, below: str = "") -> list[str]:
        """Return images and masks below a folder ("" for all)."""
        start = f"{below}/" if below else ""
        return [name for name in self.files if name.startswith(start) and self._is_sample(name)]

    def _is_sample(self, name: str) -> bool:
        return is_image_name(name) if self.bags is None else name in self.bags

    def take_bags(self, names: Iterable[str]) -> Folder:
        """Return the same folder with these files of features in the place of its images; it has no masks."""
        bags = frozenset(names)
        return replace(
            self, bags=bags, pairs=Pairs(), _masks=NameIndex(()),
            _pictures=NameIndex([name for name in self.files if name in bags], self.root.resolve().name),
        )  # fmt: skip

    def find_image(self, text: str) -> Match:
        """Return the image that a table calls ``text``, or the candidates; a mask only where the text names one."""
        exact = (text, f"images/{text}") if text != text.strip() else ()  # spaces around it may be part of the name
        cleaned = clean_path(text, self.root)
        for name in (*exact, *((cleaned, f"images/{cleaned}") if cleaned else ())):
            if name in (self.files if self.bags is None else self.bags):
                return Match((name,), rank=EXACT_RANK)
        wanted = text if cleaned is None else cleaned
        # Folders of slides are not those of their features.
        found = self._pictures.find(wanted, loose=self.bags is not None)
        return found if found.names or not is_mask_name(wanted) else self._masks.find(wanted)

    def find_mask(self, text: str, image: str) -> Match:
        """Return the mask that a table calls ``text``, or the candidates; never the image itself."""
        cleaned = clean_path(text, self.root)
        for name in (cleaned, f"masks/{cleaned}", f"mask/{cleaned}") if cleaned else ():
            if name in self.files and name != image:
                return Match((name,), rank=EXACT_RANK)
        wanted = text if cleaned is None else cleaned
        found = (self._masks.find(wanted), self._pictures.find(wanted))
        others = (replace(m, names=tuple(name for name in m.names if name != image)) for m in found)
        return max((m for m in others if m.names), key=lambda match: match.rank, default=NOTHING)

    def give_mask(self, sample: Sample, masks: Iterable[str] | None = None) -> Sample:
        """Return the sample with these masks; without them, with those that its name says are its own."""
        found = tuple(self.files[name] for name in (self.pairs.of.get(sample.image, ()) if masks is None else masks))
        if not found:
            return sample
        return replace(sample, mask_path=found[0], mask_reading=MaskReading(more=found[1:]))


def _list_litter(root: Path, name: str, *, is_folder: bool, known: int) -> list[str]:
    """Return the files of a piece of litter, relative to ``root``: itself or all below.

    `MOST_LITTER` with those known.
    """
    found = [] if is_folder else [name]
    for below, folders, files in os.walk(root / name) if is_folder else ():
        links = [folder for folder in folders if (Path(below) / folder).is_symlink()]
        found += [(Path(below) / file).relative_to(root).as_posix() for file in (*files, *links)]
        if len(found) + known >= MOST_LITTER:
            break
    return found[: max(0, MOST_LITTER - known)]
