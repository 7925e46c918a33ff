"""Which column of a table is what: named, guessed by its name or by what its cells hold; each guess is noted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import replace

from ..reading import Columns, Reading, write_setting
from .case_names import is_missing_case
from .labels import find_class_columns
from .names import is_image_name, match_keys
from .table import (
    CASE_NAMES,
    IMAGE_NAMES,
    LABEL_NAMES,
    MASK_NAMES,
    NAMES,
    PART_NAMES,
    Table,
    list_columns,
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


def choose_columns(table: Table, wanted: Columns, *, reading: Reading, fits: Fits | None = None) -> Columns | None:
    """The columns to read: those named, the others guessed and noted; None when a named one is not there.

    ``fits`` says whether the cells of a column name images of the data folder.
    """
    if not _has_named(table, wanted, reading=reading):
        return None
    chosen = replace(wanted, table=table.file)
    if chosen.image is None and _report_rivals(table, chosen, fits, reading=reading):
        return None
    for kind, guess in (("image", _guess_image), ("label", _guess_label), ("mask", _guess_mask), ("case", _guess_case),
                        ("part", _guess_part)):  # fmt: skip
        if getattr(chosen, kind) is not None or (kind == "label" and wanted.class_columns):
            continue
        column, why = guess(table, chosen, fits)
        if column is not None:
            chosen = replace(chosen, **{kind: column})  # type: ignore[arg-type]  # kinds are texts
            reading.notes.append(f"{kind} column: {column}{why}")
    if chosen.label is None and not wanted.class_columns:
        classes = find_class_columns(table, taken=list_taken(chosen))
        if classes:
            chosen = replace(chosen, class_columns=classes)
            reading.notes.append(f"label: the name of the column with the 1, of {list_columns(classes)}")
    return chosen


def _has_named(table: Table, wanted: Columns, *, reading: Reading) -> bool:
    """Whether all columns that are named are there; each that is not is a problem."""
    named = [(kind, getattr(wanted, kind)) for kind in NAMES] + [
        ("class_columns", name) for name in wanted.class_columns
    ]
    missing = [(kind, name) for kind, name in named if name is not None and name not in table.header]
    for kind, name in missing:
        plain = {column.casefold(): column for column in table.header}
        near = [plain[match] for match in difflib.get_close_matches(name.casefold(), plain, n=3, cutoff=0.6)]
        new = near[0] if near else "COLUMN"
        reading.report(
            "column-missing",
            table.file,
            message=f"has no column '{name}' ({kind}), but {list_columns(table.header)}.",
            fix=f"name the right one: {write_setting(kind, [new] if kind == 'class_columns' else new)}",
        )
    return not missing


def list_taken(chosen: Columns) -> set[str]:
    return {str(getattr(chosen, kind)) for kind in NAMES} | set(chosen.class_columns)


def read_words(column: str) -> list[str]:
    """The words of a column's name in lower case; a change of case begins one, as in ``patientCode``."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", column)]


def _free(table: Table, chosen: Columns) -> list[str]:
    """Columns that may still be guessed: not the index that pandas writes, which has no name."""
    taken = list_taken(chosen)
    return [c for c in table.header if c and c not in taken and not re.fullmatch(r"(?i)unnamed: [0-9]+|index", c)]


def _guess_image(table: Table, chosen: Columns, fits: Fits | None) -> tuple[str | None, str]:
    """By a common name, by a word in the name, or because the cells name images."""
    named = pick_column(table.header, IMAGE_NAMES, taken=list_taken(chosen), fits=fits)
    if fits is None:
        return named, ""
    found = [column for column in _free(table, chosen) if column in table.rows[0].cells and fits(column)]
    rival = _find_rival(table, named, found)
    if named is not None and rival is not None and _repeats(table, named) and not _repeats(table, rival):
        return rival, f" (its cells name files; not '{named}', which would name one image several times)"
    if named is not None and named in found:
        return named, ""
    worded = [column for column in found if IMAGE_WORDS & set(read_words(column))] or found
    if len(worded) == 1:
        return worded[0], " (its cells name images)"
    return named, ""


