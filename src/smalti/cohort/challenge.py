"""The challenge layout: ``train_data/`` and ``train_labels.csv``; ``test_data/``, ``cases.csv`` if present."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import show_text
from ..types import Sample
from .folder import Folder, Matcher, clean_path, drop_image_suffix, drop_img_prefix, is_mask_name, match_keys
from .reading import Columns, Draft, Reading, report_escape
from .tables import CASE_NAMES, IMAGE_NAMES, Row, Table, choose_columns, note_spaces, pick_column, read_csv, read_label

TRAIN, TEST = "train_data", "test_data"
LABELS_FILE, CASES_FILE = "train_labels.csv", "cases.csv"


def has_challenge_layout(folder: Folder) -> bool:
    """Whether the folder or the table that only this layout has is there."""
    return LABELS_FILE in folder.files or any(name.startswith(f"{TRAIN}/") for name in folder.files)


def read_challenge(folder: Folder, columns: Columns) -> Reading:
    """Read the challenge layout. A folder ``truth/`` holds the answers and is never looked into."""
    reading = Reading("challenge")
    train, test = (_list_pictures(folder, part) for part in (TRAIN, TEST))
    if LABELS_FILE not in folder.files:
        reading.report(
            "no-labels",
            LABELS_FILE,
            message=f"does not exist beside {TRAIN}/.",
            fix=f"put it there: columns sample_index,label, one row per image of {TRAIN}/",
        )
    elif (table := read_csv(folder, LABELS_FILE, reading=reading, columns=columns)) is not None:
        _add_labelled(folder, table, columns=columns, train=train, reading=reading)
    _report_lone_masks(folder, reading)
    name_test = _find_naming([d.sample for d in reading.drafts])
    for name in test:
        sample = Sample(name, folder.files[name], folder.guess_mask_path(name), None, name, name_test(name))
        reading.add(Draft(sample, name, test=True))
    _apply_cases(folder, train, test=test, reading=reading)
    return reading


def _list_pictures(folder: Folder, part: str) -> list[str]:
    return [name for name in folder.list_images(part) if not is_mask_name(name)]


def _add_labelled(folder: Folder, table: Table, *, columns: Columns, train: list[str], reading: Reading) -> None:
    chosen = choose_columns(table, columns, reading=reading)
    if chosen is None:
        return
    index = chosen.image or table.header[0]
    label = chosen.label or next((column for column in table.header if column != index), None)
    if label is None:
        reading.report(
            "column-missing", table.file, message=f"has one column only ({index}).", fix="add a column 'label'"
        )
        return
    reading.submission_columns = (index, label)
    note_spaces(table, label, reading=reading)
    matcher = Matcher(train)
    for row in table.rows:
        text = row.cells[index]
        name = _find_row(folder, matcher, row=row, text=text, reading=reading)
        if name is not None:
            case = row.read(chosen.case)
            path, mask = folder.files[name], folder.guess_mask_path(name)
            reading.add(Draft(Sample(name, path, mask, read_label(row.cells[label]), case or name, text), row.where))
    listed = {image for p in reading.problems for image in p.images} | {d.sample.image for d in reading.drafts}
    for name in train:
        if name not in listed:
            reading.report(
                "file-without-row",
                name,
                message=f"has no row in {table.file}.",
                fix="add its row there, or move the file away",
                images=(name,),
            )


def _find_row(folder: Folder, matcher: Matcher, *, row: Row, text: str, reading: Reading) -> str | None:
    """The image that a row of the labels table means; None with a problem recorded."""
    if clean_path(text, folder.root) is None:
        report_escape(reading, row.where, text=text)
        return None
    found = matcher.find(text)
    if len(found) == 1:
        return found[0]
    if found:
        reading.report(
            "ambiguous-row",
            row.where,
            message=f"'{text}' may mean {' or '.join(found[:4])}.",
            fix="write the name of the file that is meant",
            images=tuple(found),
        )
        return None
    expected = show_text(_expect_name(text.strip()))
    reading.report(
        "row-without-file",
        row.where,
        message=f"'{text}' has no image {expected}.",
        fix="copy the image there or delete the row",
        images=(expected,),
    )
    return None


def _expect_name(text: str) -> str:
    file = text.replace("\\", "/").rsplit("/", 1)[-1]
    stem = drop_img_prefix(drop_image_suffix(file))
    return f"{TRAIN}/img_{stem}{file[len(drop_image_suffix(file)) :] or '.png'}"


def _find_naming(samples: list[Sample]) -> Callable[[str], str]:
    """How the labels table names images, to name test images likewise; the file name when it has no one way."""
    for level in (1, 2, 3):
        if samples and all(match_keys(s.image)[level] == s.index.strip() for s in samples):
            return lambda name: match_keys(name)[level]
    padded = [drop_img_prefix(match_keys(s.image)[2]) == s.index.strip() for s in samples]
    if samples and all(padded):
        return lambda name: drop_img_prefix(match_keys(name)[2])
    return lambda name: match_keys(name)[1]


def _report_lone_masks(folder: Folder, reading: Reading) -> None:
    pictures = [name for part in (TRAIN, TEST) for name in _list_pictures(folder, part)]
    used = {folder.guess_mask(name) for name in pictures}
    for name in (n for part in (TRAIN, TEST) for n in folder.list_images(part)):
        if is_mask_name(name) and name not in used:
            reading.report(
                "mask-without-image",
                name,
                message="is a mask, but its image is not there.",
                fix="copy the image there too, or move the mask away",
                warning=True,
            )


def _apply_cases(folder: Folder, train: list[str], *, test: list[str], reading: Reading) -> None:
    """Lay ``cases.csv`` over the drafts. A bare number means the training image; test images by their path."""
    if CASES_FILE not in folder.files or (table := read_csv(folder, CASES_FILE, reading=reading)) is None:
        return
    index = pick_column(table.header, IMAGE_NAMES) or table.header[0]
    case = pick_column(table.header, CASE_NAMES, taken=(index,)) or table.header[-1]
    if case == index:
        reading.report(
            "column-missing", CASES_FILE, message=f"has one column only ({index}).", fix="add a column 'case'"
        )
        return
    matchers = Matcher([*train, *test]), Matcher(train), Matcher(test)
    given: dict[str, str] = {}
    for row in table.rows:
        text = row.cells[index]
        found = next((f for m in matchers if len(f := m.find(text)) == 1), [])
        if not found:
            reading.report(
                "case-without-image",
                row.where,
                message=f"'{text}' names no image.",
                fix="correct or delete the row",
                warning=True,
            )
        elif row.read(case) and given.setdefault(found[0], row.read(case)) != row.read(case):
            reading.report(
                "repeated-row",
                row.where,
                message=f"'{text}' is of case '{given[found[0]]}' elsewhere.",
                fix="delete the row that is wrong",
                images=(found[0],),
            )
    reading.notes.append(f"cases of {len(given)} images from {CASES_FILE}")
    reading.drafts = [
        replace(d, sample=replace(d.sample, case=given.get(d.sample.image, d.sample.case))) for d in reading.drafts
    ]
