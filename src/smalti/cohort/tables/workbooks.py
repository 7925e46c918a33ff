"""Spreadsheets (.xlsx) as the text of their cells, as they are displayed."""

from __future__ import annotations

import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import DataError, Problem
from ...images import open_file
from ..reading import write_setting
from .encoding import LARGEST_BYTES

WORKBOOK_SUFFIXES = (".xlsx", ".xlsm")
# Tables in other forms, which are not read but named.
UNREAD_SUFFIXES = (
    ".xls",
    ".xlsb",
    ".ods",
    ".numbers",
    ".parquet",
    ".feather",
    ".json",
    ".jsonl",
    ".sav",
    ".rds",
    ".txt",
)
SAVE_AS_CSV = "save the sheet as 'CSV UTF-8' beside it"
MOST_ABOVE = 20  # lines among which the header is looked for
Lines = list[tuple[str, list[str]]]


def read_sheet(
    path: Path, file: str, *, sheet: str | None, is_header: Callable[[list[str]], bool], notes: list[str]
) -> Lines:
    """The lines of ``sheet``, or of the one with anything in it, or with a header: where each is, its cells as text.

    Raises:
        DataError: openpyxl is not installed, the file is no workbook, or it is not clear which sheet is meant.
    """
    with open_file(path) as opened:
        data = opened.read(LARGEST_BYTES + 1)
    sheets = {name: lines for name, lines in _read_workbook(data, file).items() if lines}
    if sheet is not None and sheet not in sheets:
        message = f"has no sheet '{sheet}' with anything in it, but {_list(sheets)}."
        raise _refuse("table-sheets", file, message, fix="name the right one: --set data.sheet=SHEET")
    likely = [name for name, lines in sheets.items() if any(is_header(cells) for _, cells in lines[:MOST_ABOVE])]
    likely = likely if len(likely) == 1 else list(sheets)
    if sheet is None and len(likely) > 1:
        message = f"has several sheets: {_list(sheets)}."
        choices = " or ".join(write_setting("sheet", name) for name in likely[:12])
        raise _refuse(
            "table-sheets", file, message, fix=f"say which one: {choices}, with {write_setting('table', file)}"
        )
    if not sheets:
        return []
    name = sheet or likely[0]
    others = f"; not {_list(other for other in sheets if other != name)}" if len(sheets) > 1 else ""
    notes.append(f"{file}: sheet '{name}' is read, each cell as it is displayed{others}")
    width = max(len(cells) for _, cells in sheets[name])
    return [(where, cells + [""] * (width - len(cells))) for where, cells in sheets[name]]


def _read_workbook(data: bytes, file: str) -> dict[str, Lines]:
    """The filled lines of each visible sheet."""
    try:
        import openpyxl
    except ImportError:
        message = "is a spreadsheet, and openpyxl, which reads it, is not installed."
        raise _refuse("table-extra", file, message, fix=f"pip install 'smalti[xlsx]', or {SAVE_AS_CSV}") from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > LARGEST_BYTES:
            raise _refuse("table-columns", file, f"unpacks to {size >> 20} MB.", fix=SAVE_AS_CSV)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says what it leaves out: styles, drawings
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            return {
                sheet.title: _read_lines(sheet, file) for sheet in book.worksheets if sheet.sheet_state == "visible"
            }
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  # named and raised again, whatever is raised on damaged parts
        reason = str(error).strip("'\"") or type(error).__name__
        message = f"is no spreadsheet that can be read: {reason.rstrip('.')}."
        fix = f"open it in the program that made it, and {SAVE_AS_CSV}"
        raise _refuse("table-damaged", file, message, fix=fix) from None


def _read_lines(sheet: Any, file: str) -> Lines:
    sheet.reset_dimensions()  # what the file says of its size may be wrong
    lines = []
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells = [_show_cell(cell.value, getattr(cell, "number_format", "General")) for cell in row]
        if any(cells):
            lines.append((f"{file} row {number}", cells))
    return lines


def _show_cell(value: object, form: str) -> str:
    """The text of a cell as it is displayed; a number with a fraction is not rounded."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and re.fullmatch("0+", form):  # displayed with leading zeros
        return str(value).zfill(len(form))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return str(value)


def is_unread(file: str) -> bool:
    """Whether a file may be a table in a form that is not read."""
    stem = PurePosixPath(file.lower()).stem
    return file.lower().endswith(UNREAD_SUFFIXES) and not stem.startswith(("readme", "license", "licence"))


def name_unread(files: Iterable[str]) -> str:
    """The end of a message that names the tables in the data folder that are not read; "" for none."""
    unread = [name for name in files if "/" not in name and is_unread(name)]
    return f"; not read as tables: {', '.join(unread[:6])} (save them as CSV)" if unread else ""


def _list(sheets: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in list(sheets)[:12]) or "none"


def _refuse(code: str, file: str, message: str, *, fix: str) -> DataError:
    return DataError("a table cannot be read", [Problem(code, file, message, fix)])
