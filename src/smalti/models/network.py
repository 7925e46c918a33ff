"""Backbone, pooler and head as one network."""

from __future__ import annotations

import torch
from torch import nn

from .backbones import Backbone
from .poolers import Pooled, Pooler


class Head(nn.Module):
    """Standardise, drop out, one linear layer: (B, D) to logits (B, C).

    The mean and scale of the embeddings are those of the training cases (`fit_scale`), which makes the rate of the
    last layer mean the same for every backbone.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)
        nn.init.zeros_(self.linear.bias)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)

    def fit_scale(self, embeddings: torch.Tensor) -> None:
        """Take mean and standard deviation from embeddings (n, D) of training images."""
        self.center.copy_(embeddings.mean(dim=0))
        if len(embeddings) > 1:
            self.scale.copy_(embeddings.std(dim=0).clamp_min(1e-4))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of embeddings (B, D), or of (B, C, D) where each class is scored from its own."""
        ready = self.drop((embedding - self.center) / self.scale)
        if ready.ndim == 3:
            return (ready * self.linear.weight).sum(dim=2) + self.linear.bias
        return self.linear(ready)


class Network(nn.Module):
    """The whole way from tiles to logits."""

    def __init__(self, backbone: Backbone, pooler: Pooler, head: Head) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.pooler = pooler
        self.head = head

    def forward(self, tiles: torch.Tensor, bag_tiles: int) -> torch.Tensor:
        """Logits (B, C) of B bags of ``bag_tiles`` tiles each, given as (B * bag_tiles, 3, H, W)."""
        features = self.backbone(tiles)
        return read_logits(self.head, self.pooler(features.reshape(-1, bag_tiles, features.shape[-1])))


def read_logits(head: Head, pooled: Pooled) -> torch.Tensor:
    """Logits (B, C) of pooled bags; with a stream on single tiles the mean of both (Li et al. 2021)."""
    logits: torch.Tensor = head(pooled.embedding)
    if pooled.instance_logits is None:
        return logits
    return (logits + pooled.instance_logits.amax(dim=1)) / 2
