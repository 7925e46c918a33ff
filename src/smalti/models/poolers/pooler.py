"""From the embeddings of the tiles of a bag to one embedding of the image.

A pooler takes (B, N, D) and a mask (B, N), true where a tile is real, and gives a `Pooled`. Padded tiles never change
a result. With the coverage of the tiles, poolers that `weigh` multiply each tile's share by it. Those without
parameters are here; each that learns has a module of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from ...registry import Registry


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a pooler makes of B bags of N tiles.

    Attributes:
        embedding: (B, E), or (B, C, E) where each class has an embedding of its own.
        attention: (B, N) share of each tile in the embedding; adds up to 1 over real tiles, 0 on padding.
        class_attention: (B, C, N) the same of each class where a pooler looks at each class apart; else None.
        instance_logits: (B, N, C) of a stream that classifies single tiles; else None.
        hidden: (B, N, H) projected tiles, kept for a loss on single tiles; else None.
    """

    embedding: torch.Tensor
    attention: torch.Tensor
    class_attention: torch.Tensor | None = None
    instance_logits: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


class Pooler(nn.Module, ABC):
    """Root of all poolers.

    Made for tiles of D = ``features`` and bags of C = ``classes``.

    Attributes:
        features: E of the embedding.
        classes: C.
        learns: whether it has parameters, so that it must be trained on bags.
        by_class: whether each class has an embedding of its own.
        weighs: whether shares can be multiplied by coverage; a maximum has none that could.
    """

    learns = False
    by_class = False
    weighs = False

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()  # torch's own takes anything, so that wrong arguments would be found too late
        self.features = features
        self.classes = classes

    @abstractmethod
    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D).

        ``positions`` (B, N, 2) are (row, col) of the tiles in tile sides, for poolers that look; ``coverage`` (B, N)
        is the share of each tile under the mask, for poolers that weigh.
        """

    def instance_loss(self, pooled: Pooled, mask: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        """Return a loss on single tiles that belongs to the method; None without one.

        ``targets`` are the classes (B,) of the bags, or shares (B, C) of bags that are mixed.
        """
        return None


POOLERS: Registry[Pooler] = Registry("pooler")


def keeps_single(pooler: Pooler, *, features: int) -> bool:
    """Tell whether a pooler learns nothing and gives a bag of one tile as that tile: all that do are one function
    there.

    ``features`` is the D of the tiles that it was built for.
    """
    if pooler.learns:
        return False
    tiles = torch.linspace(-2.0, 2.0, 4 * features).reshape(4, 1, features)
    pooled = pooler(tiles).embedding
    return pooled.shape == tiles[:, 0].shape and bool(torch.allclose(pooled, tiles[:, 0], atol=1e-5))


def looks_at_places(pooler: Pooler, *, features: int) -> bool:
    """Tell whether a pooler gives another embedding where it is told where the tiles lie.

    ``features`` is the D of the tiles that it was built for.
    """
    tiles = torch.linspace(-1.0, 1.0, 3 * features).reshape(1, 3, features)
    places = torch.tensor([[[0.0, 0.0], [0.0, 5.0], [7.0, 1.0]]])
    return not torch.equal(pooler(tiles).embedding, pooler(tiles, positions=places).embedding)


def fill_mask(features: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mask, all true where there is none."""
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device) if mask is None else mask


def blank_padding(features: torch.Tensor, mask: torch.Tensor, *, value: float = 0.0) -> torch.Tensor:
    """Return features (B, N, D) with padding overwritten; padding may hold anything, also what is not a number."""
    return features.masked_fill(~mask[..., None], value)


def weigh_tiles(mask: torch.Tensor, coverage: torch.Tensor | None) -> torch.Tensor:
    """Return weights (B, N) of the tiles before a pooler's own: coverage, 1 without it, 0 on padding.

    A bag in which nothing is covered weighs all its tiles alike.
    """
    real = mask.to(torch.float32)
    if coverage is None:
        return real
    weights = coverage.to(torch.float32).masked_fill(~mask, 0.0)
    return torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, real)


def masked_softmax(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Compute ``w exp(s) / sum(w exp(s))`` over the last dimension of (..., N); exactly 0 where the weight is, as on
    padding.

    ``weights`` (broadcast) are those of `weigh_tiles`, or a mask.
    """
    nothing = scores.masked_fill(weights == 0, float("-inf"))  # a score there may be anything, also not a number
    return (nothing + weights.masked_fill(weights == 0, 1).log()).softmax(dim=-1)


@POOLERS.register("mean", summary="mean of the tile embeddings")
class MeanPooler(Pooler):
    """Mean over real tiles, weighted by coverage where that is given."""

    weighs = True

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, D); without coverage every tile has the same share."""
        mask = fill_mask(features, mask)
        if coverage is not None:
            weights = weigh_tiles(mask, coverage)
            shares = weights / weights.sum(dim=1, keepdim=True)
            return Pooled(torch.einsum("bn,bnd->bd", shares.to(features.dtype), blank_padding(features, mask)), shares)
        count = mask.sum(dim=1, keepdim=True)
        return Pooled(blank_padding(features, mask).sum(dim=1) / count, mask / count)


@POOLERS.register("max", summary="largest value of each embedding dimension over the tiles")
class MaxPooler(Pooler):
    """Maximum over real tiles; a tile's share is that of the dimensions in which it is the largest."""

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, D)."""
        mask = fill_mask(features, mask)
        filled = blank_padding(features, mask, value=float("-inf"))
        top = filled.amax(dim=1)
        largest = filled == top[:, None]
        return Pooled(top, (largest / largest.sum(dim=1, keepdim=True)).mean(dim=2))


@POOLERS.register("topk", summary="mean of the k largest values of each embedding dimension over the tiles")
class TopKPooler(Pooler):
    """Between maximum (k = 1) and mean (k = N)."""

    def __init__(self, features: int, classes: int, *, k: int = 4) -> None:
        super().__init__(features, classes)
        self.k = k

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, D); bags of fewer than k tiles take all of theirs."""
        mask = fill_mask(features, mask)
        filled = blank_padding(features, mask, value=float("-inf"))
        top, where = filled.topk(min(self.k, features.shape[1]), dim=1)  # (B, k, D)
        real = mask.gather(1, where.flatten(1)).reshape(where.shape)
        counts = real.sum(dim=1)  # (B, D)
        share = torch.zeros_like(filled).scatter_(1, where, real.to(filled.dtype))
        embedding = top.masked_fill(~real, 0.0).sum(dim=1) / counts
        return Pooled(embedding, (share / counts[:, None]).mean(dim=2))


