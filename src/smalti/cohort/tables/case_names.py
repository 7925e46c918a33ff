"""The cases that a table names: what says that there is none, and one case that is written in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ..result import LayoutResult
from .names import Matcher
from .table import CASE_NAMES, IMAGE_NAMES, Table, pick_column

CASES_FILE = "cases.csv"

MISSING_TEXTS = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "?", "unknown", "unk", "missing",
     "not available", "not known"}
)  # fmt: skip


def is_missing_case(text: str) -> bool:
    """Return whether the cell of a case says that there is none, or that nobody knows it."""
    return " ".join(text.casefold().split()) in MISSING_TEXTS


def fold_text(text: str) -> str:
    """Return a text without what spelling adds: capitals, spaces, zeros in front of a number, ``12.0`` for 12."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
    number = re.fullmatch(r"([0-9]+)(\.0+)?", plain)
    return number[1].lstrip("0") or "0" if number else plain


def note_missing_cases(texts: list[str], result: LayoutResult) -> None:
    """Note how many cells of cases say that there is none, and what they say."""
    counts = Counter(text for text in texts if is_missing_case(text))
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
    image: str | None = None,
    case: str | None = None,
) -> None:
    """Lay a table of cases over the candidates. A bare number means the training image; test images by their path.

    Args:
        table: of images and cases.
        train: images to learn from.
        result: whose candidates get the cases.
        test: images to predict.
        image: column with the image; None takes that with a common name, or the first.
        case: column with the case; None takes that with a common name, or the last.
    """
    result.tables.add(table.file)
    image = image or pick_column(table.header, IMAGE_NAMES) or table.header[0]
    case = case or pick_column(table.header, CASE_NAMES, taken=(image,)) or table.header[-1]
    if case == image:
        result.report(
            "column-missing", table.file, message=f"has one column only ({image}).", fix="add a column 'case'"
        )
        return
    train, test = list(train), list(test)
    matchers = Matcher([*train, *test]), Matcher(train), Matcher(test)
    given: dict[str, str] = {}
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
            result.report(
                "case-without-image",
                row.where,
                message=f"'{text}' names no image.",
                fix="correct or delete the row",
                warning=True,
            )
        elif not is_missing_case(row.read(case)) and given.setdefault(found[0], row.read(case)) != row.read(case):
            result.report(
                "repeated-row",
                row.where,
                message=f"'{text}' is of case '{given[found[0]]}' elsewhere.",
                fix="delete the row that is wrong",
                images=(found[0],),
            )
    note_missing_cases([row.read(case) for row in table.rows], result)
    alone = sum(candidate.sample.image not in given for candidate in result.candidates)
    others = f"; each of {alone} other image(s) is its own case" if alone else ""
    result.notes.append(f"cases of {len(given)} images from {table.file} (column '{case}'){others}")
    result.candidates = [
        replace(d, sample=replace(d.sample, case=given.get(d.sample.image, d.sample.case))) for d in result.candidates
    ]


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
