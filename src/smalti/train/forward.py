"""From stored tiles to logits, all tiles of a bag, memory bounded whatever the bag size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ..models import Network
from ..samples import iterate_ahead, normalise_tiles
from ..tile import TileStore
from ..types import InputSpec

CHUNK_TILES = 32


def score_bags(
    network: Network,
    store: TileStore,
    bags: NDArray[np.int64],
    *,
    spec: InputSpec,
    fabric: Fabric,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Logits (n, C) of n bags from all their tiles; the network is put in eval mode and left as it was.

    A bag's result does not depend on the other bags: chunks never mix images.
    """
    was_training = {m for m in network.modules() if m.training}
    network.eval()
    rows: list[torch.Tensor] = []
    with torch.inference_mode(), fabric.autocast():
        parts: list[torch.Tensor] = []
        for last, tiles in iterate_ahead(_read_chunks(store, bags)):
            images = normalise_tiles(tiles.to(fabric.device), spec=spec)
            parts.append(network.backbone(images).float())
            if last:
                rows.append(network.head(network.pooler(torch.cat(parts)[None]))[0].float().cpu())
                parts = []
                if progress is not None:
                    progress(len(rows), len(bags))
    for module in was_training:
        module.training = True
    return torch.stack(rows) if rows else torch.empty(0, network.head.linear.out_features)


def _read_chunks(store: TileStore, bags: NDArray[np.int64]) -> Iterator[tuple[bool, torch.Tensor]]:
    """Chunks of tiles, bag by bag, each with whether it is the last of its bag."""
    for bag in bags:
        rows = store.rows(int(bag))
        for start in range(rows.start, rows.stop, CHUNK_TILES):
            stop = min(start + CHUNK_TILES, rows.stop)
            yield stop == rows.stop, torch.from_numpy(store.read_rows(start, stop))
