"""Whether a file that was written says what the model says."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...errors import PartError
from ..scorer import Scorer

CLOSE = 1e-4  # between logits
BAGS = ((2, 3), (1, 1), (4, 7))  # images and tiles; the first is what a file is traced with


def draw_tiles(images: int, tiles: int, *, tile_px: int, size: int = 0) -> torch.Tensor:
    """Return drawn tiles (N, T, 3, H, W) with values such as normalised tiles have; the same in every call.

    With a ``size`` drawn features (N, T, size).
    """
    generator = torch.Generator().manual_seed(images * 100 + tiles)
    if size:
        return torch.randn(images, tiles, size, generator=generator)
    return torch.randn(images, tiles, 3, tile_px, tile_px, generator=generator)


def check_equal(
    what: str, scorer: Scorer, call: Callable[[torch.Tensor], torch.Tensor], *, tile_px: int, single: bool = False
) -> float:
    """Return the largest difference of logits over bags of several sizes; the model's against those of ``call``.

    Args:
        single: each image is one tile.

    Raises:
        PartError: they differ by more than 1e-4, which means that a part of the model cannot be written so.
    """
    largest = 0.0
    for images, tiles in BAGS:
        drawn = draw_tiles(images, 1 if single else tiles, tile_px=tile_px, size=scorer.size)
        with torch.inference_mode():
            wanted, got = scorer(drawn), call(drawn)
        same = got.shape == wanted.shape and bool(got.isfinite().all())
        largest = max(largest, float((got - wanted).abs().max())) if same else float("inf")
    if largest > CLOSE:
        raise PartError(
            f"{what} gives other logits than the model (difference {largest:.2g}, {CLOSE:g} is allowed): a part of it "
            "depends on the number of tiles in a way that the form cannot say",
            fix="--to torchscript or --to onnx, or a model with another model.pooler",
        )
    return largest
