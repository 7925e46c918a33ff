"""The mask as a fourth input channel of any backbone whose first layer is one convolution of the three colours."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Conv2dSame
from torch import nn

from ...errors import WeightsError

COLOURS = 3


class MaskStem(nn.Module):
    """A first convolution with a fourth input slice that starts at zero: the network starts unchanged, to the bit.

    The slice is a convolution of its own whose result is added: convolution is linear in its input channels, and the
    trained kernel stays the tensor it was, which weight-standardised layers and bit equality need.
    """

    def __init__(self, colours: nn.Conv2d) -> None:
        super().__init__()
        # timm's own layers pad to the size of the input where the plain ones have a fixed border.
        same = isinstance(colours, Conv2dSame) or bool(getattr(colours, "same_pad", False))
        kind: Any = Conv2dSame if same else nn.Conv2d
        self.colours = colours
        shape: Any = {name: getattr(colours, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        self.slice = kind(1, colours.out_channels, bias=False, **shape)
        nn.init.zeros_(self.slice.weight)
        self.slice.to(colours.weight.device, colours.weight.dtype)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (M, 4, H, W), the mask last, to what the first convolution gives."""
        answer: torch.Tensor = self.colours(images[:, :COLOURS]) + self.slice(images[:, COLOURS:])
        return answer


def add_mask_channel(backbone: nn.Module, *, name: str) -> None:
    """Put a `MaskStem` in the place of the first convolution; ``name`` is how messages call the backbone.

    Raises:
        WeightsError: its first layer is not one convolution of three colours.
    """
    found = [
        (path, module)
        for path, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == COLOURS and module.groups == 1
    ]
    if len(found) != 1:
        raise WeightsError(
            f"{name} cannot take the mask as a fourth channel: {len(found)} convolutions of three channels were found, "
            "not the one of its stem",
            fix="--set model.mask_channel=false, or another model.backbone",
        )
    path, first = found[0]
    parent, _, last = path.rpartition(".")
    setattr(backbone.get_submodule(parent), last, MaskStem(first))


def list_slices(backbone: nn.Module) -> frozenset[str]:
    """Return names of the parameters of the mask's slice; empty for a backbone that takes colours alone."""
    return frozenset(f"{path}.slice.weight" for path, m in backbone.named_modules() if isinstance(m, MaskStem))
