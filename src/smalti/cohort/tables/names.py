"""Files by the texts of a table: the strictest way of naming that finds any counts, and is told where it is loose."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath

from ...features import FEATURE_SUFFIXES, is_feature_name
from ...images import IMAGE_SUFFIXES
from ...types import Sample

Convert = Callable[[str], str]
# Suffixes that a table may still have from before images were converted, beside those that are read.
OTHER_SUFFIXES = (".czi", ".lif", ".vsi", ".zvi", ".dcm", ".heic", ".heif", ".avif", ".jfif", ".jpe", ".qptiff", ".npy")
ANY_SUFFIX = re.compile(
    rf"(?i)(\.ome)?({'|'.join(map(re.escape, dict.fromkeys((*IMAGE_SUFFIXES, *OTHER_SUFFIXES, *FEATURE_SUFFIXES))))})$"
)
# How a name is not as a table writes it, and still the only one that can be meant.
LETTERS, CAPITALS, SUFFIX, NUMBER = "letters", "capitals", "suffix", "number"
PATH, FILE, PART = "path", "file", "part"
WAYS = {
    LETTERS: "as the same letters, composed otherwise (Unicode NFC)",
    CAPITALS: "where only capital letters differ",
    SUFFIX: "where only the suffix differs",
    NUMBER: "by their number, without leading zeros",
    PATH: "by the end of a longer path, of another machine or folder",
    FILE: "by the file name alone: the folder of their path, of another machine, is not here",
    PART: "in the folder of the table's part (train, val, test), where several files have the name",
}


def is_image_name(name: str) -> bool:
    """Return whether the suffix is one that `smalti.images` opens."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def drop_image_suffix(name: str) -> str:
    """Return the name without the suffix of an image or of its features; other dots stay."""
    if is_feature_name(name):
        return str(PurePosixPath(name).with_suffix("")).removesuffix("_features")
    return str(PurePosixPath(name).with_suffix("")) if is_image_name(PurePosixPath(name).name) else name


def drop_img_prefix(stem: str) -> str:
    """Return the stem without the challenge's ``img_``."""
    return stem[4:] if stem.lower().startswith("img_") else stem


def is_foreign(text: str) -> bool:
    """Return whether a text is an absolute path, of any system, or an address."""
    path = PureWindowsPath(text.strip())
    return bool(path.drive or path.root or "://" in text)


