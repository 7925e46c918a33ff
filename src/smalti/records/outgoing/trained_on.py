"""What the training images of a model are: ``population.json``, and ``population.npz`` beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ...store import read_arrays, write_arrays
from ..layout import POPULATION, POPULATION_POINTS
from ..record import Number, Part, Record

POINT_ARRAYS = ("traits", "case", "common", "spots")
FIX = "export the model again"


class Range(Part):
    """One number about the training images.

    Attributes:
        name: as it stands in a sentence.
        low, middle, high: percentiles 1, 50 and 99.
        spread: robust standard deviation, never below what single images differ by.
    """

    name: str
    low: float
    middle: float
    high: float
    spread: float


class Usually(Part):
    """Median and robust standard deviation."""

    centre: float
    spread: float


class Rarity(Part):
    """How far an image may lie from its nearest look-alikes in the training population.

    Attributes:
        units: group of traits -> distance that is 1.
        bar: in these units; an image whose farthest group is beyond it is refused.
        refused_frac: of the training images, each beside the other cases, before the bar was widened for few cases.
    """

    units: dict[str, float]
    bar: float
    refused_frac: float


class Doubt(Part):
    """The images on which a model would rather say nothing.

    Attributes:
        share: of the held-out training images that lie below the bar. They are scored by one network a seed; new images
            are scored by the mean of all networks, which is less sure, so that more of them are refused.
        confidence: the bar; an image whose largest score is below it is refused.
    """

    share: float
    confidence: float


class PopulationFacts(Record):
    """``population.json``: the training population, without any image.

    Attributes:
        n_images, n_cases: that the description is made of.
        left_out: code of a refusal -> number of training images that were left out of the description because of it.
        usual_faults: codes, and colours of paint, that are no reason to refuse: too many training images have them.
        sites: site -> number of images; empty where none is known.
        height_px, width_px: of the images.
        mpp: microns per pixel; None where no file says them.
        n_mpp: images whose file says them.
        stained: whether the usual image has colours of H&E.
        grainless: what stain cannot explain; None where colour tells nothing apart.
        focus: size class (0: all) -> sharpness; empty in too small a population.
        bar: distance from the common colours that its tissue does not reach.
        ranges: of each trait, in the order of the points.
        rarity: None in too small a population.
        doubt: None where no image is refused for being unsure.
    """

    FILE: ClassVar[str] = POPULATION
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = FIX
    OLD: ClassVar[str] = FIX

    n_images: int
    n_cases: int
    left_out: dict[str, int]
    usual_faults: tuple[str, ...]
    sites: dict[str, int]
    height_px: Range
    width_px: Range
    mpp: Range | None
    n_mpp: int
    stained: bool
    grainless: Usually | None
    focus: dict[int, Usually]
    bar: Number
    ranges: tuple[Range, ...]
    rarity: Rarity | None
    doubt: Doubt | None


@dataclass(frozen=True, slots=True, eq=False)
class TrainingPopulation:
    """The training population, and the numbers of each image that new images are compared with.

    Attributes:
        facts: about all of them.
        traits: (n, T) numbers of each image.
        case: (n,) number of its case.
        common: (m, 3) densities that many images have; None in too small a population.
        spots: (k, 5) of all spots: position of the image, median red, green and blue, 1 where it is even.
    """

    facts: PopulationFacts
    traits: NDArray[np.float32]
    case: NDArray[np.int32]
    common: NDArray[np.float32] | None
    spots: NDArray[np.int32]

    @classmethod
    def read(cls, folder: Path) -> TrainingPopulation:
        """Read the description of a folder.

        Raises:
            RunError: a file is missing or damaged, or was written by another version.
        """
        facts = PopulationFacts.read(folder)
        arrays = read_arrays(folder / POPULATION_POINTS, POINT_ARRAYS)
        common = arrays["common"] if facts.bar is not None else None
        return cls(facts, arrays["traits"], arrays["case"], common, arrays["spots"])

    def write(self, folder: Path) -> Path:
        """Write the description into a folder; equal descriptions give equal bytes."""
        common = np.zeros((0, 3), np.float32) if self.common is None else self.common
        arrays = {"traits": self.traits, "case": self.case, "common": common, "spots": self.spots}
        write_arrays(folder / POPULATION_POINTS, arrays)
        return self.facts.write(folder)
