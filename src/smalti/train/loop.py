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
from ..registry import read_options
from .checkpoints import read_checkpoint, write_checkpoint
from .optim.averaging import Averaging, copy_weights
from .optim.losses import LOSSES, soften, weigh_classes
from .optim.optimisers import Rates, build_optimiser, set_learning
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
    rank: int = 0  # of several processes that train together: each drops out units of its own

    def seed_epoch(self, epoch: int) -> np.random.Generator:
        """Seed torch and give a NumPy generator for one epoch."""
        sequence = np.random.SeedSequence([self.seed, self.fold, zlib.crc32(self.phase.encode()), epoch])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1) + self.rank)
        return np.random.default_rng(sequence)


@dataclass(frozen=True, slots=True)
class Replay:
    """The schedule that a pass without inner images repeats.

    Attributes:
        rates: rate of the head at each epoch.
        mixed: epochs whose weights are averaged at the end; empty if a single epoch was best.
    """

    rates: tuple[float, ...]
    mixed: tuple[int, ...] = ()


@dataclass
class PhaseState:
    """How far a phase is and what was best; kept in the progress file."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    stale: int = 0
    lost: bool = False  # a weight is NaN or infinite, and no further training would repair it
    history: list[dict[str, Any]] = field(default_factory=list)
    watched: list[torch.Tensor] = field(default_factory=list)  # of each epoch, logits (n, C)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished phase.

    Attributes:
        watched: logits of the watched images after each epoch.
        replay: what a pass without inner images repeats.
        diverged: epoch after which the weights were NaN or infinite, so that training ended; -1: they never were.
    """

    history: tuple[dict[str, Any], ...]
    watched: tuple[torch.Tensor, ...]
    replay: Replay
    diverged: int = -1


