"""The sample submission: which file it is, its text to the letter, and the images that each of its rows means."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from ...errors import show_text
from ...images import open_file
from ...types import Form, FormRow, Sample
from ..folder import Folder, clean_path
from ..result import Candidate, Columns, LayoutResult, format_setting
from ..tables.names import NUMBER, Matcher, is_image_name
from ..tables.table import CASE_NAMES, IMAGE_NAMES, plain_name, read_text, sniff_delimiter

NOT_WANTED = "none"  # of `Columns.submission`
WAY_OUT = f"--set data.submission={NOT_WANTED} goes on without a submission"
PACKED = (".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".xls", ".xlsx", ".ods")
KINDS_OF_SAMPLE = ("sample", "format", "template", "example", "empty", "blank", "dummy")
ABOVE = ("#", "sep=")  # how lines above the header begin: comments, and how a spreadsheet is told the delimiter
DEEPEST = 2  # folders down in which a sample is looked for
SHOWN = 4


def is_sample_name(name: str) -> bool:
    """Return whether a file is named as a sample submission: ``SampleSubmission.csv``, ``submission_format.zip``."""
    stem, *suffixes = PurePosixPath(name).name.lower().split(".")
    letters = re.sub("[^a-z]", "", stem)
    named = letters == "samplesub" or ("submi" in letters and any(kind in letters for kind in KINDS_OF_SAMPLE))
    return named and any(f".{suffix}" in {".csv", ".tsv", ".txt", *PACKED} for suffix in suffixes)


def read_cell(raw: str) -> str:
    """Return the text of a cell without its quotes and the spaces around it."""
    text = raw.strip()
    return text[1:-1].replace('""', '"').strip() if len(text) > 1 and text[0] == text[-1] == '"' else text


def read_sample(folder: Folder, result: LayoutResult, columns: Columns) -> None:
    """Take the sample submission, if there is one, into ``result.form``, and put the test candidates in its order.

    Its rows name test images, or their cases, or the folders that they lie in. Where nothing else lists the images to
    predict, the sample does.
    """
    if columns.submission == NOT_WANTED:
        result.no_submission = f"data.submission is '{NOT_WANTED}'"
        return
    file = _choose_file(folder, columns, result=result)
    form = None if file is None else _parse_form(folder, file, result=result)
    if form is None:
        return
    result.tables.add(form.file)
    tests = {d.sample.image: d for d in result.candidates if d.test}
    unlisted: dict[str, Candidate] = {}
    if not tests:  # images that no table and no folder of a class has
        used = {path for d in result.candidates for path in d.sample.files}
        for name in folder.list_images():
            if folder.files[name] not in used and name not in folder.pairs.names:
                sample = folder.give_mask(Sample(name, folder.files[name], None, None, name, name))
                unlisted[name] = Candidate(sample, name, test=True)
    key = _choose_key(form, tests or unlisted)
    if key is not None and not tests and sum(map(bool, key.list_images())) > len(form.rows) / 2:
        tests = {name: unlisted[name] for found in key.list_images() for name in found}
        result.notes.append(f"the images to predict are the {len(tests)} that {file} names")
        result.candidates += tests.values()
        result.problems = [p for p in result.problems if p.code != "file-without-row" or not set(p.images) <= {*tests}]
    if not tests:
        result.report("no-test-images", form.file, message="is there, but no images of a test part are.",
                      fix="add test_data/, or mark rows as 'test' in a part column", warning=True)  # fmt: skip
        result.no_submission = f"no image of a test part is there for {form.file}"
    elif key is None:
        texts = ", ".join(f"'{read_cell(cell)}'" for cell in form.rows[0].cells)
        message = f"no column names test images, their cases, or the folders they lie in (the first row: {texts})."
        fix = "name the images as their files are; rows that are cases need a column of cases beside the test images "
        result.report("submission-rows", form.file, message=message, fix=f"{fix}(--set data.case=COLUMN); {WAY_OUT}")
    elif not key.header:
        result.report("submission-header", f"{form.file} line 1", message="has no header: its first line is a row.",
                      fix=f"put the header above it that the competition asks for; {WAY_OUT}")  # fmt: skip
    else:
        _link_rows(form, key, tests=tests, result=result)


def derive_form(result: LayoutResult) -> Form:
    """Return the form where no sample is there: the columns of the table of labels, a row for each test image."""
    text = io.StringIO(newline="")
    tests = [candidate.sample for candidate in result.candidates if candidate.test]
    csv.writer(text, lineterminator="\n").writerows([result.submission_columns, *((s.index, "") for s in tests)])
    header, *lines = (tuple(cells) for cells, _ in split_lines(text.getvalue(), ","))
    rows = tuple(FormRow(cells, "\n", (s.image,)) for cells, s in zip(lines, tests, strict=True))
    return Form("", ",".join(header) + "\n", result.submission_columns, rows)


# --- the file -----------------------------------------------------------------------------------------------------


def _choose_file(folder: Folder, columns: Columns, *, result: LayoutResult) -> str | None:
    """Return the sample, not packed; None where there is none, or with a problem recorded."""
    if columns.submission is not None:
        named = clean_path(columns.submission, folder.root)
        if named in folder.files:
            return named
        result.report("submission-missing", columns.submission, message="is not in the data folder.",
                      fix=f"name the right file: --set data.submission=FILE; {WAY_OUT}")  # fmt: skip
        return None
    found = [n for n in folder.files if is_sample_name(n) and n.count("/") <= DEEPEST and not n.startswith("truth/")]
    plain = [name for name in found if not name.lower().endswith(PACKED)]
    top = min((name.count("/") for name in plain or found), default=0)
    found = [name for name in plain or found if name.count("/") == top]
    if len(found) > 1:
        result.report("several-submissions", " and ".join(found[:SHOWN]), message="may each be the sample submission.",
                      fix=f"say which one: {format_setting('submission', found[0])}; {WAY_OUT}")  # fmt: skip
        return None
    if found and not plain:
        result.report("submission-packed", found[0], message="is packed, or a spreadsheet; text is read.",
                      fix=f"unpack it, or save it as CSV, beside it; {WAY_OUT}")  # fmt: skip
        return None
    return found[0] if found else None


def split_lines(text: str, delimiter: str) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each line as they stand, quotes included, and what ends the line.

    Raises:
        ValueError: a quotation mark that nothing closes; the number of its line.
    """
    sign = re.escape(delimiter)
    cell = re.compile(
        rf'([^\S\r\n{sign}]*"(?:[^"]|"")*"[^\S\r\n{sign}]*|[^"{sign}\r\n][^{sign}\r\n]*|)({sign}|\r\n|\n|\r|\Z)'
    )
    cells: list[str] = []
    position = 0
    while position < len(text) or cells:
        match = cell.match(text, position)
        if match is None:
            raise ValueError(str(text.count("\n", 0, position) + 1))
        cells.append(match[1])
        position = match.end()
        if match[2] != delimiter:
            yield cells, match[2]
            cells = []


