"""Intervals of the scores of one run.

The error of a score comes from the jackknife over cases: images of one patient are alike, and treating them as
independent gives intervals that are too short (Davison & Hinkley 1997, ch. 3.8). It gives the effective number of
independent answers, and the interval is Wilson's for that number (Wilson 1927), with Student's t for the
normal distribution. It stays within 0 and 1, holds the score, and has a width at 1.000 too.

Few observed errors say little about others. So half a case that is right and half a case that is wrong are added to
each class, as Jeffreys' prior does (Brown, Cai & DasGupta 2001).

The interval covers another training of the recipe on other cases, because the *luck* of single networks is added
(`measure_luck`). With fewer than five networks it cannot be estimated, and the interval covers other cases scored by
these very networks. How often either is covered is measured in benchmarks/bench_coverage.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from ..metrics import LOWER_IS_BETTER, METRICS, f1_of_confusions, mean_present, per_class, predict_classes
from ..records import Margin
from ..stats.intervals import (
    CONFUSION_METRICS,
    count_confusions,
    count_degrees,
    judge_trust,
    score_pool,
)
from ..stats.luck import count_networks, measure_influence, measure_luck
from ..stats.pool import Pool

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

METHOD = (
    "Wilson's interval for the effective number of cases (jackknife by case, half an unseen error in each class, "
    "Student's t), widened by the variance between networks"
)
MEANS_OVER_IMAGES = ("accuracy", "log_loss")  # a class of few cases has no more say than its images
LEAST_NETWORKS = 5
LEAST_ERRORS = 5
IMAGINED = 0.5  # added cases of each class that are right, and that are wrong
SLIP = 0.25  # share of the others that an added wrong case is ranked behind


@dataclass(frozen=True, slots=True)
class _Error:
    """The uncertainty from the cases alone.

    Attributes:
        variance: of the score.
        degrees: degrees of freedom of the variance.
        center: the score with the added cases, so never 0 or 1; NaN for a score without upper end.
    """

    variance: float
    degrees: float
    center: float


def measure_margins(pool: Pool, *, confidence: float) -> dict[str, Margin]:
    """Return every registered metric with its interval."""
    left_out, counts = score_pool(pool).left_out, count_confusions(pool)
    wrong = predict_classes(pool.scores) != pool.y_true
    margins = {}
    for entry in METRICS:
        by_seed = np.array([entry.call(pool.y_true, scores) for scores in pool.scores])
        influence = measure_influence(by_seed, left_out[entry.name])
        if entry.name in CONFUSION_METRICS:
            error = _imagine_predictions(pool, counts, CONFUSION_METRICS[entry.name], influence)
        elif entry.name == "auc":
            # A wrong case is outranked by a quarter of the others, or outranks as many.
            labels = pool.count_labels()
            sides = (labels, labels.sum(axis=1, keepdims=True) - labels)
            own, others = (x.sum(axis=0) ** 2 / np.maximum((x**2).sum(axis=0), 1e-9) for x in sides)  # cases, (C,)
            # What a case (row) can do to the AUC of a class (column).
            of_auc = np.where(np.eye(len(own), dtype=bool), 1 / (own + 1), 1 / (others + 1))
            ranked = (own > 0) & (others > 0)
            loss = -SLIP * (own > 0) * of_auc[:, ranked].sum(axis=1) / max(1, int(ranked.sum()))
            center = max(0.05, float(by_seed.mean()) + IMAGINED * float(loss.sum()))
            error = _add_imagined(pool, influence, np.zeros_like(loss), loss, center)
        else:
            error = _Error(_sum_squares(influence), count_degrees(influence.sum(axis=0)), float("nan"))
        low, high = _find_interval(pool, float(by_seed.mean()), influence, error, confidence)
        share = _relax(_count_errors(pool, wrong), confidence=confidence)
        low, high = (low * share, high) if entry.name in LOWER_IS_BETTER else (low, 1 - (1 - high) * share)
        trusted, why = _judge_errors(pool, wrong, "error", by_class=entry.name not in MEANS_OVER_IMAGES)
        value = float(by_seed.mean())
        margins[entry.name] = Margin(value=value, low=low, high=high, trustworthy=trusted, reason=why)
    return margins


def measure_class_margins(pool: Pool, *, confidence: float) -> list[Margin]:
    """Return the F1 of each class with its interval."""
    left_out, counts = score_pool(pool).left_out_f1, count_confusions(pool)
    by_seed = np.array([per_class(pool.y_true, scores)["f1"] for scores in pool.scores])  # (S, C)
    predicted = predict_classes(pool.scores)
    margins = []
    for label, name in enumerate(pool.classes):

        def score(matrix: Floats, label: int = label) -> Floats:
            return np.asarray(f1_of_confusions(matrix)[..., label])

        influence = measure_influence(by_seed[:, label], left_out[:, :, label])
        error = _imagine_predictions(pool, counts, score, influence)
        value = float(by_seed[:, label].mean())
        low, high = _find_interval(pool, value, influence, error, confidence)
        wrong = (predicted == label) != (pool.y_true == label)
        high = 1 - (1 - high) * _relax(_count_errors(pool, wrong), confidence=confidence)
        trusted, why = _judge_errors(pool, wrong, f"error about {name}")
        margins.append(Margin(value=value, low=low, high=high, trustworthy=trusted, reason=why))
    return margins


def measure_present(pool: Pool, *, confidence: float) -> Margin:
    """Return the mean F1 of the classes that have labels, with its interval.

    A prediction of any other class is wrong, and has no F1 of its own. Where each class has labels, this is macro-F1.
    """
    present = pool.count_labels().sum(axis=0) > 0

    def score(matrix: Floats) -> Floats:
        return mean_present(f1_of_confusions(matrix), (matrix.sum(-1) + matrix.sum(-2) > 0) & present)

    counts = count_confusions(pool)
    total = counts.sum(axis=1, keepdims=True)  # (S, 1, C, C)
    by_seed = score(total)[:, 0]
    influence = measure_influence(by_seed, score(total - counts))
    error = _imagine_predictions(pool, counts, score, influence)
    value = float(by_seed.mean())
    low, high = _find_interval(pool, value, influence, error, confidence)
    wrong = predict_classes(pool.scores) != pool.y_true
    high = 1 - (1 - high) * _relax(_count_errors(pool, wrong), confidence=confidence)
    # Trust is about the classes that are there.
    names = tuple(name for name, there in zip(pool.classes, present, strict=True) if there)
    known = replace(pool, classes=names, y_true=(np.cumsum(present) - 1)[pool.y_true])
    trusted, why = _judge_errors(known, wrong, "error")
    return Margin(value=value, low=low, high=high, trustworthy=trusted, reason=why)


def describe_cover(pool: Pool) -> str:
    """Return in words what the intervals of this pool cover."""
    networks = count_networks(pool)
    if networks >= LEAST_NETWORKS:
        return f"another training of this recipe on other cases like these (luck estimated from {networks} networks)"
    return (
        "other cases like these, scored by these very networks; another training of the recipe may score outside, "
        f"because {networks} {'network cannot' if networks == 1 else 'networks cannot'} show how far networks differ "
        f"(at least {LEAST_NETWORKS} are needed: more folds or seeds, and a column 'fold')"
    )


def _judge_errors(pool: Pool, wrong: Bools, what: str, *, by_class: bool = True) -> tuple[bool, str]:
    """Return trust and its reason; a case has an error where any of its images is ``wrong`` (S, n)."""
    trustworthy, reason = judge_trust(pool, by_class=by_class)
    number = _count_errors(pool, wrong)
    if number >= LEAST_ERRORS:
        return trustworthy, f"{reason}, {number:.3g} cases with an {what}" if trustworthy else reason
    unseen = 1 - 0.025 ** (1 / pool.n_cases)  # Clopper & Pearson 1934: no failure in n trials
    have = "case has" if number == 1 else "cases have"
    few = f"only {number:.3g} {have} an {what} (at least {LEAST_ERRORS} are needed)"
    if number == 0:
        few += f"; with {pool.n_cases} cases up to {unseen:.0%} of all cases may be wrong"
    return False, few if trustworthy else f"{reason}; {few}"


def _count_errors(pool: Pool, wrong: Bools) -> float:
    """Return the number of cases with a wrong image (S, n), mean over seeds."""
    return float(np.mean([len(np.unique(pool.case[row])) for row in wrong]))


def _relax(errors: float, *, confidence: float) -> float:
    """Return the factor on the distance between the good end of an interval and a perfect score.

    Runs with fewer than ``LEAST_ERRORS`` errors are not trusted, so of good recipes only unlucky runs are. Their number
    of errors follows a Poisson distribution without its lower part; the factor is the quotient of the rates that this
    truncated and the whole distribution cannot exclude.
    """
    if not LEAST_ERRORS <= errors < 10 * LEAST_ERRORS:
        return 1.0
    tail = 1 - confidence

    def exceed(rate: float) -> float:
        return float(stats.gamma.cdf(rate, errors) / stats.gamma.cdf(rate, LEAST_ERRORS)) - tail

    rate = optimize.brentq(exceed, 1e-6, errors) if exceed(1e-6) < 0 else 0.0
    return float(rate / stats.gamma.ppf(tail, errors))


def _sum_squares(influence: Floats) -> float:
    """Return the jackknife's variance of the mean over seeds."""
    cases = influence.shape[1]
    return float((influence.sum(axis=0) ** 2).sum() * (cases - 1) / cases)