def _find_rival(table: Table, named: str | None, found: list[str]) -> str | None:
    """The column of files that says otherwise than a common name that may as well be a number of rows, such as id."""
    if named not in found or STRONG_WORDS & set(read_words(named)) or _holds_files(table, named):
        return None
    files = [column for column in found if _holds_files(table, column)]
    numbers = [[match_keys(row.read(column))[3] for row in table.rows] for column in (named, *files[:1])]
    return files[0] if len(files) == 1 and numbers[0] != numbers[1] else None


def _holds_files(table: Table, column: str) -> bool:
    """Whether the cells of a column have the suffix of an image, all that are filled."""
    return all(is_image_name(row.read(column)) for row in table.rows if row.read(column))


def _repeats(table: Table, column: str) -> bool:
    return len({row.read(column) for row in table.rows}) < len(table.rows)


def _report_rivals(table: Table, chosen: Columns, fits: Fits | None, *, reading: Reading) -> bool:
    """Ask which of two columns names the images, where nothing tells."""
    named = pick_column(table.header, IMAGE_NAMES, taken=list_taken(chosen), fits=fits)
    found = [c for c in _free(table, chosen) if fits is not None and c in table.rows[0].cells and fits(c)]
    rival = _find_rival(table, named, found)
    if named is None or rival is None or _repeats(table, named) != _repeats(table, rival):
        return False
    row = next(r for r in table.rows if match_keys(r.read(named))[3] != match_keys(r.read(rival))[3])
    reading.report(
        "column-ambiguous",
        row.where,
        message=f"'{row.read(named)}' ({named}) and '{row.read(rival)}' ({rival}) name two images.",
        fix=f"say which column names the images: {write_setting('image', named)} or {write_setting('image', rival)}",
    )
    return True


def _guess_label(table: Table, chosen: Columns, fits: Fits | None) -> tuple[str | None, str]:
    named = pick_column(table.header, LABEL_NAMES, taken=list_taken(chosen))
    if named is not None:
        others = [column for column in _free(table, chosen) if column != named and plain_name(column) in LABEL_NAMES]
        why = f" (not {list_columns(others)}; --set data.label=COLUMN chooses another)" if others else ""
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


def _guess_mask(table: Table, chosen: Columns, fits: Fits | None) -> tuple[str | None, str]:
    return pick_column(table.header, MASK_NAMES, taken=list_taken(chosen)), ""


def _guess_case(table: Table, chosen: Columns, fits: Fits | None) -> tuple[str | None, str]:
    """The column of cases; of several the one whose values hold those of the others, else the likeliest name."""
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
        best = other if not SLIDE_WORDS & set(read_words(other)) and _lies_within(table, best, other) else best
    rest = [column for column in found if column != best]
    crossing = [column for column in rest if not _lies_within(table, column, best) and not _agree(table, column, best)]
    why = f" (not {list_columns(rest)}: finer, or the same)" if rest and not crossing else ""
    if crossing:
        why = (
            f" (not {list_columns(crossing)}, which has its cases in several of these: images that share it may be in "
            "training and in what scores; --set data.case=COLUMN chooses another)"
        )
    return best, why


def _pair_values(table: Table, first: str, second: str) -> set[tuple[str, str]]:
    pairs = ((row.read(first), row.read(second)) for row in table.rows)
    return {(one, two) for one, two in pairs if not is_missing_case(one) and not is_missing_case(two)}


def _lies_within(table: Table, finer: str, coarser: str) -> bool:
    """Whether each value of a column lies in one of the other, and the other has fewer, but at least two."""
    pairs = _pair_values(table, finer, coarser)
    groups = len({two for _, two in pairs})
    return len(pairs) == len({one for one, _ in pairs}) and 2 <= groups < len(pairs)


def _agree(table: Table, first: str, second: str) -> bool:
    pairs = _pair_values(table, first, second)
    return len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})


def _guess_part(table: Table, chosen: Columns, fits: Fits | None) -> tuple[str | None, str]:
    named = pick_column(table.header, PART_NAMES, taken=list_taken(chosen))
    if named is not None:
        return named, ""
    found = [
        c for c in _free(table, chosen) if PART_WORDS & set(read_words(c)) or {"train", "test"} <= {*read_words(c)}
    ]
    return (found[0], " (by a word in its name)") if len(found) == 1 else (None, "")