def _parse_form(folder: Folder, file: str, *, result: LayoutResult) -> Form | None:
    """Return the text of the sample, cell by cell; None with a problem recorded."""
    text = read_text(folder, file, result=result)
    if text is None:
        return None
    delimiter = sniff_delimiter(text)
    if delimiter != ",":
        result.notes.append(f"{file}: columns are separated by {delimiter!r}")
    with open_file(folder.files[file]) as opened:
        head = "\ufeff" if opened.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else ""
    header: tuple[str, ...] = ()
    rows: list[FormRow] = []

    def refuse(code: str, where: str, message: str, fix: str) -> None:
        result.report(code, where, message=message, fix=f"{fix}; {WAY_OUT}")

    try:
        for number, (cells, end) in enumerate(split_lines(text, delimiter), start=1):
            texts = list(filter(None, map(read_cell, cells)))
            if not texts or (not header and len(texts) == 1 and texts[0].startswith(ABOVE)):
                blank = delimiter.join(cells) + end
                if rows:
                    rows[-1] = replace(rows[-1], end=rows[-1].end + blank)
                else:
                    head += blank
            elif not header:
                header, head = tuple(map(read_cell, cells)), head + delimiter.join(cells) + end
            elif len(cells) != len(header):
                message = f"has {len(cells)} cells, the header has {len(header)}."
                refuse("row-cells", f"{file} line {number}", message, "make all rows as long as the header")
            else:
                rows.append(FormRow(tuple(cells), end))
    except ValueError as error:
        refuse("table-damaged", f"{file} line {error}", "has a quotation mark that nothing closes.", "close it")
        return None
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        message = f"has more than one column called {', '.join(twice)}."
        refuse("column-repeated", file, message, "rename all but one")
    elif len(header) == 1:
        message = f"has one column only ({header[0]})."
        refuse("submission-columns", file, message, "give it two: how images are named, and the label")
    elif not rows:
        refuse("table-empty", file, "has no rows.", "add a header line and one row per image of the test part")
    else:
        return Form(file, head, header, tuple(rows), delimiter)
    return None


