"""What the levels of folders say: class, case, site; guessed from names and nesting, or asked.

A level is all folders that lie equally deep. What its names look like:

    ignore    one name only, magnifications (40X), folds, or a folder of images (images/, tiles/)
    site      hospital 1, center_2, scanner A
    case      patient 7, 8863, TCGA-05-4244: words for patients, or long numbers, or more names than classes ever have
    class     words such as benign and tumour, or grade 1, class 2
    number    a few small numbers: classes, unless they never repeat below different folders: then cases
    word      anything else

One level of the last three is the class. Where several may be, the answer is asked for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...types import Level

Kind = Literal["ignore", "site", "case", "class", "number", "word"]
Choice = tuple[tuple[Level, ...], str]
OPEN: tuple[Kind, ...] = ("class", "number", "word")  # may be the class
MOST_CLASSES = 20  # more folders of one level are cases
FEWEST_CASES = 4  # fewer short numbers are anything
MOST_SHOWN = 4
MOST_CHOICES = 6
IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "tiles", "patches", "png", "jpg", "jpeg", "tif", "tiff"})
MAGNIFICATION = re.compile(r"(x[0-9]+|[0-9]+(\.[0-9]+)?x)")
FOLD = re.compile(r"(cv|fold|split)[-_ ]?[0-9]+")
SITE = re.compile(
    r"(site|hospital|clinic|cent(er|re)|institut(e|ion)|lab|scanner|batch|cohort|university)"
    r"([-_ ]*[0-9]+|[-_ ]\w{1,20}|[a-z])?"
)
CASE = re.compile(
    r"(p|pt|pat|patient|case|subj|subject|sub|donor|slide|wsi|id|tcga|person|proband|biopsy|specimen|sample)"
    r"([-_ .#]*(id|no|nr)?[-_ .#]*[0-9].*|[-_ ][a-z]{1,2})"
)
NUMBERED_CLASS = re.compile(
    r"(class|label|category|grade|type|stage|score|isup|gleason|cin|g|group|cluster)[-_ ]?[0-9]+"
)
CLASS_WORD = re.compile(
    r"(benign|malign|normal|tumou?r|cancer|carcinom|adenom|sarcom|lymphom|melanom|health|positiv|negativ|control|disease|"
    r"inflam|strom|necro|dysplas|metasta|lesion|invasiv|in ?situ|viable|(^|[^a-z])(pos|neg|mss|msi)([^a-z]|$))"
)


@dataclass(slots=True)
class Names:
    """The folders of one level: by name, the paths above; the number of images below."""

    above: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    images: int = 0

    @property
    def repeat(self) -> bool:
        """Whether a name lies below more than one folder."""
        return any(len(paths) > 1 for paths in self.above.values())

    @property
    def fewest_below(self) -> int:
        """The fewest names below one folder."""
        counts: dict[tuple[str, ...], int] = defaultdict(int)
        for paths in self.above.values():
            for path in paths:
                counts[path] += 1
        return min(counts.values())

    def show(self) -> str:
        """The first names, and their number."""
        listed = ", ".join(list(self.above)[:MOST_SHOWN])
        return listed if len(self.above) <= MOST_SHOWN else f"{listed}, ... ({len(self.above)})"


@dataclass(frozen=True, slots=True)
class Guess:
    """What the levels seem to be.

    Attributes:
        levels: what each is, from the top, with one class; empty where that is not plain.
        choices: where it is not plain, what they may be, with the names that would be classes and cases.
        names: the folders of each level.
        candidates: the levels that look like classes.
    """

    levels: tuple[Level, ...]
    choices: tuple[Choice, ...]
    names: tuple[Names, ...]
    candidates: tuple[int, ...] = ()


def name_levels(folders: Collection[tuple[str, ...]]) -> tuple[Names, ...]:
    """The levels of folders, given those above each image."""
    levels: list[Names] = [Names() for _ in range(max(map(len, folders), default=0))]
    for parts in folders:
        for i, name in enumerate(parts):
            levels[i].above[name].add(parts[:i])
            levels[i].images += 1
    return tuple(levels)


def describe_levels(names: Sequence[Names]) -> str:
    """The folders of each level, as text."""
    return "; ".join(f"level {i}: {level.show()}" for i, level in enumerate(names, start=1))


def guess_levels(folders: Collection[tuple[str, ...]]) -> Guess:
    """Guess what each level says, given the folders above each image."""
    names = name_levels(folders)
    kinds = [_find_kind(level, first=i == 0, images=len(folders)) for i, level in enumerate(names)]
    if all(len(level.above) == 1 for level in names):  # one class: the deepest folder that may be one
        kinds = [_look(level.above) for level in names]
        last = max((i for i, kind in enumerate(kinds) if kind != "ignore"), default=-1)
        levels = _trim(["class" if i == last else "ignore" for i in range(len(names))])
        return Guess(levels, (), names, (last,) if levels else ())
    if kinds.count("class") == 1:  # numbers beside words that say classes are cases
        many = [len(level.above) >= FEWEST_CASES for level in names]
        kinds = ["case" if kind == "number" and m else kind for kind, m in zip(kinds, many, strict=True)]
    for i in [i for i, kind in enumerate(kinds) if kind == "case"][1:]:
        kinds[i] = "ignore"  # slides of a patient
    found = tuple(i for i, kind in enumerate(kinds) if kind in OPEN)
    if len(found) == 1:
        levels = _trim(["class" if i in found else _word(kind) for i, kind in enumerate(kinds)])
        return Guess(levels, (), names, found)
    maybe = found or [i for i, level in enumerate(names) if len(level.above) > 1 or _look(level.above) in OPEN]
    return Guess((), tuple(_list_choices(kinds, maybe, names)), names, found)


def _word(kind: Kind) -> Level:
    return kind if kind in ("site", "case") else "ignore"


def _find_kind(level: Names, *, first: bool, images: int) -> Kind:
    if len(level.above) == 1:
        return "ignore"
    kind = _look(level.above)
    few = 2 * level.images < images  # the rest lies above: what groups some images only is no class
    nested = kind == "number" and not first and not level.repeat and level.fewest_below > 1
    return "case" if kind in OPEN and (few or nested) else kind


def _look(names: Collection[str]) -> Kind:
    """What names look like."""
    lower = [name.strip().lower() for name in names]
    patterns: tuple[tuple[re.Pattern[str], Kind], ...] = (
        (MAGNIFICATION, "ignore"), (FOLD, "ignore"), (SITE, "site"), (CASE, "case"), (NUMBERED_CLASS, "class"),
    )  # fmt: skip
    for pattern, kind in patterns:
        if sum(pattern.fullmatch(name) is not None for name in lower) >= 0.9 * len(lower):
            return kind
    if all(name in IMAGE_FOLDERS for name in lower):
        return "ignore"
    if len(lower) > MOST_CLASSES or _is_coded(lower):
        return "case"
    said = 2 * sum(CLASS_WORD.search(name) is not None for name in lower) >= len(lower)
    if said and len({re.sub("[0-9]+", "", name) for name in lower}) == len(
        lower
    ):  # tumour_1 and tumour_2 are no classes
        return "class"
    return "number" if all(re.search("[0-9]", name) for name in lower) else "word"


def _is_coded(names: Sequence[str]) -> bool:
    """Whether names are long numbers, or hold some; those that count through from 0 or 1 are not."""
    numbers = [[int(n[-15:]) for n in re.findall("[0-9]+", name)] for name in names]
    if sum(map(bool, numbers)) < 0.9 * len(names):
        return False
    most = sorted(max(found) for found in numbers if found)
    if most[0] in {0, 1} and most == list(range(most[0], most[0] + len(most))):
        return False
    alike = len({re.sub("[0-9]+", "#", name) for name in names}) == 1
    long = 2 * sum(n >= (10 if len(names) >= FEWEST_CASES else 1000) for n in most) >= len(most)
    return long and (alike or len(names) > FEWEST_CASES)


def _list_choices(kinds: Sequence[Kind], maybe: Sequence[int], names: Sequence[Names]) -> list[Choice]:
    """What levels may be: each that may be the class, with another that may be the case."""
    found: dict[tuple[Level, ...], str] = {}
    for i in maybe:
        plain: list[Level] = ["class" if j == i else _word(kind) for j, kind in enumerate(kinds)]
        bare: list[Level] = ["ignore" if word == "case" else word for word in plain]
        groups = [j for j in maybe if j != i and kinds[j] != "class"]
        others = [["case" if k == j else word for k, word in enumerate(bare)] for j in groups]
        for levels in (plain, *others) if "case" in plain else (*others, plain):
            cases = f"; cases: {names[levels.index('case')].show()}" if "case" in levels else ""
            found.setdefault(_trim(levels), f"classes: {names[i].show()}{cases}")
    return list(found.items())[:MOST_CHOICES]


def _trim(levels: Sequence[Level]) -> tuple[Level, ...]:
    """Without what is ignored at the end."""
    last = max((i for i, word in enumerate(levels) if word != "ignore"), default=-1)
    return tuple(levels[: last + 1])
