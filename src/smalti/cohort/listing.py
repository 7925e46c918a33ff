"""The table layout: a CSV with a column of images and a column of labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..errors import Problem, show_text
from ..types import Sample
from .challenge import CASES_FILE, LABELS_FILE
from .folder import Folder, clean_path, is_image_name, is_mask_name
from .reading import Columns, Draft, Reading, report_escape
from .submission import is_sample_name
from .tables import Row, Table, choose_columns, note_spaces, read_csv, read_label

NOT_TABLES = frozenset({"submission.csv", CASES_FILE, "decisions.csv", "findings.csv", LABELS_FILE})
TEST_WORDS = frozenset({"test", "testing", "unlabelled", "unlabeled", "predict", "submission"})
PROBED_ROWS = 50  # enough to see whether a column holds image files
Source = tuple[Table, Columns]


def list_tables(folder: Folder, columns: Columns) -> list[str]:
    """The tables that may hold the labels: the one that is named, or every CSV directly in the folder."""
    if columns.table is not None:
        return [columns.table]
    names = (n for n in folder.files if "/" not in n and n.lower().endswith((".csv", ".tsv")))
    return [n for n in names if n.lower() not in NOT_TABLES and not is_sample_name(n) and n != columns.submission]


def read_listing(folder: Folder, columns: Columns) -> Reading:
    """Read the table layout; ``reading.drafts`` stays empty, with problems, when no table holds images and labels."""
    reading = Reading("table")
    labelled: list[Source] = []
    tests: list[Source] = []
    probes: dict[str, Reading] = {}
    for file in list_tables(folder, columns):
        probes[file] = Reading("table")
        found = _read_table(folder, file, columns=columns, probe=probes[file])
        if found is None or found[1].image is None:
            continue
        if found[1].label is not None and (file == columns.table or not _is_test_name(file)):
            labelled.append(found)
        elif _is_test_name(file):
            tests.append(found)
    if len(labelled) > 1:
        labelled = [s for s in labelled if _finds_images(folder, s[0], column=str(s[1].image))] or labelled
    used = {table.file for table, _ in labelled + tests}
    reading.problems = [
        p for file, probe in probes.items() for p in _weigh_problems(file, probe, used=used, labelled=labelled)
    ]
    if len(labelled) != 1:
        _report_choice(folder, columns, labelled=labelled, reading=reading)
        return reading
    for table, chosen in labelled + tests:
        reading.notes += [f"table: {table.file}", *probes[table.file].notes]
        _Reader(folder, table, chosen=chosen, reading=reading, test=(table, chosen) in tests).add_rows()
    _report_unlisted(folder, reading)
    table, chosen = labelled[0]
    reading.submission_columns = (str(chosen.image), str(chosen.label))
    return reading


def _is_test_name(file: str) -> bool:
    stem = PurePosixPath(file).stem.lower()
    return any(word in stem for word in ("test", "unlabel"))


def _weigh_problems(file: str, probe: Reading, *, used: set[str], labelled: list[Source]) -> list[Problem]:
    """What is wrong with a table that is not needed is no problem, and only a warning where it could not be read."""
    if file in used or not labelled or _is_test_name(file):
        return probe.problems
    return [replace(problem, warning=True) for problem in probe.problems if problem.code.startswith("table-")]


def _read_table(folder: Folder, file: str, *, columns: Columns, probe: Reading) -> Source | None:
    cleaned = clean_path(file, folder.root)
    if cleaned is None or cleaned not in folder.files:
        probe.report(
            "table-missing", file, message="is not in the data folder.", fix="name the right one: --set data.table=FILE"
        )
        return None
    table = read_csv(folder, cleaned, reading=probe, columns=columns)
    if table is None:
        return None

    chosen = choose_columns(
        table, columns, reading=probe, fits=lambda column: _finds_images(folder, table, column=column)
    )
    if chosen is None:
        return None
    if columns.image is None and chosen.image is not None and not _names_images(folder, table, column=chosen.image):
        chosen = replace(chosen, image=None)  # a column "id" or "name" of something else
    return table, chosen


def _finds_images(folder: Folder, table: Table, *, column: str) -> bool:
    texts = [row.cells[column] for row in table.rows[:PROBED_ROWS]]
    cleaned = (clean_path(text, folder.root) for text in texts)
    return any(map(folder.find_exact, texts)) or any(text and folder.find_image(text) for text in cleaned)


def _names_images(folder: Folder, table: Table, *, column: str) -> bool:
    named = any(is_image_name(row.read(column)) for row in table.rows[:PROBED_ROWS])
    return named or _finds_images(folder, table, column=column)


def _report_choice(folder: Folder, columns: Columns, *, labelled: list[Source], reading: Reading) -> None:
    if labelled:
        names = " and ".join(table.file for table, _ in labelled)
        reading.report(
            "several-tables",
            names,
            message="each have a column of images and a column of labels.",
            fix=f"say which one: --set data.table={labelled[0][0].file}",
        )
    elif not any(p.code.startswith(("table-", "column-")) for p in reading.problems):
        names = ", ".join(list_tables(folder, columns))
        reading.report(
            "no-labels",
            names,
            message="no column of images and column of labels was recognised.",
            fix="name them: --set data.image=COLUMN --set data.label=COLUMN",
        )


class _Reader:
    """Turns the rows of one table into drafts."""

    def __init__(self, folder: Folder, table: Table, *, chosen: Columns, reading: Reading, test: bool) -> None:
        self.folder, self.table, self.chosen, self.reading, self.test = folder, table, chosen, reading, test
        self.ignored_labels = 0
        self.empty_cases = 0
        self.ambiguous: dict[str, tuple[list[str], list[str]]] = {}  # text: images that it may mean, rows with it

    def add_rows(self) -> None:
        note_spaces(self.table, self.chosen.label, reading=self.reading)
        for row in self.table.rows:
            self._add_row(row)
        for text, (found, rows) in self.ambiguous.items():
            others = f", as in {len(rows) - 1} more rows" if len(rows) > 1 else ""
            self.reading.report(
                "ambiguous-row",
                rows[0],
                message=f"image '{text}' may mean {' or '.join(found[:4])}{others}.",
                fix="write the path relative to the data folder",
                images=tuple(found),
            )
        if self.ignored_labels:
            self.reading.notes.append(f"labels of {self.ignored_labels} rows of the test part are not read")
        if self.empty_cases:
            self.reading.notes.append(f"{self.empty_cases} rows have no case: each of their images is its own case")

    def _add_row(self, row: Row) -> None:
        text = row.cells[str(self.chosen.image)]
        name = self._find(row, text, find=self.folder.find_image)
        if name is None:
            return
        part = row.read(self.chosen.part)
        test = self.test or part.lower() in TEST_WORDS
        label = read_label(row.read(self.chosen.label))
        self.ignored_labels += test and label is not None
        case = row.read(self.chosen.case)
        self.empty_cases += self.chosen.case is not None and not case
        sample = Sample(
            image=name,
            path=self.folder.files[name],
            mask_path=self._find_mask(row, name),
            label=None if test else label,
            case=case or name,
            index=text,
        )
        self.reading.add(Draft(sample, row.where, test=test, part=part))

    def _find_mask(self, row: Row, image: str) -> Path | None:
        if self.chosen.mask is None:
            return self.folder.guess_mask_path(image)
        text = row.cells[self.chosen.mask]
        if not text.strip():
            return None
        name = self._find(row, text, find=lambda cleaned: self.folder.find_mask(cleaned, image), image=image)
        return None if name is None else self.folder.files[name]

    def _find(self, row: Row, text: str, *, find: Callable[[str], list[str]], image: str | None = None) -> str | None:
        """The file that a cell means; None with a problem recorded. ``image`` is given when the cell names a mask."""
        cleaned = clean_path(text, self.folder.root)
        if exact := self.folder.find_exact(text):
            return exact[0]
        if cleaned is None:
            report_escape(self.reading, row.where, text=text, image=image)
            return None
        found = find(cleaned) if cleaned else []
        if len(found) == 1:
            return found[0]
        what = "image" if image is None else "mask"
        if found and image is None:
            self.ambiguous.setdefault(text, (found, []))[1].append(row.where)
        elif found:
            self.reading.report(
                "ambiguous-row",
                row.where,
                message=f"mask '{text}' may mean {' or '.join(found[:4])}.",
                fix="write the path relative to the data folder",
                images=(str(image),),
            )
        else:
            self.reading.report(
                "row-without-file" if image is None else "mask-missing",
                row.where,
                message=f"{what} '{text}' is not in the data folder." if text.strip() else f"names no {what}.",
                fix="copy the file there, correct the path, or delete the row",
                images=(image or show_text(cleaned) or row.where,),
            )
        return None


def _report_unlisted(folder: Folder, reading: Reading) -> None:
    """Images without a row, in the folders where images with a row are."""
    listed = {d.sample.image for d in reading.drafts}
    paths = {d.sample.mask_path for d in reading.drafts}
    named = {image for problem in reading.problems for image in problem.images}
    folders = {PurePosixPath(name).parent for name in listed}
    for name in folder.list_images():
        unknown = name not in listed and name not in named and folder.files[name] not in paths
        if unknown and PurePosixPath(name).parent in folders and not is_mask_name(name):
            reading.report(
                "file-without-row",
                name,
                message="has no row in the table.",
                fix="add its row, or move the file away",
                images=(name,),
            )