# --- its rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Key:
    """One reading of a column: ``rows`` holds the images that each row means; of unit ``image`` those it may mean.

    ``header`` is False where the name of the column means an image, as rows do; ``exact`` counts rows that say more of
    an image's name than its number, ``files`` those that have its suffix too.
    """

    column: int
    unit: str
    rows: list[list[str]]
    header: bool
    exact: int
    files: int

    def list_images(self) -> list[tuple[str, ...]]:
        """Return the images whose answer each row gets; none where it is not clear."""
        return [tuple(found) if self.unit != "image" or len(found) == 1 else () for found in self.rows]

    def weigh(self, name: str, tests: int) -> tuple[bool | int, ...]:
        """Return how well the column fits, to be compared; ``name`` is the column's."""
        meant = self.list_images()
        named = [image for found in meant for image in found]
        covered = len(set(named))
        whole = all(meant) and covered == len(named) == tests
        known = {"image": IMAGE_NAMES, "case": CASE_NAMES}.get(self.unit, ())
        place = known.index(plain_name(name)) if plain_name(name) in known else len(known)
        common = place < len(known)
        return whole, covered, self.exact, self.files, common, self.unit == "image", -place, -self.column


def _fold_zeros(text: str) -> str:
    """Return the name of a case without zeros in front of a number, in one Unicode form."""
    text = unicodedata.normalize("NFC", text.strip())
    return text.lstrip("0") or "0" if re.fullmatch("[0-9]+", text) else text


def _choose_key(form: Form, tests: dict[str, Candidate]) -> _Key | None:
    """Return the column that names images, cases or folders of images, by what its rows find; None where none does."""
    matcher = Matcher(tests)
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image, candidate in tests.items():
        groups["case", _fold_zeros(candidate.sample.case)].append(image)
        groups["folder", _fold_zeros(PurePosixPath(image).parent.name)].append(image)
    best: tuple[tuple[bool | int, ...], _Key] | None = None
    for column, name in enumerate(form.header):
        texts = [read_cell(row.cells[column]) for row in form.rows]
        if len(texts) > 1 and len(set(texts)) == 1:
            continue
        for unit in ("image", "case", "folder"):
            if unit == "image":
                name_found, *rows = (list(matcher.match(text).names) for text in (name, *texts))
                exact = sum(NUMBER not in matcher.match(text).ways for text in texts)
            else:
                name_found, *rows = (groups.get((unit, _fold_zeros(text)), []) for text in (name, *texts))
                exact = len(texts)
            files = sum(map(is_image_name, texts)) if unit == "image" else 0
            key = _Key(column, unit, rows, header=not name_found, exact=exact, files=files)
            weight = key.weigh(name, len(tests))
            if best is None or weight > best[0]:
                best = weight, key
    return None if best is None or not best[0][1] else best[1]


def _link_rows(form: Form, key: _Key, *, tests: dict[str, Candidate], result: LayoutResult) -> None:
    """Give each row its images, report what is without, and order the test candidates."""
    place: dict[str, int] = {}
    line = form.head.count("\n")
    meant = key.list_images()
    for number, (row, found) in enumerate(zip(form.rows, key.rows, strict=True)):
        text = read_cell(row.cells[key.column])
        line += 1 + sum(cell.count("\n") for cell in row.cells)
        where = f"{form.file} line {line}"
        if any(image in place for image in meant[number]):
            result.report("repeated-row", where, message=f"'{text}' is listed twice.",
                          fix="delete one of the rows", images=meant[number])  # fmt: skip
        elif not meant[number] and found:
            result.report("ambiguous-row", where, message=f"'{text}' may mean {' or '.join(found[:SHOWN])}.",
                          fix="write the path of the one that is meant", images=tuple(found))  # fmt: skip
        elif not meant[number]:
            what = "image" if key.unit == "image" else f"image of this {key.unit}"
            fix = "copy the file there; without it the row gets the most frequent class, or the shares of the classes"
            result.report("row-without-file", where, message=f"'{text}' has no {what} in the test part.", fix=fix,
                          images=(show_text(text),))  # fmt: skip
        for image in meant[number]:
            place.setdefault(image, number)
        line += max(0, row.end.count("\n") - 1)
    for name in (name for name in tests if name not in place):
        result.report("file-without-row", name, message=f"is not named in {form.file}.",
                      fix="add its row there, or move the file out of the test part", images=(name,))  # fmt: skip
    rows = tuple(replace(row, images=images) for row, images in zip(form.rows, meant, strict=True))
    result.form = replace(form, key=key.column, rows=rows)
    # The order of the rows becomes that of the test images, and its names become theirs.
    listed = sorted(place, key=lambda image: place[image])
    candidates = [tests[image] for image in (*listed, *(name for name in tests if name not in place))]
    if key.unit == "image":
        names = {image: read_cell(form.rows[place[image]].cells[key.column]) for image in listed}
        candidates = [
            replace(d, sample=replace(d.sample, index=names.get(d.sample.image, d.sample.index))) for d in candidates
        ]
    else:
        result.notes.append(f"{form.file}: a row is a {key.unit} ({form.header[key.column]}), answered by the mean "
                            "over its images")  # fmt: skip
    result.candidates = [d for d in result.candidates if not d.test] + candidates
