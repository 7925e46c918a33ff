"""How a number varies with the cases: resamples and the jackknife.

Cases, not images, are drawn with replacement: images of one patient are alike, and treating them as independent gives
intervals that are too short (Efron & Tibshirani 1993, ch. 8; Davison & Hinkley 1997, ch. 3.8). All seeds see the same
draw, and the score of a draw is the mean over seeds, as the reported score is. The scores of one run have intervals of
their own (`smalti.evaluate.margins`), which need no resamples.

The interval is the bias-corrected and accelerated one (BCa; Efron 1987). With the 30 to 100 cases of this field it is
still too short, because macro-F1 hangs on the few cases of the rarest class, so it is widened twice: Student's t with
the degrees of freedom that the influence of the single cases leaves (Satterthwaite 1946; Hesterberg 2015) stands for
the normal distribution, and the jackknife's standard error for the bootstrap's where it is larger (Efron & Stein
1981). It covers another sample of cases, scored by the *same* networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
    weighted_auc,
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


@dataclass(frozen=True, slots=True)
class Replicates:
    """Scores under R weightings of the cases.

    Attributes:
        metrics: name of the metric -> (S, R), one row a seed.
        f1: (S, R, C) F1 of each class.
    """

    metrics: dict[str, Floats]
    f1: Floats


def draw_weights(n_cases: int, *, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """How often each case was drawn, in blocks (r, n_cases) that sum to ``resamples`` rows.

    The draws depend on the three numbers only, so two prediction tables of the same cases can be compared on them.
    """
    generator = np.random.default_rng(seed)
    block = int(np.clip(CHUNK_NUMBERS // n_cases, 1, resamples))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, n_cases, size=(size, n_cases)) + n_cases * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_cases).reshape(size, n_cases).astype(np.float64)


def count_confusions(pool: Pool) -> Floats:
    """Confusion counts of each case and seed, (S, n_cases, C, C)."""
    n_classes = len(pool.classes)
    predicted = predict_classes(pool.scores)  # (S, n)
    cell = (pool.case * n_classes + pool.y_true) * n_classes + predicted  # (S, n)
    length = pool.n_cases * n_classes**2
    counts = [np.bincount(row, minlength=length) for row in cell]
    return np.array(counts, dtype=np.float64).reshape(-1, pool.n_cases, n_classes, n_classes)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A pool scored as it is, under resamples of its cases, and without each case in turn.

    Attributes:
        drawn: R = number of resamples.
        left_out: R = number of cases.
    """

    pool: Pool
    drawn: Replicates
    left_out: Replicates

    def score_seeds(self, metric: str) -> Floats:
        """One metric in each seed, (S,)."""
        score = METRICS.find(metric).build
        return np.array([score(self.pool.y_true, scores) for scores in self.pool.scores])

    def measure(self, metric: str) -> Spread:
        """One metric, mean over seeds, with its spread."""
        value = float(self.score_seeds(metric).mean())
        drawn, left_out = self.drawn.metrics[metric], self.left_out.metrics[metric]
        return measure_spread(value, drawn.mean(axis=0), left_out.mean(axis=0))


def resample_cases(pool: Pool, *, resamples: int, seed: int = 0) -> Resampled:
    """Every registered metric, and the F1 of each class, under resamples of the cases and without each case."""
    drawn = draw_weights(pool.n_cases, resamples=resamples, seed=seed)
    return Resampled(pool, _score_weights(pool, drawn), leave_out_cases(pool))


def leave_out_cases(pool: Pool) -> Replicates:
    """All metrics without each case in turn."""
    counts = count_confusions(pool)
    without = counts.sum(axis=1, keepdims=True) - counts
    number, loss = _sum_losses(pool)
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
    return Replicates(values, f1_of_confusions(without))


def _score_weights(pool: Pool, blocks: Iterable[Floats]) -> Replicates:
    """All metrics under blocks (r, n_cases) of weights."""
    counts = count_confusions(pool)
    n_seeds, n_cases, n_classes, _ = counts.shape
    flat = counts.reshape(n_seeds, n_cases, -1)
    number, loss = _sum_losses(pool)
    values: dict[str, list[Floats]] = {entry.name: [] for entry in METRICS}
    f1 = []
    for weights in blocks:
        drawn = (weights @ flat).reshape(n_seeds, len(weights), n_classes, n_classes)
        for name, score in CONFUSION_METRICS.items():
            values[name].append(score(drawn))
        values["auc"].append(_score_auc(pool, weights))
        values["log_loss"].append((weights @ loss.T).T / (weights @ number))
        f1.append(f1_of_confusions(drawn))
    joined = {name: np.concatenate(parts, axis=1) for name, parts in values.items()}
    return Replicates(joined, np.concatenate(f1, axis=1))


