"""Is one run better than another on the same cases? Paired bootstrap of the difference of macro-F1, by case.

    python benchmarks/bench_presets.py runs/A runs/B [--truth demo-data/truth/test_labels.csv]

With --truth, submission.csv of run A is scored against the hidden labels as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from smalti.metrics import macro_f1_of_confusions
from smalti.stats import pool_predictions
from smalti.stats.intervals import count_confusions, draw_weights
from smalti.store import read_json, read_table


def main() -> None:
    """Print both scores, the difference and its 95 % interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--truth", type=Path)
    args = parser.parse_args()
    classes = tuple(read_json(args.first / "cohort.json")["classes"])
    pools = [
        pool_predictions(read_table(path / "predictions" / "out_of_fold.csv"), classes=classes)
        for path in (args.first, args.second)
    ]
    if pools[0].images != pools[1].images or not np.array_equal(pools[0].case, pools[1].case):
        raise SystemExit("the runs are not on the same images and cases")
    counts = [count_confusions(pool) for pool in pools]
    scores = [macro_f1_of_confusions(c.sum(axis=1)).mean() for c in counts]
    weights = np.concatenate(list(draw_weights(pools[0].n_cases, resamples=10_000)))
    drawn = [macro_f1_of_confusions(np.einsum("rc,scij->rsij", weights, c)).mean(axis=1) for c in counts]
    low, high = np.percentile(drawn[0] - drawn[1], [2.5, 97.5])
    print(f"{args.first.name} {scores[0]:.3f}, {args.second.name} {scores[1]:.3f}; difference "
          f"{scores[0] - scores[1]:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}; {len(pools[0].images)} images, "
          f"{pools[0].n_cases} cases, {len(counts[0])} seed(s)")  # fmt: skip
    if args.truth is not None:
        score_submission(args.first, args.truth)


def score_submission(run: Path, truth: Path) -> None:
    """Macro-F1 of a submission against the hidden labels, beside the run's own interval."""
    table = pd.read_csv(run / "submission.csv").merge(pd.read_csv(truth), on="sample_index", suffixes=("", "_true"))
    hidden = f1_score(table["label_true"], table["label"], average="macro")
    own = read_json(run / "scores.json")["metrics"]["macro_f1"]
    inside = "inside" if own["low"] <= hidden <= own["high"] else "outside"
    print(f"hidden test {hidden:.3f} ({len(table)} images): {inside} {own['low']:.3f} to {own['high']:.3f}")


if __name__ == "__main__":
    main()
