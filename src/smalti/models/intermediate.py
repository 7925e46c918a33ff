"""A frozen network read at its stages: textures and small patterns, before the layer that names things of ImageNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import PartError

STAGES = 3  # number of last stages that are read; before them are edges and colours


class Stages(nn.Module):
    """The means over the maps of the last stages of a timm network, one after the other: (M, 3, H, W) to (M, D).

    Measured against the last layer in docs/decisions/0044-stages-as-embedding.md.

    Raises:
        PartError: the network gives no maps of its stages.
    """

    def __init__(self, network: nn.Module, *, name: str) -> None:
        super().__init__()
        if not hasattr(network, "forward_intermediates"):
            raise PartError(
                f"{name} gives no maps of its stages", fix="--set model.embedding=last, or another backbone"
            )
        self.network = network

    def read_maps(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps of tiles (M, 3, H, W), normalised: of each stage (M, K, h, w), the finest first."""
        network: Any = self.network
        maps = network.forward_intermediates(tiles, indices=STAGES, output_fmt="NCHW", intermediates_only=True)
        return [one.float() for one in maps]

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Embed tiles (M, 3, H, W), normalised, as (M, D)."""
        return torch.cat([one.mean(dim=(2, 3)) for one in self.read_maps(tiles)], dim=1)
