"""Backbone, pooler and head as one network."""

from __future__ import annotations

import torch
from torch import nn

from .backbones import Backbone
from .mask.branch import MaskBranch, MaskFeatures
from .mask.stem import MaskStem
from .poolers.pooler import Pooled, Pooler, fill_mask
from .scale import fit_scale
from .transforms import TRANSFORMS


class Head(nn.Module):
    """Transform, standardise, drop out, one linear layer: (B, D) to logits (B, C).

    The mean and scale of the embeddings are those of the training cases (`smalti.models.fit_scale`), which makes the
    rate of the last layer mean the same for every backbone.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self, features: int, classes: int, *, dropout: float, by_class: bool = False, transform: str = "none"
    ) -> None:
        super().__init__()
        self.by_class = by_class
        self.transform = TRANSFORMS.build(transform, features)
        self.register_buffer("center", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(features, classes)
        nn.init.zeros_(self.linear.bias)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)

    def fit(self, embeddings: torch.Tensor) -> None:
        """Fit the transform, the mean and the scale to the embeddings (n, D) of training cases."""
        self.transform.fit(embeddings)
        fit_scale(self, self.transform(embeddings))

    def standardise(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return transformed and standardised embeddings (..., D)."""
        ready: torch.Tensor = (self.transform(embedding) - self.center) / self.scale
        return ready

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits (..., C) of embeddings (..., D); by class, of (..., C, D), each class from its own."""
        ready = self.drop(self.standardise(embedding))
        if self.by_class:
            return (ready * self.linear.weight).sum(dim=-1) + self.linear.bias
        return self.linear(ready)


class BagReader(nn.Module):
    """Pooler and head, and the branch that reads the mask where there is one: from embeddings of tiles to logits.

    Attributes:
        weighs: whether the pooler is given the coverage of the tiles.
    """

    def __init__(self, pooler: Pooler, head: Head, *, branch: MaskBranch | None = None, weighs: bool = False) -> None:
        super().__init__()
        self.pooler = pooler
        self.head = head
        self.branch = branch
        self.weighs = weighs

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        guide: MaskFeatures | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits (B, C) of bags (B, N, D), and the loss on tiles where there is one and ``targets`` are given.

        ``guide`` is what the mask says, for a reader that weighs or has a branch.

        Raises:
            ValueError: a reader that asks for the mask got no guide.
        """
        mask = fill_mask(features, mask)
        logits, pooled = self.read(features, mask, positions=positions, guide=guide)
        if targets is None:
            return logits, None
        return logits, self.pooler.instance_loss(pooled, mask, targets)

    def read(
        self,
        features: torch.Tensor,
        mask: torch.Tensor,
        *,
        positions: torch.Tensor | None = None,
        guide: MaskFeatures | None = None,
    ) -> tuple[torch.Tensor, Pooled]:
        """Return logits (B, C), and what the pooler made of the bags.

        A pooler with a stream on single tiles has its largest tile logits averaged in (Li et al. 2021).
        """
        if guide is None:
            if self.weighs or self.branch is not None:
                raise ValueError("this reader asks what the mask says")
            guide = MaskFeatures()
        if self.branch is not None:
            features = self.branch.join_tiles(features, mask, guide)
        pooled = self.pooler(features, mask, positions=positions, coverage=guide.coverage if self.weighs else None)
        embedding = pooled.embedding
        if self.branch is not None:
            embedding = self.branch.fusion(embedding, self.branch.encode(guide), features, mask)
        logits: torch.Tensor = self.head(embedding)
        if pooled.instance_logits is not None:
            logits = (logits + pooled.instance_logits.amax(dim=1)) / 2
        return logits, pooled


class Network(nn.Module):
    """The whole way from tiles to logits."""

    def __init__(
        self,
        backbone: Backbone,
        pooler: Pooler,
        head: Head,
        *,
        branch: MaskBranch | None = None,
        weighs: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.pooler = pooler
        self.head = head
        self.branch = branch
        self.weighs = weighs

    @property
    def reader(self) -> BagReader:
        """Return the pooler, head and branch, as they are here."""
        return BagReader(self.pooler, self.head, branch=self.branch, weighs=self.weighs)

    @property
    def takes_mask(self) -> bool:
        """Tell whether the backbone takes the mask as a fourth channel."""
        return any(isinstance(module, MaskStem) for module in self.backbone.modules())

    def forward(
        self,
        tiles: torch.Tensor,
        bag_tiles: int,
        positions: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        guide: MaskFeatures | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return logits (B, C) of B bags of ``bag_tiles`` tiles each, given as (B * bag_tiles, 3, H, W); see
        `BagReader`.

        With the mask as a fourth channel tiles are (B * bag_tiles, 4, H, W).
        """
        features = self.backbone(tiles)
        bags = features.reshape(-1, bag_tiles, features.shape[-1])
        return self.reader(bags, positions=positions, targets=targets, guide=guide)
