"""Monotone transforms of embeddings, fitted on training cases: for measurements of wildly different scales.

An area in square millimetres, a count and a share have tails that differ by orders of magnitude; a linear head follows
the few images in them. Each dimension is bent by itself, so that nothing is mixed, and what is fitted are numbers that
go with the network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from ..registry import Registry

MOST_NUMBERS = 2**24  # that torch sorts at once for a quantile
KNOTS = 33  # quantiles that ranks are read from
FAR = 2.5  # standard deviations; values beyond those of the training cases are held there


class EmbeddingTransform(nn.Module, ABC):
    """Root of all transforms of embeddings of D = ``features`` dimensions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    @abstractmethod
    def fit(self, values: torch.Tensor) -> None:
        """Take what is needed from the embeddings (n, D) of training cases."""

    @abstractmethod
    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return embeddings (..., D), each dimension bent by itself."""


TRANSFORMS: Registry[EmbeddingTransform] = Registry("transform")


def find_quantiles(values: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Return quantiles (K, D) of values (n, D) at shares (K,); some dimensions at a time, as torch allows."""
    together = max(1, MOST_NUMBERS // len(values))
    parts = values.split(together, dim=1)
    return torch.cat([part.quantile(shares.to(values.device), dim=0) for part in parts], dim=1)


@TRANSFORMS.register("none", summary="embeddings as they are")
class Untouched(EmbeddingTransform):
    """Change nothing."""

    def fit(self, values: torch.Tensor) -> None:
        """Fit nothing."""

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the embeddings."""
        return embedding


@TRANSFORMS.register(
    "asinh",
    summary="linear around the median, logarithmic in the tails: a robust scale for each dimension",
    reference="Johnson 1949, S_U",
)
class InverseSine(EmbeddingTransform):
    """``asinh((x - median) / spread)``; the spread is the median distance from the median.

    Where more than half of the training cases share one value, it is the mean distance instead.
    """

    middle: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("middle", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))

    def fit(self, values: torch.Tensor) -> None:
        """Take median and spread of each dimension."""
        half = torch.tensor([0.5], dtype=torch.float64)
        middle = find_quantiles(values.double(), half)[0]
        distance = (values.double() - middle).abs()
        spread, mean = find_quantiles(distance, half)[0], distance.mean(dim=0)
        spread = torch.where(spread > 1e-6 * mean, spread, mean)
        self.middle.copy_(middle)
        self.spread.copy_(torch.where(spread > torch.finfo(torch.float32).tiny, spread, 1.0))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return bent embeddings."""
        # By logarithms, since forms for other tools know no inverse hyperbolic sine.
        x = (embedding - self.middle) / self.spread
        size = x.abs()
        return x.sign() * (size + (size.square() + 1).sqrt()).log()


@TRANSFORMS.register(
    "rank",
    summary="the rank among the training cases, as a normal score; equal steps for equal shares of the cases",
    reference="van der Waerden 1952",
)
class Rank(EmbeddingTransform):
    """Normal scores of ranks, linear between `KNOTS` quantiles of the training cases."""

    places: torch.Tensor
    widths: torch.Tensor
    rises: torch.Tensor
    lowest: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        for name in ("places", "widths", "rises"):
            self.register_buffer(name, torch.zeros(KNOTS - 1, features))
        self.register_buffer("lowest", torch.zeros(features))

    def fit(self, values: torch.Tensor) -> None:
        """Take the quantiles of each dimension; what several of them share has the mean of their scores."""
        shares = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
        scores = torch.special.ndtri(shares).clamp(-FAR, FAR)
        knots = find_quantiles(values.double().cpu(), shares)  # (K, D)
        first = torch.searchsorted(knots.T.contiguous(), knots.T.contiguous()).T
        last = torch.searchsorted(knots.T.contiguous(), knots.T.contiguous(), right=True).T
        sums = torch.cat([torch.zeros(1, dtype=torch.float64), scores.cumsum(0)])
        heights = (sums[last] - sums[first]) / (last - first)
        widths, rises = knots.diff(dim=0), heights.diff(dim=0)
        self.places.copy_(knots[:-1])
        self.widths.copy_(widths)
        self.rises.copy_(torch.where(widths > 0, rises / widths.clamp_min(torch.finfo(torch.float64).tiny), 0.0))
        self.lowest.copy_(heights[0])

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return scores: the sum of how far each step between two quantiles has been climbed."""
        score = self.lowest.expand_as(embedding)
        for place, width, rise in zip(self.places, self.widths, self.rises, strict=True):
            score = score + rise * (embedding - place).clamp_min(0).minimum(width)
        return score