@dataclass
class Loop:
    """One phase of one fold.

    Attributes:
        phase: its knobs.
        rates: its learning rate and weight decay.
        counts: (C,) training images of each class.
        inner_targets: (n,) classes of the inner images; if empty, the last epoch is taken.
        checkpoints: folder where the state is kept between epochs; the caller removes it once the fold is saved.
        keep_start: whether the weights that the phase began with are a candidate (they are after ``transfer``).
        replay: the schedule of a pass that had inner images; None uses the schedule of the recipe.
        watch: whether the watched images are scored after each epoch.
    """

    fabric: Fabric
    task: Task
    phase: recipe.Phase
    rates: Rates
    stream: Stream
    counts: torch.Tensor
    inner_targets: torch.Tensor
    checkpoints: Path
    keep_start: bool = False
    replay: Replay | None = None
    watch: bool = False
    tell: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        self.class_weights = weigh_classes(self.counts.cpu().numpy(), kind=self.phase.class_weights).to(self.counts)
        # If sampling or the loss balances the classes, the choice of an epoch is balanced too.
        kind = "balanced" if self.phase.balances else self.phase.class_weights
        self.inner_weights = weigh_classes(self.counts.cpu().numpy(), kind=kind)
        options = read_options(self.phase.loss_options)
        self.loss = LOSSES.build(self.phase.loss, self.counts, weights=self.class_weights, **options)
        self.averaging = Averaging(
            self.task.module,
            kind=self.phase.averaging,
            decay=self.phase.average_decay,
            start=self.phase.epochs // 2,
            mixed=self.replay.mixed or None if self.replay is not None else None,
        )

    @property
    def progress_path(self) -> Path:
        """Return the state of this phase between epochs."""
        return self.checkpoints / f"fold{self.stream.fold}-seed{self.stream.seed}.{self.stream.phase}.progress"

    def run(self) -> Outcome:
        """Train until the epochs or the patience are used up; the task's module ends with the best weights.

        Raises:
            DivergenceError: no epoch left weights that score, and the initial weights may not be kept.
        """
        optimiser = self._build_optimiser(self._find_rate())
        schedule = self._build_schedule(optimiser)
        stepper = self.fabric.setup_optimizers(optimiser)
        state, best = self._restore(optimiser, schedule)
        saved_at = time.monotonic()
        epochs = self.phase.epochs if self.replay is None else len(self.replay.rates)
        while state.epoch < epochs and state.stale < self.phase.patience and not state.lost:
            started = time.monotonic()
            rate = float(optimiser.param_groups[0]["lr"])
            train_loss = self._learn(stepper, state.epoch)
            self.averaging.follow_epoch(state.epoch)
            # A stored statistic or mask may be infinite on purpose, but not NaN.
            finite = all(bool(p.isfinite().all()) for p in self.task.module.parameters())
            stored = (b for b in self.task.module.buffers() if b.is_floating_point())
            state.lost = not finite or any(bool(b.isnan().any()) for b in stored)
            with self.averaging.loaded():
                inner_loss, inner_f1 = self._choose()
                if self.watch and not state.lost:
                    state.watched.append(self.task.score("watched"))
                self.averaging.add_candidate(inner_loss, state.epoch)
                # A NaN loss is never lower. Without inner images, the last finite weights are the best.
                if inner_loss < state.best_loss if len(self.inner_targets) else not state.lost:
                    state.best_loss, state.best_epoch, state.stale = inner_loss, state.epoch, 0
                    best = copy_weights(self.task.module)
                else:
                    state.stale += 1
            step_schedule(schedule, loss=inner_loss if len(self.inner_targets) else train_loss)
            state.history.append(
                {
                    "seed": self.stream.seed, "fold": self.stream.fold, "phase": self.stream.phase,
                    "epoch": state.epoch, "lr": rate, "train_loss": train_loss, "inner_loss": inner_loss,
                    "inner_macro_f1": inner_f1, "seconds": round(time.monotonic() - started, 3),
                }
            )  # fmt: skip
            state.epoch += 1
            if self.fabric.is_global_zero and time.monotonic() - saved_at >= SAVE_EVERY_S:
                self._save(state, best, optimiser, schedule)
                saved_at = time.monotonic()
            if self.tell is not None:
                self.tell(state.epoch, epochs)
        return self._finish(state, best)

    def _finish(self, state: PhaseState, best: dict[str, torch.Tensor]) -> Outcome:
        """Load the best weights, or an average of epochs (soup) that is better than any epoch."""
        if state.history and state.best_epoch < 0 and not self.keep_start and self.replay is None:
            phase = self.stream.phase
            rate = "rate_test" if self.phase.rate_test else f"lr={self.rates.lr:g}"
            precision = self.fabric.strategy.precision.precision
            raise DivergenceError(
                f"phase {phase} of fold {self.stream.fold}, seed {self.stream.seed}, diverged: the loss of every "
                f"epoch is NaN or infinite ({self.phase.optimiser}, {rate}, precision {precision})",
                fix=f"a lower train.{phase}.lr, train.{phase}.warmup_epochs, or train.precision=32-true",
            )
        mixed = self.averaging.fit(lambda: self._choose()[0]) if state.best_epoch >= 0 else ()
        if len(mixed) < 2:
            self.task.module.load_state_dict(best)
            mixed = ()
        last = max(mixed, default=state.best_epoch)
        replay = Replay(tuple(row["lr"] for row in state.history[: last + 1]), mixed)
        diverged = state.epoch - 1 if state.lost else -1
        return Outcome(tuple(state.history), tuple(state.watched), replay, diverged)

    def _build_optimiser(self, rate: float) -> torch.optim.Optimizer:
        return build_optimiser(
            self.phase.optimiser, self.task.list_groups(), lr=rate, weight_decay=self.rates.weight_decay,
            lookahead=self.phase.lookahead,
        )  # fmt: skip

    def _find_rate(self) -> float:
        """Return the head's full rate: that of the recipe, or of a test on the training images."""
        if not self.phase.rate_test or self.replay is not None or self.progress_path.is_file():
            return self.rates.lr  # a repeated or continued pass takes its rates from where they are written down
        self.task.start_epoch(0, self.phase.epochs)
        optimiser = self._build_optimiser(self.rates.lr)
        set_learning(optimiser, True)
        return find_rate(
            self.task,
            optimiser,
            scales=[group.lr_scale for group in self.task.list_groups()],
            step=partial(self._step, self.fabric.setup_optimizers(optimiser)),
            rng=self.stream.seed_epoch(0),
        )

    def _build_schedule(self, optimiser: torch.optim.Optimizer) -> Schedule:
        if self.replay is not None:
            full = float(optimiser.param_groups[0]["lr"])
            rates = (*self.replay.rates, 0.0)  # the 0.0: there may be no epoch to repeat
            return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda e: rates[min(e, len(rates) - 1)] / full)
        return build_schedule(
            self.phase.schedule,
            optimiser,
            epochs=self.phase.epochs,
            patience=self.phase.patience,
            warmup_epochs=self.phase.warmup_epochs,
        )

    def _learn(self, optimiser: _FabricOptimizer, epoch: int) -> float:
        """Train for one epoch; return the mean loss."""
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
        """Make one step on a few batches; return their mean loss before it."""
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
        """Add up the gradients of a few batches; return their mean loss by image."""
        images = sum(len(targets) for _, targets in group)
        total = 0.0
        for forward, targets in group:
            logits, extra = forward()
            soft = soften(targets, classes=len(self.counts), smoothing=self.phase.label_smoothing)
            loss = self.loss(logits.float(), soft)
            loss = (loss if extra is None else loss + extra) * (len(targets) / images)
            self.fabric.backward(loss)
            total += float(loss.detach())
        return total

    def _choose(self) -> tuple[float, float]:
        """Return the loss and macro-F1 on the inner images; NaN if there are none or a logit is NaN."""
        if not len(self.inner_targets):
            return float("nan"), float("nan")
        logits = self.task.score("inner")
        if logits.isnan().any():
            return float("nan"), float("nan")
        loss = F.cross_entropy(logits, self.inner_targets, weight=self.inner_weights.to(logits))
        f1 = METRICS.find("macro_f1").build(self.inner_targets.numpy(), logits.softmax(dim=1).numpy())
        return float(loss), float(f1)

    def _restore(
        self, optimiser: torch.optim.Optimizer, schedule: Schedule
    ) -> tuple[PhaseState, dict[str, torch.Tensor]]:
        if not self.progress_path.is_file():
            fresh = PhaseState()
            if self.keep_start and len(self.inner_targets):
                start = self._choose()[0]
                fresh.best_loss = start if np.isfinite(start) else fresh.best_loss
            return fresh, copy_weights(self.task.module)
        state = read_checkpoint(self.progress_path)
        self.task.module.load_state_dict(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        self.averaging.load_state_dict(state["averaging"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        return PhaseState(**state["standing"]), state["best"]

    def _save(
        self,
        state: PhaseState,
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
                "standing": asdict(state),
            },
        )
