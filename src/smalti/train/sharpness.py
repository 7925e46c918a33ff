"""Sharpness-aware minimisation around any optimiser; torch and timm have none."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def climb(parameters: Iterable[torch.Tensor], *, rho: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Move parameters by ``rho`` along their gradient, to where the loss near them is worst; what was moved, and by
    how much (Foret et al. 2021, equation 2).

    A gradient scaled for half precision moves them as far, since only its direction counts.
    """
    moved = [p for p in parameters if p.grad is not None]
    if not moved:
        return []
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in moved]))
    steps = [(p, p.grad * (rho / norm.clamp_min(1e-12))) for p in moved]
    with torch.no_grad():
        for parameter, step in steps:
            parameter.add_(step)
    return steps


def descend(steps: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Take the moves of `climb` back; the gradient stays that of the worse place."""
    with torch.no_grad():
        for parameter, step in steps:
            parameter.sub_(step)
