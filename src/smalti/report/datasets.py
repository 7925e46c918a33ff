"""The data of several runs: images, cases, classes, images that were left out, chance level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..records.studies.ladder import ChanceLevels
from .contents import RunRecord


@dataclass(frozen=True, slots=True)
class Share:
    """One class: images and cases where they were counted, and its share of the labelled images."""

    name: str
    share: float
    images: int | None = None
    cases: int | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set; None where no file tells it.

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
    chance: ChanceLevels | None = None


def describe_dataset(
    name: str,
    record: RunRecord | None,
    *,
    n_images: int | None = None,
    n_cases: int | None = None,
    chance: ChanceLevels | None = None,
) -> Dataset:
    """Return a data set from one run on it; what is given overrides what the run tells."""
    if record is None:
        return Dataset(name, n_images, n_cases, chance=chance)
    cohort, scores = record.cohort, record.scores
    reasons = Counter(" ".join(row.reason.split()) for row in cohort.left_out) if cohort else None
    classes: tuple[Share, ...] = ()
    if record.samples is not None:
        labelled = record.samples[record.samples["label"] != ""]
        classes = tuple(
            Share(str(label), len(rows) / len(labelled), len(rows), rows["case"].nunique())
            for label, rows in labelled.groupby("label")
        )
    duplicates = [f for f in record.audit.findings if f.code.endswith("duplicate")] if record.audit else None
    return Dataset(
        name,
        n_images=n_images if n_images is not None else cohort.n_labelled if cohort else None,
        n_cases=n_cases if n_cases is not None else cohort.n_cases if cohort else None,
        n_unlabelled=cohort.n_unlabelled if cohort else None,
        classes=classes,
        left_out=reasons,
        duplicates=None if duplicates is None else len(duplicates),
        chance=chance or (ChanceLevels.of(scores) if scores else None),
    )


def name_folder(path: str) -> str:
    """Return the last part of a path as either system writes it."""
    return Path(path.replace("\\", "/").rstrip("/")).name or path
