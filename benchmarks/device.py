"""What an accelerator gives, and whether it scores as the CPU does; under eight minutes.

    python benchmarks/device.py [--minutes 8] [--auto-minutes 3] [--repeats 3] [--out device.json] [--only feeding ...]
    python benchmarks/device.py --device cpu --small      without an accelerator: tiny, to try the script

A demo cohort is drawn; then come the parts, each for its share of --minutes. What does not fit is left out, and said.
Rates are tiles of 224 px in a second: the median of --repeats, the lowest and the highest; files are in the page cache.
--out gets everything as JSON after each part.

feeding   batches of phase finetune on the host, no network. ``smalti``: read and edited by the one thread that runs
          ahead; ``read``: only read; ``hand over``: from memory to normalised tensors on the device; ``pool``: here
          only, bags read and edited by N threads with one torch thread each. ratio: to ``smalti``; same: the pool's
          bytes are smalti's. smalti should have such a pool where starvation is above 0 and the ratio above 1.
training  steps of finetune (forward, backward, clipping, optimiser), all layers open, random weights. network: on one
          batch that lies on the device; whole: an epoch of smalti's loop, fed by itself; starvation: 1 - whole /
          network; peak_gb: largest memory that torch held on the device.
features  whole: `compute_features` of all tiles of the cohort, to a file; network: a chunk of the size that it takes,
          on the device; wide: eight times that size.
equality  the same recipe on the CPU in float32 and on the device. frozen: features and a solved head; finetune: one
          epoch of a small network from scratch, without dropout, whose draws differ between devices. features: largest
          difference over the spread of all features; scores: largest difference of out-of-fold probabilities, mean
          beside it. In float32 both may be 1e-3 at most (verdict); in less they are told, with both macro-F1.
auto      the preset on the cohort within --auto-minutes: what each member took and scores.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from feeding import feed_by_pool
from smalti import recipe, workflow
from smalti.cohort import read_cohort
from smalti.demo import draw_plan, plan_cohort
from smalti.errors import RecipeError, SmaltiError
from smalti.evaluate import score_predictions
from smalti.models import NORMS, POOLERS, Head, Network, build_backbone
from smalti.packages import PACKAGES, find_package
from smalti.recipe import load_recipe
from smalti.records import look_at_machine
from smalti.samples import AUGMENTATIONS, BagBatches, iterate_ahead, normalise_tiles
from smalti.store import read_table, write_json
from smalti.tile import TileStore, build_store
from smalti.train import Device, Experiment, choose_device, compute_features, make_fabric, settle_train
from smalti.train.halving import CHUNK_TILES
from smalti.train.loop import Loop, Stream
from smalti.train.optim.optimisers import build_optimiser, settle_rates
from smalti.train.tasks.finetune import FinetuneTask
from smalti.types import Cohort, score_columns

Row = dict[str, Any]
Job = tuple[str, Callable[[], list[Row]]]

TILE_PX = 224
PARTS = ("feeding", "training", "features", "equality", "auto")
BACKBONES = ("mobilenetv2_100", "resnet50", "vit_small_patch16_224")
TINY = ("test_resnet", "test_vit")  # in their place where only the script is tried
EDITS = ("flips_colour", "randaugment", "tissue")
THREADS = (1, 2, 4, 8, 16)
LEAST_S = 0.3  # of one timing, where a piece of work is shorter it is repeated
TOLERANCE = 1e-3
# Seconds of eight minutes; auto has the rest.
SHARES = {"feeding": 50, "training": 100, "features": 35, "equality": 50}
# In the place of the standard portfolio where only the script is tried.
TWO_MEMBERS = """members:
  - {name: tiles, about: tiles}
  - {name: colour, about: colour, set: ["model.backbone=described:colour", model.weights=null]}
