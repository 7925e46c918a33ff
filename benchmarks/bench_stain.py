"""Stain normalisation beside torchstain, in turn, in one process, on one thread: throughput and grey levels.

    python benchmarks/bench_stain.py [DATA ...] [--images 6] [--repeats 7]

Sixteen tiles of 224 px of each image: of the first images of each folder, or drawn ones. torchstain fits each time it
normalises; there is no way to keep a fit. So its throughput is that of ``normalize``, tile by tile, without pictures of
single stains; beside it stand its ``normalize`` of all sixteen tiles as one picture, and the lines of it that apply a
fit, alone. Seconds are those of the processor (``time.process_time``); ratios are of wall-clock seconds as well.

Grey levels: the largest difference on any pixel, with torchstain's conventions (plane of the covariance, strengths of
all pixels, nothing kept of what is neither stain), then the mean difference with smalti's own defaults.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchstain.base.normalizers import MacenkoNormalizer, ReinhardNormalizer

from smalti.demo.field import LABORATORIES, TissuePlan, draw_tissue
from smalti.images import read_image
from smalti.samples import apply_map, solve_map
from smalti.tissue import STAINS
from smalti.tissue.frames import DENSITIES, LEAST_DENSITY, find_stains, make_frame
from smalti.tissue.stainable import MOST_PIXELS

TILE_PX, TILES = 224, 16
Floats = NDArray[np.float64]
Tiles = NDArray[np.uint8]


def main() -> None:
    """Print one block for each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    folders: list[Path | None] = [*args.data] or [None]
    for folder in folders:
        tiles = draw(args.images) if folder is None else cut(folder, args.images)
        print(
            f"\n{folder.name if folder else 'drawn'}: {tiles.shape[0]} images of {TILES} tiles, {args.repeats} rounds"
        )
        print_grey_levels(tiles)
        print_throughput(tiles, repeats=args.repeats)


def draw(images: int) -> Tiles:
    """(images, 16, 224, 224, 3) of the demo's tissue."""
    side = 4 * TILE_PX
    plans = (TissuePlan((7, i), (8, i), (side, side), "HER2(+)", i % len(LABORATORIES)) for i in range(images))
    pictures = (draw_tissue(plan)[0] for plan in plans)
    return np.stack([p.reshape(4, TILE_PX, 4, TILE_PX, 3).swapaxes(1, 2).reshape(TILES, TILE_PX, TILE_PX, 3)
                     for p in pictures])  # fmt: skip


