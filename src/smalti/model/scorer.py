"""A model as one torch module: normalised tiles to logits, all networks, views and rules inside.

This is what other people's tools are given. It knows no files and no images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..models import BagReader
from ..predict.rules import Rule


class Decide(nn.Module):
    """Logarithms (N, C) of scores to those of decided scores, as `smalti.predict.Rule.apply` decides them."""

    weights: torch.Tensor

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.plain, self.temperature = rule.plain, rule.temperature
        self.register_buffer("weights", torch.tensor(rule.weights).log())

    def forward(self, logs: torch.Tensor) -> torch.Tensor:
        """Return normalised logarithms."""
        return logs if self.plain else (logs / self.temperature + self.weights).log_softmax(dim=1)


class Vote(nn.Module):
    """One trained network of a member: features of tiles to logarithms of its share of the scores.

    Attributes:
        backbone: position of its backbone among all.
        reader: pooler and head.
        share: of it among the votes of its fold.
        views: symmetries of the square that are averaged.
    """

    share: torch.Tensor

    def __init__(self, backbone: int, reader: BagReader, rule: Rule, *, share: float = 1.0, views: int = 1) -> None:
        super().__init__()
        self.backbone, self.views = backbone, views
        self.reader, self.decide = reader, Decide(rule)
        # A share of 0 has the logarithm -inf, and so no say.
        self.register_buffer("share", torch.tensor(share).log())

    def forward(self, seen: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return (N, C) of bags (N, T, D), one for each view."""
        logits = torch.stack([self.reader(bags)[0] for bags in seen[: self.views]]).mean(dim=0)
        scores: torch.Tensor = self.decide(logits.log_softmax(dim=1))
        return scores + self.share


class Panel(nn.Module):
    """The votes of one fold and seed, and the rule by which their mean is decided."""

    def __init__(self, votes: Sequence[Vote], rule: Rule) -> None:
        super().__init__()
        self.votes, self.decide = nn.ModuleList(votes), Decide(rule)

    def forward(self, seen: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """Return logarithms (N, C) of the scores of this fold; ``seen`` is by backbone, then by view."""
        votes = [vote(seen[vote.backbone]) for vote in self.votes]
        scores: torch.Tensor = self.decide(torch.stack(votes).logsumexp(dim=0))
        return scores


class Scorer(nn.Module):
    """Logits (N, C) of N images of T tiles each, given as (N, T, 3, H, W), normalised.

    The softmax of the logits is the score that the model gives: the mean over folds and seeds of what the votes of each
    say together. It is computed by logarithms, so that a score near 0 stays exact.
    """

    def __init__(self, backbones: Sequence[nn.Module], panels: Sequence[Panel]) -> None:
        super().__init__()
        self.backbones, self.panels = nn.ModuleList(backbones), nn.ModuleList(panels)
        self.views = max(vote.views for panel in panels for vote in panel.votes)
        self.eval()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits whose softmax is the score of each class."""
        images, count, channels, height, width = tiles.shape
        flat = tiles.reshape(images * count, channels, height, width)
        turned = [turn_square(flat, view) for view in range(self.views)]
        seen = [[network(one).float().reshape(images, count, -1) for one in turned] for network in self.backbones]
        return torch.stack([panel(seen) for panel in self.panels]).logsumexp(dim=0)


def turn_square(tiles: torch.Tensor, turn: int) -> torch.Tensor:
    """Apply symmetry ``turn`` of the square, 0 to 7, to tiles (M, 3, H, W), as `smalti.samples.turn_tile` does."""
    flipped = tiles.flip(3) if turn >= 4 else tiles
    return flipped.rot90(turn % 4, (2, 3)) if turn % 4 else flipped
