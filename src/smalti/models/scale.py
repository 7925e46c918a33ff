"""Mean and scale of what a layer gets, taken from training cases before it learns."""

from __future__ import annotations

import torch
from torch import nn

LEAST_SPREAD = 1e-4  # a dimension that varies less is constant: its noise must not become a signal


def fit_scale(part: nn.Module, values: torch.Tensor, *, prefix: str = "") -> None:
    """Write the mean and standard deviation (D,) of values (n, D) to the buffers ``center`` and ``scale`` of a part.

    ``prefix`` is the beginning of their names. The scale of a constant dimension, or of one row, is 1.

    A unit that is dead on the training cases may fire on others; divided by almost nothing it would outweigh all else.
    """
    middle = values.mean(dim=0)
    part.get_buffer(f"{prefix}center").copy_(middle)
    spread = values.std(dim=0) if len(values) > 1 else torch.ones_like(middle)
    part.get_buffer(f"{prefix}scale").copy_(torch.where(spread > LEAST_SPREAD, spread, torch.ones_like(spread)))
