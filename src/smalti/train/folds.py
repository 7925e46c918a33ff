"""Train every fold of every seed; each leaves one checkpoint, the inner scores that chose its epochs, and how scores
of images that it did not learn from went from epoch to epoch."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .. import recipe
from ..audit import DYNAMICS_NAME, Dynamics, join_dynamics, write_dynamics
from ..errors import RecipeError
from ..models import NORMS, Head, Network, add_mask_channel
from ..recipe import STEPS
from ..records import RunFolder
from ..samples import Augmentation, BagBatches, find_chances, parse_policy, write_policy
from ..store import write_table
from ..types import HISTORY_COLUMNS, PREDICTION_COLUMNS, Cohort, Split, score_columns
from .bags import BagTask, fit_reader
from .checkpoints import read_checkpoint, write_checkpoint
from .devices import make_fabric, one_thread
from .experiment import Experiment, Frozen
from .features import Features
from .finetune import FinetuneTask
from .heads import HEADS, solve_head
from .loop import Course, Loop, Outcome, Stream
from .optim.losses import weigh_classes
from .optim.optimisers import settle_train
from .policies.exploring import Explored, Tell, explore_augmentation, picture_augmentation
from .tasks import Task, TransferTask

PHASES = ("transfer", "finetune")
WATCHED = {"transfer": ("transfer",), "all": PHASES, "none": ()}


def train_folds(experiment: Experiment, splits: tuple[Split, ...], *, tell: Tell | None = None) -> None:
    """Train what is not trained yet; write ``history.csv``, ``predictions/inner.csv``, ``predictions/dynamics.npz``,
    where weights stopped being numbers ``diverged.csv``, and of heads that were solved ``heads.csv``.

    ``tell(name, done, total)`` hears of every epoch, and of every step of a search before it.
    """
    run = experiment.run
    for split in splits:
        if not (run.checkpoints / f"{split.name}.safetensors").is_file():
            train_split(experiment, split, tell=tell)
            run.log("trained", split=split.name)
    checkpoints = [read_checkpoint(run.checkpoints / f"{split.name}.safetensors") for split in splits]
    history = pd.DataFrame([row for c in checkpoints for row in c["history"]], columns=list(HISTORY_COLUMNS))
    write_table(run.path / "history.csv", history)
    write_table(run.predictions / "inner.csv", tabulate_inner(experiment, splits))
    _record_explored(run, splits, checkpoints)
    diverged = [row for content in checkpoints for row in content.get("diverged", ())]
    if diverged:
        write_table(run.path / "diverged.csv", pd.DataFrame(diverged))
    parts = [path for path in (find_dynamics(run, split) for split in splits) if path.is_file()]
    if parts:
        join_dynamics(parts, run.predictions / DYNAMICS_NAME)
    tried = [row for content in checkpoints for row in content["tried"]]
    if tried:
        write_table(run.path / "heads.csv", pd.DataFrame(tried))


def _record_explored(run: RunFolder, splits: tuple[Split, ...], checkpoints: list[dict[str, Any]]) -> None:
    """Write ``operations.csv`` and ``policies/`` where augmentations were looked at or learned."""
    rows = [row for content in checkpoints for row in content.get("operations", ())]
    if rows:
        write_table(run.path / "operations.csv", pd.DataFrame(rows))
    for split, content in zip(splits, checkpoints, strict=True):
        if content.get("policy") is not None:
            write_policy(run.policies / f"{split.name}.yaml", parse_policy(content["policy"], where=split.name))


def find_dynamics(run: RunFolder, split: Split) -> Path:
    """Where the dynamics of one fold are kept; there is no file where nothing was watched."""
    return run.predictions / "folds" / f"dynamics-{split.name}.npz"


def tabulate_inner(experiment: Experiment, splits: tuple[Split, ...]) -> pd.DataFrame:
    """Prediction table of the inner images of every fold, as they were when they chose."""
    tables = []
    for split in splits:
        content = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")
        tables.append(tabulate_scores(experiment.cohort, split, content["inner"].numpy(), content["inner_logits"]))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, slots=True)
class Learned:
    """A network after one pass through the phases.

    Attributes:
        courses: of each phase that learned in steps, what another pass repeats.
        inner: labelled images that chose.
        inner_logits: (n, C) of them.
        watched: of each phase that was watched, logits (n, C) of the outer images after each epoch.
        explored: the augmentation of phase ``finetune``.
        diverged: phase -> epoch after which its weights were no numbers any more, where that came to pass.
        tried: of a head that was solved, each strength with its loss.
    """

    network: Network
    history: list[dict[str, Any]]
    courses: dict[str, Course]
    inner: NDArray[np.int64]
    inner_logits: torch.Tensor
    watched: dict[str, tuple[torch.Tensor, ...]]
    explored: Explored | None = None
    diverged: dict[str, int] = field(default_factory=dict)
    tried: tuple[dict[str, Any], ...] = ()


def train_split(experiment: Experiment, split: Split, *, tell: Tell | None = None) -> None:
    """Learn on the training part of one fold; the checkpoint is written last.

    The first pass chooses epochs on the inner part. With ``train.refit`` a second pass learns from training and inner
    cases together and repeats the rates and epochs of the first; the inner scores stay those of the first pass. A
    second pass that diverges leaves the first one's weights. A head that is solved on frozen features holds back every
    case in turns, so that its one pass has training and inner cases together.

    Raises:
        DivergenceError: no epoch of a phase left weights that score.
    """
    train = experiment.recipe.train
    whole = replace(split, train=np.union1d(split.train, split.inner), inner=split.inner[:0])
    solved = experiment.recipe.model.head != STEPS and train.finetune.epochs == 0
    first = _learn(experiment, whole if solved else split, tell=tell)
    final = first
    if train.refit and len(split.inner) and not solved:
        final = _learn(experiment, whole, before=first, tell=tell)
    passes = [first] if final is first else [first, final]
    weights = (first if final.diverged else final).network.state_dict()
    if train.finetune.epochs == 0:
        weights = {name: value for name, value in weights.items() if not name.startswith("backbone.")}
    history = [row for part in passes for row in part.history]
    if first.watched:
        path = find_dynamics(experiment.run, split)
        write_dynamics(path, _tabulate_watched(experiment.cohort, split, first.watched))
    content = {"weights": dict(weights), "history": history, "inner_logits": first.inner_logits}
    content |= {"inner": torch.from_numpy(first.inner), "tried": first.tried}
    content["diverged"] = [
        {"seed": split.seed, "fold": split.fold, "phase": phase, "epoch": epoch}
        for part in passes
        for phase, epoch in part.diverged.items()
    ]
    if first.explored is not None:
        content |= first.explored.describe(split)
    write_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors", content)
    for path in experiment.run.checkpoints.glob(f"{split.name}.*.progress"):
        path.unlink()


def _learn(
    experiment: Experiment,
    split: Split,
    *,
    before: Learned | None = None,
    tell: Tell | None = None,
) -> Learned:
    """One pass through the phases; it repeats what a pass ``before`` chose, and then nothing is watched."""
    network = build_network(experiment, seed=split.seed * 1000 + split.fold)
    if network.branch is not None:
        _, shapes = experiment.store.read_shapes()
        network.branch.fit_shapes(torch.from_numpy(shapes[experiment.find_bags(split.train)]))
    logits = torch.empty(0, len(experiment.cohort.classes))
    learned = Learned(network, [], {}, split.inner, logits, {})
    task: Task
    for name in PHASES:
        if getattr(experiment.recipe.train, name).epochs == 0:
            continue
        if name == "transfer" and experiment.recipe.model.head != STEPS:
            learned = replace(learned, **_solve(experiment, split, network.head))
            continue
        if name == "transfer":
            task = _prepare_transfer(experiment, split, network)
        else:
            _open_backbone(experiment, network)
            explored = (
                before.explored if before is not None else explore_augmentation(experiment, split, network, tell=tell)
            )
            assert explored is not None
            learned = replace(learned, explored=explored)
            task = _prepare_finetune(experiment, split, network, augmentation=explored.augmentation)
            picture_augmentation(experiment.run, task)
        loop = _make_loop(experiment, split, name, task, course=before.courses[name] if before is not None else None)
        loop.watch = before is None and name in WATCHED[experiment.recipe.train.watch]
        with one_thread() if name == "transfer" else nullcontext():
            outcome = _run(loop, split, tell)
        learned.history.extend(outcome.history)
        learned.courses[name] = outcome.course
        if outcome.diverged >= 0:
            learned.diverged[loop.stream.phase] = outcome.diverged
        if outcome.watched:
            learned.watched[name] = outcome.watched
        if len(split.inner):
            learned = replace(learned, inner=split.inner, inner_logits=task.score_inner())
    return learned


def _solve(experiment: Experiment, split: Split, head: Head) -> dict[str, Any]:
    """Solve the head on the training part; what `Learned` keeps of it."""
    phase, targets = experiment.recipe.train.transfer, experiment.cohort.targets[split.train]
    seen = find_frozen(experiment, split).embeddings
    assert seen is not None  # `check_parts` has seen to it
    views = seen[: phase.views, experiment.find_bags(split.train)]
    head.fit_scale(views.flatten(0, 1))
    x = ((views - head.center.cpu()) / head.scale.cpu()).double().numpy()
    weights = weigh_classes(np.bincount(targets), kind=phase.class_weights).double().numpy()[targets]
    cases = np.unique([experiment.cohort.labelled[i].case for i in split.train], return_inverse=True)[1]
    model = experiment.recipe.model
    solved = solve_head(HEADS.build(model.head), x, targets, weights, cases=cases, seed=split.seed * 1000 + split.fold)
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(solved.head.weight))
        head.linear.bias.copy_(torch.from_numpy(solved.head.bias))
    tried = [
        {"seed": split.seed, "fold": split.fold, "head": model.head, "strength": strength, "loss": loss}
        for strength, loss in solved.losses.items()
    ]
    inner = split.train if len(solved.logits) else split.train[:0]
    return {"inner": inner, "inner_logits": torch.from_numpy(solved.logits).float(), "tried": tuple(tried)}


def build_network(experiment: Experiment, *, seed: int) -> Network:
    """The network before training; the backbone is shared, pooler and head are drawn from ``seed``."""
    torch.manual_seed(seed)
    model = experiment.recipe.model
    pooler = experiment.build_pooler()
    branch = experiment.build_branch(pooler)
    features = pooler.features if branch is None else branch.fusion.features
    head = Head(features, len(experiment.cohort.classes), dropout=model.dropout, by_class=pooler.by_class)
    network = Network(experiment.backbone, pooler, head, branch=branch, weighs=model.coverage_weights)
    return network.to(experiment.fabric.device)


def _open_backbone(experiment: Experiment, network: Network) -> None:
    """Give a network a backbone of its own that may learn, with the mask as a channel where the recipe says so."""
    network.backbone = copy.deepcopy(network.backbone)
    if experiment.recipe.model.mask_channel:
        add_mask_channel(network.backbone, name=experiment.backbone.name)


def load_network(experiment: Experiment, split: Split) -> Network:
    """The trained network of one fold, in eval mode."""
    network = build_network(experiment, seed=0)
    weights = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")["weights"]
    if any(name.startswith("backbone.") for name in weights):
        _open_backbone(experiment, network)
        network.load_state_dict(weights)
    else:
        network.reader.load_state_dict(weights)
    return network.eval()


def tabulate_scores(cohort: Cohort, split: Split, indices: np.ndarray, logits: torch.Tensor) -> pd.DataFrame:
    """Prediction table of labelled images: softmax of logits (n, C), one row an image."""
    scores = logits.double().softmax(dim=1).numpy()
    rows = [cohort.labelled[i] for i in indices]
    head = [(s.image, s.case, split.fold, split.seed, s.label) for s in rows]
    table = pd.DataFrame(head, columns=list(PREDICTION_COLUMNS))
    table[score_columns(cohort.classes)] = scores
    return table


def _tabulate_watched(cohort: Cohort, split: Split, watched: dict[str, tuple[torch.Tensor, ...]]) -> Dynamics:
    """What was watched in one fold, epoch after epoch; epochs count on from phase to phase."""
    logits = [values for phase in PHASES for values in watched.get(phase, ())]
    names = tuple(cohort.labelled[i].image for i in split.outer)
    rows = len(logits) * len(names)
    return Dynamics(
        names=names,
        classes=cohort.classes,
        image=np.tile(np.arange(len(names)), len(logits)),
        seed=np.full(rows, split.seed),
        epoch=np.repeat(np.arange(len(logits)), len(names)),
        logits=torch.cat(logits).float().numpy(),
    )


def _run(loop: Loop, split: Split, tell: Tell | None) -> Outcome:
    if tell is not None:
        label = f"{split.name} {loop.stream.phase}"
        loop.tell = lambda done, total: tell(label, done, total)
    return loop.run()


def find_frozen(experiment: Experiment, split: Split) -> Frozen:
    """What the frozen backbone sees in a fold.

    Raises:
        RecipeError: features were not computed.
    """
    frozen = experiment.frozen.get(split.name)
    if frozen is None:
        raise RecipeError("phase transfer needs frozen features. Fix: compute features before training")
    return frozen


def _prepare_transfer(experiment: Experiment, split: Split, network: Network) -> TransferTask | BagTask:
    frozen = find_frozen(experiment, split)
    embeddings = frozen.embeddings
    if embeddings is None:
        return _prepare_bags(experiment, frozen.features, split, network)
    phase, device, head = experiment.recipe.train.transfer, experiment.fabric.device, network.head
    # More views than the phase learns from may be there for prediction.
    learning = embeddings[: phase.views, experiment.find_bags(split.train)].to(device)
    head.fit_scale(learning[0])
    return TransferTask(
        module=head,
        # A head costs nothing in float32, and half precision would only add noise to it.
        fabric=make_fabric(replace(experiment.device, precision="32-true")),
        embeddings=learning,
        targets=torch.from_numpy(experiment.cohort.targets[split.train]).to(device),
        inner=embeddings[0, experiment.find_bags(split.inner)].to(device),
        watched=embeddings[0, experiment.find_bags(split.outer)].to(device),
        batch_images=phase.batch_images,
        chances=_find_chances(experiment, split, phase),
    )


def _prepare_bags(experiment: Experiment, features: Features, split: Split, network: Network) -> BagTask:
    """Pooler and head together, on bags of tile features."""
    bags = experiment.find_bags(split.train)
    fit_reader(network.reader, features, bags)
    return BagTask(
        module=network.reader,
        fabric=make_fabric(replace(experiment.device, precision="32-true")),
        features=features,
        bags=bags,
        targets=torch.from_numpy(experiment.cohort.targets[split.train]).to(experiment.fabric.device),
        inner_bags=experiment.find_bags(split.inner),
        watched_bags=experiment.find_bags(split.outer),
        phase=experiment.recipe.train.transfer,
        chances=_find_chances(experiment, split, experiment.recipe.train.transfer),
    )


def _prepare_finetune(
    experiment: Experiment, split: Split, network: Network, *, augmentation: Augmentation
) -> FinetuneTask:
    phase = experiment.recipe.train.finetune
    targets = experiment.cohort.targets[split.train]
    bags = experiment.find_bags(split.train)
    task = FinetuneTask(
        module=network,
        fabric=experiment.fabric,
        spec=experiment.backbone.spec,
        norm=experiment.backbone.norm or NORMS.build("live"),
        store=experiment.store,
        batches=BagBatches(
            experiment.store,
            bags,
            targets,
            phase.batch_images,
            phase.tiles_per_image,
            masked=network.takes_mask or phase.pixel_mixing == "mask_cutmix",
            mixing=(phase.bag_mixing, len(experiment.cohort.classes)) if phase.bag_mixing else None,
            chances=_find_chances(experiment, split, phase),
        ),
        inner_bags=experiment.find_bags(split.inner),
        watched_bags=experiment.find_bags(split.outer),
        phase=phase,
        classes=len(experiment.cohort.classes),
        augmentation=augmentation,
        stains=experiment.stains.get(split.name),
    )
    if task.norm.reestimates:
        task.reestimate(np.random.default_rng([split.seed, split.fold]))
    return task


def _find_chances(experiment: Experiment, split: Split, phase: recipe.Phase) -> NDArray[np.float64] | None:
    cases = [experiment.cohort.labelled[i].case for i in split.train]
    return find_chances(experiment.cohort.targets[split.train], cases, sampling=phase.sampling)


def _make_loop(experiment: Experiment, split: Split, name: str, task: Task, *, course: Course | None) -> Loop:
    # An experiment that was prepared has its rates already.
    phase: recipe.Phase = getattr(settle_train(experiment.recipe.train), name)
    targets = experiment.cohort.targets
    counts = np.bincount(targets[split.train], minlength=len(experiment.cohort.classes))
    return Loop(
        fabric=task.fabric,
        task=task,
        phase=phase,
        stream=Stream(split.seed, split.fold, name if course is None else f"refit-{name}"),
        course=course,
        counts=torch.from_numpy(counts).float().to(experiment.fabric.device),
        inner_targets=torch.from_numpy(targets[split.inner]),
        checkpoints=experiment.run.checkpoints,
        keep_start=name == "finetune" and experiment.recipe.train.transfer.epochs > 0,
    )
