"""Does the interval of one run cover what it says it covers? Simulated cohorts whose true scores are known.

    python benchmarks/bench_coverage.py [--simulations 400] [--only WORD] [--loose]

An image's logits are a skill for its class, what its case looks like, and noise; a network (one per fold and seed)
has a skill and a bias per class of its own, whose standard deviation is the *luck*, and noise of its own. Two truths:

* T1, *the recipe*: what such runs score on average on endless cases, each with networks of its own;
* T2, *these networks*: what the very networks of this run score on endless cases.

A line a setting: the truth that is claimed (T2 where there are too few networks to tell T1), how far its worst metric
is from 0.93 in Monte-Carlo errors; then for every metric the share of runs whose interval is called trustworthy, and
the shares of those that hold T1 and T2. ``--loose`` counts the others too.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.evaluate.margins import LEAST_NETWORKS, measure_margins
from smalti.metrics import METRICS
from smalti.stats.pool import Pool

SHOWN = ("macro_f1", "balanced_accuracy", "accuracy", "auc", "log_loss")
LEAST_COUNTED = 20  # trustworthy intervals of a setting; of fewer, a share says nothing
POPULATION = 8_000  # cases of one image for each truth: the number of images has no part in how hard they are


@dataclass(frozen=True)
class World:
    """What is drawn; ``score`` is the true macro-F1 that the skill is chosen for, ``looks`` the spread of the cases."""

    cases: int
    score: float
    shares: tuple[float, ...] = (0.5, 0.5)
    heavy: bool = False
    luck: float = 0.3
    folds: int = 5
    seeds: int = 1
    looks: float = 1.0

    def describe(self) -> str:
        """One line."""
        sizes = "1 to 60" if self.heavy else "1"
        shares = "/".join(f"{share:g}" for share in self.shares)
        return (
            f"{self.cases:4d} cases of {sizes:7s} score {self.score:.2f} classes {shares:13s} luck {self.luck:.1f} "
            f"{self.folds} folds {self.seeds} seeds"
        )


SETTINGS = [
    World(12, 0.8), World(20, 0.6), World(20, 0.9), World(30, 0.9), World(30, 0.97),
    World(60, 0.6, luck=0.0), World(60, 0.8), World(60, 0.9, luck=0.8), World(60, 0.97),
    World(100, 0.6), World(100, 0.8, luck=0.0), World(100, 0.8, luck=0.8), World(100, 0.97),
    World(200, 0.9), World(200, 0.97),
    World(500, 0.6, luck=0.8), World(500, 0.8), World(500, 0.8, luck=0.0), World(500, 0.9, luck=0.8), World(500, 0.97),
    *(World(n, s, (0.92, 0.08)) for n, s in ((100, 0.6), (100, 0.93), (200, 0.8), (500, 0.6), (500, 0.9))),
    *(World(n, 0.8, (0.92, 0.08), luck=0.8) for n in (100, 500)),
    *(World(n, s, heavy=True) for n, s in ((30, 0.8), (60, 0.6), (60, 0.9), (200, 0.8), (200, 0.95))),
    *(World(n, s, (0.9, 0.1), heavy=True) for n, s in ((120, 0.7), (120, 0.9), (300, 0.8))),
    *(World(n, 0.75, (0.4, 0.3, 0.2, 0.1), heavy=h) for n, h in ((100, False), (300, False), (100, True))),
    *(World(200, 0.8, folds=f, seeds=s, luck=lk)
      for f, s in ((2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (3, 5), (5, 3)) for lk in (0.0, 0.3, 0.8)),
    *(World(150, 0.8, (0.93, 0.07), heavy=True, folds=f, seeds=s, luck=0.6) for f, s in ((3, 2), (5, 3))),
]  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """Drawn cases; ``logits`` (n, C) without any network."""

    y: NDArray[np.int64]
    case: NDArray[np.int64]
    logits: NDArray[np.float64]


def draw_cohort(world: World, rng: np.random.Generator, *, cases: int, heavy: bool) -> Cohort:
    """Cases with one label each; heavy-tailed numbers of images where asked for."""
    sizes = np.minimum(60, rng.pareto(1.0, cases) + 1).astype(np.int64) if heavy else np.ones(cases, np.int64)
    case = np.repeat(np.arange(cases), sizes)
    classes = len(world.shares)
    y = rng.choice(classes, p=world.shares, size=cases)[case]
    looks = rng.normal(0, world.looks, (cases, classes))
    return Cohort(y, case, looks[case] + rng.gumbel(0, 1, (len(case), classes)))


def draw_folds(world: World, cohort: Cohort, rng: np.random.Generator) -> NDArray[np.int64]:
    """Stratified by the label of the case."""
    labels = cohort.y[np.unique(cohort.case, return_index=True)[1]]
    fold = np.empty(len(labels), dtype=np.int64)
    for label in range(len(world.shares)):
        members = rng.permutation(np.flatnonzero(labels == label))
        fold[members] = (np.arange(len(members)) + rng.integers(world.folds)) % world.folds
    return fold[cohort.case]


def apply_networks(
    cohort: Cohort, networks: NDArray[np.float64], folds: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Scores (S, n, C) of networks (S, F, 1 + C): a skill, and a bias per class; folds (S, n)."""
    own = np.take_along_axis(networks, folds[:, :, None], axis=1)
    logits = cohort.logits + own[:, :, 1:] + own[:, :, :1] * np.eye(cohort.logits.shape[1])[cohort.y]
    logits += rng.normal(0, 0.7, logits.shape)
    shifted = np.exp(logits - logits.max(axis=2, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=2, keepdims=True))


