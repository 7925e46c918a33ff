"""Do maps find the planted region? Drawn tissue whose class changes pixels inside the mask only.

Bags have tiles of the whole image (no floor of coverage), so that a network could look anywhere. Measured: the share of
a map inside the mask over the mask's share of the area, on held-out images whose mask covers at most half of what is
looked at (else twice its share could not be reached). A control has the same images with labels permuted by case.

    python benchmarks/bench_explain.py --weights FILE [--images 160] [--poolers attention gated_attention clam_mb]
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch

import smalti
from smalti.demo.cohort import draw_plan
from smalti.demo.plan import CohortPlan, plan_cohort
from smalti.explain import measure_ratio, share_inside, stitch_tiles
from smalti.explain.explanation import Explanation, Question, explain_images
from smalti.models import UpperPart
from smalti.store import read_json
from smalti.workflow import reopen
from smalti.workflow.explaining.heatmaps import find_place

LARGEST_AREA = 0.5


def draw_clean(folder: Path, *, images: int, side_px: tuple[int, int], seed: int) -> Path:
    """Clean tissue of four classes, some cases with two images, nothing planted but the class."""
    if folder.is_dir():
        return folder
    plan = plan_cohort(seed=seed, labelled=2 * images, unlabelled=1, side_px=side_px)
    clean = [image for image in plan.train if image.kind == "tissue" and image.given == image.true][:images]
    return draw_plan(CohortPlan(tuple(clean), plan.test), folder)


def shuffle_labels(data: Path, folder: Path, *, seed: int) -> Path:
    """The same folder with the labels permuted among cases."""
    if folder.is_dir():
        return folder
    shutil.copytree(data, folder)
    with (data / "cases.csv").open(encoding="utf-8") as file:
        cases = {row["sample_index"]: row["case"] for row in csv.DictReader(file)}
    path = folder / "train_labels.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_case = {cases[row["sample_index"]]: row["label"] for row in rows}
    order = np.random.default_rng(seed).permutation(list(of_case.values()))
    new = dict(zip(of_case, order.tolist(), strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["sample_index", "label"])
        writer.writeheader()
        writer.writerows({"sample_index": r["sample_index"], "label": new[cases[r["sample_index"]]]} for r in rows)
    return folder


def keep_maps() -> None:
    """Let the frozen backbone look at a tile once for all runs; what is kept here is a few hundred megabytes."""
    kept: dict[bytes, torch.Tensor] = {}
    run_lower = UpperPart.run_lower

    def recall(self: UpperPart, tiles: torch.Tensor) -> torch.Tensor:
        key = hashlib.blake2b(tiles.numpy().tobytes()).digest()
        if key not in kept:
            kept[key] = run_lower(self, tiles)
        return kept[key]

    UpperPart.run_lower = recall  # type: ignore[method-assign]


def measure_shares(run: Path) -> dict[str, list[tuple[str, list[float], float]]]:
    """For each map, of each held-out image its case, the share inside the mask of every seed, and the mask's area."""
    experiment, splits = reopen(run)
    told = {row["image"]: row for row in read_json(run / "explanation.json")["images"]}
    classes = experiment.cohort.classes
    questions = [
        Question(s, classes.index(told[s.image]["predicted"]), classes.index(s.label or ""))
        for s in experiment.cohort.labelled
    ]
    found: dict[str, list[tuple[str, list[float], float]]] = {"map": [], "gradcam": []}
    for explanation in explain_images(experiment, splits, questions):
        place = find_place(explanation, experiment.store)
        for name, maps in list_maps(explanation).items():
            pairs = [
                share_inside(stitch_tiles(m, place.boxes, size_px=place.size_px, scale=place.scale), place.mask)
                for m in maps
            ]
            found[name].append((explanation.question.sample.case, [p[0] for p in pairs], pairs[0][1]))
    return found


def list_maps(explanation: Explanation) -> dict[str, np.ndarray]:
    """Maps of every network, and the mean Grad-CAM with its places inside tiles."""
    maps = {"map": explanation.values}
    return maps if explanation.cams is None else {**maps, "gradcam": explanation.cams[:1]}


def tell(name: str, run: Path, score: str) -> None:
    for map_name, rows in measure_shares(run).items():
        kept = [row for row in rows if row[2] <= LARGEST_AREA]
        cases, area = [row[0] for row in kept], [row[2] for row in kept]
        ratio = measure_ratio([float(np.mean(row[1])) for row in kept], area, cases, resamples=2000, confidence=0.95)
        seeds = np.array([row[1] for row in kept]).sum(axis=0) / np.sum(area)
        twice = np.mean([np.mean(row[1]) >= 2 * row[2] for row in kept])
        print(
            f"{name:28s} {map_name:8s} {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times its area "
            f"{np.mean(area):.2f}; seeds {' '.join(f'{s:.2f}' for s in seeds)}; twice in {twice:.0%} of "
            f"{len(kept)} images of {len(set(cases))} cases; {score}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="of mobilenetv2_100")
    parser.add_argument("--folder", type=Path, default=Path("bench-explain"))
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--side", type=int, nargs=2, default=(600, 900))
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--poolers", nargs="+", default=["attention", "gated_attention", "clam_mb"])
    parser.add_argument("--shuffles", type=int, nargs="*", default=[0], help="seeds, one control each")
    parser.add_argument("--no-true", dest="true", action="store_false", help="controls alone")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    args = parser.parse_args()
    keep_maps()
    data = draw_clean(args.folder / "data", images=args.images, side_px=tuple(args.side), seed=0)
    sources = [("true labels", data)] if args.true else []
    for seed in args.shuffles:
        sources.append(("shuffled labels", shuffle_labels(data, args.folder / f"shuffled{seed}", seed=seed)))
    for pooler in args.poolers:
        for kind, source in sources:
            settings = [
                f"model.weights={args.weights}", f"model.pooler={pooler}", f"tile.size_px={args.tile}",
                "tile.within=tissue", "tile.min_coverage=0", "tile.max_tiles=null", "audit.checks=[]",
                f"split.seeds={args.seeds}", "split.folds=4", "train.watch=none", *args.settings,
            ]  # fmt: skip
            name = f"{pooler}-{source.name}"
            result = smalti.run(source, "quick", settings=settings, runs=args.folder / "runs", name=name)
            smalti.explain_run(result.path)
            tell(f"{pooler}, {kind}", result.path, f"macro-F1 {result.scores['metrics']['macro_f1']['value']:.2f}")


if __name__ == "__main__":
    main()
