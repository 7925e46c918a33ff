"""Does the sensitivity of a search tell knobs that matter from knobs that do not?

A drawn problem with six knobs: the score depends on a rate (best in the middle) and on a choice, and not on the other
four. Trials are drawn at random, four studies of different difficulty; or, with --sampler, by the real search, which
ends early what is behind (three folds, noise of each so that a finished trial has --noise). Wanted: the two that matter
ranked first in 95 % of repeats, and never more than one of the others called real. With --null no knob matters: wanted
is any knob called real in at most 5 % of 200 repeats and two Monte-Carlo errors, 8.1 %.

    python benchmarks/bench_sensitivity.py [--repeats 20] [--trials 80] [--noise 0.03] [--sampler tpe]
    python benchmarks/bench_sensitivity.py --null --repeats 200 [--trials 80] [--sampler tpe]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd

from smalti.recipe import Recipe, load_recipe
from smalti.tune import Search, Space
from smalti.tune.search import Studies, name_steps, tabulate_trials
from smalti.tune.sensitivity import LEVEL, find_p_values, level_scores, measure_effects
from smalti.tune.trial import TrialRunner
from smalti.workflow import SILENT, Project

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


def draw_trials(count: int, *, seed: int, noise: float, reach: float = 1.0) -> pd.DataFrame:
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
    return table.assign(value=0.6 + reach * signal + 0.1 * study + rng.normal(0, noise, count), study=study.astype(str))


@dataclass
class Drawn(TrialRunner):
    """A bench whose scores are the same formula and luck."""

    noise: float = 0.0
    seed: int = 0
    reach: float = 1.0

    def try_recipe(self, recipe: Recipe, images: Any, *, name: str) -> Iterator[float]:
        """Scores after each inner fold."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        phase, folds = recipe.train.transfer, recipe.split.folds
        assert phase.lr is not None
        signal = -0.04 * (np.log10(phase.lr) + 2.5) ** 2 + 0.06 * (phase.loss == "focal")
        scores = 0.6 + 0.02 * len(images) + self.reach * signal + rng.normal(0, self.noise * folds**0.5, folds)
        yield from (np.cumsum(scores) / np.arange(1, folds + 1)).tolist()


@dataclass
class Repeat(Studies):
    """Studies that draw other knobs in each repeat."""

    repeat: int = 0

    def _build_sampler(self, seed: int, *, drawn: int) -> optuna.samplers.BaseSampler:
        return super()._build_sampler(seed + 10 * self.repeat, drawn=drawn)


def search_trials(count: int, *, seed: int, noise: float, sampler: Any, reach: float = 1.0) -> pd.DataFrame:
    """About ``count`` trials in four studies of the real search, those that ended early among them."""
    search = Search(sampler=sampler, trials=count // 4)
    with tempfile.TemporaryDirectory() as folder:
        ground: Any = SimpleNamespace(cohort=None)
        bench = Drawn(
            Project(Path(folder)), ground, Path(folder), load_recipe("quick"), noise=noise, seed=seed, reach=reach
        )
        studies = Repeat(SPACE, search, bench, (), SILENT, repeat=seed)
        splits: Any = [
            SimpleNamespace(name=f"{seed}-{i}", train=np.arange(i + 1), inner=np.arange(0)) for i in range(3)
        ]
        found = studies.run(splits, images=9, deadline=float("inf"))
        return level_scores(tabulate_trials(found, SPACE.names, folds=search.folds), steps=name_steps(search.folds))


def count_false(given: argparse.Namespace) -> None:
    """Print how often any of six knobs is called real where none matters."""
    found = []
    for seed in range(given.repeats):
        options: dict[str, Any] = {"seed": seed, "noise": given.noise, "reach": 0.0}
        if given.sampler is None:
            trials = draw_trials(given.trials, **options)
        else:
            trials = search_trials(given.trials, sampler=given.sampler, **options)
        found.append(min(find_p_values(trials, SPACE, seed=seed)))
    for level in (LEVEL, LEVEL / 2):
        print(f"{given.trials} trials, {given.sampler or 'drawn'}: any knob real at {level:g} in "
              f"{sum(p < level for p in found)} of {given.repeats}")  # fmt: skip


def main() -> None:
    """Print each repeat and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--noise", type=float, default=0.03, help="standard deviation between seeds")
    parser.add_argument("--sampler", choices=("tpe", "random"), help="draw trials by the real search, pruned")
    parser.add_argument("--null", action="store_true", help="no knob matters: how often is one called real?")
    given = parser.parse_args()
    if given.null:
        count_false(given)
        return
    first, most, missed = 0, 0, 0
    started = time.perf_counter()
    for seed in range(given.repeats):
        if given.sampler is None:
            trials = draw_trials(given.trials, seed=seed, noise=given.noise)
        else:
            trials = search_trials(given.trials, seed=seed, noise=given.noise, sampler=given.sampler)
        effects = measure_effects(trials, SPACE, seed=seed)
        real = {e.knob for e in effects if e.p_value < LEVEL}
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
