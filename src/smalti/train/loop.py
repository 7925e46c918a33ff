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
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricOptimizer

from .. import recipe
from ..metrics import METRICS
from .checkpoints import read_checkpoint, write_checkpoint
from .optimisers import build_optimiser
from .schedules import SCHEDULES, step_schedule
from .tasks import Task

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


@dataclass
class Standing:
    """How far a phase is and what was best; survives in the progress file."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    stale: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    watched: list[torch.Tensor] = field(default_factory=list)  # of each epoch, logits (n, C)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished phase: the chosen epoch (-1: the weights it began with), the history, and the watched logits."""

    best_epoch: int
    history: tuple[dict[str, Any], ...]
    watched: tuple[torch.Tensor, ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """The head's rate at each epoch up to the chosen one."""
        return tuple(row["lr"] for row in self.history[: self.best_epoch + 1])


@dataclass
class Loop:
    """One phase of one fold.

    Attributes:
        phase: its knobs.
        class_weights: (C,) weights in the loss.
        inner_targets: (n,) classes of the inner images; empty where there are none, then the last epoch is taken.
        checkpoints: folder where the state is kept between epochs; removed by the caller once the fold is safe.
        keep_start: whether the weights the phase began with are a candidate (they are after ``transfer``).
        rates: the head's rate of each epoch to repeat, from a pass that had inner images; None uses the schedule.
        watch: whether the watched images are scored after each epoch.
    """

    fabric: Fabric
    task: Task
    phase: recipe.Phase
    stream: Stream
    class_weights: torch.Tensor
    inner_targets: torch.Tensor
    checkpoints: Path
    keep_start: bool = False
    rates: tuple[float, ...] | None = None
    watch: bool = False
    tell: Callable[[int, int], None] | None = None

    @property
    def progress_path(self) -> Path:
        """The state of this phase between epochs."""
        return self.checkpoints / f"fold{self.stream.fold}-seed{self.stream.seed}.{self.stream.phase}.progress"

    def run(self) -> Outcome:
        """Train until the epochs or the patience are used up; the task's module ends with the best weights."""
        groups = self.task.list_groups()
        optimiser = build_optimiser(
            self.phase.optimiser, groups, lr=self.phase.lr, weight_decay=self.phase.weight_decay
        )
        schedule = self._build_schedule(optimiser)
        stepper = self.fabric.setup_optimizers(optimiser)
        standing, best = self._restore(optimiser, schedule)
        saved_at = time.monotonic()
        epochs = self.phase.epochs if self.rates is None else len(self.rates)
        while standing.epoch < epochs and standing.stale < self.phase.patience:
            started = time.monotonic()
            rate = float(optimiser.param_groups[0]["lr"])
            train_loss = self._learn(stepper, standing.epoch)
            inner_loss, inner_f1 = self._choose()
            if self.watch:
                standing.watched.append(self.task.score_watched())
            step_schedule(schedule, loss=train_loss if np.isnan(inner_loss) else inner_loss)
            standing.history.append(
                {
                    "seed": self.stream.seed, "fold": self.stream.fold, "phase": self.stream.phase,
                    "epoch": standing.epoch, "lr": rate, "train_loss": train_loss, "inner_loss": inner_loss,
                    "inner_macro_f1": inner_f1, "seconds": round(time.monotonic() - started, 3),
                }
            )  # fmt: skip
            best = self._judge(standing, inner_loss, best)
            standing.epoch += 1
            if time.monotonic() - saved_at >= SAVE_EVERY_S:
                self._save(standing, best, optimiser, schedule)
                saved_at = time.monotonic()
            if self.tell is not None:
                self.tell(standing.epoch, epochs)
        self.task.module.load_state_dict(best)
        return Outcome(standing.best_epoch, tuple(standing.history), tuple(standing.watched))

    def _build_schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        if self.rates is not None:
            rates, first = (*self.rates, 0.0), self.phase.lr  # the 0.0: there may be no epoch to repeat
            return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda e: rates[min(e, len(rates) - 1)] / first)
        return SCHEDULES.build(self.phase.schedule, optimiser, epochs=self.phase.epochs, patience=self.phase.patience)

    def _learn(self, optimiser: _FabricOptimizer, epoch: int) -> float:
        """One pass over the training images; the mean loss."""
        rng = self.stream.seed_epoch(epoch)
        self.task.start_epoch(epoch, self.phase.epochs)
        total, count = 0.0, 0
        for logits, targets, extra in self.task.draw_batches(rng):
            loss = F.cross_entropy(
                logits.float(), targets, weight=self.class_weights, label_smoothing=self.phase.label_smoothing
            )
            if extra is not None:
                loss = loss + extra
            self.fabric.backward(loss)
            if self.phase.clip_norm is not None:
                self.fabric.clip_gradients(
                    self.task.forward, optimiser, max_norm=self.phase.clip_norm, error_if_nonfinite=False
                )
            optimiser.step()
            optimiser.zero_grad()
            total += float(loss.detach()) * len(targets)
            count += len(targets)
        return total / max(1, count)

    def _choose(self) -> tuple[float, float]:
        """Loss and macro-F1 on the inner images; NaN where there are none."""
        if not len(self.inner_targets):
            return float("nan"), float("nan")
        logits = self.task.score_inner()
        loss = F.cross_entropy(logits, self.inner_targets, weight=self.class_weights.cpu())
        f1 = METRICS.find("macro_f1").build(self.inner_targets.numpy(), logits.softmax(dim=1).numpy())
        return float(loss), float(f1)

    def _judge(self, standing: Standing, loss: float, best: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keep the weights of the lowest inner loss; without inner images, the last."""
        if np.isnan(loss) or loss < standing.best_loss:
            standing.best_loss, standing.best_epoch, standing.stale = loss, standing.epoch, 0
            return self._copy_weights()
        standing.stale += 1
        return best

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().clone() for k, v in self.task.module.state_dict().items()}

    def _restore(
        self, optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
    ) -> tuple[Standing, dict[str, torch.Tensor]]:
        if not self.progress_path.is_file():
            standing = Standing()
            if self.keep_start and len(self.inner_targets):
                standing.best_loss = self._choose()[0]
            return standing, self._copy_weights()
        state = read_checkpoint(self.progress_path)
        self.task.module.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        return Standing(**state["standing"]), state["best"]

    def _save(
        self,
        standing: Standing,
        best: dict[str, torch.Tensor],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        write_checkpoint(
            self.progress_path,
            {
                "weights": dict(self.task.module.state_dict()),
                "best": best,
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "standing": asdict(standing),
            },
        )


def weigh_classes(targets: np.ndarray, classes: int, *, kind: str) -> torch.Tensor:
    """Weights (C,) of the classes in the loss: ``balanced`` as scikit-learn's n / (C * count), or ``none``."""
    if kind == "none":
        return torch.ones(classes)
    counts = np.bincount(targets, minlength=classes).astype(np.float64)
    return torch.tensor(len(targets) / (classes * np.maximum(counts, 1)), dtype=torch.float32)
