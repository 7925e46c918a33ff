"""A table of features that a model is to answer for: the columns that it learned from, labels or none."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd

from ...errors import DataError
from ...features import read_cells, read_head
from ...types import FeatureSpec, Sample
from ..folder import TABLE_SUFFIXES, Folder
from ..result import Candidate, Columns, LayoutResult, list_names
from ..tables.columns import choose_columns
from ..tables.labels import read_label
from ..tables.site_names import read_site, read_subgroups
from ..tables.spelling import is_missing
from ..tables.table import Row, Table, plain_name
from ..tables.workbooks import WORKBOOK_SUFFIXES
from .feature_table import BAG_NAMES, sniff_table


def read_fresh_table(folder: Folder, features: FeatureSpec, columns: Columns) -> LayoutResult:
    """Read the table that has all columns of the features; a row that lacks a number is a problem of its bag.

    Raises:
        DataError: no table has them, or several do and none is named.
    """
    result = LayoutResult("features")
    names = (
        [columns.table]
        if columns.table
        else [
            n
            for n in folder.files
            if n.lower().endswith((*TABLE_SUFFIXES, *WORKBOOK_SUFFIXES)) and not n.startswith("~$")
        ]
    )
    heads = {name: _read_header(folder, name) for name in names if name in folder.files}
    lacking = {name: [c for c in features.columns if c not in head] for name, head in heads.items()}
    whole = [name for name, missing in lacking.items() if not missing]
    if not whole:
        near = min(lacking, key=lambda name: len(lacking[name]), default=None)
        what = "there is no table" if near is None else f"{near} lacks {list_names(lacking[near])}"
        wanted = f"the model learned from {len(features.columns)} columns, {features.columns[0]} and others"
        raise DataError(f"{what}; {wanted}", fix="export the same features for the new slides")
    if len(whole) > 1:
        raise DataError(f"{list_names(whole)} all have the features", fix=f"--set data.table={whole[0]}")
    _add_rows(folder, whole[0], features, columns, result)
    return result


def _read_header(folder: Folder, name: str) -> tuple[str, ...]:
    """Return the columns of a table; none where it cannot be read."""
    try:
        return read_head(folder.files[name], delimiter=sniff_table(folder.files[name])).names
    except (ValueError, OSError, ImportError):
        return ()


def _add_rows(folder: Folder, file: str, features: FeatureSpec, columns: Columns, result: LayoutResult) -> None:
    path, wanted, delimiter = folder.files[file], set(features.columns), sniff_table(folder.files[file])
    head = read_head(path, delimiter=delimiter, columns=features.columns)
    others = [name for name in head.names if name not in wanted]
    cells = read_cells(path, delimiter=delimiter, text=others)
    header = [str(name) for name in cells.columns]
    common = tuple(name for name in header if name not in wanted)
    rows = tuple(
        Row(f"{file} line {i + head.above + 2}", dict(zip(common, row, strict=True)))
        for i, row in enumerate(cells[list(common)].itertuples(index=False, name=None))
    )
    bag = next((name for name in common if plain_name(name) in BAG_NAMES), None)
    table = Table(file, common, rows)
    asked = replace(columns, image=columns.image or bag, features=None)
    chosen = choose_columns(table, asked, result=result) if common else replace(asked, table=file)
    if chosen is None:
        return
    result.tables.add(file)
    numbers = cells[list(features.columns)].apply(pd.to_numeric, errors="coerce")
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite where it is scored
        lost = (~np.isfinite(numbers.to_numpy(np.float32))).any(axis=1)
    bags: dict[str, list[int]] = defaultdict(list)
    width = len(str(len(rows)))
    for i, row in enumerate(rows):
        bags[row.read(chosen.image) if chosen.image is not None else f"row{i + 1:0{width}d}"].append(i)
    for name, places in bags.items():
        first = rows[places[0]]
        if wrong := [rows[i].where for i in places if lost[i]]:
            result.report("features-nan", wrong[0], message="lacks numbers of its features.",
                          fix="fill them, or leave the row out", images=(name,))  # fmt: skip
        case = first.read(chosen.case)
        sample = Sample(
            name, path, None, read_label(first.read(chosen.label), chosen.real_labels),
            name if is_missing(case) else case, name, site=read_site(first, chosen),
            subgroups=read_subgroups(first, chosen), bag=tuple(places),
        )  # fmt: skip
        result.add(Candidate(sample, first.where, label_text=first.read(chosen.label)))