def _imagine_predictions(pool: Pool, counts: Floats, score: Callable[[Floats], Floats], influence: Floats) -> _Error:
    """Return the error of a score of confusions (S, n_cases, C, C); a wrong case goes to the others by their shares."""
    images, sizes = pool.count_labels().sum(axis=0), _measure_sizes(pool)
    right = np.zeros((len(images), len(images), len(images)))
    wrong = np.zeros_like(right)
    for label, size in enumerate(sizes):
        others = np.where(np.arange(len(images)) == label, 0.0, images + 1e-9)
        right[label, label, label] = size
        wrong[label, label] = size * others / max(others.sum(), 1e-9)
    total = counts.sum(axis=1)  # (S, C, C)
    base = score(total)[:, None]
    gain, loss = ((score(total[:, None] + more) - base).mean(axis=0) for more in (right, wrong))  # each (C,)
    center = float(score(total + IMAGINED * (right + wrong).sum(axis=0)).mean())
    return _add_imagined(pool, influence, gain, loss, center)


def _add_imagined(pool: Pool, influence: Floats, gain: Floats, loss: Floats, center: float) -> _Error:
    """Return the jackknife's variance with that of the added cases; one of class c gains ``gain[c]`` or ``loss[c]``.

    With few errors, few influences are large, though many cases could err: the degrees of freedom are those of the
    possible influences, where these exceed Satterthwaite's of the observed ones.
    """
    variance = _sum_squares(influence) + IMAGINED * float((gain**2).sum() + (loss**2).sum())
    sizes = _measure_sizes(pool)
    reach = np.divide(gain - loss, sizes, out=np.zeros(len(sizes)), where=sizes > 0)  # of one image
    squares = (pool.count_labels() @ reach) ** 2
    alike = float(squares.sum() ** 2 / max((squares**2).sum(), 1e-300))
    return _Error(variance, max(alike - 1, count_degrees(influence.sum(axis=0))), center)


