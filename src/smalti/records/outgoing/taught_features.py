"""What the bags of a model on given features are: ``bags.json``, and ``bags.npz`` beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...store import read_arrays, write_arrays
from ..layout import TAUGHT_FEATURES, TAUGHT_POINTS
from ..record import Record
from .trained_on import FIX, Doubt, Range, Rarity

ARRAYS = ("middle", "spread", "axes", "points", "case")


class FeatureFacts(Record):
    """``bags.json``: the bags that a model learned from, without any of them.

    Attributes:
        n_images, n_cases: that the description is made of.
        tiles: of a bag.
        ranges: of each column of the points.
        rarity: None in too small a population.
        doubt: None where no bag is refused for being unsure.
    """

    FILE: ClassVar[str] = TAUGHT_FEATURES
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = FIX
    OLD: ClassVar[str] = FIX

    n_images: int
    n_cases: int
    tiles: Range
    ranges: tuple[Range, ...]
    rarity: Rarity | None
    doubt: Doubt | None


@dataclass(frozen=True, slots=True, eq=False)
class FeaturePopulation:
    """The bags that a model learned from, as new ones are compared with them.

    Attributes:
        facts: about all of them.
        middle, spread: (D,) by which the mean of a bag is standardised.
        axes: (K, D) principal components of the standardised means.
        points: (n, K + 1) of each bag: its components, and the length of what they leave of it.
        case: (n,) number of its case.
    """

    facts: FeatureFacts
    middle: NDArray[np.float32]
    spread: NDArray[np.float32]
    axes: NDArray[np.float32]
    points: NDArray[np.float32]
    case: NDArray[np.int32]

    @classmethod
    def read(cls, folder: Path) -> FeaturePopulation:
        """Read the description of a folder.

        Raises:
            RunError: a file is missing or damaged, or was written by another version.
        """
        return cls(FeatureFacts.read(folder), **read_arrays(folder / TAUGHT_POINTS, ARRAYS))

    def write(self, folder: Path) -> Path:
        """Write the description into a folder; equal descriptions give equal bytes."""
        write_arrays(folder / TAUGHT_POINTS, {name: getattr(self, name) for name in ARRAYS})
        return self.facts.write(folder)
