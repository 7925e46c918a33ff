"""Attention pooling: each tile gets a share that is learned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from .pooler import POOLERS, Pooled, Pooler, blank_padding, fill_mask, masked_softmax, weigh_tiles

Hidden = int | Sequence[int] | None  # dimensions that tiles are projected to, one layer each; None: not projected


class LearnedPooler(Pooler):
    """Root of poolers that learn: tiles are standardised, then projected to H dimensions where ``hidden`` is given.

    Several dimensions make several layers, as (256, 128, 64) of Ilse et al. 2018; dropout follows each.

    The mean and scale are those of the tiles of the training cases (`smalti.models.fit_scale`), so that a rate means
    the same for every backbone.
    """

    learns = True
    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, classes: int, *, hidden: Hidden, dropout: float) -> None:
        sizes = [features, *([hidden] if isinstance(hidden, int) else hidden or ())]
        super().__init__(sizes[-1], classes)
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = len(sizes) - 1
        layers: list[nn.Module] = [] if self.layers else [nn.Dropout(dropout, inplace=True)]  # on a copy of our own
        for size, smaller in pairwise(sizes):
            layers += [nn.Linear(size, smaller), nn.ReLU(), nn.Dropout(dropout)]
        self.project = nn.Sequential(*layers)

    def embed(self, features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return standardised and projected tiles (B, N, H); padding is 0. One copy of the tiles is made, not one a
        step."""
        ready = (features - self.center).div_(self.scale)
        if mask is None:
            return self.project(ready)
        projected: torch.Tensor = self.project(ready.masked_fill_(~mask[..., None], 0.0))
        return blank_padding(projected, mask) if self.layers else projected


class AttentionScores(nn.Module):
    """``w^T tanh(V h)``; gated ``w^T (tanh(V h) * sigmoid(U h))``; (B, N, H) to (B, N, branches) (Ilse et al. 2018).

    ``w`` begins at 0, so that every tile begins with the same share and a network that learned nothing looks nowhere
    in particular; drawn at random, it prefers some tissue, and its map looks like knowledge.
    """

    def __init__(self, features: int, width: int, *, gated: bool, branches: int = 1) -> None:
        super().__init__()
        self.content = nn.Linear(features, width)
        self.gate = nn.Linear(features, width) if gated else None
        self.weigh = nn.Linear(width, branches, bias=False)  # a bias would cancel in the softmax
        nn.init.zeros_(self.weigh.weight)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return scores before the softmax."""
        content = torch.tanh(self.content(tiles))
        if self.gate is not None:
            content = content * torch.sigmoid(self.gate(tiles))
        return self.weigh(content)


@POOLERS.register("attention", summary="weighted mean, the weights learned", reference="Ilse et al. 2018, equation 8")
class AttentionPooler(LearnedPooler):
    """The weighted mean of the tiles, by attention of ``width`` units on tiles projected to ``hidden`` dimensions.

    Several ``branches`` each weigh the tiles in their own way; their embeddings stand side by side, and the attention
    told is the mean of theirs.
    """

    weighs = True
    gated = False

    def __init__(
        self, features: int, classes: int, *, hidden: Hidden = None, width: int = 128, dropout: float = 0.1,
        branches: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.score = AttentionScores(self.features, width, gated=self.gated, branches=branches)
        self.features = branches * self.features

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, branches * H)."""
        tiles = self.embed(features, mask)
        weights = weigh_tiles(fill_mask(features, mask), coverage)[:, None]
        attention = masked_softmax(self.score(tiles).transpose(1, 2), weights)  # (B, branches, N)
        return Pooled((attention @ tiles).flatten(1), attention.mean(dim=1))


@POOLERS.register(
    "gated_attention",
    summary="weighted mean, the weights learned with a gate",
    reference="Ilse et al. 2018, equation 9",
)
class GatedAttentionPooler(AttentionPooler):
    """As `AttentionPooler`, gated."""

    gated = True


@POOLERS.register(
    "additive",
    summary="sum of what each attended tile says by itself, so that a heat map is exact",
    reference="Javed et al. 2022",
)
class AdditivePooler(LearnedPooler):
    """Each tile, weighted by its attention, goes through a small network of its own; the results are added.

    After a linear head the logits are a sum of contributions of single tiles (`contributions`).
    """

    weighs = True

    def __init__(
        self, features: int, classes: int, *, hidden: Hidden = None, width: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.score = AttentionScores(self.features, width, gated=True)
        self.say = nn.Sequential(nn.Linear(self.features, width), nn.ReLU())
        self.features = width

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, width)."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        attention = masked_softmax(self.score(tiles)[..., 0], weigh_tiles(mask, coverage))
        said = blank_padding(self.say(attention[..., None] * tiles), mask)
        return Pooled(said.sum(dim=1), attention, hidden=said)

    @staticmethod
    def contributions(pooled: Pooled, weight: torch.Tensor) -> torch.Tensor:
        """Return the share of each tile in each logit, (B, N, C), for a linear head of ``weight`` (C, width)."""
        if pooled.hidden is None:
            raise ValueError("contributions need the tiles that an additive pooler keeps")
        return pooled.hidden @ weight.T
