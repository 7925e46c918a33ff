"""The rows of a table as candidates of samples: each finds its image, its mask, its label, its case and its part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ...errors import show_text
from ...types import Sample
from ..folder import Folder, clean_path
from ..result import Candidate, Columns, LayoutResult, report_escape
from ..tables.case_names import note_missing_cases
from ..tables.labels import note_spaces, read_label, read_row_label
from ..tables.names import FILE, NOTHING, PART, WAYS, Match
from ..tables.site_names import describe_column, read_site, read_subgroups
from ..tables.spelling import is_missing
from ..tables.table import Row, Table
from .parts import TEST, part_of_path, prefer_part, read_part


class Found:
    """Counts how names were found that are not written as in the folder, and notes it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, tuple[str, str]] = {}

    def count(self, text: str, match: Match) -> None:
        """Count the ways of a match of one file."""
        for way in match.ways:
            self.counts[way] += 1
            self.first.setdefault(way, (text.strip(), match.names[0]))

    def note(self, file: str, result: LayoutResult) -> None:
        """Say how many names of a table were found in which way, with the first of each."""
        for way, count in self.counts.items():
            text, name = self.first[way]
            result.notes.append(f"{file}: {count} file(s) are found {WAYS[way]}, such as '{text}': {name}")


def make_sample(folder: Folder, name: str, *, index: str, masks: Iterable[str] | None = None,
                label: str | None = None, case: str = "", site: str = "",
                subgroups: tuple[tuple[str, str], ...] = ()) -> Sample:  # fmt: skip
    """Return the sample of an image with these masks, or with those of its name; without a case it is its own."""
    case = name if is_missing(case) else case
    sample = Sample(name, folder.files[name], None, label, case, index, site=site, subgroups=subgroups)
    return folder.give_mask(sample, masks)


