"""The table layout: a table with a column of images and a column of labels, or one for each part of the data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from ..errors import Problem
from .cases import join_spellings
from .challenge import CASES_FILE
from .classes import NEVER_READ, has_class_folders
from .columns import choose_columns, list_taken
from .folder import Folder, clean_path, is_mask_name
from .labels import describe_numbers
from .names import FILE, NUMBER, find_naming, is_image_name
from .parts import TEST, VAL, part_of_path, part_of_table
from .reading import Columns, Draft, Reading
from .rows import RowReader, make_sample
from .submission import is_sample_name
from .tables import Table, list_columns, read_table
from .workbooks import WORKBOOK_SUFFIXES, is_unread

NOT_TABLES = frozenset({"submission.csv", CASES_FILE, "decisions.csv", "findings.csv"})
PROBED_ROWS = 50  # enough to see whether a column holds image files
Source = tuple[Table, Columns]


def list_tables(folder: Folder, columns: Columns) -> list[str]:
    """The tables that may hold the labels: the one that is named, or those in the folder or one level down."""
    if columns.table is not None:
        return [columns.table]
    return [name for tier in _list_tiers(folder, columns) for name in tier]


def _list_tiers(folder: Folder, columns: Columns) -> list[list[str]]:
    """Tables by where they are looked for, one kind after the other until there are labels."""
    names = [n for n in folder.files if n.lower().endswith((".csv", ".tsv", *WORKBOOK_SUFFIXES))]
    names = [n for n in names if PurePosixPath(n).name.lower() not in NOT_TABLES and not n.startswith("~$")]
    names = [n for n in names if not is_sample_name(n) and n != columns.submission]
    books = [n for n in names if "/" not in n and n.lower().endswith(WORKBOOK_SUFFIXES)]
    below = [n for n in names if n.count("/") == 1 and n.split("/")[0].lower() not in NEVER_READ]
    if has_class_folders(folder, at_least=2):
        below = []
    return [[n for n in names if "/" not in n and n not in books], books, below]


def read_listing(folder: Folder, columns: Columns) -> Reading:
    """Read the table layout; ``reading.drafts`` stays empty, with problems, when no table holds images and labels."""
    reading = Reading("table")
    labelled: list[Source] = []
    tests: list[Source] = []
    probes: dict[str, Reading] = {}
    seen: dict[str, Table] = {}
    for tier in [[columns.table]] if columns.table is not None else _list_tiers(folder, columns):
        for file in tier if not labelled else ():
            probes[file] = Reading("table")
            table = _read_one(folder, file, columns=columns, probe=probes[file])
            found = _choose(folder, table, columns=columns, probe=probes[file]) if table is not None else None
            if table is not None:
                seen[file] = table
            if found is None or found[1].image is None:
                continue
            is_test = part_of_table(file) == TEST and file != columns.table
            if is_test or found[1].has_labels:
                (tests if is_test else labelled).append(found)
    if len(labelled) > 1:
        labelled = [s for s in labelled if finds_images(folder, s[0], column=str(s[1].image))] or labelled
    used = {table.file for table, _ in labelled + tests}
    reading.problems = [
        p for file, probe in probes.items() for p in _weigh_problems(folder, file, probe, used=used, labelled=labelled)
    ]
    if len(labelled) != 1 and not _are_parts(labelled):
        _report_choice(folder, labelled=labelled, seen=seen, reading=reading)
        return reading
    for table, chosen in labelled + tests:
        reading.tables.add(table.file)
        reading.notes += [f"table: {table.file}", *probes[table.file].notes]
        part = TEST if (table, chosen) in tests else part_of_table(table.file)
        RowReader(folder, table, chosen=chosen, reading=reading, part=part).add_rows()
    for table, _ in labelled if len(labelled) > 1 else ():
        if part_of_table(table.file) == VAL:
            reading.notes.append(f"{table.file}: its rows join the part to learn from; folds are drawn over all of it")
    join_spellings(reading)
    if not tests:
        _add_unlisted_tests(folder, reading)
    _report_unlisted(folder, reading)
    table, chosen = labelled[0]
    reading.submission_columns = (str(chosen.image), chosen.label or "label")
    return reading


def _are_parts(labelled: list[Source]) -> bool:
    """Whether several tables are the parts of one data set, such as train.csv and val.csv."""
    parts = [part_of_table(table.file) for table, _ in labelled]
    return len(parts) > 1 and all(parts) and len(set(parts)) == len(parts)


def _weigh_problems(
    folder: Folder, file: str, probe: Reading, *, used: set[str], labelled: list[Source]
) -> list[Problem]:
    """What is wrong with a table that is not needed is no problem, and only a warning where it could not be read."""
    book = file.lower().endswith(WORKBOOK_SUFFIXES) and has_class_folders(folder, at_least=2)
    if file in used or part_of_table(file) == TEST or not (labelled or book):
        return probe.problems
    return [replace(problem, warning=True) for problem in probe.problems if problem.code.startswith("table-")]


def _read_one(folder: Folder, file: str, *, columns: Columns, probe: Reading) -> Table | None:
    cleaned = clean_path(file, folder.root)
    if cleaned is None or cleaned not in folder.files:
        probe.report(
            "table-missing", file, message="is not in the data folder.", fix="name the right one: --set data.table=FILE"
        )
        return None
    if is_unread(cleaned):
        kind = PurePosixPath(cleaned).suffix
        message = f"is of a kind that is not read as a table ({kind})."
        probe.report("table-kind", cleaned, message=message, fix="save it as 'CSV UTF-8'")
        return None
    return read_table(folder, cleaned, reading=probe, columns=columns)


def _choose(folder: Folder, table: Table, *, columns: Columns, probe: Reading) -> Source | None:
    """The table with its columns; the one of images is None where a guess names none."""
    fits = lambda column: finds_images(folder, table, column=column)  # noqa: E731
    chosen = choose_columns(table, columns, reading=probe, fits=fits)
    if chosen is None:
        return None
    if columns.image is None and chosen.image is not None and not _names_images(folder, table, column=chosen.image):
        chosen = replace(chosen, image=None)  # a column "id" or "name" of something else
    return table, chosen


def finds_images(folder: Folder, table: Table, *, column: str) -> bool:
    """Whether cells of a column name images; a number alone, such as an index, does not name ``img_0007.png``."""
    found = (folder.find_image(row.cells[column]) for row in table.rows[:PROBED_ROWS] if row.cells[column].strip())
    return any(m.names and not {NUMBER, FILE} & set(m.ways) and not is_mask_name(m.names[0]) for m in found)


def _names_images(folder: Folder, table: Table, *, column: str) -> bool:
    texts = [row.read(column) for row in table.rows[:PROBED_ROWS]]
    return any(is_image_name(text) or (text and folder.find_image(text).names) for text in texts)


def _report_choice(folder: Folder, *, labelled: list[Source], seen: dict[str, Table], reading: Reading) -> None:
    if labelled:
        names = " and ".join(table.file for table, _ in labelled)
        reading.report(
            "several-tables",
            names,
            message="each have a column of images and a column of labels.",
            fix=f"say which one: --set data.table={labelled[0][0].file}; or join them in one table, or name them by "
            "their parts (train.csv, val.csv, test.csv)",
        )
    elif not any(p.code.startswith(("table-", "column-")) and not p.warning for p in reading.problems):
        described = "; ".join(_describe_table(table) for table in list(seen.values())[:3])
        unread = [name for name in folder.files if "/" not in name and is_unread(name)]
        others = f"; not read as tables: {', '.join(unread[:6])} (save them as CSV)" if unread else ""
        reading.report(
            "no-labels",
            ", ".join(list(seen)[:6]),
            message=f"no column of images and column of labels was recognised: {described}{others}.",
            fix="name them: --set data.image=COLUMN --set data.label=COLUMN, or, where each class has a column of 0 "
            "and 1: --set 'data.class_columns=[A, B]'",
        )


def _describe_table(table: Table) -> str:
    """The columns of a table in which nothing was recognised, and what may be behind it."""
    chosen = choose_columns(table, Columns(), reading=Reading("table"))
    found = chosen if chosen is not None else Columns()
    remark = describe_numbers(table, taken=list_taken(found)) if not found.has_labels else ""
    if any(is_image_name(name) for name in table.header):
        remark = "its first line seems to be a row: add a header line above it"
    return f"{table.file} has {list_columns(table.header)}" + (f" ({remark})" if remark else "")


def _add_unlisted_tests(folder: Folder, reading: Reading) -> None:
    """Take images in a folder of the test part, which no table lists, as the part to predict."""
    listed = {d.sample.image for d in reading.drafts}
    if any(d.test for d in reading.drafts) or any(part_of_path(name) == TEST for name in listed):
        return
    names = [n for n in folder.list_images() if part_of_path(n) == TEST and not is_mask_name(n)]
    name_test = find_naming([d.sample for d in reading.drafts])
    for name in names:
        sample = make_sample(folder, name, mask=folder.guess_mask_path(name), index=name_test(name))
        reading.add(Draft(sample, name, test=True))
    if names:
        where = PurePosixPath(names[0]).parent
        reading.notes.append(f"{len(names)} image(s) of {where}/ are the part to predict: no table lists them")


def _report_unlisted(folder: Folder, reading: Reading) -> None:
    """Images without a row, in the folders where images with a row are."""
    listed = {d.sample.image for d in reading.drafts}
    paths = {d.sample.mask_path for d in reading.drafts}
    named = {image for problem in reading.problems for image in problem.images}
    folders = {PurePosixPath(name).parent for name in listed}
    for name in folder.list_images():
        unknown = name not in listed and name not in named and folder.files[name] not in paths
        if unknown and PurePosixPath(name).parent in folders and not is_mask_name(name):
            reading.report(
                "file-without-row",
                name,
                message="has no row in the table.",
                fix="add its row, or move the file away",
                images=(name,),
            )
