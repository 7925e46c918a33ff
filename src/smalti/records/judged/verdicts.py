"""``gate.json``: what was tried on the inner cases of each fold, and whether it was kept."""

from __future__ import annotations

from typing import ClassVar

from ..layout import GATE
from ..record import Number, Part, Record


class GateVerdict(Part):
    """One part of training that was tried in one fold, without and with it on the same inner cases.

    Attributes:
        part: what was tried.
        metric: what had to gain.
        n_images, n_cases: inner images and cases.
        n_trainings: trainings on each side; a turn of a repeat is one.
        before, after: the metric without and with the part, mean over repeats; None where nothing could be tried.
        gain: the difference, positive where the part is better; ``low`` and ``high`` are its interval.
        confidence: of the interval.
        wrong: chance that the verdict is wrong: that a kept part does harm, or that a dropped one helps.
        cost: what the verdict loses by that on average, in the unit of the metric.
        macro_f1_before, macro_f1_after: the headline on the same scores.
        kept: the verdict.
        reason: why.
        about: numbers of the part itself, in words.
    """

    seed: int
    fold: int
    part: str
    metric: str
    n_images: int
    n_cases: int
    n_trainings: int
    before: Number
    after: Number
    gain: Number
    low: Number
    high: Number
    confidence: float
    wrong: Number
    cost: Number
    macro_f1_before: Number
    macro_f1_after: Number
    kept: bool
    reason: str
    about: str


class GateRecord(Record):
    """``gate.json``: one verdict for each part, fold and seed."""

    FILE: ClassVar[str] = GATE
    LIST: ClassVar[str] = "verdicts"

    verdicts: tuple[GateVerdict, ...]
