"""One file that runs with torch alone."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import nn

from ...store import write_atomic
from ..scorer import Scorer
from .check import BAGS, check_equal, draw_tiles


class SingleTile(nn.Module):
    """Logits (N, C) of tiles (N, 3, H, W), each an image of its own."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        scores: torch.Tensor = self.scorer(tiles[:, None])
        return scores


def write_torchscript(scorer: Scorer, path: Path, *, tile_px: int, single: bool = False) -> float:
    """Write a model as TorchScript; return the largest difference of logits, file against model.

    Args:
        tile_px: side H = W of a tile.
        single: the file takes tiles (N, 3, H, W) instead of bags (N, T, 3, H, W).

    Raises:
        PartError: the file would give other logits.
    """
    module = SingleTile(scorer) if single else scorer
    bags = draw_tiles(*BAGS[0], tile_px=tile_px, size=scorer.size)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch calls TorchScript outdated; QuPath and WSInfer load nothing else
        traced = torch.jit.trace(module, bags[:, 0] if single else bags, check_trace=False)
        file = io.BytesIO()
        torch.jit.save(traced, file)
        file.seek(0)
        read = torch.jit.load(file)
    largest = check_equal(
        "TorchScript", scorer, lambda tiles: read(tiles[:, 0] if single else tiles), tile_px=tile_px, single=single
    )
    write_atomic(path, file.getvalue())
    return largest
