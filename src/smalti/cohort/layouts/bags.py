"""A folder of files of features: which of them are the bags, and what is wrong with those."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from ...errors import DataError, Problem
from ...features import FeatureFile, is_feature_name, open_features
from ...types import FeatureSpec
from ..folder import Folder
from ..result import Candidate, LayoutResult, format_setting
from ..tables.names import drop_image_suffix

NONE = "none"
ROOT = "."  # files that lie in the data folder itself
FEW_PICTURES = 0.5  # files of features for each picture; fewer are weights or arrays that lie beside pictures
# Where CLAM and TRIDENT put pictures of slides beside their features.
DRAWN = frozenset(
    {"thumbnails", "contours", "contours_geojson", "visualization", "visualizations", "masks", "stitches"}
)
TWINS = ("h5_files", "pt_files")  # of CLAM: the same numbers, with coordinates and without
MOST_WORKERS = 8


@dataclass(slots=True)
class _Set:
    """Bags that belong together: folders and suffixes, files, and twins of them that are not read."""

    places: list[tuple[str, str]]
    names: list[str] = field(default_factory=list)
    idle: int = 0


def find_bags(folder: Folder, asked: str | Sequence[str] | None, result: LayoutResult) -> Folder | None:
    """Return the folder with files of features in the place of its images; None where it is no folder of features.

    What has to be asked is a problem in ``result``; opened files are put there, and notes. Files that cannot be opened
    are problems as well, also where no other is left.
    """
    names = [name for name in folder.files if is_feature_name(name)]
    if asked == NONE or not names:
        return None
    if asked is not None:
        wanted = [asked] if isinstance(asked, str) else asked
        names = [name for name in names if any(_lies_in(name, place) for place in wanted)]
    pictures = [name for name in folder.list_images() if name not in folder.pairs.names and not _is_drawn(name)]
    if not names or (asked is None and len(names) < FEW_PICTURES * len(pictures)):
        return None
    twins = [name for name in names if name.replace(TWINS[1], TWINS[0]).removesuffix(".pt") + ".h5" in folder.files]
    twins = [name for name in twins if PurePosixPath(name).parent.name == TWINS[1]]
    opened, broken = _open_all(folder, [name for name in names if name not in set(twins)])
    told = {name: replace(error.problems[0], file=name, images=(name,)) for name, error in broken.items()}
    if not opened:
        result.problems += told.values()
        return None
    sets = _list_sets(opened, together=asked is not None)
    if len(sets) > 1:
        _ask_which(sets, opened, folder, result)
        return folder.take_bags(opened)
    (chosen,) = sets
    if pictures and asked is None:
        message = f"holds {len(pictures)} pictures, such as {pictures[0]}, and {len(chosen.names)} files of features, "
        message += f"such as {chosen.names[0]}."
        choices = f"{format_setting('features', _name_places(chosen, sets))} or {format_setting('features', NONE)}"
        result.report("features-or-pictures", str(folder.root), message=message, fix=f"say which are meant: {choices}")
    # A file that cannot be opened belongs to the set in whose folder it lies.
    parents = {str(PurePosixPath(name).parent) for name in chosen.names}
    lost = {name: problem for name, problem in told.items() if str(PurePosixPath(name).parent) in parents}
    result.problems += lost.values()
    result.bags = {name: opened[name] for name in chosen.names}
    idle = chosen.idle + len(twins)
    result.notes += _note_bags(result.bags, idle=idle)
    return folder.take_bags([*chosen.names, *lost])


def _lies_in(name: str, place: str) -> bool:
    """Return whether a file is the one that is named, lies below that folder, or fits the pattern."""
    place = place.strip("/").removeprefix("./")
    if place == ROOT:
        return "/" not in name
    return name == place or name.startswith(f"{place}/") or fnmatch.fnmatchcase(name, place)


def _is_drawn(name: str) -> bool:
    return any(part.lower() in DRAWN for part in PurePosixPath(name).parts[:-1])


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


# --- which belong together ------------------------------------------------------------------------------------------


def _list_sets(opened: dict[str, FeatureFile], *, together: bool) -> list[_Set]:
    """Return bags by what belongs together: one set, or several of which one has to be chosen.

    Bags of other slides belong together. Those of the same slides are twins, of which the first counts, where one
    folder or CLAM's two hold the same numbers in two forms; else each encoder, or way to cut, is a set of its own.
    """
    units: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in opened:
        path = PurePosixPath(name)
        units[str(path.parent), path.suffix.lower()].append(name)
    sets: list[_Set] = []
    # With coordinates first, which are read of twins.
    for place, names in sorted(units.items(), key=lambda item: (not opened[item[1][0]].unit, item[0])):
        for known in sets:
            relation = _relate(known, place, names, opened)
            if relation == "twins":
                stems = {_stem(name) for name in known.names}
                known.idle += sum(_stem(name) in stems for name in names)
                names = [name for name in names if _stem(name) not in stems]
            if together or relation in {"twins", "others"}:
                known.places.append(place)
                known.names += names
                break
        else:
            sets.append(_Set([place], list(names)))
    for known in sets:
        order = {name: i for i, name in enumerate(opened)}
        known.names.sort(key=order.__getitem__)
    return sets


def _relate(known: _Set, place: tuple[str, str], names: list[str], opened: dict[str, FeatureFile]) -> str:
    """Return whether files are ``twins`` of a set, ``others`` that belong to it, or another set: empty."""
    first, one = opened[known.names[0]], opened[names[0]]
    alike = first.size == one.size and (first.encoder or one.encoder) == (one.encoder or first.encoder)
    tiles: dict[str, set[int]] = defaultdict(set)
    for name in known.names:
        tiles[_stem(name)].add(opened[name].tiles)
    shared = [name for name in names if _stem(name) in tiles]
    same = sum(opened[name].tiles in tiles[_stem(name)] for name in shared)
    most = min(len(names), len(tiles)) / 2
    folders = {folder for folder, _ in known.places}
    form = {PurePosixPath(folder).name for folder in (place[0], *folders)} == set(TWINS)
    if alike and same == len(shared) > 0 and (place[0] in folders or form):
        return "twins"
    if len(shared) > most and (not alike or same > most):
        return ""
    above = {str(PurePosixPath(folder).parent) for folder in folders if folder != ROOT}
    beside = place[0] in folders or (place[0] != ROOT and str(PurePosixPath(place[0]).parent) in above)
    return "others" if alike or beside else ""


def _stem(name: str) -> str:
    return PurePosixPath(drop_image_suffix(name)).name


def _ask_which(sets: list[_Set], opened: dict[str, FeatureFile], folder: Folder, result: LayoutResult) -> None:
    places = [_name_places(one, sets) for one in sets]
    listed = "; ".join(
        f"{', '.join(place) if isinstance(place, list) else place}: {len(one.names)} files, "
        f"{_describe(opened[one.names[0]])}"
        for one, place in zip(sets, places, strict=True)
    )
    every = [one for place in places for one in (place if isinstance(place, list) else [place])]
    fix = f"say which one: {' or '.join(format_setting('features', place) for place in places)}"
    fix += f"; if they are bags of different slides: {format_setting('features', every)}"
    message = f"holds several sets of features ({listed})."
    result.report("features-several", str(folder.root), message=message, fix=fix)


def _name_places(one: _Set, sets: list[_Set]) -> str | list[str]:
    """Return how `Columns.features` names a set: its folders, with the suffix where that tells it from another."""
    others = {folder for other in sets if other is not one for folder, _ in other.places}
    named = [f"{folder}/*{suffix}" if folder in others else folder for folder, suffix in one.places]
    named = sorted({name.removeprefix("./") for name in named})
    return named[0] if len(named) == 1 else named


def _describe(file: FeatureFile) -> str:
    what = "numbers a tile" if file.tiles != 1 else "numbers a slide"
    return f"{file.size} {what}" + (f", encoder {file.encoder}" if file.encoder else "")


def _note_bags(bags: dict[str, FeatureFile], *, idle: int) -> list[str]:
    """Return what is said of a set: how many files, of which tool, and each guess with its number."""
    first = next((bag for bag in bags.values() if bag.tiles > 1), next(iter(bags.values())))
    tools = " and ".join(sorted({bag.tool for bag in bags.values() if bag.tool}))
    more = f"; {idle} more with the same features in another form are not read" if idle else ""
    notes = [f"features: {len(bags)} files{f' of {tools}' if tools else ''}, {_describe(first)}{more}"]
    microns = sum(bag.unit == "um" for bag in bags.values())
    if microns:
        notes.append(f"features: coordinates stay in micrometres, for no pixel size is known ({microns} files)")
    guesses = Counter(text for bag in bags.values() for text in bag.guessed)
    return notes + [f"features: {text} ({count} files)" for text, count in guesses.items()]


# --- what is wrong with them ------------------------------------------------------------------------------------------


def check_bags(
    candidates: Sequence[Candidate], result: LayoutResult, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[Problem], FeatureSpec | None]:
    """Read every bag once; return what is wrong with bags, and what the features of the others are."""
    bags = {d.sample.image: result.bags[d.sample.image] for d in candidates if d.sample.image in result.bags}
    if not bags:
        return [], None
    sizes = Counter(bag.size for bag in bags.values())
    size = sizes.most_common(1)[0][0]
    # A file that is silent about its encoder says nothing against that of the others.
    encoders = Counter(bag.encoder for bag in bags.values() if bag.size == size and bag.encoder)
    encoder = encoders.most_common(1)[0][0] if encoders else ""
    problems: list[Problem] = []

    def check(item: tuple[str, FeatureFile]) -> Problem | None:
        name, bag = item
        if bag.size != size or (bag.encoder or encoder) != encoder:
            usual = f"{size} numbers" + (f" of {encoder}" if encoder else "")
            message = f"has {_describe(bag)}; most have {usual}."
            return Problem("features-mixed", name, message, "extract it with the same encoder", (name,))
        if bag.tiles == 0:
            message = "has no tile (an empty slide?)."
            return Problem("features-empty", name, message, "look whether tissue was found, or leave it out", (name,))
        try:
            wrong = _find_fault(bag)
        except DataError as error:
            return replace(error.problems[0], file=name, images=(name,))
        code, message = wrong
        return Problem(code, name, message, "extract this slide again, or leave it out", (name,)) if code else None

    with ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        for done, found in enumerate(pool.map(check, bags.items()), start=1):
            problems += [] if found is None else [found]
            if progress is not None:
                progress(done, len(bags))
    most, placed = max(b.tiles for b in bags.values()), all(b.unit for b in bags.values())
    return problems, FeatureSpec(size, encoder, several_tiles=most > 1, most_tiles=most, placed=placed)


def _find_fault(bag: FeatureFile) -> tuple[str, str]:
    """Return code and message of what is wrong with the numbers of a bag; empty where nothing is.

    Raises:
        DataError: they cannot be read.
    """
    wrong, filled = 0, False
    for part in bag.read_parts():
        with np.errstate(over="ignore"):
            values = part.astype(np.float32, copy=False)  # what is beyond it is infinite where it is learned from
        wrong += int((~np.isfinite(values)).any(axis=1).sum())
        filled = filled or bool(values.any())
    if wrong:
        return "features-nan", f"has NaN or infinite numbers in {wrong} of {bag.tiles} tile(s)."
    return ("", "") if filled else ("features-zero", "holds nothing but zeros.")
