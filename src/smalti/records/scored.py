"""Scores with their intervals: one shape from `smalti.evaluate` to the report; ``scores.json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .layout import SCORES
from .record import Number, Part, Record

HEADLINE = "macro_f1"

Unit = Literal["image", "case"]
OTHER: dict[Unit, Unit] = {"image": "case", "case": "image"}


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the first number of a run speaks of.

    Attributes:
        unit: whether images or cases are counted.
        by_case: whether there is an answer by case at all.
        reason: why, in words.
    """

    unit: Unit = "image"
    by_case: bool = False
    reason: str = "not recorded, as in runs of earlier versions"


class Interval(Part):
    """A score with its interval; None where it cannot be computed (the AUC of a class without images)."""

    value: Number
    low: Number
    high: Number

    def say(self) -> str:
        """Return the score with its interval in words."""
        if self.value is None:
            return "not computable"
        bounds = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{bounds}"


class Margin(Interval):
    """A score, its interval, whether that can be trusted, and why."""

    trustworthy: bool
    reason: str


class Score(Margin):
    """A margin with the score of each seed, and what a guess would score.

    Attributes:
        chance_majority: of the most frequent class for every image.
        chance_prior, chance_prior_low, chance_prior_high: of a class drawn for each case with the shares of classes.
    """

    per_seed: tuple[Number, ...]
    chance_majority: Number
    chance_prior: Number
    chance_prior_low: Number
    chance_prior_high: Number


class ClassScore(Part):
    """The scores of one class; ``f1_low`` and ``f1_high`` are the interval of its F1."""

    precision: Number
    recall: Number
    f1: Number
    auc: Number
    support: Number
    f1_low: Number
    f1_high: Number
    f1_trustworthy: bool
    f1_reason: str


class Bin(Part):
    """Confidence against accuracy of some images; None where there are none."""

    confidence: Number
    accuracy: Number
    images: int


class Reliability(Part):
    """Expected calibration error, with the bins that it is a mean over."""

    ece: float
    bins: tuple[Bin, ...]


class Cover(Part):
    """What the intervals cover, and whether that of macro-F1 can be trusted."""

    method: str
    covers: str
    confidence: float
    trustworthy: bool
    reason: str


class AsGiven(Part):
    """What a run scores without the decisions that may have been made with predictions in view.

    Attributes:
        changed: what was changed, in words.
        words: that, with the score.
        n_images, n_cases, metrics: of the labels as given; None where these could not be scored.
    """

    changed: str
    words: str
    n_images: int | None
    n_cases: int | None
    metrics: dict[str, Score] | None


class UnitScores(Part):
    """The scores of one unit, images or cases.

    Attributes:
        n_images: images behind the scores.
        n_units: what was scored.
        n_cases: what must not be parted.
        confusion: (C, C) counts of given (row) and predicted class, mean over seeds.
        inner: metric -> value on the inner images, which made every choice; None where there are none.
        optimism: macro-F1 on these, less that on outer images.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"as_given"})

    classes: tuple[str, ...]
    n_images: int
    n_units: int
    n_cases: int
    n_seeds: int
    n_folds: int
    metrics: dict[str, Score]
    per_class: dict[str, ClassScore]
    confusion: tuple[tuple[float, ...], ...]
    calibration: Reliability
    inner: dict[str, Number] | None
    optimism: Number
    interval: Cover
    as_given: AsGiven | None = None

    @property
    def headline(self) -> Score:
        """Macro-F1."""
        return self.metrics[HEADLINE]


class Scores(UnitScores, Record):
    """``scores.json``: the scores of the unit that comes first, with those of the other beside them.

    Attributes:
        unit: what comes first.
        unit_reason: why, in words.
        by_image, by_case: the scores of the other unit; both None where there is no answer by case.
    """

    FILE: ClassVar[str] = SCORES
    FIX: ClassVar[str] = "run 'smalti evaluate' on this run again"
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"by_image", "by_case", "as_given"})

    unit: Unit
    unit_reason: str
    by_image: UnitScores | None = None
    by_case: UnitScores | None = None

    def take(self, unit: Unit) -> UnitScores | None:
        """Return the scores of one unit; None where there are none."""
        return self if unit == self.unit else getattr(self, f"by_{unit}")

    def dump(self) -> dict[str, object]:
        """Return what the file holds: the unit first, what is scored as given last."""
        content = super().dump()
        given = {key: content.pop(key) for key in ("as_given",) if key in content}
        return {key: content.pop(key) for key in ("unit", "unit_reason")} | content | given
