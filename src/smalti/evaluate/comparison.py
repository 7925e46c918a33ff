"""Is one better than the other? Paired comparison on the same cases.

Both are scored on the same resamples of the cases, so that what makes a case hard cancels (Efron & Tibshirani 1993,
ch. 15). Two things make the difference unsure. The *cases*: the interval of `smalti.evaluate.intervals`, here of the
difference. And the *luck of single trainings*: networks of one recipe differ with the seed, and all images of a fold
share a network, which resampling cases does not see; it calls two equal recipes different in up to one of five
comparisons (benchmarks/bench_honesty.py). The variance between networks, beyond what their cases explain, is
therefore added: cluster-robust variance in two directions (Cameron, Gelbach & Miller 2011), estimated from the
influence of each case in each fold and seed.

The p-value is that of Student's t. Where several pairs are compared, p-values are corrected after Holm (1979), per
metric. A verdict needs a corrected p below 1 - confidence and an interval that leaves zero out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import DataError, Problem
from ..metrics import LOWER_IS_BETTER, METRICS
from .intervals import Resampled, Spread, measure_spread
from .pool import Pool

Floats = NDArray[np.float64]
Verdict = Literal["better", "worse", "cannot tell", "no verdict"]

POWER = 0.8
SHOWN = 10  # names listed per problem


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one pair, the first minus the second.

    Attributes:
        value: the difference.
        low, high: its interval.
        p: of the hypothesis that both are equal.
        p_holm: the same, corrected for all pairs.
        smallest_detectable: the smallest true difference that this data would show with a power of 80 %; NaN where
            the two never differ.
        verdict: whether the first is better, in words; ``no verdict`` where the comparison cannot say.
        why: why there is no verdict; empty where there is one.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    smallest_detectable: float
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs to be compared: ``first`` minus ``second``."""

    name: str
    against: str
    first: Resampled
    second: Resampled


@dataclass(frozen=True, slots=True)
class _Gap:
    """A difference before the correction for many pairs."""

    spread: Spread
    error: float
    degrees: float

    @property
    def p(self) -> float:
        if self.error <= 1e-12:
            return 1.0
        return float(2 * stats.t.sf(abs(self.spread.value) / self.error, self.degrees))


def compare_pairs(pairs: Sequence[Pair], *, confidence: float = 0.95) -> list[dict[str, Difference]]:
    """Every metric of every pair; the pairs are one family for Holm's correction.

    Raises:
        DataError: the two of a pair were not scored on the same images, cases, labels and classes.
    """
    for pair in pairs:
        check_alike({pair.against: pair.second.pool, pair.name: pair.first.pool})
    found: list[dict[str, Difference]] = [{} for _ in pairs]
    for entry in METRICS:
        gaps = [_measure_gap(pair.first, pair.second, entry.name) for pair in pairs]
        corrected = adjust_holm([gap.p for gap in gaps])
        for row, gap, p_holm in zip(found, gaps, corrected, strict=True):
            sign = -1 if entry.name in LOWER_IS_BETTER else 1
            row[entry.name] = _judge(gap, p_holm, sign=sign, confidence=confidence, pairs=len(pairs))
    return found


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, step down, in the given order (Holm 1979)."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def keep_images(pool: Pool, images: Sequence[str]) -> Pool:
    """The pool of some of its images."""
    wanted = set(images)
    chosen = np.array([name in wanted for name in pool.images], dtype=bool)
    cases, case = np.unique(pool.case[chosen], return_inverse=True)
    return replace(
        pool,
        images=tuple(name for name in pool.images if name in wanted),
        y_true=pool.y_true[chosen],
        case=case.astype(np.int64),
        fold=pool.fold[:, chosen],
        scores=pool.scores[:, chosen],
        cases=tuple(pool.cases[i] for i in cases),
    )


def find_common(pools: Sequence[Pool]) -> tuple[str, ...]:
    """Images that all pools have, in order."""
    shared = set(pools[0].images).intersection(*(pool.images for pool in pools[1:]))
    return tuple(name for name in pools[0].images if name in shared)


def check_alike(pools: Mapping[str, Pool]) -> None:
    """Refuse pools that do not hold the same images with the same labels, cases and classes as the first.

    Raises:
        DataError: with what differs, image by image.
    """
    (first, base), *others = pools.items()
    problems: list[Problem] = []
    for name, pool in others:
        if pool.classes != base.classes:
            message = f"its classes are {', '.join(pool.classes)}; those of {first} are {', '.join(base.classes)}."
            problems.append(Problem("classes", name, message, "compare runs of one task"))
            continue
        problems += _find_differing(first, base, name, pool)
    if problems:
        raise DataError(f"not comparable with {first}: a paired comparison needs the same images and cases", problems)


