"""A search over knobs: its result ``tune.json``."""

from __future__ import annotations

from typing import ClassVar, Literal

from ..layout import TUNE
from ..record import Number, Part, Record
from ..scored import Cover, Score
from .comparison import Comparison

Sampler = Literal["tpe", "random", "grid"]
KnobValue = float | int | bool | str


class Search(Part):
    """How a search goes.

    Attributes:
        sampler: ``tpe`` (Bergstra et al. 2011), ``random``, or ``grid``: every combination of the knobs' values.
        trials: number of trials of each study; a grid ends where it is complete.
        minutes: for all studies together, evenly shared, and for the curves after them; None sets no limit. The outer
            folds are always scored.
        folds: number of inner folds that score a trial.
        prune: whether a trial that is behind after the first inner folds ends early (successive halving, Jamieson &
            Talwalkar 2016).
    """

    sampler: Sampler = "tpe"
    trials: int = 30
    minutes: float | None = None
    folds: int = 3
    prune: bool = True


class KnobRange(Part):
    """A knob of the space, as the space file has it."""

    knob: str
    low: float | None
    high: float | None
    log: bool
    whole: bool
    steps: int
    choices: tuple[KnobValue, ...]


class Study(Part):
    """The search in one outer fold, or in all cases: number of trials, and value and knobs of the best one."""

    study: str
    trials: int
    value: float
    params: dict[str, KnobValue]


class OuterScores(Comparison):
    """The untuned and the tuned recipe on the outer folds.

    Attributes:
        interval: of the tuned recipe.
        by_image, by_case: its macro-F1 by the other unit, where there is an answer by case.
        chance: macro-F1 of guessing by the shares of the classes.
    """

    VERSION: ClassVar[int | None] = None
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"by_image", "by_case"})

    interval: Cover
    by_image: Score | None = None
    by_case: Score | None = None
    chance: Number


class Effect(Part):
    """What one knob does to the score.

    Attributes:
        importance: share of the variance between trials, 0 to 1.
        reach: difference between the best and the worst mean score along the knob, the others as the trials had them.
        p_value: of no effect in the trials, corrected for the number of knobs.
        curve_p: of a flat curve, corrected likewise; None where there is no curve.
        real: whether either p-value is small enough.
    """

    knob: str
    importance: float
    reach: float
    p_value: float
    curve_p: float | None = None
    real: bool = False


class IdleKnob(Part):
    """A knob that does nothing on this data, and why."""

    knob: str
    reason: str


class Interaction(Part):
    """Share of the variance between trials that two knobs explain together and neither alone, 0 to 1."""

    first: str
    second: str
    strength: float


class CurvePoint(Part):
    """Score with one knob at a value and the others as tuned; None where the value does not fit or learns nothing."""

    knob: str
    value: KnobValue
    seed: int
    score: Number


class SearchResult(Record):
    """What a search found and what that is worth.

    Attributes:
        inner: mean inner score of the chosen trials.
        optimism: ``inner`` less the score of the tuned recipe on the outer folds.
        effects, interactions: None where there are too few trials (``least_trials``).
        n_trials, n_complete, n_unscored: trials with a score after at least one inner fold; after all; after none.
        curves: None where none were asked for.
        noise: standard deviation of the score between seeds; None with one seed or without curves.
        curve_points: how many points the curves have where time suffices.
    """

    FILE: ClassVar[str] = TUNE
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "run the same 'smalti tune' again, which writes it anew"
    OLD: ClassVar[str] = FIX

    about: str
    finished: str
    search: Search
    knobs: tuple[KnobRange, ...]
    studies: tuple[Study, ...]
    outer: OuterScores
    inner: float
    optimism: float
    effects: tuple[Effect, ...] | None
    idle: tuple[IdleKnob, ...]
    n_trials: int
    n_complete: int
    n_unscored: int
    interactions: tuple[Interaction, ...] | None
    curves: tuple[CurvePoint, ...] | None
    noise: float | None
    curve_points: int
    least_trials: int
