"""What a description is, and how one or several of them become a module that takes the place of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import PartError
from ...registry import Registry
from .channels import Planes

PREFIX, JOIN = "described:", "+"


@dataclass(frozen=True, slots=True)
class Description:
    """Numbers about one tile, the same however it is turned or mirrored, and finite whatever it shows.

    Attributes:
        names: of the numbers, D of them.
        measure: from the planes of a tile to (D,) numbers of the order of 1.
    """

    names: tuple[str, ...]
    measure: Callable[[Planes], NDArray[np.float64]]


DESCRIPTIONS: Registry[Description] = Registry("description")


class Described(nn.Module):
    """Descriptions side by side: tiles (M, 3, H, W) of 0..1 to (M, D). Nothing in it learns.

    Each tile is described by itself, on one thread, so that neither its batch nor the machine changes a byte.
    """

    def __init__(self, parts: Sequence[tuple[str, Description]]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.names = tuple(f"{part}.{name}" for part, description in parts for name in description.names)

    def extra_repr(self) -> str:
        """Return parts and libraries: stored numbers are known by this text, as those of networks by their weights."""
        parts = JOIN.join(name for name, _ in self.parts)
        return f"{parts}, opencv {cv2.__version__}, numpy {np.__version__}"

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Describe tiles (M, 3, H, W) of grey levels over 255, (M, D) float32."""
        levels = (tiles.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
        pictures = levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        rows = np.empty((len(pictures), len(self.names)), dtype=np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            planes = Planes(picture)
            row[:] = np.concatenate([description.measure(planes) for _, description in self.parts])
        return torch.from_numpy(rows).to(tiles.device)


def is_described(backbone: str) -> bool:
    """Tell whether the name of a backbone asks for descriptions instead of a network."""
    return backbone.startswith(PREFIX)


def build_described(backbone: str) -> Described:
    """Build what ``described:NAME+NAME`` asks for.

    Raises:
        PartError: no such description, one twice, or none.
    """
    names = backbone.removeprefix(PREFIX).split(JOIN)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PartError(f"{backbone} has {', '.join(twice)} twice", fix="name each description once")
    return Described([(name, DESCRIPTIONS.build(name)) for name in names])
