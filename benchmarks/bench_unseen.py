"""Does the stated interval hold on cases that nobody saw? Halves of a labelled cohort, by case, again and again.

    python benchmarks/bench_unseen.py DATA [--halves 20] [--recipe auto] [--minutes 5] [--runs FOLDER] [--set ...]

Of each half the labels are taken away: the run scores itself on the labelled half, with its interval, and predicts the
other as it would a competition's test part. Both halves hold half of each class's cases (of mixed cases any half).

stated    macro-F1 of the run, with its interval, by the unit that the run counts
other     macro-F1 of its predictions for the other half, by the same unit
inside    whether the interval holds it
foreseen  what the run expects of the other half (`smalti.evaluate.foresee_score`), and whether that holds it

The other half has luck of its own, so that an interval of 95 % of the labelled half alone holds about 83 of 100; what
is foreseen counts the luck of both. Tiles and features do not depend on labels, so that they are made once.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from smalti import workflow
from smalti.cohort import read_cohort
from smalti.evaluate import foresee_score
from smalti.records import CohortRecord, RunFolder
from smalti.store import read_table
from smalti.types import Sample, score_columns


def draw_half(samples: Sequence[Sample], *, seed: int) -> set[str]:
    """Cases of one half: half of those of each class, by the label that most of their images have."""
    rng = np.random.default_rng(seed)
    labels = pd.Series([s.label for s in samples]).groupby([s.case for s in samples]).agg(lambda one: one.mode()[0])
    chosen = set[str]()
    for _, group in labels.groupby(labels):
        cases = rng.permutation(np.array(group.index, dtype=str))
        chosen |= set(cases[: len(cases) // 2 + rng.integers(0, 1 + len(cases) % 2)].tolist())
    return chosen


def link_half(samples: Sequence[Sample], chosen: set[str], folder: Path) -> None:
    """A data folder with links to all images, and labels of the chosen cases."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for number, sample in enumerate(samples):
        for kind, path in (("images", sample.path), ("masks", sample.mask_path)):
            if path is not None:
                (folder / kind).mkdir(parents=True, exist_ok=True)
                (folder / kind / f"{number:05d}{path.suffix}").symlink_to(path.resolve())
        row = {"image": f"images/{number:05d}{sample.path.suffix}", "case": sample.case}
        known = sample.case in chosen
        rows.append(row | {"label": sample.label if known else "", "split": "train" if known else "test"})
    pd.DataFrame(rows).to_csv(folder / "samples.csv", index=False)


def score_other(run: RunFolder, truth: pd.DataFrame, *, unit: str) -> float:
    """Macro-F1 of the mean prediction of each image, or case, that had no label; ``truth`` by image: label, case."""
    classes = CohortRecord.read(run.path).classes
    columns = score_columns(classes)
    scores = read_table(run.predictions / "test.csv").groupby("image")[columns].mean()
    labels = truth.loc[scores.index, "label"]
    if unit == "case":
        cases = truth.loc[scores.index, "case"]
        scores, labels = scores.groupby(cases).mean(), labels.groupby(cases).first()
    said = scores.to_numpy().argmax(axis=1)
    return float(f1_score(labels, np.array(classes)[said], average="macro"))


def main() -> None:
    """Draw, run, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--halves", type=int, default=20)
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--runs", type=Path, default=Path("halves"))
    parser.add_argument("--set", action="append", default=[], help="as of smalti run")
    args = parser.parse_args()
    settings = [*args.set, *([f"portfolio.minutes={args.minutes:g}"] if args.recipe == "auto" else [])]
    samples = read_cohort(args.data, skip_problems=True).labelled
    inside, foreseen = [], []
    print(f"{'half':>4}{'cases':>7}{'stated':>9}{'low':>9}{'high':>9}{'other':>9}  inside   foreseen", flush=True)
    for half in range(args.halves):
        chosen, folder = draw_half(samples, seed=half), args.runs / "data" / args.data.name
        link_half(samples, chosen, folder)
        own = [*settings, "data.label=label", "data.case=case", "audit.checks=[exact-duplicate]"]
        result = workflow.run(
            folder, args.recipe, settings=own, runs=args.runs, name=f"{args.data.name}-{half}",
        )  # fmt: skip
        names = [f"images/{n:05d}{s.path.suffix}" for n, s in enumerate(samples)]
        truth = pd.DataFrame({"label": [s.label for s in samples], "case": [s.case for s in samples]}, index=names)
        metric, unit = result.scores.headline, result.scores.unit
        other = score_other(RunFolder(result.path), truth, unit=unit)
        inside.append(metric.low <= other <= metric.high)
        known, cases = result.scores.n_cases, len({s.case for s in samples})
        bounds = (metric.value, metric.low, metric.high)
        low, high = foresee_score(*bounds, cases=known, new_cases=cases - known)
        foreseen.append(low <= other <= high)
        numbers = "".join(f"{number:9.3f}" for number in (*bounds, other))
        words = ["yes" if found else "no" for found in (inside[-1], foreseen[-1])]
        print(f"{half:>4}{known:>7}{numbers}  {words[0]:<7}  {low:.3f} to {high:.3f} {words[1]}", flush=True)
    print(f"by {unit}: the interval holds the other half in {sum(inside)} of {len(inside)}, ", end="")
    print(f"what is foreseen of it in {sum(foreseen)}")


if __name__ == "__main__":
    main()
