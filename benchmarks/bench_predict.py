"""What a folder of new images costs beside the bare forward pass: time, memory, and the bytes after kills.

    python benchmarks/bench_predict.py [--images 1000] [--side-px 1000] [--pairs 5] [--kills 3] [--folder FOLDER]

A model of one run of ``quick`` on a small drawn cohort, with a frozen backbone from a package. *bare* reads the same
files and sends the same tiles, at positions that are known, through the same backbone; it has neither tissue nor masks
to find, and no answer to write. Both are measured one after the other on the same part of the images, which part goes
first alternates. *peak* is the largest memory of a process that answers the whole folder. *kills*: SIGKILL at random
moments, then the same call again: the tables have the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from drawing import draw_class_folders, draw_tissue
from smalti import images
from smalti.model import Model, answer_folder, load_model
from smalti.samples import normalise_tiles
from smalti.tile import cut_bag
from smalti.train.halving import CHUNK_TILES
from smalti.types import Sample
from smalti.workflow import run

SETTINGS = ["audit.checks=[]", "train.watch=none", "evaluate.resamples=100", "split.folds=2", "tile.source=tiles"]
ANSWER = """
import resource, sys
from pathlib import Path
from smalti.model import answer_folder, load_model
answer_folder(load_model(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
Squares = dict[Path, list[tuple[int, int, int]]]  # of each image: row, column and side of its tiles


def main() -> None:
    """Draw, train, measure, kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side-px", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--backbone", default="tf_efficientnet_lite1")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        data = draw_class_folders(folder / "data", count=24, side_px=500)
        settings = [*SETTINGS, f"model.backbone={args.backbone}"]
        model = folder / "runs" / "r" / "model"
        run(data, "quick", settings=settings, runs=folder / "runs", name="r")
        parts = draw_parts(folder / "new", count=args.images, side_px=args.side_px, parts=args.pairs)
        print(f"{args.images} images of {args.side_px} px in {args.pairs} parts are drawn", flush=True)
        measure_pairs(load_model(model, device="cpu"), parts, folder)
        kill_and_continue(model, folder / "new", folder, kills=args.kills)


def draw_parts(folder: Path, *, count: int, side_px: int, parts: int) -> list[Path]:
    """Drawn fields of nuclei in as many folders as there are pairs."""
    places = [folder / f"part{i}" for i in range(parts)]
    for place in places:
        place.mkdir(parents=True)
    for number in range(count):
        pixels = draw_tissue(1000 + number, side_px=side_px)[..., ::-1]
        cv2.imwrite(str(places[number % parts] / f"x{number:05d}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return places


def measure_pairs(model: Model, parts: list[Path], folder: Path) -> None:
    """Print wall and CPU seconds of both ways, and their ratios over all pairs."""
    member = next(member for member in model.members if member.backbone is not None)
    tile, tile_px = member.recipe.tile, member.member.tile_px or 0
    squares: Squares = {}
    for place in parts:
        for path in sorted(place.iterdir()):
            bag = cut_bag(Sample(path.name, path, None, None, path.name, path.name), tile, tile_px=tile_px)
            sides = np.round(bag.scale * tile_px).astype(int)
            squares[path] = [(int(row), int(col), int(s)) for (row, col), s in zip(bag.positions, sides, strict=True)]
    first = next(iter(squares))
    pass_tiles(model, [first], squares)  # a first pass, which is slower
    totals = np.zeros((2, 2))
    for number, place in enumerate(parts):
        paths = sorted(place.iterdir())
        ways: list[Callable[[], object]] = [
            lambda place=place, number=number: answer_folder(model, place, folder / f"out{number}"),
            lambda paths=paths: pass_tiles(model, paths, squares),
        ]
        spent = np.zeros((2, 2))
        for way in (0, 1) if number % 2 == 0 else (1, 0):
            wall, cpu = time.perf_counter(), time.process_time()
            ways[way]()
            spent[way] = time.perf_counter() - wall, time.process_time() - cpu
        totals += spent
        print(
            f"pair {number}: {len(paths)} images, {sum(len(squares[path]) for path in paths)} tiles; "
            f"smalti {spent[0, 0]:.1f} s, bare {spent[1, 0]:.1f} s, ratio {spent[0, 0] / spent[1, 0]:.3f}; "
            f"CPU {spent[0, 1]:.1f} and {spent[1, 1]:.1f} s, ratio {spent[0, 1] / spent[1, 1]:.3f}",
            flush=True,
        )
    ratio = totals[0] / totals[1]
    print(f"all pairs: ratio of wall time {ratio[0]:.3f}, of CPU time {ratio[1]:.3f}")


def pass_tiles(model: Model, paths: list[Path], squares: Squares) -> None:
    """Read files and send their tiles through the backbone, and nothing else."""
    member = next(member for member in model.members if member.backbone is not None)
    tile_px, backbone, module = member.member.tile_px or 0, member.backbone, member.module
    assert backbone is not None
    assert module is not None
    for path in paths:
        pixels = images.read_image(path)
        tiles = np.empty((len(squares[path]), tile_px, tile_px, 3), np.uint8)
        for i, (row, col, side) in enumerate(squares[path]):
            square = pixels[max(0, row) : row + side, max(0, col) : col + side]
            whole = square.shape[:2] == (tile_px, tile_px)
            tiles[i] = square if whole else cv2.resize(square, (tile_px, tile_px), interpolation=cv2.INTER_AREA)
        for start in range(0, len(tiles), CHUNK_TILES):
            chunk = torch.from_numpy(tiles[start : start + CHUNK_TILES])
            with torch.inference_mode():
                module(normalise_tiles(chunk, spec=backbone.spec)).float().numpy()


def kill_and_continue(model: Path, new: Path, folder: Path, *, kills: int) -> None:
    """Print the memory of an undisturbed call, and whether killed ones end in the same bytes."""
    words = [sys.executable, "-c", ANSWER, str(model), str(new)]
    started = time.perf_counter()
    done = subprocess.run([*words, str(folder / "whole")], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    tiles = f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU"
    print(f"peak {int(done.stdout.split()[-1]) / 2**20:.2f} GiB; {seconds:.0f} s, {tiles}", flush=True)
    wanted = hash_tables(folder / "whole")
    rng = random.Random(0)
    out = folder / "killed"
    for _ in range(kills):
        process = subprocess.Popen([*words, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.2, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        lines = out / "answered.jsonl"
        print(f"killed after {len(lines.read_bytes().splitlines()) if lines.exists() else 0} answers", flush=True)
    subprocess.run([*words, str(out)], check=True, capture_output=True)
    print("the same bytes" if hash_tables(out) == wanted else "OTHER BYTES")


def hash_tables(folder: Path) -> list[str]:
    """Hashes of the tables of a folder of answers."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.csv"))]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
