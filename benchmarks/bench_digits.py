"""Bags of written digits: does attention beat the mean, and does it find the tile that matters?

    python benchmarks/bench_digits.py [--poolers attention gated_attention ...] [--draws 3] [--set section.knob=value]

scikit-learn's digits, 8 x 8 pixels as features of a tile, are dealt to 30 cases, so that no digit is in two cases. A
bag has 10 digits on average (standard deviation 2) of one case; a positive bag holds one 9 (the witness; a quarter of
them two), a negative bag none. 300 bags, half of them positive; each draw deals and draws anew. Every pooler goes
through the folds of smalti as in a run of preset quick, with two seeds. Differences to the mean are paired, with an
interval by case; average precision is that of the attention against the witnesses within each held-out positive bag,
the mean of bags.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from smalti.evaluate import Pair, compare_pairs
from smalti.models import POOLERS, Backbone
from smalti.predict import predict_outer
from smalti.recipe import load_recipe
from smalti.records import RunFolder
from smalti.samples import split_cases
from smalti.stats import pool_predictions, score_pool
from smalti.tile import TileStore
from smalti.train import Experiment, Features, choose_device, freeze, load_network, make_fabric, train_folds
from smalti.types import Cohort, InputSpec, Sample

CASES = 30
BAGS = 300
WITNESS = 9
ALL = ["attention", "gated_attention", "additive", "clam_sb", "clam_mb", "dsmil", "max", "topk", "logsumexp"]


@dataclass(frozen=True)
class Drawn:
    """Bags (N, 64) with the case of each and whether each tile is a witness."""

    bags: list[NDArray[np.float32]]
    witness: list[NDArray[np.bool_]]
    case: list[int]

    @property
    def labels(self) -> list[str]:
        """Class of each bag."""
        return ["with" if found.any() else "without" for found in self.witness]


def draw_bags(seed: int, *, count: int = BAGS) -> Drawn:
    """Deal the digits to cases and draw bags from each."""
    rng = np.random.default_rng(seed)
    values, digits = load_digits(return_X_y=True)
    # Dealt digit by digit, so that every case has some of each.
    owner = np.empty(len(values), dtype=np.int64)
    for digit in range(10):
        of_digit = rng.permutation(np.flatnonzero(digits == digit))
        owner[of_digit] = np.arange(len(of_digit)) % CASES
    drawn = Drawn([], [], [])
    for number in range(count):
        case = number % CASES
        size = max(3, round(rng.normal(10, 2)))
        witnesses = 0 if number // CASES % 2 else 1 + int(rng.random() < 0.25)
        nines = np.flatnonzero((owner == case) & (digits == WITNESS))
        others = np.flatnonzero((owner == case) & (digits != WITNESS))
        chosen = np.concatenate([rng.choice(nines, witnesses), rng.choice(others, size - witnesses, replace=False)])
        chosen = rng.permutation(chosen)
        drawn.bags.append(values[chosen].astype(np.float32))
        drawn.witness.append(digits[chosen] == WITNESS)
        drawn.case.append(case)
    return drawn


def prepare(drawn: Drawn, folder: Path, *, settings: list[str]) -> Experiment:
    """An experiment on bags whose features are known, as after the backbone."""
    recipe = load_recipe("quick", settings=["train.device=cpu", "split.seeds=[0,1]", *settings])
    names = tuple(f"i{number:04d}" for number in range(len(drawn.bags)))
    rows = zip(names, drawn.labels, drawn.case, strict=True)
    samples = tuple(Sample(name, Path(name), None, label, f"case{case}", name) for name, label, case in rows)
    cohort = Cohort(folder, "table", samples, (), ("with", "without"))
    starts = np.concatenate([[0], np.cumsum([len(bag) for bag in drawn.bags])]).astype(np.int64)
    ones, kind = np.ones(starts[-1], np.float32), np.zeros(starts[-1], np.uint8)
    positions, none = np.zeros((starts[-1], 2), np.int64), np.zeros(len(starts), np.int64)
    store = TileStore("none", folder, 8, names, starts, positions, ones, ones, kind, none)
    np.concatenate(drawn.bags).tofile(folder / "features.f32")
    features = Features((folder / "features.f32",), store, drawn.bags[0].shape[1])
    spec = InputSpec(64, False, (0.5,) * 3, (0.5,) * 3)
    backbone = Backbone(torch.nn.Identity(), "digits", features.size, spec)
    device = choose_device(recipe.train)
    splits = split_cases(cohort, recipe.split)
    frozen = dict.fromkeys((split.name for split in splits), freeze(features, recipe, classes=2))
    return Experiment(RunFolder(folder), recipe, cohort, splits, store, backbone, frozen, device, make_fabric(device))


def find_witnesses(experiment: Experiment, drawn: Drawn) -> float:
    """Average precision of the attention within each held-out positive bag, the mean over bags, folds and seeds."""
    found = []
    for split in experiment.splits:
        pooler = load_network(experiment, split).pooler
        for bag in split.outer:
            if drawn.witness[bag].any():
                with torch.inference_mode():
                    pooled = pooler(torch.from_numpy(drawn.bags[bag])[None])
                looks = pooled.attention[0] if pooled.class_attention is None else pooled.class_attention[0, 0]
                found.append(average_precision_score(drawn.witness[bag], looks.numpy()))
    return float(np.mean(found))


def main() -> None:
    """Print one row a draw and pooler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poolers", nargs="+", default=ALL)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    print("draw | pooler | accuracy | minus mean | 95 % | verdict | average precision | seconds", flush=True)
    for draw in range(given.draws):
        drawn, known = draw_bags(draw), {}
        for name in ["mean", *given.poolers]:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                settings = [f"model.pooler={name}", *given.settings]
                experiment = prepare(drawn, Path(folder), settings=settings)
                train_folds(experiment)
                pool = pool_predictions(predict_outer(experiment), classes=experiment.cohort.classes)
                learned = POOLERS.build(name, 64, 2).learns
                precision = find_witnesses(experiment, drawn) if learned else float("nan")
            known[name] = score_pool(pool)
            gap = compare_pairs([Pair(name, "mean", known[name], known["mean"])])[0]["accuracy"]
            right = (pool.scores.argmax(axis=2) == pool.y_true).mean()
            told = f"{gap.value:+.3f} | {gap.low:+.3f} to {gap.high:+.3f} | {gap.verdict} | {precision:.3f}"
            print(f"{draw} | {name} | {right:.3f} | {told} | {time.perf_counter() - start:.0f}", flush=True)


if __name__ == "__main__":
    main()
