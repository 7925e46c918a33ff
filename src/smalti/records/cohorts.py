"""A cohort as a table and as a hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..store import hash_files, hash_text
from ..types import SAMPLE_COLUMNS, Cohort, MaskReading, Repair, Sample


def hash_cohort(cohort: Cohort, *, memo: Path) -> str:
    """Hash of everything that training sees: pixels, masks, labels, cases, order."""
    hashes = hash_files((path for s in cohort.samples for path in s.files), memo=memo)
    rows = [
        f"{s.image}|{hashes[s.path]}|{identify_mask(s, hashes)}|{s.label}|{s.case}" + (f"|{s.bits}" if s.bits else "")
        for s in cohort.samples
    ]
    return hash_text(*rows)


def identify_mask(sample: Sample, hashes: Mapping[Path, str]) -> str:
    """Name what is under the mask of a sample by the content of its files and how they are read; "" without a mask."""
    how = replace(sample.mask_reading, more=())
    return "+".join(hashes[path] for path in sample.mask_files) + (f" {how}" if how != MaskReading() else "")


def tabulate_samples(cohort: Cohort) -> pd.DataFrame:
    """The samples table: one row an image, paths relative to the data folder."""
    rows = [
        (
            s.image,
            ";".join(path.relative_to(cohort.root).as_posix() for path in s.mask_files),
            s.label or "",
            s.case,
            part,
            s.index,
            _describe_repair(s.repair),
        )
        for part in ("labelled", "unlabelled", "sealed")
        for s in getattr(cohort, part)
    ]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def _describe_repair(repair: Repair | None) -> str:
    if repair is None:
        return ""
    parts = [f"{len(repair.outline)} outlines filled"] if repair.outline else []
    return "; ".join([*parts, *(["mask re-cut"] if repair.recut else [])])