def _find_differing(first: str, base: Pool, name: str, pool: Pool) -> list[Problem]:
    here, there = set(pool.images), set(base.images)
    labels = {i: (base.y_true[n], base.cases[base.case[n]]) for n, i in enumerate(base.images)}
    own = {i: (pool.y_true[n], pool.cases[pool.case[n]]) for n, i in enumerate(pool.images)}
    shared = [image for image in base.images if image in here]
    lists = (
        ("missing", [i for i in base.images if i not in here], f"images of {first} that it lacks",
         "add --common to compare on the images that all have, or score them"),
        ("additional", [i for i in pool.images if i not in there], f"images that {first} lacks",
         "add --common to compare on the images that all have, or leave them out"),
        ("labels", [i for i in shared if own[i][0] != labels[i][0]], f"labels differ from {first} for",
         "score both on the same labels"),
        ("cases", [i for i in shared if own[i][1] != labels[i][1]], f"cases differ from {first} for",
         "give both the same cases (column 'case')"),
    )  # fmt: skip
    return [Problem(code, name, f"{what}: {_list_names(names)}.", fix) for code, names, what, fix in lists if names]


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} ({len(names)})"


def _judge(gap: _Gap, p_holm: float, *, sign: int, confidence: float, pairs: int) -> Difference:
    low, high = gap.spread.find_interval(confidence=confidence, error=gap.error, degrees=gap.degrees)
    verdict: Verdict = "cannot tell"
    if p_holm <= 1 - confidence and (low > 0 or high < 0):
        verdict = "better" if gap.spread.value * sign > 0 else "worse"
    alpha = (1 - confidence) / pairs
    reach = float(stats.t.ppf(1 - alpha / 2, gap.degrees) + stats.t.ppf(POWER, gap.degrees))
    smallest = reach * gap.error if gap.error > 1e-12 else float("nan")
    return Difference(gap.spread.value, low, high, gap.p, p_holm, smallest, verdict)


def _measure_gap(first: Resampled, second: Resampled, metric: str) -> _Gap:
    """The difference of one metric with its error from cases and from the luck of single trainings."""
    value = first.measure(metric).value - second.measure(metric).value
    drawn = first.drawn.metrics[metric].mean(axis=0) - second.drawn.metrics[metric].mean(axis=0)
    left_out = first.left_out.metrics[metric].mean(axis=0) - second.left_out.metrics[metric].mean(axis=0)
    spread = measure_spread(value, drawn, left_out)
    luck, networks = measure_luck(first, second, metric)
    variance = spread.error**2 + luck
    if luck <= 0 or variance <= 0:
        return _Gap(spread, spread.error, spread.degrees)
    degrees = variance**2 / (spread.error**4 / spread.degrees + luck**2 / networks)
    return _Gap(spread, float(np.sqrt(variance)), min(degrees, spread.degrees))


def measure_luck(first: Resampled, second: Resampled, metric: str) -> tuple[float, float]:
    """Variance of a difference between trainings, beyond what their cases explain, and its degrees of freedom.

    Where both used the same folds, the two networks of a fold are one draw; else each side's networks are.
    """
    a, b = _measure_influence(first, metric), _measure_influence(second, metric)
    if not a.size or not b.size:
        return 0.0, np.inf
    folds_a, folds_b = _find_folds(first.pool), _find_folds(second.pool)
    if np.array_equal(folds_a, folds_b):
        luck, networks = _exceed(a - b, folds_a)
        return max(0.0, luck), networks
    of_a, networks_a = _exceed(a - b.sum(axis=0) / len(a), folds_a)
    of_b, networks_b = _exceed(b - a.sum(axis=0) / len(b), folds_b)
    return max(0.0, of_a) + max(0.0, of_b), min(networks_a, networks_b)


def _measure_influence(resampled: Resampled, metric: str) -> Floats:
    """Influence of each case in each seed on the mean over seeds, (S, n_cases)."""
    values = resampled.left_out.metrics[metric]
    if not values.size:
        return values
    centred = np.nanmean(values, axis=1, keepdims=True) - values
    return np.asarray(np.nan_to_num(centred) / len(values), dtype=np.float64)


def _find_folds(pool: Pool) -> NDArray[np.int64]:
    """Fold that held each case out, (S, n_cases)."""
    first = np.unique(pool.case, return_index=True)[1]
    return pool.fold[:, first]


def _exceed(influence: Floats, folds: NDArray[np.int64]) -> tuple[float, float]:
    """How much the squared sums over networks exceed the squared single influences (S, n_cases), and K - 1 summed.

    Without luck both are equal in the mean; negative where the networks differ less than that.
    """
    exceeding, degrees = 0.0, 0.0
    for row, fold in zip(influence, folds, strict=True):
        networks = np.unique(fold, return_inverse=True)[1]
        number = int(networks.max()) + 1
        if number < 2:
            continue
        sums = np.bincount(networks, weights=row)
        exceeding += float(number / (number - 1) * (sums**2).sum() - (row**2).sum())
        degrees += number - 1
    return exceeding, max(degrees, 1.0)
