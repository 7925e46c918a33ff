"""One fold of one seed: its network, what each phase learns on, and one or two passes through the phases."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import recipe
from ..errors import RecipeError
from ..models import NORMS, Head, Network, assemble_network, fit_scale, open_backbone
from ..recipe import STEPS
from ..records import GateVerdict
from ..samples import Augmentation, BagBatches, find_chances, number_sites
from ..samples.splits import LEAST_INNER_SITES
from ..types import Split
from .devices import make_fabric, one_thread
from .experiment import Experiment, FrozenFeatures
from .heads import HEADS, solve_head
from .loop import Loop, Replay, Stream
from .optim.losses import weigh_classes
from .optim.optimisers import settle_rates
from .policies.exploring import AugmentationChoice, Tell, explore_augmentation, picture_augmentation
from .pseudo import teach_fold
from .ranks.spreading import run_spread
from .synthesis.teaching import teach_drawn
from .tasks import BagTask, FinetuneTask, Task, TransferTask
from .tasks.bags import fit_reader

PHASES = ("transfer", "finetune")
WATCHED = {"transfer": ("transfer",), "all": PHASES, "none": ()}


@dataclass(frozen=True, slots=True)
class PassResult:
    """A network after one pass through the phases.

    Attributes:
        replays: of each phase that learned in steps, what another pass repeats.
        inner: labelled images that chose.
        inner_logits: (n, C) of them.
        watched: of each phase that was watched, logits (n, C) of the outer images after each epoch.
        augmentation: of phase ``finetune``.
        diverged: phase -> epoch after which its weights were NaN or infinite.
        tried: of a head that was solved, each strength with its loss.
        verdicts: of what was tried beside the labels.
        pseudo: unlabelled images that taught, or would have.
    """

    network: Network
    inner: NDArray[np.int64]
    inner_logits: torch.Tensor
    history: list[dict[str, object]] = field(default_factory=list)
    replays: dict[str, Replay] = field(default_factory=dict)
    watched: dict[str, tuple[torch.Tensor, ...]] = field(default_factory=dict)
    augmentation: AugmentationChoice | None = None
    diverged: dict[str, int] = field(default_factory=dict)
    tried: tuple[dict[str, object], ...] = ()
    verdicts: tuple[GateVerdict, ...] = ()
    pseudo: tuple[dict[str, object], ...] = ()


def build_network(experiment: Experiment, split: Split, *, seed: int) -> Network:
    """Build the network of a fold before training; the backbone is shared unless the fold has pretrained its own,
    pooler and head are drawn from ``seed``."""
    torch.manual_seed(seed)
    classes = len(experiment.cohort.classes)
    network = assemble_network(experiment.recipe.model, experiment.find_backbone(split), classes=classes)
    return network.to(experiment.fabric.device)


@dataclass(frozen=True, slots=True)
class Fold:
    """One split of an experiment.

    Attributes:
        tell: hears (name, done, total) of every epoch and of every step of a search.
    """

    experiment: Experiment
    split: Split
    tell: Tell | None = None

    def learn(self) -> list[PassResult]:
        """Train on the training part; return the pass that chose, and one with all cases if there is one.

        The first pass chooses epochs on the inner part. With ``train.refit`` a second pass learns from training and
        inner cases together and repeats the rates and epochs of the first; the inner scores stay those of the first
        pass. A head that is solved on frozen features holds out every case in turns, so that its only pass has training
        and inner cases together.

        Raises:
            DivergenceError: no epoch of a phase left weights that score.
        """
        split, train = self.split, self.experiment.recipe.train
        whole = replace(self, split=replace(split, train=np.union1d(split.train, split.inner), inner=split.inner[:0]))
        if self.experiment.recipe.model.head != STEPS and train.finetune.epochs == 0:
            return [whole.pass_phases()]
        first = self.pass_phases()
        return [first, whole.pass_phases(before=first)] if train.refit and len(split.inner) else [first]

    def pass_phases(self, *, before: PassResult | None = None) -> PassResult:
        """Make one pass through the phases; it repeats what a pass ``before`` chose, and then nothing is watched."""
        experiment, split = self.experiment, self.split
        network = build_network(experiment, split, seed=split.seed * 1000 + split.fold)
        if network.branch is not None:
            _, shapes = experiment.store.read_shapes()
            known = torch.from_numpy(shapes[experiment.find_bags(split.train)])
            fit_scale(network.branch, known, prefix="shape_")
        result = PassResult(network, split.inner, torch.empty(0, len(experiment.cohort.classes)))
        task: Task
        for name in PHASES:
            if getattr(experiment.recipe.train, name).epochs == 0:
                continue
            if name == "transfer" and experiment.recipe.model.head != STEPS:
                result = replace(result, **self._solve(network.head))
                continue
            if name == "transfer":
                task = self._prepare_transfer(network)
            else:
                open_backbone(network, experiment.recipe.model)
                chosen = before.augmentation if before is not None else None
                chosen = chosen or explore_augmentation(experiment, split, network, tell=self.tell)
                result = replace(result, augmentation=chosen)
                task = self._prepare_finetune(network, augmentation=chosen.augmentation)
                picture_augmentation(experiment.run, task)
            loop = self._make_loop(name, task, replay=before.replays[name] if before is not None else None)
            loop.watch = before is None and name in WATCHED[experiment.recipe.train.watch]
            with one_thread() if name == "transfer" else nullcontext():
                spread = name == "finetune" and experiment.recipe.train.devices > 1
                outcome = run_spread(loop, experiment.recipe, experiment.device) if spread else loop.run()
            result.history.extend(outcome.history)
            result.replays[name] = outcome.replay
            if outcome.diverged >= 0:
                result.diverged[loop.stream.phase] = outcome.diverged
            if outcome.watched:
                result.watched[name] = outcome.watched
            if len(split.inner):
                result = replace(result, inner=split.inner, inner_logits=task.score("inner"))
        return result

    def find_frozen(self) -> FrozenFeatures:
        """Return the features that a frozen backbone gives in this fold.

        Raises:
            RecipeError: features were not computed.
        """
        frozen = self.experiment.frozen.get(self.split.name)
        if frozen is None:
            raise RecipeError("phase transfer needs frozen features", fix="compute features before training")
        return frozen

    def find_chances(self, phase: recipe.Phase) -> NDArray[np.float64] | None:
        """Return the chance (n,) of each training image at each draw; None if each is taken once an epoch."""
        cohort, train = self.experiment.cohort, self.split.train
        cases = [cohort.labelled[i].case for i in train]
        return find_chances(cohort.targets[train], cases, sampling=phase.sampling)

    def _solve(self, head: Head) -> dict[str, Any]:
        """Solve the head on the training part; return the fields of a `PassResult` that this gives."""
        experiment, split = self.experiment, self.split
        phase, targets = experiment.recipe.train.transfer, experiment.cohort.targets[split.train]
        seen = self.find_frozen().embeddings
        if seen is None:
            raise RecipeError("a solved head needs embeddings of images", fix="--set model.head=steps")
        views = seen[: phase.views, experiment.find_bags(split.train)]
        with torch.no_grad():
            views = views.to(head.center.device)
            head.fit(views.flatten(0, 1))
            x = head.standardise(views).double().cpu().numpy()
        weights = weigh_classes(np.bincount(targets), kind=phase.class_weights).double().numpy()[targets]
        cases = np.unique([experiment.cohort.labelled[i].case for i in split.train], return_inverse=True)[1]
        sites = self._number_sites() if experiment.recipe.split.group == "site" else None
        name, seed = experiment.recipe.model.head, split.seed * 1000 + split.fold
        solved = solve_head(HEADS.build(name), x, targets, weights, cases=cases, sites=sites, seed=seed)
        tell = None if self.tell is None else partial(self.tell, f"{split.name} pseudo-labels")
        taught = teach_fold(experiment, split, head, solved, (x, targets, weights), tell=tell)
        solved, verdicts = taught.solved, taught.verdicts
        if experiment.drawn is not None:
            beside = teach_drawn(experiment, split, head, solved, (x, targets, weights), experiment.drawn)
            solved, verdicts = beside.solved, (*verdicts, beside.verdict)
        with torch.no_grad():
            head.linear.weight.copy_(torch.from_numpy(solved.head.weight))
            head.linear.bias.copy_(torch.from_numpy(solved.head.bias))
        tried = [
            {"seed": split.seed, "fold": split.fold, "head": name, "strength": strength, "loss": loss}
            for strength, loss in solved.losses.items()
        ]
        inner = split.train if len(solved.logits) else split.train[:0]
        return {
            "inner": inner, "inner_logits": torch.from_numpy(solved.logits).float(), "tried": tuple(tried),
            "verdicts": verdicts, "pseudo": taught.rows,
        }  # fmt: skip

    def _number_sites(self) -> NDArray[np.int64] | None:
        """Return the site of each training image, (n,), to hold out in turns; None where there are too few sites."""
        sites = number_sites(self.experiment.cohort)[self.split.train]
        return sites if len(np.unique(sites)) >= LEAST_INNER_SITES else None

    def _prepare_transfer(self, network: Network) -> TransferTask | BagTask:
        experiment, split, frozen = self.experiment, self.split, self.find_frozen()
        phase, device = experiment.recipe.train.transfer, experiment.fabric.device
        # A head costs nothing in float32, and half precision would only add noise to it.
        fabric = make_fabric(replace(experiment.device, precision="32-true"))
        bags, inner, watched = (experiment.find_bags(part) for part in (split.train, split.inner, split.outer))
        targets = torch.from_numpy(experiment.cohort.targets[split.train]).to(device)
        chances = self.find_chances(phase)
        if frozen.embeddings is None:
            fit_reader(network.reader, frozen.features, bags)
            return BagTask(network.reader, fabric, frozen.features, bags, targets, inner, watched, phase, chances)
        # More views than the phase learns from may be there for prediction.
        learning = frozen.embeddings[: phase.views, bags].to(device)
        network.head.fit(learning[0])
        return TransferTask(
            module=network.head,
            fabric=fabric,
            embeddings=learning,
            targets=targets,
            inner=frozen.embeddings[0, inner].to(device),
            watched=frozen.embeddings[0, watched].to(device),
            batch_images=phase.batch_images,
            chances=chances,
        )

    def _prepare_finetune(self, network: Network, *, augmentation: Augmentation) -> FinetuneTask:
        experiment, split = self.experiment, self.split
        phase, classes = experiment.recipe.train.finetune, len(experiment.cohort.classes)
        task = FinetuneTask(
            module=network,
            fabric=experiment.fabric,
            spec=experiment.backbone.spec,
            norm=experiment.backbone.norm or NORMS.build("live"),
            store=experiment.store,
            batches=BagBatches(
                experiment.store,
                experiment.find_bags(split.train),
                experiment.cohort.targets[split.train],
                phase.batch_images,
                phase.tiles_per_image,
                masked=network.takes_mask or phase.pixel_mixing == "mask_cutmix",
                mixing=(phase.bag_mixing, classes) if phase.bag_mixing else None,
                chances=self.find_chances(phase),
            ),
            inner_bags=experiment.find_bags(split.inner),
            watched_bags=experiment.find_bags(split.outer),
            phase=phase,
            classes=classes,
            augmentation=augmentation,
            stains=experiment.stains.get(split.name),
        )
        if task.norm.reestimates:
            task.reestimate(np.random.default_rng([split.seed, split.fold]))
        return task

    def _make_loop(self, name: str, task: Task, *, replay: Replay | None) -> Loop:
        experiment, split = self.experiment, self.split
        targets, train = experiment.cohort.targets, experiment.recipe.train
        counts = np.bincount(targets[split.train], minlength=len(experiment.cohort.classes))
        stream = Stream(split.seed, split.fold, name if replay is None else f"refit-{name}")
        return Loop(
            fabric=task.fabric,
            task=task,
            phase=getattr(train, name),
            rates=settle_rates(train, name),
            stream=stream,
            replay=replay,
            counts=torch.from_numpy(counts).float().to(experiment.fabric.device),
            inner_targets=torch.from_numpy(targets[split.inner]),
            checkpoints=experiment.run.checkpoints,
            keep_start=name == "finetune" and train.transfer.epochs > 0,
            tell=None if self.tell is None else partial(self.tell, f"{split.name} {stream.phase}"),
        )
