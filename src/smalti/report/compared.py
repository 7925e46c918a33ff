"""One recipe among several, as a ladder, a comparison or the logbook tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..records import HEADLINE, AsGiven, Interval, Margin
from ..records.studies.comparison import ComparedRun, Comparison, Difference
from ..records.studies.ladder import OwnScore, Rung

if TYPE_CHECKING:
    from ..logbook import Entry


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung, a run or a prediction table.

    Attributes:
        name: of the rung or run.
        change: what it changes, in words; may be empty.
        settings: ``knob=value`` on top of what it changes.
        on: name of the candidate that it was compared with; None where there is none.
        status: ``done``, ``failed``, ``skipped``, ``running``, ``waiting`` or ``not applicable`` (a rung), or
            ``unfinished`` (a run).
        error: why it failed, was skipped or waits.
        run: name of the run folder; empty where there is none.
        data: name of the data set.
        scores: metric -> score, of the metrics that could be computed.
        gaps: metric -> difference from ``on``.
        own: the score on its own images, where a ladder scores all rungs on the same ones.
        as_given: scores without decisions that were made with predictions in view; such a candidate is never trusted.
        unit: whether the scores count images or cases.
    """

    name: str
    change: str = ""
    settings: tuple[str, ...] = ()
    on: str | None = None
    status: str = "done"
    error: str = ""
    run: str = ""
    reused: bool = False
    kind: str = "run"
    data: str = ""
    started: str = ""
    device: str = ""
    seconds: float | None = None
    peak_memory_gb: float | None = None
    n_images: int | None = None
    n_cases: int | None = None
    n_seeds: int | None = None
    scores: Mapping[str, Margin] = field(default_factory=dict)
    gaps: Mapping[str, Difference] = field(default_factory=dict)
    chance: float | None = None
    optimism: float | None = None
    trustworthy: bool | None = None
    trust_reason: str = ""
    own: OwnScore | None = None
    as_given: AsGiven | None = None
    unit: str = "image"
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> Margin | None:
        """The score of the headline metric."""
        return self.scores.get(HEADLINE)

    @property
    def gap(self) -> Difference | None:
        """The difference of the headline metric."""
        return self.gaps.get(HEADLINE)

    @property
    def given(self) -> Interval | None:
        """The score of the headline metric as given; None where it is not known."""
        return (self.as_given.metrics or {}).get(HEADLINE) if self.as_given else None


def drop_unknown(metrics: Mapping[str, Margin] | None) -> dict[str, Margin]:
    """Return the metrics that could be computed."""
    return {name: score for name, score in (metrics or {}).items() if score.value is not None}


def describe_rung(rung: Rung, *, data: str, unit: str) -> Candidate:
    """Return a rung of a ladder as a candidate."""
    return Candidate(
        name=rung.name, change=rung.change, settings=rung.settings, on=rung.on, status=rung.status,
        error=rung.error or "", run=rung.run or "", reused=rung.reused, data=data, seconds=rung.seconds,
        peak_memory_gb=rung.peak_memory_gb, n_images=rung.n_images, n_cases=rung.n_cases, n_seeds=rung.n_seeds,
        scores=drop_unknown(rung.metrics), gaps=rung.difference or {}, optimism=rung.optimism,
        trustworthy=rung.trustworthy, trust_reason=rung.trust_reason or "", own=rung.own, as_given=rung.as_given,
        unit=unit, notes=rung.notes,
    )  # fmt: skip


def describe_table(row: ComparedRun, comparison: Comparison) -> Candidate:
    """Return a row of a comparison that is no run folder as a candidate."""
    return Candidate(
        row.name, kind="table", data="tables of other tools", scores=drop_unknown(row.metrics),
        n_images=comparison.n_images, n_cases=comparison.n_cases, n_seeds=row.n_seeds, unit=comparison.unit,
        on=row.against, gaps=row.difference or {},
    )  # fmt: skip


def describe_entry(entry: Entry, row: ComparedRun | None, *, data: str, settings: tuple[str, ...]) -> Candidate:
    """Return a run of the logbook as a candidate, with its row of the comparison where there is one."""
    return Candidate(
        entry.name, settings=settings, on=row.against if row else None,
        status="done" if entry.status == "finished" else entry.status, error=entry.error, run=entry.name,
        kind=entry.kind, data=data, started=entry.started, device=entry.device, seconds=entry.seconds,
        n_images=entry.n_images, n_cases=entry.n_cases, n_seeds=entry.n_seeds, scores=drop_unknown(entry.metrics),
        gaps=(row.difference if row else None) or {}, chance=entry.chance_prior, optimism=entry.optimism,
        trustworthy=entry.trustworthy, trust_reason=entry.trust_reason, as_given=entry.as_given, unit=entry.unit,
    )  # fmt: skip
