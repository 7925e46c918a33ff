"""Labels of patients for bags of slides: a table of patients, and one of their slides or names that begin with them.

STAMP has a table of patients and one of slides; TCGA's slides begin with the barcode of their patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from ..folder import Folder
from ..result import Columns, LayoutResult, list_names
from ..tables.columns import choose_columns
from ..tables.names import drop_image_suffix
from ..tables.table import NAMES, Row, Table

SLIDE = "slide file"  # the column of slides that are found by the beginning of their names
Source = tuple[Table, Columns]


def join_patients(
    folder: Folder, tables: Sequence[Table], wanted: Columns, *, fits: Mapping[str, Sequence[str]], result: LayoutResult
) -> Source | None:
    """Return the labels of patients as a table of slides, with its columns; None where no table gives that.

    Args:
        folder: with bags.
        tables: of which none has both slides and labels.
        wanted: columns that are named.
        fits: table -> its columns whose cells name bags.
        result: gets notes and problems.
    """
    labelled: list[Source] = []
    slides: list[Source] = []
    for table in tables:
        own = {kind: name for kind in NAMES if (name := getattr(wanted, kind)) in table.header}
        here = replace(
            Columns(), **own, real_labels=wanted.real_labels,
            class_columns=wanted.class_columns if set(wanted.class_columns) <= set(table.header) else (),
            subgroups=tuple(name for name in wanted.subgroups if name in table.header),
        )  # fmt: skip
        chosen = choose_columns(
            table,
            here,
            result=LayoutResult("table"),
            fits=lambda c, t=table: c in fits[t.file],  # type: ignore[misc]
        )
        if chosen is None:
            continue
        if chosen.has_labels and (chosen.case or chosen.image):
            labelled.append((table, chosen))
        elif chosen.image in fits[table.file] and chosen.case is not None:
            slides.append((table, chosen))
    for patients in labelled:
        for of_slides in slides:
            if (joined := _join_slides(folder, patients, of_slides, result)) is not None:
                return joined
        if (joined := _join_prefixes(folder, patients, result)) is not None:
            return joined
    return None


def _join_slides(folder: Folder, patients: Source, slides: Source, result: LayoutResult) -> Source | None:
    """Lay a table of patients over one of slides, by their columns of cases; None where they share no case."""
    (table, chosen), (other, theirs) = patients, slides
    key = chosen.case or str(chosen.image)
    rows = {row.read(key): row for row in reversed(table.rows)}  # of several the first
    owners: dict[str, list[str]] = defaultdict(list)
    for row in other.rows:
        owners[row.read(theirs.case)] += folder.find_image(row.cells[str(theirs.image)]).names
    if not owners.keys() & rows.keys():
        return None
    rename = {name: f"{name} of {other.file}" if name in table.header else name for name in other.header}
    empty = dict.fromkeys(table.header, "")
    found: list[Row] = []
    for row in other.rows:
        patient = rows.get(row.read(theirs.case))
        cells = {rename[name]: text for name, text in row.cells.items()}
        cells |= empty | {key: row.read(theirs.case)} if patient is None else patient.cells
        found.append(Row(row.where if patient is None else f"{row.where}, {patient.where}", cells))
    result.notes.append(f"{other.file} says which slides a patient has ('{theirs.case}'), and {table.file} the labels")
    _tell(table, chosen, key, owners, result)
    result.tables.add(other.file)
    joined = replace(
        chosen, image=rename[str(theirs.image)], case=key, part=chosen.part or rename.get(str(theirs.part)),
        site=chosen.site or rename.get(str(theirs.site)),
    )  # fmt: skip
    return Table(table.file, (*table.header, *rename.values()), tuple(found)), joined


def _join_prefixes(folder: Folder, patients: Source, result: LayoutResult) -> Source | None:
    """Give each bag the row whose case its name begins with; None where none begins with one."""
    table, chosen = patients
    key = chosen.case or str(chosen.image)
    rows = {row.read(key): row for row in reversed(table.rows)}
    lengths = sorted({len(text) for text in rows if text}, reverse=True)  # the longest name is the nearest
    owners: dict[str, list[str]] = defaultdict(list)
    for name in folder.list_images():
        stem = PurePosixPath(drop_image_suffix(name)).name
        ends = [n for n in lengths if stem[:n] in rows and not stem[n : n + 1].isalnum()]
        if ends:
            owners[stem[: ends[0]]].append(name)
    if not owners:
        return None
    found = [
        Row(rows[case].where, rows[case].cells | {SLIDE: name}) for case, names in owners.items() for name in names
    ]
    first = next(iter(owners))
    result.notes.append(
        f"{table.file}: {len(found)} file(s) are found by the '{key}' that their names begin with, such as '{first}': "
        f"{owners[first][0]}"
    )
    _tell(table, chosen, key, owners, result)
    return Table(table.file, (*table.header, SLIDE), tuple(found)), replace(chosen, image=SLIDE, case=key)


def _tell(table: Table, chosen: Columns, key: str, owners: Mapping[str, Sequence[str]], result: LayoutResult) -> None:
    """Report patients that are listed twice with two labels, and note those without a slide."""
    columns = [column for column in (chosen.label, *chosen.class_columns) if column]
    firsts: dict[str, Row] = {}
    for row in table.rows:
        case = row.read(key)
        first = firsts.setdefault(case, row)
        one, two = ([r.read(column) for column in columns] for r in (first, row))
        if one != two:
            message = f"'{case}' is listed twice and contradicts {first.where}: label '{', '.join(two)}', not "
            result.report("repeated-row", row.where, message=f"{message}'{', '.join(one)}'.",
                          fix="delete all rows of this patient but the right one",
                          images=tuple(owners.get(case, ())))  # fmt: skip
    if idle := [case for case in firsts if case not in owners]:
        result.notes.append(f"{table.file}: {len(idle)} '{key}' have no slide here: {list_names(idle)}")
