"""What the audit costs at 100, 300 and 1,000 drawn images of 1,000 px: seconds of each check, peak memory, growth.

    python benchmarks/bench_audit_cost.py [--counts 100 300 1000] [--folder FOLDER]

Drawn H&E-like tissue with masks, planted problems among it (``smalti demo`` draws the like), PNG; a cohort that lies in
FOLDER already is used again. Each count is measured in a process of its own.

reading   opens and validates every file of the folder
digest    reads every image once, for all checks
checks    all of them, one after the other; they share what they derive. Below, each alone with nothing derived before
whole     reading, digest, checks; without the page and its pictures. Once more in seconds of a processor, which other
          work on the machine does not lengthen
growth    exponent between the last two counts: 1 is linear, 2 is all pairs; the last column extends it to 10,000
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE_PX = 1000
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
    from smalti.audit.checks import Digest
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
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in sorted(args.counts):
            data = draw(args.folder or Path(scratch), count)
            command = [sys.executable, __file__, "--one", str(data)]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    print_rows(sorted(args.counts), rows)


if __name__ == "__main__":
    main()
