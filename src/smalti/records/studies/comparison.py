"""Runs side by side, each against the first: ``comparison.json``."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..layout import COMPARISON
from ..record import Number, Part, Record
from ..scored import HEADLINE, AsGiven, Interval, Margin, Unit

Verdict = Literal["better", "worse", "practically equal", "cannot tell", "no verdict"]


class Difference(Interval):
    """One metric of one run less that of another, on the same cases (see `smalti.evaluate.Difference`).

    Attributes:
        p, p_holm: p-value of no difference, alone and corrected for all pairs.
        smallest_detectable: smallest true difference that a comparison like this one shows with a power of 80 %.
        why: why there is no verdict; empty where there is one.
        p_equal: corrected p-value of a difference of ``margin`` or more.
        margin: within which both are practically equal; 0 where that was not asked.
    """

    p: Number
    p_holm: Number
    smallest_detectable: Number
    verdict: Verdict
    why: str
    p_equal: Number
    margin: float


class ComparedRun(Part):
    """A run or prediction table of a comparison.

    Attributes:
        path: where it is; empty where it is no file.
        against: the run that it is compared with; None for that run itself.
        difference: metric -> difference; None likewise.
        as_given: its scores without decisions that may have been made with predictions in view; None where there are
            no such decisions.
    """

    name: str
    path: str
    n_seeds: int
    metrics: dict[str, Margin]
    against: str | None
    difference: dict[str, Difference] | None
    as_given: AsGiven | None

    @property
    def gap(self) -> Difference | None:
        """The difference of macro-F1."""
        return self.difference[HEADLINE] if self.difference else None


class Comparison(Record):
    """Runs side by side.

    Attributes:
        n_images: images behind the scores.
        n_units: images or cases that were scored, see ``unit``.
        trustworthy, reason: whether the intervals can be trusted, and why.
        notes: what to know when reading it.
    """

    FILE: ClassVar[str] = COMPARISON
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "delete it and run the same 'smalti compare' again"
    OLD: ClassVar[str] = FIX

    names: tuple[str, ...]
    classes: tuple[str, ...]
    unit: Unit
    unit_reason: str
    n_images: int
    n_units: int
    n_cases: int
    confidence: float
    alpha: float
    margin: float
    trustworthy: bool
    reason: str
    notes: tuple[str, ...]
    rows: tuple[ComparedRun, ...]
