"""A model as one torch module: normalised tiles to logits, all networks, views and rules inside.

This is what other people's tools are given. It knows no files and no images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..models import BagReader
from ..predict.rules import Rule

Seen = Sequence[Sequence[torch.Tensor]]  # by backbone, then by view: bags (N, T, D)


class Decide(nn.Module):
    """Logarithms (N, C) of scores to those of decided scores, as `smalti.predict.Rule.apply` decides them."""

    weights: torch.Tensor

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.plain = rule.temperature == 1 and all(weight == 1 for weight in rule.weights)
        self.temperature = rule.temperature
        self.register_buffer("weights", torch.tensor(rule.weights).log())

    def forward(self, logs: torch.Tensor) -> torch.Tensor:
        """Return normalised logarithms."""
        return logs if self.plain else (logs / self.temperature + self.weights).log_softmax(dim=1)


class Vote(nn.Module):
    """One trained network: features of tiles to logarithms of decided scores.

    Attributes:
        backbone: position of its backbone among all.
        reader: pooler and head.
        views: symmetries of the square that are averaged.
    """

    def __init__(self, backbone: int, reader: BagReader, rule: Rule, *, views: int = 1) -> None:
        super().__init__()
        self.backbone, self.views = backbone, views
        self.reader, self.decide = reader, Decide(rule)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return (N, C) of bags (N, T, D)."""
        bags = seen[self.backbone][: self.views]
        logits = torch.stack([self.reader(one)[0] for one in bags]).mean(dim=0)
        scores: torch.Tensor = self.decide(logits.log_softmax(dim=1))
        return scores


class Mixture(nn.Module):
    """Votes, or mixtures of votes, each with its share, and the rule by which their mean is decided."""

    shares: torch.Tensor

    def __init__(self, parts: Sequence[Vote | Mixture], shares: Sequence[float], rule: Rule) -> None:
        super().__init__()
        kept = [(part, share) for part, share in zip(parts, shares, strict=True) if share > 0]
        self.parts, self.decide = nn.ModuleList(part for part, _ in kept), Decide(rule)
        self.register_buffer("shares", torch.tensor([share for _, share in kept]).log()[:, None, None])

    def forward(self, seen: Seen) -> torch.Tensor:
        """Return logarithms (N, C) of decided scores."""
        logs = torch.stack([part(seen) for part in self.parts]) + self.shares
        scores: torch.Tensor = self.decide(logs.logsumexp(dim=0))
        return scores


class Scorer(nn.Module):
    """Logits (N, C) of N images of T tiles each, given as (N, T, 3, H, W), normalised; as (N, T, D) of given features.

    The softmax of the logits is the score that the model gives. It is computed by logarithms, so that a score near 0
    stays exact.
    """

    def __init__(self, backbones: Sequence[nn.Module], answer: Vote | Mixture, *, size: int = 0) -> None:
        """Take D = ``size`` numbers of a tile; 0 where it takes pixels."""
        super().__init__()
        self.size = size
        self.backbones, self.answer = nn.ModuleList(backbones), answer
        self.views = max(part.views for part in answer.modules() if isinstance(part, Vote))
        self.eval().requires_grad_(False)

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits whose softmax is the score of each class."""
        if self.size:
            given: torch.Tensor = self.answer([[tiles]] * len(self.backbones))
            return given
        images, count, channels, height, width = tiles.shape
        flat = tiles.reshape(images * count, channels, height, width)
        turned = [turn_square(flat, view) for view in range(self.views)]
        seen = [[network(one).float().reshape(images, count, -1) for one in turned] for network in self.backbones]
        logits: torch.Tensor = self.answer(seen)
        return logits


def turn_square(tiles: torch.Tensor, turn: int) -> torch.Tensor:
    """Apply symmetry ``turn`` of the square, 0 to 7, to tiles (M, 3, H, W), as `smalti.samples.turn_tile` does."""
    flipped = tiles.flip(3) if turn >= 4 else tiles
    return flipped.rot90(turn % 4, (2, 3)) if turn % 4 else flipped
