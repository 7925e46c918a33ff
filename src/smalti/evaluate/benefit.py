"""What a classifier of two classes is worth at a threshold: decision curve and operating points.

Net benefit weighs what is found against false alarms, at the exchange rate that a threshold of the probability implies:
whoever acts from a probability of 0.2 on takes four false alarms for one find (Vickers & Elkin 2006). A probability
must therefore mean what it says. Scores are recalibrated on the inner images of each fold and seed (slope and
intercept of the logit; Cox 1958, Platt 1999). Thresholds for a wanted sensitivity or specificity are chosen on the
same inner images. Outer images choose nothing: they score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from ..records import CurvePoint, Interval, Margin, Operating, OperatingPoint, Unit
from ..stats.intervals import draw_weights, judge_trust, measure_spread
from ..stats.pool import Pool, check_predictions, index_labels, pool_predictions
from ..types import score_columns

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TARGETS = (0.8, 0.9, 0.95)
THRESHOLDS = np.arange(1, 100) / 100
IMAGINED_CASES = 5.0  # labelled as the scores say; they hold slope and intercept where inner cases are few
SMALLEST_SCORE = 1e-6
FLATTEST, STEEPEST, FARTHEST = 0.1, 10.0, 10.0  # slope and intercept are sought within
LEAST_ERRORS = 5
CALIBRATED = "slope and intercept of the logit, fitted on the inner images of each fold and seed"


@dataclass(frozen=True, slots=True)
class Line:
    """A recalibration: the logit of a probability is ``slope`` times that of the score, plus ``intercept``."""

    slope: float
    intercept: float

    def apply(self, scores: Floats) -> Floats:
        """Return probabilities of scores of the positive class (n,)."""
        return np.asarray(1 / (1 + np.exp(-(self.slope * _find_logits(scores) + self.intercept))), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Settled:
    """The outer part after calibration: probabilities (S, n), and what each target calls positive (T, S, n)."""

    probability: Floats
    called: Bools
    thresholds: Floats  # (T, number of networks)
    reached: Floats  # (T,) on inner images


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of all cases, of each resample (R, ...), and without each case in turn (n_cases, ...)."""

    whole: Floats
    drawn: Floats
    left_out: Floats

    def take(self, column: int) -> _Counts:
        """Return one column."""
        return _Counts(self.whole[column], self.drawn[:, column], self.left_out[:, column])

    def find_interval(self, confidence: float) -> Interval:
        """Return the number with its interval by case."""
        low, high = measure_spread(float(self.whole), self.drawn, self.left_out).find_interval(confidence=confidence)
        return Interval(value=float(self.whole), low=low, high=high)

    def __sub__(self, other: _Counts) -> _Counts:
        return _Counts(*(a - b for a, b in zip(self.list_parts(), other.list_parts(), strict=True)))

    def __rmul__(self, factor: float) -> _Counts:
        return _Counts(*(factor * part for part in self.list_parts()))

    def __truediv__(self, other: _Counts) -> _Counts:
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw without any case of a class
            return _Counts(*(a / b for a, b in zip(self.list_parts(), other.list_parts(), strict=True)))

    def list_parts(self) -> tuple[Floats, Floats, Floats]:
        return self.whole, self.drawn, self.left_out


def fit_line(positive: Bools, scores: Floats, cases: NDArray[np.generic]) -> Line:
    """Fit slope and intercept of the logit by log loss.

    Args:
        positive: (n,) whether an inner image is of the positive class.
        scores: (n,) its score of that class.
        cases: (n,) its case. Imagined cases that are labelled as the scores say are added, which draws the line towards
            leaving scores as they are (Diaconis & Ylvisaker 1979).
    """
    logits, weight = _find_logits(scores), IMAGINED_CASES / np.unique(cases).size
    wanted = positive + weight * 1 / (1 + np.exp(-logits))  # soft labels of both parts, weighted

    def loss(line: Floats) -> tuple[float, Floats]:
        moved = line[0] * logits + line[1]
        value = float(((1 + weight) * np.logaddexp(0, moved) - wanted * moved).mean())
        slack = (1 + weight) / (1 + np.exp(-moved)) - wanted
        return value, np.array([(slack * logits).mean(), slack.mean()])

    found = optimize.minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B",
        bounds=[(FLATTEST, STEEPEST), (-FARTHEST, FARTHEST)], options={"ftol": 1e-12, "gtol": 1e-9},
    )  # fmt: skip
    return Line(float(found.x[0]), float(found.x[1]))


