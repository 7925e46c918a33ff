"""Measure the engine: two workers against one, what a unit costs, and on paper a cluster that was never there.

python benchmarks/bench_engine.py [--only workers,tiny,paper] [--units 10000] [--gpus 64] [--slides 10000]
    [--costs benchmarks/engine_costs.json] [--set encode_s_tile=0.0005 ...]

workers: real work of one thread (an SVD and a stencil), by one worker and by two, on processes and on Ray; wants a
quiet machine with two cores or more. Wanted: 1.7 times as fast.

tiny: units that write ten bytes: seconds a unit, here, in processes and on Ray.

paper: from seconds of single steps that were measured on one machine (the file of ``--costs``, which says where each
comes from) how long a cluster takes, and which of its parts the others wait for. Nothing is run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from smalti.engine import Unit, carry_out

COSTS = Path(__file__).with_name("engine_costs.json")
WANTED = 1.7
WORK_UNITS, ROUNDS = 24, 12


def work(path: str, seed: int) -> None:
    """Compute about a second on one core, and write the result."""
    values = np.random.default_rng(seed).normal(size=(300, 300))
    for _ in range(ROUNDS):
        u, s, v = np.linalg.svd(values, full_matrices=False)
        values = np.roll(u * s @ v, 1, axis=0) + values.T
        values /= np.abs(values).max()
    leave(path, values.tobytes()[:1000])


def tiny(path: str) -> None:
    """Write ten bytes."""
    leave(path, b"0123456789")


def leave(path: str, content: bytes) -> None:
    """Write atomically."""
    temporary = Path(f"{path}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="workers,tiny,paper")
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--costs", type=Path, default=COSTS)
    parser.add_argument("--set", action="append", default=[], help="NAME=NUMBER in place of one of the costs")
    args = parser.parse_args()
    asked = args.only.split(",")
    if "workers" in asked:
        measure_workers()
    if "tiny" in asked:
        measure_tiny(args.units)
    if "paper" in asked:
        costs = read_costs(args.costs)
        changed = {name: float(value) for name, value in (text.split("=") for text in args.set)}
        print_paper(replace(costs, **changed), gpus=args.gpus, slides=args.slides)


def make_units(folder: Path, count: int, task: str, **args: object) -> list[Unit]:
    """Return units whose task is a function of this file."""
    rows = [(f"u{n}", folder / f"u{n}", {"seed": n} if task == "work" else {}) for n in range(count)]
    return [Unit(name, f"bench_engine:{task}", {"path": str(path), **row}, path) for name, path, row in rows]


def time_units(count: int, task: str, on: str) -> tuple[float, dict[str, bytes]]:
    """Return the seconds of all units, without the start of the workers where that can be told, and what they wrote."""
    with folder_for_units() as folder:
        start = time.perf_counter()
        ended: list[float] = []
        outcomes = carry_out(
            make_units(folder, count, task), on=on, each=lambda outcome: ended.append(time.perf_counter())
        )
        assert all(outcome.status == "done" for outcome in outcomes), outcomes[0]
        # From the first unit that ended to the last: processes and Ray take seconds to start, whatever the work.
        seconds = (ended[-1] - ended[0]) * count / (count - 1) if on != "here" else time.perf_counter() - start
        return seconds, {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def folder_for_units() -> Iterator[Path]:
    """Yield a folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def measure_workers() -> None:
    """Print how much faster two workers are than one, and whether they wrote the same."""
    print(f"{WORK_UNITS} units of one thread each")
    print(f"{'where':>10s}  {'one, s':>8s}  {'two, s':>8s}  {'times':>6s}  wanted {WANTED}; same bytes")
    here = time_units(WORK_UNITS, "work", "here")[1]
    for kind in ("processes", "ray"):
        one, first = time_on(kind, 1)
        two, second = time_on(kind, 2)
        verdict = "yes" if one / two >= WANTED else "NO"
        same = "yes" if here == first == second else "NO"
        print(f"{kind:>10s}  {one:8.2f}  {two:8.2f}  {one / two:6.2f}  {verdict}; {same}")


def time_on(kind: str, workers: int) -> tuple[float, dict[str, bytes]]:
    """Return what `time_units` does, with so many workers."""
    if kind == "processes":
        return time_units(WORK_UNITS, "work", f"processes:{workers}")
    with ray_of(workers):
        return time_units(WORK_UNITS, "work", "ray")


