"""What is done with scores: ``predictions/rules.json`` and ``predictions/ensemble.json``."""

from __future__ import annotations

from typing import ClassVar

from .layout import ENSEMBLE, RULES
from .record import Part, Record


class FoldRule(Part):
    """The rule of one seed and fold, fitted on its inner images.

    Attributes:
        weights: class -> weight.
        n_inner: inner images.
    """

    seed: int
    fold: int
    temperature: float
    weights: dict[str, float]
    n_inner: int

    @property
    def plain(self) -> bool:
        """Whether it leaves every decision as it is."""
        return self.temperature == 1 and len(set(self.weights.values())) <= 1


class Rules(Record):
    """``rules.json``: a rule for each seed and fold."""

    FILE: ClassVar[str] = RULES
    LIST: ClassVar[str] = "rules"

    rules: tuple[FoldRule, ...]


class FoldBlend(Part):
    """How the members of an ensemble were combined in one seed and fold.

    Attributes:
        n_inner: inner images that it was fitted on.
        weights: member -> weight; None where members have none.
        C: of the logistic regression; None for other methods.
        temperature: of what the members make together.
        note: what was special; mostly empty.
    """

    seed: int
    fold: int
    method: str
    n_inner: int
    weights: dict[str, float] | None
    C: float | None
    temperature: float
    note: str


class Ensemble(Record):
    """``ensemble.json``: how the members were combined in each seed and fold."""

    FILE: ClassVar[str] = ENSEMBLE
    LIST: ClassVar[str] = "folds"

    folds: tuple[FoldBlend, ...]