def choose_threshold(positive: Bools, probability: Floats, asked: str, target: float) -> tuple[float, float]:
    """Return the threshold that reaches a target at the least cost of the other measure, and what it reaches.

    From the threshold on an image is called positive. For specificity it is the lowest that reaches the target, for
    sensitivity the highest.

    Args:
        positive: (n,) the truth; both kinds are there.
        probability: (n,) of being positive.
        asked: ``specificity`` or ``sensitivity``.
        target: least share, 0 to 1.
    """
    candidates = np.unique(probability)
    if asked == "sensitivity":
        missed = np.searchsorted(np.sort(probability[positive]), candidates, side="left")
        reached = 1 - missed / positive.sum()
        best = int(np.flatnonzero(reached >= target - 1e-12)[-1])
        return float(candidates[best]), float(reached[best])
    candidates = np.append(candidates, np.nextafter(candidates[-1], 2.0))  # nothing is called positive
    reached = np.searchsorted(np.sort(probability[~positive]), candidates, side="left") / (~positive).sum()
    best = int(np.flatnonzero(reached >= target - 1e-12)[0])
    return float(candidates[best]), float(reached[best])


def measure_operating(
    out_of_fold: pd.DataFrame,
    inner: pd.DataFrame | None,
    *,
    classes: Sequence[str],
    positive: str | None = None,
    unit: Unit = "image",
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Operating:
    """Measure decision curve and operating points of a run of two classes.

    Args:
        out_of_fold: the table that scores, as in `score_predictions`; one row is what is counted.
        inner: the table that chooses, of the same unit; None where there is none.
        classes: two names in score order.
        positive: the positive class; None takes the second.
        unit: what a row is.
        confidence, resamples: of the intervals.

    Raises:
        DataError: a table cannot be used; every problem at once.
    """
    pool = pool_predictions(out_of_fold, classes=tuple(classes))
    column = 1 if positive is None else list(classes).index(positive)
    truth = pool.y_true == column
    settled = _settle(pool, out_of_fold, inner, column)
    networks = "these very networks and thresholds"
    common = Operating(
        positive=classes[column],
        negative=classes[1 - column],
        positive_reason="named by data.positive" if positive else "the second class; data.positive names another",
        unit=unit,
        n_units=len(truth),
        n_positive=int(truth.sum()),
        n_cases=pool.n_cases,
        n_seeds=len(pool.scores),
        confidence=confidence,
        resamples=resamples,
        calibrated=CALIBRATED,
        covers=f"other cases like these, scored by {networks}",
        prevalence=float(truth.mean()),
    )
    if isinstance(settled, str):
        return common.model_copy(update={"missing": settled})
    counts, with_errors = _count(pool, truth, settled, resamples)
    points = _measure_points(pool, truth, settled, counts, confidence)
    return common.model_copy(update={"points": points, "curve": _measure_curve(counts, with_errors, confidence)})


def _settle(pool: Pool, out_of_fold: pd.DataFrame, inner: pd.DataFrame | None, column: int) -> _Settled | str:
    """Calibrate each fold and seed and choose its thresholds on inner images; or say why that cannot be done."""
    if inner is None:
        return "there are no inner predictions to choose thresholds on"
    table = check_predictions(inner, classes=pool.classes)
    seeds = [0] if "seed" not in out_of_fold else sorted(set(out_of_fold["seed"].astype(int)))
    truth = index_labels(table, classes=pool.classes) == column
    scores = table[score_columns(pool.classes)[column]].to_numpy(dtype=np.float64)
    keys = table[["seed", "fold"]].to_numpy(dtype=np.int64)
    probability = np.empty(pool.scores.shape[:2])
    called = np.empty((2 * len(TARGETS), *probability.shape), dtype=bool)
    thresholds, reached = [], []
    for row, seed in enumerate(seeds):
        for fold in np.unique(pool.fold[row]):
            chosen = (keys == (seed, fold)).all(axis=1)
            own = truth[chosen]
            if not 0 < own.sum() < own.size:
                return f"fold {fold} of seed {seed} has no inner images of both classes"
            line = fit_line(own, scores[chosen], table["case"].to_numpy(dtype=str)[chosen])
            outer = pool.fold[row] == fold
            probability[row, outer] = line.apply(pool.scores[row, outer, column])
            pairs = [choose_threshold(own, line.apply(scores[chosen]), *target) for target in _list_targets()]
            called[:, row, outer] = [probability[row, outer] >= threshold for threshold, _ in pairs]
            thresholds.append([threshold for threshold, _ in pairs])
            reached.append([share for _, share in pairs])
    return _Settled(probability, called, np.array(thresholds).T, np.mean(reached, axis=0))


def _list_targets() -> list[tuple[Literal["specificity", "sensitivity"], float]]:
    return [("specificity", target) for target in TARGETS] + [("sensitivity", target) for target in TARGETS]


def _count(pool: Pool, truth: Bools, settled: _Settled, resamples: int) -> tuple[_Counts, _Counts]:
    """Count what is right and wrong at every threshold and target; and the same with two imagined errors.

    Where hardly a case is missed, no resample knows that others can be. One case of the positive class that is missed,
    and one of the other that is a false alarm, are therefore imagined for the lower ends of the curve.
    """
    called = [settled.probability >= threshold for threshold in THRESHOLDS]
    marked = [np.ones((1, len(truth)), dtype=bool), truth[None]]
    marked += [row & kind for kind in (truth, ~truth) for row in called]
    marked += [row & truth for row in settled.called] + [~row & ~truth for row in settled.called]
    # How many units of each case are marked, mean over seeds.
    of_case = np.array([np.bincount(pool.case, row.mean(axis=0), pool.n_cases) for row in marked]).T
    errors = np.zeros((2, of_case.shape[1]))
    errors[:, 0] = len(truth) / pool.n_cases  # a case of the usual size
    errors[0, 1] = errors[1, 2 + len(THRESHOLDS) : 2 + 2 * len(THRESHOLDS)] = errors[0, 0]
    return _resample(of_case, resamples), _resample(np.vstack([of_case, errors]), resamples)


def _resample(of_case: Floats, resamples: int) -> _Counts:
    """Sum the numbers of cases (n_cases, K): all, drawn with replacement, and without each in turn."""
    drawn = np.concatenate([weights @ of_case for weights in draw_weights(len(of_case), resamples=resamples)])
    return _Counts(of_case.sum(axis=0), drawn, of_case.sum(axis=0) - of_case)


def _measure_points(
    pool: Pool, truth: Bools, settled: _Settled, counts: _Counts, confidence: float
) -> tuple[OperatingPoint, ...]:
    points = []
    first = 2 + 2 * len(THRESHOLDS)
    for i, (asked, target) in enumerate(_list_targets()):
        of_class = counts.take(1), counts.take(0) - counts.take(1)
        hits = counts.take(first + i), counts.take(first + len(settled.called) + i)
        shares = []
        for right, number, kind, row in zip(
            hits, of_class, (truth, ~truth), (settled.called[i], ~settled.called[i]), strict=True
        ):
            cases = np.unique(pool.case[kind]).size
            errors = float(np.mean([np.unique(pool.case[kind & ~seed]).size for seed in row]))
            shares.append(_measure_share(pool, right / number, cases=cases, errors=errors, confidence=confidence))
        points.append(
            OperatingPoint(
                asked=asked,
                target=target,
                inner=float(settled.reached[i]),
                lowest=float(settled.thresholds[i].min()),
                highest=float(min(settled.thresholds[i].max(), 1.0)),
                sensitivity=shares[0],
                specificity=shares[1],
            )
        )
    return tuple(points)


def _measure_share(pool: Pool, share: _Counts, *, cases: int, errors: float, confidence: float) -> Margin:
    """Return a share of a class with its interval; where all or none are right that of ``cases`` single answers."""
    value, tail = float(share.whole), (1 - confidence) / 2
    low, high = measure_spread(value, share.drawn, share.left_out).find_interval(confidence=confidence)
    if value >= 1:  # Clopper & Pearson 1934
        low, high = float(stats.beta.ppf(tail, cases, 1)), 1.0
    elif value <= 0:
        low, high = 0.0, float(stats.beta.ppf(1 - tail, 1, cases))
    trusted, reason = judge_trust(pool)
    if trusted and errors < LEAST_ERRORS:
        trusted, reason = False, f"only {errors:.3g} cases with an error (at least {LEAST_ERRORS} are needed)"
    return Margin(value=value, low=max(0.0, low), high=min(1.0, high), trustworthy=trusted, reason=reason)


def _measure_curve(counts: _Counts, with_errors: _Counts, confidence: float) -> tuple[CurvePoint, ...]:
    points = []
    for i, threshold in enumerate(THRESHOLDS.tolist()):
        benefit, everything, gain = _weigh(counts, i, threshold)
        lower = [part.find_interval(confidence).low for part in _weigh(with_errors, i, threshold)]
        points.append(
            CurvePoint(
                threshold=threshold,
                net_benefit=_lower(benefit.find_interval(confidence), lower[0]),
                treat_all=float(everything.whole),
                gain=_lower(gain.find_interval(confidence), lower[2]),
            )
        )
    return tuple(points)


def _weigh(counts: _Counts, i: int, threshold: float) -> tuple[_Counts, _Counts, _Counts]:
    """Return net benefit, that of calling everything positive, and the gain above it and above 0."""
    number, ill, rate = counts.take(0), counts.take(1), threshold / (1 - threshold)
    ours = (counts.take(2 + i) - rate * counts.take(2 + len(THRESHOLDS) + i)) / number
    everything = (ill - rate * (number - ill)) / number
    return ours, everything, ours - _Counts(*(np.maximum(part, 0.0) for part in everything.list_parts()))


def _lower(interval: Interval, low: float | None) -> Interval:
    """Return the interval from the lower of two ends."""
    ends = [end for end in (interval.low, low) if end is not None]
    return Interval(value=interval.value, low=min(ends, default=None), high=interval.high)


def _find_logits(scores: Floats) -> Floats:
    clipped = np.clip(scores, SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float64)
