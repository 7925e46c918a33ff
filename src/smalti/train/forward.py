"""From stored tiles to logits, all tiles of a bag, memory bounded whatever the bag size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from ..models import Network
from ..samples import StainMaps, apply_transform, iterate_ahead, normalise_tiles, view_transform
from ..tile import TileStore
from ..types import InputSpec
from .maskfeatures import MaskFeatureSource

CHUNK_TILES = 32


def score_bags(
    network: Network,
    store: TileStore,
    bags: NDArray[np.int64],
    *,
    spec: InputSpec,
    fabric: Fabric,
    views: int = 1,
    stains: StainMaps | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Return logits (n, C) of n bags from all their tiles; in eval mode; the mode of the network is restored.

    With more than one view the logits are the mean over the first ``views`` symmetries of the square, each applied to
    all tiles (test-time augmentation). Tiles are seen after their map of ``stains``, if there are any. A bag's result
    does not depend on the other bags: chunks never mix images.
    """
    rows: list[torch.Tensor] = []
    with at_rest(network), torch.inference_mode(), fabric.autocast():
        parts: list[list[torch.Tensor]] = [[] for _ in range(views)]
        guides = MaskFeatureSource.open(store, network.reader)
        for last, view, tiles in iterate_ahead(
            read_chunks(store, bags, views, masked=network.takes_mask, stains=stains)
        ):
            images = normalise_tiles(tiles.to(fabric.device), spec=spec)
            parts[view].append(network.backbone(images).float())
            if last:
                seen = torch.stack([torch.cat(part) for part in parts])
                bag = int(bags[len(rows)])
                places = torch.from_numpy(store.find_places(bag)).to(fabric.device)
                guide = guides.read_views(bag, views=views)
                guide = None if guide is None else guide.to(fabric.device)
                logits, _ = network.reader(seen, positions=places.expand(views, -1, -1), guide=guide)
                rows.append(logits.float().mean(dim=0).cpu())
                parts = [[] for _ in range(views)]
                if progress is not None:
                    progress(len(rows), len(bags))
    return torch.stack(rows) if rows else torch.empty(0, network.head.linear.out_features)


@contextmanager
def at_rest(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode; afterwards the mode of each module is restored."""
    was_training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def read_chunks(
    store: TileStore, bags: NDArray[np.int64], views: int, *, masked: bool, stains: StainMaps | None = None
) -> Iterator[tuple[bool, int, torch.Tensor]]:
    """Yield views of chunks of tiles, bag by bag, each with whether it is the last of its bag, and its view.

    The one way by which tiles come to a network that scores or is explained.
    """
    for bag in bags:
        rows = store.rows(int(bag))
        for start in range(rows.start, rows.stop, CHUNK_TILES):
            stop = min(start + CHUNK_TILES, rows.stop)
            tiles = store.read_rows(start, stop, masked=masked)
            seen = (tiles if stains is None else stains.restain(tiles, start))[None]
            for view in range(views):
                turned = apply_transform(seen, view_transform(view, images=1, tiles=seen.shape[1]))[0]
                yield stop == rows.stop and view == views - 1, view, torch.from_numpy(turned)
