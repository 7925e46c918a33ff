"""Embeddings of a vision transformer that are more than its class token."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ...errors import PartError
from .encoder import Embedding


class PatchMeans(VisionTransformer):
    """A vision transformer whose embedding is the mean over the tokens of its patches; registers do not count."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return embeddings (M, K) of tokens (M, T, K)."""
        return x[:, self.num_prefix_tokens :].mean(dim=1)


class ClassAndMeans(VisionTransformer):
    """A vision transformer whose embedding is its class token, and then the mean over the tokens of its patches."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return embeddings (M, 2K) of tokens (M, T, K)."""
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens :].mean(dim=1)], dim=1)


def take_tokens(network: nn.Module, embedding: Embedding) -> nn.Module:
    """Let a network return the embedding that is asked for; its layers and their names stay as they are.

    Raises:
        PartError: the network is no vision transformer of timm, and more than its own output is asked for.
    """
    if embedding in {"class", "model"}:
        return network
    if type(network) is not VisionTransformer:
        raise PartError(f"{type(network).__name__} has no tokens to average", fix="take another encoder")
    # timm builds its own class by name. Only the last step differs here, and no parameter does.
    network.__class__ = PatchMeans if embedding == "mean" else ClassAndMeans
    return network
