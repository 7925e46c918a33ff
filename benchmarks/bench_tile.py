"""Tiling, side by side in one process: coverage of a large mask, reading from a store.

    python benchmarks/bench_tile.py

Coverage: a count per tile (what smalti does) against an integral image (NumPy's cumulative sums, four look-ups per
tile). Own memory is what the arrays add at their peak (tracemalloc sees NumPy's); OpenCV counts in place.
Reading: 32 random tiles from the file (what smalti does) against a memory map, and the resident memory that a walk
through the whole store leaves behind.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smalti.tile import TileStore, make_grid, measure_coverage

SIDE_PX = 10_000
TILE_PX = 224
REPEATS = 7
STORE_TILES = 8_000
READS = 100


def sum_integral(mask: NDArray[np.uint8], positions: NDArray[np.int64], *, tile_px: int) -> NDArray[np.float32]:
    """Coverage by an integral image, for tiles that lie inside."""
    integral = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    mask.cumsum(axis=0, dtype=np.int64, out=integral[1:, 1:])
    integral[1:, 1:].cumsum(axis=1, out=integral[1:, 1:])
    row, col = positions.T
    below, right = row + tile_px, col + tile_px
    total = integral[below, right] - integral[row, right] - integral[below, col] + integral[row, col]
    return (total / tile_px**2).astype(np.float32)


def measure_time(work: Callable[[], Any]) -> float:
    """Median seconds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_peak(work: Callable[[], Any]) -> int:
    """Bytes that the work adds at its peak."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def resident_mb() -> float:
    """Highest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def bench_coverage() -> None:
    """Print time and own memory of both ways, at two overlaps."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (SIDE_PX // 100, SIDE_PX // 100), dtype=np.uint8).repeat(100, 0).repeat(100, 1)
    print(f"coverage, {SIDE_PX} x {SIDE_PX} px mask ({mask.nbytes / 1e6:.0f} MB), {TILE_PX} px tiles")
    print(f"{'overlap':>8} {'tiles':>6} {'way':<26} {'ms':>8} {'own MB':>8} {'of mask':>8}")
    for overlap in (0.0, 0.3):
        ways = {"grid + count per tile": measure_coverage, "grid + integral image": sum_integral}
        results = []
        for name, measure in ways.items():

            def work(measure: Callable[..., Any] = measure, overlap: float = overlap) -> NDArray[np.float32]:
                positions = make_grid(SIDE_PX, SIDE_PX, tile_px=TILE_PX, overlap_frac=overlap)
                return np.asarray(measure(mask, positions, tile_px=TILE_PX))

            before = resident_mb()
            results.append(work())
            grown = resident_mb() - before
            own = measure_peak(work)
            seconds = measure_time(work)
            print(
                f"{overlap:>8} {len(results[-1]):>6} {name:<26} {seconds * 1e3:>8.1f} {own / 1e6:>8.2f} "
                f"{own / mask.nbytes:>8.4f}  (resident peak grew by {grown:.0f} MB)"
            )
        np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def bench_store(folder: Path) -> None:
    """Print speed of random and serial reads, and what they leave resident."""
    block = np.random.default_rng(0).integers(0, 256, (100, TILE_PX, TILE_PX, 3), dtype=np.uint8)
    with (folder / "tiles.u8").open("wb") as file:
        for _ in range(STORE_TILES // len(block)):
            file.write(block.data)
    store = TileStore(
        key="bench",
        folder=folder,
        tile_px=TILE_PX,
        images=("all",),
        starts=np.array([0, STORE_TILES]),
        positions=np.zeros((STORE_TILES, 2), np.int64),
        coverage=np.ones(STORE_TILES, np.float32),
        kind=np.zeros(STORE_TILES, np.uint8),
        stained=np.zeros(2, np.int64),
        scale=np.ones(STORE_TILES, np.float32),
    )
    shape = (STORE_TILES, TILE_PX, TILE_PX, 3)
    rng = np.random.default_rng(1)
    picks = [np.sort(rng.choice(STORE_TILES, 32, replace=False)) for _ in range(READS)]
    megabytes = block[0].nbytes * STORE_TILES / 1e6

    def map_once(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.asarray(np.memmap(folder / "tiles.u8", np.uint8, mode="r", shape=shape)[rows])

    kept = np.memmap(folder / "tiles.u8", np.uint8, mode="r", shape=shape)
    ways = {"file (smalti)": store.read_tiles, "map per call": map_once, "map kept open": lambda rows: kept[rows]}
    print(
        f"\nstore of {STORE_TILES} tiles ({megabytes:.0f} MB, in the page cache); 32 random tiles, then a serial walk"
    )
    print(f"{'way':<16} {'ms per 32 tiles':>16} {'walk MB/s':>10} {'resident peak grew by MB':>26}")
    for name, read in ways.items():
        before = resident_mb()

        def draw(read: Callable[..., Any] = read) -> None:
            for rows in picks:
                read(rows)

        seconds = measure_time(draw) / READS
        start = time.perf_counter()
        for first in range(0, STORE_TILES, 64):
            read(np.arange(first, min(first + 64, STORE_TILES)))
        walk = megabytes / (time.perf_counter() - start)
        print(f"{name:<16} {seconds * 1e3:>16.2f} {walk:>10.0f} {resident_mb() - before:>26.0f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        # The store first: the integral image would raise the resident peak above anything that reading can.
        bench_store(Path(name))
    print()
    bench_coverage()
