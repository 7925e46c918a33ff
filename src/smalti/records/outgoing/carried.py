"""``experiment.json``: an experiment as units of work elsewhere open it; in the run folder while they run."""

from __future__ import annotations

from typing import ClassVar

from ...types import Cohort, Sample
from ..layout import EXPERIMENT
from ..record import Part, Record


class UnitSplit(Part):
    """A fold of a seed, as positions into the labelled images."""

    seed: int
    fold: int
    train: tuple[int, ...]
    inner: tuple[int, ...]
    outer: tuple[int, ...]


class UnitInputs(Record):
    """What units of a run share, but for what is computed from it and kept in the cache.

    Attributes:
        recipe: the resolved recipe, as YAML.
        cohort: without the form of a submission.
        store: folder of the tiles; None where features were made elsewhere.
        cache: folder of everything that can be made again.
        device: accelerator and number format, so that they do not depend on where a unit runs.
        given: images that are scored as they were given.
        digests: image -> hash of its file.
        unfit: unlabelled image -> why it may not teach.
    """

    FILE: ClassVar[str] = EXPERIMENT
    FIX: ClassVar[str] = "give the same command again, which writes it anew"

    recipe: str
    cohort: Cohort
    splits: tuple[UnitSplit, ...]
    store: str | None
    cache: str
    device: dict[str, str]
    given: tuple[Sample, ...]
    digests: dict[str, str]
    unfit: dict[str, str]
