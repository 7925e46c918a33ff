"""The files of a data folder, and how a text in a table finds one of them."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import Problem, is_plain, show_text
from .litter import LITTER, is_litter, list_litter
from .names import NOTHING, Match, NameIndex, drop_image_suffix, drop_img_prefix, is_image_name, natural_key

ODD_NAMES = "files whose name no table can hold"
TABLE_SUFFIXES = (".csv", ".tsv")
EXACT_RANK = (1 << 20, 0)  # above whatever an index finds
MASK_FOLDERS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotation", "annotations"})


def is_mask_name(name: str) -> bool:
    """Whether a path looks like a mask: ``mask_...``, ``..._mask``, or below a folder of masks."""
    path = PurePosixPath(name.lower())
    named = path.stem.startswith("mask_") or path.stem.endswith(("_mask", "-mask"))
    return named or any(part in MASK_FOLDERS for part in path.parts[:-1])


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
    _stems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
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
        for name in filter(is_image_name, folder.files):
            folder._stems[drop_image_suffix(name)].append(name)
        pictures = [name for name in folder.list_images() if not is_mask_name(name)]
        folder._pictures = NameIndex(pictures, root.resolve().name)
        folder._masks = NameIndex([name for name in folder.list_images() if is_mask_name(name)], root.resolve().name)
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

    def guess_mask(self, image: str) -> str | None:
        """The mask that lies beside an image or in a parallel tree under a common name; None if there is none."""
        path = PurePosixPath(image)
        stem = path.stem
        own = (f"mask_{drop_img_prefix(stem)}", f"mask_{stem}", f"{stem}_mask", f"{stem}-mask")
        wanted = [path.with_name(name).as_posix() for name in own]
        for parent in _parallel_trees(path):
            wanted += [f"{parent}/{name}" for name in (stem, *own)]
        found = (name for stem in wanted for name in self._stems.get(stem, ())[:1])
        return next((name for name in found if name != image), None)

    def guess_mask_path(self, image: str) -> Path | None:
        """Where the mask of `guess_mask` is."""
        mask = self.guess_mask(image)
        return self.files[mask] if mask else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a ring of links: it is told where it is opened
        return False


def _parallel_trees(image: PurePosixPath) -> list[str]:
    """Folders where the mask of an image may lie: ``masks/`` above its path, or in place of its ``images/``."""
    parts = image.parent.parts
    trees = [(name, *parts) for name in ("masks", "mask")]
    for i, part in enumerate(parts):
        if part.lower() in {"images", "image", "imgs"}:
            trees += [(*parts[:i], name, *parts[i + 1 :]) for name in ("masks", "mask")]
    return [PurePosixPath(*tree).as_posix() for tree in trees]
