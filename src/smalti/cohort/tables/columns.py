"""Roles of the columns of a table: named, or guessed by their names or cells; each guess is noted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace

from ..result import Columns, LayoutResult, format_setting, list_names
from .labels import find_class_columns
from .names import is_image_name, match_keys
from .site_names import guess_site
from .spelling import is_missing
from .table import (
    CASE_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    NAMES,
    Table,
    pick_column,
    plain_name,
)

Fits = Callable[[str], bool]
# Words inside longer names, such as "Majority Vote Label" or "Anonymised Patient Number".
IMAGE_WORDS = frozenset({"image", "images", "img", "file", "filename", "path", "slide", "picture", "photo", "tile"})
STRONG_WORDS = frozenset({"image", "img", "file", "filename", "filepath", "path"})  # not a number of rows
LABEL_WORDS = frozenset({"label", "class", "diagnosis", "subtype", "category"})
CASE_WORDS = frozenset({"patient", "case", "subject", "donor", "individual", "participant"})
BESIDE_CASE = frozenset(
    {"id", "ids", "no", "nr", "number", "code", "name", "identifier", "barcode", "key", "anonymised", "anonymized",
     "pseudonym", "pseudonymised", "unique", "study", "tcga", "bcr", "submitter"}
)  # fmt: skip
SLIDE_WORDS = frozenset({"slide", "wsi"})
PART_WORDS = frozenset({"split", "partition", "subset"})
COUNTS = frozenset({"number", "count", "num", "n"})


def choose_columns(table: Table, wanted: Columns, *, result: LayoutResult, fits: Fits | None = None) -> Columns | None:
    """Return the columns to read: those named, the others guessed and noted; None when a named one is not there.

    ``fits`` says whether the cells of a column name images of the data folder.
    """
    named = [(kind, getattr(wanted, kind)) for kind in NAMES]
    lists = ("class_columns", "subgroups")
    named += [(kind, name) for kind in lists for name in getattr(wanted, kind)]
    missing = [(kind, name) for kind, name in named if name is not None and name not in table.header]
    for kind, name in missing:
        plain = {column.casefold(): column for column in table.header}
        near = [plain[match] for match in difflib.get_close_matches(name.casefold(), plain, n=3, cutoff=0.6)]
        new = near[0] if near else "COLUMN"
        result.report("column-missing", table.file,
                      message=f"has no column '{name}' ({kind}), but {list_names(table.header)}.",
                      fix="name the right one: "
                      f"{format_setting(kind, [new] if kind in lists else new)}")  # fmt: skip
    if missing:
        return None
    chosen = replace(wanted, table=table.file)
    for kind in NAMES:
        if getattr(chosen, kind) is not None or (kind == "label" and wanted.class_columns):
            continue
        column = pick_column(table.header, NAMES[kind], taken=list_taken(chosen))
        why: str | None = ""
        if kind == "image":
            column, why = _guess_image(table, chosen, fits, result=result)
            if why is None:
                return None
        elif kind == "label":
            column, why = _guess_label(table, chosen, column)
        elif kind == "case":
            column, why = _guess_case(table, chosen)
        elif kind == "site":
            column = guess_site(table, chosen)  # noted where it is settled
        elif kind == "part" and column is None:
            words = {name: set(read_words(name)) for name in _free(table, chosen)}
            found = [name for name, some in words.items() if PART_WORDS & some or {"train", "test"} <= some]
            column, why = found[0] if len(found) == 1 else None, " (by a word in its name)"
        if column is not None:
            chosen = replace(chosen, **{kind: column})  # type: ignore[arg-type]  # kinds are texts
            result.notes += [f"{kind} column: {column}{why}"] if kind != "site" else []
    if chosen.label is None and not wanted.class_columns:
        classes = find_class_columns(table, taken=list_taken(chosen))
        if classes:
            chosen = replace(chosen, class_columns=classes)
            result.notes.append(f"label: the name of the column with the 1, of {list_names(classes)}")
    return chosen


def list_taken(chosen: Columns) -> set[str]:
    """Return the names of the columns that are chosen already."""
    return {str(getattr(chosen, kind)) for kind in NAMES} | set(chosen.class_columns)


def read_words(column: str) -> list[str]:
    """Return the words of a column's name in lower case; a change of case begins one, as in ``patientCode``."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", column)]


def _free(table: Table, chosen: Columns) -> list[str]:
    """Return columns that may still be guessed: not the index that pandas writes, which has no name."""
    taken = list_taken(chosen)
    return [c for c in table.header if c and c not in taken and not re.fullmatch(r"(?i)unnamed: [0-9]+|index", c)]