@contextmanager
def ray_of(cores: int) -> Iterator[None]:
    """Start Ray on this machine with so many cores, and end it."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


def measure_tiny(count: int) -> None:
    """Print what the engine adds to each unit."""
    with folder_for_units() as folder:
        start = time.perf_counter()
        for n in range(count):
            tiny(str(folder / f"u{n}"))
        bare = (time.perf_counter() - start) / count
    print(f"\n{count} units that write ten bytes; without the engine {1e3 * bare:.3f} ms each")
    print(f"{'where':>12s}  {'ms a unit':>9s}  {'of these the engine':>19s}")
    for on in ("here", "processes:1", "processes:2", "ray"):
        seconds = time_units(count, "tiny", on)[0] / count
        print(f"{on:>12s}  {1e3 * seconds:9.3f}  {1e3 * (seconds - bare):19.3f}")


@dataclass(frozen=True, slots=True)
class Costs:
    """What single steps cost, measured on one machine each.

    Attributes:
        tiles: of one slide.
        slides_unit: slides in one unit.
        mask_s_slide: seconds on one core to find the tissue of a slide.
        read_s_tile: seconds on one core to read and decode a tile.
        encode_s_tile: seconds on one GPU to make its features.
        write_s_slide: seconds on one core to write the features of a slide.
        start_s_unit: seconds until a new unit has its network on the GPU.
        engine_s_unit: seconds that the engine takes for a unit, one after the other in the process of the caller.
        slide_gb: size of a slide.
        features_gb: size of its features.
        cores_gpu: cores beside each GPU.
        disk_gb_s: what the shared disk delivers to all nodes together.
    """

    tiles: float
    slides_unit: float
    mask_s_slide: float
    read_s_tile: float
    encode_s_tile: float
    write_s_slide: float
    start_s_unit: float
    engine_s_unit: float
    slide_gb: float
    features_gb: float
    cores_gpu: float
    disk_gb_s: float


def read_costs(path: Path) -> Costs:
    """Read the numbers; their sources stand beside them."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return Costs(**{field.name: rows[field.name]["value"] for field in fields(Costs)})


def print_paper(costs: Costs, *, gpus: int, slides: int) -> None:
    """Print how long each part of the cluster works, and which one the others wait for.

    A unit is one slide or more on one GPU with its share of the cores. While the GPU encodes, the cores read ahead, so
    the longer of the two counts; the parts that all units share (disk, caller) work beside them.
    """
    waves = -(-slides // gpus)  # the last wave is not full
    cores = costs.mask_s_slide + costs.tiles * costs.read_s_tile
    parts = {
        "GPUs": waves * costs.tiles * costs.encode_s_tile,
        "cores that read": waves * cores / costs.cores_gpu,
        "shared disk": slides * (costs.slide_gb + costs.features_gb) / costs.disk_gb_s,
        "engine (one caller)": slides / costs.slides_unit * costs.engine_s_unit,
    }
    beside = waves * (costs.start_s_unit / costs.slides_unit + costs.write_s_slide)
    longest = max(parts, key=lambda part: parts[part])
    total = parts[longest] + beside
    print(
        f"\n{slides} slides of {costs.tiles:.0f} tiles on {gpus} GPUs with {costs.cores_gpu:.0f} cores each, on paper"
    )
    print(f"{'part':>20s}  {'hours':>7s}  {'busy':>5s}")
    for part, seconds in parts.items():
        print(
            f"{part:>20s}  {seconds / 3600:7.2f}  {seconds / total:5.0%}{'  <- bottleneck' if part == longest else ''}"
        )
    print(f"{'start and write':>20s}  {beside / 3600:7.2f}  {beside / total:5.0%}  (nothing runs beside it)")
    print(f"{'all':>20s}  {total / 3600:7.2f}")
    print_what_would_help(costs, parts, gpus=gpus)


def print_what_would_help(costs: Costs, parts: dict[str, float], *, gpus: int) -> None:
    """Print what each part would have to be, so that GPUs wait for nothing."""
    wanted = parts["GPUs"]
    enough: Sequence[tuple[str, str, float]] = (
        ("cores that read", "cores a GPU", costs.cores_gpu),
        ("shared disk", "GB/s of the shared disk", costs.disk_gb_s),
    )
    for part, what, there in enough:
        if parts[part] > wanted:
            print(f"so that GPUs do not wait: {there * parts[part] / wanted:.1f} {what} instead of {there:g}")
    if (share := costs.start_s_unit / costs.slides_unit) > 0.1 * costs.tiles * costs.encode_s_tile:
        slides = costs.start_s_unit / (0.1 * costs.tiles * costs.encode_s_tile)
        print(f"the start of a unit takes {share:.1f} s a slide: {slides:.0f} slides in a unit make it a tenth")
    print(f"the engine alone would be the bottleneck above {gpus * wanted / parts['engine (one caller)']:,.0f} GPUs")


if __name__ == "__main__":
    main()
