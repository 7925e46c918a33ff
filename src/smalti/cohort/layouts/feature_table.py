"""A table of features: one row a slide, or one row a tile with a column that names its bag."""

from __future__ import annotations

import csv
import fnmatch
import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ...types import FeatureSpec, Sample
from ..folder import Folder
from ..result import Candidate, Columns, LayoutResult, format_setting, list_names
from ..tables.columns import choose_columns, list_taken
from ..tables.labels import read_label
from ..tables.site_names import describe_column, read_site, read_subgroups
from ..tables.spelling import is_missing
from ..tables.table import COMMON, Row, Table, plain_name, read_text, sniff_delimiter
from .parts import TEST, part_of_table, read_part

BAG_NAMES = ("bag", "bag_id", "bag_name", "bagid")
LEAST_FEATURES = 2
FAMILY_FRAC = 0.8  # of the columns of numbers are called alike, such as f0, f1, ...: the others are no features


def read_feature_listing(folder: Folder, tables: Sequence[str], columns: Columns) -> LayoutResult | None:
    """Read the first table with a column of labels and columns of numbers; None where there is none."""
    for file in tables:
        result = LayoutResult("features")
        found = _read_cells(folder, file, result)
        if found is None:
            continue
        cells, delimiter = found
        if _add_rows(folder, file, cells, delimiter, columns, result):
            return result
    return None


def _read_cells(folder: Folder, file: str, result: LayoutResult) -> tuple[pd.DataFrame, str] | None:
    text = read_text(folder, file, result=result)
    if text is None:
        return None
    delimiter = sniff_delimiter(text)
    try:
        cells = pd.read_csv(
            io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False, quoting=csv.QUOTE_MINIMAL
        )
    except ValueError:
        return None
    cells.columns = [str(name).strip() for name in cells.columns]
    return cells, delimiter


def _add_rows(
    folder: Folder, file: str, cells: pd.DataFrame, delimiter: str, columns: Columns, result: LayoutResult
) -> bool:
    """Add a candidate for each bag; return whether the table is one of features."""
    header = tuple(cells.columns)
    numbers = cells.apply(lambda column: pd.to_numeric(column.where(column.str.strip() != "", None), errors="coerce"))
    numeric = [
        n for n in header if numbers[n].notna().any() and (numbers[n].notna() | (cells[n].str.strip() == "")).all()
    ]
    common = [n for n in header if n not in numeric or plain_name(n) in (*COMMON, *BAG_NAMES)]
    rows = tuple(Row(f"{file} line {i + 2}", dict(zip(common, row, strict=True)))
                 for i, row in enumerate(cells[common].itertuples(index=False, name=None)))  # fmt: skip
    if not rows or len(numeric) < LEAST_FEATURES:
        return False
    bag = next((n for n in header if plain_name(n) in BAG_NAMES), None)
    wanted = replace(columns, image=columns.image or bag, features=None)
    table = Table(file, tuple(common), rows)
    chosen = choose_columns(table, wanted, result=result)
    if chosen is None or chosen.label is None:
        return bool(result.problems) and columns.table == file
    taken = list_taken(chosen) | set(chosen.subgroups)
    names = _choose_features(
        [n for n in numeric if n not in taken and plain_name(n) not in COMMON], numbers, columns, result, file
    )
    if len(names) < LEAST_FEATURES:
        return False
    result.tables.add(file)
    result.features = FeatureSpec(len(names), columns=tuple(names), delimiter=delimiter)
    values = numbers[names].to_numpy(dtype=np.float64)
    _add_bags(folder, file, table, chosen, values, result)
    return True


def _choose_features(
    names: list[str], numbers: pd.DataFrame, columns: Columns, result: LayoutResult, file: str
) -> list[str]:
    """Return the columns of features, named or guessed; what is left out is said."""
    asked = columns.features
    if asked is not None:
        patterns = [asked] if isinstance(asked, str) else list(asked)
        return [n for n in numbers.columns if any(fnmatch.fnmatchcase(n, p) for p in patterns) and n in names]
    families = Counter(re.sub(r"[0-9]+$", "", n) for n in names if re.search(r"[0-9]+$", n))
    family, count = families.most_common(1)[0] if families else ("", 0)
    if count >= FAMILY_FRAC * len(names) and count >= LEAST_FEATURES:
        kept = [n for n in names if re.fullmatch(rf"{re.escape(family)}[0-9]+", n)]
    else:
        # Two values that are whole are a flag, such as another label; a feature measures something.
        kept = [n for n in names if numbers[n].nunique() > 2]
    left = [n for n in names if n not in set(kept)]
    beside = f"; not {list_names(left)}, {format_setting('features', ['COLUMN', '...'])} chooses" if left else ""
    result.notes.append(f"features: {len(kept)} columns of {file}, {kept[0]} to {kept[-1]}{beside}" if kept else "")
    return kept


def _add_bags(
    folder: Folder, file: str, table: Table, chosen: Columns, values: np.ndarray, result: LayoutResult
) -> None:
    """Group rows to bags and check what they say of each."""
    bags: dict[str, list[int]] = defaultdict(list)
    width = len(str(len(table.rows)))
    for i, row in enumerate(table.rows):
        name = row.read(chosen.image) if chosen.image is not None else f"row{i + 1:0{width}d}"
        bags[name].append(i)
    several = any(len(rows) > 1 for rows in bags.values())
    if chosen.image is None:
        result.notes.append(f"{file}: each row is one image (no column names a slide, an image or a bag)")
    elif several:
        result.notes.append(f"{file}: rows are tiles, and '{chosen.image}' names their bag")
    whole = part_of_table(file)
    for name, rows in bags.items():
        first = table.rows[rows[0]]
        if not name:
            result.report("row-without-name", first.where, message=f"names no '{chosen.image}'.",
                          fix="write its name, or delete the row", images=(first.where,))  # fmt: skip
            continue
        for kind in ("label", "case", "part", "site"):
            if (column := getattr(chosen, kind)) is None:
                continue
            said = {table.rows[i].read(column): i for i in reversed(rows)}
            if len(said) > 1:
                listed = " and ".join(f"'{text}' ({table.rows[i].where})" for text, i in list(said.items())[:2])
                result.report("bag-contradicts", first.where, message=f"'{name}' has {kind} {listed}.",
                              fix="give all rows of a bag the same, or name the column of bags: "
                              f"{format_setting('image', 'COLUMN')}", images=(name,))  # fmt: skip
        wrong = [i for i in rows if not np.isfinite(values[i]).all()]
        if wrong:
            message = f"'{name}' lacks {int((~np.isfinite(values[wrong])).sum())} number(s) of its features."
            fix = "fill them, leave the column out (data.features), or leave the row out"
            result.report("features-nan", table.rows[wrong[0]].where, message=message, fix=fix, images=(name,))
        part = read_part(first.read(chosen.part)) or whole
        label = None if part == TEST else read_label(first.read(chosen.label), chosen.real_labels)
        case = first.read(chosen.case)
        sample = Sample(name, folder.files[file], None, label, name if is_missing(case) else case, name,
                        site=read_site(first, chosen), subgroups=read_subgroups(first, chosen),
                        bag=tuple(rows))  # fmt: skip
        text = first.read(chosen.label)
        result.add(Candidate(sample, first.where, test=part == TEST, part=first.read(chosen.part), label_text=text))
    if chosen.site is not None:
        result.site_source = describe_column(table, chosen)
    if result.features is not None:
        most = max(map(len, bags.values()))
        result.features = replace(result.features, several_tiles=several, most_tiles=most)
    result.submission_columns = (str(chosen.image or "image"), chosen.label or "label")
