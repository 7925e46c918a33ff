"""The label of a row: a cell, or which of several columns holds the 1."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..layouts.parts import read_part
from ..reading import Columns, Reading
from .table import Row, Table

EMPTY_TEXTS = frozenset(
    {"", "nan", "na", "n/a", "n.a.", "#n/a", "<na>", "null", "?", "unknown", "missing", "not available", "not known"}
)
MOST_CLASSES = 200  # columns among which those of the classes are looked for
ONE_FRAC = 0.9  # of the rows have exactly one 1 where columns are classes; the others are problems
NO_CLASSES = frozenset({"female", "male", "sex", "gender", "woman", "man", "women", "men", "left", "right"})
SUM_TOLERANCE = 0.02  # of shares that people rounded


def read_label(text: str, real: Collection[str] = ()) -> str | None:
    """A label cell; None when it is empty or says that there is none, but for texts that are classes all the same."""
    text = text.strip()
    return None if text.lower() in EMPTY_TEXTS and text not in real else text


def note_spaces(table: Table, column: str | None, *, reading: Reading) -> None:
    """Note how many labels have spaces around them, which are not read."""
    count = 0 if column is None else sum(row.cells[column] != row.read(column) for row in table.rows)
    if count:
        reading.notes.append(f"{table.file}: spaces around {count} label(s) are not read")


def read_row_label(row: Row, chosen: Columns, *, image: str, reading: Reading) -> str | None:
    """The label of a row, or None; it is a problem already where several columns of classes hold a 1, or none does."""
    if chosen.label is not None or not chosen.class_columns:
        return read_label(row.read(chosen.label), chosen.real_labels)
    cells = {column: row.read(column) for column in chosen.class_columns}
    if all(read_label(text) is None for text in cells.values()):
        return None
    numbers = {column: read_number(text) for column, text in cells.items()}
    ones = [column for column, number in numbers.items() if number == 1]
    if len(ones) == 1 and all(number in {0, 1} for number in numbers.values()):
        return ones[0]
    said = ", ".join(f"{column} {text or 'empty'}" for column, text in list(cells.items())[:6])
    reading.report(
        "label-columns",
        row.where,
        message=f"has no single 1 in the columns of the classes ({said}).",
        fix="write 1 in the column of its class and 0 in the others, or delete the row",
        images=(image,),
    )
    return None


def read_number(text: str) -> float | None:
    """A number, with a point or a comma; None for anything else."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())


def find_class_columns(table: Table, *, taken: Collection[str]) -> tuple[str, ...]:
    """Neighbouring columns of 0 and 1 of which nearly each row has exactly one 1; empty where none, or several, do."""
    columns, values = _read_numbers(table, taken=taken)
    binary = [i for i in range(len(columns)) if np.isin(values[:, i], (0, 1)).all()]
    sums = np.cumsum(np.hstack([np.zeros((len(values), 1)), values]), axis=1)
    windows: list[tuple[float, int, int]] = []  # share of rows with one 1, first and last column
    for run in _split_runs(binary, columns, table.header):
        for i, first in enumerate(run):
            for last in run[i + 1 :]:
                share = float(np.mean(sums[:, last + 1] - sums[:, first] == 1))
                if share >= ONE_FRAC:
                    windows.append((share, first, last))
    best = max((share for share, _, _ in windows), default=0.0)
    likely = [(first, last) for share, first, last in windows if share == best]
    widest = max(likely, key=lambda window: window[1] - window[0], default=None)
    if widest is None or any(first < widest[0] or last > widest[1] for first, last in likely):
        return ()
    return tuple(columns[widest[0] : widest[1] + 1])


def _read_numbers(table: Table, *, taken: Collection[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Columns that hold nothing but numbers, and these: (rows, columns)."""
    names = [
        name
        for name in table.header
        if name and name not in taken and name in table.rows[0].cells and not _is_aside(name)
    ]
    kept: list[str] = []
    found: list[list[float]] = []
    for name in names[:MOST_CLASSES]:
        numbers = [read_number(row.cells[name]) for row in table.rows]
        if None not in numbers:
            kept.append(name)
            found.append([number for number in numbers if number is not None])
    return kept, np.array(found, float).reshape(len(kept), len(table.rows)).T


def _is_aside(column: str) -> bool:
    """Whether a column of 0 and 1 says whose an image is, or its part, and not its class."""
    return not NO_CLASSES.isdisjoint(re.findall("[a-z]+", column.lower())) or bool(read_part(column))


def _split_runs(binary: list[int], columns: list[str], header: tuple[str, ...]) -> list[list[int]]:
    """Indices of binary columns that stand beside each other in the table."""
    places = {name: i for i, name in enumerate(header)}
    runs: list[list[int]] = [binary[:1]]
    for one, two in pairwise(binary):
        if two == one + 1 and places[columns[two]] == places[columns[one]] + 1:
            runs[-1].append(two)
        else:
            runs.append([two])
    return runs


def describe_numbers(table: Table, *, taken: Collection[str]) -> str:
    """What columns of numbers hold that may be shares or votes per class, or several classes; "" for nothing such."""
    columns, values = _read_numbers(table, taken=taken)
    if len(columns) < 2 or (values < 0).any():
        return ""
    sums = values.sum(axis=1)
    listed = ", ".join(f"'{column}'" for column in columns[:6])
    if np.isin(values, (0, 1)).all():
        return f"{listed} hold 0 and 1, but {int((sums != 1).sum())} row(s) have none or several 1"
    if np.mean(np.abs(sums - np.median(sums)) <= SUM_TOLERANCE) >= ONE_FRAC:
        return f"{listed} hold shares or votes per class (each row sums to {np.median(sums):g}), not one class"
    return ""