@dataclass(frozen=True, slots=True)
class Spread:
    """How one number varies with the cases.

    Attributes:
        value: the number on all cases.
        error: its standard error, the larger of bootstrap and jackknife.
        degrees: degrees of freedom of that error.
        drawn: (R,) under each resample, NaN left out.
        acceleration: of BCa.
    """

    value: float
    error: float
    degrees: float
    drawn: Floats
    acceleration: float

    def find_interval(self, *, confidence: float, error: float | None = None, degrees: float | None = None) -> Range:
        """The interval (low, high); another error and degrees of freedom widen it.

        NaN where nothing could be drawn; without width where no draw differs.
        """
        if not self.drawn.size or np.isnan(self.value):
            return float("nan"), float("nan")
        own = float(self.drawn.std(ddof=1)) if self.drawn.size > 1 else 0.0
        if own <= 1e-12:
            return self.value, self.value
        critical = stats.t.ppf((1 + confidence) / 2, degrees or self.degrees)
        z = float(critical) * max(1.0, (error or self.error) / own)
        low, high = np.quantile(self.drawn, find_levels(self.drawn, self.value, self.acceleration, z=z))
        return float(low), float(high)


def measure_spread(value: float, drawn: Floats, left_out: Floats) -> Spread:
    """Error, degrees of freedom and acceleration of a number from its resamples (R,) and leave-one-out values (n,)."""
    present = drawn[~np.isnan(drawn)]
    own = float(present.std(ddof=1)) if present.size > 1 else 0.0
    known = left_out[~np.isnan(left_out)]
    if known.size < 3:
        return Spread(value, own, np.inf if left_out.size == 0 else 2.0, present, 0.0)
    influence = known.mean() - known
    variance = float((influence**2).sum())
    if variance <= 1e-24:
        return Spread(value, own, float(known.size - 1), present, 0.0)
    error = float(np.sqrt((known.size - 1) / known.size * variance))
    acceleration = float((influence**3).sum() / (6 * variance**1.5))
    return Spread(value, max(own, error), count_degrees(influence), present, acceleration)


def count_degrees(influence: Floats) -> float:
    """Degrees of freedom of a variance that is a sum of squared influences (n,), 2 to n - 1 (Satterthwaite 1946)."""
    squares = influence**2
    total = squares.sum()
    scatter = (squares**2).sum() - total**2 / len(influence)
    return float(np.clip(2 * total**2 / max(scatter, 1e-300), 2, max(2, len(influence) - 1)))


def find_levels(drawn: Floats, value: float, acceleration: float, *, z: float) -> Floats:
    """Quantile levels (2,) of the BCa interval for a normal (or wider) critical value ``z`` (Efron 1987, eq. 2.3)."""
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / drawn.size, 1 - 1 / drawn.size))
    shifted = bias + np.array([-z, z])
    room = 1 - acceleration * shifted
    # Past its pole the correction has no meaning; the end of the distribution is what it tends to.
    levels = np.where(room > 0, stats.norm.cdf(bias + shifted / np.where(room > 0, room, 1)), shifted > 0)
    return np.asarray(levels, dtype=np.float64)


def find_range(values: Floats, *, confidence: float) -> Range:
    """The middle share of values (R,), NaN left out; NaN where none is left."""
    present = values[~np.isnan(values)]
    if not present.size:
        return float("nan"), float("nan")
    low, high = np.percentile(present, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def judge_trust(pool: Pool, *, by_class: bool = True) -> tuple[bool, str]:
    """Whether there are cases enough for an interval, ``by_class`` also of each class, and the reason in words."""
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


def _sum_losses(pool: Pool) -> tuple[Floats, Floats]:
    """Images of each case (n_cases,), and their summed log loss (S, n_cases)."""
    number = np.bincount(pool.case, minlength=pool.n_cases).astype(np.float64)
    losses = [image_losses(pool.y_true, scores) for scores in pool.scores]
    return number, np.array([np.bincount(pool.case, weights=row, minlength=pool.n_cases) for row in losses])


def _score_auc(pool: Pool, weights: Floats) -> Floats:
    """Macro AUC under weights (R, n_cases), (S, R)."""
    of_images = np.ascontiguousarray(weights.T)[pool.case]  # (n, R)
    by_seed = []
    for scores in pool.scores:
        values = np.array(
            [weighted_auc(pool.y_true == c, scores[:, c], weights=of_images) for c in range(len(pool.classes))]
        )
        by_seed.append(mean_present(values.T, ~np.isnan(values.T)))
    return np.array(by_seed)
