"""Tiles a second of each augmentation beside torchvision's usual pipeline, on drawn tissue, in one process.

    python benchmarks/bench_augmentation.py [--repeats 5] [--threads 1]

The pipeline to compare with is what a user would write: random flips, then `ColorJitter` or torchvision's own
RandAugment, TrivialAugmentWide, AutoAugment and AugMix, one tile at a time on 8-bit tensors.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from smalti.samples import AUGMENTATIONS, apply_transform

NEEDED = {"policy": {"file": str(Path(__file__).parents[1] / "examples" / "policy.yaml")}}
BESIDE: dict[str, Callable[[], torch.nn.Module]] = {
    "flips + ColorJitter": lambda: v2.ColorJitter(0.24, 0.24, 0.24),
    "flips + RandAugment": lambda: v2.RandAugment(),
    "flips + TrivialAugmentWide": lambda: v2.TrivialAugmentWide(),
    "flips + AutoAugment": lambda: v2.AutoAugment(),
    "flips + AugMix": lambda: v2.AugMix(),
}


def time_ours(name: str, tiles: np.ndarray) -> float:
    """Seconds for all tiles (B, N, H, W, 3) at strength 0.6, drawing included."""
    draw = AUGMENTATIONS.build(name, **NEEDED.get(name, {}))
    started = time.perf_counter()
    apply_transform(tiles, draw(*tiles.shape[:2], 0.6, np.random.default_rng(0)))
    return time.perf_counter() - started


def time_theirs(tiles: np.ndarray, transform: torch.nn.Module) -> float:
    """The same for a torchvision transform after two flips, tile by tile."""
    pipeline = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), transform])
    images = torch.from_numpy(tiles).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    started = time.perf_counter()
    for image in images:
        pipeline(image)
    return time.perf_counter() - started


def main() -> None:
    """Print medians over the repeats, interleaved."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 224, 224, 3), dtype=np.uint8)
    tiles = np.stack([[cv2.GaussianBlur(tile, (0, 0), 3) for tile in bag] for bag in noise])
    count = tiles.shape[0] * tiles.shape[1]
    jobs: dict[str, Callable[[], float]] = {
        entry.name: (lambda name=entry.name: time_ours(name, tiles)) for entry in AUGMENTATIONS
    }
    jobs |= {name: (lambda build=build: time_theirs(tiles, build())) for name, build in BESIDE.items()}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(args.repeats):
        for name, job in jobs.items():
            seconds[name].append(job())
    print(f"{'pipeline':30} {'tiles/s':>8}  {'lowest':>8} {'highest':>8}")
    for name, times in seconds.items():
        print(f"{name:30} {count / statistics.median(times):8.0f}  {count / max(times):8.0f} {count / min(times):8.0f}")


if __name__ == "__main__":
    main()
