"""Mean and scale of what a layer gets, taken from training cases before it learns."""

from __future__ import annotations

import torch

LEAST_SPREAD = 1e-4  # a dimension that varies less is constant: its noise must not become a signal


def measure_scale(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (D,) of values (n, D); 1 for a dimension that is constant, and for a single row.

    A unit that is dead on the training cases may fire on others; divided by almost nothing it would outshout all else.
    """
    center = values.mean(dim=0)
    if len(values) < 2:
        return center, torch.ones_like(center)
    spread = values.std(dim=0)
    return center, torch.where(spread > LEAST_SPREAD, spread, torch.ones_like(spread))
