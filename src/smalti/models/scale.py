"""Mean and scale of what a layer gets, taken from training cases before it learns."""

from __future__ import annotations

import torch

LEAST_SPREAD = 1e-4  # a dimension that varies less is constant: its noise must not become a signal


def fit_scale(values: torch.Tensor, center: torch.Tensor, scale: torch.Tensor) -> None:
    """Write mean and standard deviation (D,) of values (n, D) to two buffers; 1 for a constant dimension or one row.

    A unit that is dead on the training cases may fire on others; divided by almost nothing it would outweigh all else.
    """
    middle = values.mean(dim=0)
    center.copy_(middle)
    spread = values.std(dim=0) if len(values) > 1 else torch.ones_like(middle)
    scale.copy_(torch.where(spread > LEAST_SPREAD, spread, torch.ones_like(spread)))
