"""From the embeddings of the tiles of a bag to one embedding of the image.

A pooler takes (B, N, D) and a mask (B, N), true where a tile is real, and gives (B, D). Padded tiles never change
the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ..registry import Registry


class Pooler(nn.Module, ABC):
    """Root of all poolers."""

    def __init__(self) -> None:
        super().__init__()  # torch's own takes anything, so that wrong arguments would be found too late

    @abstractmethod
    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Pool (B, N, D) to (B, D)."""


POOLERS: Registry[Pooler] = Registry("pooler")


@POOLERS.register("mean", summary="mean of the tile embeddings")
class MeanPooler(Pooler):
    """Mean over real tiles."""

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Pool (B, N, D) to (B, D)."""
        if mask is None:
            return features.mean(dim=1)
        # Filled, not multiplied by zero: padding may hold anything, also what is not a number.
        return features.masked_fill(~mask[..., None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


@POOLERS.register("max", summary="largest value of each embedding dimension over the tiles")
class MaxPooler(Pooler):
    """Maximum over real tiles."""

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Pool (B, N, D) to (B, D)."""
        if mask is not None:
            features = features.masked_fill(~mask[..., None], float("-inf"))
        return features.amax(dim=1)
