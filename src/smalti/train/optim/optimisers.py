"""Optimisers: timm's and schedule-free ones by their own names, ``ranger``, and what goes around any of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import schedulefree
import timm.optim
import torch
from torch.optim import Optimizer

from ... import recipe
from ...errors import PartError
from ...models import ParameterGroup

RANGER = "ranger"
StateDict = dict[str, Any]  # as torch has it
SCHEDULE_FREE: dict[str, Callable[..., Optimizer]] = {
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


class Lookahead(Optimizer):
    """Every k steps the weights go back towards slow weights, which have moved by ``alpha`` of the way.

    Zhang et al. 2019, algorithm 1: ``slow += alpha * (fast - slow); fast = slow``. timm's Lookahead begins its slow
    weights at the first synchronisation instead of the start, so that the first k steps are not averaged as in the
    paper.

    Attributes:
        fast: the optimiser inside.
    """

    def __init__(self, fast: Optimizer, *, k: int = 5, alpha: float = 0.5) -> None:
        # The groups are those of the optimiser inside, the very objects: schedules write rates into them.
        super().__init__(fast.param_groups, fast.defaults)
        self.param_groups = fast.param_groups
        self.fast, self.k, self.alpha = fast, k, alpha
        self.steps = 0
        self.slow = [p.detach().clone() for p in self._parameters()]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make one step of the optimiser inside; every k-th synchronises."""
        loss = self.fast.step(closure)
        self.steps += 1
        if self.steps % self.k == 0:
            with torch.no_grad():
                for slow, parameter in zip(self.slow, self._parameters(), strict=True):
                    slow.lerp_(parameter, self.alpha)
                    parameter.copy_(slow)
        return loss

    def state_dict(self) -> StateDict:
        """Return the state of the optimiser inside, slow weights, steps made."""
        return {"fast": self.fast.state_dict(), "slow": self.slow, "steps": self.steps}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Take a state that `state_dict` gave."""
        self.fast.load_state_dict(state_dict["fast"])
        self.param_groups = self.fast.param_groups
        self.slow = [
            value.clone().to(p.device) for value, p in zip(state_dict["slow"], self._parameters(), strict=True)
        ]
        self.steps = int(state_dict["steps"])

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.fast.param_groups for p in group["params"]]


def list_optimisers() -> list[str]:
    """List every optimiser name that a recipe may use on this machine."""
    accelerated = torch.cuda.is_available()
    names = [n for n in timm.optim.list_optimizers() if n not in SECOND_ORDER]
    return sorted([RANGER, *SCHEDULE_FREE, *(n for n in names if accelerated or not n.startswith(ACCELERATED))])


def check_optimiser(name: str) -> None:
    """Refuse a name that no optimiser has.

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


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rate of the head and weight decay, both known."""

    lr: float
    weight_decay: float


def settle_rates(train: recipe.Train, name: str) -> Rates:
    """Return the rates of phase ``name``: the optimiser's own if the recipe gives none."""
    phase: recipe.Phase = getattr(train, name)
    relative = RELATIVE_RATES.get(phase.optimiser, 1.0)
    return Rates(
        lr=ADAMW_RATES[name] * relative if phase.lr is None else phase.lr,
        weight_decay=ADAMW_DECAY / relative if phase.weight_decay is None else phase.weight_decay,
    )


def settle_train(train: recipe.Train) -> recipe.Train:
    """Return the section with rates in both phases, see `settle_rates`."""
    phases = {name: getattr(train, name).model_copy(update=asdict(settle_rates(train, name))) for name in ADAMW_RATES}
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
    """Switch a schedule-free optimiser between training and evaluation; no-op for others."""
    if isinstance(optimiser, Lookahead):
        optimiser = optimiser.fast
    switch: Any = getattr(optimiser, "train" if learning else "eval", None)
    if switch is not None:
        switch()