def draw_networks(world: World, skill: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Skill and biases of one network per seed and fold, (S, F, 1 + C)."""
    networks = rng.normal(0, world.luck, (world.seeds, world.folds, 1 + len(world.shares)))
    networks[:, :, 0] += skill
    return networks


def score_endless(
    cohort: Cohort, networks: NDArray[np.float64], rng: np.random.Generator, *, names: tuple[str, ...] = SHOWN
) -> dict[str, float]:
    """What networks (S, F, 1 + C) score on a large cohort, pooled over folds, mean over seeds."""
    folds = rng.integers(0, networks.shape[1], len(cohort.y))
    scores = apply_networks(cohort, networks, np.tile(folds, (len(networks), 1)), rng)
    return {name: float(np.mean([METRICS.find(name).build(cohort.y, s) for s in scores])) for name in names}


def find_recipe(world: World) -> tuple[float, Cohort, dict[str, float]]:
    """The skill that gives the score, a large cohort, and T1."""
    rng = np.random.default_rng(1)
    endless = draw_cohort(world, rng, cases=POPULATION, heavy=False)
    low, high = -2.0, 14.0
    for _ in range(11):
        skill = (low + high) / 2
        rng = np.random.default_rng(2)
        found = [
            score_endless(endless, draw_networks(world, skill, rng)[:1], rng, names=("macro_f1",)) for _ in range(6)
        ]
        low, high = (skill, high) if np.mean([f["macro_f1"] for f in found]) < world.score else (low, skill)
    found = [score_endless(endless, draw_networks(world, skill, rng)[:1], rng) for _ in range(100)]
    return skill, endless, {name: float(np.mean([f[name] for f in found])) for name in SHOWN}


def measure_setting(world: World, simulations: int, *, loose: bool) -> float:
    """Print one line; the worst distance from 0.93 in Monte-Carlo errors."""
    skill, endless, recipe = find_recipe(world)
    rng = np.random.default_rng(7)
    claims_recipe = world.folds * world.seeds >= LEAST_NETWORKS
    trusted, width = dict.fromkeys(SHOWN, 0), dict.fromkeys(SHOWN, 0.0)
    inside = {name: np.zeros(2) for name in SHOWN}
    for _ in range(simulations):
        cohort = draw_cohort(world, rng, cases=world.cases, heavy=world.heavy)
        folds = np.stack([draw_folds(world, cohort, rng) for _ in range(world.seeds)])
        networks = draw_networks(world, skill, rng)
        names = tuple(f"i{n:06d}" for n in range(len(cohort.y)))
        cases = tuple(f"c{n:06d}" for n in range(world.cases))
        classes = tuple("abcd"[: len(world.shares)])
        pool = Pool(classes, names, cohort.y, cohort.case, folds, apply_networks(cohort, networks, folds, rng), cases)
        margins = measure_margins(pool, confidence=0.95)
        own = score_endless(endless, networks, rng)
        for name in SHOWN:
            margin = margins[name]
            if loose or margin.trustworthy:
                trusted[name] += 1
                width[name] += margin.high - margin.low
                inside[name] += [margin.low <= truth[name] <= margin.high for truth in (recipe, own)]
    parts, worst = [], math.inf
    for name in SHOWN:
        number = trusted[name]
        shares = inside[name] / max(number, 1)
        mean = width[name] / max(number, 1)
        told = f"{number / simulations:.2f}: {shares[0]:.3f} {shares[1]:.3f}, width {mean:.3f}" if number else "never"
        parts.append(f"{name} {told}")
        if number >= LEAST_COUNTED and name != "log_loss":
            worst = min(worst, (shares[0 if claims_recipe else 1] - 0.93) / math.sqrt(0.93 * 0.07 / number))
    print(f"{world.describe()} T{1 if claims_recipe else 2} {worst:+.1f} | " + " | ".join(parts), flush=True)
    return worst


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--only", default="", help="settings whose line holds this")
    parser.add_argument("--loose", action="store_true")
    args = parser.parse_args()
    chosen = [world for world in SETTINGS if args.only in world.describe()]
    worst = [measure_setting(world, args.simulations, loose=args.loose) for world in chosen]
    print(f"{len(worst)} settings; worst {min(worst):+.1f} Monte-Carlo errors from 0.93")


if __name__ == "__main__":
    main()
