"""The challenge layout: ``train_data/`` and ``train_labels.csv``; ``test_data/``, ``cases.csv`` if present."""

from __future__ import annotations

from dataclasses import replace

from ...errors import show_text
from ..folder import Folder, clean_path
from ..result import Candidate, Columns, LayoutResult, list_names, report_escape
from ..tables.case_names import CASES_FILE, apply_cases, join_spellings, note_missing_cases
from ..tables.columns import choose_columns, list_taken
from ..tables.labels import describe_numbers, note_spaces, read_row_label
from ..tables.names import (
    FILE,
    NUMBER,
    PATH,
    Matcher,
    drop_image_suffix,
    drop_img_prefix,
    find_naming,
    is_foreign,
)
from ..tables.site_names import describe_column, read_site, read_subgroups
from ..tables.table import Table, read_csv, read_table
from ..tables.workbooks import WORKBOOK_SUFFIXES, name_unread
from .rows import Found, make_sample

TRAIN, TEST = "train_data", "test_data"
LABELS_FILE = "train_labels.csv"


def has_challenge_layout(folder: Folder) -> bool:
    """Return whether the table of this layout is there beside a folder of it, or images lie directly in that folder."""
    if LABELS_FILE in folder.files:
        return any(name.startswith((f"{TRAIN}/", f"{TEST}/")) for name in folder.files)
    return any(name.startswith(f"{TRAIN}/") and name.count("/") == 1 for name in folder.list_images())


def read_challenge(folder: Folder, columns: Columns) -> LayoutResult:
    """Read the challenge layout. A folder ``truth/`` holds the answers and is never looked into."""
    result = LayoutResult("challenge")
    train, test = (
        [name for name in folder.list_images(part) if name not in folder.pairs.names] for part in (TRAIN, TEST)
    )
    cased = CASES_FILE in folder.files
    names = [LABELS_FILE, *(LABELS_FILE.removesuffix(".csv") + end for end in (".tsv", *WORKBOOK_SUFFIXES))]
    file = next((name for name in names if name in folder.files), None)
    if file is None:
        result.report("no-labels", LABELS_FILE, message=f"does not exist beside {TRAIN}/{name_unread(folder.files)}.",
                      fix=f"put it there: columns sample_index,label, one row per image of {TRAIN}/")  # fmt: skip
    elif (table := read_table(folder, file, result=result, columns=columns)) is not None:
        # What a table of cases says is asked of that one.
        own = replace(columns, site=columns.site if columns.site in table.header or not cased else None,
                      subgroups=tuple(c for c in columns.subgroups if c in table.header or not cased))  # fmt: skip
        _add_labelled(folder, table, columns=own, train=train, result=result)
    name_test = find_naming([d.sample for d in result.candidates])
    for name in test:
        sample = make_sample(folder, name, index=name_test(name))
        result.add(Candidate(sample, name, test=True))
    if cased and (cases := read_csv(folder, CASES_FILE, result=result, columns=columns)) is not None:
        apply_cases(cases, train, test=test, result=result,
                    wanted=Columns(site=columns.site, subgroups=columns.subgroups))  # fmt: skip
    join_spellings(result)
    return result


def _add_labelled(folder: Folder, table: Table, *, columns: Columns, train: list[str], result: LayoutResult) -> None:
    """Add a candidate for each row of the labels table, or what is wrong with it."""
    result.tables.add(table.file)
    matcher = Matcher(train)
    chosen = _choose(table, columns, matcher=matcher, result=result)
    if chosen is None:
        return
    result.submission_columns = (str(chosen.image), chosen.label or "label")
    note_spaces(table, chosen.label, result=result)
    found, cases = Found(), []
    for row in table.rows:
        text = row.cells[str(chosen.image)]
        match = matcher.match(text)
        if len(match.names) > 1:
            message = f"'{text}' may mean {' or '.join(match.names[:4])}."
            fix = "write the name of the file that is meant"
            result.report("ambiguous-row", row.where, message=message, fix=fix, images=match.names)
            continue
        if not match.names:
            _report_missing(folder, row.where, text, result=result)
            continue
        name, case = match.names[0], row.read(chosen.case)
        usual = {NUMBER} if is_foreign(text) else {NUMBER, FILE, PATH}  # this layout numbers images in one folder
        found.count(text, replace(match, ways=tuple(way for way in match.ways if way not in usual)))
        cases += [case] if chosen.case is not None else []
        problems = len(result.problems)
        label = read_row_label(row, chosen, image=name, result=result)
        if len(result.problems) == problems:
            sample = make_sample(folder, name, index=text, label=label, case=case, site=read_site(row, chosen),
                                 subgroups=read_subgroups(row, chosen))  # fmt: skip
            result.add(Candidate(sample, row.where, label_text=row.read(chosen.label)))
    found.note(table.file, result)
    note_missing_cases(cases, result)
    if chosen.site is not None:
        result.site_source = describe_column(table, chosen)
    listed = {image for p in result.problems for image in p.images} | {d.sample.image for d in result.candidates}
    for name in (name for name in train if name not in listed):
        result.report("file-without-row", name, message=f"has no row in {table.file}.",
                      fix="add its row there, or move the file away", images=(name,))  # fmt: skip


def _report_missing(folder: Folder, where: str, text: str, *, result: LayoutResult) -> None:
    """Record that a row of the labels table names no image, with the name that its image would have."""
    if clean_path(text, folder.root) is None:
        report_escape(result, where, text=text)
        return
    file = text.strip().replace("\\", "/").rsplit("/", 1)[-1]
    stem = drop_image_suffix(file)
    expected = show_text(f"{TRAIN}/img_{drop_img_prefix(stem)}{file[len(stem) :] or '.png'}")
    result.report("row-without-file", where, message=f"'{text}' has no image {expected}.",
                  fix="copy the image there or delete the row", images=(expected,))  # fmt: skip


def _choose(table: Table, columns: Columns, *, matcher: Matcher, result: LayoutResult) -> Columns | None:
    """Return the columns of the labels table, which has two at least; None with a problem recorded."""
    if len(table.header) < 2:
        message = f"has one column only ({table.header[0]})."
        result.report("column-missing", table.file, message=message, fix="add a column 'label'")
        return None
    fits = lambda column: any(matcher.match(row.cells[column]).names for row in table.rows)  # noqa: E731
    chosen = choose_columns(table, columns, result=result, fits=fits)
    if chosen is None:
        return None
    if chosen.image is None:
        chosen = replace(chosen, image=table.header[0])
        result.notes.append(f"image column: {chosen.image} (the first)")
    others = [column for column in table.header if column not in list_taken(chosen)]
    if not chosen.has_labels and len(others) == 1:
        chosen = replace(chosen, label=others[0])
        result.notes.append(f"label column: {others[0]} (the only other)")
    elif not chosen.has_labels:
        remark = describe_numbers(table, taken=list_taken(chosen))
        message = f"no column of labels was recognised among {list_names(table.header)}"
        fix = "name it: --set data.label=COLUMN, or, where each class has a column of 0 and 1: "
        result.report("no-labels", table.file, message=f"{message}{f' ({remark})' if remark else ''}.",
                      fix=f"{fix}--set 'data.class_columns=[A, B]'")  # fmt: skip
        return None
    return chosen
