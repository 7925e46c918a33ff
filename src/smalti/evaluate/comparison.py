"""Paired comparison of two runs on the same cases.

Both are scored on the same cases, so that what makes a case hard cancels (Efron & Tibshirani 1993, ch. 15). Two things
make the difference unsure. The *cases*: the jackknife's error, by case. And the *luck of single trainings*: networks of
one recipe differ with the seed, and all images of a fold share a network (`smalti.stats.luck`). How both become an
interval, a p-value and a smallest detectable difference is explained in `smalti.stats.gap`.

Where several pairs are compared, p-values are corrected after Holm (1979), per metric. A verdict needs a corrected p
below 1 - confidence. There is no verdict where luck cannot be measured.

A difference without a verdict need not be small. *Practically equal* is a finding of its own: the whole interval lies
within a stated margin of zero. A difference that is real and smaller than the margin is practically equal, not better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, Problem, RecipeError
from ..metrics import LOWER_IS_BETTER, METRICS
from ..records.studies.comparison import Verdict
from ..stats.gap import measure_gap, raise_luck
from ..stats.intervals import Scored
from ..stats.luck import count_networks
from ..stats.permutation import adjust_holm
from ..stats.pool import Pool

MARGIN = 0.02  # of metrics between 0 and 1: what hardly anybody would change a recipe for

LEAST_DEGREES = 2  # of the networks: with two folds of one seed 10 to 16 % of equal recipes would get a verdict
UNVARYING = "the difference is the same without any of the cases, so nothing tells how sure it is"
SHOWN = 10  # names listed per problem


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of one pair, the first minus the second.

    Attributes:
        value: the difference.
        low, high: its interval.
        p: of the hypothesis that both are equal.
        p_holm: the same, corrected for all pairs.
        p_equal: of the hypothesis that they differ by the margin or more, corrected for all pairs; 1 for metrics
            without bounds.
        margin: within which both are practically equal; 0 where equality was not tested.
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
    p_equal: float = 1.0
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs to be compared: ``first`` minus ``second``.

    Attributes:
        withheld: why no verdict may be given, whatever the numbers say; empty where one may.
    """

    name: str
    against: str
    first: Scored
    second: Scored
    withheld: str = ""


def compare_pairs(
    pairs: Sequence[Pair], *, confidence: float = 0.95, without_luck: bool = False, margin: float = MARGIN
) -> list[dict[str, Difference]]:
    """Compare every metric of every pair; the pairs are one family for Holm's correction.

    Args:
        pairs: what is compared.
        confidence: of the intervals; verdicts err in at most one less this share of families without any difference.
        without_luck: give a verdict also where the luck of trainings cannot be measured, as if there were none.
        margin: a metric between 0 and 1 is practically equal where the whole interval lies within this of zero and
            the corrected one-sided p is at most half of 1 - confidence, which is what the interval of one pair asks
            for; so at most that share of families is called equal where it is not. 0 does not ask.

    Raises:
        DataError: the two of a pair were not scored on the same images, cases, labels and classes.
        RecipeError: a margin below 0, or of 1 and more.
    """
    check_margin(margin)
    for pair in pairs:
        check_alike({pair.against: pair.second.pool, pair.name: pair.first.pool})
    silent = [pair.withheld or ("" if without_luck else explain_silence(pair)) for pair in pairs]
    found: list[dict[str, Difference]] = [{} for _ in pairs]
    for entry in METRICS:
        gaps = raise_luck([measure_gap(pair.first, pair.second, entry.name) for pair in pairs])
        corrected = adjust_holm([gap.p for gap in gaps])
        equal = adjust_holm([gap.find_equal_p(margin) for gap in gaps])
        sign = -1 if entry.name in LOWER_IS_BETTER else 1
        for row, gap, p_holm, p_equal, why in zip(found, gaps, corrected, equal, silent, strict=True):
            low, high = gap.find_interval(confidence=confidence)
            why = why or (UNVARYING if np.isnan(low) else "")
            verdict: Verdict = "no verdict" if why else "cannot tell"
            if not why and p_holm <= 1 - confidence:
                verdict = "better" if gap.value * sign > 0 else "worse"
            if not why and max(abs(low), abs(high)) < margin and p_equal <= (1 - confidence) / 2:
                verdict = "practically equal"
            smallest = gap.find_smallest(alpha=(1 - confidence) / len(pairs))
            row[entry.name] = Difference(
                gap.value, low, high, gap.p, p_holm, smallest, verdict, why, p_equal,
                0.0 if entry.name in LOWER_IS_BETTER else margin,
            )  # fmt: skip
    return found


def check_margin(margin: float) -> float:
    """Return the margin of practical equality if it is valid.

    Raises:
        RecipeError: it is below 0, or 1 and more.
    """
    if not 0 <= margin < 1:
        raise RecipeError(
            f"no margin of practical equality is {margin:g}: metrics lie between 0 and 1",
            fix=f"a number such as {MARGIN:g}; 0 does not ask whether runs are practically equal",
        )
    return margin


def explain_silence(pair: Pair) -> str:
    """Return why a pair gets no verdict: the luck of its trainings cannot be measured; empty where it can."""
    pools = {pair.against: pair.second.pool, pair.name: pair.first.pool}
    bare = [name for name, pool in pools.items() if any((row == row[0]).all() for row in pool.fold)]
    if bare:
        return (
            f"one network, as far as is known, scored all images of {', '.join(bare)}, so the luck of its training "
            "is in no interval; give the table its columns fold and seed, or ask with 'smalti compare --without-luck'"
        )
    few = [name for name, pool in pools.items() if count_networks(pool) - 1 < LEAST_DEGREES]
    if few:
        return (
            f"{', '.join(few)}: {count_networks(pools[few[0]])} networks tell too little about the luck of trainings; "
            "use more folds or seeds (--set split.seeds=[0,1,2]), or ask with 'smalti compare --without-luck'"
        )
    return ""


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
        for code, names, what, fix in lists:
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                shown = f"{', '.join(names[:SHOWN])}{more} ({len(names)})"
                problems.append(Problem(code, name, f"{what}: {shown}.", fix))
    if problems:
        raise DataError(f"not comparable with {first}: a paired comparison needs the same images and cases", problems)