def _measure_sizes(pool: Pool) -> Floats:
    """Return the images of a class in a typical case, (C,): the mean over images, in which large cases count more."""
    labels = pool.count_labels()
    images = labels.sum(axis=0)
    return np.divide((labels**2).sum(axis=0), images, out=np.zeros(len(images)), where=images > 0)


def _find_interval(
    pool: Pool, value: float, influence: Floats, error: _Error, confidence: float
) -> tuple[float, float]:
    """Return low and high: Wilson's interval; around the logarithm for a score without upper end."""
    if np.isnan(value):
        return value, value
    variance, degrees, luck = error.variance, error.degrees, measure_luck(influence, pool)
    if luck.degrees >= LEAST_NETWORKS - 1 and luck.exceeding > 0:
        variance += luck.exceeding
        # One degree less than networks of normal scores would leave: few are far worse than most.
        degrees = variance**2 / (error.variance**2 / error.degrees + luck.between**2 / (luck.degrees - 1))
    critical = float(stats.t.ppf((1 + confidence) / 2, degrees))
    if np.isnan(error.center):
        reach = float(np.exp(critical * np.sqrt(variance) / value))
        return value / reach, value * reach
    if not 0 < error.center < 1:
        return value, value
    square = critical**2 * variance / (error.center * (1 - error.center))  # t² over the effective number
    middle = (value + square / 2) / (1 + square)
    half = float(np.sqrt(square * value * (1 - value) + square**2 / 4)) / (1 + square)
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))