def _guess_image(
    table: Table, chosen: Columns, fits: Fits | None, *, result: LayoutResult
) -> tuple[str | None, str | None]:
    """Return the column of images and why: by a common name, by a word in the name, or because the cells name images.

    The reason is None, with a problem recorded, where two columns name different images.
    """
    named = pick_column(table.header, IMAGE_NAMES, taken=list_taken(chosen), fits=fits)
    if fits is None:
        return named, ""
    found = [column for column in _free(table, chosen) if column in table.rows[0].cells and fits(column)]
    # A common name such as id may as well be a number of rows, and a column of files say otherwise.
    filled = {column: [row.read(column) for row in table.rows if row.read(column)] for column in found}
    files = [column for column, texts in filled.items() if all(map(is_image_name, texts))]
    weak = named is not None and named in found and named not in files and not STRONG_WORDS & set(read_words(named))
    if named is not None and weak and len(files) == 1:
        rival = files[0]
        keys = [[match_keys(row.read(column))[3] for row in table.rows] for column in (named, rival)]
        other = next((row for row, one, two in zip(table.rows, keys[0], keys[1], strict=True) if one != two), None)
        repeats = [len({row.read(column) for row in table.rows}) < len(table.rows) for column in (named, rival)]
        if other is not None and repeats[0] == repeats[1]:
            message = f"'{other.read(named)}' ({named}) and '{other.read(rival)}' ({rival}) name two images."
            knobs = [format_setting("image", column) for column in (named, rival)]
            fix = f"say which column names the images: {' or '.join(knobs)}"
            result.report("column-ambiguous", other.where, message=message, fix=fix)
            return None, None
        if other is not None and repeats[0]:
            return rival, f" (its cells name files; not '{named}', which would name one image several times)"
    if named is not None and named in found:
        return named, ""
    worded = [column for column in found if IMAGE_WORDS & set(read_words(column))] or found
    if len(worded) == 1:
        return worded[0], " (its cells name images)"
    return named, ""


def _guess_label(table: Table, chosen: Columns, named: str | None) -> tuple[str | None, str]:
    """Return the column of labels and why; ``named`` is the one with a common name."""
    if named is not None:
        others = [column for column in _free(table, chosen) if column != named and plain_name(column) in LABEL_NAMES]
        why = f" (not {list_names(others)}; --set data.label=COLUMN chooses another)" if others else ""
        return named, why
    words = {column: read_words(column) for column in _free(table, chosen)}
    words = {column: found for column, found in words.items() if found and found[0] not in COUNTS}
    for place, what in ((-1, "ends"), (0, "begins")):
        found = [column for column, some in words.items() if some[place] in LABEL_WORDS]
        if len(found) == 1:
            return found[0], f" (its name {what} with '{words[found[0]][place]}')"
        if found:
            return None, ""
    return None, ""


def _guess_case(table: Table, chosen: Columns) -> tuple[str | None, str]:
    """Return the column of cases and why; of several the one whose values hold those of the others."""
    found: list[str] = []
    while (column := pick_column(table.header, CASE_NAMES, taken=list_taken(chosen) | set(found))) is not None:
        found.append(column)
    for column in _free(table, chosen):
        words = set(read_words(column))
        if column not in found and words & CASE_WORDS and words <= CASE_WORDS | BESIDE_CASE:
            found.append(column)
    found = sorted((c for c in found if c in table.rows[0].cells), key=lambda c: bool(SLIDE_WORDS & set(read_words(c))))
    if not found:
        return None, ""
    best = found[0]
    for other in found[1:]:  # one slide may hold many patients, who are cases still
        if not SLIDE_WORDS & set(read_words(other)) and _compare_values(table, best, other) == "within":
            best = other
    rest = [column for column in found if column != best]
    crossing = [column for column in rest if not _compare_values(table, column, best)]
    why = f" (not {list_names(rest)}: finer, or the same)" if rest and not crossing else ""
    if crossing:
        why = (
            f" (not {list_names(crossing)}, which has its cases in several of these: images that share it may be in "
            "training and in what scores; --set data.case=COLUMN chooses another)"
        )
    return best, why


def _compare_values(table: Table, finer: str, coarser: str) -> str:
    """Return ``within`` where each value of a column lies in one of the other, which has fewer, but at least two.

    It is ``same`` where the values of both correspond one to one, else empty.
    """
    pairs = {(row.read(finer), row.read(coarser)) for row in table.rows}
    pairs = {(one, two) for one, two in pairs if not is_missing(one) and not is_missing(two)}
    groups = len({two for _, two in pairs})
    if len(pairs) != len({one for one, _ in pairs}):
        return ""
    return "within" if 2 <= groups < len(pairs) else "same" if groups == len(pairs) else ""
