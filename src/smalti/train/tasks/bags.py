"""Bags of stored tile features as the task of phase ``transfer``, for a pooler that learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ... import recipe
from ...models import TILE_WIDTH, BagReader, LearnedPooler, MaskFeatures, fit_scale
from ...samples import draw_images, measure_step, mix_targets, pair_bags, split_tiles
from ..features import Features, GivenFeatures
from ..maskfeatures import PADDING, MaskFeatureSource
from .transfer import Forward, FrozenTask

SCORED_TILES = 20_000  # padded tiles of the bags that are scored together; 100 MB at 1,280 dimensions
SCALE_TILES = 50_000  # tiles that mean and scale are taken from

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PaddedBags:
    """B bags side by side: features (B, N, D), mask (B, N), positions (B, N, 2) in tile sides, what the mask says."""

    features: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    guide: MaskFeatures | None = None

    def to(self, device: torch.device) -> PaddedBags:
        """Return the same on another device."""
        guide = None if self.guide is None else self.guide.to(device)
        return PaddedBags(self.features.to(device), self.mask.to(device), self.positions.to(device), guide)

    def join(self, other: PaddedBags) -> PaddedBags:
        """Lay each bag beside one of ``other`` as one bag; of mask features only the coverage is kept."""
        step = torch.from_numpy(measure_step(self.positions.numpy()))
        shares = [p.guide.coverage for p in (self, other) if p.guide is not None and p.guide.coverage is not None]
        guide = MaskFeatures(torch.cat(shares, dim=1)) if shares else None
        return PaddedBags(
            torch.cat([self.features, other.features], dim=1),
            torch.cat([self.mask, other.mask], dim=1),
            torch.cat([self.positions, other.positions + step[:, None]], dim=1),
            guide,
        )


def pad_bags(
    features: Features,
    bags: Sequence[int] | Rows,
    *,
    rows: Sequence[Rows],
    view: int,
    guides: MaskFeatureSource | None = None,
) -> PaddedBags:
    """Return chosen tiles of some bags.

    Args:
        features: of the store.
        bags: positions in the store.
        rows: of each bag, the places of the tiles to take, counted from its first tile.
        view: which stored view.
        guides: where to read what the mask says, for a reader that asks.
    """
    longest = max(len(chosen) for chosen in rows)
    values = torch.zeros(len(bags), longest, features.size)
    places = torch.zeros(len(bags), longest, 2)
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    stored = np.full((len(bags), longest), PADDING, dtype=np.int64)
    for i, (bag, chosen) in enumerate(zip(np.asarray(bags).tolist(), rows, strict=True)):
        features.read_rows(bag, chosen, view=view, out=values[i, : len(chosen)].numpy())
        places[i, : len(chosen)] = torch.from_numpy(features.store.find_places(bag)[chosen])
        mask[i, : len(chosen)] = True
        stored[i, : len(chosen)] = features.store.rows(bag).start + chosen
    if guides is None:
        return PaddedBags(values, mask, places)
    guide = guides.read(np.asarray(bags, dtype=np.int64), stored, turns=np.full(stored.shape, view, dtype=np.int64))
    return PaddedBags(values, mask, places, guide)


def read_bags(reader: BagReader, features: Features, bags: NDArray[np.int64], *, views: int = 1) -> torch.Tensor:
    """Return logits (n, C) of all tiles of n bags, the mean over ``views``; the mode of the reader is restored."""
    was_training = reader.training
    reader.eval()
    guides = MaskFeatureSource.open(features.store, reader)
    device = next(reader.parameters()).device
    # As many bags together, in their order, as fit `SCORED_TILES` when padded.
    groups: list[list[int]] = []
    longest = 0
    large: dict[int, torch.Tensor] = {}  # position among the bags -> logits
    for at, bag in enumerate(bags.tolist()):
        if isinstance(features, GivenFeatures) and reader.branch is None:
            with torch.inference_mode():
                embedding = features.pool_bag(bag, reader.pooler)
                if embedding is not None:
                    large[at] = reader.head(embedding[None])[0].float().cpu()
                    continue
        longest = max(longest, features.store.count(bag))
        if not groups or longest * (len(groups[-1]) + 1) > SCORED_TILES:
            groups.append([])
            longest = features.store.count(bag)
        groups[-1].append(bag)
    logits: list[torch.Tensor] = []
    with torch.inference_mode():
        for group in groups:
            rows = [np.arange(features.store.count(bag)) for bag in group]
            seen = []
            for view in range(views):
                padded = pad_bags(features, group, rows=rows, view=view, guides=guides).to(device)
                seen.append(reader(padded.features, padded.mask, padded.positions, guide=padded.guide)[0])
            logits.append(torch.stack(seen).mean(dim=0).float().cpu())
    reader.train(was_training)
    found = torch.cat(logits) if logits else torch.empty(0, reader.head.linear.out_features)
    for at in sorted(large):
        found = torch.cat([found[:at], large[at][None], found[at:]])
    return found


@dataclass
class BagTask(FrozenTask):
    """Pooler and head on frozen tile features.

    Attributes:
        features: of every tile, on disk.
        bags: position in the store of each training image.
        targets: (n,) their classes.
        inner_bags, watched_bags: positions of the images that choose, and of those that are only watched.
        phase: views, images and tiles a step, and the share of tiles left out.
        chances: (n,) of each training image at each draw; None takes each once in a pass.
    """

    module: BagReader
    features: Features
    bags: NDArray[np.int64]
    targets: torch.Tensor
    inner_bags: NDArray[np.int64]
    watched_bags: NDArray[np.int64]
    phase: recipe.Transfer
    chances: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._guides = MaskFeatureSource.open(self.features.store, self.module)

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Yield batches with one view and a choice of tiles for each image; with ``bag_mixing`` some are a
        partner's."""
        device = self.fabric.device
        for chosen in draw_images(len(self.bags), self.phase.batch_images, rng=rng, chances=self.chances):
            bags = self.bags[chosen]
            rows = [self._draw_rows(bag, rng) for bag in bags.tolist()]
            view = int(rng.integers(self.phase.views))
            read = partial(pad_bags, self.features, view=view, guides=self._guides)
            targets = self.targets[chosen]
            if self.phase.bag_mixing:
                pairing = pair_bags(len(bags), alpha=self.phase.bag_mixing, rng=rng)
                own, other, labels = [], [], []
                for mine, partner, share in zip(rows, pairing.partners, pairing.shares, strict=True):
                    kept, taken, label = split_tiles(len(mine), len(rows[partner]), share=share)
                    own.append(np.sort(rng.choice(mine, kept, replace=False)))
                    other.append(np.sort(rng.choice(rows[partner], taken, replace=False)))
                    labels.append(label)
                padded = read(bags, rows=own).join(read(bags[pairing.partners], rows=other))
                classes = self.module.head.linear.out_features
                targets = mix_targets(targets, pairing, kept=np.array(labels), classes=classes)
            else:
                padded = read(bags, rows=rows)
            padded = padded.to(device)
            given = (padded.features, padded.mask, padded.positions, targets, padded.guide)
            yield partial(self.forward, *given), targets

    def _draw_rows(self, bag: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return tiles of one step, in their order: at most ``tiles_per_image``, some dropped, never all."""
        count = self.features.store.count(bag)
        kept = count if self.phase.tiles_per_image is None else min(count, self.phase.tiles_per_image)
        kept = max(1, round(kept * (1 - self.phase.tile_dropout)))
        return np.sort(rng.choice(count, kept, replace=False))

    def score(self, part: Literal["inner", "watched"]) -> torch.Tensor:
        """Return logits (n, C) of the images of a part from all their tiles."""
        return read_bags(self.module, self.features, self.inner_bags if part == "inner" else self.watched_bags)


def fit_reader(reader: BagReader, features: Features, bags: NDArray[np.int64]) -> None:
    """Give the parts of a reader mean and scale of training bags; of their tiles an even choice of `SCALE_TILES`.

    With a branch, the branch standardises tiles, and its fusion the embeddings of a pooler that does not learn.
    """
    pooler, branch = reader.pooler, reader.branch
    counts = [features.store.count(int(bag)) for bag in bags]
    step = max(1, -(-sum(counts) // SCALE_TILES))
    chosen = [features.read_rows(int(bag), np.arange(0, n, step)) for bag, n in zip(bags, counts, strict=True)]
    tiles = torch.from_numpy(np.concatenate(chosen))
    if branch is None:
        if isinstance(pooler, LearnedPooler):
            fit_scale(pooler, tiles)
        return
    fit_scale(branch, tiles)
    if pooler.learns:
        return
    pooled = []
    for bag in bags.tolist():
        ready = (torch.from_numpy(features.read_bag(bag)).to(branch.center.device) - branch.center) / branch.scale
        ready = F.pad(ready, (0, TILE_WIDTH))  # what the branch adds stays 0 here, since it changes in training
        coverage = torch.from_numpy(features.read_coverage(bag))[None].to(ready.device) if reader.weighs else None
        pooled.append(pooler(ready[None], coverage=coverage).embedding[0])
    fit_scale(branch.fusion, torch.stack(pooled))
