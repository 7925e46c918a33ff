"""CSV files of a data folder: encoding, delimiter, columns."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import DataError
from ..images import open_file
from .encoding import LARGEST_BYTES, decode_table
from .folder import Folder
from .reading import Columns, Reading

DELIMITERS = ",;\t|"
# Common names, the likeliest first; compared in lower case with anything but letters and digits as one "_".
IMAGE_NAMES = (
    "image", "image_path", "image_file", "image_name", "image_filename", "img", "img_path", "img_name", "path",
    "file", "filename", "file_name", "filepath", "file_path", "sample_index", "image_id", "img_id",
    "slide", "slide_path", "slide_id", "wsi", "sample", "sample_id", "id", "name",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "class_name", "class_label", "target", "diagnosis", "subtype", "molecular_subtype",
    "category", "y", "type", "grade",
)  # fmt: skip
MASK_NAMES = (
    "mask", "mask_path", "mask_file", "mask_name", "mask_filename", "masks", "segmentation", "segmentation_path",
    "annotation", "annotation_path",
)  # fmt: skip
CASE_NAMES = (
    "case", "case_id", "patient", "patient_id", "patientid", "subject", "subject_id", "donor", "donor_id",
    "individual", "slide", "slide_id", "wsi",
)  # fmt: skip
PART_NAMES = ("part", "split", "set", "subset", "partition", "data_split", "dataset")
ANY = Columns()
MOST_COLUMNS = 200_000
EMPTY_TEXTS = frozenset({"", "nan", "na", "n/a", "null", "?"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: ``where`` for messages, cells by column as they are, of the columns that may matter."""

    where: str
    cells: dict[str, str]

    def read(self, column: str | None) -> str:
        """The text of a cell without spaces around it; empty where there is no such column."""
        return self.cells[column].strip() if column is not None else ""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file that was read: name, columns, rows."""

    file: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]


def read_csv(folder: Folder, file: str, *, reading: Reading, columns: Columns = ANY) -> Table | None:
    """Read a CSV of the data folder; None when it cannot be read, with the reason in ``reading``.

    A table may have thousands of columns of something else. Kept are those in ``columns``, those with a common name,
    and the first two and the last, which count where none has.
    """
    text = read_text(folder, file, reading=reading)
    if text is None:
        return None
    delimiter = sniff_delimiter(text)
    if delimiter != ",":
        reading.notes.append(f"{file}: columns are separated by {delimiter!r}")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = tuple(cell.strip() for cell in next((line for line in lines if any(line)), []))
        if len(header) > MOST_COLUMNS:
            message, fix = f"has {len(header)} columns.", "save those of image, label, mask, case and part alone"
            reading.report("table-columns", file, message=message, fix=fix)
            return None
        rows = tuple(_read_rows(lines, file, header=header, kept=_choose_kept(header, columns), reading=reading))
    except csv.Error as error:
        reading.report(
            "table-damaged",
            f"{file} line {lines.line_num}",
            message=f"is no well-formed CSV: {error}.",
            fix="look for a stray quotation mark in this line or above and save the table again as CSV",
        )
        return None
    twice = sorted(name for name, count in Counter(header).items() if count > 1 and name)
    if twice:
        reading.report(
            "column-repeated",
            file,
            message=f"has more than one column called {', '.join(twice[:12])}.",
            fix="rename or delete all of them but one",
        )
        return None
    if not rows:
        reading.report("table-empty", file, message="has no rows.", fix="add a header line and one row per image")
        return None
    return Table(file, header, rows)


def _choose_kept(header: tuple[str, ...], columns: Columns) -> list[int]:
    common = {*IMAGE_NAMES, *LABEL_NAMES, *MASK_NAMES, *CASE_NAMES, *PART_NAMES}
    named = {getattr(columns, kind) for kind in ("image", "label", "mask", "case", "part")}
    ends = {0, 1, len(header) - 1}
    return [i for i, name in enumerate(header) if i in ends or name in named or plain_name(name) in common]


def _read_rows(
    lines: Iterable[list[str]], file: str, *, header: tuple[str, ...], kept: list[int], reading: Reading
) -> list[Row]:
    rows = []
    for cells in lines:
        where = f"{file} line {lines.line_num}"  # type: ignore[attr-defined]  # csv.reader has it
        if not any(cell.strip() for cell in cells):
            continue
        while len(cells) > len(header) and not cells[-1].strip():  # spreadsheets leave empty columns
            cells.pop()
        if len(cells) != len(header):
            reading.report(
                "row-cells",
                where,
                message=f"has {len(cells)} cells, the header has {len(header)}.",
                fix="put cells that contain the separator in quotes; fill the missing ones",
            )
            continue
        rows.append(Row(where, {header[i]: cells[i] for i in kept}))
    return rows


def read_text(folder: Folder, file: str, *, reading: Reading) -> str | None:
    """The text of a table; None with a problem recorded where it is no text, or far too long."""
    try:
        with open_file(folder.files[file]) as opened:
            return decode_table(opened.read(LARGEST_BYTES + 1), file)
    except DataError as error:
        code = error.problems[0].code
        code = code if code.startswith("table-") else "table-damaged"
        reading.problems.append(replace(error.problems[0], code=code, file=file))
    except OSError as error:
        reading.report("table-damaged", file, message=f"cannot be read: {error.strerror}.", fix="check its permissions")
    return None


def sniff_delimiter(text: str) -> str:
    header = re.search(r"[^\r\n]*", text.lstrip("\r\n"))[0]  # type: ignore[index]  # it finds something in any text
    bare = re.sub(r'"[^"]*"', "", header)
    return max(DELIMITERS, key=lambda d: (bare.count(d), d == ","))


def plain_name(column: str) -> str:
    """The name of a column as `IMAGE_NAMES` and its like are written."""
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")


def pick_column(
    header: tuple[str, ...],
    names: tuple[str, ...],
    *,
    taken: Iterable[str | None] = (),
    fits: Callable[[str], bool] | None = None,
) -> str | None:
    """The column with one of the common names, the likeliest first; those that ``fits`` accepts go before others."""
    plain = {plain_name(column): column for column in reversed(header)}
    found = [plain[name] for name in names if name in plain and plain[name] not in set(taken)]
    if fits is not None:
        found = [column for column in found if fits(column)] or found
    return found[0] if found else None


def choose_columns(
    table: Table, wanted: Columns, *, reading: Reading, fits: Callable[[str], bool] | None = None
) -> Columns | None:
    """The columns to read: those named, the others guessed and noted; None when a named one is not there."""
    chosen: dict[str, Any] = {"table": table.file}
    kinds = {"image": IMAGE_NAMES, "label": LABEL_NAMES, "mask": MASK_NAMES, "case": CASE_NAMES, "part": PART_NAMES}
    for kind in kinds:
        named = getattr(wanted, kind)
        if named is not None and named not in table.header:
            reading.report(
                "column-missing",
                table.file,
                message=f"has no column '{named}' ({kind}), but {_list(table.header)}.",
                fix=f"name the right one: --set data.{kind}=COLUMN",
            )
            return None
        chosen[kind] = named
    for kind, names in kinds.items():
        if chosen[kind] is None:
            chosen[kind] = pick_column(
                table.header, names, taken=chosen.values(), fits=fits if kind == "image" else None
            )
            if chosen[kind] is not None:
                reading.notes.append(f"{kind} column: {chosen[kind]}")
    return replace(wanted, **chosen)


def _list(header: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in header[:12]) + (", ..." if len(header) > 12 else "")


def note_spaces(table: Table, column: str | None, *, reading: Reading) -> None:
    """Note how many labels have spaces around them, which are not read."""
    count = 0 if column is None else sum(row.cells[column] != row.read(column) for row in table.rows)
    if count:
        reading.notes.append(f"{table.file}: spaces around {count} label(s) are not read")


def read_label(text: str) -> str | None:
    """A label cell; None when it is empty or says that there is none."""
    return None if text.strip().lower() in EMPTY_TEXTS else text.strip()
