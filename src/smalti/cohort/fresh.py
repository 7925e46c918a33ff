"""Images that a model is to answer for: a data folder of any layout, or any folder of images, labels or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DataError
from ..types import FeatureSpec, Sample
from .depths import settle_depths
from .folder import Folder
from .inspection import GUESS_ALL, recognise
from .layouts.bags import find_bags
from .layouts.fresh_table import read_fresh_table
from .layouts.listing import add_cases
from .masks.meaning import Settling, wish_masks
from .masks.values import Seen
from .result import Candidate, Columns, LayoutResult
from .tables.case_names import join_barcodes
from .tables.site_names import drop_sites, settle_sites
from .unused import tell_unused
from .validation import Progress, account_masks, check_files

PLAIN, CLASSES, BAGS = "images", "class-folders", "features"
WANTED = ".h5, .pt and .npz, or a table with the columns that the model learned from,"


@dataclass(frozen=True, slots=True)
class FreshImages:
    """The images of a folder.

    Attributes:
        root: the folder.
        samples: with their labels where the folder has some; any folders may look like those of classes.
        wrong: image -> why it cannot be answered; also of images that the folder names and does not hold.
        notes: what was guessed or converted, for people.
    """

    root: Path
    samples: tuple[Sample, ...]
    wrong: dict[str, str]
    notes: tuple[str, ...]


def list_fresh(
    root: Path | str,
    *,
    columns: Columns = GUESS_ALL,
    features: FeatureSpec | None = None,
    rows: bool = True,
    progress: Progress | None = None,
) -> FreshImages:
    """List the images of a folder that is read as a data folder where it is one; nothing in it is changed.

    Without a table and without classes all images are taken, whatever the folders that they are in. Images are decoded
    only where there are masks, whose values are to be understood; what is wrong with the others is told when they are
    read.

    Args:
        root: the folder.
        columns: names in its table, and how its masks and values are read.
        features: what a model takes in the place of images; None for images.
        rows: whether an image that its table does not name is wrong; False takes it too.
        progress: told (images checked, images in all), where they are checked.

    Raises:
        DataError: there is no folder or no image in it, or a question has to be answered first.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"no folder at {root}", fix="give the folder that holds the images")
    folder = Folder.walk(root)
    asked = drop_sites(columns)
    if features is not None and features.columns:
        result = read_fresh_table(folder, features, asked)
    elif features is not None:
        folder, result = _take_bags(root, folder, asked)
    else:
        result = recognise(root, folder, asked)
    # What is named is to be found.
    named = bool(asked.table or asked.levels or asked.site or asked.subgroups)
    of_table = features is not None and bool(features.columns)
    if not named and not of_table and (not result.candidates or result.layout == CLASSES):
        result = _add_plain(folder, result, asked)
    if not result.candidates:
        what, read = ("image", "PNG, JPEG, TIFF and slides") if features is None else ("bag of features", WANTED)
        raise DataError(f"{root} holds no {what} that could be read", result.problems, fix=f"{read} are read")
    if not rows:
        _add_rowless(folder, result)
    join_barcodes(result, columns)
    settle_sites(result, columns)
    account_masks(folder, result)
    tell_unused(folder, result)
    candidates = wish_masks(result.candidates, columns)
    if any(candidate.sample.mask_path is not None for candidate in candidates):
        candidates = _understand(candidates, root, result, columns=columns, progress=progress)
    elif isinstance(columns.bits, int):
        candidates = [replace(d, sample=replace(d.sample, bits=columns.bits)) for d in candidates]
    severe = [problem for problem in (*folder.problems, *result.problems) if not problem.warning]
    if open_ := [problem for problem in severe if not problem.images]:
        raise DataError(f"{root} cannot be used as it is: {len(open_)} problem(s)", open_)
    wrong = {image: f"{where} names it, and no such image is here." for image, where in result.lacking.items() if image}
    wrong |= {image: f"{problem.file} {problem.message}" for problem in severe for image in problem.images}
    return FreshImages(root, tuple(d.sample for d in candidates), wrong, tuple(dict.fromkeys(result.notes)))


def _take_bags(root: Path, folder: Folder, columns: Columns) -> tuple[Folder, LayoutResult]:
    """Return the folder with its files of features in the place of images, and what its layout says."""
    bags = LayoutResult(BAGS)
    given = find_bags(folder, columns.features, bags)
    if given is None or (bags.problems and not bags.bags):
        return folder, bags
    result = recognise(root, given, columns)
    result.notes = bags.notes + result.notes
    result.problems = bags.problems + result.problems
    return given, result


def _add_plain(folder: Folder, found: LayoutResult, columns: Columns) -> LayoutResult:
    """Return all images of a folder: those of its classes, and each other one as its own case."""
    result = found if found.candidates else LayoutResult(PLAIN)
    result.problems = []  # they are about labels, which no answer needs
    known = {candidate.sample.image for candidate in result.candidates}
    for name in folder.list_images():
        if name not in known and name not in folder.pairs.names:
            sample = folder.give_mask(Sample(name, folder.files[name], None, None, name, name))
            result.add(Candidate(sample, name))
    order = {name: number for number, name in enumerate(folder.files)}
    result.candidates.sort(key=lambda candidate: order[candidate.sample.image])
    if not found.candidates:
        add_cases(folder, columns, result)
    return result


def _add_rowless(folder: Folder, result: LayoutResult) -> None:
    """Take the images whose problem is that no table names them, each as its own case."""
    rowless = [p for p in result.problems if p.code == "file-without-row" and set(p.images) <= folder.files.keys()]
    result.problems = [problem for problem in result.problems if problem not in rowless]
    for name in (name for problem in rowless for name in problem.images):
        result.add(Candidate(folder.give_mask(Sample(name, folder.files[name], None, None, name, name)), name))


def _understand(
    candidates: list[Candidate], root: Path, result: LayoutResult, *, columns: Columns, progress: Progress | None
) -> list[Candidate]:
    """Decode images and masks; return the candidates with bits and masks as they are to be read."""
    largest: dict[Path, int] = {}
    seen: dict[str, Seen] = {}
    result.problems += check_files(candidates, root, largest=largest, seen=seen, progress=progress)
    candidates = settle_depths(candidates, largest, columns=columns, result=result)
    masks = Settling(candidates, seen, columns, root)
    masks.settle()
    result.problems += masks.problems
    result.notes += masks.notes
    return masks.candidates
