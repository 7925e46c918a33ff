"""Sharpness-aware minimisation around any optimiser; torch and timm have none."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def climb(parameters: Iterable[torch.Tensor], *, rho: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Move parameters by ``rho`` along their gradient, to where the loss near them is worst; what was moved, and from
    where (Foret et al. 2021, equation 2).

    A gradient scaled for half precision moves them as far, since only its direction counts. One that overflowed has
    none and moves nothing; the step that follows is left out by the scaler.
    """
    moved = [p for p in parameters if p.grad is not None]
    if not moved:
        return []
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in moved]))
    if not norm.isfinite():
        return []
    places = [(p, p.detach().clone()) for p in moved]
    with torch.no_grad():
        for parameter in moved:
            parameter.add_(parameter.grad * (rho / norm.clamp_min(1e-12)))
    return places


def descend(places: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Put what `climb` moved back to where it was; the gradient stays that of the worse place."""
    with torch.no_grad():
        for parameter, place in places:
            parameter.copy_(place)
