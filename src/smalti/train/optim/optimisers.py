"""Optimisers: timm's and schedule-free ones by their own names, ``ranger``, and what goes around any of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import schedulefree
import timm.optim
import torch

from ... import recipe
from ...errors import PartError
from ...models import ParameterGroup
from .lookahead import Lookahead

RANGER = "ranger"
SCHEDULE_FREE: dict[str, Any] = {
    "schedulefree_adamw": schedulefree.AdamWScheduleFree,
    "schedulefree_radam": schedulefree.RAdamScheduleFree,
    "schedulefree_sgd": schedulefree.SGDScheduleFree,
}
ACCELERATED = ("bnb", "fused")  # timm names that need bitsandbytes or APEX, and a CUDA device
SECOND_ORDER = ("adahessian",)  # needs the graph of the gradient, which no phase keeps

ADAMW_RATES = {"transfer": 3e-3, "finetune": 3e-4}  # of the head
ADAMW_DECAY = 1e-2
# Rate relative to AdamW's at the same place, where a paper or long practice gives one; the decay is divided by it, so
# that a step shrinks the weights as much. Lion: Chen et al. 2023, section 5, 3 to 10 times smaller. SGD: He et al.
# 2016 train at 0.1 what AdamW trains at 0.001 to 0.003 (Wightman et al. 2021). RAdam: its rectification holds the first
# hundred steps back, which is all that a small cohort has; Liu et al. 2020 train at 0.01 to 0.1.
RELATIVE_RATES = {
    "lion": 0.2,
    "radam": 5.0,
    "ranger": 5.0,
    "sgd": 30.0,
    "momentum": 30.0,
    "nesterov": 30.0,
    "sgdw": 30.0,
    "nesterovw": 30.0,
    "schedulefree_sgd": 100.0,
}


def list_optimisers() -> list[str]:
    """Every optimiser name that a recipe may use on this machine."""
    accelerated = torch.cuda.is_available()
    names = [n for n in timm.optim.list_optimizers() if n not in SECOND_ORDER]
    return sorted([RANGER, *SCHEDULE_FREE, *(n for n in names if accelerated or not n.startswith(ACCELERATED))])


def check_optimiser(name: str) -> None:
    """See whether there is an optimiser of this name.

    Raises:
        PartError: there is none, or not on this machine; the message names the nearest.
    """
    known = list_optimisers()
    if name in known:
        return
    near = " or ".join(difflib.get_close_matches(name, known, n=3)) or "adamw"
    if name in SECOND_ORDER:
        raise PartError(f"optimiser '{name}' needs second derivatives, which are not computed. Did you mean {near}?")
    if name in timm.optim.list_optimizers():
        raise PartError(f"optimiser '{name}' needs a CUDA device and a library for it. Did you mean {near}?")
    raise PartError(f"no optimiser is called '{name}'. Did you mean {near}?")


def settle_train(train: recipe.Train) -> recipe.Train:
    """The section with a rate and a weight decay in both phases: the optimiser's own where the recipe gives none."""
    phases = {}
    for name, rate in ADAMW_RATES.items():
        phase: recipe.Phase = getattr(train, name)
        relative = RELATIVE_RATES.get(phase.optimiser, 1.0)
        own = {"lr": rate * relative, "weight_decay": ADAMW_DECAY / relative}
        given = phase.model_dump(include=set(own), exclude_none=True)
        phases[name] = phase.model_copy(update=own | given)
    return train.model_copy(update=phases)


def build_optimiser(
    name: str, groups: Sequence[ParameterGroup], *, lr: float, weight_decay: float, lookahead: bool = False
) -> torch.optim.Optimizer:
    """Build an optimiser with one rate per parameter group, in `Lookahead` where that is asked for.

    ``ranger`` is RAdam in Lookahead (Liu et al. 2020, Zhang et al. 2019).

    Raises:
        PartError: there is no such optimiser; the message names the nearest.
    """
    check_optimiser(name)
    parameters = [
        {"params": list(g.parameters), "lr": lr * g.lr_scale, "weight_decay": weight_decay if g.decays else 0.0}
        for g in groups
    ]
    optimiser: torch.optim.Optimizer
    if name in SCHEDULE_FREE:
        optimiser = SCHEDULE_FREE[name](parameters, lr=lr, weight_decay=weight_decay)
    else:
        optimiser = timm.optim.create_optimizer_v2(
            parameters, opt="radam" if name == RANGER else name, lr=lr, weight_decay=weight_decay,
            filter_bias_and_bn=False,
        )  # fmt: skip
    return Lookahead(optimiser) if lookahead or name == RANGER else optimiser


def set_learning(optimiser: torch.optim.Optimizer, learning: bool) -> None:
    """Tell a schedule-free optimiser whether weights are about to learn or to be looked at; others need no word."""
    if isinstance(optimiser, Lookahead):
        optimiser = optimiser.fast
    switch: Any = getattr(optimiser, "train" if learning else "eval", None)
    if switch is not None:
        switch()
