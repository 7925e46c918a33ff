"""Spellings in a table: of classes, as names of columns and as values of labels; of cases and sites."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

WHOLE = re.compile(r"[+-]?\d+(?:[.,]0*)?")
NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
# What may stand beside the class in the name of a single column; beside several, all that they share.
AFFIXES = frozenset({
    "class", "has", "is", "label", "p", "pr", "pred", "predicted", "prediction", "prob", "proba", "probability",
    "score", "target", "y",
})  # fmt: skip
MISSING_TEXTS = frozenset(
    {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "nil", "-", "--", "?", "unknown", "unk", "missing",
     "not available", "not known"}
)  # fmt: skip
Affix = tuple[bool, tuple[str, ...]]  # whether it stands before the class, and its words


def read_number(text: str) -> float:
    """Return the value of a text that `NUMBER` matches."""
    return float(text.replace(",", "."))


def plain_class(text: str) -> str:
    """Return a class without what spelling adds: capitals, spaces, hyphens and underscores.

    ``1.0`` and ``01`` are ``1``.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if WHOLE.fullmatch(text):
        return str(int(re.split("[.,]", text)[0]))
    return re.sub(r"(?<=[^\W_])[\s_-]+(?=[^\W_])", " ", text.casefold())


def match_classes(columns: Iterable[str], classes: Iterable[str]) -> dict[str, str]:
    """Return the columns that are named after a class: column -> class, each class once at most.

    The rules, of which the one counts that finds most columns, the first among equals: to the letter; without what
    spelling adds (`plain_class`); with words before or behind that all columns share (``is_malignant``,
    ``prob_0``, ``class1``). A single column may have the words of `AFFIXES` only.
    """
    columns, classes = list(columns), list(classes)
    exact = {column: column for column in columns if column in classes}
    known = {plain_class(name): name for name in classes}
    plain = {column: known[plain_class(column)] for column in columns if plain_class(column) in known}
    if len(known) < len(classes) or len(set(plain.values())) < len(plain):
        plain = {}
    return max([exact, plain, _match_affixes(columns, classes)], key=len)


def _match_affixes(columns: list[str], classes: list[str]) -> dict[str, str]:
    words = {name: _split(plain_class(name)) for name in classes}
    if len(set(words.values())) < len(words) or not all(words.values()):
        return {}
    found: dict[Affix, dict[str, str]] = {}
    for column in columns:
        whole = _split(column)
        for name, part in words.items():
            rest = len(whole) - len(part)
            for affix in (True, whole[:rest]), (False, whole[-rest:] if rest else ()):
                split = (affix[1] + part) if affix[0] else (part + affix[1])
                if rest >= 0 and split == whole and name not in found.get(affix, {}).values():
                    found.setdefault(affix, {})[column] = name
    kept = [f for (_, affix), f in found.items() if len(f) > 1 or set(affix) <= AFFIXES]
    return max(kept, key=len, default={})


def _split(text: str) -> tuple[str, ...]:
    """Return the words, numbers and meaning signs of a name; ``isMalignant`` and ``is_malignant`` have the same."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", text))
    return tuple(re.findall(r"[^\W\d_]+|\d+|[+<>%=&#/*]|-(?!\w)", spaced.casefold()))


def find_spelling(texts: Iterable[str], classes: tuple[str, ...]) -> dict[str, str]:
    """Return the spelling of every class in a column, judged by its values: class -> text; empty where they fit no way.

    The ways are: to the letter; numbers with the decimals and leading zeros of the values; in small letters, in
    capitals, with a capital first; last, where the values show every class, as they show it.
    """
    seen = set(texts)
    ways: list[Callable[[str], str]] = [str, str.lower, str.upper, str.capitalize, str.title]
    if seen and all(WHOLE.fullmatch(text) for text in (*seen, *classes)):
        sample = max(seen, key=len)
        digits, point, decimals = re.fullmatch(r"([+-]?\d+)([.,]?)(0*)", sample).groups()  # type: ignore[union-attr]
        width = len(digits) if digits.lstrip("+-").startswith("0") else 1
        ways.insert(1, lambda name: f"{int(plain_class(name)):0{width}d}{point}{decimals}")
    for way in ways:
        written = {name: way(name) for name in classes}
        if seen <= set(written.values()) and len(set(written.values())) == len(classes):
            return written
    shown = match_classes(sorted(seen), classes)
    return {name: text for text, name in shown.items()} if len(shown) == len(seen) == len(classes) else {}


def is_missing(text: str) -> bool:
    """Return whether a cell says that there is no case or site, or that nobody knows it."""
    return " ".join(text.casefold().split()) in MISSING_TEXTS


def fold_text(text: str) -> str:
    """Return a text without what spelling adds: capitals, spaces, zeros in front of a number, ``12.0`` for 12."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
    number = re.fullmatch(r"([0-9]+)(\.0+)?", plain)
    return number[1].lstrip("0") or "0" if number else plain
