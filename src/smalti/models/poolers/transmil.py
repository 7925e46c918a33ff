"""Tiles that look at one another: TransMIL (Shao et al. 2021)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .attention import LearnedPooler
from .pooler import POOLERS, Pooled, fill_mask

PINV_STEPS = 6  # of the iterative pseudo-inverse, as in the Nystroem paper


def iterate_pinv(matrix: torch.Tensor) -> torch.Tensor:
    """Moore-Penrose inverse of (..., m, m) by six cubic steps (Xiong et al. 2021, equation 11)."""
    size = matrix.abs()
    inverse = matrix.transpose(-1, -2) / (size.sum(dim=-1).amax() * size.sum(dim=-2).amax())
    one = torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)
    for _ in range(PINV_STEPS):
        product = matrix @ inverse
        inverse = 0.25 * inverse @ (13 * one - product @ (15 * one - product @ (7 * one - product)))
    return inverse


class NystroemAttention(nn.Module):
    """Self-attention through landmarks, linear in the number of tiles (Xiong et al. 2021).

    The sequence is padded in front with zeros to a multiple of the number of landmarks, as the authors do; landmarks
    are means of neighbours in the sequence. Bags with fewer tiles than landmarks have one landmark a tile.
    """

    def __init__(self, width: int, *, heads: int, landmarks: int) -> None:
        super().__init__()
        self.heads = heads
        self.landmarks = landmarks
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, N, W) to (B, N, W), and how much the first token looks at each, (B, N), mean over heads."""
        batch, count, width = tokens.shape
        group = math.ceil(count / self.landmarks)
        padding = (-count) % self.landmarks
        padded = F.pad(tokens, (0, 0, padding, 0))
        split = self.to_qkv(padded).reshape(batch, count + padding, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, N, W / heads)
        query = query * query.shape[-1] ** -0.5
        near_query = query.unflatten(2, (self.landmarks, group)).mean(dim=3)
        near_key = key.unflatten(2, (self.landmarks, group)).mean(dim=3)
        left = (query @ near_key.transpose(-1, -2)).softmax(dim=-1)
        middle = iterate_pinv((near_query @ near_key.transpose(-1, -2)).softmax(dim=-1))
        right = (near_query @ key.transpose(-1, -2)).softmax(dim=-1)
        mixed = (left @ middle) @ (right @ value)
        shares = (left[:, :, padding : padding + 1] @ middle @ right)[:, :, 0, padding:].mean(dim=1)
        return mixed.transpose(1, 2).flatten(2)[:, padding:], shares


class PyramidEncoding(nn.Module):
    """Depth-wise convolutions of three sizes over the tiles laid out as a square (PPEG)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))

    def forward(self, tokens: torch.Tensor, side: int) -> torch.Tensor:
        """(B, 1 + side * side, W) to the same; the class token in front is left alone."""
        token, tiles = tokens[:, :1], tokens[:, 1:]
        square = tiles.transpose(1, 2).unflatten(2, (side, side))
        for conv in self.convs:
            square = square + conv(tiles.transpose(1, 2).unflatten(2, (side, side)))
        return torch.cat([token, square.flatten(2).transpose(1, 2)], dim=1)


@POOLERS.register(
    "transmil",
    summary="tiles look at one another through landmarks, with a pyramid of convolutions for their places",
    reference="Shao et al. 2021; Nystroem attention, Xiong et al. 2021",
)
class TransMilPooler(LearnedPooler):
    """Two layers of Nystroem attention around a pyramid position encoding; the class token is the embedding.

    The order of the tiles matters, as in the paper: they are laid out as a square in the order given. Each bag goes
    by itself, so that padding cannot shift the square.

    Args:
        features: D.
        classes: C.
        hidden: width of the layers, a multiple of ``heads``.
        heads: of the attention.
        landmarks: of the attention.
        dropout: after the projection.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: int = 128,
        heads: int = 4,
        landmarks: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes, hidden=hidden, dropout=dropout)
        self.token = nn.Parameter(torch.randn(1, 1, hidden) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.mixers = nn.ModuleList(NystroemAttention(hidden, heads=heads, landmarks=landmarks) for _ in range(2))
        self.encode = PyramidEncoding(hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, H)."""
        mask = fill_mask(features, mask)
        tiles = self.embed(features, mask)
        embeddings, attention = [], torch.zeros(mask.shape, dtype=tiles.dtype, device=tiles.device)
        for bag in range(len(tiles)):
            embedding, shares = self._pool_bag(tiles[bag : bag + 1, mask[bag]])
            embeddings.append(embedding)
            attention[bag, mask[bag]] = shares.to(attention.dtype)
        return Pooled(torch.cat(embeddings), attention)

    def _pool_bag(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = tiles.shape[1]
        side = math.ceil(math.sqrt(count))
        square = torch.cat([tiles, tiles[:, : side * side - count]], dim=1)
        tokens = torch.cat([self.token, square], dim=1)
        tokens = tokens + self.mixers[0](self.norms[0](tokens))[0]
        tokens = self.encode(tokens, side)
        mixed, looks = self.mixers[1](self.norms[1](tokens))
        tokens = tokens + mixed
        # The landmarks' inverse lets single looks be slightly negative; a share is not.
        shares = looks[0, 1 : count + 1].clamp_min(0)
        return self.norm(tokens)[:, 0], shares / shares.sum().clamp_min(1e-12)
