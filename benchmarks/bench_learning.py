"""Does the width of an extrapolated learning curve keep its promise? Drawn problems whose true curve is known.

    python benchmarks/bench_learning.py [--problems 40] [--only ahead|halves]

Classes are Gaussian, with a look of each case shared by its images. The head is ridge regression in closed form that
learns on nested orders of the cases inside case-grouped folds as 'smalti learn' does. *ahead*: the interval for twice
and four times the cases against the score of heads that really learn from so many, on a large test set. *halves*: only
the curve up to half the cases is extrapolated, against the score that was measured at all of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smalti.evaluate import forecast_growth
from smalti.learn.subsets import choose_shares, order_cases, take_cases
from smalti.metrics import macro_f1
from smalti.stats import Pool

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FOLDS, ORDERS = 5, 5


@dataclass(frozen=True)
class Problem:
    """What is drawn: ``apart`` is the distance of two class means, ``looks`` the spread that images of a case share."""

    cases: int
    classes: int = 2
    dimensions: int = 40
    apart: float = 2.0
    looks: float = 0.7
    images: int = 3


PROBLEMS = (
    Problem(60),
    Problem(100, dimensions=100),
    Problem(100, dimensions=4, apart=1.5),
    Problem(120, classes=4, apart=2.5),
    Problem(200, dimensions=200, apart=1.5, images=1),
    Problem(200, dimensions=10, apart=0.0),
    Problem(300, classes=3, dimensions=20, apart=1.5, images=1),
)


def draw(problem: Problem, cases: int, rng: np.random.Generator) -> tuple[Floats, Ints, Ints]:
    """Embeddings (n, D), classes and cases (n,) of so many cases."""
    label = np.arange(cases) % problem.classes
    case = np.repeat(np.arange(cases), problem.images)
    means = np.eye(problem.classes, problem.dimensions) * problem.apart / np.sqrt(2)
    look = rng.normal(0, problem.looks, (cases, problem.dimensions))
    x = means[label[case]] + look[case] + rng.normal(0, np.sqrt(1 - problem.looks**2), (len(case), problem.dimensions))
    return x, label[case], case


def solve(x: Floats, y: Ints, classes: int) -> Floats:
    """Ridge regression of the classes as 0 and 1, (D + 1, C); about as strong as inner folds would choose."""
    one = np.column_stack([x, np.ones(len(x))])
    return np.linalg.solve(one.T @ one + x.shape[1] * np.eye(one.shape[1]), one.T @ np.eye(classes)[y])


def apply(head: Floats, x: Floats) -> Floats:
    """Scores (n, C)."""
    logits = np.exp(np.column_stack([x, np.ones(len(x))]) @ head)
    return np.asarray(logits / logits.sum(axis=1, keepdims=True))


def trace(problem: Problem, rng: np.random.Generator) -> tuple[list[float], list[list[Pool]]]:
    """Sizes and pools of the curve of one drawn cohort."""
    x, y, case = draw(problem, problem.cases, rng)
    fold = (rng.permutation(problem.cases // problem.classes * problem.classes + problem.classes) % FOLDS)[case]
    parts = [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]
    orders = [[order_cases(y[rest], case[rest], seed=100 * f + o) for o in range(ORDERS)]
              for f, (rest, _) in enumerate(parts)]  # fmt: skip
    shares = choose_shares([one for row in orders for one in row])
    sizes, pools = [], []
    for share in shares:
        of_size, counts = [], []
        for o in range(ORDERS if share < 1 else 1):
            scores = np.empty((len(y), problem.classes))
            for (rest, outer), row in zip(parts, orders, strict=True):
                taught = rest[take_cases(row[o], case[rest], share=share)]
                counts.append(len(np.unique(case[taught])))
                scores[outer] = apply(solve(x[taught], y[taught], problem.classes), x[outer])
            names = tuple(f"i{n:05d}" for n in range(len(y))), tuple(f"c{n:05d}" for n in range(problem.cases))
            of_size.append(
                Pool(tuple("abcdef"[: problem.classes]), names[0], y, case, fold[None], scores[None], names[1])
            )
        sizes.append(float(np.mean(counts)))
        pools.append(of_size)
    return sizes, pools


def find_truth(problem: Problem, cases: float) -> float:
    """The macro-F1 to be expected of a head that learns from so many cases, on new ones."""
    x, y, _ = draw(problem, 6000, np.random.default_rng(10**6))
    rng = np.random.default_rng(round(cases))
    scores = []
    for _ in range(100):
        own = draw(problem, round(cases), rng)
        scores.append(macro_f1(y, apply(solve(own[0], own[1], problem.classes), x)))
    return float(np.mean(scores))


def measure(problem: Problem, number: int, *, halves: bool) -> None:
    """Print how often the intervals hold what is true, and how wide they are."""
    held, gains, widths, missed = [], [], [], []
    truths: dict[int, float] = {}
    for seed in range(number):
        sizes, pools = trace(problem, np.random.default_rng(seed))
        if halves:
            last = max(i for i, size in enumerate(sizes) if size <= sizes[-1] / 2 + 1)
            target = macro_f1(pools[-1][0].y_true, pools[-1][0].scores[0])
            found = forecast_growth(
                sizes[: last + 1], pools[: last + 1], times=(sizes[-1] / sizes[last],), confidence=0.95
            )
            held.append([one.low <= target <= one.high for one in found])
        else:
            found = forecast_growth(sizes, pools, times=(2, 4), confidence=0.95)
            for time in (1, 2, 4):
                if time not in truths:
                    truths[time] = find_truth(problem, sizes[-1] * time)
            goals = [truths[time] for time in (1, 2, 4)]
            held.append([one.low <= goal <= one.high for one, goal in zip(found, goals[1:], strict=True)])
            gains.append([one.gain_low <= goal - goals[0] <= one.gain_high
                          for one, goal in zip(found, goals[1:], strict=True)])  # fmt: skip
            missed.append([one.gain - goal + goals[0] for one, goal in zip(found, goals[1:], strict=True)])
        widths.append([one.gain_high - one.gain_low for one in found])
    line = f"score held {np.mean(held, axis=0).round(2)}, width of the gain {np.mean(widths, axis=0).round(3)}"
    if not halves:
        line += f", gain held {np.mean(gains, axis=0).round(2)}, bias {np.mean(missed, axis=0).round(3)}"
        line += f", truth {np.round(list(truths.values()), 3)}"
    print(f"{'halves' if halves else 'ahead'}: {line} | {problem}", flush=True)


def main() -> None:
    """Print one line per problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--only", choices=("ahead", "halves"))
    args = parser.parse_args()
    for problem in PROBLEMS:
        for halves in (False, True):
            if args.only in (None, "halves" if halves else "ahead"):
                measure(problem, args.problems, halves=halves)


if __name__ == "__main__":
    main()
