"""One image of 20,000 x 20,000 px among small ones: seconds and peak memory of whole commands.

    python benchmarks/bench_large.py [--side-px 20000] [--weights FILE] [--keep FOLDER] [--only NAME ...]

The large image is a tiled TIFF with a pyramid, its mask a PNG; four fields of 1,000 px to a class lie beside it. The
commands run one after the other, each in a process of its own, whose memory (with that of its children) is looked at
every 50 ms. ``features`` keeps every tile of the large image.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

from drawing import draw_tissue
from slides import TILE_PX, draw_slide

FIELD_PX = 1000
FIELDS = 4
EVERY_S = 0.05


def draw_cohort(folder: Path, *, side_px: int) -> Path:
    """Two classes, nuclei of one twice as large as those of the other; the large image belongs to the first."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = [("image", "mask", "label")]
    for number in range(2 * FIELDS):
        field = draw_tissue(number, side_px=FIELD_PX * (1 + number % 2))[:FIELD_PX, :FIELD_PX]
        disc = cv2.circle(np.zeros((FIELD_PX, FIELD_PX), np.uint8), (500, 500), 450, 255, -1)
        cv2.imwrite(str(folder / f"images/f{number}.png"), field[..., ::-1])
        cv2.imwrite(str(folder / f"masks/f{number}.png"), disc)
        rows.append((f"images/f{number}.png", f"masks/f{number}.png", "ab"[number % 2]))
    tissue = [draw_tissue(100 + i, side_px=FIELD_PX) for i in range(4)]
    patches = [t[r : r + TILE_PX, c : c + TILE_PX] for t in tissue for r in (0, 256, 512) for c in (0, 256, 512)]
    inside = cv2.ellipse(np.zeros((500, 500), np.uint8), (250, 250), (210, 180), 20, 0, 360, 1, -1)
    draw_slide(folder / "images" / "large.tif", patches, inside, side_px=side_px, mpp=0.5)
    mask = cv2.resize(255 * inside, (side_px, side_px), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / "masks" / "large.png"), mask)
    rows.append(("images/large.tif", "masks/large.png", "a"))
    with (folder / "samples.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def list_commands(data: Path, runs: Path, weights: Path | None) -> dict[str, list[str]]:
    """Name -> arguments of smalti."""
    network = ["model.pretrained=false"] if weights is None else [f"model.weights={weights}"]
    common = [*network, "split.folds=2", "evaluate.resamples=200"]
    every = ["tile.max_tiles=null"]
    tuned = ["tile.max_tiles=256", "train.finetune.epochs=1", "train.transfer.epochs=5"]

    def run(recipe: str, name: str, settings: list[str]) -> list[str]:
        sets = [part for setting in (*common, *settings) for part in ("--set", setting)]
        return ["run", str(data), "--recipe", recipe, "--runs", str(runs), "--name", name, *sets]

    return {
        "audit": ["audit", str(data), "--runs", str(runs)],
        "features": run("quick", "features", every),
        "attention": run("quick", "attention", [*every, "model.pooler=gated_attention", "train.transfer.epochs=5"]),
        "finetune": run("default", "finetune", tuned),
        "explain": ["explain", str(runs / "attention")],
    }


def measure(arguments: list[str]) -> tuple[float, float, int]:
    """Seconds, peak GB and exit status of one command."""
    started, peak = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, "-m", "smalti", *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            held = [p.memory_info().rss for p in (process, *process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
        peak = max(peak, sum(held))
        time.sleep(EVERY_S)
    return time.perf_counter() - started, peak / 1e9, process.returncode


def has_command(name: str) -> bool:
    """Whether this smalti has the sub-command."""
    found = subprocess.run([sys.executable, "-m", "smalti", name, "--help"], capture_output=True, check=False)
    return found.returncode == 0


def main() -> None:
    """Print one row per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-px", type=int, default=20_000)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--keep", type=Path, help="draw and run here, and leave it")
    parser.add_argument("--only", nargs="+")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        data = folder / "data"
        if not data.is_dir():
            draw_cohort(data, side_px=args.side_px)
        print(f"{'command':<12} {'seconds':>8} {'peak GB':>8}")
        for command, arguments in list_commands(data, folder / "runs", args.weights).items():
            if (args.only and command not in args.only) or not has_command(arguments[0]):
                continue
            seconds, peak_gb, status = measure(arguments)
            print(f"{command:<12} {seconds:>8.1f} {peak_gb:>8.2f}" + (f"  exit {status}" if status else ""), flush=True)


if __name__ == "__main__":
    main()
