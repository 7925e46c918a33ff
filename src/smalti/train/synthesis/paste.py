"""Copy and paste: what is under the mask of an image, in surroundings of another case."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from ...samples import apply_map, match_axes, solve_map
from .drawers import DRAWERS, Drawer, Drawn, Material

LEAST_AROUND = 0.05  # share of its tiles that is not under the mask; with less an image has no surroundings to give


@DRAWERS.register(
    "paste",
    summary="what is under the mask of an image, in the surroundings of another case, which get its stain",
    reference="Ghiasi et al. 2021 (copy-paste); stain matched as stain.normalise does",
)
def build_paste(*, edge_px: float = 1.5) -> Drawer:
    """Build the drawer; ``edge_px`` is how far the edge of the mask is softened."""

    def draw(material: Material, rng: np.random.Generator) -> Iterator[Drawn]:
        store = material.store
        around = np.array([
            1 - store.coverage[store.rows(bag).start : store.rows(bag).stop].mean() for bag in material.bags
        ])  # fmt: skip
        for i, bag in enumerate(material.bags.tolist()):
            donors = np.flatnonzero((material.cases != material.cases[i]) & (around >= LEAST_AROUND))
            if not len(donors):
                continue
            j = int(rng.choice(donors))
            rows, others = (np.arange(store.rows(b).start, store.rows(b).stop) for b in (bag, int(material.bags[j])))
            share = np.maximum(1 - store.coverage[others].astype(np.float64), 1e-6)
            given = rng.choice(others, size=len(rows), p=share / share.sum())
            moved = match_stain(material, store.read_tiles(given), source=int(material.bags[j]), target=bag)
            tiles = blend(
                store.read_tiles(rows), store.read_masks(rows), moved, store.read_masks(given), edge_px=edge_px
            )
            yield Drawn(tiles, store.coverage[rows], int(material.targets[i]), np.array([i, j]))

    return draw


def match_stain(material: Material, tiles: NDArray[np.uint8], *, source: int, target: int) -> NDArray[np.uint8]:
    """Return tiles (n, H, W, 3) of one bag in the stain of another; as they are where a stain cannot be told."""
    frames = material.stains.staining.frames
    if np.isnan(frames[[source, target]]).any():
        return tiles
    reference = frames[target]
    solved = solve_map(match_axes(frames[source][None], reference)[0], reference).astype(np.float32)
    return np.stack([apply_map(tile, solved) for tile in tiles])


def blend(
    tiles: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    others: NDArray[np.uint8],
    other_masks: NDArray[np.uint8],
    *,
    edge_px: float,
) -> NDArray[np.uint8]:
    """Return tiles (n, H, W, 3) that keep what is under their masks; elsewhere they show what the others show outside
    of theirs, and themselves where the others have nothing such."""
    out = np.empty_like(tiles)
    for i, (tile, mask, other, other_mask) in enumerate(zip(tiles, masks, others, other_masks, strict=True)):
        keep = np.maximum(mask, other_mask).astype(np.float32)
        # Softened outward only, so that every pixel under the mask stays as it is.
        soft = np.maximum(cv2.GaussianBlur(keep, (0, 0), edge_px), keep) if edge_px > 0 else keep
        mixed = soft[..., None] * tile + (1 - soft[..., None]) * other
        out[i] = np.rint(mixed).astype(np.uint8)
    return out