"""


@dataclass(frozen=True)
class Bench:
    """What the parts share: the device, the drawn cohort and its tiles."""

    device: Device
    small: bool
    repeats: int
    work: Path
    cohort: Cohort
    store: TileStore
    auto_minutes: float

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def bags(self) -> np.ndarray:
        return np.array([self.store.position(s.image) for s in self.cohort.labelled])

    @property
    def precisions(self) -> tuple[str, ...]:
        """Float32, and what smalti takes; on a CPU, where that is the same, bfloat16 stands in."""
        return "32-true", "bf16-mixed" if self.device.precision == "32-true" else self.device.precision

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.accelerator == "cuda":
            torch.cuda.synchronize()
        elif self.device.accelerator == "mps":
            torch.mps.synchronize()

    def forget_peak(self) -> None:
        """Begin to watch the memory of the device."""
        if self.device.accelerator == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def read_peak_gb(self) -> float | None:
        """The most that torch held since; None where that is not counted."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.device.accelerator == "cuda" else None

    def measure(self, name: str, work: Callable[[], object], *, tiles: int) -> Row:
        """Tiles in a second of a piece of work that makes so many: columns ``name``, ``name_low``, ``name_high``."""
        for _ in range(1 if self.small else 2):  # the first call warms up, the last says how often one fits
            started = time.perf_counter()
            work()
            self.wait()
        count = min(100, max(1, round(LEAST_S / (time.perf_counter() - started))))
        rates = []
        for _ in range(self.repeats):
            started = time.perf_counter()
            for _ in range(count):
                work()
            self.wait()
            rates.append(count * tiles / (time.perf_counter() - started))
        return {name: statistics.median(rates), f"{name}_low": min(rates), f"{name}_high": max(rates)}


def prepare_bench(device: Device, args: argparse.Namespace, work: Path) -> Bench:
    """Draw the cohort, read it and cut its tiles."""
    small = {"labelled": 40, "unlabelled": 1, "side_px": (260, 420)} if args.small else {}
    draw_plan(plan_cohort(**small), work / "data", workers=1 if args.small else None)
    cohort = read_cohort(work / "data")
    if args.small:
        cohort = replace(cohort, labelled=cohort.labelled[:4], unlabelled=())
    tile = load_recipe("default", settings=["tile.max_tiles=4"] if args.small else []).tile
    store = build_store(cohort, tile, tile_px=TILE_PX, cache=work / "cache")
    minutes = args.auto_minutes or (1.5 if args.small else 3.0)
    return Bench(device, args.small, 1 if args.small else args.repeats, work, cohort, store, minutes)


def make_loop(bench: Bench, backbone: str, *, precision: str = "auto", images: int, edits: str = EDITS[0]) -> Loop:
    """The loop of phase finetune on the drawn cohort, as a fold has it, all layers open from the start."""
    recipe = load_recipe("default", settings=[
        f"model.backbone={backbone}", "model.pretrained=false", "model.norm=live", "train.finetune.stages=1",
        f"train.device={bench.device.accelerator}", f"train.precision={precision}",
        f"train.finetune.batch_images={images}", f"train.finetune.augmentation={edits}",
        *(["train.finetune.tiles_per_image=2"] if bench.small else []),
    ])  # fmt: skip
    part = build_backbone(recipe.model)
    fabric, phase = make_fabric(choose_device(recipe.train)), settle_train(recipe.train).finetune
    classes, none = len(bench.cohort.classes), bench.bags[:0]
    pooler = POOLERS.build("mean", part.features, classes)
    network = Network(part, pooler, Head(part.features, classes, dropout=recipe.model.dropout)).to(fabric.device)
    batches = BagBatches(bench.store, bench.bags, bench.cohort.targets, images, phase.tiles_per_image)
    task = FinetuneTask(
        module=network, fabric=fabric, spec=part.spec, norm=part.norm or NORMS.build("live"), store=bench.store,
        batches=batches, inner_bags=none, watched_bags=none, phase=phase, classes=classes,
        augmentation=AUGMENTATIONS.build(edits),
    )  # fmt: skip
    return Loop(
        fabric=fabric, task=task, phase=phase, rates=settle_rates(recipe.train, "finetune"),
        stream=Stream(0, 0, "finetune"),
        counts=torch.ones(classes, device=fabric.device), inner_targets=torch.empty(0, dtype=torch.long),
        checkpoints=bench.work,
    )  # fmt: skip


