"""What pooler and head say about the single tiles of one image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..models import AdditivePooler, BagReader, Guide

READ_TILES = 20_000  # tiles of the bags that are read together; 100 MB at 1,280 dimensions


@dataclass(frozen=True, slots=True)
class TileBag:
    """One image as a reader takes it.

    Attributes:
        features: (N, D) embeddings of its tiles.
        places: (N, 2) where they lie, in tile sides.
        guide: what the mask says about this one bag; None where no part of the network asks.
    """

    features: torch.Tensor
    places: torch.Tensor
    guide: Guide | None = None

    def take(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Guide | None]:
        """Features, places and guide of M bags of k of its tiles, for ``rows`` (M, k)."""
        guide = self.guide
        if guide is not None:
            count = len(rows)
            guide = Guide(
                coverage=None if guide.coverage is None else guide.coverage[0, rows],
                rasters=None if guide.rasters is None else guide.rasters[0, rows],
                outlines=None if guide.outlines is None else guide.outlines.expand(count, -1, -1),
                shapes=None if guide.shapes is None else guide.shapes.expand(count, -1),
            )
        return self.features[rows], self.places[rows], guide


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reader says about a bag of N tiles.

    Attributes:
        logits: (C,) of the bag.
        attention: (N,) share of each tile in the embedding of the image.
        by_class: (C, N) the same of each class, of a pooler that looks at each class apart; else None.
        contributions: (N, C) exact share of each tile in each logit, of the pooler ``additive``; else None.
        alone: (N, C) logits of each tile as if it were the whole image.

    Contributions and logits of single tiles are centred over the classes: what is added to all of them alike changes no
    score.
    """

    logits: torch.Tensor
    attention: torch.Tensor
    by_class: torch.Tensor | None
    contributions: torch.Tensor | None
    alone: torch.Tensor

    def take_map(self, kind: str, shown: int) -> torch.Tensor:
        """The values (N,) of one kind (`choose_kind`) for class ``shown``; shares as multiples of an even share."""
        if kind == "contribution" and self.contributions is not None:
            return self.contributions[:, shown]
        if kind == "class attention" and self.by_class is not None:
            return self.by_class[shown] * len(self.attention)
        return self.alone[:, shown] if kind == "evidence" else self.attention * len(self.attention)


def choose_kind(reader: BagReader, reading: Reading) -> str:
    """What is shown of a network: the most exact that its pooler has.

    ``contribution`` of an additive pooler, ``class attention`` of one that looks at each class apart, ``attention`` of
    any other that learns; ``evidence``, the logit of the tile alone, where no share is learned.
    """
    if reading.contributions is not None:
        return "contribution"
    if not reader.pooler.learns:
        return "evidence"
    return "attention" if reading.by_class is None else "class attention"


def read_tiles(reader: BagReader, bag: TileBag) -> Reading:
    """Everything that a reader says about the tiles of a bag."""
    with torch.inference_mode():
        features, places, guide = bag.take(torch.arange(len(bag.features))[None])
        real = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        logits, pooled = reader.read(features, real, positions=places, guide=guide)
        shares = None
        if isinstance(reader.pooler, AdditivePooler) and reader.branch is None:
            # The head standardises what it gets; the mean that it takes off is the same for every class' comparison.
            shares = reader.pooler.contributions(pooled, reader.head.linear.weight / reader.head.scale)[0]
            shares = shares - shares.mean(dim=1, keepdim=True)
        alone = score_subsets(reader, bag, torch.arange(len(bag.features))[:, None])
        by_class = None if pooled.class_attention is None else pooled.class_attention[0].float()
        alone = alone - alone.mean(dim=1, keepdim=True)
        return Reading(logits[0].float(), pooled.attention[0].float(), by_class, shares, alone)


def score_subsets(reader: BagReader, bag: TileBag, rows: torch.Tensor) -> torch.Tensor:
    """Logits (M, C) of M bags of k tiles of an image, for ``rows`` (M, k)."""
    together = max(1, READ_TILES // rows.shape[1])
    with torch.inference_mode():
        parts = []
        for chosen in rows.split(together):
            features, places, guide = bag.take(chosen)
            parts.append(reader(features, positions=places, guide=guide)[0].float())
    return torch.cat(parts)


def find_gradients(reader: BagReader, bag: TileBag, classes: Sequence[int]) -> torch.Tensor:
    """Gradient of the bag's logit of each class by the embeddings of its tiles, (K, N, D)."""
    return torch.stack(list(_iterate_gradients(reader, bag, classes)))


def _iterate_gradients(reader: BagReader, bag: TileBag, classes: Sequence[int]) -> Iterator[torch.Tensor]:
    for name in classes:
        features, places, guide = bag.take(torch.arange(len(bag.features))[None])
        features = features.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits, _ = reader(features, positions=places, guide=guide)
            yield torch.autograd.grad(logits[0, name], features)[0][0]