@POOLERS.register(
    "logsumexp",
    summary="smooth maximum of each embedding dimension over the tiles",
    reference="log-sum-exp pooling, Ramon & De Raedt 2000",
)
class LogSumExpPooler(Pooler):
    """``log(mean(exp(r x))) / r``: the mean for r to 0, the maximum for r to infinity; the mean may be weighted."""

    weighs = True

    def __init__(self, features: int, classes: int, *, r: float = 4.0) -> None:
        super().__init__(features, classes)
        self.r = r

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, D); a tile's share is its softmax weight, mean over dimensions."""
        mask = fill_mask(features, mask)
        weights = weigh_tiles(mask, coverage).to(features.dtype)
        scaled = blank_padding(self.r * features, mask, value=float("-inf")) + weights.log()[..., None]
        total = weights.sum(dim=1, keepdim=True)
        return Pooled((scaled.logsumexp(dim=1) - total.log()) / self.r, scaled.softmax(dim=1).mean(dim=2))


@POOLERS.register("mean_spread", summary="mean and standard deviation of each embedding dimension over the tiles")
class MeanSpreadPooler(Pooler):
    """What tiles have in common and how much they differ; the spread of a single tile is 0.

    Both are weighted by coverage where that is given.
    """

    weighs = True

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(2 * features, classes)

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, 2 D), the means first."""
        mean, rest, shares = _center_tiles(features, mask, coverage)
        variance = torch.einsum("bn,bnd->bd", shares.to(features.dtype), rest.square())
        return Pooled(torch.cat([mean, signed_root(variance)], dim=1), shares)


@POOLERS.register(
    "covariance",
    summary="mean of the tile embeddings, and the covariance of k fixed random projections of them",
    reference="Carreira et al. 2012; signed square root of Lin et al. 2015",
)
class CovariancePooler(Pooler):
    """Second-order pooling: which directions of the embedding vary together over the tiles of an image.

    Directions are k orthonormal ones, drawn at random but the same for all images, folds and machines, since D
    dimensions have D (D + 1) / 2 covariances; they are saved with the network. A single tile varies in none.
    """

    weighs = True
    directions: torch.Tensor

    def __init__(self, features: int, classes: int, *, k: int = 16) -> None:
        if k < 1:
            raise ValueError(f"k is a number of directions, 1 or more, not {k}")
        k = min(k, features)
        super().__init__(features + k * (k + 1) // 2, classes)
        drawn = torch.randn(features, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.register_buffer("directions", torch.linalg.qr(drawn).Q.float())

    def forward(
        self,
        features: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        coverage: torch.Tensor | None = None,
    ) -> Pooled:
        """Pool (B, N, D) to (B, D + k (k + 1) / 2): means, then the upper triangle of roots of covariances."""
        mean, rest, shares = _center_tiles(features, mask, coverage)
        seen = rest @ self.directions.to(rest.dtype)
        covariance = torch.einsum("bn,bni,bnj->bij", shares.to(rest.dtype), seen, seen)
        rows, cols = torch.triu_indices(*covariance.shape[1:], device=covariance.device).unbind()
        return Pooled(torch.cat([mean, signed_root(covariance[:, rows, cols])], dim=1), shares)


def _center_tiles(
    features: torch.Tensor, mask: torch.Tensor | None, coverage: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weighted mean (B, D) of tiles (B, N, D), their differences from it, and their shares (B, N)."""
    mask = fill_mask(features, mask)
    weights = weigh_tiles(mask, coverage)
    shares = weights / weights.sum(dim=1, keepdim=True)
    tiles = blank_padding(features, mask)
    mean = torch.einsum("bn,bnd->bd", shares.to(features.dtype), tiles)
    return mean, blank_padding(tiles - mean[:, None], mask), shares


def signed_root(values: torch.Tensor) -> torch.Tensor:
    """Compute ``sign(x) sqrt(|x|)``, without an endless slope at 0: there it is 0 and takes no gradient."""
    some = values.abs() > torch.finfo(values.dtype).tiny
    return torch.where(some, values.sign() * torch.where(some, values.abs(), 1.0).sqrt(), 0.0)
