"""A backbone cut in two at its last maps, which is where Grad-CAM looks (Selvaraju et al. 2017).

The lower part is run without gradients and the upper part with them, so that memory stays that of the last layers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from .stages import Stages


class UpperPart(nn.Module):
    """What of a timm backbone lies above its last maps; of one that is read at its stages, the means over their maps.

    Maps are the output of ``forward_features``, in either memory order. Of a vision transformer they are the tokens of
    the patches before its last block: where the embedding is that of the class token, no patch is heard after it.

    Attributes:
        tap: gets the maps, (M, K, H, W), and gives them back; Grad-CAM listens there.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.tap = nn.Identity()
        self.in_block = isinstance(backbone, VisionTransformer)
        self.staged = isinstance(backbone, Stages)

    def run_lower(self, tiles: torch.Tensor) -> torch.Tensor:
        """What the lower part makes of tiles (M, 3, H, W), without gradients."""
        with torch.no_grad():
            if self.staged:
                return _lay_over(self.backbone.read_maps(tiles))
            if not self.in_block:
                return self.backbone.forward_features(tiles)
            seen: list[torch.Tensor] = []
            hook = self.backbone.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            try:
                self.backbone.forward_features(tiles)
            finally:
                hook.remove()
            return seen[0]

    def forward(self, lower: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Embeddings of M tiles times ``wanted`` (M, D), summed, (M,).

        With the gradient of a bag's logit by the embeddings of its tiles for ``wanted``, the gradient of this is that
        of the logit.
        """
        above: torch.Tensor = self._embed(self._put_back(self.tap(self._take_maps(lower)), lower))
        return (above * wanted).sum(dim=1)

    def _embed(self, values: torch.Tensor) -> torch.Tensor:
        if self.in_block:
            values = self.backbone.norm(self.backbone.blocks[-1](values))
        if self.staged:
            return values.mean(dim=(2, 3))
        embedded: torch.Tensor = self.backbone.forward_head(values)
        return embedded

    def _take_maps(self, values: torch.Tensor) -> torch.Tensor:
        if values.ndim == 3:  # tokens (M, T, K)
            patches = values[:, self._count_prefix() :]
            side = math.isqrt(patches.shape[1])
            return patches.transpose(1, 2).unflatten(2, (side, side))
        return values.permute(0, 3, 1, 2) if self._is_channels_last() else values

    def _put_back(self, maps: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        if values.ndim == 3:
            return torch.cat([values[:, : self._count_prefix()], maps.flatten(2).transpose(1, 2)], dim=1)
        return maps.permute(0, 2, 3, 1) if self._is_channels_last() else maps

    def _count_prefix(self) -> int:
        return int(getattr(self.backbone, "num_prefix_tokens", 0))

    def _is_channels_last(self) -> bool:
        return str(getattr(self.backbone, "output_fmt", "")).endswith("NHWC")


def _lay_over(maps: list[torch.Tensor]) -> torch.Tensor:
    """Maps of stages (M, K, h, w), each on the grid of the finest, with the means that they had, (M, all K, H, W)."""
    size = maps[0].shape[2:]
    laid = [nn.functional.interpolate(one, size, mode="nearest") for one in maps]
    # Where a grid is no multiple of another, cells are repeated unevenly; what that adds to the mean is taken off.
    kept = [
        m - m.mean(dim=(2, 3), keepdim=True) + o.mean(dim=(2, 3), keepdim=True) for m, o in zip(laid, maps, strict=True)
    ]
    return torch.cat(kept, dim=1)


def cut_backbone(backbone: nn.Module, tiles: torch.Tensor) -> tuple[UpperPart | None, str]:
    """The part above the last maps, and why there is none; tried out on tiles (M, 3, H, W)."""
    hooks = ("read_maps",) if isinstance(backbone, Stages) else ("forward_features", "forward_head")
    if not all(hasattr(backbone, hook) for hook in hooks):
        return None, f"{type(backbone).__name__} does not show its maps"
    part = UpperPart(backbone)
    lower = part.run_lower(tiles)
    prefix = part._count_prefix()
    if lower.ndim not in (3, 4) or (
        lower.ndim == 3 and math.isqrt(lower.shape[1] - prefix) ** 2 != lower.shape[1] - prefix
    ):
        return None, f"the last layer of {type(backbone).__name__} has no maps (its output is {tuple(lower.shape)})"
    if lower.ndim == 3 and not part.in_block and getattr(backbone, "global_pool", "") == "token":
        return None, f"{type(backbone).__name__} embeds a class token, after which no patch is heard"
    return part, ""