class RowReader:
    """Turns the rows of one table into candidates; ``part`` is that of the whole table, "" for none."""

    def __init__(self, folder: Folder, table: Table, *, chosen: Columns, result: LayoutResult, part: str) -> None:
        self.folder, self.table, self.chosen, self.result, self.part = folder, table, chosen, result, part
        self.found = Found()
        self.ignored_labels = 0
        self.cases: list[str] = []
        self.passed_over: dict[str, str] = {}  # row: why the file that is nearest to its text is not meant
        self.ambiguous: dict[str, tuple[tuple[str, ...], list[str]]] = {}  # text: images it may mean, rows with it
        self.parts_here = {part_of_path(name) for name in folder.list_images() if name not in folder.pairs.names}

    def add_rows(self) -> None:
        """Add a candidate per row to the result, or what is wrong with it."""
        note_spaces(self.table, self.chosen.label, result=self.result)
        matches = [self._match(row) for row in self.table.rows]
        alone = sum(FILE in match.ways for match in matches)  # where few are so, their folder is not known elsewhere
        strongest: dict[str, tuple[int, int]] = {}
        for match in matches:
            if len(match.names) == 1:
                strongest[match.names[0]] = max(match.rank, strongest.get(match.names[0], match.rank))
        for row, match in zip(self.table.rows, matches, strict=True):
            name = match.names[0] if len(match.names) == 1 else ""
            if name and match.ways and match.rank < strongest[name]:
                self.passed_over[row.where] = f"; {name} is named better by another row"
                match = NOTHING
            elif name and FILE in match.ways and alone <= len(matches) / 2:
                self.passed_over[row.where] = f"; {name} has its name, but lies in another folder"
                match = NOTHING
            self._add_row(row, match)
        for text, (found, rows) in self.ambiguous.items():
            others = f", as in {len(rows) - 1} more rows" if len(rows) > 1 else ""
            self.result.report("ambiguous-row", rows[0],
                               message=f"image '{text}' may mean {' or '.join(found[:4])}{others}.",
                               fix="write the path relative to the data folder", images=found)  # fmt: skip
        self.found.note(self.table.file, self.result)
        if self.ignored_labels:
            self.result.notes.append(f"labels of {self.ignored_labels} rows of the test part are not read")
        # Cells of the part column that name no part.
        texts = Counter(row.read(self.chosen.part) for row in self.table.rows if self.part != TEST)
        unsaid = {text: count for text, count in texts.most_common() if text and not read_part(text)}
        if unsaid:
            listed = ", ".join(f"'{text}' ({count})" for text, count in list(unsaid.items())[:6])
            self.result.notes.append(
                f"{self.table.file}: column '{self.chosen.part}' says neither train, val nor test in "
                f"{sum(unsaid.values())} row(s), which are learned from: {listed}"
            )
        if self.chosen.case is not None:
            note_missing_cases(self.cases, self.result)
        if self.chosen.site is not None:
            self.result.site_source = self.result.site_source or describe_column(self.table, self.chosen)

    def _part(self, row: Row) -> str:
        """Return the part of a row: its cell, else that of the table."""
        text = row.read(self.chosen.part)
        return TEST if self.part == TEST else read_part(text) or self.part

    def _match(self, row: Row) -> Match:
        """Return the image of a row; several candidates where its part and the folder of the table do not decide."""
        text, part = row.cells[str(self.chosen.image)], self._part(row)
        match = self.folder.find_image(text)
        if len(match.names) > 1 and "/" in self.table.file:
            beside = self.table.file.rsplit("/", 1)[0] + "/"
            near = tuple(name for name in match.names if name.startswith(beside))
            match = replace(match, names=near) if near else match
        if len(match.names) > 1 and part:
            names = tuple(prefer_part(match.names, part))
            match = replace(match, names=names, ways=(*match.ways, *((PART,) if len(names) == 1 else ())))
        named = part_of_path(text.replace("\\", "/"))  # a text with the folder in it has decided
        found = part_of_path(match.names[0]) if len(match.names) == 1 and part and not named else ""
        # A file of another part cannot be meant: it is a test image, or there is a folder of the part.
        here = part in self.parts_here or (part == TEST and "" in self.parts_here)
        if found and found != part and (found == TEST or here):
            self.passed_over[row.where] = f"; {match.names[0]} is of another part than {part}"
            return NOTHING
        return match

    def _add_row(self, row: Row, match: Match) -> None:
        """Add the candidate of a row to the result, or what is wrong with it."""
        text = row.cells[str(self.chosen.image)]
        if len(match.names) > 1:
            self.ambiguous.setdefault(text, (match.names, []))[1].append(row.where)
            return
        if not match.names:
            self._report_missing(row, text, what="image", image=None)
            return
        name = match.names[0]
        self.found.count(text, match)
        test = self._part(row) == TEST
        problems = len(self.result.problems)
        label = None if test else read_row_label(row, self.chosen, image=name, result=self.result)
        if len(self.result.problems) > problems:
            return
        self.ignored_labels += test and any(
            read_label(row.read(column)) is not None for column in (self.chosen.label, *self.chosen.class_columns)
        )
        self.cases.append(row.read(self.chosen.case))
        masks: list[str] | None = None
        if self.chosen.mask is not None:
            masks = []
            said = row.cells[self.chosen.mask]  # one mask, or several with ``;`` between them
            several = ";" in said and not self.folder.find_mask(said, name).names
            for one in said.split(";") if several else [said]:
                match = self.folder.find_mask(one, name)
                if len(match.names) == 1:
                    self.found.count(one, match)
                    masks.append(match.names[0])
                elif match.names:
                    self.result.report("ambiguous-row", row.where,
                                       message=f"mask '{one}' may mean {' or '.join(match.names[:4])}.",
                                       fix="write the path relative to the data folder", images=(name,))  # fmt: skip
                elif one.strip():
                    self._report_missing(row, one, what="mask", image=name)
        sample = make_sample(self.folder, name, masks=masks, index=text, label=label, case=self.cases[-1],
                             site=read_site(row, self.chosen), subgroups=read_subgroups(row, self.chosen))  # fmt: skip
        part, said = row.read(self.chosen.part), row.read(self.chosen.label)
        self.result.add(Candidate(sample, row.where, test=test, part=part, label_text=said))

    def _report_missing(self, row: Row, text: str, *, what: str, image: str | None) -> None:
        near = self.passed_over.get(row.where, "") if image is None else ""
        cleaned = clean_path(text, self.folder.root)
        if cleaned is None:
            report_escape(self.result, row.where, text=text, image=image, near=near)
            return
        self.result.report(
            "row-without-file" if image is None else "mask-missing",
            row.where,
            message=f"{what} '{text}' is not in the data folder{near}." if text.strip() else f"names no {what}.",
            fix="copy the file there, correct the path, or delete the row",
            images=(image or show_text(cleaned) or row.where,),
        )
