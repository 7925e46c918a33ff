"""Do intervals cover the truth, and do verdicts keep their promise? Simulated cohorts whose true score is known.

    python benchmarks/bench_honesty.py [--simulations 1000] [--comparisons 200] [--only intervals|equal|ladders|power]

A cohort: cases of 1 to about 8 images with one label each, four classes with shares 0.4, 0.3, 0.2, 0.1. An image's
logits are a skill for its class, what its case looks like, and noise; a network (one per fold and seed) adds a bias of
its own per class and noise of its own, which is the luck of a single training. The truth is the score of two million
images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smalti.evaluate import Difference, Pair, Pool, compare_pairs
from smalti.evaluate.intervals import Resampled, judge_trust, measure_spread, resample_cases
from smalti.metrics import METRICS

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
CLASSES = ("a", "b", "c", "d")
FOLDS = 5


@dataclass(frozen=True)
class World:
    """What is drawn.

    Attributes:
        images: about so many.
        per_case: mean images of a case.
        skill: logit of the true class.
        luck: standard deviation of a network's bias per class.
    """

    images: int
    per_case: float = 2.5
    skill: float = 1.4
    luck: float = 0.4
    case_spread: float = 1.0


@dataclass(frozen=True)
class Cohort:
    """Drawn cases; ``logits`` (n, C) without any network."""

    y: NDArray[np.int64]
    case: NDArray[np.int64]
    noise: NDArray[np.float64]


def draw_cohort(world: World, rng: np.random.Generator) -> Cohort:
    """Cases until there are enough images."""
    sizes = 1 + rng.poisson(world.per_case - 1, world.images)
    number = int(np.searchsorted(np.cumsum(sizes), world.images)) + 1
    case = np.repeat(np.arange(number), sizes[:number])
    label = rng.choice(4, p=SHARES, size=number)
    looks = rng.normal(0, world.case_spread, (number, 4))
    return Cohort(label[case], case, looks[case] + rng.gumbel(0, 1, (len(case), 4)))


def draw_folds(cohort: Cohort, rng: np.random.Generator) -> NDArray[np.int64]:
    """Stratified by case."""
    labels = cohort.y[np.unique(cohort.case, return_index=True)[1]]
    fold = np.empty(len(labels), dtype=np.int64)
    for label in range(4):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = (np.arange(len(members)) + rng.integers(FOLDS)) % FOLDS
    return fold[cohort.case]


def train(world: World, cohort: Cohort, folds: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Scores (n, C) of one network per fold."""
    bias = rng.normal(0, world.luck, (FOLDS, 4))
    logits = cohort.noise + world.skill * np.eye(4)[cohort.y] + bias[folds] + rng.normal(0, 0.7, cohort.noise.shape)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def make_run(
    world: World, cohort: Cohort, folds: list[NDArray[np.int64]], rng: np.random.Generator, *, resamples: int = 1000
) -> Resampled:
    """A run of one recipe with a seed for each element of ``folds``."""
    scores = np.stack([train(world, cohort, fold, rng) for fold in folds])
    names = tuple(f"i{n:06d}" for n in range(len(cohort.y)))
    cases = tuple(f"c{n:06d}" for n in range(cohort.case.max() + 1))
    return resample_cases(
        Pool(CLASSES, names, cohort.y, cohort.case, np.stack(folds), scores, cases), resamples=resamples
    )


def find_truth(world: World) -> dict[str, float]:
    """Score of each metric on two million images, averaged over many networks."""
    rng = np.random.default_rng(12345)
    values = []
    for _ in range(40):
        cohort = draw_cohort(replace(world, images=50_000), rng)
        scores = train(world, cohort, draw_folds(cohort, rng), rng)
        values.append({e.name: e.build(cohort.y, scores) for e in METRICS})
    return {name: float(np.mean([v[name] for v in values])) for name in values[0]}


def measure_coverage(images: int, simulations: int, *, world: World) -> None:
    """Share of intervals that hold the true score, all and those that are called trustworthy."""
    rng = np.random.default_rng(1)
    world = replace(world, images=images, luck=0.0)  # the interval speaks of the networks that were trained
    truth = find_truth(world)
    inside = dict.fromkeys(truth, 0)
    trusted, trusted_inside, width = 0, 0, 0.0
    for _ in range(simulations):
        cohort = draw_cohort(world, rng)
        run = make_run(world, cohort, [draw_folds(cohort, rng)], rng)
        trustworthy = judge_trust(run.pool)[0]
        for name, value in truth.items():
            point = METRICS.find(name).build(run.pool.y_true, run.pool.scores[0])
            spread = measure_spread(point, run.drawn.metrics[name][0], run.left_out.metrics[name][0])
            low, high = spread.find_interval(confidence=0.95)
            hit = low <= value <= high
            inside[name] += hit
            if name == "macro_f1":
                trusted, trusted_inside = trusted + trustworthy, trusted_inside + (hit and trustworthy)
                width += high - low
    shares = ", ".join(f"{name} {count / simulations:.1%}" for name, count in inside.items())
    print(
        f"coverage n={images} per case {world.per_case:g} true macro-F1 {truth['macro_f1']:.3f}: {shares}; mean width "
        f"{width / simulations:.3f}; macro-F1 of the {trusted} trustworthy: {trusted_inside / max(trusted, 1):.1%}",
        flush=True,
    )


