"""What several experiments stood on: images, cases, classes, what was left out, what a guess scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records import Score
from .record import RunRecord


@dataclass(frozen=True, slots=True)
class Share:
    """One class: images and cases where they were counted, and its share of the labelled images."""

    name: str
    share: float
    images: int | None = None
    cases: int | None = None


@dataclass(frozen=True, slots=True)
class Chance:
    """Macro-F1 without looking: always the most frequent class; guessing by shares with its range."""

    majority: float | None
    prior: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set; None is what no file tells.

    Attributes:
        left_out: reason -> images that a decision excluded.
        duplicates: pairs of images that show the same field.
    """

    name: str
    n_images: int | None = None
    n_cases: int | None = None
    n_unlabelled: int | None = None
    classes: tuple[Share, ...] = ()
    left_out: Mapping[str, int] | None = None
    duplicates: int | None = None
    chance: Chance | None = None


def describe_dataset(name: str, record: RunRecord | None, **known: Any) -> Dataset:
    """A data set from one run on it; ``known`` stands above what the run tells."""
    found: dict[str, Any] = {}
    if record is not None and record.cohort is not None:
        cohort = record.cohort
        found = {"n_images": cohort.n_labelled, "n_cases": cohort.n_cases, "n_unlabelled": cohort.n_unlabelled}
        found["left_out"] = Counter(" ".join(row.reason.split()) for row in cohort.left_out)
    if record is not None and record.samples is not None:
        found["classes"] = _count_classes(record)
    if record is not None and record.audit is not None:
        found["duplicates"] = sum(finding.code.endswith("duplicate") for finding in record.audit.findings)
    if record is not None and record.scores is not None:
        found["chance"] = read_chance(record.scores.headline)
    return Dataset(name, **(found | {key: value for key, value in known.items() if value is not None}))


def read_chance(score: Score) -> Chance:
    """Return the chance levels of a score."""
    return Chance(score.chance_majority, score.chance_prior, score.chance_prior_low, score.chance_prior_high)


def merge_shares(classes: tuple[Share, ...], shares: Mapping[str, float]) -> tuple[Share, ...]:
    """Shares as given, with the counts of the same classes where they are known."""
    counted = {share.name: share for share in classes}
    return tuple(
        Share(name, value, counted[name].images, counted[name].cases) if name in counted else Share(name, value)
        for name, value in shares.items()
    )


def name_folder(path: str) -> str:
    """Last part of a path as either system writes it."""
    return Path(path.replace("\\", "/").rstrip("/")).name or path


def _count_classes(record: RunRecord) -> tuple[Share, ...]:
    assert record.samples is not None
    labelled = record.samples[record.samples["label"] != ""]
    return tuple(
        Share(str(name), len(rows) / len(labelled), len(rows), rows["case"].nunique())
        for name, rows in labelled.groupby("label")
    )
