"""``explanation.json``: where networks looked, and whether the maps can be trusted."""

from __future__ import annotations

from typing import ClassVar

from .layout import EXPLANATION
from .record import Number, Part, Record


class Mean(Part):
    """A mean over images with its interval from resampled cases.

    Attributes:
        value, low, high: None where there is no image.
        n_images, n_cases: that have a value.
        trustworthy: whether there are cases enough for the interval.
    """

    value: Number
    low: Number
    high: Number
    n_images: int
    n_cases: int
    trustworthy: bool


class RemovalCurves(Part):
    """Mean scores on the grid of shares of the tiles; None where no image has two tiles."""

    deletion: tuple[Number, ...]
    insertion: tuple[Number, ...]
    random: tuple[Number, ...]


class MapMeasures(Part):
    """What was measured about one kind of map, over all images.

    Attributes:
        deletion: how much sooner the score falls than in a random order.
        insertion: how much sooner it rises.
        verdict: ``better`` than a random order, ``worse``, ``cannot tell`` or ``not applicable``.
        inside, area: share of the map inside the mask, and share of the mask in what was looked at.
        focus: the one over the other.
        agreement: rank correlation of networks.
        agreement_chance: what maps of shuffled tiles reach; None where nothing can be compared.
    """

    deletion: Mean
    insertion: Mean
    verdict: str
    inside: Mean
    area: Mean
    focus: Mean
    agreement: Mean
    agreement_chance: Number
    curves: RemovalCurves


class MapNumbers(Part):
    """The measures of one map of one image; None where one does not apply."""

    deletion: Number
    insertion: Number
    inside: Number
    area: Number
    agreement: Number


class LookedAt(Part):
    """One image that was explained.

    Attributes:
        label: None for an unlabelled image.
        shown: the class that the maps explain.
        scores: class -> score.
        tiles: number of tiles.
        map, gradcam: its measures; None where there is no Grad-CAM.
    """

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"gradcam"})

    image: str
    case: str
    label: str | None
    predicted: str
    shown: str
    scores: dict[str, float]
    tiles: int
    map: MapNumbers
    gradcam: MapNumbers | None = None


class ExplanationRecord(Record):
    """``explanation.json``.

    Attributes:
        shown: the class that was explained, or ``predicted``.
        kind: what the values of the map are.
        no_gradcam: why there is no Grad-CAM; empty where there is.
        resamples, confidence: of the intervals.
        grid: shares of the tiles at which curves are averaged.
        maps: ``map``, and ``gradcam`` where there is one.
    """

    FILE: ClassVar[str] = EXPLANATION
    FIX: ClassVar[str] = "run 'smalti explain' on this run again"

    shown: str
    kind: str
    no_gradcam: str
    classes: tuple[str, ...]
    n_images: int
    n_cases: int
    resamples: int
    confidence: float
    grid: tuple[float, ...]
    maps: dict[str, MapMeasures]
    images: tuple[LookedAt, ...]
