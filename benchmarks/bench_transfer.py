"""Phase transfer: what do 5 folds x 3 seeds cost beside 1 fold x 1 seed?

Features are computed once and shared, so the answer should be near 1. Both from an empty cache, in turn, same process.

    python benchmarks/bench_transfer.py DATA [--weights FILE] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from smalti import workflow
from smalti.recipe import load_recipe
from smalti.records import open_run
from smalti.train import train_folds


def main() -> None:
    """Print the two medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    chosen = [f"model.weights={args.weights}"] if args.weights else ["model.pretrained=false"]
    recipe = load_recipe("quick", settings=["split.folds=5", "split.seeds=[0,1,2]", *chosen])
    one, fifteen = [], []
    for _ in range(args.repeats):
        for times, count in ((one, 1), (fifteen, None)):
            with tempfile.TemporaryDirectory() as name:
                started = time.perf_counter()
                prepare_and_train(args.data, recipe, Path(name), count=count)
                times.append(time.perf_counter() - started)
    print(f"1 fold x 1 seed    {statistics.median(one):7.1f} s")
    print(f"5 folds x 3 seeds  {statistics.median(fifteen):7.1f} s")
    print(f"ratio              {statistics.median(b / a for a, b in zip(one, fifteen, strict=True)):7.3f}")


def prepare_and_train(data: Path, recipe: object, runs: Path, *, count: int | None) -> None:
    """Tiles, features and the heads of the first ``count`` folds, from nothing."""
    project = workflow.Project(data, runs, runs / "decisions.csv")
    experiment = workflow.prepare(project, workflow.inspect_ground(project, recipe), recipe, name="bench")
    splits = experiment.splits
    folder = open_run(runs / "few", recipe=recipe, identity={})
    train_folds(replace(experiment, run=folder, splits=splits[:count]))


if __name__ == "__main__":
    main()
