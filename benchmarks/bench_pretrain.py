"""What pretraining costs, and when the gate keeps it.

    python benchmarks/bench_pretrain.py cost [--tiles 5000] [--px 128] [--epochs 1] [--pairs 3]
    python benchmarks/bench_pretrain.py texture [--seeds 10] [--independent] [--labelled 60] [--unlabelled 200]

*cost*: tiles a second of smalti's loop (views from the store, views of tissue, collapse watched) beside a bare loop of
lightly's loss and head on the same tiles, which are in memory and turned by torch. *texture*: drawn images whose kind
is the width of a faint grain, which ImageNet hardly sees, under blotches that say nothing; ``--independent`` deals the
labels anew. Unlabelled images teach as well. The share of folds in which inner cases keep it, and the outer gain over
the same recipe without it.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import stats

from smalti.models import build_backbone
from smalti.recipe import Model, Pretrain
from smalti.records import GateRecord
from smalti.samples import StainMaps, normalise_tiles
from smalti.tile import TileStore
from smalti.tissue.stainable import Staining
from smalti.train import make_fabric
from smalti.train.devices import Device
from smalti.train.pretraining import TileViews, pretrain
from smalti.workflow import run

IMAGE_PX, TILE_PX = 128, 64


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "texture"])
    parser.add_argument("--tiles", type=int, default=5000)
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--method", default="diet", help="of texture; cost compares vicreg")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--independent", action="store_true")
    parser.add_argument("--labelled", type=int, default=60)
    parser.add_argument("--unlabelled", type=int, default=200)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    args = parser.parse_args()
    measure_cost(args) if args.what == "cost" else measure_texture(args)


def measure_cost(args: argparse.Namespace) -> None:
    """Print tiles a second of both loops, pair by pair."""
    store = draw_store(args.tiles, args.px)
    backbone = build_backbone(Model(backbone=args.backbone, pretrained=False))
    fabric = make_fabric(Device("cpu", "32-true", "cpu", ""))
    knobs = Pretrain(method="vicreg", epochs=args.epochs)
    ratios = []
    for pair in range(args.pairs):
        speeds = {}
        for side in ("smalti", "bare") if pair % 2 else ("bare", "smalti"):
            started = time.perf_counter()
            if side == "smalti":
                views = TileViews.collect(
                    store, range(len(store.images)), store.images, stains=StainMaps(store, "macenko", None), most=None
                )
                pretrain(backbone, views, knobs, seed=(pair,), fabric=fabric)
            else:
                run_bare(backbone, store, knobs)
            speeds[side] = args.tiles * args.epochs / (time.perf_counter() - started)
        ratios.append(speeds["smalti"] / speeds["bare"])
        print(
            f"pair {pair}: smalti {speeds['smalti']:.1f} tiles/s, bare {speeds['bare']:.1f}, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


@dataclass(frozen=True, slots=True, eq=False)
class DrawnStore(TileStore):
    """Tiles in memory, all of one stain."""

    tiles: np.ndarray

    def read_staining(self, method: str) -> Staining:
        """Return the stain."""
        frame = np.array([[0.65, 0.07, 0.27, 0.1], [0.70, 0.99, 0.57, 0.1], [0.29, 0.11, 0.78, 0.1]])
        count = len(self.images)
        return Staining(np.repeat(frame[None], count, axis=0), np.zeros(count, np.uint8), self.kind)

    def _read(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self.tiles[rows]


def draw_store(tiles: int, px: int) -> DrawnStore:
    """Return tiles of noise, ten an image."""
    rng, each = np.random.default_rng(0), 10
    images = tiles // each
    pixels = rng.integers(0, 255, (images * each, px, px, 3), dtype=np.uint8)
    places = np.stack([np.tile(np.arange(each) * px, images), np.zeros(len(pixels))], axis=1).astype(np.int64)
    ones, zeros = np.ones(len(pixels), np.float32), np.zeros(len(pixels), np.uint8)
    names, starts = tuple(f"i{i:04d}" for i in range(images)), np.arange(images + 1) * each
    stained = np.zeros(images + 1, np.int64)
    return DrawnStore("drawn", Path(), px, names, starts, places, ones, ones, zeros, stained, pixels)


def run_bare(backbone: object, store: TileStore, knobs: Pretrain) -> None:
    """Train as a short script of lightly's parts would: two flipped views, VICReg, AdamW."""
    import copy

    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    net = copy.deepcopy(backbone.module).train()
    head = VICRegProjectionHead(backbone.features, 512, 512, num_layers=2)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=knobs.lr, weight_decay=knobs.weight_decay)
    loss_of = VICRegLoss()
    for _ in range(knobs.epochs):
        order = torch.randperm(len(store))
        for part in order.split(knobs.batch_tiles):
            tiles = torch.from_numpy(store.read_tiles(part.numpy()))
            first = normalise_tiles(tiles, spec=backbone.spec)
            second = first.flip(3)
            one, two = net(torch.cat([first, second])).chunk(2)
            loss = loss_of(head(one), head(two))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def measure_texture(args: argparse.Namespace) -> None:
    """Print, seed by seed, in how many folds pretraining is kept, and what it gives on the outer cases."""
    gains, shares = [], []
    for seed in range(args.first, args.first + args.seeds):
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            data = draw_cohort(Path(name) / "data", seed, args)
            settings = [
                "audit.checks=[]", "train.watch=none", "evaluate.resamples=100", f"tile.size_px={TILE_PX}",
                "split.folds=3", f"model.backbone={args.backbone}", "model.embedding=last", "train.gate.repeats=1",
                "train.pretrain.turns=3", *args.settings,
            ]  # fmt: skip
            plain = run(data, "quick", settings=settings, runs=Path(name) / "runs", name="plain")
            more = [f"train.pretrain.method={args.method}", f"train.pretrain.epochs={args.epochs}"]
            more += ["train.pretrain.transductive=true", "train.pretrain.stain=0"]
            tried = run(data, "quick", settings=[*settings, *more], runs=Path(name) / "runs", name="tried")
            verdicts = GateRecord.read(tried.path).verdicts
        kept = [v.kept for v in verdicts]
        gain = tried.scores.headline.value - plain.scores.headline.value
        gains.append(gain)
        shares.append(np.mean(kept))
        print(
            f"seed {seed}: plain {plain.scores.headline.value:.3f}, with pretraining "
            f"{tried.scores.headline.value:.3f}, kept in {sum(kept)} of {len(kept)} folds "
            f"(inner gain {np.mean([v.gain or 0 for v in verdicts]):+.3f}), {time.monotonic() - started:.0f} s",
            flush=True,
        )
    low, high = (
        stats.t.interval(0.95, max(1, len(gains) - 1), np.mean(gains), stats.sem(gains)) if len(gains) > 1 else (0, 0)
    )
    print(f"kept in {np.mean(shares):.2f} of the folds; outer gain {np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f})")


