"""What a way of drawing gets and gives, and the registry of ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...registry import Registry
from ...samples import StainMaps
from ...tile import TileStore

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """The labelled images that may be drawn from.

    Attributes:
        store: of their tiles.
        bags: (n,) positions in the store.
        targets: (n,) classes.
        cases: (n,) number of the case.
        stains: by which their stains are told.
    """

    store: TileStore
    bags: Ints
    targets: Ints
    cases: Ints
    stains: StainMaps


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One image that was drawn.

    Attributes:
        tiles: (N, H, W, 3) RGB.
        coverage: (N,) share of each under the mask.
        target: its class.
        sources: the images that its pixels come from, positions in the material, first the one that gave the class.
            Where a network has drawn it, all images that the network learned from.
    """

    tiles: NDArray[np.uint8]
    coverage: NDArray[np.float32]
    target: int
    sources: Ints


Drawer = Callable[[Material, np.random.Generator], Iterator[Drawn]]
DRAWERS: Registry[Drawer] = Registry("synthesis")
