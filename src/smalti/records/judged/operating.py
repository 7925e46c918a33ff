"""``operating.json``: what a run of two classes is worth at a threshold."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..layout import OPERATING
from ..record import Number, Part, Record
from ..scored import Interval, Margin, Unit


class CurvePoint(Part):
    """The net benefit at one threshold of the probability.

    Attributes:
        treat_all: net benefit of calling everything positive; that of calling nothing positive is 0.
        gain: net benefit above the better of these two, paired by case.
    """

    threshold: float
    net_benefit: Interval
    treat_all: float
    gain: Interval


class OperatingPoint(Part):
    """Sensitivity and specificity at thresholds that were chosen on inner images.

    Attributes:
        asked: the measure that the thresholds were to reach on the inner images.
        target: the value that was asked for.
        inner: what they reached there, mean over folds and seeds.
        lowest, highest: the range of the thresholds over folds and seeds, as calibrated probabilities.
    """

    asked: Literal["specificity", "sensitivity"]
    target: float
    inner: float
    lowest: float
    highest: float
    sensitivity: Margin
    specificity: Margin


class Operating(Record):
    """``operating.json``: decision curve and operating points.

    Attributes:
        positive, negative: the classes.
        positive_reason: why this one is the positive class, in words.
        unit: what is counted.
        n_positive: of ``n_units``.
        confidence: of the intervals, which draw cases ``resamples`` times.
        calibrated: how probabilities were made of scores, in words.
        covers: what the intervals cover, in words.
        missing: why there are no numbers; empty where there are.
    """

    FILE: ClassVar[str] = OPERATING
    FIX: ClassVar[str] = "run 'smalti evaluate' on this run again"

    positive: str
    negative: str
    positive_reason: str
    unit: Unit
    n_units: int
    n_positive: int
    n_cases: int
    n_seeds: int
    confidence: float
    resamples: int
    calibrated: str
    covers: str
    missing: str = ""
    prevalence: Number = None
    points: tuple[OperatingPoint, ...] = ()
    curve: tuple[CurvePoint, ...] = ()

    def find_useful(self) -> tuple[float, float] | None:
        """Return the longest range of thresholds at which the gain is above 0 by its interval; None without any."""
        ranges: list[tuple[float, float]] = []
        start: float | None = None
        for point in self.curve:
            useful = point.gain.low is not None and point.gain.low > 0
            if useful:
                start = point.threshold if start is None else start
                ranges.append((start, point.threshold))
            else:
                start = None
        return max(ranges, key=lambda found: found[1] - found[0], default=None)
