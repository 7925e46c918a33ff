"""Is data feeding the brake of phase finetune?

smalti's own training epoch (tiles read from the store, augmented, normalised, forward, backward, clipping, optimiser
step) beside a bare timm forward + backward on tensors that are in memory already; in turn, same process, medians. And
the feeding alone, up to what goes to the device: a network that takes more than 1 / 0.9 of it would have to wait.

    python benchmarks/bench_finetune.py [--backbone mobilenetv2_100] [--images 24] [--repeats 5]
        [--augmentation flips_colour]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F

from drawing import draw_folder
from smalti.cohort import read_cohort
from smalti.models import NORMS, POOLERS, Head, Network, build_backbone
from smalti.recipe import load_recipe
from smalti.samples import AUGMENTATIONS, BagBatches
from smalti.tile import build_store
from smalti.train import choose_device, make_fabric
from smalti.train.loop import Loop, Stream
from smalti.train.optim.optimisers import build_optimiser, settle_rates
from smalti.train.tasks.finetune import FinetuneTask


def main() -> None:
    """Print images (tiles) per second of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--augmentation", default="flips_colour", help="of the tiles (smalti parts)")
    args = parser.parse_args()
    settings = [f"train.finetune.augmentation={args.augmentation}",
                f"model.backbone={args.backbone}", "model.pretrained=false", "train.finetune.stages=1",
                "model.norm=live"]  # fmt: skip
    recipe = load_recipe("default", settings=settings)
    with tempfile.TemporaryDirectory() as name:
        cohort = read_cohort(draw_folder(Path(name) / "data", count=args.images, side_px=700))
        backbone = build_backbone(recipe.model)
        store = build_store(cohort, recipe.tile, tile_px=backbone.spec.size_px, cache=Path(name) / "cache")
        device = choose_device(recipe.train)
        fabric = make_fabric(device)
        network = Network(
            backbone, POOLERS.build("mean", backbone.features, 2), Head(backbone.features, 2, dropout=0.2)
        )
        phase = recipe.train.finetune
        bags = np.arange(args.images)
        batches = BagBatches(store, bags, cohort.targets, phase.batch_images, phase.tiles_per_image)
        network = network.to(memory_format=torch.channels_last)
        task = FinetuneTask(module=network, fabric=fabric, spec=backbone.spec, classes=2,
                            norm=backbone.norm or NORMS.build("live"), watched_bags=bags[:0],
                            augmentation=AUGMENTATIONS.build(args.augmentation),
                            store=store, batches=batches, inner_bags=bags[:0], phase=phase)  # fmt: skip
        loop = Loop(fabric=fabric, task=task, phase=phase, stream=Stream(0, 0, "finetune"),
                    rates=settle_rates(recipe.train, "finetune"),
                    counts=torch.ones(2, device=fabric.device), inner_targets=torch.empty(0, dtype=torch.long),
                    checkpoints=Path(name))  # fmt: skip
        feed(task, tiles=args.images * phase.tiles_per_image, repeats=args.repeats)
        bare = Bare(args.backbone, tiles=phase.batch_images * phase.tiles_per_image, px=store.tile_px, fabric=fabric)
        compare(loop, bare, tiles=args.images * phase.tiles_per_image, repeats=args.repeats, device=device.name)


def feed(task: FinetuneTask, *, tiles: int, repeats: int) -> None:
    """Read, restain and augment every tile of a pass, without a network; median of tiles per second."""
    rates = []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        for _ in task.augment_batches(np.random.default_rng(repeat), np.random.default_rng(repeat)):
            pass
        rates.append(tiles / (time.perf_counter() - started))
    told = rates[1:]  # the first pass warms up
    print(f"feeding alone        {statistics.median(told):8.1f} tiles/s  ({min(told):.1f} to {max(told):.1f})")


class Bare:
    """What a user would write to see how fast timm can go here."""

    def __init__(self, backbone: str, *, tiles: int, px: int, fabric: object) -> None:
        network = timm.create_model(backbone, num_classes=2).to(memory_format=torch.channels_last)
        self.fabric = fabric
        self.network = fabric.setup_module(network).train()
        self.tiles = tiles
        self.images = torch.randn(tiles, 3, px, px, device=fabric.device).to(memory_format=torch.channels_last)
        self.targets = torch.zeros(tiles, dtype=torch.long, device=fabric.device)

    def step(self) -> None:
        """Forward and backward."""
        loss = F.cross_entropy(self.network(self.images), self.targets)
        self.fabric.backward(loss)
        float(loss.detach())


def compare(loop: Loop, bare: Bare, *, tiles: int, repeats: int, device: str) -> None:
    """Take turns; medians of tiles per second and of the ratio."""

    groups = loop.task.list_groups()
    optimiser = loop.fabric.setup_optimizers(build_optimiser("adamw", groups, lr=1e-4, weight_decay=0.01))
    ours, theirs = [], []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        loop._learn(optimiser, repeat)
        middle = time.perf_counter()
        steps = tiles // bare.tiles
        for _ in range(steps):
            bare.step()
        ended = time.perf_counter()
        if repeat:  # the first round warms up
            ours.append(tiles / (middle - started))
            theirs.append(steps * bare.tiles / (ended - middle))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"{device}; {repeats} rounds of {tiles} tiles, in turn")
    print(f"smalti finetune      {statistics.median(ours):8.1f} tiles/s  ({min(ours):.1f} to {max(ours):.1f})")
    print(f"bare timm fwd + bwd  {statistics.median(theirs):8.1f} tiles/s  ({min(theirs):.1f} to {max(theirs):.1f})")
    print(f"ratio                {ratio:8.3f}")


if __name__ == "__main__":
    main()
