"""Batches of views of tiles for pretraining.

Views for tissue: flips and quarter turns, amounts of stain, a light crop; and in the place of a strong crop the second
view may be a tile beside it in the same image (translation, Zimmermann et al. 2024, arXiv 2405.01688). Nothing is
shrunk far: size is what tells nuclei apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...recipe import Pretrain
from ...samples import AUGMENTATIONS, StainMaps, apply_transform, iterate_ahead
from ...tile import TileStore

BESIDE = 1.01  # sides of a tile: the neighbours of a square grid, and what overlaps
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TileViews:
    """Tiles that teach, and how they are seen.

    Attributes:
        store: of the tiles.
        rows: (n,) the tiles that teach.
        cases: (n,) number of the case of each.
        beside: of each, positions in ``rows`` of its neighbours in the same image; itself where it has none.
        stains: what happens to the stain before.
    """

    store: TileStore
    rows: Ints
    cases: Ints
    beside: tuple[Ints, ...]
    stains: StainMaps | None

    @classmethod
    def collect(
        cls, store: TileStore, bags: Sequence[int], cases: Sequence[str], *, stains: StainMaps | None, most: int | None
    ) -> TileViews:
        """Collect the tiles of some images.

        Args:
            store: of the tiles.
            bags: positions of the images in the store.
            cases: of each image.
            stains: of the fold.
            most: tiles of an image, an even choice; None takes all.
        """
        numbers = np.unique(np.asarray(cases, dtype=str), return_inverse=True)[1].ravel()
        rows, owners, beside, total = [], [], [], 0
        for bag, number in zip(bags, numbers, strict=True):
            own = np.arange(store.rows(bag).start, store.rows(bag).stop, dtype=np.int64)
            chosen = np.arange(0, len(own), max(1, -(-len(own) // most)) if most else 1)
            places = store.find_places(bag)[chosen]
            near = cKDTree(places).query_ball_point(places, BESIDE) if len(places) else []
            for i, found in enumerate(near):
                others = np.array([j for j in found if j != i] or [i], dtype=np.int64)
                beside.append(total + others)
            rows.append(own[chosen])
            owners.append(np.full(len(chosen), number))
            total += len(chosen)
        if not total:
            return cls(store, np.empty(0, np.int64), np.empty(0, np.int64), (), stains)
        return cls(store, np.concatenate(rows), np.concatenate(owners), tuple(beside), stains)

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, rng: np.random.Generator) -> Ints:
        """Return all tiles in an order in which neighbours are of different cases for as long as possible."""
        shuffled = rng.permutation(len(self))
        turn = np.empty(len(self), dtype=np.int64)  # how many tiles of its case came before
        seen: dict[int, int] = {}
        for i in shuffled:
            case = int(self.cases[i])
            turn[i] = seen[case] = seen.get(case, -1) + 1
        return shuffled[np.argsort(turn[shuffled], kind="stable")]

    def draw(
        self, knobs: Pretrain, rng: np.random.Generator, *, views: int
    ) -> Iterator[tuple[list[NDArray[np.uint8]], Ints]]:
        """Yield the views of each batch, (B, H, W, 3) each, and the positions (B,) of its tiles; one pass."""
        order, size = self.order(rng), knobs.batch_tiles
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        # A last batch of one tile has nothing to be compared with.
        if len(parts) > 1 and len(parts[-1]) < min(size, 2):
            parts.pop()
        colour = AUGMENTATIONS.build("flips_stain", largest=knobs.stain)

        def read() -> Iterator[tuple[list[NDArray[np.uint8]], Ints]]:
            for part in parts:
                seen = []
                for number in range(views):
                    rows = self.rows[part]
                    if number and knobs.beside:
                        moves = rng.random(len(part)) < knobs.beside
                        near = np.array([rng.choice(self.beside[i]) for i in part])
                        rows = np.where(moves, self.rows[near], rows)
                    tiles = crop_tiles(self.store.read_tiles(rows), least=knobs.crop, rng=rng)
                    drawn = colour(len(rows), 1, 1.0, rng)
                    maps = None if self.stains is None else self.stains.solve(rows[:, None], drawn.amounts)
                    seen.append(apply_transform(tiles[:, None], drawn, maps=maps)[:, 0])
                yield seen, part

        yield from iterate_ahead(read())


def crop_tiles(tiles: NDArray[np.uint8], *, least: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return tiles (n, H, W, 3) of which a square of at least this share of the side is shown, at full size again."""
    if least >= 1:
        return tiles
    side, out = tiles.shape[1], np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        length = max(1, round(side * rng.uniform(least, 1)))
        row, col = rng.integers(0, side - length + 1, 2)
        out[i] = cv2.resize(tile[row : row + length, col : col + length], (side, side), interpolation=cv2.INTER_LINEAR)
    return out
