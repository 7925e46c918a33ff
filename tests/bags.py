"""Drawn bags, their features on disk, and poolers as they are after learning.

Attention begins at the mean, where much that could be wrong cannot be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smalti.models import POOLERS, Pooler
from smalti.models.poolers.attention import AttentionScores
from smalti.models.poolers.settransformer import SetTransformerPooler
from smalti.tile import TileStore
from smalti.train import Features


def build_learned(name: str, features: int, classes: int, *, seed: int = 0, **options: Any) -> Pooler:
    """A pooler, the same for a seed, that prefers some tiles to others."""
    torch.manual_seed(seed)
    pooler = POOLERS.build(name, features, classes, **options)
    for part in pooler.modules():
        if isinstance(part, AttentionScores):
            torch.nn.init.normal_(part.weigh.weight)
        elif isinstance(part, SetTransformerPooler):
            torch.nn.init.normal_(part.seed)
    return pooler


def store_features(folder: Path, bags: list[NDArray[np.float32]], *, views: int = 1) -> Features:
    """Features of bags (N, D) on disk, as after the backbone; view v adds 100 v."""
    sizes = [len(bag) for bag in bags]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.concatenate([np.stack([np.arange(n), np.zeros(n)], axis=1) for n in sizes]).astype(np.int64) * 64
    names = tuple(f"i{n:04d}" for n in range(len(bags)))
    store = TileStore(
        "none", folder, 64, names, starts, places, np.ones(starts[-1], np.float32), np.ones(starts[-1], np.float32),
        np.zeros(starts[-1], np.uint8), np.zeros(len(names) + 1, np.int64),
    )  # fmt: skip
    files = []
    for view in range(views):
        path = folder / f"features-{view}.f32"
        (np.concatenate(bags) + 100 * view).astype(np.float32).tofile(path)
        files.append(path)
    return Features(tuple(files), store, bags[0].shape[1])


def draw_bags(count: int, *, features: int = 6, seed: int = 0) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(int(n), features)).astype(np.float32) for n in rng.integers(1, 9, count)]
