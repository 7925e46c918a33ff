"""Train every fold of every seed, and gather what the folds have written down in tables of the run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from ..models import OF_BACKBONE, Network, fill_network
from ..records import Dynamics, GateRecord, PretrainingRecord, join_dynamics, log_event
from ..records.layout import (
    DIVERGED,
    DYNAMICS,
    HISTORY,
    INNER,
    OPERATIONS,
    PSEUDO,
    TRIED_HEADS,
    name_checkpoint,
    name_dynamics,
    name_policy,
)
from ..samples import parse_policy, write_policy
from ..store import write_table
from ..types import HISTORY_COLUMNS, PREDICTION_COLUMNS, Split, score_columns
from .checkpoints import read_checkpoint, write_checkpoint
from .experiment import Experiment
from .fold import PHASES, Fold, build_network
from .policies.exploring import Tell


def train_folds(experiment: Experiment, *, tell: Tell | None = None) -> None:
    """Train the folds that are not trained yet; write ``history.csv``, ``predictions/inner.csv``,
    ``predictions/dynamics.npz``, ``diverged.csv`` if weights became NaN or infinite, ``heads.csv`` if heads were
    solved, ``gate.json`` if anything was tried beside the labels, ``pseudo.csv`` if unlabelled images were to teach,
    and ``operations.csv`` and ``policies/`` if augmentations were measured or learned.

    ``tell(name, done, total)`` hears of every epoch, and of every step of a search before it.
    """
    run, splits = experiment.run, experiment.splits
    for split in splits:
        if not (run.path / name_checkpoint(split.name)).is_file():
            train_split(experiment, split, tell=tell)
            log_event(run.path, "trained", split=split.name)
    checkpoints = [read_checkpoint(run.path / name_checkpoint(split.name)) for split in splits]
    history = pd.DataFrame([row for c in checkpoints for row in c["history"]], columns=list(HISTORY_COLUMNS))
    write_table(run.path / HISTORY, history)
    write_table(run.path / INNER, tabulate_inner(experiment))
    pretrained = PretrainingRecord.find(run.path)
    verdicts = [] if pretrained is None else [fold.verdict.model_dump() for fold in pretrained.folds]
    if verdicts := verdicts + [row for content in checkpoints for row in content.get("verdicts", ())]:
        GateRecord.model_validate({"verdicts": verdicts}).write(run.path)
    for name, file in (
        ("operations", OPERATIONS), ("diverged", DIVERGED), ("tried", TRIED_HEADS), ("pseudo", PSEUDO)
    ):  # fmt: skip
        rows = [row for content in checkpoints for row in content.get(name, ())]
        if rows:
            write_table(run.path / file, pd.DataFrame(rows))
    for split, content in zip(splits, checkpoints, strict=True):
        if content.get("policy") is not None:
            write_policy(run.path / name_policy(split.name), parse_policy(content["policy"], where=split.name))
    parts = [path for path in (run.path / name_dynamics(split.name) for split in splits) if path.is_file()]
    if parts:
        join_dynamics(parts).write_file(run.path / DYNAMICS)


def tabulate_inner(experiment: Experiment) -> pd.DataFrame:
    """Tabulate predictions of the inner images of every fold, as they were when they chose."""
    cohort, tables = experiment.cohort, []
    for split in experiment.splits:
        content = read_checkpoint(experiment.run.path / name_checkpoint(split.name))
        rows = [cohort.labelled[i] for i in content["inner"].numpy()]
        head = [(s.image, s.case, split.fold, split.seed, s.label) for s in rows]
        table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
        table[score_columns(cohort.classes)] = content["inner_logits"].double().softmax(dim=1).numpy()
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def train_split(experiment: Experiment, split: Split, *, tell: Tell | None = None) -> None:
    """Train on one fold; the checkpoint is written last, then the files of progress are removed.

    Raises:
        DivergenceError: no epoch of a phase left weights that score.
    """
    passes = Fold(experiment, split, tell).learn()
    first, final = passes[0], passes[-1]
    weights = (first if final.diverged else final).network.state_dict()
    if not experiment.recipe.own_backbones:
        weights = {name: value for name, value in weights.items() if not name.startswith(OF_BACKBONE)}
    if first.watched:
        # Epochs count on from phase to phase.
        logits = [values for phase in PHASES for values in first.watched.get(phase, ())]
        names = tuple(experiment.cohort.labelled[i].image for i in split.outer)
        dynamics = Dynamics(
            names=names,
            classes=experiment.cohort.classes,
            image=np.tile(np.arange(len(names)), len(logits)),
            seed=np.full(len(logits) * len(names), split.seed),
            epoch=np.repeat(np.arange(len(logits)), len(names)),
            logits=torch.cat(logits).float().numpy(),
        )
        dynamics.write_file(experiment.run.path / name_dynamics(split.name))
    content: dict[str, object] = {
        "weights": dict(weights),
        "history": [row for part in passes for row in part.history],
        "inner_logits": first.inner_logits,
        "inner": torch.from_numpy(first.inner),
        "tried": first.tried,
        "diverged": [
            {"seed": split.seed, "fold": split.fold, "phase": phase, "epoch": epoch}
            for part in passes
            for phase, epoch in part.diverged.items()
        ],
    }
    if first.verdicts:
        content |= {"verdicts": [verdict.model_dump() for verdict in first.verdicts], "pseudo": first.pseudo}
    if first.augmentation is not None:
        content |= first.augmentation.describe(split)
    write_checkpoint(experiment.run.path / name_checkpoint(split.name), content)
    for path in experiment.run.checkpoints.glob(f"{split.name}.*.progress"):
        path.unlink()


def load_network(experiment: Experiment, split: Split) -> Network:
    """Load the trained network of one fold, in eval mode."""
    weights = read_checkpoint(experiment.run.path / name_checkpoint(split.name))["weights"]
    return fill_network(build_network(experiment, split, seed=0), experiment.recipe.model, weights)
