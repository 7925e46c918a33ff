"""From a data folder to a cohort, or to everything that stands against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..errors import DataError, Problem, is_plain
from ..types import Cohort
from .depths import settle_depths
from .folder import Folder
from .forms.asking import ask_columns
from .forms.sample import derive_form, read_sample
from .layouts.bags import NONE, check_bags, find_bags
from .layouts.challenge import has_challenge_layout, read_challenge
from .layouts.classes import has_class_folders, read_class_folders
from .layouts.feature_table import read_feature_listing
from .layouts.listing import add_cases, list_tables, read_listing
from .masks.meaning import Settling, wish_masks
from .masks.values import Seen
from .result import Candidate, Columns, LayoutResult
from .tables.case_names import join_barcodes, join_spellings
from .tables.site_names import drop_sites, settle_sites
from .tables.workbooks import name_unread
from .unused import describe_unused, tell_unused
from .validation import (
    Progress,
    account_masks,
    check_classes,
    check_files,
    check_labels,
    check_masks_present,
    check_texts,
)

GUESS_ALL = Columns()
LOOKED_FOR = (
    "looked for train_data/ with train_labels.csv; for a CSV with a column of images and a column of labels; "
    "for one folder of images per class"
)


def read_cohort(
    root: Path | str,
    *,
    columns: Columns = GUESS_ALL,
    exclude: Collection[str] = (),
    skip_problems: bool = False,
    min_cases: int = 2,
    progress: Progress | None = None,
) -> Cohort:
    """Read a data folder whose layout is recognised; nothing in it is changed.

    Args:
        root: the data folder.
        columns: names in its table; what is None is guessed, and the guess is in ``Cohort.notes``.
        exclude: names of images already decided to be left out; what is wrong with them is no problem.
        skip_problems: leave out the images with problems instead of raising, where that is enough.
        min_cases: fewest cases of a class.
        progress: told (images checked, images in all) after each image.

    Raises:
        DataError: with every problem at once, in ``problems``.
    """
    cohort, problems = inspect_folder(root, columns=columns, exclude=exclude, min_cases=min_cases, progress=progress)
    errors = [problem for problem in problems if not problem.warning]
    if cohort is None or (errors and not skip_problems):
        raise DataError(f"{root} cannot be used as it is: {len(errors)} problem(s)", problems)
    return cohort


def inspect_folder(
    root: Path | str,
    *,
    columns: Columns = GUESS_ALL,
    exclude: Collection[str] = (),
    min_cases: int = 2,
    progress: Progress | None = None,
) -> tuple[Cohort | None, tuple[Problem, ...]]:
    """Return the cohort without the images that have problems, and all problems; no cohort where that is not enough.

    Every image and mask is decoded. Arguments are those of `read_cohort`.
    """
    root, exclude = Path(root), frozenset(exclude)
    result = LayoutResult("unknown")
    if not is_plain(str(root.resolve())):
        result.report("name", str(root.resolve()),
                      message="is a path with control signs, or with bytes that are not UTF-8 (shown as \\...).",
                      fix="rename the folder, or give a link to it with a plain name from a plain folder")  # fmt: skip
    elif not root.is_dir():
        what = "is a file, not a folder." if root.exists() else "does not exist."
        fix = "give the folder that holds the images and the labels"
        result.report("root-missing", str(root), message=what, fix=fix)
    else:
        folder, result = _read_layout(root, drop_sites(columns))
        join_barcodes(result, columns)
        settle_sites(result, columns)
        read_sample(folder, result, columns)
        result.problems = folder.problems + result.problems
        if result.candidates:
            account_masks(folder, result)
            tell_unused(folder, result)
    candidates = wish_masks((d for d in result.candidates if d.sample.image not in exclude), columns)
    # What is wrong with excluded images is no problem.
    rests = [(p, tuple(name for name in p.images if name not in exclude)) for p in result.problems]
    problems = [replace(p, images=rest) for p, rest in rests if rest or not p.images]
    if candidates:
        problems += check_labels(candidates)
        problems += check_texts(candidates)
        if result.layout == "features":
            found, spec = check_bags(candidates, result, progress=progress)
            problems += found
            result.features = spec or result.features
        else:
            candidates = _check_pictures(candidates, root, columns, result, problems=problems, progress=progress)
    elif not any(not p.warning for p in problems):
        problems.append(Problem("no-images", str(root), "holds no image to learn from.", "add images"))
    candidates = _leave_out(candidates, problems, min_cases=min_cases)
    return _build(root, result, candidates=candidates, problems=problems, columns=columns), tuple(problems)


def _read_layout(root: Path, columns: Columns) -> tuple[Folder, LayoutResult]:
    """Return the files of a folder and what its layout says, of pictures or of features."""
    folder, bags = Folder.walk(root), LayoutResult("features")
    given = find_bags(folder, columns.features, bags)
    if given is not None and bags.problems and not bags.bags:  # what has to be asked first
        return given, bags
    result = bags
    if given is not None:
        result = recognise(root, given, columns)
        result.layout, result.bags = "features", bags.bags
        result.notes = bags.notes + result.notes
        result.problems = bags.problems + result.problems
    asked = columns.features not in {None, NONE}
    if not result.candidates and columns.features != NONE and (asked or given is not None or not folder.list_images()):
        listing = read_feature_listing(folder, list_tables(folder, columns), columns)
        if listing is not None and (given is None or listing.candidates):
            return folder, listing
    if given is not None:
        return given, result
    result = recognise(root, folder, columns)
    if not result.candidates:
        result.problems = bags.problems + result.problems  # of files that may have been meant
    if asked:
        result.report("features-missing", str(folder.root),
                      message=f"has neither files of features nor columns of numbers called {columns.features!r}.",
                      fix="name their folder or columns, or leave data.features out")  # fmt: skip
    return folder, result


def _check_pictures(
    candidates: list[Candidate],
    root: Path,
    columns: Columns,
    result: LayoutResult,
    *,
    problems: list[Problem],
    progress: Progress | None,
) -> list[Candidate]:
    """Decode all images and masks; return the candidates as they are to be read, and add what is wrong."""
    problems += check_masks_present(candidates, problems)
    largest: dict[Path, int] = {}
    seen: dict[str, Seen] = {}
    problems += check_files(candidates, root, largest=largest, seen=seen, progress=progress)
    known = len(result.problems)
    candidates = settle_depths(candidates, largest, columns=columns, result=result)
    problems += result.problems[known:]
    masks = Settling(candidates, seen, columns, root)
    masks.settle()
    problems += masks.problems
    result.notes += masks.notes
    return masks.candidates


def _leave_out(candidates: list[Candidate], problems: list[Problem], *, min_cases: int) -> list[Candidate]:
    """Return the candidates without problems; what makes the rest too few to learn from is added to ``problems``."""
    if not any(not d.test for d in candidates) and any(not p.warning for p in problems):
        return candidates  # why there is nothing labelled is said already
    while candidates:
        bad = {name for p in problems if not p.warning for name in p.images}
        rest = [d for d in candidates if d.sample.image not in bad]
        found = check_classes(rest, min_cases=min_cases, left_out=len(candidates) - len(rest))
        problems += found
        if not found or any(not p.images for p in found):
            return rest
    return candidates


def recognise(root: Path, folder: Folder, columns: Columns) -> LayoutResult:
    """Read the layout of a folder; a folder of no known layout is a problem."""
    nothing = LayoutResult("unknown")
    if not folder.list_images():
        unused = describe_unused(folder, nothing) or "it is empty"
        fix = "give the folder that holds the images, unpacked; PNG, JPEG, TIFF and slides are read"
        nothing.report("no-images", str(root), message=f"holds no image ({LOOKED_FOR}); {unused}.", fix=fix)
        return nothing
    if columns.levels is None and columns.table is None and has_challenge_layout(folder):
        return read_challenge(folder, columns)
    tables: list[str] = []
    listing = nothing
    if columns.levels is None:
        tables = list_tables(folder, columns)
        listing = read_listing(folder, columns) if tables else nothing
    unrecognised = columns.table is None and all(p.code == "no-labels" or p.warning for p in listing.problems)
    open_ = columns.levels is None and not listing.candidates and unrecognised
    if columns.levels is not None or (open_ and has_class_folders(folder, at_least=2 if tables else 1)):
        result = read_class_folders(folder, columns.levels)
        add_cases(folder, columns, result)
        join_spellings(result)
        result.problems += [p for p in listing.problems if p.warning]
        idle = [file for file in tables if file not in result.tables]
        result.notes += [f"{file} is not used: it has no column of images and column of labels" for file in idle]
        result.tables |= set(tables)  # told by these notes
        return result
    if listing is nothing:
        found = ", ".join(sorted({name.split("/")[0] for name in folder.files})[:8])
        nothing.report("unknown-layout", str(root),
                       message=f"is laid out in no known way: {LOOKED_FOR}; found {found}{name_unread(folder.files)}.",
                       fix="arrange it in one of these ways, or name the table: --set data.table=FILE")  # fmt: skip
    return listing


def _build(
    root: Path, result: LayoutResult, *, candidates: list[Candidate], problems: list[Problem], columns: Columns
) -> Cohort | None:
    """Return the cohort; None where a problem is not of some images alone. What the form leaves open is a problem."""
    labelled = tuple(d.sample for d in candidates if not d.test)
    unlabelled = tuple(d.sample for d in candidates if d.test)
    classes = tuple(sorted({s.label for s in labelled if s.label is not None}))
    if not any(candidate.test for candidate in result.candidates):
        result.no_submission = result.no_submission or "no image of a part to predict is there"
    elif not result.no_submission and result.form is None:
        result.form = derive_form(result)
        result.notes.append(f"no sample submission is there: submission.csv gets the columns "
                            f"{', '.join(result.submission_columns)}")  # fmt: skip
    if result.form is not None and len(classes) >= 2:  # fewer are a problem already
        label = result.submission_columns[1]
        result.form, told, asked = ask_columns(result.form, classes, columns=columns, label_column=label)
        result.notes += told
        problems += asked
    if any(not p.warning and not p.images for p in problems):
        return None
    notes = list(dict.fromkeys(result.notes))
    if all(s.case == s.image for s in labelled):
        notes.append("case: each image is its own case (no column or file of cases)")
    shared = {s.case for s in labelled} & {s.case for s in unlabelled}
    if shared:
        notes.append(f"{len(shared)} case(s) are in the labelled and in the unlabelled part, such as {min(shared)}")
    warnings = Counter(p.code for p in problems if p.warning)
    for code, count in warnings.items():
        first = next(p for p in problems if p.warning and p.code == code)
        notes.append(f"{code} ({count}): {first.file} {first.message}")
    bad = {name for p in problems if not p.warning for name in p.images}
    if bad:
        notes.append(f"left out because of problems: {len(bad)} image(s)")
    return Cohort(root, result.layout, labelled, unlabelled, classes, notes=tuple(notes), form=result.form,
                  no_submission=result.no_submission, features=result.features)  # fmt: skip
