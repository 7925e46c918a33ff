"""A table of features: one row a slide, or one row a tile; columns of numbers are the features."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError, Problem

WORKBOOKS = (".xlsx", ".xlsm")
# Cells of numbers that say that none is there.
MISSING = (
    "", "-", ".", "?", "NA", "na", "N/A", "n/a", "n.a.", "#N/A", "<NA>", "NaN", "nan", "NAN", "NULL", "null", "None",
    "none", "unknown", "missing", "not available", "not known",
)  # fmt: skip
HEAD_LINES = 40  # enough to see the header and how numbers are written
COMMA, POINT = re.compile(r"[+-]?[0-9]+,[0-9]+(e[+-]?[0-9]+)?", re.I), re.compile(r"[+-]?[0-9]*\.[0-9]+(e[+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """The numbers of a table.

    Attributes:
        columns: names of the features.
        values: (rows, D) float32.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """The first lines of a table.

    Attributes:
        above: lines above the header: comments, titles, and how a spreadsheet is told the delimiter.
        names: the header, without spaces around the names.
        rows: cells of the first rows.
        decimal: of numbers, a point or a comma.
        sheet: of a spreadsheet; empty otherwise.
    """

    above: int
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    decimal: str = "."
    sheet: str = ""


def read_head(path: Path, *, delimiter: str, columns: Sequence[str] = ()) -> Head:
    """Read the header of a table and some rows; of a spreadsheet the first sheet that has these columns.

    Raises:
        ValueError, OSError: it is no table.
    """
    if path.suffix.lower() in WORKBOOKS:
        for sheet, cells in pd.read_excel(path, sheet_name=None, header=None, dtype=str, nrows=HEAD_LINES).items():
            head = _find_header([[str(c) for c in row] for row in cells.fillna("").to_numpy().tolist()])
            if head is not None and set(columns) <= set(head.names):
                return Head(head.above, head.names, head.rows, sheet=str(sheet))
        raise ValueError("has no sheet with these columns")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = list(islice(file, HEAD_LINES))
    above = 0
    while above < len(lines) and (lines[above].startswith("#") or not lines[above].strip(f"{delimiter} \r\n")):
        above += 1
    above += above < len(lines) and lines[above].lower().lstrip('"').startswith("sep=")
    found = _find_header(list(csv.reader(io.StringIO("".join(lines[above:]), newline=""), delimiter=delimiter)))
    if found is None:
        raise ValueError("has no header")
    return Head(above + found.above, found.names, found.rows, found.decimal)


def _find_header(lines: list[list[str]]) -> Head | None:
    """Return the first line with two names or more, and the rows below it."""
    at = next((i for i, cells in enumerate(lines) if sum(bool(c.strip()) for c in cells) > 1), None)
    if at is None:
        return None
    rows = tuple(tuple(c.strip() for c in cells) for cells in lines[at + 1 :] if any(c.strip() for c in cells))
    cells = [c for row in rows for c in row]
    comma = any(COMMA.fullmatch(c) for c in cells) and not any(POINT.fullmatch(c) for c in cells)
    return Head(at, tuple(c.strip() for c in lines[at]), rows, "," if comma else ".")


def read_cells(path: Path, *, delimiter: str = ",", text: Sequence[str] = (), only: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table; rows that are empty are none, and names have no spaces around them.

    Args:
        path: of a CSV in UTF-8, or of a spreadsheet.
        delimiter: between cells.
        text: columns that are kept as their text; of the others, those of numbers become numbers.
        only: columns to read; empty for all.

    Raises:
        ValueError, OSError: it is no such table.
    """
    head = read_head(path, delimiter=delimiter, columns=only)
    wanted, kinds = set(only), set(text)
    keep = [i for i, name in enumerate(head.names) if not only or name in wanted]
    whole: dict[str, Any] = {"header": None, "names": list(range(len(head.names))), "skiprows": head.above + 1}
    as_text: dict[str, Any] = {"dtype": str, "na_filter": False}
    as_numbers: dict[str, Any] = {"na_values": list(MISSING), "keep_default_na": False}
    texts = [i for i in keep if head.names[i] in kinds]
    parts = []
    for some, options in ((sorted(set(keep) - set(texts)), as_numbers), (texts, as_text)):
        if not some:
            continue
        if head.sheet:
            parts.append(pd.read_excel(path, sheet_name=head.sheet, usecols=some, **whole, **options))
            continue
        form: dict[str, Any] = {"sep": delimiter, "decimal": head.decimal, "encoding": "utf-8-sig", "index_col": False}
        parts.append(pd.read_csv(path, usecols=some, low_memory=False, **form, **whole, **options))
    cells = pd.concat(parts, axis=1)[keep]
    if head.sheet:
        cells = cells[~cells.isin(["", np.nan]).all(axis=1)].reset_index(drop=True)
    cells.columns = [head.names[i] for i in keep]
    return cells


def read_feature_table(path: Path, columns: Sequence[str], *, delimiter: str = ",") -> FeatureTable:
    """Read the named columns of a table; read once for as long as the file stays as it is.

    Raises:
        DataError: it cannot be read, or a column is gone or holds no numbers.
    """
    state = path.stat()
    return _read(path, tuple(columns), delimiter, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, columns: tuple[str, ...], delimiter: str, *stamp: int) -> FeatureTable:
    try:
        cells = read_cells(path, delimiter=delimiter, only=columns)[list(columns)]
        values = cells.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    except (ValueError, KeyError, OSError, ImportError) as error:
        message = f"cannot be read as a table of numbers: {str(error).splitlines()[0]}."
        fix = "leave columns of text out of data.features, and write missing numbers as empty cells"
        raise DataError(
            f"{path} is no table of features", [Problem("features-table", str(path), message, fix)]
        ) from None
    return FeatureTable(columns, values)
