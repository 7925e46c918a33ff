"""How what the mask's geometry says joins what the pixels say, after pooling.

A fusion takes the pooled embedding (B, E), or (B, C, E) by class, the geometry of the whole mask (B, G), and the tiles
(B, N, T) with their padding mask (B, N), and gives (B, F), or (B, C, F).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ...registry import Registry
from ..poolers.pooler import blank_padding, masked_softmax


class Fusion(nn.Module, ABC):
    """Root of all fusions, made for embeddings of E = ``features``, geometry of G and tiles of T dimensions.

    Attributes:
        features: F of what it gives.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, geometry: int, tiles: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.features = features

    def forward(
        self, embedding: torch.Tensor, geometry: torch.Tensor, tiles: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Standardise the embedding and join; each class of an embedding by class meets the same geometry."""
        ready = (embedding - self.center) / self.scale
        said = self.say(geometry, tiles, mask)
        if ready.ndim == 3:
            said = said[:, None].expand(-1, ready.shape[1], -1)
        return self.join(ready, said)

    def say(self, geometry: torch.Tensor, tiles: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the part of the geometry that is joined, (B, K); by default the geometry itself."""
        return geometry

    @abstractmethod
    def join(self, embedding: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Join (..., E) and (..., K) to (..., F)."""


FUSIONS: Registry[Fusion] = Registry("fusion")


@FUSIONS.register("concat", summary="embedding and geometry side by side, before the last layer")
class ConcatFusion(Fusion):
    """The last layer sees both and learns what each is worth."""

    def __init__(self, features: int, geometry: int, tiles: int) -> None:
        super().__init__(features, geometry, tiles)
        self.features = features + geometry

    def join(self, embedding: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Put both side by side."""
        return torch.cat([embedding, said], dim=-1)


@FUSIONS.register(
    "gate",
    summary="a gate, from both, decides dimension by dimension which of the two is heard",
    reference="gated multimodal unit, Arevalo et al. 2017",
)
class GateFusion(Fusion):
    """``z tanh(V e) + (1 - z) tanh(U g)`` with ``z = sigmoid(W [e, g])``, all of ``width`` dimensions."""

    def __init__(self, features: int, geometry: int, tiles: int, *, width: int = 64) -> None:
        super().__init__(features, geometry, tiles)
        self.pixels = nn.Linear(features, width)
        self.shape = nn.Linear(geometry, width)
        self.gate = nn.Linear(features + geometry, width)
        self.features = width

    def join(self, embedding: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Return one embedding of ``width`` dimensions."""
        share = torch.sigmoid(self.gate(torch.cat([embedding, said], dim=-1)))
        return share * torch.tanh(self.pixels(embedding)) + (1 - share) * torch.tanh(self.shape(said))


@FUSIONS.register(
    "cross_attention",
    summary="the geometry of the whole mask asks the tiles; its answer stands beside the embedding",
    reference="multi-head attention, Vaswani et al. 2017",
)
class CrossAttentionFusion(ConcatFusion):
    """The query is the geometry, keys and values are tiles; the answer is added to the geometry, as in a decoder."""

    def __init__(self, features: int, geometry: int, tiles: int, *, width: int = 64, heads: int = 4) -> None:
        super().__init__(features, geometry, tiles)
        self.heads = heads
        self.ask = nn.Linear(geometry, width)
        self.to_key = nn.Linear(tiles, width)
        self.to_value = nn.Linear(tiles, width)
        self.merge = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.features = features + width

    def say(self, geometry: torch.Tensor, tiles: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the answer of the tiles, added to the query, (B, width)."""
        clean = blank_padding(tiles, mask)
        asked = self.ask(geometry)
        split = (self.heads, -1)
        key, value = self.to_key(clean).unflatten(2, split), self.to_value(clean).unflatten(2, split)
        looks = torch.einsum("bhd,bnhd->bhn", asked.unflatten(1, split), key) / key.shape[-1] ** 0.5
        answer = torch.einsum("bhn,bnhd->bhd", masked_softmax(looks, mask[:, None]), value).flatten(1)
        return self.norm(asked + self.merge(answer))
