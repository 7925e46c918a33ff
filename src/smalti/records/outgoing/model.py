"""``model.json``: what a model folder holds, from the input of the networks to the answer."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator

from ...types import InputSpec
from ..layout import MODEL_RECORD
from ..predictions import FoldBlend, FoldRule
from ..record import Part, Record
from ..scored import Scores, Unit

JOINED = "average_seeds"  # the ensemble whose answer is of no seed and fold
Population = Literal["out-of-fold", "site-out", "external"]


def _check_inside(name: str) -> str:
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise ValueError(f"'{name}' leaves the folder of the model")
    return name


Inside = Annotated[str, AfterValidator(_check_inside)]
"""A path below the model folder."""


class BackboneRecord(Part):
    """A backbone that can be built without a hub.

    Attributes:
        name: as the recipe calls it.
        architecture: name in timm, or ``described:...``.
        options: what the builder of the architecture takes besides.
        features: numbers that it gives for a tile.
        spec: input size in pixels, mean and standard deviation.
        weights: file of the frozen weights; empty where each fold has weights of its own, or nothing learns.
    """

    name: str
    architecture: str
    options: dict[str, Any]
    features: int
    spec: InputSpec
    weights: Inside


class NetworkRecord(Part):
    """The network of one fold and seed.

    Attributes:
        weights: file with all that was trained; with the backbone where that was fine-tuned.
        reference: (3, 4) stain frame that images are brought to; None where their stain is kept.
    """

    seed: int
    fold: int
    weights: Inside
    reference: tuple[tuple[float, ...], ...] | None


class ModelMember(Part):
    """One step on the way to the answer: networks of one recipe, or members before it that are combined.

    Attributes:
        name: unique in the model.
        recipe: file of the resolved recipe.
        tile_px: side of a tile; None where nothing is cut.
        backbone: of its networks; None for a combination.
        networks: one for each fold and seed; none for a combination.
        members: what is combined, by name; none for networks.
        blends: how they are combined in each fold and seed.
        rules: calibration and decision of each fold and seed.
    """

    name: str
    recipe: Inside
    tile_px: int | None
    backbone: BackboneRecord | None
    networks: tuple[NetworkRecord, ...]
    members: tuple[str, ...]
    blends: tuple[FoldBlend, ...]
    rules: tuple[FoldRule, ...]


class GivenRecord(Part):
    """The features that a model takes in the place of images.

    Attributes:
        size: D, numbers of a tile.
        encoder: what made them; empty where nothing said it.
        columns: of a table, in the order of the numbers; empty for files.
        delimiter: between the cells of that table.
    """

    size: int
    encoder: str
    columns: tuple[str, ...]
    delimiter: str


class ModelRecord(Record):
    """``model.json``: the same run gives the same bytes.

    Attributes:
        name: of the run.
        classes: in the order of the scores.
        unit: what the answer of the run is about.
        members: in the order of computation; the last one gives the answer.
        bits: bits in use of 16-bit images, where the files of the training images did not say; None elsewhere.
        mpp: least, middle and largest microns per pixel of the training images; None where none says its own.
        population: what the scores say something about: held-out cases of the same data, other sites, other data.
        scores: of the run, with their intervals; None for a member of a run, which has no answer of its own.
        device: accelerator and number format of the run.
        libraries: their versions.
        population_files: what describes the training images.
        features: what it takes where it takes no images; None for images.
        files: file of the folder -> its SHA-256; the model card, which may be edited, is not among them.
    """

    FILE: ClassVar[str] = MODEL_RECORD
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"features"})
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "copy the model folder again, or 'smalti export RUN --to FOLDER'"
    OLD: ClassVar[str] = "use the smalti that wrote it, or make the model again with 'smalti run'"

    name: str
    classes: tuple[str, ...]
    unit: Unit
    members: tuple[ModelMember, ...]
    bits: int | None
    mpp: tuple[float, float, float] | None
    population: Population
    scores: Scores | None
    device: dict[str, str]
    libraries: dict[str, str]
    population_files: tuple[Inside, ...] = ()
    features: GivenRecord | None = None
    files: dict[Inside, str]
