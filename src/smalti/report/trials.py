"""One experiment among several, as a ladder, a comparison or a logbook tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HEADLINE = "macro_f1"


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its interval; bounds are None where they could not be computed."""

    value: float
    low: float | None
    high: float | None
    trustworthy: bool = True


@dataclass(frozen=True, slots=True)
class Gap:
    """A paired difference with what can be said about it; see `smalti.evaluate`."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None
    verdict: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One experiment.

    Attributes:
        name: of the rung or run.
        change: what it changes, in words; may be empty.
        settings: ``knob=value`` on top of what it changes.
        on: name of the trial it was compared with; None where there is none.
        status: ``done``, ``failed``, ``skipped`` or ``waiting`` (a rung) or ``unfinished`` (a run).
        error: why it failed, was skipped or waits.
        run: name of the run folder; empty where there is none.
        data: name of the data set.
        scores: metric -> score.
        gaps: metric -> difference against ``on``.
        own: the score on its own images, where a ladder scores all rungs on the same ones.
        own_images: how many these are.
        changed: what decisions have changed with predictions in view, in words; such a score is never trusted.
        given: the score of the headline metric without them; None where it is not known.
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
    scores: Mapping[str, Score] = field(default_factory=dict)
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    chance: float | None = None
    optimism: float | None = None
    trustworthy: bool | None = None
    trust_reason: str = ""
    own: Score | None = None
    own_images: int | None = None
    changed: str = ""
    given: Score | None = None
    unit: str = "image"
    notes: tuple[str, ...] = ()

    @property
    def score(self) -> Score | None:
        """The score of the headline metric."""
        return self.scores.get(HEADLINE)

    @property
    def gap(self) -> Gap | None:
        """The difference of the headline metric."""
        return self.gaps.get(HEADLINE)


def read_scores(metrics: Mapping[str, Any] | None) -> dict[str, Score]:
    """Metrics with ``value, low, high``; those without a value are left out."""
    return {
        str(name): Score(float(m["value"]), m.get("low"), m.get("high"), m.get("trustworthy") is not False)
        for name, m in (metrics or {}).items()
        if m and m.get("value") is not None
    }


def read_given(section: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``as_given`` of scores.json, ladder.json and comparison.json says, as fields of a trial."""
    section = section or {}
    return {
        "changed": str(section.get("changed") or ""),
        "given": read_scores(section.get("metrics")).get(HEADLINE),
    }


def read_gaps(difference: Mapping[str, Any] | None) -> dict[str, Gap]:
    """Differences per metric, as ladder.json and comparison.json hold them."""
    keys = ("low", "high", "p", "p_holm", "smallest_detectable")
    return {
        str(name): Gap(
            value=float(d["value"]),
            verdict=str(d.get("verdict") or "cannot tell"),
            why=str(d.get("why") or ""),
            **{key: d.get(key) for key in keys},
        )
        for name, d in (difference or {}).items()
        if d and d.get("value") is not None
    }


def read_rung(row: Mapping[str, Any], *, data: str, unit: str = "image") -> Trial:
    """A rung of ladder.json; keys that are missing are not known."""
    keys = ("seconds", "peak_memory_gb", "n_images", "n_cases", "n_seeds", "optimism", "trustworthy")
    plain: dict[str, Any] = {key: row.get(key) for key in keys}
    own = row.get("own")
    return Trial(
        name=str(row["name"]),
        own=read_scores({HEADLINE: own}).get(HEADLINE),
        own_images=own["n_images"] if own else None,
        change=str(row.get("change") or ""),
        settings=tuple(str(s) for s in row.get("settings") or ()),
        on=row.get("on"),
        status=str(row.get("status") or "waiting"),
        error=str(row.get("error") or ""),
        run=str(row.get("run") or ""),
        reused=bool(row.get("reused")),
        data=data,
        unit=unit,
        scores=read_scores(row.get("metrics")),
        gaps=read_gaps(row.get("difference")),
        trust_reason=str(row.get("trust_reason") or ""),
        notes=tuple(str(note) for note in row.get("notes") or ()),
        **read_given(row.get("as_given")),
        **plain,
    )
