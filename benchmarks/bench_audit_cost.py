"""What the audit costs at 100, 300 and 1,000 drawn images of 1,000 px: seconds of each check, peak memory, growth.

    python benchmarks/bench_audit_cost.py [--counts 100 300 1000] [--folder FOLDER]
    python benchmarks/bench_audit_cost.py --whole [--against CHECKOUT] [--repeats 3] [--sizes 4009x50 1000x1000]

Drawn H&E-like tissue with masks, planted problems among it (``smalti demo`` draws the like), PNG; a cohort that lies in
FOLDER already is used again. Each count is measured in a process of its own.

reading   opens and validates every file of the folder
digest    reads every image once, for all checks
checks    all of them, one after the other; they share what they derive. Below, each alone with nothing derived before
whole     reading, digest, checks; without the page and its pictures. Once more in seconds of a processor, which other
          work on the machine does not lengthen
growth    exponent between the last two counts: 1 is linear, 2 is all pairs; the last column extends it to 10,000

With --whole: the command 'smalti audit' from start to page, and the tiling of the default recipe at 224 px, on many
small and on 1,000 large drawn images; medians of wall-clock seconds and of CPU seconds (user and system), which other
work on the machine lengthens less. With --against, another checkout in turns on the same folders.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1]
SIDE_PX = 1000
TILE_PX = 224
UNLABELLED_FRAC = 0.1
LEAST_S = 0.05  # a shorter time says nothing about growth
GUESSED = 10_000


def draw(folder: Path, count: int) -> Path:
    """The cohort of so many images, drawn unless it is there."""
    from smalti.demo import draw_plan, plan_cohort

    target = folder / f"drawn-{count}"
    if not target.exists():
        unlabelled = max(1, round(UNLABELLED_FRAC * count))
        plan = plan_cohort(labelled=count - unlabelled, unlabelled=unlabelled, side_px=(SIDE_PX, SIDE_PX))
        draw_plan(plan, target)
    return target


def measure(folder: Path) -> dict[str, float]:
    """Seconds of every part, and the peak memory in GB of this process."""
    from smalti.audit import CHECKS, audit_cohort
    from smalti.audit.checks.registered import Digest
    from smalti.cohort import read_cohort

    names = [entry.name for entry in CHECKS]
    cohort, reading = take_time(lambda: read_cohort(folder))
    audit, digest = take_time(lambda: audit_cohort(cohort, checks=("exact-duplicate",)))  # itself no work to speak of
    images = audit.digest.images
    shared = Digest(cohort, images)
    _, checks = take_time(lambda: [CHECKS.build(name, cohort, shared) for name in names])
    processor = time.process_time()
    unit = 1 if sys.platform == "darwin" else 1024
    row = {"reading": reading, "digest": digest, "checks": checks, "whole": reading + digest + checks}
    row["whole, processor"] = processor
    row["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    for name in names:
        fresh = Digest(cohort, images)
        row[f"  {name}"] = take_time(lambda name=name, fresh=fresh: CHECKS.build(name, cohort, fresh))[1]
    return row


def tile_once(folder: Path) -> None:
    """Cut the tiles of a folder, into a cache that is thrown away."""
    from smalti.cohort import read_cohort
    from smalti.recipe import load_recipe
    from smalti.tile import build_store

    with tempfile.TemporaryDirectory(dir=folder.parent) as cache:
        build_store(read_cohort(folder), load_recipe("default").tile, tile_px=TILE_PX, cache=Path(cache))


def compare_whole(scratch: Path, sizes: list[str], *, against: Path | None, repeats: int) -> None:
    """Print the medians of both commands for each size, of each checkout in turns."""
    from drawing import draw_class_folders

    checkouts = [HOME, *([] if against is None else [against.resolve()])]
    print(f"{'images':<12}{'work':<8}{'checkout':<32}{'wall s':>8}{'CPU s':>8}{'peak MB':>9}")
    for size in sizes:
        count, side_px = (int(n) for n in size.split("x"))
        folder = scratch / f"drawn-{size}"
        if side_px == SIDE_PX:
            folder = draw(scratch, count)
        elif not folder.exists():
            draw_class_folders(folder, count=count, side_px=side_px)
        for work in ("audit", "tile"):
            taken = [[run_once(checkout, work, folder) for checkout in checkouts] for _ in range(repeats)]
            for checkout, rows in zip(checkouts, zip(*taken, strict=True), strict=True):
                wall, cpu, peak = (statistics.median(column) for column in zip(*rows, strict=True))
                print(f"{size:<12}{work:<8}{str(checkout)[-30:]:<32}{wall:8.1f}{cpu:8.1f}{peak:9.0f}", flush=True)


def run_once(checkout: Path, work: str, folder: Path) -> tuple[float, float, float]:
    """Wall-clock and CPU seconds and the peak memory in MB of one command with the code of a checkout."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as runs:
        audit = ["-m", "smalti", "audit", str(folder), "--runs", runs]
        command = [sys.executable, *(audit if work == "audit" else [__file__, "--tile", str(folder)])]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(checkout / "src")}, stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{command} failed")
        return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def take_time(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of the work and its seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def print_rows(counts: list[int], rows: list[dict[str, float]]) -> None:
    """A line for each part."""
    print(f"{'seconds':<24}" + "".join(f"{count:>10}" for count in counts) + f"{'growth':>10}{GUESSED:>10}")
    for part in rows[0]:
        values = [row[part] for row in rows]
        growth, guess = "-", "-"
        if len(values) > 1 and values[-2] >= LEAST_S:
            exponent = math.log(values[-1] / values[-2]) / math.log(counts[-1] / counts[-2])
            growth, guess = f"{exponent:.2f}", f"{values[-1] * (GUESSED / counts[-1]) ** exponent:.1f}"
        print(f"{part:<24}" + "".join(f"{value:10.2f}" for value in values) + f"{growth:>10}{guess:>10}")


def main() -> None:
    """Draw, measure each count in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--whole", action="store_true", help="whole commands, on small and on large images")
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", default=["4009x50", "1000x1000"], help="images x side in pixels")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tile", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    if args.tile is not None:
        tile_once(args.tile)
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        if args.whole:
            compare_whole(args.folder or Path(scratch), args.sizes, against=args.against, repeats=args.repeats)
            return
        for count in sorted(args.counts):
            data = draw(args.folder or Path(scratch), count)
            command = [sys.executable, __file__, "--one", str(data)]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    print_rows(sorted(args.counts), rows)


if __name__ == "__main__":
    main()
