"""A cohort as a record (``cohort.json``), as a table and as a hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
from pydantic import Field

from ..store import hash_files, hash_text
from ..types import SAMPLE_COLUMNS, SITE_COLUMN, SUBGROUP_PREFIX, Cohort, MaskReading, Sample
from .layout import COHORT
from .record import Part, Record
from .scored import Scoring


class LeftOut(Part):
    """An image that a decision leaves out."""

    image: str
    reason: str
    who: str


class Asked(Part):
    """What a submission holds, by position of its columns.

    Attributes:
        none: why there will be no submission; empty where there will be one.
        sample: the sample submission; empty where there is none.
        labels: position of a column -> class -> how the column writes it.
        probabilities: position of a column -> the class whose probability it holds.
        comma: whether numbers have a decimal comma.
    """

    none: str = ""
    sample: str = ""
    delimiter: str = ","
    comma: bool = False
    labels: dict[int, dict[str, str]] = Field(default_factory=dict)
    probabilities: dict[int, str] = Field(default_factory=dict)


class CohortRecord(Record):
    """``cohort.json``: which images a run learns from, and what was decided about them.

    Attributes:
        root: the data folder.
        n_cases: cases of the labelled images.
        n_sites: sites of the labelled images; None where the data says none.
        notes: what was guessed or converted, for people.
        repaired: images whose pixels or masks are repaired.
        label_by_case: whether a label was given to cases, and not to images; None where that is not recorded.
        seals: names of the files that seal images of this data folder.
        scoring: whether images or cases are counted.
        encoder: of features that were made elsewhere, empty where nothing says it; None of images.
    """

    FILE: ClassVar[str] = COHORT
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"n_sites", "encoder"})

    root: str
    layout: str
    classes: tuple[str, ...]
    n_labelled: int
    n_unlabelled: int = 0
    n_sealed: int = 0
    n_cases: int
    n_sites: int | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    repaired: tuple[str, ...] = ()
    label_by_case: bool | None = None
    seals: tuple[str, ...] = ()
    submission: Asked = Asked()
    scoring: Scoring = Scoring()
    encoder: str | None = None


def hash_cohort(cohort: Cohort, *, memo: Path) -> str:
    """Hash of everything that training sees: pixels, masks, labels, cases, order."""
    hashes = hash_files((path for s in cohort.samples for path in s.files), memo=memo)
    rows = [
        f"{s.image}|{hashes[s.path]}|{identify_mask(s, hashes)}|{s.label}|{s.case}"
        + (f"|{s.bits}" if s.bits else "")
        + (f"|{s.bag}" if s.bag is not None else "")
        + (f"|{s.site}|{s.subgroups}" if s.site or s.subgroups else "")
        for s in cohort.samples
    ]
    return hash_text(*rows)


def identify_mask(sample: Sample, hashes: Mapping[Path, str]) -> str:
    """Name what is under the mask of a sample by the content of its files and how they are read; "" without a mask."""
    how = replace(sample.mask_reading, more=())
    return "+".join(hashes[path] for path in sample.mask_files) + (f" {how}" if how != MaskReading() else "")


def tabulate_samples(cohort: Cohort) -> pd.DataFrame:
    """The samples table: one row an image, paths relative to the data folder.

    A column ``site`` and one for each column of subgroups follow where the data says them.
    """
    subgroups = dict.fromkeys(column for s in cohort.samples for column, _ in s.subgroups)
    more = [SITE_COLUMN] if any(s.site for s in cohort.samples) else []
    rows = [
        (
            s.image,
            ";".join(path.relative_to(cohort.root).as_posix() for path in s.mask_files),
            s.label or "",
            s.case,
            part,
            s.index,
            ""
            if s.repair is None
            else "; ".join(
                ([f"{len(s.repair.outline)} outlines filled"] if s.repair.outline else [])
                + (["mask re-cut"] if s.repair.recut else [])
            ),
            *([s.site] if more else []),
            *(dict(s.subgroups).get(column, "") for column in subgroups),
        )
        for part in ("labelled", "unlabelled", "sealed")
        for s in getattr(cohort, part)
    ]
    names = [*SAMPLE_COLUMNS, *more, *(f"{SUBGROUP_PREFIX}{column}" for column in subgroups)]
    return pd.DataFrame(rows, columns=names)
