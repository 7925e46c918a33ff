"""The table layout: a table with a column of images and a column of labels, or one for each part of the data set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ..folder import Folder, clean_path
from ..forms.sample import is_sample_name
from ..result import Candidate, Columns, LayoutResult, format_setting, list_names
from ..tables.case_names import CASES_FILE, apply_cases, join_spellings
from ..tables.columns import choose_columns, list_taken
from ..tables.labels import describe_numbers
from ..tables.names import FILE, NUMBER, find_naming, is_image_name
from ..tables.table import LABEL_NAMES, Table, plain_name, read_table
from ..tables.workbooks import WORKBOOK_SUFFIXES, is_unread, name_unread
from .classes import NEVER_READ, has_class_folders
from .measured import find_families
from .parts import TEST, VAL, part_of_path, part_of_table
from .patients import join_patients
from .rows import RowReader, make_sample

NOT_TABLES = frozenset({"submission.csv", CASES_FILE, "decisions.csv", "findings.csv"})
DEEPEST = 3  # folders above a table
PROBED_ROWS = 50  # enough to see whether a column holds image files
Source = tuple[Table, Columns]


@dataclass(slots=True)
class _Probe:
    """The tables of a folder by their kind; ``results`` holds notes and problems of each."""

    labelled: list[Source] = field(default_factory=list)
    tests: list[Source] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    results: dict[str, LayoutResult] = field(default_factory=dict)


def list_tables(folder: Folder, columns: Columns) -> list[str]:
    """Return the tables that may hold the labels: the one that is named, or all that are looked at."""
    if columns.table is not None:
        return [columns.table]
    return [name for tier in _list_tiers(folder, columns) for name in tier]


def _list_tiers(folder: Folder, columns: Columns) -> list[list[str]]:
    """Return tables by where they are looked for, one tier after the other until there are labels."""
    names = [n for n in folder.files if n.lower().endswith((".csv", ".tsv", *WORKBOOK_SUFFIXES))]
    names = [n for n in names if PurePosixPath(n).name.lower() not in NOT_TABLES and not n.startswith("~$")]
    names = [n for n in names if not NEVER_READ & {part.lower() for part in PurePosixPath(n).parts[:-1]}]
    names = [n for n in names if not is_sample_name(n) and n != columns.submission]
    tiers = [[n for n in names if n.count("/") == depth] for depth in range(DEEPEST + 1)]
    top = [n for n in tiers[0] if not n.lower().endswith(WORKBOOK_SUFFIXES)]
    below = [] if has_class_folders(folder, at_least=2) else tiers[1:]
    return [top, [n for n in tiers[0] if n not in top], *below]


def read_listing(folder: Folder, columns: Columns) -> LayoutResult:
    """Read the table layout; with problems and no candidates when no table holds images and labels."""
    result = LayoutResult("table")
    probe = _probe_tables(folder, columns)
    if not _is_plain_choice(folder, probe, columns=columns, result=result):
        return result
    for table, chosen in probe.labelled + probe.tests:
        result.tables |= {table.file, *probe.results[table.file].tables}
        result.notes += [f"table: {table.file}", *probe.results[table.file].notes]
        part = TEST if (table, chosen) in probe.tests else part_of_table(table.file)
        RowReader(folder, table, chosen=chosen, result=result, part=part).add_rows()
        if part == VAL and len(probe.labelled) > 1:
            result.notes.append(f"{table.file}: its rows join the part to learn from; folds are drawn over all of it")
    join_spellings(result)
    listed = {d.sample.image for d in result.candidates}
    parts = {part_of_path(name) for name in listed}
    if not probe.tests and not any(d.test for d in result.candidates) and TEST not in parts:
        # Images in a folder of the test part, which no table lists, are the part to predict.
        names = [n for n in folder.list_images() if part_of_path(n) == TEST and n not in folder.pairs.names]
        name_test = find_naming([d.sample for d in result.candidates])
        for name in names:
            result.add(Candidate(make_sample(folder, name, index=name_test(name)), name, test=True))
        if names:
            where = PurePosixPath(names[0]).parts[0]
            result.notes.append(f"{len(names)} image(s) of {where}/ are the part to predict: no table lists them")
    # Images without a row, in the folders where images with a row are.
    listed = {d.sample.image for d in result.candidates}
    paths = {path for d in result.candidates for path in d.sample.files}
    named = {image for problem in result.problems for image in problem.images}
    folders = {PurePosixPath(name).parent for name in listed}
    for name in folder.list_images():
        unknown = name not in listed and name not in named and folder.files[name] not in paths
        if unknown and PurePosixPath(name).parent in folders and name not in folder.pairs.names:
            result.report("file-without-row", name, message="has no row in the table.",
                          fix="add its row, or move the file away", images=(name,))  # fmt: skip
    first, chosen = probe.labelled[0]
    if measured := find_families(first.header):
        shown = f"{len(measured)} columns of {first.file} ({measured[0]} to {measured[-1]})"
        result.notes.append(f"{shown} are not read, for its images are; {format_setting('features', measured[:1])} "
                            "and more, * for any text, reads them as features instead")  # fmt: skip
    result.submission_columns = (str(chosen.image), chosen.label or "label")
    return result


def _is_plain_choice(folder: Folder, probe: _Probe, *, columns: Columns, result: LayoutResult) -> bool:
    """Return whether one table holds the labels, or one for each part; else, the question is a problem."""
    # What is wrong with a table that is not needed is no problem, and only a warning where it could not be read.
    used = {table.file for table, _ in probe.labelled + probe.tests}
    folders = has_class_folders(folder, at_least=2)
    for file, found in probe.results.items():
        needless = bool(probe.labelled) or (folders and file.lower().endswith(WORKBOOK_SUFFIXES))
        if file in used or part_of_table(file) == TEST or not needless:
            result.problems += found.problems
        else:
            unread = (problem for problem in found.problems if problem.code.startswith("table-"))
            result.problems += [replace(problem, warning=True) for problem in unread]
    if not probe.labelled:
        if not any(p.code.startswith(("table-", "column-")) and not p.warning for p in result.problems):
            described = "; ".join(_describe_table(folder, table) for table in probe.tables[:3])
            message = (
                f"no column of images and column of labels was recognised: {described}{name_unread(folder.files)}."
            )
            fix = "name them: --set data.image=COLUMN --set data.label=COLUMN, or, where each class has a column of 0 "
            fix += "and 1: --set 'data.class_columns=[A, B]'; where rows are patients or slides, give each image a row"
            result.report("no-labels", ", ".join(list(probe.results)[:6]), message=message, fix=fix)
        return False
    table, chosen = probe.labelled[0]
    parts = [part_of_table(table.file) for table, _ in probe.labelled]
    if len(parts) > 1 and not (all(parts) and len(set(parts)) == len(parts)):
        result.report("several-tables", " and ".join(table.file for table, _ in probe.labelled),
                      message="each have a column of images and a column of labels.",
                      fix=f"say which one: {format_setting('table', table.file)}; or join them in one table, or "
                      "name them by their parts (train.csv, val.csv, test.csv)")  # fmt: skip
        return False
    # Labels that are guessed in the table may stand against folders that may be the classes.
    named = columns.table or columns.label or columns.class_columns
    known = chosen.label is not None and plain_name(chosen.label) in LABEL_NAMES
    if named or known or not folders:
        return True
    what, knob = list_names(chosen.class_columns), format_setting("class_columns", list(chosen.class_columns))
    if chosen.label is not None:
        what, knob = f"data.label='{chosen.label}'", format_setting("label", chosen.label)
    result.report("several-labels", table.file,
                  message=f"may hold the labels ({what}), and the folders of images may be the classes.",
                  fix=f"for the table: {knob}; for the folders: move the table out of the data folder")  # fmt: skip
    return False


def add_cases(folder: Folder, columns: Columns, result: LayoutResult) -> None:
    """Lay a table of images and cases over class folders that say no case; the first that has both columns."""
    train, test = ([d.sample.image for d in result.candidates if d.test is part] for part in (False, True))
    if not train or any(d.sample.case != d.sample.image for d in result.candidates):
        if columns.site is not None or columns.subgroups:
            result.report("column-missing", str(folder.root), message="is read as folders that say the cases, and no "
                          "table of sites or subgroups is laid over them.",
                          fix="name the level of sites: --set data.levels=[site, case, class]")  # fmt: skip
        return
    wanted = Columns(image=columns.image, case=columns.case, site=columns.site, sheet=columns.sheet,
                     subgroups=columns.subgroups)  # fmt: skip
    for file in [name for name in (CASES_FILE,) if name in folder.files] + list_tables(folder, columns):
        own = LayoutResult("table")
        table = _read_one(folder, file, columns=wanted, result=own)
        result.problems += own.problems if file == CASES_FILE else []
        chosen = None if table is None else _choose(folder, table, wanted=wanted, is_test=False, result=own)
        if table is not None and chosen is not None and chosen.image is not None and chosen.case is not None:
            apply_cases(table, train, test=test, wanted=chosen, result=result)
            return
    for kind in ("case", "site"):
        if (name := getattr(columns, kind)) is not None:
            result.report("column-missing", str(folder.root),
                          message=f"has no table of images and cases with the column '{name}' ({kind}).",
                          fix=f"name the right one: --set data.{kind}=COLUMN")  # fmt: skip


def _probe_tables(folder: Folder, columns: Columns) -> _Probe:
    """Read the tables, tier by tier until one has images and labels, and choose their columns."""
    probe = _Probe()
    for tier in [[columns.table]] if columns.table is not None else _list_tiers(folder, columns):
        for file in tier if not probe.labelled else ():
            result = probe.results[file] = LayoutResult("table")
            table = _read_one(folder, file, columns=columns, result=result)
            if table is None:
                continue
            probe.tables.append(table)
            is_test = part_of_table(file) == TEST and file != columns.table
            chosen = _choose(folder, table, wanted=columns, is_test=is_test, result=result)
            if chosen is not None and chosen.image is not None and (is_test or chosen.has_labels):
                (probe.tests if is_test else probe.labelled).append((table, chosen))
    if folder.bags is not None and not probe.labelled:
        fits = {t.file: [c for c in t.header if c in t.rows[0].cells and finds_images(folder, t, column=c)]
                for t in probe.tables}  # fmt: skip
        own = LayoutResult("table")
        joined = join_patients(folder, probe.tables, columns, fits=fits, result=own)
        if joined is not None:
            probe.labelled.append(joined)
            probe.results[joined[0].file] = own
    if len(probe.labelled) > 1:
        finding = [s for s in probe.labelled if finds_images(folder, s[0], column=str(s[1].image))]
        probe.labelled = finding or probe.labelled
    return probe


def _read_one(folder: Folder, file: str, *, columns: Columns, result: LayoutResult) -> Table | None:
    cleaned = clean_path(file, folder.root)
    if cleaned is None or cleaned not in folder.files:
        fix = "name the right one: --set data.table=FILE"
        result.report("table-missing", file, message="is not in the data folder.", fix=fix)
        return None
    if is_unread(cleaned):
        message = f"is of a kind that is not read as a table ({PurePosixPath(cleaned).suffix})."
        result.report("table-kind", cleaned, message=message, fix="save it as 'CSV UTF-8'")
        return None
    return read_table(folder, cleaned, result=result, columns=columns)


def _choose(folder: Folder, table: Table, *, wanted: Columns, is_test: bool, result: LayoutResult) -> Columns | None:
    """Return the columns of a table; that of images is None where a guess names none."""
    if is_test:  # a table of the part to predict has no labels, and perhaps no cases
        kept = {kind: getattr(wanted, kind) for kind in ("label", "mask", "case", "part", "site")}
        kept = {kind: name if name in table.header else None for kind, name in kept.items()}
        here = tuple(name for name in wanted.subgroups if name in table.header)
        wanted = replace(wanted, **kept, class_columns=(), subgroups=here)
    chosen = choose_columns(table, wanted, result=result, fits=lambda c: finds_images(folder, table, column=c))
    if chosen is None or wanted.image is not None or chosen.image is None:
        return chosen
    texts = [row.read(chosen.image) for row in table.rows[:PROBED_ROWS]]
    named = any(is_image_name(text) or (text and folder.find_image(text).names) for text in texts)
    return chosen if named else replace(chosen, image=None)  # a column "id" or "name" of something else


def finds_images(folder: Folder, table: Table, *, column: str) -> bool:
    """Return whether cells of a column name images.

    A number alone, such as an index, does not name ``img_0007.png``.
    """
    found = (folder.find_image(row.cells[column]) for row in table.rows[:PROBED_ROWS] if row.cells[column].strip())
    return any(m.names and not {NUMBER, FILE} & set(m.ways) and m.names[0] not in folder.pairs.names for m in found)


def _describe_table(folder: Folder, table: Table) -> str:
    """Return the columns of a table in which not all was recognised, what was, and what may be behind it."""
    fits = lambda column: finds_images(folder, table, column=column)  # noqa: E731
    found = choose_columns(table, Columns(), result=LayoutResult("table"), fits=fits) or Columns()
    known = [f"images: '{found.image}'"] if found.image is not None else []
    if found.image is not None and not fits(found.image):
        known = [f"'{found.image}' names no image that is here, such as '{table.rows[0].read(found.image)}'"]
    known += [f"labels: '{found.label}'"] if found.label is not None else []
    remarks = [describe_numbers(table, taken=list_taken(found))] if not found.has_labels else []
    if any(is_image_name(name) for name in table.header):
        remarks.append("its first line seems to be a row: add a header line above it")
    said = "; ".join(filter(None, (*known, *remarks)))
    return f"{table.file} has {list_names(table.header)}" + (f" ({said})" if said else "")
