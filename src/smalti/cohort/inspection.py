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
from .layouts.challenge import has_challenge_layout, read_challenge
from .layouts.classes import has_class_folders, read_class_folders
from .layouts.listing import add_cases, list_tables, read_listing
from .masks.meaning import Seen, Settling, wish_masks
from .reading import Columns, Draft, Reading
from .tables.case_names import join_spellings
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
    """The cohort without the images that have problems (None where leaving them out is not enough), and all problems.

    Every image and mask is decoded. Arguments are those of `read_cohort`.
    """
    root = Path(root)
    reading = _read_layout(root, columns)
    excluded = frozenset(exclude)
    drafts = wish_masks((d for d in reading.drafts if d.sample.image not in excluded), columns)
    problems = [kept for p in reading.problems if (kept := _without(p, excluded)) is not None]
    if drafts:
        problems += check_labels(drafts)
        problems += check_texts(drafts)
        problems += check_masks_present(drafts, problems)
        largest: dict[Path, int] = {}
        seen: dict[str, Seen] = {}
        problems += check_files(drafts, root, largest=largest, seen=seen, progress=progress)
        known = len(reading.problems)
        drafts = settle_depths(drafts, largest, columns=columns, reading=reading)
        problems += reading.problems[known:]
        masks = Settling(drafts, seen, columns, root)
        masks.settle()
        drafts = masks.drafts
        problems += masks.problems
        reading.notes += masks.notes
    elif not any(not p.warning for p in problems):
        problems.append(Problem("no-images", str(root), "holds no image to learn from.", "add images"))
    drafts, problems = _settle(drafts, problems, min_cases=min_cases)
    problems += _ask_form(reading, drafts, columns=columns)
    if any(not p.warning and not p.images for p in problems):
        return None, tuple(problems)
    return _build(root, reading, drafts=drafts, problems=problems), tuple(problems)


def _ask_form(reading: Reading, drafts: list[Draft], *, columns: Columns) -> list[Problem]:
    """Settle what the submission holds, now that the classes are known; what has to be asked about it."""
    classes = _list_classes(drafts)
    if not any(draft.test for draft in reading.drafts):
        reading.no_submission = reading.no_submission or "no image of a part to predict is there"
    elif not reading.no_submission and reading.form is None:
        reading.form = derive_form(reading)
        reading.notes.append(f"no sample submission is there: submission.csv gets the columns "
                             f"{', '.join(reading.submission_columns)}")  # fmt: skip
    if reading.form is None or len(classes) < 2:  # the latter is a problem already
        return []
    label = reading.submission_columns[1]
    reading.form, notes, problems = ask_columns(reading.form, classes, columns=columns, label_column=label)
    reading.notes += notes
    return problems


def _list_classes(drafts: list[Draft]) -> tuple[str, ...]:
    return tuple(sorted({d.sample.label for d in drafts if not d.test and d.sample.label is not None}))


def _without(problem: Problem, excluded: frozenset[str]) -> Problem | None:
    """The problem of the images that are not excluded; None when none is left."""
    rest = tuple(name for name in problem.images if name not in excluded)
    if problem.images and not rest:
        return None
    return replace(problem, images=rest)


def _settle(drafts: list[Draft], problems: list[Problem], *, min_cases: int) -> tuple[list[Draft], list[Problem]]:
    """Leave out what has problems; see whether the rest can be learnt from; again, until nothing changes."""
    problems = list(problems)
    if not any(not d.test for d in drafts) and any(not p.warning for p in problems):
        return drafts, problems  # why there is nothing labelled is said already
    while drafts:
        bad = {name for p in problems if not p.warning for name in p.images}
        rest = [d for d in drafts if d.sample.image not in bad]
        found = check_classes(rest, min_cases=min_cases, left_out=len(drafts) - len(rest))
        problems += found
        if not found or any(not p.images for p in found):
            return rest, problems
    return drafts, problems


def _read_layout(root: Path, columns: Columns) -> Reading:
    nothing = Reading("unknown")
    if not is_plain(str(root.resolve())):
        nothing.report(
            "name",
            str(root.resolve()),
            message="is a path with control signs, or with bytes that are not UTF-8 (shown as \\...).",
            fix="rename the folder, or give a link to it with a plain name from a plain folder",
        )
        return nothing
    if not root.is_dir():
        what = "is a file, not a folder." if root.exists() else "does not exist."
        nothing.report(
            "root-missing", str(root), message=what, fix="give the folder that holds the images and the labels"
        )
        return nothing
    folder = Folder.walk(root)
    reading = _recognise(root, folder, columns)
    read_sample(folder, reading, columns)
    reading.problems = folder.problems + reading.problems
    if reading.drafts:
        account_masks(folder, reading)
        tell_unused(folder, reading)
    return reading


def _recognise(root: Path, folder: Folder, columns: Columns) -> Reading:
    nothing = Reading("unknown")
    if not folder.list_images():
        nothing.report(
            "no-images",
            str(root),
            message=f"holds no image ({LOOKED_FOR}); {describe_unused(folder, nothing) or 'it is empty'}.",
            fix="give the folder that holds the images, unpacked; PNG, JPEG, TIFF and slides are read",
        )
        return nothing
    if columns.levels is not None:
        reading = read_class_folders(folder, columns.levels)
        add_cases(folder, columns, reading)
        join_spellings(reading)
        return reading
    if columns.table is None and has_challenge_layout(folder):
        return read_challenge(folder, columns)
    tables = list_tables(folder, columns)
    listing = read_listing(folder, columns) if tables else nothing
    unrecognised = columns.table is None and all(p.code == "no-labels" or p.warning for p in listing.problems)
    if not listing.drafts and unrecognised and has_class_folders(folder, at_least=2 if tables else 1):
        reading = read_class_folders(folder)
        add_cases(folder, columns, reading)
        join_spellings(reading)
        reading.problems += [p for p in listing.problems if p.warning]
        unused = [file for file in tables if file not in reading.tables]
        reading.notes += [f"{file} is not used: it has no column of images and column of labels" for file in unused]
        reading.tables |= set(tables)  # told by these notes
        return reading
    if listing is nothing:
        found = ", ".join(sorted({name.split("/")[0] for name in folder.files})[:8])
        nothing.report(
            "unknown-layout",
            str(root),
            message=f"is laid out in no known way: {LOOKED_FOR}; found {found}{name_unread(folder.files)}.",
            fix="arrange it in one of these ways, or name the table: --set data.table=FILE",
        )
    return listing


def _build(root: Path, reading: Reading, *, drafts: list[Draft], problems: list[Problem]) -> Cohort:
    labelled = tuple(d.sample for d in drafts if not d.test)
    unlabelled = tuple(d.sample for d in drafts if d.test)
    notes = list(dict.fromkeys(reading.notes))
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
    return Cohort(
        root=root,
        layout=reading.layout,
        labelled=labelled,
        unlabelled=unlabelled,
        classes=_list_classes(drafts),
        notes=tuple(notes),
        form=reading.form,
        no_submission=reading.no_submission,
    )
