"""The parallel path: a second, small branch that reads the mask's geometry, of the whole image and tile by tile."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ..poolers.pooler import blank_padding
from .fusion import Fusion

TILE_WIDTH = 16  # dimensions that the mask in a tile adds to the embedding of the tile
MASK_WIDTH = 32  # of the geometry of the whole mask
FAR = 5.0  # standard deviations at which a descriptor is cut: one odd mask must not outshout all else


class MaskFeatures(NamedTuple):
    """What the mask says about B bags of N tiles; None where a network does not ask for it.

    A named tuple, since Fabric moves and casts those.

    Attributes:
        coverage: (B, N) share of each tile under the mask.
        rasters: (B, N, R, R) the mask in each tile, coverage of its cells, 0..1.
        outlines: (B, S, S) the whole mask, letterboxed, 0..1.
        shapes: (B, K) descriptors of the whole mask.
    """

    coverage: torch.Tensor | None = None
    rasters: torch.Tensor | None = None
    outlines: torch.Tensor | None = None
    shapes: torch.Tensor | None = None

    def to(self, device: torch.device) -> MaskFeatures:
        """Return the same on another device."""
        return MaskFeatures(*(None if value is None else value.to(device) for value in self))


class RasterEncoder(nn.Sequential):
    """Rasters (n, S, S) to (n, W): each convolution halves the side, then the mean over places."""

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GELU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, rasters: torch.Tensor) -> torch.Tensor:
        """Encode coverage 0..1, centred, since a mask of nothing should say nothing louder than one of everything."""
        encoded: torch.Tensor = super().forward(2 * rasters[:, None] - 1)
        return encoded


class MaskBranch(nn.Module):
    """Encodes the mask and fuses it late.

    Tiles (B, N, D) are standardised and get `TILE_WIDTH` further dimensions from the mask inside them. The whole mask,
    as a raster and as descriptors standardised on the training images, becomes `MASK_WIDTH` dimensions that ``fusion``
    joins to the pooled embedding.
    """

    center: torch.Tensor
    scale: torch.Tensor
    shape_center: torch.Tensor
    shape_scale: torch.Tensor

    def __init__(self, features: int, shapes: int, fusion: Fusion, *, dropout: float) -> None:
        super().__init__()
        for name, size in (("", features), ("shape_", shapes)):
            self.register_buffer(f"{name}center", torch.zeros(size))
            self.register_buffer(f"{name}scale", torch.ones(size))
        self.encode_tile = RasterEncoder(8, TILE_WIDTH)
        self.encode_mask = RasterEncoder(8, 16, MASK_WIDTH)
        self.describe = nn.Sequential(nn.Linear(MASK_WIDTH + shapes, MASK_WIDTH), nn.GELU(), nn.Dropout(dropout))
        self.fusion = fusion

    def join_tiles(self, features: torch.Tensor, mask: torch.Tensor, guide: MaskFeatures) -> torch.Tensor:
        """Return tiles (B, N, D + `TILE_WIDTH`), padding 0.

        Raises:
            ValueError: a guide without the masks of the tiles.
        """
        if guide.rasters is None:
            raise ValueError("the branch needs the mask of each tile")
        ready = (blank_padding(features, mask) - self.center) / self.scale
        encoded = self.encode_tile(guide.rasters.flatten(0, 1)).unflatten(0, mask.shape)
        return blank_padding(torch.cat([ready, encoded.to(ready.dtype)], dim=2), mask)

    def encode(self, guide: MaskFeatures) -> torch.Tensor:
        """Return the geometry (B, `MASK_WIDTH`) of the whole masks.

        Raises:
            ValueError: a guide without the whole masks.
        """
        if guide.outlines is None or guide.shapes is None:
            raise ValueError("the branch needs the whole mask and its descriptors")
        shapes = ((guide.shapes - self.shape_center) / self.shape_scale).clamp(-FAR, FAR)
        encoded: torch.Tensor = self.describe(torch.cat([self.encode_mask(guide.outlines), shapes], dim=1))
        return encoded
