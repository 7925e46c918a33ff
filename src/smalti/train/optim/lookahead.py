"""Lookahead around any optimiser.

timm has one too; its slow weights begin at the first synchronisation instead of the start, so that the first k steps
are not looked back upon as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class Lookahead(Optimizer):
    """Every k steps the weights go back towards slow weights, which have moved by ``alpha`` of the way.

    Zhang et al. 2019, algorithm 1: ``slow += alpha * (fast - slow); fast = slow``.

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
        """One step of the optimiser inside; every k-th synchronises."""
        loss = self.fast.step(closure)
        self.steps += 1
        if self.steps % self.k == 0:
            with torch.no_grad():
                for slow, parameter in zip(self.slow, self._parameters(), strict=True):
                    slow.lerp_(parameter, self.alpha)
                    parameter.copy_(slow)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """State of the optimiser inside, slow weights, steps made."""
        return {"fast": self.fast.state_dict(), "slow": self.slow, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state that `state_dict` gave."""
        self.fast.load_state_dict(state_dict["fast"])
        self.param_groups = self.fast.param_groups
        self.slow = [
            value.clone().to(p.device) for value, p in zip(state_dict["slow"], self._parameters(), strict=True)
        ]
        self.steps = int(state_dict["steps"])

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.fast.param_groups for p in group["params"]]
