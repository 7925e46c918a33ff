"""The cases that a table names: what says that there is none, and one case that is written in two ways."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ...errors import show_text
from ..result import Columns, LayoutResult
from .names import Matcher
from .site_names import lay_sites
from .spelling import fold_text, is_missing
from .table import ANY, CASE_NAMES, IMAGE_NAMES, Row, Table, pick_column

CASES_FILE = "cases.csv"
PATIENT = re.compile(r"(?:^|[^A-Z0-9])(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?![A-Z0-9])", re.IGNORECASE)


def note_missing_cases(texts: list[str], result: LayoutResult) -> None:
    """Note how many cells of cases say that there is none, and what they say."""
    counts = Counter(text for text in texts if is_missing(text))
    if counts:
        said = ", ".join(f"'{text}'" if text else "empty" for text, _ in counts.most_common(4))
        result.notes.append(
            f"{counts.total()} row(s) have no case ({said}): each of their images is its own case, "
            "though some may be of one patient"
        )


def apply_cases(
    table: Table,
    train: Iterable[str],
    *,
    result: LayoutResult,
    test: Iterable[str] = (),
    wanted: Columns = ANY,
) -> None:
    """Lay a table of cases, with their sites if it has them, over the candidates.

    A bare number means the training image; test images by their path.

    Args:
        table: of images and cases.
        train: images to learn from.
        result: whose candidates get the cases.
        test: images to predict.
        wanted: columns that are named; else that of the image is the one with a common name, or the first, that of the
            case the one with a common name, or the last.
    """
    result.tables.add(table.file)
    image = wanted.image or pick_column(table.header, IMAGE_NAMES) or table.header[0]
    case = wanted.case or pick_column(table.header, CASE_NAMES, taken=(image,)) or table.header[-1]
    if case == image:
        result.report(
            "column-missing", table.file, message=f"has one column only ({image}).", fix="add a column 'case'"
        )
        return
    train, test = list(train), list(test)
    matchers = Matcher([*train, *test]), Matcher(train), Matcher(test)
    given: dict[str, str] = {}
    rows: dict[str, Row] = {}
    for row in table.rows:
        text = row.cells[image]
        matches = [m.match(text).names for m in matchers]
        found = next((names for names in matches if len(names) == 1), ())
        if matches[0] and not found:
            result.report(
                "ambiguous-row",
                row.where,
                message=f"'{text}' may mean {' or '.join(matches[0][:4])}.",
                fix="write the path relative to the data folder",
                images=tuple(matches[0]),
            )
        elif not found:
            result.lacking[show_text(text)] = row.where
            result.report("case-without-image", row.where, message=f"'{text}' names no image.",
                          fix="correct or delete the row", warning=True)  # fmt: skip
        elif not is_missing(row.read(case)) and given.setdefault(found[0], row.read(case)) != row.read(case):
            result.report(
                "repeated-row",
                row.where,
                message=f"'{text}' is of case '{given[found[0]]}' elsewhere.",
                fix="delete the row that is wrong",
                images=(found[0],),
            )
        if found:
            rows.setdefault(found[0], row)
    note_missing_cases([row.read(case) for row in table.rows], result)
    alone = sum(candidate.sample.image not in given for candidate in result.candidates)
    others = f"; each of {alone} other image(s) is its own case" if alone else ""
    result.notes.append(f"cases of {len(given)} images from {table.file} (column '{case}'){others}")
    result.candidates = [
        replace(d, sample=replace(d.sample, case=given.get(d.sample.image, d.sample.case))) for d in result.candidates
    ]
    lay_sites(table, rows, replace(wanted, image=image, case=case), result=result)


def join_spellings(result: LayoutResult) -> None:
    """Make one case of cases that differ only in spelling, and note it: to part them would leak, to join them not."""
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for candidate in result.candidates:
        if candidate.sample.case != candidate.sample.image:
            written[fold_text(candidate.sample.case)][candidate.sample.case] += 1
    names = {fold: counts.most_common(1)[0][0] for fold, counts in written.items() if len(counts) > 1}
    if not names:
        return
    fold = next(iter(names))
    listed = " and ".join(f"'{text}' ({n})" for text, n in written[fold].most_common())
    result.notes.append(
        f"{len(names)} case(s) are written in several ways and taken as one each, such as {listed}: "
        "rename them if they are different cases"
    )
    result.candidates = [
        replace(d, sample=replace(d.sample, case=names.get(fold_text(d.sample.case), d.sample.case)))
        if d.sample.case != d.sample.image
        else d
        for d in result.candidates
    ]


def join_barcodes(result: LayoutResult, columns: Columns) -> None:
    """Make one case of images whose names hold the same patient of TCGA, where nothing else says a case."""
    samples = [candidate.sample for candidate in result.candidates]
    if columns.case is not None or any(s.case != s.image for s in samples):
        return
    found = {s.image: match[1].upper() for s in samples if (match := PATIENT.search(s.image))}
    patients = set(found.values())
    if len(patients) == len(found):
        return
    result.notes.append(
        f"case: the {len(patients)} patients that TCGA barcodes name in {len(found)} images; "
        "--set data.case=COLUMN names others"
    )
    result.candidates = [
        replace(d, sample=replace(d.sample, case=found.get(d.sample.image, d.sample.case))) for d in result.candidates
    ]
