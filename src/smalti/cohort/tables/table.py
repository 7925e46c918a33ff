"""Tables of a data folder, CSV or spreadsheet: delimiter, header, rows; and the names that columns commonly have."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from ...errors import DataError
from ...images import open_file
from ..folder import Folder
from ..result import Columns, LayoutResult
from .encoding import LARGEST_BYTES, decode_table
from .workbooks import MOST_ABOVE, WORKBOOK_SUFFIXES, read_sheet

DELIMITERS = ",;\t|"
# Common names, the likeliest first; compared in lower case with anything but letters and digits as one "_".
IMAGE_NAMES = (
    "image", "image_path", "image_file", "image_name", "image_filename", "img", "img_path", "img_name", "path",
    "file", "filename", "file_name", "filepath", "file_path", "sample_index", "image_id", "img_id",
    "slide", "slide_path", "slide_id", "wsi", "sample", "sample_id", "id", "name",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "class_name", "class_label", "target", "diagnosis", "subtype", "molecular_subtype",
    "category", "y", "type", "grade", "dx",
)  # fmt: skip
MASK_NAMES = (
    "mask", "mask_path", "mask_file", "mask_name", "mask_filename", "masks", "segmentation", "segmentation_path",
    "annotation", "annotation_path",
)  # fmt: skip
CASE_NAMES = (
    "case", "case_id", "patient", "patient_id", "patientid", "subject", "subject_id", "donor", "donor_id",
    "individual", "participant", "participant_id", "lesion", "lesion_id", "specimen", "specimen_id", "slide",
    "slide_id", "wsi",
)  # fmt: skip
PART_NAMES = ("part", "split", "set", "subset", "partition", "data_split", "dataset")
SITE_NAMES = (
    "site", "site_id", "tissue_source_site", "source_site", "tss", "tss_code", "centre", "center", "centre_id",
    "center_id", "medical_centre", "medical_center", "hospital", "hospital_id", "institution", "institution_id",
    "institute", "clinic", "laboratory", "laboratory_id", "lab", "lab_id", "scanner", "scanner_id", "scanner_name",
    "slide_scanner", "scanner_type", "batch", "batch_id",
)  # fmt: skip
NAMES = {
    "image": IMAGE_NAMES, "label": LABEL_NAMES, "mask": MASK_NAMES, "case": CASE_NAMES, "part": PART_NAMES,
    "site": SITE_NAMES,
}  # fmt: skip
COMMON = frozenset(name for names in NAMES.values() for name in names)
ANY = Columns()
MOST_COLUMNS = 200_000
MOST_KEPT = 200  # columns of a table that are all kept


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: ``where`` for messages, cells by column as they are, of the columns that may matter."""

    where: str
    cells: dict[str, str]

    def read(self, column: str | None) -> str:
        """Return the text of a cell without spaces around it; empty where there is no such column."""
        return self.cells[column].strip() if column is not None else ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that was read: name, columns, rows."""

    file: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(folder: Folder, file: str, *, result: LayoutResult, columns: Columns = ANY) -> Table | None:
    """Read a CSV or a spreadsheet of the data folder; None when it cannot be read, with the reason in ``result``."""
    if not file.lower().endswith(WORKBOOK_SUFFIXES):
        return read_csv(folder, file, result=result, columns=columns)

    def is_header(cells: list[str]) -> bool:
        named, plain = {cell.strip() for cell in cells}, set(map(plain_name, cells))
        images = columns.image in named or not plain.isdisjoint(IMAGE_NAMES)
        return images and (columns.label in named or not plain.isdisjoint(LABEL_NAMES))

    try:
        lines = read_sheet(folder.files[file], file, sheet=columns.sheet, is_header=is_header, notes=result.notes)
    except DataError as error:
        result.problems += error.problems
        return None
    return _build_table(iter(lines), file, columns=columns, result=result)


def read_csv(folder: Folder, file: str, *, result: LayoutResult, columns: Columns = ANY) -> Table | None:
    """Read a CSV of the data folder; None when it cannot be read, with the reason in ``result``.

    A table may have thousands of columns of something else. Of those are kept the ones in ``columns``, those with a
    common name, and the first two and the last, which count where none has.
    """
    text = read_text(folder, file, result=result)
    if text is None:
        return None
    told = re.match(r"\s*\"?sep=(.)\"?[\r\n]+", text)  # how a spreadsheet is told the delimiter
    text = text[told.end() :] if told else text
    delimiter = told[1] if told else sniff_delimiter(text)
    if delimiter != ",":
        result.notes.append(f"{file}: columns are separated by {delimiter!r}")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    above = bool(told)
    try:
        numbered = ((f"{file} line {lines.line_num + above}", cells) for cells in lines)
        return _build_table(numbered, file, columns=columns, result=result)
    except csv.Error as error:
        result.report(
            "table-damaged",
            f"{file} line {lines.line_num + above}",
            message=f"is no well-formed CSV: {error}.",
            fix="look for a stray quotation mark in this line or above and save the table again as CSV",
        )
        return None


def _build_table(
    lines: Iterator[tuple[str, list[str]]], file: str, *, columns: Columns, result: LayoutResult
) -> Table | None:
    """Return the table of the filled lines of a file; None with a problem recorded."""
    filled = ((where, cells) for where, cells in lines if any(cell.strip() for cell in cells))
    start = list(islice(filled, MOST_ABOVE))
    named = {getattr(columns, kind) for kind in NAMES} | set(columns.class_columns) | set(columns.subgroups)
    # The header is the first line, but for comments (#) and titles of one cell above a line of known names.
    comments, position = 0, -1
    for i, (_, cells) in enumerate(start):
        alone = sum(bool(cell.strip()) for cell in cells) < 2
        known = any(plain_name(cell) in COMMON or cell.strip("# ") in named for cell in cells)
        if cells[0].startswith("#") and cells[0] != "#" and (alone or not known):
            comments += comments == i
        elif not alone:
            position = i if known or comments == i else comments
            break
    if position < 0:
        position = comments if comments < len(start) else 0
    header = [cell.strip() for cell in start[position][1]] if start else []
    if len(header) > MOST_COLUMNS:
        message, fix = f"has {len(header)} columns.", "save those of image, label, mask, case and part alone"
        result.report("table-columns", file, message=message, fix=fix)
        return None
    if header and header[0].startswith("#") and len(header) > 1:  # a header that is written as a comment
        header[0] = header[0].lstrip("# ")
    while header and not header[-1]:  # spreadsheets leave empty columns
        header.pop()
    if position:
        result.notes.append(f"{file}: {position} line(s) above the header are not read")
    few, ends = len(header) <= MOST_KEPT, {0, 1, len(header) - 1}
    kept = [i for i, name in enumerate(header) if few or i in ends or name in named or plain_name(name) in COMMON]
    rows = tuple(_read_rows(chain(start[position + 1 :], filled), header=header, kept=kept, result=result))
    twice = sorted(name for name, count in Counter(header).items() if count > 1 and name)
    if twice:
        message, fix = (
            f"has more than one column called {', '.join(twice[:12])}.",
            "rename or delete all of them but one",
        )
        result.report("column-repeated", file, message=message, fix=fix)
        return None
    if not rows:
        result.report("table-empty", file, message="has no rows.", fix="add a header line and one row per image")
        return None
    return Table(file, tuple(header), rows)


def _read_rows(
    lines: Iterable[tuple[str, list[str]]], *, header: list[str], kept: list[int], result: LayoutResult
) -> list[Row]:
    rows = []
    for where, cells in lines:
        while len(cells) > len(header) and not cells[-1].strip():  # spreadsheets leave empty columns
            cells.pop()
        if len(cells) != len(header):
            result.report(
                "row-cells",
                where,
                message=f"has {len(cells)} cells, the header has {len(header)}.",
                fix="put cells that contain the separator in quotes; fill the missing ones",
            )
            continue
        rows.append(Row(where, {header[i]: cells[i] for i in kept}))
    return rows


def read_text(folder: Folder, file: str, *, result: LayoutResult) -> str | None:
    """Return the text of a table; None with a problem recorded where it is no text, or far too long."""
    try:
        with open_file(folder.files[file]) as opened:
            return decode_table(opened.read(LARGEST_BYTES + 1), file)
    except DataError as error:
        code = error.problems[0].code
        code = code if code.startswith("table-") else "table-damaged"
        result.problems.append(replace(error.problems[0], code=code, file=file))
    except OSError as error:
        result.report("table-damaged", file, message=f"cannot be read: {error.strerror}.", fix="check its permissions")
    return None


def sniff_delimiter(text: str) -> str:
    """Return the delimiter of the first line that is no comment and has any."""
    lines = (re.sub(r'"[^"]*"', "", found[0]) for found in islice(re.finditer(r"[^\r\n]+", text), MOST_ABOVE))
    bare = next((line for line in lines if not line.startswith("#") and any(d in line for d in DELIMITERS)), "")
    return max(DELIMITERS, key=lambda d: (bare.count(d), d == ","))


def plain_name(column: str) -> str:
    """Return the name of a column as `IMAGE_NAMES` and its like are written."""
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")


def pick_column(
    header: tuple[str, ...],
    names: tuple[str, ...],
    *,
    taken: Iterable[str | None] = (),
    fits: Callable[[str], bool] | None = None,
) -> str | None:
    """Return the column with one of the common names, the likeliest first.

    Those that ``fits`` accepts go before others.
    """
    plain = {plain_name(column): column for column in reversed(header)}
    found = [plain[name] for name in names if name in plain and plain[name] not in set(taken)]
    if fits is not None:
        found = [column for column in found if fits(column)] or found
    return found[0] if found else None
