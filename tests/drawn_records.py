"""Records of runs that are drawn and not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smalti.records import CohortRecord, Environment, Scores, UnitScores


def draw_environment(*, started: str = "2026-01-01T00:00:00+00:00", data: str = "hash", **more: Any) -> Environment:
    """What a run that began at some time on some data has recorded."""
    return Environment(started=started, identity={"data": data}, training="", **more)


def draw_cohort_record(root: Path | str, *, classes: Sequence[str] = ("a", "b"), **more: Any) -> CohortRecord:
    """A cohort of a folder, of twelve images that are their own cases if nothing else is said."""
    counts = {"n_labelled": 12, "n_cases": 12}
    return CohortRecord(root=str(root), layout="table", classes=tuple(classes), **(counts | more))


def settle_scores(found: UnitScores, **more: Any) -> Scores:
    """Scores by image alone, as a run has them."""
    return Scores(**dict(found), unit="image", unit_reason="as asked for", **more)
