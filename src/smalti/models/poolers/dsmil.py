"""Two streams: the most suspicious tile of each class, and all tiles by likeness to it: DSMIL (Li et al. 2021)."""

from __future__ import annotations

import torch
from torch import nn

from .attention import Hidden, LearnedPooler
from .pooler import POOLERS, Pooled, fill_mask, masked_softmax, weigh_tiles


@POOLERS.register(
    "dsmil",
    summary="the most suspicious tile of each class, and all tiles by their likeness to it",
    reference="Li et al. 2021",
)
class DualStreamPooler(LearnedPooler):
    """The first stream scores each tile; the second weighs tiles by their likeness to the best tile of each class.

    The network's logits are the mean of the largest tile logit and of the bag's logits (see `Network`). Coverage weighs
    the second stream alone: the first takes a maximum.

    Args:
        features: D.
        classes: C.
        hidden: dimensions that tiles are projected to, one layer each; None leaves them.
        width: dimensions of the queries.
        dropout: after the projection.
    """

    weighs = True

    def __init__(
        self, features: int, classes: int, *, hidden: Hidden = None, width: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.classify = nn.Linear(self.features, classes)
        self.query = nn.Sequential(nn.Linear(self.features, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())
        self.value = nn.Linear(self.features, self.features)
        self.embedded = self.features
        self.features = classes * self.features

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, C * H): the embeddings of all classes side by side, as the paper convolves them."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        logits = self.classify(tiles).masked_fill(~mask[..., None], float("-inf"))  # (B, N, C)
        best = logits.argmax(dim=1)  # (B, C)
        query = self.query(tiles)
        wanted = query.gather(1, best[..., None].expand(-1, -1, query.shape[2]))  # (B, C, width)
        likeness = wanted @ query.transpose(1, 2) / query.shape[2] ** 0.5
        attention = masked_softmax(likeness, weigh_tiles(mask, coverage)[:, None])  # (B, C, N)
        embedding = attention @ self.value(tiles)
        return Pooled(embedding.flatten(1), attention.mean(dim=1), attention, instance_logits=logits)
