"""The class folders layout: ``root/<class>/*.png``, with folders of patients, sites and parts above and below.

A folder called train or test (`is_part`) is a part wherever it lies; `smalti.cohort.layouts.levels` says what the
others are.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...types import Level, Sample
from ..folder import Folder
from ..result import Candidate, LayoutResult
from .levels import Guess, describe_levels, guess_levels, name_levels
from .parts import TEST, is_part, read_part

NOT_CLASSES = frozenset({"images", "image", "imgs", "img"})  # where other folders lie beside them
NEVER_READ = frozenset({"truth", "runs"})  # in the root


@dataclass(frozen=True, slots=True)
class Place:
    """The folders above a picture, from the top, without ``part``, the one that is a part.

    Their names are in NFC: a copy from another system may spell one folder in two ways.
    """

    name: str
    folders: tuple[str, ...]
    part: str = ""

    @property
    def test(self) -> bool:
        """Return whether the picture is to be predicted."""
        return read_part(self.part) == TEST


def has_class_folders(folder: Folder, *, at_least: int) -> bool:
    """Return whether ``at_least`` folders of one level look like classes; for 1, whether any folder may be a class."""
    guess = _guess(_list_places(folder)[0])
    if at_least == 1:
        return bool(guess.levels or guess.choices)
    return any(len(guess.names[i].above) >= at_least for i in guess.candidates)


def read_class_folders(folder: Folder, levels: tuple[Level, ...] | None = None) -> LayoutResult:
    """Read class folders; ``levels`` says what each level is, None guesses or asks.

    The case is decided image by image: one that lies above the folders of cases is its own case.
    """
    result = LayoutResult("class-folders", submission_columns=("image", "label"))
    places, result.passed = _list_places(folder, levels)
    guess = _guess(places)
    if levels is None and not guess.levels:
        choices = " or ".join(f"--set data.levels=[{','.join(c)}] ({names})" for c, names in guess.choices)
        what, rest = "several levels of folders may be the class", ""
        if not guess.candidates:
            what, rest = "no level of folders looks like classes", "; or add a table with columns image and label"
        message = f"holds images in folders, and {what} ({describe_levels(guess.names)})."
        fix = f"say what each level is, of class, case (patient), site, part, ignore: {choices}{rest}"
        result.report("folder-levels", str(folder.root), message=message, fix=fix)
        return result
    found = levels or guess.levels
    trained = [place for place in places if not place.test]
    names = name_levels([place.folders for place in trained])
    how = "folders are read" if levels else "folders are guessed to be"
    result.notes.append(f"{how} data.levels=[{','.join(found)}] ({describe_levels(names)})")
    result.site_source = "folders" if "site" in found else ""
    if not any(len(place.folders) > found.index("class") for place in trained):
        result.report("folder-levels", str(folder.root),
                      message=f"has no image below a folder of level {found.index('class') + 1}, the class of "
                      "data.levels.",
                      fix=f"count the levels again ({describe_levels(names) or 'there are none'})")  # fmt: skip
    if unsaid := sorted({place.part for place in places if place.part and not read_part(place.part)}):
        result.report("folder-levels", ", ".join(unsaid[:4]),
                      message="say neither train nor test, and data.levels calls their level the part.",
                      fix="rename them, or write ignore or site for part")  # fmt: skip
    _add_trained(folder, trained, found, result=result)
    # The folders of the part to predict say the case as in the other part, or without the level of the class.
    depths = Counter(len(place.folders) for place in trained)
    depth = max(depths, key=depths.__getitem__, default=0)
    bare = [word for word in found if word != "class"]
    tests = [place for place in places if place.test]
    for place in tests:
        words = found if len(place.folders) >= depth else bare
        case, site = _read_case(place.folders, words), _read_site(place.folders, words)
        sample = Sample(place.name, folder.files[place.name], None, None, case or place.name, place.name, site=site)
        result.add(Candidate(folder.give_mask(sample), place.name, test=True))
    for part, count in Counter(place.part for place in tests).items():
        result.notes.append(f"part to predict: {part}/ ({count} image(s))")
        if any(place.folders for place in tests if place.part == part):
            result.notes.append(f"the folders below {part}/ are not read as labels: it is the part to predict")
    return result


def _list_places(folder: Folder, levels: tuple[Level, ...] | None = None) -> tuple[list[Place], dict[str, str]]:
    """Return pictures that may be samples, and why others are passed over."""
    above = {name: tuple(unicodedata.normalize("NFC", name).split("/")[:-1]) for name in folder.list_images()}
    above = {
        name: parts
        for name, parts in above.items()
        if name not in folder.pairs.names and not (parts and parts[0].lower() in NEVER_READ)
    }
    tops = {parts[0] for parts in above.values() if parts}
    loosely = len(tops) > 1 and all(map(read_part, tops))
    places: list[Place] = []
    for name, parts in above.items():
        if levels is not None and "part" in levels:  # counted as any other level
            at = levels.index("part")
            places.append(Place(name, parts, parts[at] if len(parts) > at else ""))
        else:
            said = (i for i, part in enumerate(parts) if is_part(part) or (loosely and i == 0))
            at = next(said, len(parts))
            places.append(Place(name, parts[:at] + parts[at + 1 :], "".join(parts[at : at + 1])))
    # Pictures beside the folders of parts, and in folders that are no class by their name, are passed over.
    passed: dict[str, str] = {}
    trained = [place for place in places if place.folders and not place.test]
    beside = {place.folders[0] for place in trained if place.part}
    skip = levels is None and not {place.folders[0].lower() for place in trained} <= NOT_CLASSES
    for place in places:
        top = place.folders[0] if place.folders else ""
        if top and beside and not place.part and top not in beside:
            passed[place.name] = "pictures outside the folders of the parts"
        elif skip and top.lower() in NOT_CLASSES and len(place.folders) == 1 and not place.test:
            passed[place.name] = f"pictures below {top}/, no class by its name (data.levels=[class] makes it one)"
    return [place for place in places if place.name not in passed], passed


def _guess(places: Iterable[Place]) -> Guess:
    return guess_levels([place.folders for place in places if not place.test and place.folders])


def _read_case(folders: tuple[str, ...], levels: Sequence[Level]) -> str | None:
    """Return the case that folders say, with the site before it where there is one; None where they do not say it."""
    if "case" not in levels or len(folders) <= levels.index("case"):
        return None
    site = _read_site(folders, levels)
    return "/".join([*([site] if site else []), folders[levels.index("case")].strip()])


def _read_site(folders: tuple[str, ...], levels: Sequence[Level]) -> str:
    """Return the site that folders say, of several levels from the top; empty where they say none."""
    return "/".join(name for name, word in zip(folders, levels, strict=False) if word == "site")


def _add_trained(folder: Folder, places: list[Place], levels: Sequence[Level], *, result: LayoutResult) -> None:
    """Add the part to learn from: candidates with the class and the case that their folders say."""
    at, alone = levels.index("class"), list[str]()
    labels: dict[str, set[str]] = defaultdict(set)
    spellings: dict[str, set[str]] = defaultdict(set)
    for place in places:
        for name in place.folders[at : at + 1]:
            spellings[name.strip()].add(name)
    for label, names in spellings.items():
        listed = " and ".join(repr(name) for name in sorted(names))
        if len(names) > 1:
            result.report("ambiguous-class", listed, message="differ only in the spaces around the name.",
                          fix="rename one of them, or move their images into one folder")  # fmt: skip
        elif label not in names:
            result.notes.append(f"class folder {listed}: its label is read without the spaces around it, '{label}'")
    for place in places:
        if len(place.folders) <= at:
            result.report("file-without-row", place.name, message="lies in no class folder, so it has no label.",
                          fix="move it into the folder of its class, or away", images=(place.name,))  # fmt: skip
            continue
        label, case = place.folders[at].strip(), _read_case(place.folders, levels)
        labels[case or ""].add(label)
        alone += [] if case else [place.name]
        site = _read_site(place.folders, levels)
        sample = Sample(place.name, folder.files[place.name], None, label, case or place.name, place.name, site=site)
        result.add(Candidate(folder.give_mask(sample), place.name))
    if "case" in levels and alone:
        result.notes.append(
            f"{len(alone)} image(s) lie in no folder of a case, such as {alone[0]}: each is its own case"
        )
    shared = [case for case, found in labels.items() if case and len(found) > 1]
    if "case" in levels and shared and levels.index("case") > at:
        result.notes.append(
            f"{len(shared)} of {len(labels.keys() - {''})} case folders lie below more than one class, such as "
            f"{shared[0]}: those of one name are taken as one case"
        )
