"""The variation of a number with the cases: resamples and the jackknife.

Cases, not images, are drawn with replacement or left out: images of one patient are alike, and treating them as
independent gives intervals that are too short (Efron & Tibshirani 1993, ch. 8; Davison & Hinkley 1997, ch. 3.8). The
scores of one run (`smalti.evaluate.margins`) and differences of two (`smalti.stats.gap`) stand on the jackknife;
means over maps (`smalti.explain.faithfulness`) have the bias-corrected and accelerated bootstrap interval (BCa; Efron
1987), widened twice for few cases: Student's t with the degrees of freedom that the influence of the single cases
leaves (Satterthwaite 1946; Hesterberg 2015) stands for the normal distribution, and the jackknife's standard error for
the bootstrap's where it is larger (Efron & Stein 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..metrics import (
    METRICS,
    accuracy_of_confusions,
    auc_without_each,
    balanced_accuracy_of_confusions,
    f1_of_confusions,
    image_losses,
    macro_f1_of_confusions,
    mean_present,
    predict_classes,
)
from .pool import Pool

Floats = NDArray[np.float64]
Range = tuple[float, float]  # low, high

LEAST_CASES = 20
LEAST_CASES_OF_CLASS = 5
CHUNK_NUMBERS = 8_000_000  # numbers per block of weights: about 64 MB, whatever the number of cases
CONFUSION_METRICS: dict[str, Callable[[Floats], Floats]] = {
    "macro_f1": macro_f1_of_confusions,
    "balanced_accuracy": balanced_accuracy_of_confusions,
    "accuracy": accuracy_of_confusions,
}


def draw_weights(n_cases: int, *, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """Yield how often each case was drawn, in blocks (r, n_cases) of ``resamples`` rows in all.

    The draws depend on the three numbers only, so two prediction tables of the same cases can be compared on them.
    """
    generator = np.random.default_rng(seed)
    block = int(np.clip(CHUNK_NUMBERS // n_cases, 1, resamples))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, n_cases, size=(size, n_cases)) + n_cases * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_cases).reshape(size, n_cases).astype(np.float64)


def count_confusions(pool: Pool) -> Floats:
    """Return confusion counts of each seed and case, (S, n_cases, C, C)."""
    n_classes = len(pool.classes)
    predicted = predict_classes(pool.scores)  # (S, n)
    cell = (pool.case * n_classes + pool.y_true) * n_classes + predicted  # (S, n)
    length = pool.n_cases * n_classes**2
    counts = [np.bincount(row, minlength=length) for row in cell]
    return np.array(counts, dtype=np.float64).reshape(-1, pool.n_cases, n_classes, n_classes)


@dataclass(frozen=True, slots=True)
class Scored:
    """A pool with its scores without each case in turn.

    Attributes:
        pool: the predictions.
        left_out: name of the metric -> (S, n_cases), one row a seed.
        left_out_f1: (S, n_cases, C) F1 of each class.
    """

    pool: Pool
    left_out: dict[str, Floats]
    left_out_f1: Floats

    def score_seeds(self, metric: str) -> Floats:
        """Score each seed by one metric, (S,)."""
        score = METRICS.find(metric).call
        return np.array([score(self.pool.y_true, scores) for scores in self.pool.scores])


def score_pool(pool: Pool) -> Scored:
    """Score a pool without each case in turn, by every registered metric and by the F1 of each class."""
    counts = count_confusions(pool)
    without = counts.sum(axis=1, keepdims=True) - counts
    number = np.bincount(pool.case, minlength=pool.n_cases).astype(np.float64)  # images of each case
    losses = [image_losses(pool.y_true, scores) for scores in pool.scores]
    loss = np.array([np.bincount(pool.case, weights=row, minlength=pool.n_cases) for row in losses])  # (S, n_cases)
    values = {name: score(without) for name, score in CONFUSION_METRICS.items()}
    left = number.sum() - number
    values["log_loss"] = np.divide(
        loss.sum(axis=1, keepdims=True) - loss, left, out=np.full(loss.shape, np.nan), where=left > 0
    )
    aucs = np.array(
        [
            [auc_without_each(pool.y_true == c, scores[:, c], group=pool.case) for c in range(len(pool.classes))]
            for scores in pool.scores
        ]
    )  # (S, C, n_cases)
    values["auc"] = mean_present(np.moveaxis(aucs, 1, 2), ~np.isnan(np.moveaxis(aucs, 1, 2)))
    return Scored(pool, values, f1_of_confusions(without))


@dataclass(frozen=True, slots=True)
class Spread:
    """The variation of one number with the cases.

    Attributes:
        value: the number on all cases.
        error: its standard error, the larger of bootstrap and jackknife.
        degrees: degrees of freedom of that error.
        drawn: (R,) under each resample, without NaN.
        acceleration: of BCa.
    """

    value: float
    error: float
    degrees: float
    drawn: Floats
    acceleration: float

    def find_interval(self, *, confidence: float) -> Range:
        """Return the interval (low, high); NaN without any draw, of zero width where all draws are equal."""
        if not self.drawn.size or np.isnan(self.value):
            return float("nan"), float("nan")
        own = float(self.drawn.std(ddof=1)) if self.drawn.size > 1 else 0.0
        if own <= 1e-12:
            return self.value, self.value
        z = float(stats.t.ppf((1 + confidence) / 2, self.degrees)) * max(1.0, self.error / own)
        low, high = np.quantile(self.drawn, find_levels(self.drawn, self.value, self.acceleration, z=z))
        return float(low), float(high)


def measure_spread(value: float, drawn: Floats, left_out: Floats) -> Spread:
    """Return the variation of a number from its resamples (R,) and leave-one-out values (n,)."""
    present = drawn[~np.isnan(drawn)]
    own = float(present.std(ddof=1)) if present.size > 1 else 0.0
    error, degrees = measure_error(left_out)
    influence = np.nanmean(left_out) - left_out[~np.isnan(left_out)] if error > 0 else np.zeros(1)
    acceleration = float((influence**3).sum() / (6 * (influence**2).sum() ** 1.5)) if error > 0 else 0.0
    return Spread(value, max(own, error), degrees, present, acceleration)


def measure_error(left_out: Floats) -> tuple[float, float]:
    """Return the jackknife's standard error from leave-one-out values (n,), without NaN, and its degrees of freedom.

    The error is 0 where fewer than three values are known or all are equal.
    """
    known = left_out[~np.isnan(left_out)]
    if known.size < 3:
        return 0.0, 2.0
    influence = known.mean() - known
    variance = float((influence**2).sum())
    if variance <= 1e-24:
        return 0.0, float(known.size - 1)
    return float(np.sqrt((known.size - 1) / known.size * variance)), count_degrees(influence)


def count_degrees(influence: Floats) -> float:
    """Return the degrees of freedom of a sum of squared influences (n,), 2 to n - 1 (Satterthwaite 1946)."""
    squares = influence**2
    total = squares.sum()
    scatter = (squares**2).sum() - total**2 / len(influence)
    return float(np.clip(2 * total**2 / max(scatter, 1e-300), 2, max(2, len(influence) - 1)))


def find_levels(drawn: Floats, value: float, acceleration: float, *, z: float) -> Floats:
    """Return quantile levels (2,) of the BCa interval for a normal or wider critical value ``z`` (Efron 1987)."""
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / drawn.size, 1 - 1 / drawn.size))
    shifted = bias + np.array([-z, z])
    room = 1 - acceleration * shifted
    # Beyond its pole the correction has no meaning; its limit is the end of the distribution.
    levels = np.where(room > 0, stats.norm.cdf(bias + shifted / np.where(room > 0, room, 1)), shifted > 0)
    return np.asarray(levels, dtype=np.float64)


def judge_trust(pool: Pool, *, by_class: bool = True) -> tuple[bool, str]:
    """Return whether there are enough cases for an interval, ``by_class`` also of each class, and the reason."""
    with_class = (pool.count_labels() > 0).sum(axis=0)
    few = [f"{name} ({n})" for name, n in zip(pool.classes, with_class, strict=True) if n < LEAST_CASES_OF_CLASS]
    reasons = []
    if pool.n_cases < LEAST_CASES:
        count = "is only 1 case" if pool.n_cases == 1 else f"are only {pool.n_cases} cases"
        reasons.append(f"there {count} (at least {LEAST_CASES} are needed)")
    if few and by_class:
        reasons.append(f"classes with fewer than {LEAST_CASES_OF_CLASS} cases: {', '.join(few)}")
    if reasons:
        return False, "; ".join(reasons)
    return True, f"{pool.n_cases} cases" + (f", every class in {with_class.min()} cases or more" if by_class else "")
