"""The table layout: a table with a column of images and a column of labels, or one for each part of the data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from ..folder import Folder, clean_path
from ..forms.sample import is_sample_name
from ..reading import Columns, Draft, Reading, write_setting
from ..tables.case_names import CASES_FILE, apply_cases, join_spellings
from ..tables.columns import choose_columns, list_taken
from ..tables.labels import describe_numbers
from ..tables.names import FILE, NUMBER, find_naming, is_image_name
from ..tables.table import LABEL_NAMES, Table, list_columns, plain_name, read_table
from ..tables.workbooks import WORKBOOK_SUFFIXES, is_unread, name_unread
from .classes import NEVER_READ, has_class_folders
from .parts import TEST, VAL, part_of_path, part_of_table
from .rows import RowReader, make_sample

NOT_TABLES = frozenset({"submission.csv", CASES_FILE, "decisions.csv", "findings.csv"})
DEEPEST = 3  # folders above a table
PROBED_ROWS = 50  # enough to see whether a column holds image files
Source = tuple[Table, Columns]


@dataclass(slots=True)
class _Probe:
    """What the tables of a folder are found to be; ``readings`` holds what is said of each."""

    labelled: list[Source] = field(default_factory=list)
    tests: list[Source] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)


def list_tables(folder: Folder, columns: Columns) -> list[str]:
    """The tables that may hold the labels: the one that is named, or all that are looked at."""
    if columns.table is not None:
        return [columns.table]
    return [name for tier in _list_tiers(folder, columns) for name in tier]


def _list_tiers(folder: Folder, columns: Columns) -> list[list[str]]:
    """Tables by where they are looked for, one tier after the other until there are labels."""
    names = [n for n in folder.files if n.lower().endswith((".csv", ".tsv", *WORKBOOK_SUFFIXES))]
    names = [n for n in names if PurePosixPath(n).name.lower() not in NOT_TABLES and not n.startswith("~$")]
    names = [n for n in names if not NEVER_READ & {part.lower() for part in PurePosixPath(n).parts[:-1]}]
    names = [n for n in names if not is_sample_name(n) and n != columns.submission]
    tiers = [[n for n in names if n.count("/") == depth] for depth in range(DEEPEST + 1)]
    top = [n for n in tiers[0] if not n.lower().endswith(WORKBOOK_SUFFIXES)]
    below = [] if has_class_folders(folder, at_least=2) else tiers[1:]
    return [top, [n for n in tiers[0] if n not in top], *below]


def read_listing(folder: Folder, columns: Columns) -> Reading:
    """Read the table layout; ``reading.drafts`` stays empty, with problems, when no table holds images and labels."""
    reading = Reading("table")
    probe = _probe_tables(folder, columns)
    _take_problems(folder, probe, reading=reading)
    if len(probe.labelled) != 1 and not _are_parts(probe.labelled):
        _report_choice(folder, probe, reading=reading)
        return reading
    if _rivals_folders(folder, probe.labelled, columns=columns, reading=reading):
        return reading
    for table, chosen in probe.labelled + probe.tests:
        reading.tables.add(table.file)
        reading.notes += [f"table: {table.file}", *probe.readings[table.file].notes]
        part = TEST if (table, chosen) in probe.tests else part_of_table(table.file)
        RowReader(folder, table, chosen=chosen, reading=reading, part=part).add_rows()
        if part == VAL and len(probe.labelled) > 1:
            reading.notes.append(f"{table.file}: its rows join the part to learn from; folds are drawn over all of it")
    join_spellings(reading)
    if not probe.tests:
        _add_unlisted_tests(folder, reading)
    _report_unlisted(folder, reading)
    _, chosen = probe.labelled[0]
    reading.submission_columns = (str(chosen.image), chosen.label or "label")
    return reading


def add_cases(folder: Folder, columns: Columns, reading: Reading) -> None:
    """Lay a table of images and cases over class folders that say no case; the first that has both columns."""
    train, test = ([d.sample.image for d in reading.drafts if d.test is part] for part in (False, True))
    if not train or any(d.sample.case != d.sample.image for d in reading.drafts):
        return
    wanted = Columns(image=columns.image, case=columns.case, sheet=columns.sheet)
    for file in [name for name in (CASES_FILE,) if name in folder.files] + list_tables(folder, columns):
        own = Reading("table")
        table = _read_one(folder, file, columns=wanted, reading=own)
        reading.problems += own.problems if file == CASES_FILE else []
        chosen = None if table is None else _choose(folder, table, wanted=wanted, is_test=False, reading=own)
        if table is not None and chosen is not None and chosen.image is not None and chosen.case is not None:
            apply_cases(table, train, test=test, image=chosen.image, case=chosen.case, reading=reading)
            return
    if columns.case is not None:
        reading.report("column-missing", str(folder.root), message=f"has no table of images with the column "
                       f"'{columns.case}' (case).", fix="name the right one: --set data.case=COLUMN")  # fmt: skip


def _probe_tables(folder: Folder, columns: Columns) -> _Probe:
    """Read the tables, tier by tier until one has images and labels, and choose their columns."""
    probe = _Probe()
    for tier in [[columns.table]] if columns.table is not None else _list_tiers(folder, columns):
        for file in tier if not probe.labelled else ():
            reading = probe.readings[file] = Reading("table")
            table = _read_one(folder, file, columns=columns, reading=reading)
            if table is None:
                continue
            probe.tables.append(table)
            is_test = part_of_table(file) == TEST and file != columns.table
            chosen = _choose(folder, table, wanted=columns, is_test=is_test, reading=reading)
            if chosen is not None and chosen.image is not None and (is_test or chosen.has_labels):
                (probe.tests if is_test else probe.labelled).append((table, chosen))
    if len(probe.labelled) > 1:
        finding = [s for s in probe.labelled if finds_images(folder, s[0], column=str(s[1].image))]
        probe.labelled = finding or probe.labelled
    return probe


def _are_parts(labelled: list[Source]) -> bool:
    """Whether several tables are the parts of one data set, such as train.csv and val.csv."""
    parts = [part_of_table(table.file) for table, _ in labelled]
    return len(parts) > 1 and all(parts) and len(set(parts)) == len(parts)


def _rivals_folders(folder: Folder, labelled: list[Source], *, columns: Columns, reading: Reading) -> bool:
    """Whether labels that are guessed in the table stand against folders that may be the classes: that is asked."""
    table, chosen = labelled[0]
    named = columns.table or columns.label or columns.class_columns
    known = chosen.label is not None and plain_name(chosen.label) in LABEL_NAMES
    if named or known or not has_class_folders(folder, at_least=2):
        return False
    what = f"data.label='{chosen.label}'" if chosen.label is not None else list_columns(chosen.class_columns)
    if chosen.label is not None:
        knob = write_setting("label", chosen.label)
    else:
        knob = write_setting("class_columns", list(chosen.class_columns))
    reading.report(
        "several-labels",
        table.file,
        message=f"may hold the labels ({what}), and the folders of images may be the classes.",
        fix=f"for the table: {knob}; for the folders: move the table out of the data folder",
    )
    return True


def _take_problems(folder: Folder, probe: _Probe, *, reading: Reading) -> None:
    """What is wrong with a table that is not needed is no problem, and only a warning where it could not be read."""
    used = {table.file for table, _ in probe.labelled + probe.tests}
    folders = has_class_folders(folder, at_least=2)
    for file, found in probe.readings.items():
        needless = bool(probe.labelled) or (folders and file.lower().endswith(WORKBOOK_SUFFIXES))
        if file in used or part_of_table(file) == TEST or not needless:
            reading.problems += found.problems
        else:
            unread = (problem for problem in found.problems if problem.code.startswith("table-"))
            reading.problems += [replace(problem, warning=True) for problem in unread]


def _read_one(folder: Folder, file: str, *, columns: Columns, reading: Reading) -> Table | None:
    cleaned = clean_path(file, folder.root)
    if cleaned is None or cleaned not in folder.files:
        fix = "name the right one: --set data.table=FILE"
        reading.report("table-missing", file, message="is not in the data folder.", fix=fix)
        return None
    if is_unread(cleaned):
        message = f"is of a kind that is not read as a table ({PurePosixPath(cleaned).suffix})."
        reading.report("table-kind", cleaned, message=message, fix="save it as 'CSV UTF-8'")
        return None
    return read_table(folder, cleaned, reading=reading, columns=columns)


def _choose(folder: Folder, table: Table, *, wanted: Columns, is_test: bool, reading: Reading) -> Columns | None:
    """The columns of a table; that of images is None where a guess names none."""
    if is_test:  # a table of the part to predict has no labels, and perhaps no cases
        absent: dict[str, Any] = {
            kind: None for kind in ("label", "mask", "case", "part") if getattr(wanted, kind) not in table.header
        }
        wanted = replace(wanted, **absent, class_columns=())
    chosen = choose_columns(table, wanted, reading=reading, fits=lambda c: finds_images(folder, table, column=c))
    if chosen is None:
        return None
    if wanted.image is None and chosen.image is not None and not _names_images(folder, table, column=chosen.image):
        return replace(chosen, image=None)  # a column "id" or "name" of something else
    return chosen


def finds_images(folder: Folder, table: Table, *, column: str) -> bool:
    """Whether cells of a column name images; a number alone, such as an index, does not name ``img_0007.png``."""
    found = (folder.find_image(row.cells[column]) for row in table.rows[:PROBED_ROWS] if row.cells[column].strip())
    return any(m.names and not {NUMBER, FILE} & set(m.ways) and m.names[0] not in folder.pairs.names for m in found)


def _names_images(folder: Folder, table: Table, *, column: str) -> bool:
    texts = [row.read(column) for row in table.rows[:PROBED_ROWS]]
    return any(is_image_name(text) or (text and folder.find_image(text).names) for text in texts)


def _report_choice(folder: Folder, probe: _Probe, *, reading: Reading) -> None:
    if probe.labelled:
        names = " and ".join(table.file for table, _ in probe.labelled)
        reading.report(
            "several-tables",
            names,
            message="each have a column of images and a column of labels.",
            fix=f"say which one: {write_setting('table', probe.labelled[0][0].file)}; or join them in one table, or "
            "name them by their parts (train.csv, val.csv, test.csv)",
        )
    elif not any(p.code.startswith(("table-", "column-")) and not p.warning for p in reading.problems):
        described = "; ".join(_describe_table(folder, table) for table in probe.tables[:3])
        reading.report(
            "no-labels",
            ", ".join(list(probe.readings)[:6]),
            message=f"no column of images and column of labels was recognised: {described}{name_unread(folder.files)}.",
            fix="name them: --set data.image=COLUMN --set data.label=COLUMN, or, where each class has a column of 0 "
            "and 1: --set 'data.class_columns=[A, B]'; where rows are patients or slides, give each image a row",
        )


def _describe_table(folder: Folder, table: Table) -> str:
    """The columns of a table in which not all was recognised, what was, and what may be behind it."""
    fits = lambda column: finds_images(folder, table, column=column)  # noqa: E731
    found = choose_columns(table, Columns(), reading=Reading("table"), fits=fits) or Columns()
    known = [f"images: '{found.image}'"] if found.image is not None else []
    if found.image is not None and not fits(found.image):
        known = [f"'{found.image}' names no image that is here, such as '{table.rows[0].read(found.image)}'"]
    known += [f"labels: '{found.label}'"] if found.label is not None else []
    remarks = [describe_numbers(table, taken=list_taken(found))] if not found.has_labels else []
    if any(is_image_name(name) for name in table.header):
        remarks.append("its first line seems to be a row: add a header line above it")
    said = "; ".join(filter(None, (*known, *remarks)))
    return f"{table.file} has {list_columns(table.header)}" + (f" ({said})" if said else "")


def _add_unlisted_tests(folder: Folder, reading: Reading) -> None:
    """Take images in a folder of the test part, which no table lists, as the part to predict."""
    listed = {d.sample.image for d in reading.drafts}
    if any(d.test for d in reading.drafts) or any(part_of_path(name) == TEST for name in listed):
        return
    names = [n for n in folder.list_images() if part_of_path(n) == TEST and n not in folder.pairs.names]
    name_test = find_naming([d.sample for d in reading.drafts])
    for name in names:
        sample = make_sample(folder, name, index=name_test(name))
        reading.add(Draft(sample, name, test=True))
    if names:
        where = PurePosixPath(names[0]).parts[0]
        reading.notes.append(f"{len(names)} image(s) of {where}/ are the part to predict: no table lists them")


def _report_unlisted(folder: Folder, reading: Reading) -> None:
    """Images without a row, in the folders where images with a row are."""
    listed = {d.sample.image for d in reading.drafts}
    paths = {path for d in reading.drafts for path in d.sample.files}
    named = {image for problem in reading.problems for image in problem.images}
    folders = {PurePosixPath(name).parent for name in listed}
    for name in folder.list_images():
        unknown = name not in listed and name not in named and folder.files[name] not in paths
        if unknown and PurePosixPath(name).parent in folders and name not in folder.pairs.names:
            reading.report(
                "file-without-row",
                name,
                message="has no row in the table.",
                fix="add its row, or move the file away",
                images=(name,),
            )
