"""A ladder: its result ``ladder.json``, and the state of each rung in ``rungs/``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from ..layout import LADDER, RUNGS
from ..record import Number, Part, Record
from ..scored import HEADLINE, AsGiven, Interval, Margin, Unit, UnitScores
from .comparison import Difference

RungStatus = Literal["running", "done", "failed", "skipped", "waiting", "not applicable"]


class RungState(Record):
    """How far a rung is; a file of its own in the ladder folder.

    Attributes:
        key: hash of everything that the rung depends on.
        killed: how often the process died during this rung since its run last made progress.
        progress: how far its run was when it was last begun.
        reused: whether this call found the rung done; not written.
    """

    FILE: ClassVar[str] = RUNGS
    VERSION: ClassVar[int | None] = 1

    key: str
    status: RungStatus
    run: str | None = None
    error: str | None = None
    seconds: float | None = None
    peak_memory_gb: float | None = None
    killed: int = 0
    progress: str = ""
    reused: bool = Field(False, exclude=True)

    @classmethod
    def locate_rung(cls, folder: Path, rung: str) -> Path:
        """Return where the state of a rung is."""
        return cls.locate(folder) / f"{rung}.json"


class OwnScore(Margin):
    """Macro-F1 of a rung on all images that it predicted."""

    n_images: int
    n_cases: int


class Rung(Part):
    """A rung in the table of a ladder; None is what is not known, or not yet.

    Attributes:
        on: the rung that it changes; None for the first.
        members: rungs that it combines.
        reused: whether the last call found it done.
        difference: metric -> difference from the rung that it changes.
        metrics: metric -> score on the images that score every rung.
        as_given: scores without decisions that may have been made with predictions in view.
        own: macro-F1 on all images that it predicted.
    """

    name: str
    change: str
    settings: tuple[str, ...]
    on: str | None
    members: tuple[str, ...]
    status: RungStatus
    error: str | None = None
    run: str | None = None
    reused: bool = False
    seconds: float | None = None
    peak_memory_gb: float | None = None
    difference: dict[str, Difference] | None = None
    notes: tuple[str, ...] = ()
    n_images: int | None = None
    n_cases: int | None = None
    n_seeds: int | None = None
    optimism: Number = None
    metrics: dict[str, Margin] | None = None
    trustworthy: bool | None = None
    trust_reason: str | None = None
    as_given: AsGiven | None = None
    own: OwnScore | None = None

    @property
    def headline(self) -> Margin | None:
        """Macro-F1 on the images that score every rung."""
        return self.metrics[HEADLINE] if self.metrics else None

    @property
    def gap(self) -> Difference | None:
        """The difference of macro-F1."""
        return self.difference[HEADLINE] if self.difference else None


class ChanceLevels(Part):
    """Macro-F1 of guesses: the most frequent class; a class drawn by the shares of the classes, with its range."""

    majority: Number
    prior: Number
    prior_low: Number
    prior_high: Number

    @classmethod
    def of(cls, scores: UnitScores) -> Self:
        """Return what guesses score where ``scores`` were measured."""
        guess = scores.headline
        return cls(
            majority=guess.chance_majority, prior=guess.chance_prior, prior_low=guess.chance_prior_low,
            prior_high=guess.chance_prior_high,
        )  # fmt: skip


class CorrectedChoice(Part):
    """The highest macro-F1 of several, corrected for having been chosen (see `smalti.evaluate.correct_choice`).

    Attributes:
        best: name of the run.
        score: its macro-F1 on the cases that chose it.
        corrected: the score of this choice on cases that did not take part in it.
        runs: number of runs to choose from.
        optimism: difference between the score and the corrected score.
    """

    best: str
    score: float
    corrected: float
    runs: int
    optimism: float


class InnerChoice(Part):
    """The rung of each fold chosen by its inner images alone.

    Attributes:
        reason: why this could not be done; empty where it could.
        score: macro-F1 of the chosen rungs on the outer images.
        picks: rung -> number of folds that chose it.
        words: both, as a sentence.
    """

    reason: str = ""
    score: Interval | None = None
    picks: dict[str, int] = Field(default_factory=dict)
    words: str = ""


class LadderResult(Record):
    """The rungs of a ladder side by side.

    Attributes:
        finished: None while rungs are still running.
        classes, unit, n_images, n_cases, shares, chance: of the images that score every rung; ``shares`` by class.
        best: the rung with the highest lower bound of macro-F1; None where no rung has a score.
        set_aside: reason -> number of images that do not score.
        scoring: sentences about the images that score.
    """

    FILE: ClassVar[str] = LADDER
    VERSION: ClassVar[int | None] = 1
    FIX: ClassVar[str] = "run the same 'smalti ladder' again, which writes it anew"
    OLD: ClassVar[str] = FIX

    ladder: str
    about: str
    started: str
    finished: str | None
    data: str
    confidence: float
    alpha: float
    margin: float
    classes: tuple[str, ...]
    unit: Unit
    n_images: int | None
    n_cases: int | None
    shares: dict[str, float]
    chance: ChanceLevels | None
    best: str | None
    choice: CorrectedChoice | None
    inner_choice: InnerChoice | None
    set_aside: dict[str, int]
    scoring: tuple[str, ...]
    rungs: tuple[Rung, ...]

    def list_scored(self) -> dict[str, Rung]:
        """Return the rungs with a score by name, from the bottom."""
        return {rung.name: rung for rung in self.rungs if rung.metrics}
