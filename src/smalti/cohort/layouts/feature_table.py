"""A table of features: one row a slide, or one row a tile with a column that names its bag."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...features import Head, read_cells, read_head
from ...types import FeatureSpec, Sample
from ..folder import Folder
from ..result import Candidate, Columns, LayoutResult, format_setting, list_names
from ..tables.columns import BESIDE_CASE, CASE_WORDS, choose_columns, list_taken, read_words
from ..tables.labels import read_label
from ..tables.names import is_image_name
from ..tables.site_names import describe_column, read_site, read_subgroups
from ..tables.spelling import is_missing
from ..tables.table import COMMON, NAMES, Row, Table, plain_name, read_text, sniff_delimiter
from ..tables.workbooks import WORKBOOK_SUFFIXES
from .measured import FEW, LEAST_FEATURES, choose_measured
from .parts import TEST, part_of_table, read_part

BAG_NAMES = ("bag", "bag_id", "bag_name", "bagid")
NUMBER_FRAC = 0.95  # of the filled cells of a column of numbers; the others are told
BAGS_FRAC = 0.5  # of the names come several times where rows are tiles; fewer are rows that are listed twice
SHOWN = 6  # columns that a message names


@dataclass(slots=True)
class _Read:
    """A table that was read: its texts, its numbers (columns that are features come later), and its roles."""

    table: Table
    chosen: Columns
    numbers: pd.DataFrame
    part: str


def read_feature_listing(folder: Folder, tables: Sequence[str], columns: Columns) -> LayoutResult | None:
    """Read the tables with columns of numbers: one with labels, or one for each part; None where there is none."""
    result = LayoutResult("features")
    labelled: list[_Read] = []
    tests: list[_Read] = []
    for file in tables:
        own = LayoutResult("features")
        one = _read_table(folder, file, columns, own)
        if one is None:
            result.problems += own.problems if columns.table == file else []
            continue
        (tests if one.part == TEST and columns.table != file else labelled).append(one)
        result.notes += own.notes
        result.problems += own.problems
    unnamed, labelled = labelled, [one for one in labelled if one.chosen.label is not None]
    if not labelled:
        if unnamed and not result.problems:
            _ask_label(unnamed, columns, result)
        return result if unnamed or (result.problems and columns.table is not None) else None
    parts = [one.part for one in labelled]
    files = [one.table.file for one in labelled]
    if len(labelled) > 1 and not (all(parts) and len(set(parts)) == len(parts)):
        result.report("several-tables", " and ".join(files), message="each have labels and columns of features.",
                      fix=f"say which one: {' or '.join(format_setting('table', file) for file in files[:6])}; or "
                      "name them by their parts (train.csv, val.csv, test.csv)")  # fmt: skip
        return result
    names = _choose_features(labelled[0], columns, result)
    if len(names) < LEAST_FEATURES:
        return result if result.problems else None
    delimiter = sniff_table(folder.files[files[0]])
    result.features = FeatureSpec(len(names), columns=tuple(names), delimiter=delimiter, several_tiles=False)
    for one in (*labelled, *tests):
        lacking = [name for name in names if name not in one.numbers.columns]
        if lacking or sniff_table(folder.files[one.table.file]) != delimiter:
            what = f"lacks columns of features: {list_names(lacking)}" if lacking else "has another delimiter"
            result.report("features-columns", one.table.file, message=f"{what}; the others are in {files[0]}.",
                          fix="save both tables alike, with the same columns of numbers")  # fmt: skip
            continue
        result.tables.add(one.table.file)
        _add_bags(folder, one, one.numbers[names].to_numpy(dtype=np.float64, na_value=np.nan), names, result)
    result.submission_columns = (str(labelled[0].chosen.image or "image"), labelled[0].chosen.label or "label")
    return result


def _ask_label(tables: Sequence[_Read], columns: Columns, result: LayoutResult) -> None:
    """Report tables with features of which none says the labels, with the columns that may."""
    one = max(tables, key=lambda one: len(one.numbers.columns))
    taken, rows = list_taken(one.chosen), one.table.rows
    texts = [name for name in one.table.header if name and name not in taken]
    texts = [name for name in texts if 1 < len({row.read(name) for row in rows}) <= len(rows) / 2]
    flags = [str(name) for name, values in one.numbers.items() if values.nunique() == 2]
    may = [*texts, *flags][:SHOWN]
    named = " or ".join(format_setting("label", name) for name in may)
    fix = f"name it: {named}" if may else "add a column of labels, called label, to this table"
    result.report("features-no-label", one.table.file,
                  message=f"has {len(one.numbers.columns)} columns of numbers, and no column of labels was recognised.",
                  fix=f"{fix}; labels in another table have to be copied into this one")  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


def sniff_table(path: Path) -> str:
    """Return the delimiter of a table."""
    state = path.stat()
    return _sniff(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _sniff(path: Path, *stamp: int) -> str:
    """Look at a file once for as long as it stays as it is."""
    if path.suffix.lower() in WORKBOOK_SUFFIXES:
        return ","
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        start = "".join(line for _, line in zip(range(20), lines, strict=False))
    told = re.match(r"\s*\"?sep=(.)\"?[\r\n]+", start)
    return told[1] if told else sniff_delimiter(start)


def _read_table(folder: Folder, file: str, columns: Columns, result: LayoutResult) -> _Read | None:
    """Return a table with columns of numbers; None where it is none, with what is wrong with it in ``result``."""
    if file not in folder.files:
        result.report("table-missing", file, message="is not in the data folder.",
                      fix="name the right one: --set data.table=FILE")  # fmt: skip
        return None
    delimiter, path = sniff_table(folder.files[file]), folder.files[file]
    try:
        head = read_head(path, delimiter=delimiter)
        text = [name for i, name in enumerate(head.names) if _is_text(head, i, columns)]
        if len(head.names) - len(text) < LEAST_FEATURES:
            return None
        cells = read_cells(path, delimiter=delimiter, text=text)
    except UnicodeDecodeError:
        read_text(folder, file, result=result)  # says which byte of which line
        return None
    except (ValueError, OSError, ImportError) as error:
        message = f"cannot be read as a table: {str(error).splitlines()[0]}."
        result.report("table-damaged", file, message=message, fix="save it again as CSV, in UTF-8")
        return None
    if twice := sorted(name for name, count in Counter(head.names).items() if count > 1 and name):
        result.report("column-repeated", file, message=f"has more than one column called {list_names(twice)}.",
                      fix="rename or delete all of them but one")  # fmt: skip
        return None
    numbers = _take_numbers(cells, text)
    if not len(cells) or len(numbers.columns) < LEAST_FEATURES:
        return None
    result.notes += [f"{file}: columns are separated by {delimiter!r}"] if delimiter != "," else []
    result.notes += [f"{file}: numbers are written with a comma, 0,5"] if head.decimal == "," else []
    texts = [name for name in cells.columns if name not in numbers.columns]
    return _choose_roles(file, cells[texts], numbers, columns, result, first_line=head.above + 2)


def _is_text(head: Head, i: int, columns: Columns) -> bool:
    """Return whether a column is kept as text: it has a role, by its name or as it is asked, or no number."""
    name = head.names[i]
    asked = {getattr(columns, kind) for kind in NAMES} | {*columns.subgroups, *columns.class_columns}
    words = set(read_words(name))
    case = bool(words & CASE_WORDS) and words <= CASE_WORDS | BESIDE_CASE
    if name in asked or case or plain_name(name) in (*COMMON, *BAG_NAMES):
        return True
    cells = [row[i] for row in head.rows if i < len(row) and not is_missing(row[i])]
    return bool(cells) and sum(_is_number(cell) for cell in cells) < NUMBER_FRAC * len(cells)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _take_numbers(cells: pd.DataFrame, text: Sequence[str]) -> pd.DataFrame:
    """Return the columns of numbers; what is none in one of them is NaN, and told later."""
    texts, wrong = set(text), dict[str, pd.Series]()
    kept = []
    for name, dtype in cells.dtypes.items():
        if name in texts or pd.api.types.is_bool_dtype(dtype) or not name:
            continue
        if not pd.api.types.is_numeric_dtype(dtype):
            read = pd.to_numeric(cells[name], errors="coerce")
            if read.notna().sum() < NUMBER_FRAC * max(1, cells[name].notna().sum()):
                continue
            wrong[str(name)] = read
        kept.append(str(name))
    numbers = cells[kept].assign(**wrong)
    return numbers.loc[:, numbers.notna().any().to_numpy()]


def _choose_roles(
    file: str, texts: pd.DataFrame, numbers: pd.DataFrame, columns: Columns, result: LayoutResult, *, first_line: int
) -> _Read | None:
    """Return the table with the roles of its columns; None where a named one is not there."""
    part = part_of_table(file)
    header = tuple(map(str, texts.columns))
    listed = zip(*(texts[name].fillna("").astype(str) for name in header), strict=True) if header else ()
    rows = tuple(Row(f"{file} line {i + first_line}", dict(zip(header, row, strict=True)))
                 for i, row in enumerate(listed))  # fmt: skip
    if not rows:
        return None
    bag = next((name for name in header if plain_name(name) in BAG_NAMES), None)
    wanted = replace(columns, image=columns.image or bag, features=None)
    if part == TEST and columns.table != file:  # it has no labels, and perhaps no cases
        kept: dict[str, Any] = {
            kind: name if (name := getattr(columns, kind)) in header else None for kind in NAMES if kind != "image"
        }
        here = tuple(name for name in columns.subgroups if name in header)
        wanted = replace(wanted, **kept, class_columns=(), subgroups=here)
    table = Table(file, header, rows)
    chosen = choose_columns(table, wanted, result=result)
    if chosen is None:
        return None
    taken = list_taken(chosen) | set(chosen.subgroups)
    return _Read(table, chosen, numbers[[name for name in numbers.columns if name not in taken]], part)


# --- which columns are features ---------------------------------------------------------------------------------------


def _choose_features(one: _Read, columns: Columns, result: LayoutResult) -> list[str]:
    """Return the columns of features, named or guessed; what is left out is said."""
    file, names = one.table.file, list(one.numbers.columns)
    asked = [columns.features] if isinstance(columns.features, str) else list(columns.features or ())
    without = [pattern.removeprefix("!") for pattern in asked if pattern.startswith("!")]
    within = [pattern for pattern in asked if not pattern.startswith("!")]
    sure = bool(within)
    if within:
        kept = [name for name in names if _fits(name, within)]
        if not kept:
            result.report("features-missing", file, message=f"has no columns of numbers called {list_names(within)}.",
                          fix=f"name them: {format_setting('features', names[:SHOWN])}")  # fmt: skip
    else:
        label = one.chosen.label
        open_ = one.numbers[[name for name in names if not _fits(name, without)]]
        measured = choose_measured(open_, [row.read(label) for row in one.table.rows] if label is not None else [])
        kept, sure = measured.names, measured.sure or bool(asked)
        result.notes += measured.notes
    kept = [name for name in kept if not _fits(name, without)]
    left = sorted(set(names) - set(kept), key=names.index)
    beside = f"; not {list_names(left)}, {format_setting('features', ['COLUMN', '...'])} chooses" if left else ""
    if kept:
        result.notes.append(f"features: {len(kept)} columns of {file}, {kept[0]} to {kept[-1]}{beside}")
    if sure or len(kept) < LEAST_FEATURES:
        return kept
    pictures = [row.read(one.chosen.image) for row in one.table.rows[:50]] if one.chosen.image is not None else []
    named = [text for text in pictures if is_image_name(text)]
    if len(kept) < FEW or len(named) > len(pictures) / 2:
        why = f"has {len(kept)} columns of numbers"
        why = f"names pictures that are not here, such as '{named[0]}'" if named else why
        message = f"{why}; numbers such as {list_names(kept[:SHOWN])} may be features, or only describe the images."
        listed = kept if len(kept) <= SHOWN else ["*"]
        fix = f"for features: {format_setting('features', listed)}; for pictures: copy them into the folder"
        result.report("features-unsure", file, message=message, fix=fix)
    return kept


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) for pattern in patterns)


# --- bags -------------------------------------------------------------------------------------------------------------


def _add_bags(
    folder: Folder, one: _Read, values: NDArray[np.float64], names: Sequence[str], result: LayoutResult
) -> None:
    """Group rows to bags and check what they say of each."""
    table, chosen, file = one.table, one.chosen, one.table.file
    bags: dict[str, list[int]] = defaultdict(list)
    width = len(str(len(table.rows)))
    for i, row in enumerate(table.rows):
        name = row.read(chosen.image) if chosen.image is not None else f"row{i + 1:0{width}d}"
        bags[name].append(i)
    repeated = [name for name, rows in bags.items() if len(rows) > 1]
    several = len(repeated) > BAGS_FRAC * len(bags)
    if chosen.image is None:
        result.notes.append(f"{file}: each row is one image (no column names a slide, an image or a bag)")
    elif several:
        result.notes.append(f"{file}: rows are tiles, and '{chosen.image}' names their bag")
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite where it is learned from
        lost = np.asarray(~np.isfinite(values.astype(np.float32)), dtype=np.bool_)
    _note_lost(file, lost, names, result)
    bad = {int(i) for i in np.flatnonzero(lost.any(axis=1))}
    for name, rows in bags.items():
        first = table.rows[rows[0]]
        if not name:
            result.report("row-without-name", first.where, message=f"names no '{chosen.image}'.",
                          fix="write its name, or delete the row", images=(first.where,))  # fmt: skip
            continue
        if len(rows) > 1 and not several:
            message = f"'{name}' is listed {len(rows)} times, and most others once."
            result.report("repeated-row", table.rows[rows[1]].where, message=message,
                          fix="delete all rows of this image but the right one", images=(name,))  # fmt: skip
        _check_contradiction(table, chosen, name, rows, result)
        if wrong := [i for i in rows if i in bad]:
            lacking = [name for name, column in zip(names, lost[wrong].T, strict=True) if column.any()]
            message = f"'{name}' lacks {int(lost[wrong].sum())} number(s) of its features, of {list_names(lacking)}."
            out = f"leave the columns out ({format_setting('features', [f'!{c}' for c in lacking[:SHOWN]])})"
            result.report("features-nan", table.rows[wrong[0]].where, message=message,
                          fix=f"fill them, {out}, or leave the row out", images=(name,))  # fmt: skip
        result.add(_make_candidate(folder, one, name, rows))
    if chosen.site is not None:
        result.site_source = describe_column(table, chosen)
    if result.features is not None:
        most = max(result.features.most_tiles, *map(len, bags.values()))
        tiles = several or result.features.several_tiles
        result.features = replace(result.features, several_tiles=tiles, most_tiles=most)


def _note_lost(file: str, lost: NDArray[np.bool_], names: Sequence[str], result: LayoutResult) -> None:
    """Say which columns lack numbers in many rows: leaving those out is the way to keep the rows."""
    frac = [float(column.mean()) for column in lost.T]
    worst = sorted((j for j, share in enumerate(frac) if share > 0), key=lambda j: -frac[j])
    if worst:
        listed = ", ".join(f"'{names[j]}' ({frac[j]:.0%})" for j in worst[:SHOWN])
        more = f" and {len(worst) - SHOWN} more" if len(worst) > SHOWN else ""
        out = format_setting("features", [f"!{names[j]}" for j in worst[:SHOWN]])
        result.notes.append(f"{file}: {len(worst)} column(s) lack numbers: {listed}{more}; {out} leaves columns out")


def _check_contradiction(table: Table, chosen: Columns, name: str, rows: list[int], result: LayoutResult) -> None:
    for kind in ("label", "case", "part", "site") if len(rows) > 1 else ():
        if (column := getattr(chosen, kind)) is None:
            continue
        said = {table.rows[i].read(column): i for i in reversed(rows)}
        if len(said) > 1:
            listed = " and ".join(f"'{text}' ({table.rows[i].where})" for text, i in list(said.items())[:2])
            result.report("bag-contradicts", table.rows[rows[0]].where, message=f"'{name}' has {kind} {listed}.",
                          fix="give all rows of a bag the same, or name the column of bags: "
                          f"{format_setting('image', 'COLUMN')}", images=(name,))  # fmt: skip


def _make_candidate(folder: Folder, one: _Read, name: str, rows: list[int]) -> Candidate:
    chosen, first = one.chosen, one.table.rows[rows[0]]
    part = TEST if one.part == TEST else read_part(first.read(chosen.part)) or one.part
    label = None if part == TEST else read_label(first.read(chosen.label), chosen.real_labels)
    case = first.read(chosen.case)
    sample = Sample(
        name, folder.files[one.table.file], None, label, name if is_missing(case) else case, name,
        site=read_site(first, chosen), subgroups=read_subgroups(first, chosen), bag=tuple(rows),
    )  # fmt: skip
    text = first.read(chosen.label)
    return Candidate(sample, first.where, test=part == TEST, part=first.read(chosen.part), label_text=text)
