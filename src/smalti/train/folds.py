"""Train every fold of every seed; each leaves one checkpoint and the inner scores that chose its epochs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import RecipeError
from ..models import Head, Network
from ..runs import write_table
from ..samples import BagBatches
from ..types import HISTORY_COLUMNS, PREDICTION_COLUMNS, Cohort, Split, score_columns
from .checkpoints import read_checkpoint, write_checkpoint
from .devices import make_fabric
from .experiment import Experiment
from .loop import Loop, Outcome, Stream, weigh_classes
from .tasks import FinetuneTask, TransferTask

Tell = Callable[[str, int, int], None]


def train_folds(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> None:
    """Train what is not trained yet, then write ``history.csv`` and ``predictions/inner.csv``.

    ``tell(name, done, total)`` hears of every epoch.
    """
    run = experiment.run
    for split in splits:
        if not (run.checkpoints / f"{split.name}.safetensors").is_file():
            train_split(experiment, split, tell=tell)
            run.log("trained", split=split.name)
    checkpoints = [read_checkpoint(run.checkpoints / f"{split.name}.safetensors") for split in splits]
    history = pd.DataFrame([row for c in checkpoints for row in c["history"]], columns=list(HISTORY_COLUMNS))
    write_table(run.path / "history.csv", history)
    inner = [
        tabulate_scores(experiment.cohort, split, split.inner, c["inner_logits"])
        for split, c in zip(splits, checkpoints, strict=True)
    ]
    write_table(run.predictions / "inner.csv", pd.concat(inner, ignore_index=True))


def train_split(experiment: Experiment, split: Split, *, tell: Tell | None = None) -> None:
    """Both phases on the training part of one fold; the checkpoint is written last."""
    network = build_network(experiment, seed=split.seed * 1000 + split.fold)
    history: list[dict[str, object]] = []
    progress: list[Path] = []
    logits = torch.empty(0, len(experiment.cohort.classes))
    finetune = experiment.recipe.train.finetune.epochs > 0
    if experiment.recipe.train.transfer.epochs > 0:
        loop = _prepare_transfer(experiment, split, network.head)
        history += _run(loop, split, tell).history
        progress.append(loop.progress_path)
        logits = loop.task.score_inner() if len(split.inner) else logits
    if finetune:
        network.backbone = copy.deepcopy(network.backbone)
        loop = _prepare_finetune(experiment, split, network)
        history += _run(loop, split, tell).history
        progress.append(loop.progress_path)
        logits = loop.task.score_inner() if len(split.inner) else logits
    weights = network.state_dict() if finetune else {f"head.{k}": v for k, v in network.head.state_dict().items()}
    content = {"weights": dict(weights), "history": history, "inner_logits": logits}
    write_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors", content)
    for path in progress:
        path.unlink(missing_ok=True)


def build_network(experiment: Experiment, *, seed: int) -> Network:
    """The network before training; the backbone is shared, the head is drawn from ``seed``."""
    torch.manual_seed(seed)
    head = Head(experiment.backbone.features, len(experiment.cohort.classes), dropout=experiment.recipe.model.dropout)
    network = Network(experiment.backbone, experiment.build_pooler(), head)
    return network.to(experiment.fabric.device)


def load_network(experiment: Experiment, split: Split) -> Network:
    """The trained network of one fold, in eval mode."""
    network = build_network(experiment, seed=0)
    weights = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")["weights"]
    if any(name.startswith("backbone.") for name in weights):
        network.backbone = copy.deepcopy(network.backbone)
        network.load_state_dict(weights)
    else:
        network.head.load_state_dict({k.removeprefix("head."): v for k, v in weights.items()})
    return network.eval()


def tabulate_scores(cohort: Cohort, split: Split, indices: np.ndarray, logits: torch.Tensor) -> pd.DataFrame:
    """Prediction table of labelled images: softmax of logits (n, C), one row an image."""
    scores = logits.double().softmax(dim=1).numpy()
    rows = [cohort.labelled[i] for i in indices]
    head = [(s.image, s.case, split.fold, split.seed, s.label) for s in rows]
    table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
    table[score_columns(cohort.classes)] = scores
    return table


def _run(loop: Loop, split: Split, tell: Tell | None) -> Outcome:
    if tell is not None:
        label = f"{split.name} {loop.stream.phase}"
        loop.tell = lambda done, total: tell(label, done, total)
    return loop.run()


def _prepare_transfer(experiment: Experiment, split: Split, head: Head) -> Loop:
    phase, device = experiment.recipe.train.transfer, experiment.fabric.device
    # A head costs nothing in float32, and half precision would only add noise to it.
    exact = make_fabric(replace(experiment.device, precision="32-true"))
    if experiment.embeddings is None:
        raise RecipeError("phase transfer needs frozen embeddings. Fix: compute features before training")
    learning = experiment.embeddings[:, experiment.find_bags(split.train)].to(device)
    head.fit_scale(learning[0])
    task = TransferTask(
        module=head,
        fabric=exact,
        embeddings=learning,
        targets=torch.from_numpy(experiment.cohort.targets[split.train]).to(device),
        inner=experiment.embeddings[0, experiment.find_bags(split.inner)].to(device),
        batch_images=phase.batch_images,
    )
    return _make_loop(experiment, split, "transfer", task)


def _prepare_finetune(experiment: Experiment, split: Split, network: Network) -> Loop:
    phase = experiment.recipe.train.finetune
    targets = experiment.cohort.targets[split.train]
    batches = BagBatches(
        experiment.store, experiment.find_bags(split.train), targets, phase.batch_images, phase.tiles_per_image
    )
    task = FinetuneTask(
        module=network.to(memory_format=torch.channels_last),
        fabric=experiment.fabric,
        spec=experiment.backbone.spec,
        store=experiment.store,
        batches=batches,
        inner_bags=experiment.find_bags(split.inner),
        phase=phase,
    )
    return _make_loop(experiment, split, "finetune", task)


def _make_loop(experiment: Experiment, split: Split, name: str, task: TransferTask | FinetuneTask) -> Loop:
    knobs = experiment.recipe.train
    phase = knobs.transfer if name == "transfer" else knobs.finetune
    targets = experiment.cohort.targets
    weights = weigh_classes(targets[split.train], len(experiment.cohort.classes), kind=phase.class_weights)
    return Loop(
        fabric=task.fabric,
        task=task,
        phase=phase,
        stream=Stream(split.seed, split.fold, name),
        class_weights=weights.to(experiment.fabric.device),
        inner_targets=torch.from_numpy(targets[split.inner]),
        progress_path=experiment.run.checkpoints / f"{split.name}.{name}.progress",
        keep_start=name == "finetune" and knobs.transfer.epochs > 0,
    )
