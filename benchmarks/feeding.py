"""Training tiles by a pool of threads: what smalti could do in the place of its one thread that reads ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import islice

import numpy as np
import torch

from smalti.samples import AUGMENTATIONS, Transform, apply_transform
from smalti.tile import TileStore


def feed_by_pool(
    store: TileStore, drawn: list[np.ndarray], edits: str, *, strength: float, threads: int
) -> Iterator[np.ndarray]:
    """Batches (B, N, H, W, 3) of drawn rows, each bag read and edited by one of ``threads``; 0: by nobody else.

    What is drawn is drawn here, in the order of the bags, so that bytes do not depend on the threads.
    """
    augment, rng = AUGMENTATIONS.build(edits), np.random.default_rng(0)
    transforms = (augment(*rows.shape, strength, rng) for rows in drawn)
    if not threads:
        for rows, transform in zip(drawn, transforms, strict=True):
            tiles = store.read_tiles(rows.ravel())
            yield apply_transform(tiles.reshape(*rows.shape, *tiles.shape[1:]), transform)
        return
    before, columns = torch.get_num_threads(), [column.name for column in fields(Transform)]
    bags = [rows for batch in drawn for rows in batch]
    alone = (
        Transform(*(getattr(transform, column)[bag : bag + 1] for column in columns))
        for transform in transforms
        for bag in range(len(transform.turns))
    )

    def make(rows: np.ndarray, transform: Transform) -> np.ndarray:
        return apply_transform(store.read_tiles(rows)[None], transform)[0]

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        made = pool.map(make, bags, alone)
        for rows in drawn:
            yield np.stack(list(islice(made, len(rows))))
    torch.set_num_threads(before)
