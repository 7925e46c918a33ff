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
from .litter import LITTER, is_litter, list_litter
from .masks.pairing import Pairs, is_mask_name, pair_masks
from .tables.names import NOTHING, Match, NameIndex, is_image_name, natural_key

ODD_NAMES = "files whose name no table can hold"
TABLE_SUFFIXES = (".csv", ".tsv")
EXACT_RANK = (1 << 20, 0)  # above whatever an index finds


def clean_path(text: str, root: Path) -> str | None:
    """A path from a table as POSIX text relative to ``root``; None when it leaves the folder.

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
    or that bear the name of an image.
    """

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passed: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pairs: Pairs = field(default_factory=Pairs)
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
        names = [name for name in names if folder._accept(name)]
        folder.files = {name: root / name for name in sorted(names, key=natural_key)}
        names, top = folder.list_images(), root.resolve().name
        folder.pairs = pair_masks(names)
        folder._pictures = NameIndex([name for name in names if name not in folder.pairs.names], top)
        folder._masks = NameIndex([name for name in names if name in folder.pairs.names], top)
        return folder

    def _list(self, below: str) -> tuple[list[str], list[str]]:
        """Paths of the files and of the folders in a folder."""
        start = f"{below}/" if below else ""
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(self.root / below) as entries:
                for entry in entries:
                    name, is_folder = start + entry.name, _is_folder(entry)
                    if is_litter(entry.name, is_folder=is_folder):
                        passed = self.passed[LITTER]
                        passed += list_litter(self.root, name, is_folder=is_folder, known=len(passed))
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

    def _accept(self, name: str) -> bool:
        """Whether a file has a name that tables, pages and other systems can hold; what is no data has any."""
        if is_plain(name):
            return True
        if is_image_name(name) or name.lower().endswith(TABLE_SUFFIXES):
            utf8 = not any("\ud800" <= sign <= "\udfff" for sign in name)
            what = "control signs, such as a line break" if utf8 else "bytes that are not UTF-8"
            self._report("name", show_text(name), message=f"has a name with {what} (shown as \\...).", fix="rename it")
        else:
            self.passed[ODD_NAMES].append(show_text(name))
        return False

    def _report(self, code: str, file: str, *, message: str, fix: str, warning: bool = False) -> None:
        images = () if warning else (show_text(file),)
        self.problems.append(Problem(code, file, message, fix, images, warning))

    def list_images(self, below: str = "") -> list[str]:
        """Images and masks below a folder ("" for all)."""
        start = f"{below}/" if below else ""
        return [name for name in self.files if name.startswith(start) and is_image_name(name)]

    def list_folders(self, below: str = "") -> list[str]:
        """Names of the folders directly below that hold images at any depth."""
        start = f"{below}/" if below else ""
        rests = (name[len(start) :] for name in self.list_images(below))
        return list(dict.fromkeys(rest.split("/")[0] for rest in rests if "/" in rest))

    def find_image(self, text: str) -> Match:
        """The image that a table calls ``text``, or the candidates; a mask only where the text names one."""
        exact = (text, f"images/{text}") if text != text.strip() else ()  # spaces around it may be part of the name
        cleaned = clean_path(text, self.root)
        for name in (*exact, *((cleaned, f"images/{cleaned}") if cleaned else ())):
            if name in self.files:
                return Match((name,), rank=EXACT_RANK)
        wanted = text if cleaned is None else cleaned
        found = self._pictures.find(wanted)
        return found if found.names or not is_mask_name(wanted) else self._masks.find(wanted)

    def find_mask(self, text: str, image: str) -> Match:
        """The mask that a table calls ``text``, or the candidates; never the image itself."""
        cleaned = clean_path(text, self.root)
        for name in (cleaned, f"masks/{cleaned}", f"mask/{cleaned}") if cleaned else ():
            if name in self.files and name != image:
                return Match((name,), rank=EXACT_RANK)
        wanted = text if cleaned is None else cleaned
        found = (self._masks.find(wanted), self._pictures.find(wanted))
        others = (replace(m, names=tuple(name for name in m.names if name != image)) for m in found)
        return max((m for m in others if m.names), key=lambda match: match.rank, default=NOTHING)

    def give_mask(self, sample: Sample, masks: Iterable[str] | None = None) -> Sample:
        """The sample with these masks; without them, with those that its name says are its own."""
        found = tuple(self.files[name] for name in (self.pairs.of.get(sample.image, ()) if masks is None else masks))
        if not found:
            return sample
        return replace(sample, mask_path=found[0], mask_reading=MaskReading(more=found[1:]))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a ring of links: it is told where it is opened
        return False
