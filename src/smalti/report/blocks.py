"""Define what a section is made of. Blocks hold plain text; the template escapes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; ``tone`` is ``plain``, ``note``, ``warning`` or ``lead``."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: str = "plain"


@dataclass(frozen=True, slots=True)
class Link:
    """A cell that leads to another page, by its relative address."""

    text: str
    address: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table that scrolls inside its own box; the first ``text_columns`` are left-aligned, the others are numbers.

    A cell may have several lines.
    """

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    caption: str = ""
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class Panels:
    """Drawings side by side, one below the other on a phone: (SVG, what it shows in words).

    ``width`` is the share of a wide page that one takes.
    """

    kind: ClassVar[str] = "panels"
    drawings: Sequence[tuple[Markup, str]]
    caption: str = ""
    width: Literal["third", "half", "lone"] = "third"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side with words below each: (data address, what it shows); ``width`` as in `Panels`."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[tuple[str, str]]
    caption: str = ""
    width: Literal["third", "half", "lone"] = "half"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a matrix: share 0..1 of its row decides the shade."""

    text: str
    share: float


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix: rows are labels, columns predictions."""

    kind: ClassVar[str] = "matrix"
    names: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One picture with its scores; ``picture`` is a data address, empty where the image could not be read.

    Without ``predicted`` and ``scores`` it is an image that no network has seen.
    """

    picture: str
    alt: str
    image: str
    label: str
    predicted: str
    details: str
    scores: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures in a grid."""

    kind: ClassVar[str] = "gallery"
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Listing:
    """Verbatim text."""

    kind: ClassVar[str] = "listing"
    text: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a list of questions.

    Attributes:
        state: ``answered``, ``partly`` or ``authors``.
        text: the answer; empty without one.
        rest: what remains for people; empty where nothing does.
        link: where more is said.
    """

    number: str
    asks: str
    state: str
    text: str
    rest: str
    link: Link | None


@dataclass(frozen=True, slots=True)
class Entries:
    """Questions with their answers, one below the other."""

    kind: ClassVar[str] = "entries"
    entries: Sequence[Entry]


Block = Paragraph | Table | Panels | Pictures | Matrix | Gallery | Listing | Entries


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the page; ``anchor`` is its short name in links."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def not_applicable(anchor: str, title: str, reason: str) -> Section:
    """Return a section that cannot be written, with the reason."""
    return Section(anchor, title, [Paragraph(f"not applicable: {reason}", "note")])


def format_number(value: float | None, digits: int = 3) -> str:
    """Return the number with fixed digits; a dash if it could not be computed."""
    return "–" if value is None else f"{value:.{digits}f}"


def format_range(low: float | None, high: float | None, digits: int = 3, *, sign: str = "") -> str:
    """Return a range, with signs where ``sign`` is ``+``; a dash if it could not be computed."""
    return "–" if low is None or high is None else f"{low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def format_percent(share: float) -> str:
    """Return ``95 %``, never broken over two lines."""
    return f"{round(100 * share, 1):g}\u00a0%"


def count_things(number: int, singular: str, plural: str = "") -> str:
    """Return ``1 case``, ``2 cases``, ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
