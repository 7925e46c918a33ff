"""Weights that are evaluated after an epoch: the last, or an average of several.

``ema``: exponential moving mean over steps (Polyak & Juditsky 1992). ``swa``: mean over the epochs of the second half
(Izmailov et al. 2018). ``soup``: at the end, the mean of the epochs that lower the inner loss when they are added, best
first (greedy soup, Wortsman et al. 2022). Stored batch statistics are averaged too. torch's AveragedModel is not used,
since it averages counters as well and keeps a second network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from .optimisers import StateDict

Weights = dict[str, torch.Tensor]
SOUP_EPOCHS = 5  # candidates of a soup that are kept in memory, the best by the inner loss


def copy_weights(module: nn.Module) -> Weights:
    """Return a copy of everything that ``module`` would put into a checkpoint."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def mean_weights(parts: Iterable[Weights]) -> Weights:
    """Return the mean of several weights; what is no float is that of the last."""
    listed = list(parts)
    return {
        name: torch.stack([p[name] for p in listed]).mean(dim=0) if value.is_floating_point() else value.clone()
        for name, value in listed[-1].items()
    }


@dataclass
class Averaging:
    """One phase's averaging.

    Attributes:
        kind: ``none``, ``ema``, ``swa`` or ``soup``.
        decay: of the exponential mean, for one step.
        start: first epoch that ``swa`` takes in.
        mixed: epochs to take the mean of, found by another pass; None where this pass finds them.
    """

    module: nn.Module
    kind: str
    decay: float
    start: int
    mixed: tuple[int, ...] | None = None
    mean: Weights = field(default_factory=dict)
    taken: int = 0
    candidates: list[tuple[float, int, Weights]] = field(default_factory=list)

    def follow_step(self) -> None:
        """Move the exponential mean; it begins with the weights after the first step."""
        if self.kind == "ema":
            self._move(1 - self.decay if self.mean else 1.0)

    def follow_epoch(self, epoch: int) -> None:
        """Take an epoch into the mean of epochs."""
        wanted = epoch >= self.start if self.kind == "swa" else self.mixed is not None and epoch in self.mixed
        if wanted:
            self.taken += 1
            self._move(1 / self.taken)

    def _move(self, share: float) -> None:
        for name, value in self.module.state_dict().items():
            if name not in self.mean or not value.is_floating_point():
                self.mean[name] = value.detach().clone()
            else:
                self.mean[name].lerp_(value.detach(), share)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Yield the module with the mean in place of its weights, where there is one."""
        if not self.mean:
            yield
            return
        last = copy_weights(self.module)
        self.module.load_state_dict(self.mean)
        try:
            yield
        finally:
            self.module.load_state_dict(last)

    def add_candidate(self, loss: float, epoch: int) -> None:
        """Add an epoch to the candidates of a soup, unless its loss is NaN."""
        if self.kind == "soup" and self.mixed is None and loss == loss:
            kept = [*self.candidates, (loss, epoch, copy_weights(self.module))]
            self.candidates = sorted(kept, key=lambda c: c[:2])[:SOUP_EPOCHS]

    def fit(self, measure: Callable[[], float]) -> tuple[int, ...]:
        """Load the greedy soup of the candidates into the module; return its epochs, none without candidates.

        ``measure`` gives the inner loss of the module.
        """
        chosen: list[tuple[float, int, Weights]] = []
        least = float("inf")
        for candidate in self.candidates:
            self.module.load_state_dict(mean_weights(c[2] for c in [*chosen, candidate]))
            loss = measure()
            if loss < least:
                chosen, least = [*chosen, candidate], loss
        if chosen:
            self.module.load_state_dict(mean_weights(c[2] for c in chosen))
        return tuple(sorted(c[1] for c in chosen))

    def state_dict(self) -> StateDict:
        """Return what a continued phase needs."""
        return {"mean": self.mean, "taken": self.taken, "candidates": self.candidates}

    def load_state_dict(self, state: StateDict) -> None:
        """Take a state that `state_dict` gave, from whatever device, to where the module is."""
        self.mean, self.taken = self._place(state["mean"]), state["taken"]
        self.candidates = [(loss, epoch, self._place(weights)) for loss, epoch, weights in state["candidates"]]

    def _place(self, weights: Weights) -> Weights:
        own = self.module.state_dict()
        return {name: value.to(own[name].device) for name, value in weights.items()}