def feed(bench: Bench, edits: str) -> list[Row]:
    """Smalti's own input path, its pieces, and a pool of threads in its place."""
    task = make_loop(bench, "test_resnet", images=2 if bench.small else 8, edits=edits).task
    assert isinstance(task, FinetuneTask)
    task.start_epoch(task.phase.epochs - 1, task.phase.epochs)  # edits are strongest at the end
    tiles = len(bench.bags) * task.phase.tiles_per_image
    drawn = [batch.rows for batch in task.batches.draw(np.random.default_rng(0))]

    def augment() -> Iterator[Any]:
        return task.augment_batches(np.random.default_rng(0), np.random.default_rng(0))

    def hand_over() -> Iterator[torch.Tensor]:
        for batch in made:
            yield normalise_tiles(torch.from_numpy(batch.tiles).flatten(0, 1).to(task.fabric.device), spec=task.spec)

    made = [batch for batch, _ in augment()]
    ways: dict[str, tuple[int, Callable[[], Iterator[object]]]] = {
        "smalti": (1, lambda: iterate_ahead(augment())),
        "read": (1, lambda: (bench.store.read_tiles(rows.ravel()) for rows in drawn)),
        "hand over": (1, hand_over),
    }
    pool = partial(feed_by_pool, bench.store, drawn, edits, strength=task.phase.strength_end)
    ways |= {f"pool {n}": (n, partial(pool, threads=n)) for n in (THREADS[:2] if bench.small else THREADS)}
    want = list(pool(threads=0))
    same = all(np.array_equal(one, other) for one, other in zip(want, pool(threads=2), strict=True))
    rows: list[Row] = []
    for way, (threads, batches) in ways.items():
        row: Row = {"edits": edits, "way": way, "threads": threads}
        row |= bench.measure("rate", lambda b=batches: deque(b(), maxlen=0), tiles=tiles)
        row["ratio"] = row["rate"] / (rows[0] if rows else row)["rate"]
        rows.append(row | {"same": same if way.startswith("pool") else None})
    return rows


def train(bench: Bench, backbone: str, precision: str, images: int) -> list[Row]:
    """Steps on one batch on the device, then whole epochs of the loop."""
    bench.forget_peak()
    loop = make_loop(bench, backbone, precision=precision, images=images)
    phase, task = loop.phase, loop.task
    assert isinstance(task, FinetuneTask)
    each = task.batches.tiles_per_image
    groups = task.list_groups()
    built = build_optimiser(phase.optimiser, groups, lr=loop.rates.lr, weight_decay=loop.rates.weight_decay)
    optimiser = loop.fabric.setup_optimizers(built)
    task.start_epoch(0, 1)
    batch = next(task.draw_batches(np.random.default_rng(0)))
    row: Row = {"backbone": backbone, "precision": precision, "batch": len(batch[1]) * each}
    row |= bench.measure("network", lambda: loop._step(optimiser, [batch]), tiles=row["batch"])
    row |= bench.measure("whole", lambda: loop._learn(optimiser, 0), tiles=len(bench.bags) * each)
    row["starvation"] = 1 - row["whole"] / row["network"]
    return [row | {"peak_gb": bench.read_peak_gb()}]


def embed(bench: Bench, backbone: str) -> list[Row]:
    """Features of all tiles into a cache that is empty each time, and the network alone."""
    settings = [f"model.backbone={backbone}", "model.pretrained=false"]
    part, fabric = build_backbone(load_recipe("quick", settings=settings).model), make_fabric(bench.device)
    tiles, numbers = len(bench.store), itertools.count()

    def work() -> None:
        cache = bench.work / "features" / f"{backbone}-{next(numbers)}"
        compute_features(part, bench.store, views=1, fabric=fabric, cache=cache)

    row: Row = {"backbone": backbone, "precision": bench.device.precision, "tiles": tiles}
    row |= bench.measure("whole", work, tiles=tiles)
    module = fabric.setup_module(part.module).eval()
    for name, size in {"network": CHUNK_TILES, "wide": 8 * CHUNK_TILES}.items():
        size = 4 if bench.small else size
        images = torch.rand(size, 3, TILE_PX, TILE_PX, device=fabric.device).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            row |= bench.measure(name, lambda images=images: module(images), tiles=size)
    return [row | {"starvation": 1 - row["whole"] / row["network"]}]


