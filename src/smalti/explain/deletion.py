"""Does the score follow the map? Tiles taken away from, or put into, an image in the order of a map.

Deletion and insertion of Petsiuk, Das & Saenko 2018, with tiles for pixels, on their embeddings: nothing is painted
over, since a bag may simply lack a tile. A random order of the same tiles is what a map that knows nothing would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import BagReader
from .readings import TileBag, score_subsets

STEPS = 11  # points of a curve, ends included
ORDERS = 10  # random orders whose mean is the comparison

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curves:
    """Score of a class while tiles come and go; P numbers of tiles.

    Attributes:
        kept: (P,) number of tiles that are there, from 1 to all.
        deletion: (M, P) of M maps, the tiles with the lowest values kept.
        insertion: (M, P) the tiles with the highest values kept.
        random: (P,) tiles kept at random, mean over orders.
    """

    kept: NDArray[np.int64]
    deletion: Floats
    insertion: Floats
    random: Floats


def draw_curves(reader: BagReader, bag: TileBag, maps: NDArray[np.float32], *, shown: int, seed: int = 0) -> Curves:
    """Curves of the score of class ``shown`` for M maps (M, N) of the tiles of a bag."""
    count = maps.shape[1]
    kept = np.unique(np.linspace(1, count, STEPS).round().astype(np.int64))
    order = np.argsort(maps, axis=1, kind="stable")
    rng = np.random.default_rng(seed)
    random = np.stack([rng.permutation(count) for _ in range(ORDERS)])
    scores = np.empty((2 * len(maps) + ORDERS, len(kept)))
    for position, number in enumerate(kept):
        rows = np.concatenate([order[:, :number], order[:, count - number :], random[:, :number]])
        logits = score_subsets(reader, bag, torch.from_numpy(np.sort(rows, axis=1)))
        scores[:, position] = logits.cpu().double().softmax(dim=1)[:, shown].numpy()  # Metal has no float64
    deletion, insertion, drawn = np.split(scores, [len(maps), 2 * len(maps)])
    return Curves(kept, deletion, insertion, drawn.mean(axis=0))
