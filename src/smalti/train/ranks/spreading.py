"""Processes that train one network together: started here, watched here, ended here.

Each builds the network anew from the recipe and the weights of the moment, since not every module can be pickled. The
first one reports; what it has at the end is what all have. Batches, logits and epochs are the same in all of them, so
that all take the same decisions without asking.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import distributed, multiprocessing, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...engine.resources import measure_resources
from ...errors import RecipeError, RunError, SmaltiError
from ...faults import AGAIN, explain_fault
from ...models import NORMS, assemble_network, build_backbone, open_backbone
from ...recipe import Settled
from ...registry import read_options
from ...samples import AUGMENTATIONS, Policy
from ..devices import Device, make_fabric
from ..loop import Loop, Outcome
from ..tasks import FinetuneTask

POLL_S = 0.1
ENDED = ".ended"  # of the file with what training gave, beside that of the job
SYNCHRONISED = "live"  # the one norm whose statistics of a batch can be those of all processes


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process needs, which plain pickle can hand over.

    Attributes:
        weights: of the network as the phase begins with it, on the CPU.
        task, loop: fields of `FinetuneTask` and `Loop` that do not belong to one process.
        threads: of a CPU, for each process.
        store: file by which the processes find each other.
    """

    recipe: Settled
    device: Device
    weights: dict[str, torch.Tensor]
    task: dict[str, Any]
    loop: dict[str, Any]
    threads: int
    store: str


def check_spread(module: nn.Module, recipe: Settled, device: Device) -> None:
    """Check that this machine has the devices, and that several processes can train a backbone as one would.

    Raises:
        RecipeError: it has fewer; or statistics of a batch would be those of each process by itself.
    """
    devices = recipe.train.devices
    if devices == 1:
        return
    count = {"cuda": torch.cuda.device_count, "cpu": lambda: measure_resources().cpus}
    there = count.get(device.accelerator, lambda: 1)()
    if devices > there:
        raise RecipeError(
            f"train.devices={devices}, and this machine has {there} for {device.accelerator}",
            fix=f"--set train.devices={there}; --on processes spreads folds first, the better use of several devices",
        )
    norm = NORMS.build(recipe.model.norm)
    if not norm.live or not any(isinstance(m, _BatchNorm) for m in module.modules()):
        return
    if recipe.model.norm != SYNCHRONISED or device.accelerator != "cuda":
        why = "synchronises them on GPUs alone" if recipe.model.norm == SYNCHRONISED else "cannot synchronise them"
        raise RecipeError(
            f"model.norm={recipe.model.norm} takes statistics of each step, and torch {why}: each of "
            f"{devices} processes would have its own",
            fix="--set model.norm=frozen_statistics (or group), or --set train.devices=1",
        )


