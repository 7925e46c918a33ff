"""The sealed part of a data folder: ``<data>.seal.json`` beside the runs."""

from __future__ import annotations

from typing import ClassVar

from ..layout import SEAL_SUFFIX
from ..record import Part, Record
from ..scored import Interval


class OpenedScore(Interval):
    """A score on the sealed cases; openings of older versions do not say whether it can be trusted."""

    trustworthy: bool | None = None
    reason: str = ""


class Opening(Part):
    """One look at the sealed part.

    Attributes:
        time: ISO 8601.
        runs: that were scored.
        scores: run -> metric -> score.
    """

    time: str
    runs: tuple[str, ...]
    scores: dict[str, dict[str, OpenedScore]]


class Seal(Record):
    """Which images are sealed, and who looked.

    Attributes:
        data: the data folder.
        share: of the cases, as asked for.
        images: names of the sealed images.
        runs_before: runs that were there before the seal and may have seen these cases.
        files: hashes of the bytes of all images that were sealed there; empty in a seal that is older than them.
        pixels: hashes of their decoded pixels.
        cases: names of the sealed cases.
    """

    FILE: ClassVar[str] = SEAL_SUFFIX
    VERSION: ClassVar[int | None] = None  # a seal outlives versions: an older one must stay readable
    FIX: ClassVar[str] = "restore it from a copy; a new seal is another one"

    data: str
    share: float
    sealed_at: str
    images: tuple[str, ...]
    n_images: int
    n_cases: int
    runs_before: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = ()
    files: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
