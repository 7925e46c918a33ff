"""A learning curve: its result ``learn.json``."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..layout import LEARN
from ..record import Number, Part, Record
from ..scored import Margin
from .ladder import ChanceLevels


class LearningPoint(Margin):
    """Macro-F1 with a share of the training cases.

    Attributes:
        cases, images: that were trained on, mean over folds, seeds and orders.
        networks: how many were scored.
        taught: macro-F1 of the training images.
        single: macro-F1 of each order and seed.
    """

    share: float
    cases: float
    images: float
    networks: int
    taught: Number
    single: tuple[float, ...]


class Growth(Part):
    """Macro-F1 to be expected with more cases (see `smalti.evaluate.Growth`)."""

    times: float
    value: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


class Answer(Part):
    """Whether something would help: ``what``, the answer in a word, and why."""

    what: str
    word: Literal["yes", "no", "first more cases", "cannot tell"]
    words: str


class LearningResult(Record):
    """The learning curve of a data folder.

    Attributes:
        orders: of the cases of each fold.
        covers: what the interval of all cases covers.
        points: from few cases to all of them.
        growth: extrapolated; empty where that cannot be done.
        answers: more cases, more seeds, a better backbone.
    """

    FILE: ClassVar[str] = LEARN
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "run the same 'smalti learn' again, which writes it anew"
    OLD: ClassVar[str] = FIX

    data: str
    orders: int
    head: str
    backbone: str
    preset: str
    classes: tuple[str, ...]
    n_images: int
    n_cases: int
    n_seeds: int
    n_folds: int
    confidence: float
    margin: float
    covers: str
    chance: ChanceLevels
    trustworthy: bool
    reason: str
    points: tuple[LearningPoint, ...]
    growth: tuple[Growth, ...]
    answers: tuple[Answer, ...]