def measure_false_verdicts(images: int, comparisons: int, *, seeds: int, same_folds: bool, luck: float) -> None:
    """Share of comparisons of equal recipes that end in a verdict."""
    rng = np.random.default_rng(2)
    world = World(images, luck=luck)
    false, covered = 0, 0
    for _ in range(comparisons):
        cohort = draw_cohort(world, rng)
        folds = [draw_folds(cohort, rng) for _ in range(seeds)]
        other = folds if same_folds else [draw_folds(cohort, rng) for _ in range(seeds)]
        runs = {"a": make_run(world, cohort, folds, rng), "b": make_run(world, cohort, other, rng)}
        found = compare_pairs([Pair("b", "a", runs["b"], runs["a"])])[0]["macro_f1"]
        false += found.verdict != "cannot tell"
        covered += found.low <= 0 <= found.high
    folds_text = "same folds" if same_folds else "other folds"
    print(
        f"equal recipes n={images}, {seeds} seed(s), {folds_text}, luck {luck:g}: verdicts {false / comparisons:.1%}, "
        f"interval holds zero {covered / comparisons:.1%} of {comparisons}", flush=True,
    )  # fmt: skip


def measure_ladders(images: int, ladders: int, *, rungs: int) -> None:
    """Share of ladders of equal recipes in which any rung gets a verdict."""
    rng = np.random.default_rng(3)
    world = World(images)
    false, plain = 0, 0
    for _ in range(ladders):
        cohort = draw_cohort(world, rng)
        folds = [draw_folds(cohort, rng)]
        runs = {f"r{i}": make_run(world, cohort, folds, rng) for i in range(rungs)}
        steps = [(f"r{i}", f"r{i - 1}") for i in range(1, rungs)]
        found = compare_pairs([Pair(a, b, runs[a], runs[b]) for a, b in steps])
        false += any(row["macro_f1"].verdict != "cannot tell" for row in found)
        plain += any(row["macro_f1"].p <= 0.05 for row in found)
    print(
        f"ladders of {rungs} equal rungs, n={images}: any verdict {false / ladders:.1%} of {ladders} (without Holm "
        f"{plain / ladders:.1%})", flush=True,
    )  # fmt: skip


def measure_power(images: int, comparisons: int, *, seeds: int) -> None:
    """How often a true gain of twice the smallest detectable difference is called better."""
    rng = np.random.default_rng(4)
    world = World(images)
    smallest = float(np.mean([_compare(world, world, seeds, rng).smallest_detectable for _ in range(30)]))
    start, wanted = find_truth(world)["macro_f1"], 0.0
    below, above = world.skill, world.skill + 8
    for _ in range(18):
        middle = (below + above) / 2
        gain = find_truth(replace(world, skill=middle))["macro_f1"] - start
        below, above = (middle, above) if gain < 2 * smallest else (below, middle)
        wanted = gain
    found = [_compare(replace(world, skill=middle), world, seeds, rng).verdict for _ in range(comparisons)]
    print(
        f"power n={images}, {seeds} seed(s): smallest detectable {smallest:.3f}, true gain {wanted:.3f}: better in "
        f"{found.count('better') / comparisons:.1%}, worse in {found.count('worse') / comparisons:.1%} of "
        f"{comparisons}", flush=True,
    )  # fmt: skip


def _compare(better: World, world: World, seeds: int, rng: np.random.Generator) -> Difference:
    cohort = draw_cohort(world, rng)
    folds = [draw_folds(cohort, rng) for _ in range(seeds)]
    runs = {"a": make_run(world, cohort, folds, rng), "b": make_run(better, cohort, folds, rng)}
    return compare_pairs([Pair("b", "a", runs["b"], runs["a"])])[0]["macro_f1"]


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--only", choices=("intervals", "equal", "ladders", "power"))
    args = parser.parse_args()
    wanted = {args.only} if args.only else {"intervals", "equal", "ladders", "power"}
    if "intervals" in wanted:
        for images in (100, 500):
            for world in (World(0), World(0, skill=3.5), World(0, per_case=1.0), World(0, per_case=6.0)):
                measure_coverage(images, args.simulations, world=world)
    if "equal" in wanted:
        for images in (100, 500):
            for luck in (0.0, 0.4):
                for seeds, same in ((1, True), (3, True), (1, False)):
                    measure_false_verdicts(images, args.comparisons, seeds=seeds, same_folds=same, luck=luck)
    if "ladders" in wanted:
        for images in (100, 500):
            measure_ladders(images, args.comparisons, rungs=7)
    if "power" in wanted:
        for images in (100, 500):
            measure_power(images, args.comparisons, seeds=1)


if __name__ == "__main__":
    main()
