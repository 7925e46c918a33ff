"""Does the sensitivity of a search tell knobs that matter from knobs that do not?

A drawn problem with six knobs: the score depends on a rate (best in the middle) and on a choice, and not on the other
four. Trials are drawn as a random search draws them, four studies of different difficulty. Wanted: the two that matter
ranked first in 95 % of repeats, and never more than one of the others called real.

    python benchmarks/bench_sensitivity.py [--repeats 20] [--trials 80] [--noise 0.03]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from smalti.tune import Space
from smalti.tune.sensitivity import measure_effects

MATTER = {"train.transfer.lr", "train.transfer.loss"}
SPACE = Space.model_validate(
    {
        "knobs": [
            {"knob": "train.transfer.lr", "low": 1e-4, "high": 1e-1, "log": True},
            {"knob": "train.transfer.loss", "choices": ["cross_entropy", "focal", "ldam"]},
            {"knob": "model.dropout", "low": 0.0, "high": 0.5},
            {"knob": "train.transfer.weight_decay", "low": 1e-4, "high": 1.0, "log": True},
            {"knob": "train.transfer.epochs", "low": 5, "high": 60, "whole": True},
            {"knob": "train.transfer.lookahead", "choices": [True, False]},
        ]
    }
)


def draw_trials(count: int, *, seed: int, noise: float) -> pd.DataFrame:
    """Scores of a random search; the standard deviation of what the knobs do is about 0.04."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "train.transfer.lr": 10 ** rng.uniform(-4, -1, count),
            "train.transfer.loss": rng.choice(["cross_entropy", "focal", "ldam"], count),
            "model.dropout": rng.uniform(0, 0.5, count),
            "train.transfer.weight_decay": 10 ** rng.uniform(-4, 0, count),
            "train.transfer.epochs": rng.integers(5, 61, count),
            "train.transfer.lookahead": rng.choice([True, False], count),
        }
    )
    rate = np.log10(table["train.transfer.lr"])
    signal = -0.04 * (rate + 2.5) ** 2 + 0.06 * (table["train.transfer.loss"] == "focal")
    study = np.arange(count) % 4
    return table.assign(value=0.6 + signal + 0.1 * study + rng.normal(0, noise, count), study=study.astype(str))


def main() -> None:
    """Print each repeat and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--noise", type=float, default=0.03, help="standard deviation between seeds")
    given = parser.parse_args()
    first, most, missed = 0, 0, 0
    started = time.perf_counter()
    for seed in range(given.repeats):
        effects = measure_effects(draw_trials(given.trials, seed=seed, noise=given.noise), SPACE, seed=seed)
        real = {e.knob for e in effects if e.real}
        ranked = {e.knob for e in effects[:2]} == MATTER
        first += ranked
        most = max(most, len(real - MATTER))
        missed += len(MATTER - real)
        print(f"seed {seed}: first two {'right' if ranked else 'wrong'}; real: {', '.join(sorted(real)) or 'none'}")
    print(
        f"{given.trials} trials, noise {given.noise}: the two that matter first in {first} of {given.repeats}; called "
        f"real by mistake at most {most} in a repeat; of {2 * given.repeats} that matter {missed} not called real; "
        f"{(time.perf_counter() - started) / given.repeats:.1f} s a repeat"
    )


if __name__ == "__main__":
    main()
