"""The one training loop, for every phase.

Nothing here learns from the outer fold or chooses by it: where images are watched, their logits are written down and
never read, and no label of theirs is here (docs/decisions/0011-dynamics.md). Every epoch draws from generators seeded
by (seed, fold, phase, epoch), so that a phase continued from a checkpoint is the phase that was never interrupted.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricOptimizer

from .. import recipe
from ..errors import DivergenceError
from ..metrics import METRICS
from ..models import ParameterGroup
from ..registry import read_options
from .checkpoints import read_checkpoint, write_checkpoint
from .optim.averaging import Averaging, copy_weights
from .optim.losses import LOSSES, soften, weigh_classes
from .optim.optimisers import build_optimiser, set_learning
from .optim.rates import find_rate
from .optim.sam import climb, descend
from .optim.schedules import Schedule, build_schedule, step_schedule
from .tasks import Forward, Task

SAVE_EVERY_S = 2.0  # shorter epochs are not worth a file each; a continued phase repeats at most this much


@dataclass(frozen=True, slots=True)
class Stream:
    """Names the random stream of one phase of one fold."""

    seed: int
    fold: int
    phase: str

    def seed_epoch(self, epoch: int) -> np.random.Generator:
        """Seed torch and give a NumPy generator for one epoch."""
        sequence = np.random.SeedSequence([self.seed, self.fold, zlib.crc32(self.phase.encode()), epoch])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        return np.random.default_rng(sequence)


@dataclass(frozen=True, slots=True)
class Course:
    """What a pass without inner images repeats of one that had some: the head's rate at each epoch, and the epochs
    whose mean is taken at the end."""

    rates: tuple[float, ...]
    mixed: tuple[int, ...] = ()


@dataclass
class Standing:
    """How far a phase is and what was best; survives in the progress file."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    stale: int = 0
    lost: bool = False  # a weight is no number any more, and nothing that is learned on would make it one
    history: list[dict[str, Any]] = field(default_factory=list)
    watched: list[torch.Tensor] = field(default_factory=list)  # of each epoch, logits (n, C)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished phase.

    Attributes:
        best_epoch: the chosen epoch; -1: the weights it began with.
        mixed: epochs whose mean was taken at the end instead; mostly none.
        watched: logits of the watched images after each epoch.
        diverged: epoch after which the weights were no numbers any more, where training ended; -1: they always were.
    """

    best_epoch: int
    history: tuple[dict[str, Any], ...]
    watched: tuple[torch.Tensor, ...]
    mixed: tuple[int, ...] = ()
    diverged: int = -1

    @property
    def course(self) -> Course:
        """What another pass repeats."""
        last = max(self.mixed, default=self.best_epoch)
        return Course(tuple(row["lr"] for row in self.history[: last + 1]), self.mixed)


@dataclass
class Loop:
    """One phase of one fold.

    Attributes:
        phase: its knobs.
        counts: (C,) training images of each class.
        inner_targets: (n,) classes of the inner images; empty where there are none, then the last epoch is taken.
        checkpoints: folder where the state is kept between epochs; removed by the caller once the fold is safe.
        keep_start: whether the weights the phase began with are a candidate (they are after ``transfer``).
        course: what to repeat of a pass that had inner images; None uses the schedule.
        watch: whether the watched images are scored after each epoch.
    """

    fabric: Fabric
    task: Task
    phase: recipe.Phase
    stream: Stream
    counts: torch.Tensor
    inner_targets: torch.Tensor
    checkpoints: Path
    keep_start: bool = False
    course: Course | None = None
    watch: bool = False
    tell: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        self.class_weights = weigh_classes(self.counts.cpu().numpy(), kind=self.phase.class_weights).to(self.counts)
        # Where sampling or the loss balances the classes, the choice is balanced as the steps are.
        kind = "balanced" if self.phase.balances else self.phase.class_weights
        self.inner_weights = weigh_classes(self.counts.cpu().numpy(), kind=kind)
        options = read_options(self.phase.loss_options)
        self.loss = LOSSES.build(self.phase.loss, self.counts, weights=self.class_weights, **options)
        self.averaging = Averaging(
            self.task.module,
            kind=self.phase.averaging,
            decay=self.phase.average_decay,
            start=self.phase.epochs // 2,
            mixed=self.course.mixed or None if self.course is not None else None,
        )

    @property
    def progress_path(self) -> Path:
        """The state of this phase between epochs."""
        return self.checkpoints / f"fold{self.stream.fold}-seed{self.stream.seed}.{self.stream.phase}.progress"

    def run(self) -> Outcome:
        """Train until the epochs or the patience are used up; the task's module ends with the best weights.

        Raises:
            DivergenceError: no epoch left weights that score at all, and none that it began with may be kept.
        """
        groups = self.task.list_groups()
        optimiser = self._build_optimiser(groups, self._find_rate(groups))
        schedule = self._build_schedule(optimiser)
        stepper = self.fabric.setup_optimizers(optimiser)
        standing, best = self._restore(optimiser, schedule)
        saved_at = time.monotonic()
        epochs = self.phase.epochs if self.course is None else len(self.course.rates)
        while standing.epoch < epochs and standing.stale < self.phase.patience and not standing.lost:
            started = time.monotonic()
            rate = float(optimiser.param_groups[0]["lr"])
            train_loss = self._learn(stepper, standing.epoch)
            self.averaging.follow_epoch(standing.epoch)
            standing.lost = not _is_finite(self.task.module)
            with self.averaging.loaded():
                inner_loss, inner_f1 = self._choose()
                if self.watch and not standing.lost:
                    standing.watched.append(self.task.score_watched())
                best = self._judge(standing, inner_loss, best)
            step_schedule(schedule, loss=inner_loss if len(self.inner_targets) else train_loss)
            standing.history.append(
                {
                    "seed": self.stream.seed, "fold": self.stream.fold, "phase": self.stream.phase,
                    "epoch": standing.epoch, "lr": rate, "train_loss": train_loss, "inner_loss": inner_loss,
                    "inner_macro_f1": inner_f1, "seconds": round(time.monotonic() - started, 3),
                }
            )  # fmt: skip
            standing.epoch += 1
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                self._save(standing, best, optimiser, schedule)
                saved_at = time.monotonic()
            if self.tell is not None:
                self.tell(standing.epoch, epochs)
        return self._finish(standing, best)

    def _finish(self, standing: Standing, best: dict[str, torch.Tensor]) -> Outcome:
        """Load the best weights; a soup that is better than any epoch takes their place."""
        if standing.history and standing.best_epoch < 0 and not self.keep_start and self.course is None:
            raise DivergenceError(self._describe_divergence())
        mixed = self.averaging.cook(lambda: self._choose()[0]) if standing.best_epoch >= 0 else ()
        if len(mixed) < 2:
            self.task.module.load_state_dict(best)
            mixed = ()
        diverged = standing.epoch - 1 if standing.lost else -1
        return Outcome(standing.best_epoch, tuple(standing.history), tuple(standing.watched), mixed, diverged)

    def _describe_divergence(self) -> str:
        phase = self.stream.phase
        rate = "rate_test" if self.phase.rate_test else f"lr={self.phase.lr:g}"
        precision = self.fabric.strategy.precision.precision
        return (
            f"phase {phase} of fold {self.stream.fold}, seed {self.stream.seed}, diverged: no epoch gave a "
            f"loss that is a number ({self.phase.optimiser}, {rate}, precision {precision}). "
            f"Fix: a lower train.{phase}.lr, train.{phase}.warmup_epochs, or train.precision=32-true"
        )

    def _build_optimiser(self, groups: list[ParameterGroup], rate: float) -> torch.optim.Optimizer:
        decay = self.phase.weight_decay
        assert decay is not None  # settled with the plan
        return build_optimiser(
            self.phase.optimiser, groups, lr=rate, weight_decay=decay, lookahead=self.phase.lookahead
        )

    def _find_rate(self, groups: list[ParameterGroup]) -> float:
        """The head's full rate: the recipe's, or one that a test on the training images proposes."""
        assert self.phase.lr is not None  # settled with the plan
        if not self.phase.rate_test or self.course is not None or self.progress_path.is_file():
            return self.phase.lr  # a repeated or continued pass takes its rates from where they are written down
        self.task.start_epoch(0, self.phase.epochs)
        optimiser = self._build_optimiser(groups, self.phase.lr)
        set_learning(optimiser, True)
        return find_rate(
            self.task,
            optimiser,
            scales=[group.lr_scale for group in groups],
            step=partial(self._step, self.fabric.setup_optimizers(optimiser)),
            rng=self.stream.seed_epoch(0),
        )

    def _build_schedule(self, optimiser: torch.optim.Optimizer) -> Schedule:
        if self.course is not None:
            full = float(optimiser.param_groups[0]["lr"])
            rates = (*self.course.rates, 0.0)  # the 0.0: there may be no epoch to repeat
            return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda e: rates[min(e, len(rates) - 1)] / full)
        return build_schedule(
            self.phase.schedule,
            optimiser,
            epochs=self.phase.epochs,
            patience=self.phase.patience,
            warmup_epochs=self.phase.warmup_epochs,
        )

    def _learn(self, optimiser: _FabricOptimizer, epoch: int) -> float:
        """One pass over the training images; the mean loss."""
        rng = self.stream.seed_epoch(epoch)
        self.task.start_epoch(epoch, self.phase.epochs)
        set_learning(optimiser.optimizer, True)
        total, count = 0.0, 0
        batches = self.task.draw_batches(rng)
        while group := list(islice(batches, self.phase.accumulate)):
            images = sum(len(targets) for _, targets in group)
            total += self._step(optimiser, group) * images
            count += images
            self.averaging.follow_step()
        set_learning(optimiser.optimizer, False)
        return total / max(1, count)

    def _step(self, optimiser: _FabricOptimizer, group: list[tuple[Forward, torch.Tensor]]) -> float:
        """One step on a few batches; their mean loss before it."""
        loss = self._backward(group)
        if self.phase.sharpness:
            moved = climb(self.task.module.parameters(), rho=self.phase.sharpness)
            optimiser.zero_grad()
            self._backward(group)
            descend(moved)
        if self.phase.clip_norm is not None:
            self.fabric.clip_gradients(
                self.task.forward, optimiser, max_norm=self.phase.clip_norm, error_if_nonfinite=False
            )
        optimiser.step()
        optimiser.zero_grad()
        return loss

    def _backward(self, group: list[tuple[Forward, torch.Tensor]]) -> float:
        """Add up the gradients of a few batches; their mean loss by image."""
        images = sum(len(targets) for _, targets in group)
        total = 0.0
        for forward, targets in group:
            loss = self._measure(forward, targets) * (len(targets) / images)
            self.fabric.backward(loss)
            total += float(loss.detach())
        return total

    def _measure(self, forward: Forward, targets: torch.Tensor) -> torch.Tensor:
        """The loss of one batch."""
        logits, extra = forward()
        soft = soften(targets, classes=len(self.counts), smoothing=self.phase.label_smoothing)
        loss = self.loss(logits.float(), soft)
        return loss if extra is None else loss + extra

    def _choose(self) -> tuple[float, float]:
        """Loss and macro-F1 on the inner images; NaN where there are none, or the scores are no numbers."""
        if not len(self.inner_targets):
            return float("nan"), float("nan")
        logits = self.task.score_inner()
        if logits.isnan().any():
            return float("nan"), float("nan")
        loss = F.cross_entropy(logits, self.inner_targets, weight=self.inner_weights.to(logits))
        f1 = METRICS.find("macro_f1").build(self.inner_targets.numpy(), logits.softmax(dim=1).numpy())
        return float(loss), float(f1)

    def _judge(self, standing: Standing, loss: float, best: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keep the weights of the lowest inner loss; without inner images, the last that are numbers."""
        self.averaging.keep(loss, standing.epoch)
        # A loss that is no number is below none.
        if loss < standing.best_loss if len(self.inner_targets) else not standing.lost:
            standing.best_loss, standing.best_epoch, standing.stale = loss, standing.epoch, 0
            return copy_weights(self.task.module)
        standing.stale += 1
        return best

    def _restore(
        self, optimiser: torch.optim.Optimizer, schedule: Schedule
    ) -> tuple[Standing, dict[str, torch.Tensor]]:
        if not self.progress_path.is_file():
            standing = Standing()
            if self.keep_start and len(self.inner_targets):
                start = self._choose()[0]
                standing.best_loss = start if np.isfinite(start) else standing.best_loss
            return standing, copy_weights(self.task.module)
        state = read_checkpoint(self.progress_path)
        self.task.module.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        self.averaging.load_state_dict(state["averaging"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        return Standing(**state["standing"]), state["best"]

    def _save(
        self,
        standing: Standing,
        best: dict[str, torch.Tensor],
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
    ) -> None:
        write_checkpoint(
            self.progress_path,
            {
                "weights": dict(self.task.module.state_dict()),
                "best": best,
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "averaging": self.averaging.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),  # the scale of half-precision losses
                "standing": asdict(standing),
            },
        )


def _is_finite(module: torch.nn.Module) -> bool:
    """Whether all weights are finite; a stored statistic or mask may be infinite on purpose, and must be a number."""
    weights = all(bool(p.isfinite().all()) for p in module.parameters())
    return weights and not any(bool(b.isnan().any()) for b in module.buffers() if b.is_floating_point())