def compare(bench: Bench, name: str, preset: str, settings: list[str]) -> list[Row]:
    """The device in both number formats beside the CPU in float32."""
    settings = [*settings, "split.folds=2", f"tile.max_tiles={1 if bench.small else 4}"]
    ask = partial(score, bench, preset, settings)
    truth, scores, f1, seconds = ask("cpu", "32-true", name=f"{preset}-reference")
    head = {"learning": name, "device": "cpu", "precision": "32-true"}
    rows: list[Row] = [head | {"macro_f1": f1.value, "low": f1.low, "high": f1.high, "seconds": seconds}]
    for precision in bench.precisions:
        found, others, f1, seconds = ask(bench.device.accelerator, precision, name=f"{preset}-{precision}")
        off = np.abs(others - scores)
        apart = [
            float((one.embeddings - found.frozen[split].embeddings).abs().max() / one.embeddings.std())
            for split, one in truth.frozen.items()
        ]
        exact = max([float(off.max()), *apart]) <= TOLERANCE
        rows.append({
            "learning": name, "device": bench.device.accelerator, "precision": precision,
            "features": max(apart, default=None), "scores": float(off.max()), "scores_mean": float(off.mean()),
            "verdict": ("equal" if exact else "NOT EQUAL") if precision == "32-true" else "told",
            "macro_f1": f1.value, "low": f1.low, "high": f1.high, "seconds": seconds,
        })  # fmt: skip
    return rows


def score(
    bench: Bench, preset: str, settings: list[str], device: str, precision: str, *, name: str
) -> tuple[Experiment, np.ndarray, dict[str, float], float]:
    """A trained experiment, its out-of-fold probabilities (n, C), their macro-F1 with its interval, and the seconds."""
    started = time.perf_counter()
    settings = [*settings, f"train.device={device}", f"train.precision={precision}"]
    runs = bench.work / "runs"
    experiment = workflow.train_run(bench.data, preset, settings=settings, runs=runs, name=name, skip_problems=True)
    workflow.predict(experiment)
    seconds, classes = time.perf_counter() - started, experiment.cohort.classes
    table = experiment.run.read_out_of_fold().sort_values(["seed", "image"])
    f1 = score_predictions(table, classes=classes).metrics["macro_f1"]
    return experiment, table[score_columns(classes)].to_numpy(dtype=float), f1, seconds


def run_auto(bench: Bench) -> list[Row]:
    """The members of the portfolio, and what they make together."""
    settings = [f"portfolio.minutes={bench.auto_minutes:g}", f"train.device={bench.device.accelerator}"]
    if bench.small:
        (bench.work / "two.yaml").write_text(TWO_MEMBERS)
        settings += [f"portfolio.members={bench.work / 'two.yaml'}", "split.folds=2", "tile.max_tiles=1"]
    bench.forget_peak()
    started = time.perf_counter()
    result = workflow.run(
        bench.data, "auto", settings=settings, runs=bench.work / "auto", skip_problems=True,
        listener=workflow.Listener(say=lambda text: print(f"  {text}", flush=True)),
    )  # fmt: skip
    seconds, f1 = time.perf_counter() - started, result.scores.metrics["macro_f1"]
    print(f"  {result.describe()}")
    rows: list[Row] = read_table(result.path / "members.csv").to_dict("records")
    whole = {"member": "auto", "status": "done", "reason": "the whole run, with audit and report", "seconds": seconds}
    whole |= {"macro_f1": f1.value, "low": f1.low, "high": f1.high, "peak_gb": bench.read_peak_gb()}
    return [*rows, whole]


