"""Time and memory of attention pooling on one large bag of stored features, by the way that a run takes.

    python benchmarks/bench_bags.py [--pooler attention] [--tiles 12500 25000 50000 100000]

Features of 1,280 dimensions lie on disk as after the backbone. A step of phase transfer (draw, forward, loss, backward)
and the reading of a bag for its scores are each measured in a process of its own. Seconds are the median of three and
those of one core, so that other work on the machine counts little. Memory is the peak above what the process held after
the same work on a bag of 100 tiles, told in MB and in times the size of the bag itself. The exponent is the slope of
the logarithms, 1 where the growth is linear.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from smalti import recipe
from smalti.models import POOLERS, BagReader, Head
from smalti.tile import TileStore
from smalti.train import Features, choose_device, make_fabric, read_bags
from smalti.train.tasks.bags import BagTask, fit_reader

SIZE = 1280
CLASSES = 4
CHUNK = 5000


def store_bags(folder: Path, sizes: list[int]) -> Features:
    """Bags of drawn features on disk, in a square of tiles."""
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.concatenate([np.stack(np.divmod(np.arange(n), 300), axis=1) for n in sizes]).astype(np.int64) * 224
    rng = np.random.default_rng(0)
    path = folder / "features.f32"
    with path.open("wb") as file:
        for start in range(0, int(starts[-1]), CHUNK):
            rng.standard_normal((min(CHUNK, int(starts[-1]) - start), SIZE), dtype=np.float32).tofile(file)
    names = tuple(f"i{n}" for n in range(len(sizes)))
    ones, kind = np.ones(starts[-1], np.float32), np.zeros(starts[-1], np.uint8)
    store = TileStore("none", folder, 224, names, starts, places, ones, ones, kind, np.zeros(len(starts), np.int64))
    return Features((path,), store, SIZE)


def read_peak_mb() -> float:
    """Largest resident size of this process so far (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def measure(folder: Path, tiles: int, *, pooler: str, learn: bool) -> tuple[float, float]:
    """Seconds and MB of one kind of work on a bag of so many tiles."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = store_bags(folder, [100, tiles])
    part = POOLERS.build(pooler, SIZE, CLASSES)
    reader = BagReader(part, Head(part.features, CLASSES, dropout=0.2, by_class=part.by_class))
    fit_reader(reader, features, np.array([0]))
    none = np.empty(0, dtype=np.int64)
    fabric = make_fabric(choose_device(recipe.Train(device="cpu")))

    def work(bag: int) -> float:
        start = time.process_time()
        if learn:
            bags = np.array([bag])
            task = BagTask(reader, fabric, features, bags, torch.tensor([1]), none, none, recipe.Transfer())
            for forward, targets in task.draw_batches(np.random.default_rng(0)):
                logits, extra = forward()
                fabric.backward(F.cross_entropy(logits, targets) + (0 if extra is None else extra))
        else:
            read_bags(reader, features, np.array([bag]))
        return time.process_time() - start

    work(0)
    before = read_peak_mb()
    seconds = [work(1) for _ in range(3)]
    return float(np.median(seconds)), read_peak_mb() - before


def main() -> None:
    """Print one row a size, and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pooler", default="attention")
    parser.add_argument("--tiles", nargs="+", type=int, default=[12_500, 25_000, 50_000, 100_000])
    given = parser.parse_args()
    for learn in (True, False):
        print(f"{'one step' if learn else 'scores'} | tiles | seconds | MB | times the bag")
        rows = []
        for tiles in given.tiles:
            with (
                tempfile.TemporaryDirectory() as folder,
                ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker,
            ):
                work = worker.submit(measure, Path(folder), tiles, pooler=given.pooler, learn=learn)
                seconds, peak = work.result()
            rows.append((tiles, seconds, peak))
            print(f" | {tiles} | {seconds:.2f} | {peak:.0f} | {peak * 2**20 / (tiles * SIZE * 4):.2f}", flush=True)
        logs = np.log(np.array(rows))
        exponents = [np.polyfit(logs[:, 0], logs[:, column], 1)[0] for column in (1, 2)]
        print(f"exponent of time {exponents[0]:.2f}, of memory {exponents[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
