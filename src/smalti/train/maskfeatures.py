"""What the mask says about stored tiles, as tensors for a network that asks for it; turned as the tiles are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import BagReader, MaskFeatures
from ..samples.augment import TURNS
from ..tile import TileStore

PADDING = -1  # the row of a tile that is not there


@dataclass(frozen=True, slots=True)
class MaskFeatureSource:
    """Reads guides from a store, as far as a reader asks for them.

    Attributes:
        weighs: whether coverage is asked for.
        shapes: outlines (images, S, S) as bytes and descriptors (images, K); None where there is no branch.
    """

    store: TileStore
    weighs: bool
    shapes: tuple[NDArray[np.uint8], NDArray[np.float32]] | None

    @classmethod
    def open(cls, store: TileStore, reader: BagReader) -> MaskFeatureSource:
        """Open the source of a reader."""
        return cls(store, reader.weighs, store.read_shapes() if reader.branch is not None else None)

    def read(
        self, bags: NDArray[np.int64], rows: NDArray[np.int64], *, turns: NDArray[np.int64]
    ) -> MaskFeatures | None:
        """Read mask features of B bags (B,) and their tiles (B, N), `PADDING` where there is none.

        ``turns`` (B, N) are the symmetries that the tiles are seen in; the whole mask is seen in that of the first.
        None where nothing is asked for.
        """
        if not self.weighs and self.shapes is None:
            return None
        real = rows != PADDING
        coverage = torch.from_numpy(np.where(real, self.store.coverage[rows], np.float32(0)))
        if self.shapes is None:
            return MaskFeatures(coverage)
        read = self.store.read_rasters(rows[real])
        rasters = np.zeros((*rows.shape, *read.shape[1:]), dtype=np.uint8)
        rasters[real] = turn_squares(read, turns[real])
        outlines, descriptors = self.shapes
        turned = turn_squares(outlines[bags], turns[:, 0])
        inside, whole = (torch.from_numpy(v).to(torch.float32) / 255 for v in (rasters, turned))
        return MaskFeatures(coverage, inside, whole, torch.from_numpy(descriptors[bags]))

    def read_views(self, bag: int, *, views: int) -> MaskFeatures | None:
        """Read mask features of all tiles of one bag in the first ``views`` symmetries, one bag each."""
        rows = np.asarray(self.store.rows(bag), dtype=np.int64)[None].repeat(views, axis=0)
        turns = np.arange(views)[:, None].repeat(rows.shape[1], axis=1)
        return self.read(np.full(views, bag, dtype=np.int64), rows, turns=turns)


def turn_squares(squares: NDArray[np.uint8], turns: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return squares (n, S, S) in the symmetries ``turns`` (n,), as `smalti.samples.augment.turn_tile` has them."""
    out = squares.copy()
    for turn in range(1, TURNS):
        chosen = turns == turn
        flipped = squares[chosen][:, :, ::-1] if turn >= 4 else squares[chosen]
        out[chosen] = np.rot90(flipped, turn % 4, axes=(1, 2))
    return out
