"""A backbone cut in two at its last maps, which is where Grad-CAM looks (Selvaraju et al. 2017).

The lower part is run without gradients and the upper part with them, so that memory stays that of the last layers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from .intermediate import Stages


class UpperPart(nn.Module):
    """The part of a timm backbone above its last maps; of one that is read at its stages, the means over their maps.

    Maps are the output of ``forward_features``, in either memory order. Of a vision transformer they are the tokens of
    the patches before its last block: if the embedding is that of the class token, patches have no effect after it.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.in_block = isinstance(backbone, VisionTransformer)
        self.staged = isinstance(backbone, Stages)
        self.prefix = int(getattr(backbone, "num_prefix_tokens", 0))  # tokens that are no patches
        self.channels_last = str(getattr(backbone, "output_fmt", "")).endswith("NHWC")

    def run_lower(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the output of the lower part for tiles (M, 3, H, W), without gradients."""
        with torch.no_grad():
            if self.staged:
                # The maps of all stages on the finest grid, each with its own means.
                maps = self.backbone.read_maps(tiles)
                size = maps[0].shape[2:]
                laid = [nn.functional.interpolate(one, size, mode="nearest") for one in maps]
                # Where a grid is no multiple of another, cells are repeated unevenly; what that adds to the mean is
                # taken off.
                pairs = zip(laid, maps, strict=True)
                kept = [m - m.mean(dim=(2, 3), keepdim=True) + o.mean(dim=(2, 3), keepdim=True) for m, o in pairs]
                return torch.cat(kept, dim=1)
            if not self.in_block:
                return self.backbone.forward_features(tiles)
            seen: list[torch.Tensor] = []
            hook = self.backbone.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            try:
                self.backbone.forward_features(tiles)
            finally:
                hook.remove()
            return seen[0]

    def take_maps(self, lower: torch.Tensor) -> torch.Tensor:
        """Return the maps (M, K, H, W) in an output of the lower part."""
        if lower.ndim == 3:  # tokens (M, T, K)
            patches = lower[:, self.prefix :]
            side = math.isqrt(patches.shape[1])
            return patches.transpose(1, 2).unflatten(2, (side, side))
        return lower.permute(0, 3, 1, 2) if self.channels_last else lower

    def forward(self, maps: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
        """Return embeddings (M, D) of tiles with these maps (M, K, H, W); all else is as in ``lower``."""
        if lower.ndim == 3:
            values = torch.cat([lower[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)
        else:
            values = maps.permute(0, 2, 3, 1) if self.channels_last else maps
        if self.in_block:
            values = self.backbone.norm(self.backbone.blocks[-1](values))
        embedded: torch.Tensor = values.mean(dim=(2, 3)) if self.staged else self.backbone.forward_head(values)
        return embedded


def cut_backbone(backbone: nn.Module, tiles: torch.Tensor) -> tuple[UpperPart | None, str]:
    """Return the part above the last maps, or why there is none; tried out on tiles (M, 3, H, W)."""
    hooks = ("read_maps",) if isinstance(backbone, Stages) else ("forward_features", "forward_head")
    if not all(hasattr(backbone, hook) for hook in hooks):
        return None, f"{type(backbone).__name__} does not show its maps"
    part = UpperPart(backbone)
    lower = part.run_lower(tiles)
    patches = lower.shape[1] - part.prefix
    if lower.ndim not in (3, 4) or (lower.ndim == 3 and math.isqrt(patches) ** 2 != patches):
        return None, f"the last layer of {type(backbone).__name__} has no maps (its output is {tuple(lower.shape)})"
    if lower.ndim == 3 and not part.in_block and getattr(backbone, "global_pool", "") == "token":
        return None, f"{type(backbone).__name__} embeds a class token, on which no patch has an effect any more"
    return part, ""
