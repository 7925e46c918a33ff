"""Do verdicts keep their promise? Recipes of known difference, compared by the code that compares runs.

    python benchmarks/bench_verdicts.py [--simulations 400] [--only equal|ladders|power|margin]

A cohort: cases with one label each and images of it. An image's logits are a skill for its class, what its case looks
like, and noise; a network (one for each fold and seed) adds a bias of its own per class and noise of its own, which is
the luck of a single training. The settings differ in cases, classes, images per case (also with heavy tails), folds,
seeds and luck.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.evaluate import MARGIN, Difference, Pair, compare_pairs
from smalti.metrics import macro_f1
from smalti.stats import Pool
from smalti.stats.intervals import Scored, score_pool

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
METRIC = "macro_f1"


@dataclass(frozen=True)
class Setting:
    """What is drawn.

    Attributes:
        cases: number of cases.
        shares: of the classes.
        images: mean images of a case.
        heavy: whether the images of a case are log-normal with a standard deviation of 1 on the log scale.
        folds, seeds: networks of a run.
        same: whether both runs of a pair use the same folds.
        luck: standard deviation of a network's bias per class, on the logit scale.
        skill: logit of the true class.
    """

    cases: int
    shares: tuple[float, ...] = (0.5, 0.5)
    images: int = 1
    heavy: bool = False
    folds: int = 5
    seeds: int = 1
    same: bool = True
    luck: float = 0.3
    skill: float = 1.6


FOUR = (0.4, 0.3, 0.2, 0.1)
RARE = (0.93, 0.07)
EQUAL = (
    Setting(12, images=4, luck=0.3, folds=3),
    Setting(30, luck=0.0),
    Setting(30, FOUR, images=4, luck=0.5, folds=3, seeds=3),
    Setting(60, FOUR, images=4, heavy=True, luck=0.2),
    Setting(60, luck=0.8, folds=3),
    Setting(100, RARE, luck=0.4),
    Setting(100, FOUR, images=3, heavy=True, luck=0.8, seeds=3),
    Setting(200, FOUR, luck=0.0, seeds=3),
    Setting(200, images=6, heavy=True, luck=0.4, folds=2, seeds=3),
    Setting(200, FOUR, images=2, luck=0.6, same=False),
    Setting(500, luck=0.3),
    Setting(500, FOUR, luck=0.8, seeds=5),
    Setting(500, luck=0.8, folds=4),
    Setting(500, luck=0.5, folds=2),
)
LADDERS = (
    (Setting(60, FOUR, images=4), 14),
    (Setting(60, luck=0.6), 14),
    (Setting(100, RARE, luck=0.3), 10),
    (Setting(100, FOUR, images=3, heavy=True, luck=0.4, folds=3, seeds=3), 10),
    (Setting(200, luck=0.0), 6),
    (Setting(500, FOUR, luck=0.8), 8),
)
POWER = (
    Setting(60, images=4, luck=0.2),
    Setting(100, FOUR, images=2, luck=0.0),
    Setting(200, luck=0.3),
    Setting(200, FOUR, images=3, luck=0.4, seeds=3),
    Setting(500, luck=0.5),
)
MARGINS = (
    Setting(200, luck=0.0, skill=3.0),
    Setting(500, luck=0.3, skill=3.0),
    Setting(500, FOUR, luck=0.0, skill=4.5),
    Setting(1000, luck=0.0, skill=4.0),
    Setting(1000, RARE, luck=0.0, skill=4.0),
    Setting(2000, images=2, luck=0.2, seeds=2),
)


@dataclass(frozen=True)
class Cohort:
    """Drawn images; ``logits`` (n, C) before any network and skill, ``fold`` (S, n)."""

    y: Ints
    case: Ints
    logits: Floats
    fold: Ints


def draw_cohort(setting: Setting, rng: np.random.Generator) -> Cohort:
    """Draw cases, each class in as many as its share says, with folds stratified by case."""
    shares = np.asarray(setting.shares)
    label = np.repeat(np.arange(len(shares)), np.maximum(2, np.round(shares * setting.cases)).astype(int))
    sizes = np.full(len(label), setting.images)
    if setting.heavy:
        sizes = np.maximum(1, np.round(setting.images * rng.lognormal(-0.5, 1.0, len(label)))).astype(int)
    case = np.repeat(np.arange(len(label)), sizes)
    looks = rng.normal(0, 1.0, (len(label), len(shares)))[case] if setting.images > 1 else 0.0
    logits = looks + rng.gumbel(0, 1, (len(case), len(shares)))
    return Cohort(label[case], case, logits, draw_folds(setting, label, rng)[:, case])


def draw_folds(setting: Setting, label: Ints, rng: np.random.Generator) -> Ints:
    """Folds of each seed and case, stratified by label, (S, n_cases)."""
    rows = []
    for _ in range(setting.seeds):
        fold = np.empty(len(label), dtype=np.int64)
        for one in np.unique(label):
            members = rng.permutation(np.flatnonzero(label == one))
            fold[members] = (np.arange(len(members)) + rng.integers(setting.folds)) % setting.folds
        rows.append(fold)
    return np.stack(rows)


def train(setting: Setting, cohort: Cohort, fold: Ints, rng: np.random.Generator) -> Scored:
    """A run of the recipe: one network for each fold and seed."""
    skill = setting.skill * np.eye(len(setting.shares))[cohort.y]
    scores = []
    for row in fold:
        bias = rng.normal(0, setting.luck, (setting.folds, len(setting.shares)))
        logits = cohort.logits + skill + bias[row] + rng.normal(0, 0.7, cohort.logits.shape)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores.append(odds / odds.sum(axis=1, keepdims=True))
    images = tuple(f"i{n:06d}" for n in range(len(cohort.y)))
    cases = tuple(f"c{n:06d}" for n in range(cohort.case.max() + 1))
    classes = tuple("abcdef"[: len(setting.shares)])
    return score_pool(Pool(classes, images, cohort.y, cohort.case, fold, np.stack(scores), cases))


def compare(better: Setting, setting: Setting, rng: np.random.Generator) -> Difference:
    """Compare a run of ``better`` with one of ``setting``, on one drawn cohort."""
    cohort = draw_cohort(setting, rng)
    other = cohort.fold
    if not setting.same:
        label = cohort.y[np.unique(cohort.case, return_index=True)[1]]
        other = draw_folds(setting, label, rng)[:, cohort.case]
    pair = Pair("b", "a", train(better, cohort, other, rng), train(setting, cohort, cohort.fold, rng))
    return compare_pairs([pair])[0][METRIC]


def measure_equal(setting: Setting, simulations: int) -> None:
    """Print how often equal recipes get a verdict, and how often the interval of their difference holds zero."""
    rng = np.random.default_rng(2)
    found = [compare(setting, setting, rng) for _ in range(simulations)]
    verdicts = np.mean([one.verdict in ("better", "worse") for one in found])
    silent = np.mean([one.verdict == "no verdict" for one in found])
    holds = np.mean([one.low <= 0 <= one.high for one in found])
    print(f"equal: verdicts {verdicts:.1%}, none given {silent:.0%}, zero held {holds:.1%} | {setting}", flush=True)


def measure_ladder(setting: Setting, rungs: int, simulations: int) -> None:
    """Print how often any rung of a ladder of equal rungs gets a verdict."""
    rng = np.random.default_rng(3)
    false, plain = 0, 0
    for _ in range(simulations):
        cohort = draw_cohort(setting, rng)
        runs = [train(setting, cohort, cohort.fold, rng) for _ in range(rungs)]
        pairs = [Pair(str(i), str(i - 1), runs[i], runs[i - 1]) for i in range(1, rungs)]
        found = [row[METRIC] for row in compare_pairs(pairs)]
        false += any(one.verdict in ("better", "worse") for one in found)
        plain += any(one.p <= 0.05 for one in found)
    print(
        f"ladder of {rungs} equal rungs: any verdict {false / simulations:.1%} (without Holm {plain / simulations:.0%})"
        f" | {setting}", flush=True,
    )  # fmt: skip


def find_score(setting: Setting) -> float:
    """Macro-F1 of a recipe on many images, over many networks."""
    rng = np.random.default_rng(12345)
    many = replace(setting, cases=20_000, seeds=1, folds=50, heavy=False, images=max(1, setting.images))
    scores = []
    for _ in range(4):
        cohort = draw_cohort(many, rng)
        skill = many.skill * np.eye(len(many.shares))[cohort.y]
        bias = rng.normal(0, many.luck, (many.folds, len(many.shares)))[cohort.fold[0]]
        logits = cohort.logits + skill + bias + rng.normal(0, 0.7, cohort.logits.shape)
        scores.append(macro_f1(cohort.y, logits))
    return float(np.mean(scores))


def raise_score(setting: Setting, gain: float) -> Setting:
    """The setting with the skill that gains so much macro-F1."""
    start, low, high = find_score(setting), setting.skill, setting.skill + 6
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if find_score(replace(setting, skill=middle)) - start < gain else (low, middle)
    return replace(setting, skill=middle)


def measure_margin(setting: Setting, simulations: int) -> None:
    """Print how often recipes that differ by the margin are called practically equal, and how often equal ones are."""
    rng = np.random.default_rng(5)
    better = raise_score(setting, MARGIN)
    apart, equal = (
        np.mean([compare(one, setting, rng).verdict == "practically equal" for _ in range(simulations)])
        for one in (better, setting)
    )
    print(
        f"margin: equal where they differ by {MARGIN:g} {apart:.1%}, where they do not {equal:.1%} | {setting}",
        flush=True,
    )


def measure_power(setting: Setting, simulations: int) -> None:
    """Print how often a true gain of the smallest detectable difference, as equal recipes say it, is called better."""
    rng = np.random.default_rng(4)
    smallest = float(np.mean([compare(setting, setting, rng).smallest_detectable for _ in range(simulations)]))
    better = raise_score(setting, smallest)
    found = [compare(better, setting, rng) for _ in range(simulations)]
    said = float(np.mean([one.smallest_detectable for one in found]))
    print(
        f"power: smallest detectable {smallest:.3f} (said where it is so: {said:.3f}), better in "
        f"{np.mean([one.verdict == 'better' for one in found]):.1%} | {setting}", flush=True,
    )  # fmt: skip


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--only", choices=("equal", "ladders", "power", "margin"))
    args = parser.parse_args()
    if args.only in (None, "equal"):
        for setting in EQUAL:
            measure_equal(setting, args.simulations)
    if args.only in (None, "ladders"):
        for setting, rungs in LADDERS:
            measure_ladder(setting, rungs, args.simulations)
    if args.only in (None, "power"):
        for setting in POWER:
            measure_power(setting, args.simulations)
    if args.only in (None, "margin"):
        for setting in MARGINS:
            measure_margin(setting, args.simulations)


if __name__ == "__main__":
    main()