def draw_cohort(folder: Path, seed: int, args: argparse.Namespace) -> Path:
    """Draw images of a fine texture of two kinds under blotches of any colour; a table with a test part."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng([seed, 7])
    rows = []
    for i in range(args.labelled + args.unlabelled):
        kind = i % 2
        pixels = draw_texture(kind, rng)
        cv2.imwrite(str(folder / "images" / f"i{i:04d}.png"), pixels)
        said = int(rng.integers(2)) if args.independent else kind
        labelled = i < args.labelled
        rows.append((f"images/i{i:04d}.png", f"k{said}" if labelled else "", "train" if labelled else "test"))
    with (folder / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "part"), *rows])
    return folder


def draw_texture(kind: int, rng: np.random.Generator) -> np.ndarray:
    """Return a picture whose kind is the width of a faint grain, under blotches of any colour."""
    px = IMAGE_PX
    frequency = np.fft.fftfreq(px)
    distance = np.sqrt(frequency[:, None] ** 2 + frequency[None] ** 2)
    band = np.exp(-((distance - (0.22, 0.27)[kind]) ** 2) / (2 * 0.015**2))
    grain = np.fft.ifft2(np.fft.fft2(rng.normal(size=(px, px))) * band).real
    blotches = cv2.GaussianBlur(rng.normal(size=(px, px, 3)), (0, 0), rng.uniform(6, 20))
    base = rng.uniform(90, 190, 3) + 25 * blotches / blotches.std()
    return np.clip(base + 3 * grain[..., None] / grain.std(), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
