"""Encode drawn slides, killed again and again: the same bytes, no slide twice, how much memory, what the engine costs.

    python benchmarks/bench_encode.py [--slides 200] [--side-px 20000] [--kills 10] [--encoder NAME] [--keep FOLDER]

Slides are pyramids of JPEG tiles with a few small islands of tissue on glass (5 MB each at 20,000 px). The command runs
once undisturbed and once killed (SIGKILL) at moments drawn evenly over the undisturbed time; memory of the process and
its children is looked at every 50 ms. What the engine costs is the time of all units beyond what slides took by their
records, in one process, which also goes through the slides in a bare loop.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from drawing import draw_tissue
from slides import TILE_PX, draw_slide

EVERY_S = 0.05
MAP_PX = 400


def draw_slides(folder: Path, *, count: int, side_px: int) -> None:
    """Slides with two to four islands each, at other places on each."""
    folder.mkdir(parents=True)
    tissue = [draw_tissue(100 + i, side_px=1000) for i in range(4)]
    patches = [t[r : r + TILE_PX, c : c + TILE_PX] for t in tissue for r in (0, 256, 512) for c in (0, 256, 512)]
    for number in range(count):
        rng = np.random.default_rng(number)
        inside = np.zeros((MAP_PX, MAP_PX), np.uint8)
        for _ in range(int(rng.integers(2, 5))):
            place = tuple(int(v) for v in rng.integers(40, MAP_PX - 40, size=2))
            cv2.ellipse(inside, place, (int(rng.integers(10, 25)), int(rng.integers(10, 25))), 0, 0, 360, 1, -1)
        path = folder / f"s{number:04}.tif"
        draw_slide(path, patches, inside, side_px=side_px, mpp=0.5, sparse=True)


def watch(command: list[str], *, stop_s: float | None = None) -> tuple[float, float]:
    """Run a command, killed after some seconds; return the seconds it took and its peak memory in GB."""
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    known = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, sum(p.memory_info().rss for p in (known, *known.children(recursive=True))))
        except psutil.Error:
            continue
        if stop_s is not None and time.monotonic() - started > stop_s:
            process.kill()
        time.sleep(EVERY_S)
    if stop_s is None and process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, peak / 1e9


def read_results(out: Path) -> dict[str, bytes]:
    """Bytes of all features and coordinates."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.suffix in {".h5", ".npz"}}


def time_engine(data: Path, out: Path, encoder: str) -> tuple[float, float, float]:
    """Seconds of all units by the engine, of the slides by their records, and of a bare loop over them."""
    from smalti.encode import encode_folder, slides_folder
    from smalti.encode.slide_task import encode_slide

    spent, calls = [], []
    carry_out = slides_folder.carry_out

    def timed(units: Any, **more: Any) -> Any:
        calls.extend(unit.args for unit in units)
        started = time.monotonic()
        outcomes = carry_out(units, **more)
        spent.append(time.monotonic() - started)
        return outcomes

    slides_folder.carry_out = timed
    found = encode_folder(data, out / "engine", encoder, cpus=1)
    slides_folder.carry_out = carry_out
    bare = out / "bare" / found.folder.name
    bare.mkdir(parents=True)
    (bare / "encoding.json").write_bytes((found.folder / "encoding.json").read_bytes())
    started = time.monotonic()
    for args in calls:
        encode_slide(**{**args, "out": str(bare)})
    return spent[0], sum(row.seconds for row in found.rows), time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, default=200)
    parser.add_argument("--side-px", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--encoder", default="described:colour")
    parser.add_argument("--keep", type=Path, help="folder of the slides and results; they are deleted without it")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        data = folder / "slides"
        if not data.is_dir():
            draw_slides(data, count=asked.slides, side_px=asked.side_px)
        size_gb = sum(p.stat().st_size for p in data.iterdir()) / 1e9
        print(f"{asked.slides} slides of {asked.side_px} px, {size_gb:.2f} GB", flush=True)

        def name_command(out: str) -> list[str]:
            told = ["encode", str(data), "--encoder", asked.encoder, "--out", str(folder / out), "--cpus", "1"]
            return [sys.executable, "-m", "smalti", *told]

        whole_s, peak_gb = watch(name_command("whole"))
        print(f"undisturbed: {whole_s:.0f} s, peak {peak_gb:.2f} GB", flush=True)
        moments = random.Random(asked.seed)
        peaks = [watch(name_command("killed"), stop_s=moments.uniform(0, whole_s))[1] for _ in range(asked.kills)]
        last_s, last_gb = watch(name_command("killed"))
        same = read_results(folder / "whole") == read_results(folder / "killed")
        (log,) = (folder / "killed").glob("*/units.jsonl")
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        twice = [name for name, count in Counter(row["unit"] for row in lines).items() if count > 1]
        print(f"killed {asked.kills} times: same bytes {same}, slides done twice {len(twice)}, last {last_s:.0f} s, "
              f"peak {max(*peaks, last_gb):.2f} GB", flush=True)  # fmt: skip
        engine_s, slides_s, bare_s = time_engine(data, folder / "timed", asked.encoder)
        print(f"engine: {engine_s:.2f} s for slides of {slides_s:.2f} s, {engine_s / slides_s - 1:.2%} beside them; "
              f"bare loop {bare_s:.2f} s")  # fmt: skip
        if not same or twice:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
