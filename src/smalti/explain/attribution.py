"""Attributions of single tiles: the answer of pooler and head to the tiles of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..models import AdditivePooler, BagReader, MaskFeatures, UpperPart

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
    guide: MaskFeatures | None = None

    def take(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, MaskFeatures | None]:
        """Return features, places and guide of M bags of k of its tiles, for ``rows`` (M, k)."""
        guide = self.guide
        if guide is not None:
            count = len(rows)
            guide = MaskFeatures(
                coverage=None if guide.coverage is None else guide.coverage[0, rows],
                rasters=None if guide.rasters is None else guide.rasters[0, rows],
                outlines=None if guide.outlines is None else guide.outlines.expand(count, -1, -1),
                shapes=None if guide.shapes is None else guide.shapes.expand(count, -1),
            )
        return self.features[rows], self.places[rows], guide


@dataclass(frozen=True, slots=True)
class TileAttribution:
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
        """Return the values (N,) of one kind (`choose_kind`) for class ``shown``; shares as multiples of the mean."""
        if kind == "contribution" and self.contributions is not None:
            return self.contributions[:, shown]
        if kind == "class attention" and self.by_class is not None:
            return self.by_class[shown] * len(self.attention)
        return self.alone[:, shown] if kind == "evidence" else self.attention * len(self.attention)


def choose_kind(reader: BagReader, reading: TileAttribution) -> str:
    """Choose the attribution to show: the most exact one that the pooler has.

    ``contribution`` of an additive pooler, ``class attention`` of one that looks at each class apart, ``attention`` of
    any other that learns; ``evidence``, the logit of the tile alone, where no share is learned.
    """
    if reading.contributions is not None:
        return "contribution"
    if not reader.pooler.learns:
        return "evidence"
    return "attention" if reading.by_class is None else "class attention"


def read_tiles(reader: BagReader, bag: TileBag) -> TileAttribution:
    """Return logits and attributions of the tiles of a bag."""
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
        return TileAttribution(logits[0].float(), pooled.attention[0].float(), by_class, shares, alone)


def score_subsets(reader: BagReader, bag: TileBag, rows: torch.Tensor) -> torch.Tensor:
    """Return logits (M, C) of M bags of k tiles of an image, for ``rows`` (M, k)."""
    together = max(1, READ_TILES // rows.shape[1])
    with torch.inference_mode():
        parts = []
        for chosen in rows.split(together):
            features, places, guide = bag.take(chosen)
            parts.append(reader(features, positions=places, guide=guide)[0].float())
    return torch.cat(parts)


def find_gradients(reader: BagReader, bag: TileBag, classes: Sequence[int]) -> torch.Tensor:
    """Return the gradient (K, N, D) of the bag's logit of each class by the embeddings of its tiles."""
    found = []
    for name in classes:
        features, places, guide = bag.take(torch.arange(len(bag.features))[None])
        features = features.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits, _ = reader(features, positions=places, guide=guide)
            found.append(torch.autograd.grad(logits[0, name], features)[0][0])
    return torch.stack(found)


def find_cams(part: UpperPart, tiles: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return Grad-CAM (K, n, h, w) of n tiles for K classes, zero or above (Selvaraju et al. 2017).

    The logit of an image depends on its tiles through their embeddings alone. Its gradient by the maps of one tile is
    therefore that of the tile's embedding times the logit's gradient by this embedding, which the pooler gives for all
    tiles at once. So a bag of any size is explained exactly, share of the pooler included, a few tiles at a time.

    Args:
        part: of the backbone.
        tiles: (n, 3, H, W) normalised.
        wanted: (K, n, D) gradient of the bag's logit of each class by the embeddings of these tiles.
    """
    lower = part.run_lower(tiles)
    maps = part.take_maps(lower).detach().requires_grad_()
    with torch.enable_grad():
        embeddings = part(maps, lower)
    found = []
    for gradient in wanted:
        slopes = torch.autograd.grad(embeddings, maps, gradient, retain_graph=True)[0]
        found.append(torch.relu((slopes.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)).detach())
    return torch.stack(found)
