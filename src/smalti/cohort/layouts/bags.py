"""A folder of files of features: which of them are the bags, and what is wrong with those."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from ...errors import DataError, Problem
from ...features import FeatureFile, is_feature_name, open_features
from ...types import FeatureSpec
from ..folder import Folder
from ..result import Candidate, LayoutResult, format_setting
from ..tables.names import drop_image_suffix

NONE = "none"
FEW_PICTURES = 0.5  # files of features for each picture; fewer are weights or arrays that lie beside pictures
CHECKED_ROWS = 8192  # tiles that are looked at together
MOST_WORKERS = 8


def find_bags(folder: Folder, asked: str | Sequence[str] | None, result: LayoutResult) -> Folder | None:
    """Return the folder with files of features in the place of its images; None where it is no folder of features.

    What has to be asked is a problem in ``result``; opened files are put there, and notes.
    """
    below = None if asked is None or not isinstance(asked, str) else asked.strip("/")
    names = [name for name in folder.files if is_feature_name(name)]
    if below == NONE or not names:
        return None
    if below is not None:
        names = [name for name in names if name == below or name.startswith(f"{below}/")]
        if not names:
            return None
    pictures = [name for name in folder.list_images() if name not in folder.pairs.names]
    if below is None and len(names) < FEW_PICTURES * len(pictures):
        return None
    opened, broken = _open_all(folder, names)
    if not opened:
        return None
    sets = _list_sets(opened)
    if len(sets) > 1:
        choices = " or ".join(format_setting("features", where) for where in sets)
        listed = "; ".join(f"{where}/: {len(some)} files, {_describe(opened[some[0]])}" for where, some in sets.items())
        result.report("features-several", str(folder.root), message=f"holds several sets of features ({listed}).",
                      fix=f"say which one: {choices}")  # fmt: skip
        return folder.take_bags(opened)
    ((where, chosen),) = sets.items()
    if pictures and below is None:
        message = f"holds {len(pictures)} pictures, such as {pictures[0]}, and {len(chosen)} files of features in "
        message += f"{where}/."
        fix = f"say which are meant: {format_setting('features', where)} or {format_setting('features', NONE)}"
        result.report("features-or-pictures", str(folder.root), message=message, fix=fix)
    # A file that cannot be opened belongs to the set in whose folder it lies.
    places = {str(PurePosixPath(name).parent) for name in chosen}
    lost = {name: error for name, error in broken.items() if str(PurePosixPath(name).parent) in places}
    for name, error in lost.items():
        result.problems.append(replace(error.problems[0], file=name, images=(name,)))
    result.bags = {name: opened[name] for name in chosen}
    idle = len(opened) - len(chosen)
    more = f"; {idle} more with the same features in another form are not read" if idle else ""
    result.notes.append(f"features: {len(chosen)} files, {_describe(opened[chosen[0]])}{more}")
    guesses = Counter(text for name in chosen for text in opened[name].guessed)
    result.notes += [f"features: {text} ({count} files)" for text, count in guesses.items()]
    return folder.take_bags([*chosen, *lost])


def _open_all(folder: Folder, names: list[str]) -> tuple[dict[str, FeatureFile], dict[str, DataError]]:
    """Open files; those that hold coordinates alone are left out."""

    def attempt(name: str) -> FeatureFile | DataError | None:
        try:
            return open_features(folder.files[name])
        except DataError as error:
            return error

    with ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        found = dict(zip(names, pool.map(attempt, names), strict=True))
    opened = {name: one for name, one in found.items() if isinstance(one, FeatureFile)}
    return opened, {name: one for name, one in found.items() if isinstance(one, DataError)}


def _list_sets(opened: dict[str, FeatureFile]) -> dict[str, list[str]]:
    """Return folder -> its bags, one entry where all belong together, several where one has to be chosen.

    Folders that name other slides belong together; of twins (CLAM's ``h5_files`` and ``pt_files``) the first counts,
    which has coordinates.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for name in opened:
        folders[str(PurePosixPath(name).parent)].append(name)
    groups: list[tuple[str, dict[str, str]]] = []  # a folder, and slide -> file of all that belongs to it
    for where, names in sorted(folders.items(), key=lambda item: (not _has_places(opened, item[1]), item[0])):
        slides = {PurePosixPath(drop_image_suffix(name)).name: name for name in names}
        for top, known in groups:
            first, one = opened[next(iter(known.values()))], opened[names[0]]
            alike = (first.size, first.encoder or one.encoder) == (one.size, one.encoder or first.encoder)
            shared = known.keys() & slides.keys()
            if alike and (
                not shared or {PurePosixPath(top).name, PurePosixPath(where).name} == {"h5_files", "pt_files"}
            ):
                known |= {slide: name for slide, name in slides.items() if slide not in known}
                break
        else:
            groups.append((where, slides))
    return {where: sorted(slides.values()) for where, slides in groups}


def _has_places(opened: dict[str, FeatureFile], names: list[str]) -> bool:
    return bool(opened[names[0]].unit)


def _describe(file: FeatureFile) -> str:
    return f"{file.size} numbers a tile" + (f", encoder {file.encoder}" if file.encoder else "")


def check_bags(
    candidates: Sequence[Candidate], result: LayoutResult, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Problem], FeatureSpec | None]:
    """Read every bag once; return what is wrong with bags, and what the features of the others are."""
    bags = {d.sample.image: result.bags[d.sample.image] for d in candidates if d.sample.image in result.bags}
    if not bags:
        return [], None
    kinds = Counter((bag.size, bag.encoder) for bag in bags.values())
    (size, encoder), _ = kinds.most_common(1)[0]
    problems: list[Problem] = []

    def check(item: tuple[str, FeatureFile]) -> Problem | None:
        name, bag = item
        if (bag.size, bag.encoder) != (size, encoder):
            usual = f"{size} numbers" + (f" of {encoder}" if encoder else "")
            message = f"has {_describe(bag)}; most have {usual}."
            return Problem("features-mixed", name, message, "extract it with the same encoder", (name,))
        if bag.tiles == 0:
            message = "has no tile (an empty slide?)."
            return Problem("features-empty", name, message, "look whether tissue was found, or leave it out", (name,))
        try:
            for start in range(0, bag.tiles, CHECKED_ROWS):
                part = bag.read(start, min(start + CHECKED_ROWS, bag.tiles))
                if wrong := int((~np.isfinite(part)).any(axis=1).sum()):
                    message = f"has NaN or infinite numbers in {wrong} tile(s) or more."
                    return Problem("features-nan", name, message, "extract this slide again", (name,))
        except DataError as error:
            return replace(error.problems[0], file=name, images=(name,))
        return None

    with ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        for done, found in enumerate(pool.map(check, bags.items()), start=1):
            problems += [] if found is None else [found]
            if progress is not None:
                progress(done, len(bags))
    most, placed = max(b.tiles for b in bags.values()), all(b.unit for b in bags.values())
    return problems, FeatureSpec(size, encoder, several_tiles=most > 1, most_tiles=most, placed=placed)