def cut(folder: Path, images: int) -> Tiles:
    """The same from evenly chosen pictures of a folder, at random places."""
    files = sorted(p for p in folder.rglob("*.*") if p.suffix in {".png", ".jpg"} and "mask" not in p.as_posix())
    rng = np.random.default_rng(0)
    found = []
    for path in files[:: max(1, len(files) // images)][:images]:
        picture = read_image(path)
        corners = zip(*(rng.integers(0, n - TILE_PX, TILES) for n in picture.shape[:2]), strict=True)
        found.append([picture[r : r + TILE_PX, c : c + TILE_PX] for r, c in corners])
    return np.array(found)


def fit(pixels: Tiles, *, estimate: Callable[[Floats], Floats], most: int = MOST_PIXELS) -> Floats:
    """Frame of an image from an even choice of its pixels, as when tiles are cut."""
    flat = pixels.reshape(-1, 3)
    densities = DENSITIES[flat[:: -(-len(flat) // most)]].astype(np.float64)
    return estimate(densities[(densities >= LEAST_DENSITY).all(axis=1)])


def fit_alike(tile: Tiles) -> Floats:
    """Frame of a tile by torchstain's conventions."""
    densities = DENSITIES[tile.reshape(-1, 3)].astype(np.float64)
    return make_frame(find_stains(densities[(densities >= LEAST_DENSITY).all(axis=1)], centred=True), densities)


def print_grey_levels(tiles: Tiles) -> None:
    """Differences to torchstain; the reference is the middle tile of the first image."""
    flat = tiles.reshape(-1, TILE_PX, TILE_PX, 3)
    target = flat[TILES // 2]
    theirs, textbook = MacenkoNormalizer(backend="numpy"), ReinhardNormalizer(backend="numpy")
    theirs.fit(target)
    textbook.fit(target)
    reference = fit_alike(target)
    reference[:, 2] = 0
    worst, own, moments, left = [], [], [], 0
    for tile in flat:
        if (DENSITIES[tile] >= LEAST_DENSITY).all(axis=2).sum() < 200 or np.isnan(source := fit_alike(tile)).any():
            left += 1
            continue
        expected = theirs.normalize(tile, stains=False)[0].astype(int)
        worst.append(np.abs(restain(tile, source, reference) - expected).max())
        frames = [fit(t, estimate=STAINS.build("macenko")) for t in (tile, target)]
        own.append(np.abs(restain(tile, *frames) - expected).mean())
        frames = [fit(t, estimate=STAINS.build("reinhard")) for t in (tile, target)]
        moments.append(np.abs(restain(tile, *frames) - textbook.normalize(tile).astype(int)).mean())
    print(
        f"Macenko, its conventions: largest difference {max(worst)} grey levels on {len(worst)} tiles ({left} left out)"
    )
    print(f"Macenko, own defaults: mean difference {np.median(own):.1f} ({min(own):.1f} to {max(own):.1f}) grey levels")
    print(f"Reinhard: mean difference {np.median(moments):.1f} ({min(moments):.1f} to {max(moments):.1f}) grey levels")


def restain(tile: Tiles, source: Floats, target: Floats) -> NDArray[np.int64]:
    """The tile by smalti."""
    return apply_map(tile, solve_map(source, target).astype(np.float32)).astype(int)


def print_throughput(tiles: Tiles, *, repeats: int) -> None:
    """Tiles a second of each way, and ratios to torchstain's faster backend."""
    target = tiles[0, TILES // 2]
    macenko = STAINS.build("macenko")
    reference = fit(target, estimate=macenko)
    kept = [solve_map(fit(image, estimate=macenko), reference).astype(np.float32) for image in tiles]
    ways: dict[str, Callable[[Tiles, int], object]] = {
        "torchstain numpy": normalise_with("numpy", target),
        "torchstain torch": normalise_with("torch", target),
        "torchstain torch, 16 as one": normalise_with("torch", target, whole=True),
        "torchstain torch, applying alone": apply_theirs(target),
        "smalti, fitted": lambda image, i: [apply_map(tile, kept[i]) for tile in image],
        "smalti, fit once an image": lambda image, i: restain_image(image, reference),
        "smalti, fit per tile, 20,000 pixels": lambda image, i: [
            restain_image(tile[None], reference) for tile in image
        ],
        "smalti, fit per tile, all pixels": lambda image, i: [
            restain_image(tile[None], reference, most=tile.size) for tile in image
        ],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            begun, used = time.perf_counter(), time.process_time()
            for i, image in enumerate(tiles):
                way(image, i)
            if repeat:  # the first round warms up
                seconds[name].append((time.perf_counter() - begun, time.process_time() - used))
    count = tiles.shape[0] * TILES
    theirs = min(("torchstain numpy", "torchstain torch"), key=lambda n: statistics.median(s[1] for s in seconds[n]))
    print(f"{'':36s} tiles/s   times {theirs} (processor; wall)")
    for name, times in seconds.items():
        ratios = [statistics.median(t[k] / s[k] for t, s in zip(seconds[theirs], times, strict=True)) for k in (1, 0)]
        rate = count / statistics.median(s[1] for s in times)
        print(f"{name:36s} {rate:7.0f}   {ratios[0]:6.1f}  {ratios[1]:6.1f}")


def restain_image(image: Tiles, reference: Floats, *, most: int = MOST_PIXELS) -> list[Tiles]:
    """Fit once, apply to each tile."""
    stain_map = solve_map(fit(image, estimate=STAINS.build("macenko"), most=most), reference).astype(np.float32)
    return [apply_map(tile, stain_map) for tile in image]


def normalise_with(backend: str, target: Tiles, *, whole: bool = False) -> Callable[[Tiles, int], object]:
    """torchstain's ``normalize`` on each tile of an image, or on all of them as one picture."""
    normaliser = MacenkoNormalizer(backend=backend)
    convert = (lambda t: torch.from_numpy(t).permute(2, 0, 1)) if backend == "torch" else (lambda t: t)
    normaliser.fit(convert(target))

    def work(image: Tiles, number: int) -> object:
        pictures = [image.reshape(-1, TILE_PX, 3)] if whole else image
        return [normaliser.normalize(convert(picture), stains=False) for picture in pictures]

    return work


def apply_theirs(target: Tiles) -> Callable[[Tiles, int], object]:
    """The lines of torchstain's ``normalize`` that come after a fit, with the same matrices for every tile."""
    normaliser = MacenkoNormalizer(backend="torch")
    normaliser.fit(torch.from_numpy(target).permute(2, 0, 1))
    stains, much = normaliser.HERef, normaliser.maxCRef

    def work(image: Tiles, number: int) -> object:
        found = []
        for tile in torch.from_numpy(image):
            density = -torch.log((tile.reshape(-1, 3).float() + 1) / 240)
            amounts = torch.linalg.lstsq(stains, density.T)[0] * (much / much).unsqueeze(-1)
            light = 240 * torch.exp(-torch.matmul(stains, amounts))
            light[light > 255] = 255
            found.append(light.T.reshape(tile.shape).int())
        return found

    return work


if __name__ == "__main__":
    main()
