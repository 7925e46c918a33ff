"""Learning-rate schedules, stepped once an epoch: torch's own."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import lr_scheduler

from ..registry import Registry

SCHEDULES: Registry[lr_scheduler.LRScheduler] = Registry("schedule")


@SCHEDULES.register("cosine", summary="half a cosine from the full rate to zero", reference="Loshchilov & Hutter 2017")
def build_cosine(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """Cosine over ``epochs``; ``patience`` plays no part."""
    return lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)


@SCHEDULES.register("plateau", summary="rate times 0.3 when the inner loss stalls", reference="torch ReduceLROnPlateau")
def build_plateau(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """Lower the rate after a third of the early-stopping patience without a better inner loss."""
    return lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.3, patience=max(1, patience // 3))


@SCHEDULES.register("constant", summary="the same rate throughout")
def build_constant(optimiser: torch.optim.Optimizer, *, epochs: int, patience: int) -> lr_scheduler.LRScheduler:
    """The full rate at every epoch."""
    return lr_scheduler.ConstantLR(optimiser, factor=1.0)


def step_schedule(schedule: lr_scheduler.LRScheduler, *, loss: float) -> None:
    """Move on by one epoch; a plateau schedule looks at ``loss``."""
    options: dict[str, Any] = {"metrics": loss} if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else {}
    schedule.step(**options)
