"""Tiles of two images as one: MixUp, CutMix, and CutMix along the mask, after augmentation.

MixUp (Zhang et al. 2018) is a mean of pixels. CutMix (Yun et al. 2019) pastes a box of the partner's tile. Along the
mask, only what lies under the partner's mask in that box is pasted, and labels go by masked pixels instead of all, so
that glass and stroma carry no label (in the manner of attentive CutMix, Walawalkar et al. 2020, with a mask for the
attention). Tiles of a bag share their partner, not their box; the label of the bag is the mean over its tiles.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .mixing import Pairing
from .operations import read_colours, replace_colours

Tiles = NDArray[np.uint8]
Way = Literal["mixup", "cutmix", "mask_cutmix"]


def mix_pixels(
    tiles: Tiles, pairing: Pairing, *, way: Way, rng: np.random.Generator
) -> tuple[Tiles, NDArray[np.float64]]:
    """Mix each of B bags with its partner.

    Args:
        tiles: (B, N, H, W, 3 or 4), the fourth channel being the mask as 0 and 255; ``mask_cutmix`` needs it.

    Returns:
        New tiles of this shape, and (B,) the share of its own label that each bag keeps.
    """
    out = tiles.copy()
    kept = np.ones(tiles.shape[:2])
    for bag, tile in np.ndindex(*tiles.shape[:2]):
        partner, share = int(pairing.partners[bag]), float(pairing.shares[bag])
        if partner == bag:
            continue
        own, other = tiles[bag, tile], tiles[partner, tile]
        if way == "mixup":
            # A mean of the colours; the mask stays that of the image with the greater share.
            mixed = cv2.addWeighted(read_colours(own), share, read_colours(other), 1 - share, 0)
            out[bag, tile], kept[bag, tile] = replace_colours(own if share >= 0.5 else other, mixed), share
            continue
        pasted = draw_box(own.shape[:2], share=share, rng=rng)
        if way == "mask_cutmix":
            # The share of the own masked pixels among all that are masked now; everything pasted is.
            pasted &= other[..., 3] > 0
            left = int(((own[..., 3] > 0) & ~pasted).sum())
            total = left + int(pasted.sum())
            kept[bag, tile] = left / total if total else 1.0
        else:
            kept[bag, tile] = 1 - pasted.mean()
        out[bag, tile][pasted] = other[pasted]
    return out, kept.mean(axis=1)


def draw_box(size: tuple[int, ...], *, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw a mask (H, W), true in a box of ``1 - share`` of the area about an even centre, cut off at the edge."""
    box = np.zeros(size, dtype=bool)
    spans = []
    for side in size:
        half = side * np.sqrt(1 - share) / 2
        centre = rng.uniform(0, side)
        spans.append(slice(max(0, round(centre - half)), round(centre + half)))
    box[tuple(spans)] = True
    return box
