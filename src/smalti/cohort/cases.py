"""The cases that a table names: what says that there is none, and one case that is written in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import replace

from .reading import Reading

MISSING_TEXTS = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "?", "unknown", "missing",
     "not available", "not known"}
)  # fmt: skip


def is_missing_case(text: str) -> bool:
    """Whether the cell of a case says that there is none, or that nobody knows it."""
    return " ".join(text.casefold().split()) in MISSING_TEXTS


def fold_text(text: str) -> str:
    """What two ways to write one text have in common: capitals, spaces, zeros in front of a number, ``12.0`` for 12."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
    number = re.fullmatch(r"([0-9]+)(\.0+)?", plain)
    return number[1].lstrip("0") or "0" if number else plain


def note_missing_cases(texts: list[str], reading: Reading) -> None:
    """Note how many cells of cases say that there is none, and what they say."""
    counts = Counter(text for text in texts if is_missing_case(text))
    if counts:
        said = ", ".join(f"'{text}'" if text else "empty" for text, _ in counts.most_common(4))
        reading.notes.append(
            f"{counts.total()} row(s) have no case ({said}): each of their images is its own case, "
            "though some may be of one patient"
        )


def join_spellings(reading: Reading) -> None:
    """Make one case of cases that differ only in spelling, and note it: to part them would leak, to join them not."""
    written: dict[str, Counter[str]] = defaultdict(Counter)
    for draft in reading.drafts:
        if draft.sample.case != draft.sample.image:
            written[fold_text(draft.sample.case)][draft.sample.case] += 1
    names = {fold: counts.most_common(1)[0][0] for fold, counts in written.items() if len(counts) > 1}
    if not names:
        return
    fold = next(iter(names))
    listed = " and ".join(f"'{text}' ({n})" for text, n in written[fold].most_common())
    reading.notes.append(
        f"{len(names)} case(s) are written in several ways and taken as one each, such as {listed}: "
        "rename them if they are different cases"
    )
    reading.drafts = [
        replace(d, sample=replace(d.sample, case=names.get(fold_text(d.sample.case), d.sample.case)))
        if d.sample.case != d.sample.image
        else d
        for d in reading.drafts
    ]
