"""How a model scores on new images that have labels; ``external.json``."""

from __future__ import annotations

from typing import ClassVar

from ..layout import EXTERNAL
from ..outgoing.model import Population
from ..record import Number, Part, Record
from ..scored import Interval, Margin, Scores
from .comparison import Verdict
from .sites import Subgroup


class Refused(Part):
    """Images with a label that got no answer.

    Attributes:
        reasons: why -> number of images, the most frequent first.
        by_image, by_case: macro-F1 where a refusal counts as a wrong answer; a case is refused where all of its images
            are. None without labels of that unit.
        n_cases: cases that are refused.
    """

    n_images: int
    n_cases: int
    reasons: dict[str, int]
    by_image: Margin
    by_case: Margin | None


class Compared(Part):
    """The external score less the promised one. The cases are others, so that nothing is paired.

    Attributes:
        difference: with its interval, from the two intervals.
        smallest_detectable: smallest true difference that is seen with a power of 80 %.
        foreseen: between which bounds the score of that many new cases of the promised population lies.
        inside: whether the external score lies there.
    """

    difference: Interval
    smallest_detectable: Number
    verdict: Verdict
    foreseen: tuple[float, float]
    inside: bool


class Promised(Part):
    """What the model promises.

    Attributes:
        population: whom the promise is about.
        score: macro-F1, with its interval.
        f1: of each class, with its interval.
        compared: None where the two numbers mean different things, with the reason in ``why``.
    """

    population: Population
    score: Margin
    f1: dict[str, Interval]
    n_images: int
    n_cases: int
    compared: Compared | None
    why: str


class Large(Part):
    """Calibration in the large of one class.

    Attributes:
        mean_score: mean score of the class.
        frequency: share of the labels.
        difference: mean score less frequency, with its interval by case.
    """

    mean_score: float
    frequency: float
    difference: Interval


class ExternalRecord(Record):
    """``external.json``: how a model scores on new images that have labels.

    Attributes:
        population: what the scores say something about.
        model: name of the run that the model comes from.
        root: the folder of the images.
        n_images: images of the folder; ``n_labelled`` of them have a label that the model knows.
        unknown: label that the model does not know -> number of images, which are not scored.
        absent: classes of the model without any label; macro-F1 is the mean over the others.
        predicted_absent: answered images for which the model names one of these.
        scores: of the answered images; macro-F1 over the classes that occur among the labels.
        refused: the others, and the score with them.
        promised: None where the model has no score of this unit.
        large: class -> calibration in the large.
        slope: of a recalibration that fits one slope for all classes and a shift for each: 1 is right, below 1 scores
            are too extreme; None where it cannot be fitted, with the reason in ``slope_why``.
        subgroups: one row for each value of the columns that were asked for.
    """

    FILE: ClassVar[str] = EXTERNAL
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "run the same 'smalti predict' again"
    OLD: ClassVar[str] = FIX

    population: Population
    model: str
    root: str
    n_images: int
    n_labelled: int
    unknown: dict[str, int]
    absent: tuple[str, ...]
    predicted_absent: int
    scores: Scores
    refused: Refused
    promised: Promised | None
    large: dict[str, Large]
    slope: Interval | None
    slope_why: str
    subgroups: tuple[Subgroup, ...]
