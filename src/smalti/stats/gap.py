"""A difference between two runs as Student's t: interval, p-value, and the smallest difference it can detect.

Its variance is that of the cases plus what networks add (cluster-robust variance in two directions, Cameron, Gelbach &
Miller 2011). The degrees of freedom follow Satterthwaite (1946), in which the squared sum between networks counts by
itself: few networks estimate it badly, with or without the share of the cases. Interval and p-value are of one t, so
the interval excludes zero if and only if p is below 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ..metrics import LOWER_IS_BETTER
from .intervals import Scored, measure_error
from .luck import Luck, measure_luck_of_difference

Floats = NDArray[np.float64]

BY_CLASS = ("macro_f1", "balanced_accuracy")
POWER = 0.8
NO_ERROR = 1e-12
DRAWS = (np.arange(40) + 0.5) / 40  # quantiles at which the luck of a comparison to come is looked at


@dataclass(frozen=True, slots=True)
class Gap:
    """A difference and how sure it is.

    Attributes:
        value: the difference.
        variance, degrees: its variance from cases, and the degrees of freedom of that.
        luck: how it varies between networks.
        level: (K, 2) the scores F, 0 to 1, whose mean the metric is, and the number of cases behind each; empty
            for a metric without bounds.
        floor: least variance from luck.
        unit: largest change of the metric by one case; infinite for a metric without a test of equality.
    """

    value: float
    variance: float
    degrees: float
    luck: Luck
    level: Floats
    floor: float = 0.0
    unit: float = float("inf")

    @property
    def p(self) -> float:
        """Two-sided p-value; 1 without any error, since nothing varied."""
        error, degrees = self.find_error(self.luck)
        return float(2 * stats.t.sf(abs(self.value) / error, degrees)) if error > NO_ERROR else 1.0

    def find_equal_p(self, margin: float) -> float:
        """Find the p-value of the hypothesis that the difference is as large as ``margin`` or larger, either way.

        The larger of two one-sided tests (TOST: Schuirmann 1987; Lakens 2017). Where hardly any case tells the two
        apart, the cases vary less than they would at the margin: single cases that each move the metric by `unit` add
        up to a difference as large as the margin with a variance of margin times unit, which is the least that counts,
        as in a score test.
        """
        if not 0 < margin < np.inf or not np.isfinite(self.unit):
            return 1.0
        careful = replace(self, variance=max(self.variance, margin * self.unit))
        error, degrees = careful.find_error(self.luck)
        return float(stats.t.sf((margin - abs(self.value)) / error, degrees))

    def find_interval(self, *, confidence: float) -> tuple[float, float]:
        """Find the interval (low, high); NaN for a difference without any variation, except a difference of 0."""
        error, degrees = self.find_error(self.luck)
        if error <= NO_ERROR:
            return (self.value, self.value) if abs(self.value) <= NO_ERROR else (float("nan"), float("nan"))
        half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
        return self.value - half, self.value + half

    def find_error(self, luck: Luck) -> tuple[float, float]:
        """Find standard error and degrees of freedom under this luck."""
        if luck.degrees < 1 or self.variance <= 0:
            return float(np.sqrt(self.variance)), self.degrees
        total = self.variance + max(0.0, luck.exceeding, self.floor)
        noise = self.variance**2 / self.degrees + (luck.noise if luck.exceeding >= self.floor else 0.0)
        return float(np.sqrt(total)), max(1.0, min(total**2 / noise, self.degrees))

    def find_smallest(self, *, alpha: float) -> float:
        """Find the true gain that a two-sided test at ``alpha`` detects with a power of 80 %; NaN without any error.

        The luck of a future comparison is drawn again, so its power is a mean over the luck of its networks, each by
        the noncentral t distribution (Cohen 1988, ch. 2). A recipe that gains also varies differently: its variance
        follows F (1 - F), as that of a share does.
        """
        if self.find_error(self.luck)[0] <= NO_ERROR:
            return float("nan")
        variance, draws = self.variance, [self.luck]
        if self.luck.degrees >= 1:
            # The test cuts luck off at zero, as here; the variance of the difference itself is not cut off.
            between = self.luck.within + max(0.0, self.luck.exceeding, self.floor)
            scale = stats.chi2.ppf(DRAWS, self.luck.degrees) / self.luck.degrees
            draws = [replace(self.luck, between=between * one) for one in scale]
            exceeding = max(self.luck.exceeding, self.floor) if self.floor > 0 else self.luck.exceeding
            variance = max(self.variance + exceeding, self.variance / 2)
        error = np.sqrt(variance)
        errors, degrees = np.array([self.find_error(luck) for luck in draws]).T
        critical = stats.t.ppf(1 - alpha / 2, degrees) * errors / error
        top = float(critical.max()) + 5
        reach = optimize.brentq(lambda r: stats.nct.sf(critical, self.degrees, r).mean() - POWER, 0.0, top, xtol=1e-3)
        plain = float(reach * error)  # the gain that is just detected, without any change of variance
        if not self.level.size:
            return plain
        start = np.clip(self.level[:, 0], 0.02, 0.98)
        gains = np.linspace(0, 0.95 * (1 - start.mean()), 60)
        # All scores move alike on the logit scale; the variance of their mean after each gain, over that before.
        shifts = np.linspace(0, 12, 400)
        moved = special.expit(special.logit(start) + shifts[:, None])  # (400, K)
        at = np.interp(gains, moved.mean(axis=1) - start.mean(), np.arange(len(shifts)))
        spreads = (moved * (1 - moved) / self.level[:, 1]).sum(axis=1)
        rise = np.interp(at, np.arange(len(shifts)), spreads) / spreads[0]
        needed = plain * np.sqrt((1 + rise) / 2)
        enough = np.flatnonzero(gains >= needed)
        if not enough.size:  # not even a nearly perfect recipe would be detected
            return float(needed[-1])
        last = enough[0] + 1
        return float(np.interp(0.0, (gains - needed)[:last], gains[:last]))


def measure_gap(first: Scored, second: Scored, metric: str) -> Gap:
    """Return the difference of one metric, first minus second, with its variance from cases and from the luck of single
    trainings."""
    values = [run.score_seeds(metric).mean() for run in (first, second)]
    left_out = first.left_out[metric].mean(axis=0) - second.left_out[metric].mean(axis=0)
    error, degrees = measure_error(left_out)
    images = first.pool.count_labels()  # (n_cases, C)
    level, unit = np.empty((0, 2)), float("inf")
    if metric in BY_CLASS:  # a mean of the F1 of classes
        f1 = np.mean([run.left_out_f1.mean(axis=(0, 1)) for run in (first, second)], axis=0)
        level = np.column_stack([f1, np.maximum(1, (images > 0).sum(axis=0))])
    elif metric not in LOWER_IS_BETTER:
        level = np.array([[np.mean(values), 1.0]])
    if metric not in LOWER_IS_BETTER:
        # One over the effective number of cases, of the rarest class. Images of a case may all change at once, and then
        # few cases carry the difference.
        counts = images if metric != "accuracy" else images.sum(axis=1, keepdims=True)
        held = counts.sum(axis=0)
        shares = (counts[:, held > 0] ** 2).sum(axis=0) / held[held > 0] ** 2
        unit = float(shares.max() / len(shares))
    luck = measure_luck_of_difference(first, second, metric)
    return Gap(float(values[0] - values[1]), error**2, degrees, luck, level, unit=unit)


def raise_luck(gaps: Sequence[Gap]) -> list[Gap]:
    """Give each difference of a family at least the mean luck of all: among many, some networks agree by chance."""
    known = [gap.luck.exceeding for gap in gaps if gap.luck.degrees >= 1]
    if len(known) < 2:
        return list(gaps)
    return [replace(gap, floor=max(0.0, float(np.mean(known)))) for gap in gaps]
