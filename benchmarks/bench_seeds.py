"""Does the same recipe with another seed get a verdict? Real networks on frozen features of a real or drawn cohort.

    python benchmarks/bench_seeds.py DATA [--weights FILE] [--comparisons 200] [--set section.knob=value]

Each comparison is of two seeds that were used for nothing else; folds and training both depend on the seed.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from smalti import workflow
from smalti.evaluate import Pair, compare_pairs
from smalti.recipe import load_recipe
from smalti.records import RunFolder
from smalti.stats import Scored, pool_predictions, score_pool
from smalti.train import Experiment


def main() -> None:
    """Print the share of verdicts and of intervals that hold zero."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    args = parser.parse_args()
    settings = [*args.settings, *([f"model.weights={args.weights}"] if args.weights else [])]
    recipe = load_recipe(
        "quick", settings=["audit.accept=[blank, shared-mask, exact-duplicate, near-duplicate]", *settings]
    )
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        project = workflow.Project(args.data, runs, runs / "decisions.csv")
        ground = workflow.inspect_ground(project, recipe)
        experiment = workflow.prepare(project, ground, recipe, name="base")
        false, covered = 0, 0
        for number in range(args.comparisons):
            pair = [train_seed(experiment, seed, runs) for seed in (2 * number, 2 * number + 1)]
            found = compare_pairs([Pair("second", "first", pair[1], pair[0])])[0]["macro_f1"]
            false += found.verdict != "cannot tell"
            covered += found.low <= 0 <= found.high
            if (number + 1) % 20 == 0:
                pool, done = pair[0].pool, number + 1
                print(
                    f"{done} comparisons ({len(pool.images)} images, {pool.n_cases} cases): verdicts "
                    f"{false / done:.1%}, interval holds zero {covered / done:.1%}", flush=True,
                )  # fmt: skip


def train_seed(experiment: Experiment, seed: int, runs: Path) -> Scored:
    """Out-of-fold predictions of one seed, resampled."""
    from smalti.predict import predict_outer
    from smalti.samples import split_cases
    from smalti.train import train_folds

    run = RunFolder(runs / f"seed{seed}")
    run.path.mkdir()
    split = experiment.recipe.split.model_copy(update={"seeds": (seed,)})
    splits = split_cases(experiment.cohort, split)
    one = replace(experiment, run=run, splits=splits, recipe=experiment.recipe.model_copy(update={"split": split}))
    train_folds(one)
    pool = pool_predictions(predict_outer(one), classes=one.cohort.classes)
    return score_pool(pool)


if __name__ == "__main__":
    main()
