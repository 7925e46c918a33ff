"""What a method of pretraining minimises, and the registry of methods."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ...registry import Registry


class Objective(nn.Module, ABC):
    """A head above the backbone and its loss; thrown away after pretraining.

    Attributes:
        views: how many views of a tile it compares, 1 or 2.
    """

    views = 2

    @abstractmethod
    def forward(self, views: list[torch.Tensor], tiles: torch.Tensor, cases: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch.

        Args:
            views: embeddings (B, D) of each view.
            tiles: (B,) number of the tile among all that teach.
            cases: (B,) number of its case.
        """


# Builders take D and the number of tiles that teach.
PRETRAININGS: Registry[Objective] = Registry("pretraining")