def list_jobs(bench: Bench, part: str) -> list[Job]:
    """What a part consists of, each piece with a name to be told by where it is left out."""
    backbones = TINY if bench.small else BACKBONES
    if part == "feeding":
        return [(edits, partial(feed, bench, edits)) for edits in EDITS]
    if part == "training":
        images = (2,) if bench.small else (8, 16)  # the recipe's batch, and 64 tiles
        ways = itertools.product(backbones, bench.precisions, images)
        return [(f"{b} {p}, {n} images a step", partial(train, bench, b, p, n)) for b, p, n in ways]
    if part == "features":
        return [(backbone, partial(embed, bench, backbone)) for backbone in backbones]
    if part == "auto":
        return [(f"auto in {bench.auto_minutes:g} minutes", partial(run_auto, bench))]
    packaged = next((name for name in PACKAGES if find_package(name) is not None), None)
    weights = ["model.pretrained=false"] if packaged is None else [f"model.backbone={packaged}"]
    frozen, finetune = f"frozen, {packaged or 'random weights'}", "finetune, test_resnet"
    once = ["train.finetune.epochs=1", "model.dropout=0", "train.refit=false"]
    return [
        (frozen, partial(compare, bench, frozen, "quick", [*weights, "model.head=logistic"])),
        (finetune, partial(compare, bench, finetune, "scratch", once)),
    ]


def run_part(name: str, bench: Bench, *, ends: float) -> dict[str, Any]:
    """Do the jobs of a part until the clock says ``ends``; print and give their rows, and what was left out and why."""
    print(f"\n{name}", flush=True)
    rows, left_out, started = list[Row](), list[str](), time.monotonic()
    for label, work in list_jobs(bench, name):
        if time.monotonic() + (60 * bench.auto_minutes if name == "auto" else 0) > ends:
            left_out.append(f"{label}: no time left")
            continue
        try:
            rows += work()
        except (SmaltiError, RuntimeError) as error:  # what one job meets, the next may not
            traceback.print_exc()
            left_out.append(f"{label}: {type(error).__name__}: {error}")
    table = pd.DataFrame(rows)
    print(table.dropna(axis=1, how="all").to_string(index=False, na_rep="-", float_format=lambda v: f"{v:.5g}"))
    for text in left_out:
        print(f"left out: {text}")
    print(f"{name} took {time.monotonic() - started:.0f} s", flush=True)
    told = table.astype(object).where(table.notna(), None).to_dict("records")
    return {"seconds": round(time.monotonic() - started, 1), "rows": told, "left_out": left_out}


def main() -> None:
    """Run the parts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--small", action="store_true", help="tiny networks, a few images: rates mean nothing")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--auto-minutes", type=float, help="for the part auto; 3, small 1.5")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    args = parser.parse_args()
    started = time.monotonic()
    try:
        device = choose_device(recipe.Train(device=args.device))
    except RecipeError as error:
        sys.exit(str(error))
    if device.accelerator == "cpu" and args.device == "auto":
        print(
            f"No accelerator is at hand, so nothing is measured ({device.reason}). "
            "Fix: run this on a machine with a GPU, or try the script itself with --device cpu --small"
        )
        sys.exit(2)
    print(f"{device.name}, {device.precision}: {device.reason}", flush=True)
    content = {"device": asdict(device), "small": args.small, "machine": look_at_machine().model_dump(), "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare_bench(device, args, Path(folder))
        content["prepared_s"] = round(time.monotonic() - started, 1)
        print(f"{len(bench.cohort.labelled)} images and {len(bench.store)} tiles after {content['prepared_s']:.0f} s")
        for name in args.only:
            share = 60 * args.minutes if args.small else SHARES.get(name, 480) * args.minutes / 8
            ends = min(started + 60 * args.minutes, time.monotonic() + share)
            content["parts"][name] = run_part(name, bench, ends=ends)
            write_json(args.out, content)
    print(f"\neverything took {time.monotonic() - started:.0f} s; {args.out}")


if __name__ == "__main__":
    main()
