"""Optimisers: timm's, by their own names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import timm.optim
import torch

from ..errors import PartError
from ..models import ParameterGroup


def list_optimisers() -> list[str]:
    """Every optimiser name that a recipe may use."""
    return list(timm.optim.list_optimizers())


def check_optimiser(name: str) -> None:
    """See whether timm has an optimiser of this name.

    Raises:
        PartError: it has none; the message names the nearest.
    """
    known = list_optimisers()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise PartError(f"no optimiser is called '{name}'. Did you mean {' or '.join(near) or 'adamw'}?")


def build_optimiser(
    name: str, groups: Sequence[ParameterGroup], *, lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build timm's optimiser ``name`` with one rate per parameter group.

    Raises:
        PartError: timm has no such optimiser; the message names the nearest.
    """
    check_optimiser(name)
    parameters = [
        {"params": list(g.parameters), "lr": lr * g.lr_scale, "weight_decay": weight_decay if g.decays else 0.0}
        for g in groups
    ]
    optimiser: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        parameters, opt=name, lr=lr, weight_decay=weight_decay, filter_bias_and_bn=False
    )
    return optimiser