def _compose(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def read_number(file: str) -> str:
    """Return the number that a file name is, without leading zeros and ``img_``; else the name without these."""
    rest = drop_img_prefix(drop_image_suffix(file))
    number = re.fullmatch(r"([0-9]+)(\.0+)?", rest)  # a spreadsheet writes 7 as 7.0
    return number[1].lstrip("0") or "0" if number else rest


def _drop_any_suffix(file: str) -> str:
    """Return the name without the suffix of an image, also of one whose features the file holds: ``a.svs.h5``."""
    return ANY_SUFFIX.sub("", drop_image_suffix(file) if is_feature_name(file) else file)


@dataclass(frozen=True, slots=True)
class _Level:
    """One way to compare the last parts of two paths; ``fold`` is what makes their folders comparable."""

    way: str
    fold: Convert
    read_text: Convert
    read_file: Convert


FOLDS: tuple[tuple[str, Convert], ...] = (
    ("", str),
    (LETTERS, _compose),
    (CAPITALS, lambda text: _compose(_compose(text).casefold())),
)
LEVELS = (  # the strictest first
    *(_Level(way, fold, str, read) for way, fold in FOLDS for read in (str, drop_image_suffix)),
    *(_Level(SUFFIX, fold, _drop_any_suffix, _drop_any_suffix) for _, fold in FOLDS),
    _Level(NUMBER, str, read_number, read_number),
)


@dataclass(frozen=True, slots=True)
class Match:
    """The files that a text may mean.

    Attributes:
        names: none, the one that is meant, or several candidates.
        ways: how the text differs from the name, keys of `WAYS`; empty where it is written as tables do.
        rank: number of last parts that agree, then how strictly; of two texts for one file the higher is right.
    """

    names: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    rank: tuple[int, int] = (0, 0)


NOTHING = Match()


@dataclass(slots=True)
class NameIndex:
    """Finds files by what tables call them: ``a/img_0007.png``, ``img_0007.png``, ``img_0007``, ``0007`` or ``7``."""

    names: Collection[str]
    root: str = ""  # name of the data folder, with which a path may begin
    _tails: dict[tuple[Convert, Convert], dict[str, tuple[str, ...]]] = field(default_factory=dict)  # see `_list_tails`
    _found: dict[tuple[str, bool], Match] = field(default_factory=dict)

    def find(self, text: str, *, loose: bool = False) -> Match:
        """Return the files meant, by the level at which most of the last parts agree, the strictest of these.

        That a part of the text agrees is enough where it is free: an absolute path, or ``loose``, which takes a file by
        its name alone, whatever folder the text says. Else a whole path must, which is of two parts or begins with the
        data folder, and never less than two where the text climbs out.
        """
        if (text, loose) in self._found:
            return self._found[text, loose]
        parts = [part for part in re.split(r"[\\/]", text.strip()) if part not in {"", "."}]
        outside = ".." in parts
        if outside:
            parts = parts[len(parts) - parts[::-1].index("..") :]
        free = not outside and (loose or is_foreign(text.strip()))
        best = NOTHING
        for i, level in enumerate(LEVELS if parts else ()):
            tails = self._list_tails(level)
            last = level.read_text(parts[-1])
            for depth in range(len(parts), best.rank[0], -1):
                tail = level.fold("/".join([*parts[len(parts) - depth : -1], last]))
                names, whole = tails.get(tail, ()), tails.get(f"/{tail}", ())
                if outside or not (free or depth == len(parts)):
                    inside = depth > 1 or (not outside and parts[-2] == self.root)
                    names = whole if inside else ()
                if names:
                    ways: tuple[str, ...] = (level.way,) if level.way else ()
                    if depth < len(parts):
                        ways += (PATH if whole or depth > 1 else FILE,)
                    best = Match(whole if len(whole) == 1 else names, ways, (depth, len(LEVELS) - i))
                    break
            if best.names and best.rank[0] in {len(parts), best.names[0].count("/") + 1}:
                break  # all of the text, or all of the file's path
        self._found[text, loose] = best
        return best

    def _list_tails(self, level: _Level) -> dict[str, tuple[str, ...]]:
        """Return names by each end of their path, as a level writes it, and by "/" and all of it.

        Made when first needed.
        """
        key = (level.fold, level.read_file)
        if key not in self._tails:
            tails: dict[str, list[str]] = defaultdict(list)
            for name in self.names:
                *folders, tail = name.split("/")
                tail = level.fold(level.read_file(tail))
                tails[tail].append(name)
                for folder in reversed(folders):
                    tail = f"{level.fold(folder)}/{tail}"
                    tails[tail].append(name)
                tails[f"/{tail}"].append(name)
            self._tails[key] = {tail: tuple(names) for tail, names in tails.items()}
        return self._tails[key]


class Matcher:
    """Finds an image of one part by its name, whatever folder a text says."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._index = NameIndex(sorted(self._names, key=natural_key))

    def match(self, text: str) -> Match:
        """Return the images meant, and how: by the strictest way of naming that finds any.

        First as the text stands, then without spaces around it.
        """
        for form in (text, text.strip()):
            if form in self._names:
                return Match((form,))
        return self._index.find(text, loose=True)


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Return sort key under which ``img_2`` comes before ``img_10``."""
    # Digits compare by length, then text: no conversion, so a name of ten thousand digits is only a name.
    parts = re.split(r"([0-9]+)", text)
    return [(len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (0, p) for i, p in enumerate(parts)], text


def match_keys(text: str) -> tuple[str, str, str, str]:
    """Return the four ways to name an image, the strictest first: path, file, stem, number (`read_number`)."""
    path = text.replace("\\", "/")
    file = path.rsplit("/", 1)[-1]
    return path, file, drop_image_suffix(file), read_number(file)


def find_naming(samples: Sequence[Sample]) -> Callable[[str], str]:
    """Return a function that names test images as a table of labels names its own; by the file name without one way."""
    for level in (1, 2, 3):
        if samples and all(match_keys(s.image)[level] == s.index.strip() for s in samples):
            return lambda name: match_keys(name)[level]
    padded = [drop_img_prefix(match_keys(s.image)[2]) == s.index.strip() for s in samples]
    if samples and all(padded):
        return lambda name: drop_img_prefix(match_keys(name)[2])
    return lambda name: match_keys(name)[1]
