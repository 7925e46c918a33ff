"""Learning-rate schedules, stepped once an epoch: torch's own, after a warm-up where one is asked for."""

from __future__ import annotations

import torch
from torch.optim import lr_scheduler

from ...registry import Registry
from .optimisers import StateDict

SCHEDULES: Registry[lr_scheduler.LRScheduler] = Registry("schedule")


@SCHEDULES.register("cosine", summary="half a cosine from the full rate to zero", reference="Loshchilov & Hutter 2017")
def build_cosine(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """Cosine over ``epochs``; ``patience`` has no effect."""
    return lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)


@SCHEDULES.register("plateau", summary="rate times 0.3 when the inner loss stalls", reference="torch ReduceLROnPlateau")
def build_plateau(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """Lower the rate after a third of the early-stopping patience without a better inner loss."""
    return lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.3, patience=max(1, patience // 3))


@SCHEDULES.register("onecycle", summary="up to the full rate in a third, then down to zero", reference="Smith 2018")
def build_onecycle(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """One cycle over ``epochs``; the momentum is left alone, since not every optimiser has one."""
    rates = [group["lr"] for group in optimiser.param_groups]
    return lr_scheduler.OneCycleLR(optimiser, max_lr=rates, total_steps=max(4, epochs), cycle_momentum=False)


@SCHEDULES.register("constant", summary="the same rate throughout; what a schedule-free optimiser wants")
def build_constant(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """The full rate at every epoch."""
    return lr_scheduler.ConstantLR(optimiser, factor=1.0)


class Warmup:
    """A linear rise over some epochs, then another schedule, which begins with its own first epoch.

    torch's SequentialLR takes no plateau; timm's warm-up begins at one rate for all layers, whatever their share.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, *, epochs: int, then: lr_scheduler.LRScheduler) -> None:
        self.optimiser, self.epochs, self.then = optimiser, epochs, then
        self.full = [group["lr"] for group in optimiser.param_groups]
        self.epoch = 0
        self._set()

    def step(self, loss: float) -> None:
        """Move on by one epoch."""
        self.epoch += 1
        if self.epoch > self.epochs:
            step_schedule(self.then, loss=loss)
        else:
            self._set()

    def _set(self) -> None:
        share = min(1.0, (self.epoch + 1) / (self.epochs + 1))
        for group, rate in zip(self.optimiser.param_groups, self.full, strict=True):
            group["lr"] = rate * share

    def state_dict(self) -> StateDict:
        """Return the epoch, the full rates, which a rate test may have found, and the state of the other schedule."""
        return {"epoch": self.epoch, "full": self.full, "then": self.then.state_dict()}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Take a state that `state_dict` gave; the rates of this epoch are in the optimiser's state."""
        self.epoch, self.full = state_dict["epoch"], state_dict["full"]
        self.then.load_state_dict(state_dict["then"])


Schedule = Warmup | lr_scheduler.LRScheduler


def build_schedule(
    name: str, optimiser: torch.optim.Optimizer, *, epochs: int, patience: int, warmup_epochs: int
) -> Schedule:
    """Return the schedule ``name`` over what a warm-up leaves of the epochs.

    Raises:
        PartError: there is no such schedule.
    """
    left = max(1, epochs - warmup_epochs)
    then = SCHEDULES.build(name, optimiser, epochs=left, patience=patience)
    return Warmup(optimiser, epochs=warmup_epochs, then=then) if warmup_epochs else then


def step_schedule(schedule: Schedule, *, loss: float) -> None:
    """Move on by one epoch; a plateau schedule looks at ``loss``."""
    if isinstance(schedule, Warmup | lr_scheduler.ReduceLROnPlateau):
        schedule.step(loss)
    else:
        schedule.step()