def run_spread(loop: Loop, recipe: Settled, device: Device) -> Outcome:
    """Run a loop of phase ``finetune`` in ``train.devices`` processes; its module ends with the best weights.

    Raises:
        RunError: a process ended before its time; progress is kept.
        SmaltiError: as `Loop.run`.
    """
    task, devices = loop.task, recipe.train.devices
    assert isinstance(task, FinetuneTask)
    _check_batches(task, devices)
    policy = isinstance(task.augmentation, Policy)  # others are built by name
    apart = {"module", "fabric", "norm", *([] if policy else ["augmentation"])}
    carried = {f.name: getattr(task, f.name) for f in fields(task) if f.name not in apart}
    settings = {f.name: getattr(loop, f.name) for f in fields(loop) if f.name not in {"fabric", "task", "tell"}}
    settings["counts"] = loop.counts.cpu()
    weights = {name: value.detach().cpu() for name, value in task.module.state_dict().items()}
    threads = max(1, torch.get_num_threads() // devices)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(recipe, device, weights, carried, settings, threads, str(Path(folder, "store")))
        path = Path(folder, "job")  # a pipe would hold the second process back until the first has read
        path.write_bytes(pickle.dumps(job))
        for done, total in _start(path, devices, name=f"fold{loop.stream.fold}-seed{loop.stream.seed}"):
            if loop.tell is not None:
                loop.tell(done, total)
        outcome, best = pickle.loads(path.with_suffix(ENDED).read_bytes())
    task.module.load_state_dict(best)
    return outcome


def _check_batches(task: FinetuneTask, devices: int) -> None:
    """Check that no batch has fewer images than there are processes; batches are near-equal (`draw_images`)."""
    images = len(task.batches.bags)
    smallest = images // max(1, -(-images // task.batches.batch_images))
    if smallest < devices:
        raise RecipeError(
            f"a step of phase finetune has {smallest} of {images} images, and train.devices={devices} wants one each",
            fix="a larger train.finetune.batch_images, or a smaller train.devices",
        )


def _start(job: Path, devices: int, *, name: str) -> Iterator[tuple[int, int]]:
    """Yield epochs that are done, and all, until the processes have ended; none is left in any case."""
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    context = multiprocessing.start_processes(
        _take_part, args=(job, devices, queue), nprocs=devices, join=False, start_method="spawn"
    )
    assert context is not None
    try:
        ended = False
        while not ended or not queue.empty():
            while not queue.empty():
                said = pickle.loads(queue.get())
                if isinstance(said, SmaltiError):
                    raise said
                yield said
            if not ended:
                ended = context.join(timeout=POLL_S)
    except (multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException) as error:
        # Those that are left fail too, since they wait for the one that is gone, or are ended by SIGTERM.
        codes = [process.exitcode or 0 for process in context.processes]
        killed = next((code for code in codes if code < 0 and code != -signal.SIGTERM), None)
        why = str(error).strip().rpartition("\n")[2] if killed is None else f"signal {-killed}"
        memory = "" if killed is None else ", as the system does where memory runs out"
        raise RunError(
            f"one of {devices} processes that train {name} together was lost ({why}){memory}",
            fix=f"a smaller train.finetune.batch_images, or train.devices=1; {AGAIN}",
        ) from error
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
            process.join()


def _take_part(rank: int, path: Path, devices: int, queue: Any) -> None:
    """Train as one of several processes; the first says what becomes of it."""
    try:
        job: Job = pickle.loads(path.read_bytes())
        with _group(rank, devices, job):
            outcome, weights = _train(rank, job, queue)
        if rank == 0:  # by a file: of what is too long for a pipe, a process that is killed leaves half
            path.with_suffix(ENDED).write_bytes(pickle.dumps((outcome, weights)))
    except Exception as error:
        told = error if isinstance(error, SmaltiError) else explain_fault(error)
        if told is None:
            raise
        queue.put(pickle.dumps(told))


@contextmanager
def _group(rank: int, devices: int, job: Job) -> Iterator[None]:
    """Join the processes of this machine; they meet by a file, so that no port is chosen."""
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}  # as Fabric asks for them
    torch.set_num_threads(job.threads)
    backend = "gloo"
    if job.device.accelerator == "cuda":
        backend = "nccl"
        torch.cuda.set_device(rank)
    store = distributed.FileStore(job.store, devices)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=devices)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _train(rank: int, job: Job, queue: Any) -> tuple[Outcome, dict[str, torch.Tensor]]:
    """Return what the loop gives, and the weights that it ends with."""
    train, model = job.recipe.train, job.recipe.model
    fabric = make_fabric(job.device, devices=train.devices)
    fabric.launch()
    backbone = build_backbone(model)
    network = assemble_network(model, backbone, classes=job.task["classes"])
    open_backbone(network, model)
    network.load_state_dict(job.weights)
    if job.device.accelerator == "cuda" and backbone.norm is not None and backbone.norm.live:
        network.backbone = convert_sync_batchnorm(network.backbone)
    network.requires_grad_(True)  # DDP takes part in what may learn now; what a stage closes is left alone
    phase = train.finetune
    built = AUGMENTATIONS.build(phase.augmentation, **read_options(phase.augmentation_options))
    norm = backbone.norm or NORMS.build("live")
    task = FinetuneTask(**{"augmentation": built, **job.task}, module=network, fabric=fabric, norm=norm)
    stream = replace(job.loop["stream"], rank=rank)
    tell = (lambda done, total: queue.put(pickle.dumps((done, total)))) if rank == 0 else None
    settings = {**job.loop, "stream": stream, "counts": job.loop["counts"].to(fabric.device)}
    outcome = Loop(fabric=fabric, task=task, tell=tell, **settings).run()
    return outcome, {name: value.cpu() for name, value in network.state_dict().items()}
