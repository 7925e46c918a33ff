"""Tiling and phase transfer on 100, 300 and 1,000 images of 1,000 px: seconds and peak memory of the whole command.

python benchmarks/bench_scale.py [--counts 100 300 1000] [--backbone mobilenetv3_small_050]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drawing import draw_folder


def main() -> None:
    """Print one row per count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--backbone", default="mobilenetv3_small_050")
    args = parser.parse_args()
    print("images  tiles   whole s  tile s  features s  train s  peak GB")
    for count in args.counts:
        with tempfile.TemporaryDirectory() as name:
            data = draw_folder(Path(name) / "data", count=count, side_px=1000)
            row = run_once(data, Path(name) / "runs", args.backbone)
        print(f"{count:6d}  {row['tiles']:6d}  {row['whole']:7.1f}  {row['tile']:6.1f}  {row['features']:10.1f}  "
              f"{row['train']:7.1f}  {row['peak_gb']:7.2f}")  # fmt: skip


def run_once(data: Path, runs: Path, backbone: str) -> dict[str, float]:
    """One ``smalti train`` in a process of its own."""
    command = [sys.executable, "-m", "smalti", "train", str(data), "--recipe", "quick", "--runs", str(runs)]
    command += ["--name", "r", "--set", f"model.backbone={backbone}", "--set", "model.pretrained=false"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    row = {"whole": time.perf_counter() - started, "peak_gb": usage.ru_maxrss / 2**20}
    for line in (runs / "r" / "events.log").read_text().splitlines():
        event = json.loads(line)
        if event["event"].endswith(" done"):
            row[event["event"].removesuffix(" done")] = event["seconds"]
    sizes = [f.stat().st_size for f in (runs / "cache").rglob("tiles.u8")]
    row["tiles"] = sum(sizes) // (224 * 224 * 3)
    return row


if __name__ == "__main__":
    main()
