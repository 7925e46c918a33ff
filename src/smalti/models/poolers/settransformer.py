"""A small set transformer that knows how far tiles lie from one another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .attention import LearnedPooler
from .pooler import POOLERS, Pooled, fill_mask, masked_softmax, weigh_tiles


class DistanceAttention(nn.Module):
    """Self-attention in which the distance between tiles adds a learned bias, per head (after Press et al. 2022).

    The bias is ``-slope * log(1 + distance)``, distance in tile sides, slope free; without positions there is none.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.slope = nn.Parameter(torch.linspace(0.0, 1.0, heads))
        self.widen = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tiles: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
        """(B, N, W) to (B, N, W)."""
        batch, count, width = tiles.shape
        split = self.to_qkv(self.norm(tiles)).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        bias = torch.zeros(batch, 1, 1, count, dtype=tiles.dtype, device=tiles.device)
        bias = bias.masked_fill(~mask[:, None, None], float("-inf"))
        if positions is not None:
            distance = torch.cdist(positions.to(tiles.dtype), positions.to(tiles.dtype)).log1p()[:, None]
            bias = bias - self.slope[:, None, None] * distance
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(-1, self.heads, count, -1))
        tiles = tiles + self.merge(mixed.transpose(1, 2).flatten(2))
        return tiles + self.widen(tiles)


@POOLERS.register(
    "set_transformer",
    summary="tiles look at one another, nearer ones more easily, then a learned seed looks at them",
    reference="Lee et al. 2019",
)
class SetTransformerPooler(LearnedPooler):
    """One block of self-attention with distances, then pooling by multi-head attention with one seed.

    Memory grows with the square of the tiles in a bag; `attention` and `transmil` stay linear. Coverage weighs what the
    seed looks at, not what tiles see of one another.

    Args:
        features: D.
        classes: C.
        hidden: width of the block, a multiple of ``heads``.
        heads: of the attention.
        blocks: of self-attention.
        dropout: after the projection.
    """

    weighs = True

    def __init__(
        self, features: int, classes: int, *, hidden: int = 128, heads: int = 4, blocks: int = 1, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.blocks = nn.ModuleList(DistanceAttention(hidden, heads=heads) for _ in range(blocks))
        self.heads = heads
        self.seed = nn.Parameter(torch.zeros(hidden))  # asks nothing yet, and so looks at all tiles alike
        self.to_key = nn.Linear(hidden, hidden)
        self.to_value = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, H); ``positions`` (B, N, 2) are in tile sides."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        places = None if positions is None else positions.masked_fill(~mask[..., None], 0)
        for block in self.blocks:
            tiles = block(tiles, mask, places)
        split = (self.heads, -1)
        key, value = self.to_key(tiles).unflatten(2, split), self.to_value(tiles).unflatten(2, split)
        looks = torch.einsum("hd,bnhd->bhn", self.seed.unflatten(0, split), key) / key.shape[-1] ** 0.5
        shares = masked_softmax(looks, weigh_tiles(mask, coverage)[:, None])  # (B, heads, N)
        return Pooled(self.norm(torch.einsum("bhn,bnhd->bhd", shares, value).flatten(1)), shares.mean(dim=1))
