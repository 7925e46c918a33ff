"""The challenge layout: ``train_data/`` and ``train_labels.csv``; ``test_data/``, ``cases.csv`` if present."""

from __future__ import annotations

from dataclasses import replace

from ...errors import show_text
from ..folder import Folder, clean_path
from ..reading import Columns, Draft, Reading, report_escape
from ..tables.case_names import CASES_FILE, apply_cases, join_spellings, note_missing_cases
from ..tables.columns import choose_columns, list_taken
from ..tables.labels import describe_numbers, note_spaces, read_row_label
from ..tables.names import (
    FILE,
    NUMBER,
    PATH,
    Match,
    Matcher,
    drop_image_suffix,
    drop_img_prefix,
    find_naming,
    is_foreign,
)
from ..tables.table import Row, Table, list_columns, read_csv, read_table
from ..tables.workbooks import WORKBOOK_SUFFIXES, name_unread
from .rows import Found, make_sample

TRAIN, TEST = "train_data", "test_data"
LABELS_FILE = "train_labels.csv"


def has_challenge_layout(folder: Folder) -> bool:
    """Whether the table that only this layout has is there beside a folder of it, or images directly in that folder."""
    if LABELS_FILE in folder.files:
        return any(name.startswith((f"{TRAIN}/", f"{TEST}/")) for name in folder.files)
    return any(name.startswith(f"{TRAIN}/") and name.count("/") == 1 for name in folder.list_images())


def read_challenge(folder: Folder, columns: Columns) -> Reading:
    """Read the challenge layout. A folder ``truth/`` holds the answers and is never looked into."""
    reading = Reading("challenge")
    train, test = (_list_pictures(folder, part) for part in (TRAIN, TEST))
    stem = LABELS_FILE.removesuffix(".csv")
    file = next(
        (n for n in (LABELS_FILE, *(stem + s for s in (".tsv", *WORKBOOK_SUFFIXES))) if n in folder.files), None
    )
    if file is None:
        reading.report(
            "no-labels",
            LABELS_FILE,
            message=f"does not exist beside {TRAIN}/{name_unread(folder.files)}.",
            fix=f"put it there: columns sample_index,label, one row per image of {TRAIN}/",
        )
    elif (table := read_table(folder, file, reading=reading, columns=columns)) is not None:
        _add_labelled(folder, table, columns=columns, train=train, reading=reading)
    name_test = find_naming([d.sample for d in reading.drafts])
    for name in test:
        sample = make_sample(folder, name, index=name_test(name))
        reading.add(Draft(sample, name, test=True))
    if CASES_FILE in folder.files and (cases := read_csv(folder, CASES_FILE, reading=reading)) is not None:
        apply_cases(cases, train, test=test, reading=reading)
    join_spellings(reading)
    return reading


def _list_pictures(folder: Folder, part: str) -> list[str]:
    return [name for name in folder.list_images(part) if name not in folder.pairs.names]


def _add_labelled(folder: Folder, table: Table, *, columns: Columns, train: list[str], reading: Reading) -> None:
    reading.tables.add(table.file)
    matcher = Matcher(train)
    chosen = _choose(table, columns, matcher=matcher, reading=reading)
    if chosen is None:
        return
    reading.submission_columns = (str(chosen.image), chosen.label or "label")
    note_spaces(table, chosen.label, reading=reading)
    found, cases = Found(), []
    for row in table.rows:
        text = row.cells[str(chosen.image)]
        match = _find_row(folder, matcher, row=row, text=text, reading=reading)
        if match is None:
            continue
        name, case = match.names[0], row.read(chosen.case)
        usual = {NUMBER} if is_foreign(text) else {NUMBER, FILE, PATH}  # this layout numbers images in one folder
        found.count(text, replace(match, ways=tuple(way for way in match.ways if way not in usual)))
        cases += [case] if chosen.case is not None else []
        problems = len(reading.problems)
        label = read_row_label(row, chosen, image=name, reading=reading)
        if len(reading.problems) == problems:
            sample = make_sample(folder, name, index=text, label=label, case=case)
            reading.add(Draft(sample, row.where, label_text=row.read(chosen.label)))
    found.note(table.file, reading)
    note_missing_cases(cases, reading)
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


def _choose(table: Table, columns: Columns, *, matcher: Matcher, reading: Reading) -> Columns | None:
    """The columns of the labels table, which has two at least; None with a problem recorded."""
    if len(table.header) < 2:
        reading.report(
            "column-missing",
            table.file,
            message=f"has one column only ({table.header[0]}).",
            fix="add a column 'label'",
        )
        return None
    fits = lambda column: any(matcher.find(row.cells[column]) for row in table.rows)  # noqa: E731
    chosen = choose_columns(table, columns, reading=reading, fits=fits)
    if chosen is None:
        return None
    if chosen.image is None:
        chosen = replace(chosen, image=table.header[0])
        reading.notes.append(f"image column: {chosen.image} (the first)")
    if not chosen.has_labels:
        others = [column for column in table.header if column not in list_taken(chosen)]
        if len(others) != 1:
            remark = describe_numbers(table, taken=list_taken(chosen))
            reading.report(
                "no-labels",
                table.file,
                message=f"no column of labels was recognised among {list_columns(table.header)}"
                f"{f' ({remark})' if remark else ''}.",
                fix="name it: --set data.label=COLUMN, or, where each class has a column of 0 and 1: "
                "--set 'data.class_columns=[A, B]'",
            )
            return None
        chosen = replace(chosen, label=others[0])
        reading.notes.append(f"label column: {others[0]} (the only other)")
    return chosen


def _find_row(folder: Folder, matcher: Matcher, *, row: Row, text: str, reading: Reading) -> Match | None:
    """The image that a row of the labels table means; None with a problem recorded."""
    match = matcher.match(text)
    if len(match.names) == 1:
        return match
    if match.names:
        reading.report(
            "ambiguous-row",
            row.where,
            message=f"'{text}' may mean {' or '.join(match.names[:4])}.",
            fix="write the name of the file that is meant",
            images=match.names,
        )
        return None
    if clean_path(text, folder.root) is None:
        report_escape(reading, row.where, text=text)
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
