"""Where the evidence of an answer lies: what each tile would say if it were the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..explain import choose_scale, find_boxes, stitch_tiles
from ..predict import Rule
from ..samples import StainMaps
from ..train import embed_view
from .loaded import Bags, LoadedMember, find_stains

Heat = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TileMap:
    """Scores of a class, tile by tile, laid over the image.

    Attributes:
        heat: (H * scale, W * scale) from 0 to 1; NaN where no network looked.
        scale: map pixels per image pixel.
        networks: how many networks are in it. Those that read the mask say nothing of a tile alone, and those of
            members without a share in the answer are left out.
    """

    heat: Heat
    scale: float
    networks: int


def map_scores(
    members: tuple[LoadedMember, ...], bags: Bags, *, classes: tuple[str, ...], label: int, size_px: tuple[int, int]
) -> TileMap | None:
    """Return the map of class ``label``, the mean over networks; None where no network sees more than one tile.

    A network says of each tile what it would say of an image that is this tile, with its test-time views and the rules
    of its fold. All networks with a share in the answer count alike, whatever an ensemble weighs them by.

    Args:
        members: of the model.
        bags: the image, cut.
        classes: in the order of the scores.
        label: position of the class.
        size_px: (H, W) of the image.
    """
    scale = choose_scale(size_px)
    heats = []
    for loaded in members:
        if loaded.backbone is None or not loaded.votes or len(store := bags.stores[loaded.tiling]) < 2:
            continue
        rules = {
            (r.seed, r.fold): Rule(r.temperature, tuple(r.weights[c] for c in classes)) for r in loaded.member.rules
        }
        for row in loaded.member.networks:
            network = loaded.network_of[row.seed, row.fold]
            if network.weighs or network.branch is not None or network.takes_mask:
                continue
            stains: StainMaps = find_stains(loaded, row, store)
            module = network.backbone if loaded.recipe.own_backbones else loaded.module
            assert module is not None  # a member with networks has a backbone
            views = []
            for view in range(loaded.recipe.predict.views):
                parts = embed_view(
                    module, loaded.backbone, store, view=view, stains=stains, device=loaded.fabric.device
                )
                tiles = torch.from_numpy(np.concatenate([part for _, part in parts])).to(loaded.fabric.device)
                with torch.inference_mode():
                    views.append(network.reader(tiles[:, None])[0])  # each tile is a bag of its own
            plain = torch.stack(views).mean(dim=0).double().softmax(dim=1).cpu().numpy()
            scores = rules[row.seed, row.fold].apply(plain)[:, label].astype(np.float32)
            heats.append(stitch_tiles(scores, find_boxes(store, 0), size_px=size_px, scale=scale))
    if not heats:
        return None
    stacked = np.stack(heats)
    seen = ~np.isnan(stacked)
    counts = seen.sum(axis=0)
    total = np.where(seen, stacked, 0).sum(axis=0)
    heat = np.divide(total, counts, out=np.full(total.shape, np.nan, dtype=np.float32), where=counts > 0)
    return TileMap(heat.astype(np.float32), scale, len(heats))
