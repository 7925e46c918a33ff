"""Phase ``finetune``: the whole network on augmented tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch.optim.swa_utils import update_bn

from ... import recipe
from ...models import MaskFeatures, Network, Norm, ParameterGroup, build_groups, open_stage
from ...samples import (
    Augmentation,
    BagBatches,
    Batch,
    Policy,
    Share,
    StainMaps,
    Transform,
    apply_transform,
    identity_transform,
    iterate_ahead,
    mix_pixels,
    mix_targets,
    normalise_tiles,
    pair_bags,
)
from ...tile import TileStore
from ...types import InputSpec
from ..forward import score_bags
from ..maskfeatures import MaskFeatureSource
from ..optim.losses import measure_divergence
from ..ranks.joining import join_rows, join_step
from .transfer import Forward

VIEWS = 3  # of a tile, where predictions have to agree: as it is, and two augmented ones (Hendrycks et al. 2020)


@dataclass
class FinetuneTask:
    """The whole network on drawn tiles, opened stage by stage; tiles are seen after their map of ``stains``.

    Where several processes train together, each draws all images of a step, takes its share of them through the
    network, and has the logits of all.
    """

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
    augmentation: Augmentation
    stains: StainMaps | None = None

    def __post_init__(self) -> None:
        self.forward = self.fabric.setup_module(self.module)
        self._augment = self.augmentation
        self._strength = self.phase.strength_start
        self._guides = MaskFeatureSource.open(self.store, self.module.reader)
        self._share = Share(self.fabric.global_rank, self.fabric.world_size)
        if self.phase.pixel_mixing == "none":  # what is mixed with an image of another process has to be read here too
            self.batches = replace(self.batches, share=self._share)

    def reestimate(self, rng: np.random.Generator) -> None:
        """Measure the statistics of batch normalisation anew: their mean over the batches of one pass, unaugmented."""
        plain = (restain(batch, self.stains) for batch in self.batches.draw(rng))
        update_bn(map(self._normalise, plain), self.module.backbone)

    def _normalise(self, batch: Batch) -> torch.Tensor:
        """Return the input of the backbone (B * N, 3 or 4, H, W), on the device; a mask that only mixing wanted is left
        out."""
        tiles = torch.from_numpy(batch.tiles)[..., : 4 if self.module.takes_mask else 3]
        return normalise_tiles(tiles.flatten(0, 1).to(self.fabric.device), spec=self.spec)

    def list_groups(self) -> list[ParameterGroup]:
        """Return backbone, pooler and head, the rate falling towards the stem."""
        return build_groups(self.module.backbone, self.module.reader, layer_decay=self.phase.layer_decay)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Open the layers of this epoch's stage; the strength grows linearly over the phase."""
        stage = 1 + epoch * self.phase.stages // epochs
        self.module.train()
        open_stage(self.module.backbone, stage=stage, stages=self.phase.stages, norm=self.norm)
        self._set_moment(epoch / max(1, epochs - 1))

    def _set_moment(self, share: float) -> None:
        """The strength grows linearly over the phase; a policy has stages."""
        if isinstance(self.augmentation, Policy):
            self._augment = self.augmentation.at(share)
        self._strength = (1 - share) * self.phase.strength_start + share * self.phase.strength_end

    def show_tiles(self, bags: NDArray[np.int64], *, draws: int) -> NDArray[np.uint8]:
        """Return a tile of each of n bags (n, 1 + 2 * draws, H, W, 3): as it is, ``draws`` times as the first epoch
        makes it, and as often as the last does."""
        rng = np.random.default_rng(0)
        rows = np.array([[self.store.rows(int(bag)).start] for bag in bags])
        tiles = self.store.read_tiles(rows.ravel(), masked=False)[:, None]
        classes = torch.zeros(len(bags))
        batch = Batch(tiles, np.zeros((*rows.shape, 2), np.float32), classes, bags, rows, classes)
        columns = [restain(batch, self.stains).tiles]
        for share in (0.0, 1.0):
            self._set_moment(share)
            transforms = (self._draw_transform(batch, rng) for _ in range(draws))
            columns += [transform_tiles(batch, t, self.stains) for t in transforms]
        return np.concatenate(columns, axis=1)

    def draw_batches(self, rng: np.random.Generator) -> Iterator[tuple[Forward, torch.Tensor]]:
        """Yield augmented tiles, read and augmented one step ahead."""
        colours = np.random.default_rng(rng.integers(2**63))
        device = self.fabric.device
        for batch, guide in iterate_ahead(self.augment_batches(rng, colours)):
            images = self._normalise(batch)
            targets, places = batch.targets.to(device), torch.from_numpy(batch.places).to(device)
            whole = batch.whole.to(device)
            guide = None if guide is None else guide.to(device)
            forward: Callable[..., tuple[torch.Tensor, torch.Tensor | None]] = (
                self._agree if self.phase.consistency else self.forward
            )
            step = partial(forward, images, batch.tiles.shape[1], places, targets, guide)
            yield partial(join_step, step, self._share, len(whole)), whole

    def augment_batches(
        self, rng: np.random.Generator, colours: np.random.Generator
    ) -> Iterator[tuple[Batch, MaskFeatures | None]]:
        """Yield batches of one pass, their tiles augmented, and what the mask says about them, turned along.

        With ``consistency`` tiles are (3 * B, N, H, W, C): as they are but for their turns, then augmented twice.
        """
        for batch in self.batches.draw(rng):
            transform = self._draw_transform(batch, colours)
            guide = self._guides.read(batch.bags, batch.rows, turns=transform.turns)
            transforms = [transform]
            if self.phase.consistency:
                plain = replace(identity_transform(*batch.rows.shape), turns=transform.turns)
                again = replace(self._draw_transform(batch, colours), turns=transform.turns)
                transforms = [plain, transform, again]
            batch = replace(batch, tiles=np.concatenate([transform_tiles(batch, t, self.stains) for t in transforms]))
            if (way := self.phase.pixel_mixing) != "none":  # what the guide says about shapes stays
                pairing = pair_bags(len(batch.tiles), alpha=self.phase.pixel_alpha, rng=colours)
                tiles, kept = mix_pixels(batch.tiles, pairing, way=way, rng=colours)
                targets = mix_targets(batch.targets, pairing, kept=kept, classes=self.classes)
                part = self._share.of(len(tiles))
                batch = replace(batch, tiles=tiles, targets=targets, whole=targets).take(part)
                guide = None if guide is None else MaskFeatures(*(None if v is None else v[part] for v in guide))
            yield batch, guide

    def _draw_transform(self, batch: Batch, colours: np.random.Generator) -> Transform:
        """Draw for all images of the step, and return what happens to those of the batch."""
        drawn = self._augment(len(batch.whole), batch.rows.shape[1], self._strength, colours)
        return drawn.take(self.batches.share.of(len(batch.whole)))

    def _agree(
        self,
        images: torch.Tensor,
        bag_tiles: int,
        places: torch.Tensor,
        targets: torch.Tensor,
        guide: MaskFeatures | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, C) of tiles as they are; the further loss is what the three views disagree about."""
        thrice = (
            None if guide is None else MaskFeatures(*(None if v is None else torch.cat([v] * VIEWS) for v in guide))
        )
        given = (torch.cat([places] * VIEWS), torch.cat([targets] * VIEWS), thrice)
        logits, extra = self.forward(images, bag_tiles, *given)
        views = logits.float().chunk(VIEWS)
        further = self.phase.consistency * measure_divergence(views)
        return views[0], further if extra is None else further + extra

    def score(self, part: Literal["inner", "watched"]) -> torch.Tensor:
        """Return logits (n, C) of the images of a part from all their tiles."""
        bags = self.inner_bags if part == "inner" else self.watched_bags
        mine = bags[self._share.of(len(bags))]
        logits = score_bags(self.module, self.store, mine, spec=self.spec, fabric=self.fabric, stains=self.stains)
        return join_rows(logits.to(self.fabric.device), self._share, len(bags)).cpu()


def transform_tiles(batch: Batch, transform: Transform, stains: StainMaps | None) -> NDArray[np.uint8]:
    """Return the tiles of a batch after a transform, its amounts of stain in the frames of ``stains`` where there are
    any."""
    maps = None if stains is None else stains.solve(batch.rows, transform.amounts)
    return apply_transform(batch.tiles, transform, maps=maps)


def restain(batch: Batch, stains: StainMaps | None) -> Batch:
    """Return a batch as the fold sees it, unaugmented."""
    return replace(batch, tiles=transform_tiles(batch, identity_transform(*batch.rows.shape), stains))
