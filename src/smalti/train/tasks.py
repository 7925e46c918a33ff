"""What a phase learns on: the same face to the loop for stored features and for tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from .. import recipe
from ..models import Guide, Head, Network, Norm, ParameterGroup, build_groups, open_stage
from ..registry import read_options
from ..samples import (
    AUGMENTATIONS,
    BagBatches,
    Batch,
    StainMaps,
    apply_transform,
    iterate_ahead,
    mix_pixels,
    mix_targets,
    normalise_tiles,
    pair_bags,
)
from ..samples.batches import shuffle_batches
from ..tile import TileStore
from ..types import InputSpec
from .forward import score_bags
from .guides import GuideSource

# Logits (B, C) of one batch and a further loss where there is one; a sharpness-aware step asks twice.
Forward = Callable[[], tuple[torch.Tensor, torch.Tensor | None]]


class Task(Protocol):
    """The loop's view of a phase."""

    @property
    def fabric(self) -> Fabric:
        """Where and in which number format it learns."""

    @property
    def module(self) -> nn.Module:
        """What learns."""

    @property
    def forward(self) -> nn.Module:
        """The module as Fabric wraps it."""

    def list_groups(self) -> list[ParameterGroup]:
        """Parameters with their relative rates."""

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set modes, open layers, set the strength of augmentation."""

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Each batch's way to its logits, and its targets (B,), in one pass over the training images."""

    def score_inner(self) -> torch.Tensor:
        """Logits (n, C) of the inner images."""

    def score_watched(self) -> torch.Tensor:
        """Logits (m, C) of the watched images, which neither teach nor choose."""


@dataclass
class TransferTask:
    """A head on frozen image embeddings.

    Attributes:
        embeddings: (views, n, D) of the training images; a view is drawn for each image at each step.
        targets: (n,) their classes.
        inner, watched: (m, D) plain embeddings of the inner and of the watched images.
    """

    module: Head
    fabric: Fabric
    embeddings: torch.Tensor
    targets: torch.Tensor
    inner: torch.Tensor
    watched: torch.Tensor
    batch_images: int

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)

    def list_groups(self) -> list[ParameterGroup]:
        """The head alone."""
        named = dict(self.module.named_parameters())
        weights, biases = (named["linear.weight"],), (named["linear.bias"],)
        return [ParameterGroup(weights, 0, 1.0, True), ParameterGroup(biases, 0, 1.0, False)]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Dropout on."""
        self.module.train()

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """One view drawn for each image."""
        views, count, _ = self.embeddings.shape
        for chosen in shuffle_batches(count, self.batch_images, rng=rng):
            drawn = self.embeddings[rng.integers(0, views, len(chosen)), chosen]
            yield partial(self._forward, drawn), self.targets[chosen]

    def _forward(self, drawn: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.forward(drawn), None

    def score_inner(self) -> torch.Tensor:
        """Logits of the inner images."""
        return self._score(self.inner)

    def score_watched(self) -> torch.Tensor:
        """Logits of the watched images."""
        return self._score(self.watched)

    def _score(self, embeddings: torch.Tensor) -> torch.Tensor:
        self.module.eval()
        with torch.inference_mode():
            logits: torch.Tensor = self.forward(embeddings)
        return logits.cpu()


@dataclass
class FinetuneTask:
    """The whole network on drawn tiles, opened stage by stage; tiles are seen after their map of ``stains``."""

    module: Network
    fabric: Fabric
    spec: InputSpec
    norm: Norm
    store: TileStore
    batches: BagBatches
    inner_bags: NDArray[np.int64]
    watched_bags: NDArray[np.int64]
    phase: recipe.Finetune
    classes: int
    stains: StainMaps | None = None

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)
        self._augment = AUGMENTATIONS.build(self.phase.augmentation, **read_options(self.phase.augmentation_options))
        self._strength = self.phase.strength_start
        self._guides = GuideSource.open(self.store, self.module.reader)

    def list_groups(self) -> list[ParameterGroup]:
        """Backbone, pooler and head, the rate falling towards the stem."""
        return build_groups(self.module.backbone, self.module.reader, layer_decay=self.phase.layer_decay)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Open the layers of this epoch's stage; the strength grows linearly over the phase."""
        stage = 1 + epoch * self.phase.stages // epochs
        self.module.train()
        open_stage(self.module.backbone, stage=stage, stages=self.phase.stages, norm=self.norm)
        share = epoch / max(1, epochs - 1)
        self._strength = (1 - share) * self.phase.strength_start + share * self.phase.strength_end

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Augmented tiles, read and augmented one step ahead."""
        colours = np.random.default_rng(rng.integers(2**63))
        device = self.fabric.device
        for batch, guide in iterate_ahead(self.augment_batches(rng, colours)):
            tiles = torch.from_numpy(batch.tiles)
            images = normalise_tiles(tiles.flatten(0, 1).to(device), spec=self.spec)
            targets, places = batch.targets.to(device), torch.from_numpy(batch.places).to(device)
            guide = None if guide is None else guide.to(device)
            yield partial(self.forward, images, tiles.shape[1], places, targets, guide), targets

    def augment_batches(
        self, rng: np.random.Generator, colours: np.random.Generator
    ) -> Iterator[tuple[Batch, Guide | None]]:
        """Batches of one pass, their tiles augmented, and what the mask says about them, turned along."""
        for batch in self.batches.draw(rng):
            count, bag_tiles = batch.tiles.shape[:2]
            transform = self._augment(count, bag_tiles, self._strength, colours)
            guide = self._guides.read(batch.bags, batch.rows, turns=transform.turns)
            maps = None if self.stains is None else self.stains.solve(batch.rows, transform.amounts)
            batch = replace(batch, tiles=apply_transform(batch.tiles, transform, maps=maps))
            yield self._mix_pixels(batch, colours), guide

    def _mix_pixels(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Bags mixed with partners of the batch, where that is asked for; what a mask's geometry says stays."""
        if self.phase.pixel_mixing == "none":
            return batch
        pairing = pair_bags(len(batch.tiles), alpha=self.phase.pixel_alpha, rng=rng)
        tiles, kept = mix_pixels(batch.tiles, pairing, way=self.phase.pixel_mixing, rng=rng)
        targets = mix_targets(batch.targets, pairing, kept=kept, classes=self.classes)
        channels = 4 if self.module.takes_mask else 3
        return replace(batch, tiles=np.ascontiguousarray(tiles[..., :channels]), targets=targets)

    def score_inner(self) -> torch.Tensor:
        """Logits of the inner images from all their tiles."""
        return self._score(self.inner_bags)

    def score_watched(self) -> torch.Tensor:
        """Logits of the watched images from all their tiles."""
        return self._score(self.watched_bags)

    def _score(self, bags: NDArray[np.int64]) -> torch.Tensor:
        return score_bags(self.module, self.store, bags, spec=self.spec, fabric=self.fabric, stains=self.stains)
