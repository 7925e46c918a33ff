"""Which run of each data folder is called ``best``: ``best.json`` beside the runs."""

from __future__ import annotations

from typing import ClassVar

from ..layout import BEST
from ..record import Part, Record
from ..scored import Interval, Unit


class BestRun(Part):
    """A run that is called ``best``.

    Attributes:
        rule: by which it is the best, in words.
        score: macro-F1; None where the run is no longer there.
        time: since when, ISO 8601.
        note: why, where a person chose it.
        unit: whether the score counts images or cases.
    """

    run: str
    rule: str
    score: Interval | None
    time: str
    note: str = ""
    unit: Unit = "image"


class BestRuns(Record):
    """Data folder -> its best run; the data hash stands for a folder that is not known."""

    FILE: ClassVar[str] = BEST
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = (
        "delete it; 'smalti logbook' writes it again, a choice by hand is made again with 'smalti logbook best RUN'"
    )
    OLD: ClassVar[str] = FIX

    bests: dict[str, BestRun]
