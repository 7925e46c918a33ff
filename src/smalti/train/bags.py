"""Bags of stored tile features as training samples: what a pooler that learns needs in phase ``transfer``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from .. import recipe
from ..models import BagReader, LearnedPooler, ParameterGroup
from ..samples.batches import shuffle_batches
from .features import Features
from .tasks import Forward

SCORED_TILES = 20_000  # padded tiles of the bags that are scored together; 100 MB at 1,280 dimensions
SCALE_TILES = 50_000  # tiles that mean and scale are taken from


@dataclass(frozen=True, slots=True)
class PaddedBags:
    """B bags side by side: features (B, N, D), mask (B, N), positions (B, N, 2) in tile sides."""

    features: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor


def pad_bags(features: Features, bags: Sequence[int], *, rows: Sequence[NDArray[np.int64]], view: int) -> PaddedBags:
    """Chosen tiles of some bags.

    Args:
        features: of the store.
        bags: positions in the store.
        rows: of each bag, the places of the tiles to take, counted from its first tile.
        view: which stored view.
    """
    longest = max(len(chosen) for chosen in rows)
    values = torch.zeros(len(bags), longest, features.size)
    places = torch.zeros(len(bags), longest, 2)
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for i, (bag, chosen) in enumerate(zip(bags, rows, strict=True)):
        values[i, : len(chosen)] = torch.from_numpy(features.read_bag(bag, view=view)[chosen])
        places[i, : len(chosen)] = torch.from_numpy(features.store.find_places(bag)[chosen])
        mask[i, : len(chosen)] = True
    return PaddedBags(values, mask, places)


def read_bags(reader: BagReader, features: Features, bags: NDArray[np.int64], *, views: int = 1) -> torch.Tensor:
    """Logits (n, C) of all tiles of n bags, the mean over ``views``; the reader is left as it was."""
    was_training = reader.training
    reader.eval()
    device = next(reader.parameters()).device
    logits: list[torch.Tensor] = []
    with torch.inference_mode():
        for group in _group_bags(features, bags):
            rows = [np.arange(features.store.count(bag)) for bag in group]
            seen = []
            for view in range(views):
                padded = pad_bags(features, group, rows=rows, view=view)
                seen.append(reader(padded.features.to(device), padded.mask.to(device), padded.positions.to(device))[0])
            logits.append(torch.stack(seen).mean(dim=0).float().cpu())
    reader.train(was_training)
    return torch.cat(logits) if logits else torch.empty(0, reader.head.linear.out_features)


def _group_bags(features: Features, bags: NDArray[np.int64]) -> Iterator[list[int]]:
    """Bags in their order, as many together as fit `SCORED_TILES` when padded."""
    group: list[int] = []
    longest = 0
    for bag in bags.tolist():
        longest = max(longest, features.store.count(bag))
        if group and longest * (len(group) + 1) > SCORED_TILES:
            yield group
            group, longest = [], features.store.count(bag)
        group.append(bag)
    if group:
        yield group


@dataclass
class BagTask:
    """Pooler and head on frozen tile features.

    Attributes:
        features: of every tile, on disk.
        bags: position in the store of each training image.
        targets: (n,) their classes.
        inner_bags, watched_bags: positions of the images that choose, and of those that are only watched.
        phase: views, images and tiles a step, and the share of tiles left out.
    """

    module: BagReader
    fabric: Fabric
    features: Features
    bags: NDArray[np.int64]
    targets: torch.Tensor
    inner_bags: NDArray[np.int64]
    watched_bags: NDArray[np.int64]
    phase: recipe.Transfer

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)

    def list_groups(self) -> list[ParameterGroup]:
        """Pooler and head at one rate."""
        learned = [p for p in self.module.parameters() if p.requires_grad]
        weights = tuple(p for p in learned if p.ndim > 1)
        rest = tuple(p for p in learned if p.ndim <= 1)
        return [ParameterGroup(weights, 0, 1.0, True), ParameterGroup(rest, 0, 1.0, False)]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Dropout on."""
        self.module.train()

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """One view and a choice of tiles drawn for each image."""
        device = self.fabric.device
        for chosen in shuffle_batches(len(self.bags), self.phase.batch_images, rng=rng):
            bags = self.bags[chosen].tolist()
            rows = [self._draw_rows(bag, rng) for bag in bags]
            padded = pad_bags(self.features, bags, rows=rows, view=int(rng.integers(self.phase.views)))
            targets = self.targets[chosen]
            given = (padded.features.to(device), padded.mask.to(device), padded.positions.to(device), targets)
            yield partial(self.forward, *given), targets

    def _draw_rows(self, bag: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Tiles of one step, in their order: at most ``tiles_per_image``, some dropped, never all."""
        count = self.features.store.count(bag)
        kept = count if self.phase.tiles_per_image is None else min(count, self.phase.tiles_per_image)
        kept = max(1, round(kept * (1 - self.phase.tile_dropout)))
        return np.sort(rng.choice(count, kept, replace=False))

    def score_inner(self) -> torch.Tensor:
        """Logits of the inner images from all their tiles."""
        return read_bags(self.module, self.features, self.inner_bags)

    def score_watched(self) -> torch.Tensor:
        """Logits of the watched images from all their tiles."""
        return read_bags(self.module, self.features, self.watched_bags)


def fit_pooler(pooler: LearnedPooler, features: Features, bags: NDArray[np.int64]) -> None:
    """Give a pooler mean and scale of the tiles of training bags, an even choice of at most `SCALE_TILES`."""
    total = sum(features.store.count(int(bag)) for bag in bags)
    step = max(1, -(-total // SCALE_TILES))
    pooler.fit_scale(torch.from_numpy(np.concatenate([features.read_bag(int(bag))[::step] for bag in bags])))
