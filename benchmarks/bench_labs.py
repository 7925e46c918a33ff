"""Two drawn laboratories with different stains and scanners: learn from one, score on the other.

    python benchmarks/bench_labs.py [--weights FILE] [--labelled 120] [--other 100] [--seeds 0,1]
        [--finetune-epochs 15] [--here 1] [--there 2] [--runs FOLDER]

The biology is the same: four classes, told by the nuclei under the mask alone. Images of the first laboratory have
labels and cases; those of the second are the unlabelled part, whose truth only this script reads. Each rung is a run of
smalti. On the first laboratory it is scored out of fold; on the second by the mean of the networks of all folds. The
difference on the second laboratory is paired, with an interval by case; each fine-tuned rung stands against the plain
fine-tuned one. On the second laboratory all networks score all images, so that the luck of single trainings is in the
interval only as far as seeds show it. ``ceiling`` is the first recipe on the second laboratory's own labels, for scale.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from smalti.demo import CLASS_SHARES, CohortPlan, ImagePlan, draw_plan
from smalti.demo.field import TissuePlan
from smalti.demo.plan import class_counts
from smalti.evaluate import Pair, compare_pairs, measure_margins
from smalti.stats import pool_predictions, score_pool
from smalti.stats.intervals import Scored
from smalti.types import score_columns
from smalti.workflow import run

CLASSES = tuple(sorted(CLASS_SHARES))
PAIRED = 0.3  # share of the cases with a second image
SIDE_PX = (500, 700)
FROZEN = {
    "nothing": ["stain.normalise=none"],
    "macenko": ["stain.normalise=macenko"],
    "reinhard": ["stain.normalise=reinhard"],
    "vahadane": ["stain.normalise=vahadane"],
}
TUNED = {
    "tuned": ["train.finetune.augmentation=flips"],
    "tuned, varied": ["train.finetune.augmentation=flips_stain", "train.finetune.strength_end=1.0"],
    "tuned, macenko": ["train.finetune.augmentation=flips", "stain.normalise=macenko"],
    "tuned, both": [
        "train.finetune.augmentation=flips_stain",
        "train.finetune.strength_end=1.0",
        "stain.normalise=macenko",
    ],
}


def main() -> None:
    """Draw, run every rung, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--labelled", type=int, default=120)
    parser.add_argument("--other", type=int, default=100)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--finetune-epochs", type=int, default=15, help="0 leaves the fine-tuned rungs out")
    parser.add_argument("--here", type=int, default=1)
    parser.add_argument("--there", type=int, default=2)
    parser.add_argument("--runs", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.runs or Path(name)
        data, mirrored = folder / "data", folder / "mirrored"
        parts = {"here": (args.here, args.labelled), "there": (args.there, args.other)}
        for path, (first, second) in ((data, ("here", "there")), (mirrored, ("there", "here"))):
            if not path.exists():
                draw(path, parts[first], parts[second])
        common = [f"split.seeds=[{args.seeds}]", "audit.checks=[]", "train.watch=none", "split.folds=4"]
        backbone = [f"model.weights={args.weights}"] if args.weights else ["model.pretrained=false"]
        rungs = FROZEN if args.weights else {}
        found = {rung: score(data, rung, [*common, *backbone, *knobs], folder) for rung, knobs in rungs.items()}
        if rungs:
            ceiling = score(mirrored, "ceiling", [*common, *backbone], folder)[0]
            print(f"ceiling: laboratory {args.there} out of fold {ceiling.score_seeds('macro_f1').mean():.3f}")
        if args.finetune_epochs:
            tuned = [*common, *tune(args.finetune_epochs)]
            found |= {rung: score(data, rung, [*tuned, *knobs], folder) for rung, knobs in TUNED.items()}
    print_table(found)


def tune(epochs: int) -> list[str]:
    """A small backbone learns all of it from tiles: the overlay ``scratch`` with fewer epochs, and no second pass."""
    return [
        "model.backbone=test_resnet", "model.pretrained=false", "model.norm=live", "tile.size_px=128",
        "train.transfer.epochs=0", f"train.finetune.epochs={epochs}", f"train.finetune.patience={epochs}",
        "train.finetune.lr=0.003", "train.finetune.stages=1", "train.finetune.layer_decay=1.0", "train.refit=false",
    ]  # fmt: skip


def draw(folder: Path, first: tuple[int, int], second: tuple[int, int]) -> None:
    """A cohort whose train part is of one laboratory, its test part of another; each is (laboratory, images)."""
    train, test = (
        tuple(plan_images(part, laboratory, count=count))
        for part, (laboratory, count) in (("train", first), ("test", second))
    )
    draw_plan(CohortPlan(train, test), folder)
    # The truth about cases of the test part stays in the truth folder.
    pd.DataFrame([(i.index, i.case) for i in test], columns=["sample_index", "case"]).to_csv(
        folder / "truth" / "test_cases.csv", index=False
    )


def plan_images(part: str, laboratory: int, *, count: int) -> Iterator[ImagePlan]:
    """Clean tissue of one laboratory; the seed is that of laboratory and image, so that no two parts share one."""
    rng = np.random.default_rng(laboratory)
    order = iter(rng.permutation(count).tolist())
    case = 0
    for label, images in class_counts(count).items():
        left = images
        while left:
            size = min(left, 2 if rng.random() < PAIRED else 1)
            for _ in range(size):
                number = next(order)
                shape = tuple(int(v) for v in rng.integers(*SIDE_PX, 2))
                tissue = TissuePlan((9, laboratory, number), (9, laboratory, 10_000 + case), shape, label, laboratory)
                plan = ImagePlan(part, number, "tissue", label, label, f"c{case:03d}", tissue, shape, (9, number))
                yield plan
            case, left = case + 1, left - size


def score(data: Path, rung: str, settings: list[str], folder: Path) -> tuple[Scored, Scored]:
    """Run one rung; pools of the labelled part out of fold and of the other part by the mean of all folds."""
    recipe = "quick" if "train.transfer.epochs=0" not in settings else "default"
    name = "".join(c if c.isalnum() else "-" for c in rung)
    result = run(data, recipe, settings=settings, runs=folder / "runs", name=name)
    print(rung, result.describe(), flush=True)
    outer = pd.read_csv(result.path / "predictions" / "out_of_fold.csv")
    test = pd.read_csv(result.path / "predictions" / "test.csv")
    columns = score_columns(CLASSES)
    test = test.groupby(["seed", "image"])[columns].mean().reset_index()
    for column, table in (("label", "test_labels.csv"), ("case", "test_cases.csv")):
        truth = pd.read_csv(data / "truth" / table).set_index("sample_index").iloc[:, 0]
        test[column] = test["image"].map(lambda image, truth=truth: truth[Path(image).name])
    pools = (pool_predictions(table, classes=CLASSES) for table in (outer, test))
    here, there = (score_pool(pool) for pool in pools)
    return here, there


def print_table(found: dict[str, tuple[Scored, Scored]]) -> None:
    """One line a rung."""
    bases = {rung: "tuned" if rung.startswith("tuned") else "nothing" for rung in found}
    pairs = {
        rung: Pair(rung, bases[rung], there, found[bases[rung]][1])
        for rung, (_, there) in found.items()
        if bases[rung] != rung
    }
    compared = dict(zip(pairs, compare_pairs(list(pairs.values())), strict=True))
    print("\nmacro-F1          here (out of fold)     there (interval)         difference there (interval), verdict")
    for rung, (here, there) in found.items():
        margins = [measure_margins(r.pool, confidence=0.95)["macro_f1"] for r in (here, there)]
        text = [f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})" for m in margins]
        line = f"{rung:16s}  {text[0]}  {text[1]}"
        if rung in compared:
            d = compared[rung]["macro_f1"]
            line += f"  {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f}), p {d.p_holm:.3f}: {d.verdict}"
        print(line)


if __name__ == "__main__":
    main()
