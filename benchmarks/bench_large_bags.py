"""Attention and plain heads on bags that do not fit into memory: peak memory, and an epoch beside reading once.

    python benchmarks/bench_large_bags.py [--bags 60] [--tiles 10000] [--size 1536] [--folder large-bags] [--epochs 3]

Draws bags of float16 in one piece, as `smalti encode` writes them: tiles are noise around the level of their bag, and a
hundredth of the tiles of one class is moved. Then, each in a process of its own: all files are read once (twice: the
first may come from disk); ``quick`` with a plain head, five folds; ``quick`` with attention, five folds. Told are wall
clock and CPU seconds, the peak of resident memory, the seconds of an epoch (training, inner and watched images; a fifth
of the bags is watched), their ratio to reading once, and the score. What is drawn stays for the next call.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

WAYS = {
    "plain": ("model.head=logistic",),
    "attention": ("model.pooler=attention", "model.head=steps", "train.refit=false"),
}


def draw_bags(folder: Path, *, bags: int, tiles: int, size: int) -> None:
    """Draw the bags that are not there yet, and their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = ["a" if i % 2 else "b" for i in range(bags)]
    direction = np.random.default_rng(0).normal(size=size).astype(np.float32)
    for i, label in enumerate(labels):
        path = folder / f"slide{i:05d}.h5"
        if path.is_file():
            continue
        rng = np.random.default_rng(i + 1)
        values = rng.standard_normal((tiles, size), dtype=np.float32) + rng.normal(0, 0.3, size).astype(np.float32)
        if label == "a":
            values[rng.choice(tiles, tiles // 100, replace=False)] += direction
        side = int(np.ceil(np.sqrt(tiles)))
        places = np.stack(np.divmod(np.arange(tiles), side), axis=1)[:, ::-1] * 256
        with h5py.File(path.with_suffix(".part"), "w") as file:
            file.create_dataset("features", data=values.astype(np.float16))
            file.create_dataset("coords", data=places).attrs["patch_size_level0"] = 256
        path.with_suffix(".part").rename(path)
    names = [f"slide{i:05d}.h5" for i in range(bags)]
    pd.DataFrame({"slide": names, "label": labels}).to_csv(folder / "labels.csv", index=False)


def read_once(folder: Path) -> float:
    """Seconds of reading all bags, as they are stored."""
    from smalti.features import open_features

    started = time.perf_counter()
    for path in sorted(folder.glob("*.h5")):
        file = open_features(path)
        assert file is not None
        file.read()
    return time.perf_counter() - started


def work(task: str, folder: Path, epochs: int) -> None:
    """Do one task and print what it cost, as JSON."""
    found: dict[str, object] = {}
    started, used = time.perf_counter(), time.process_time()
    if task == "read":
        found["first_s"] = read_once(folder)
        found["once_s"] = read_once(folder)
    else:
        from smalti.records.layout import HISTORY
        from smalti.workflow import run

        settings = (*WAYS[task], f"train.transfer.epochs={epochs}", "evaluate.sites=none")
        runs = folder.parent / f"{folder.name}-runs"
        shutil.rmtree(runs / task, ignore_errors=True)
        result = run(folder, "quick", settings=settings, runs=runs, name=task)
        found["score"] = result.describe()
        history = result.path / HISTORY
        if task == "attention" and history.is_file():
            found["epoch_s"] = float(pd.read_csv(history)["seconds"].median())
    found |= {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - used}
    found["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def main() -> None:
    """Draw, then measure each task in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bags", type=int, default=60)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--folder", type=Path, default=Path("large-bags"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--task", choices=["read", *WAYS], help="one task, in this process")
    args = parser.parse_args()
    if args.task:
        work(args.task, args.folder, args.epochs)
        return
    draw_bags(args.folder, bags=args.bags, tiles=args.tiles, size=args.size)
    costs = {}
    for task in ("read", *WAYS):
        command = [sys.executable, __file__, "--folder", str(args.folder), "--epochs", str(args.epochs), "--task", task]
        costs[task] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        print(task, json.dumps(costs[task]))
    if "epoch_s" in costs["attention"]:
        print(f"an epoch takes {costs['attention']['epoch_s'] / costs['read']['once_s']:.2f} times reading once")


if __name__ == "__main__":
    main()
