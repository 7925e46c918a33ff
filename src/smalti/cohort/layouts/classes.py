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
from ..reading import Draft, Reading
from .levels import Guess, describe_levels, guess_levels, name_levels
from .parts import TEST, is_part, read_part

NOT_CLASSES = frozenset({"images", "image", "imgs", "img"})  # where other folders lie beside them
NEVER_READ = frozenset({"truth", "runs"})  # in the root


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture lies: the folders above it, from the top, but for ``part``, the one that is a part.

    Their names are in NFC: a copy from another system may spell one folder in two ways.
    """

    name: str
    folders: tuple[str, ...]
    part: str = ""

    @property
    def test(self) -> bool:
        """Whether the picture is to be predicted."""
        return read_part(self.part) == TEST


def has_class_folders(folder: Folder, *, at_least: int) -> bool:
    """Whether so many folders of one level look like classes; for one, whether any folder may be one."""
    guess = _guess(_list_places(folder)[0])
    if at_least == 1:
        return bool(guess.levels or guess.choices)
    return any(len(guess.names[i].above) >= at_least for i in guess.candidates)


def read_class_folders(folder: Folder, levels: tuple[Level, ...] | None = None) -> Reading:
    """Read class folders; ``levels`` says what each level is, None guesses or asks.

    The case is decided image by image: one that lies above the folders of cases is its own case.
    """
    reading = Reading("class-folders", submission_columns=("image", "label"))
    places, reading.passed = _list_places(folder, levels)
    guess = _guess(places)
    if levels is None and not guess.levels:
        _ask(folder, guess, reading=reading)
        return reading
    found = levels or guess.levels
    trained = [place for place in places if not place.test]
    names = name_levels([place.folders for place in trained])
    how = "folders are read" if levels else "folders are guessed to be"
    reading.notes.append(f"{how} data.levels=[{','.join(found)}] ({describe_levels(names)})")
    if not any(len(place.folders) > found.index("class") for place in trained):
        reading.report(
            "folder-levels",
            str(folder.root),
            message=f"has no image below a folder of level {found.index('class') + 1}, the class of data.levels.",
            fix=f"count the levels again ({describe_levels(names) or 'there are none'})",
        )
    if unsaid := sorted({place.part for place in places if place.part and not read_part(place.part)}):
        reading.report(
            "folder-levels",
            ", ".join(unsaid[:4]),
            message="say neither train nor test, and data.levels calls their level the part.",
            fix="rename them, or write ignore or site for part",
        )
    _report_spaces(trained, found, reading=reading)
    _add_trained(folder, trained, found, reading=reading)
    depths = Counter(len(place.folders) for place in trained)
    _add_tests(folder, [p for p in places if p.test], found, depth=max(depths, key=depths.__getitem__, default=0),
               reading=reading)  # fmt: skip
    return reading


def _list_places(folder: Folder, levels: tuple[Level, ...] | None = None) -> tuple[list[Place], dict[str, str]]:
    """Pictures that may be samples, and why others are passed over."""
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
    passed = _pass_over(places, guessed=levels is None)
    return [place for place in places if place.name not in passed], passed


def _pass_over(places: Sequence[Place], *, guessed: bool) -> dict[str, str]:
    """Pictures beside the folders of parts, and in folders that are no class by their name: the kinds of those."""
    passed: dict[str, str] = {}
    beside = {place.folders[0] for place in places if place.folders and place.part and not place.test}
    tops = {place.folders[0].lower() for place in places if place.folders and not place.test}
    skip = guessed and not tops <= NOT_CLASSES
    for place in places:
        top = place.folders[0] if place.folders else ""
        if top and beside and not place.part and top not in beside:
            passed[place.name] = "pictures outside the folders of the parts"
        elif skip and top.lower() in NOT_CLASSES and len(place.folders) == 1 and not place.test:
            passed[place.name] = f"pictures below {top}/, no class by its name (data.levels=[class] makes it one)"
    return passed


def _guess(places: Iterable[Place]) -> Guess:
    return guess_levels([place.folders for place in places if not place.test and place.folders])


def _ask(folder: Folder, guess: Guess, *, reading: Reading) -> None:
    """Record the question which level is the class."""
    choices = " or ".join(f"--set data.levels=[{','.join(c)}] ({names})" for c, names in guess.choices)
    what = (
        "several levels of folders may be the class" if guess.candidates else "no level of folders looks like classes"
    )
    rest = "" if guess.candidates else "; or add a table with columns image and label"
    reading.report(
        "folder-levels",
        str(folder.root),
        message=f"holds images in folders, and {what} ({describe_levels(guess.names)}).",
        fix=f"say what each level is, of class, case (patient), site, part, ignore: {choices}{rest}",
    )


def _read_case(folders: tuple[str, ...], levels: Sequence[Level]) -> str | None:
    """The case that folders say, with the site before it where there is one; None where they do not say it."""
    if "case" not in levels or len(folders) <= levels.index("case"):
        return None
    sites = [name for name, word in zip(folders, levels, strict=False) if word == "site"]
    return "/".join([*sites, folders[levels.index("case")].strip()])


def _add_trained(folder: Folder, places: list[Place], levels: Sequence[Level], *, reading: Reading) -> None:
    at, alone = levels.index("class"), list[str]()
    labels: dict[str, set[str]] = defaultdict(set)
    for place in places:
        if len(place.folders) <= at:
            reading.report(
                "file-without-row",
                place.name,
                message="lies in no class folder, so it has no label.",
                fix="move it into the folder of its class, or away",
                images=(place.name,),
            )
            continue
        label, case = place.folders[at].strip(), _read_case(place.folders, levels)
        labels[case or ""].add(label)
        alone += [] if case else [place.name]
        reading.add(Draft(_sample(folder, place.name, label=label, case=case or place.name), place.name))
    if "case" not in levels:
        return
    if alone:
        reading.notes.append(
            f"{len(alone)} image(s) lie in no folder of a case, such as {alone[0]}: each is its own case"
        )
    shared = [case for case, found in labels.items() if case and len(found) > 1]
    if shared and levels.index("case") > at:
        reading.notes.append(
            f"{len(shared)} of {len(labels.keys() - {''})} case folders lie below more than one class, such as "
            f"{shared[0]}: those of one name are taken as one case"
        )


def _report_spaces(places: list[Place], levels: Sequence[Level], *, reading: Reading) -> None:
    spellings: dict[str, set[str]] = defaultdict(set)
    for place in places:
        for name in place.folders[levels.index("class") :][:1]:
            spellings[name.strip()].add(name)
    for label, names in spellings.items():
        listed = " and ".join(repr(name) for name in sorted(names))
        if len(names) > 1:
            reading.report(
                "ambiguous-class",
                listed,
                message="differ only in the spaces around the name.",
                fix="rename one of them, or move their images into one folder",
            )
        elif label not in names:
            reading.notes.append(f"class folder {listed}: its label is read without the spaces around it, '{label}'")


def _sample(folder: Folder, name: str, *, label: str | None, case: str) -> Sample:
    return folder.give_mask(Sample(name, folder.files[name], None, label, case, name))


def _add_tests(folder: Folder, places: list[Place], levels: Sequence[Level], *, depth: int, reading: Reading) -> None:
    """Add the part to predict; its folders say the case as in the other part, or without the level of the class."""
    bare = [word for word in levels if word != "class"]
    for place in places:
        case = _read_case(place.folders, levels if len(place.folders) >= depth else bare)
        sample = _sample(folder, place.name, label=None, case=case or place.name)
        reading.add(Draft(sample, place.name, test=True))
    for part, count in Counter(place.part for place in places).items():
        reading.notes.append(f"part to predict: {part}/ ({count} image(s))")
        if any(place.folders for place in places if place.part == part):
            reading.notes.append(f"the folders below {part}/ are not read as labels: it is the part to predict")
