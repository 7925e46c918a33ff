"""Run folders and prediction tables that are compared: read, and completed from each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ..errors import DataError, Problem
from ..evaluate import choose_unit
from ..logbook import resolve_run
from ..records import AsGiven, CohortRecord, Influence, RunFolder, Scores, Scoring, Unit
from ..records.layout import ENVIRONMENT
from .decisions.influence import describe_given
from .prepare.units import read_unit
from .stages import list_cases, read_predictions


@dataclass(frozen=True, slots=True)
class Source:
    """One side of a comparison: its name, where it is, and its out-of-fold table with the classes in score order.

    Attributes:
        run: folder of its run; a folder without a run for a table of another tool.
        unit: what its scores count; None for a table, which does not say.
        cases: image -> the case that the data names; None where there are no answers by case.
    """

    name: str
    path: Path
    table: pd.DataFrame
    classes: tuple[str, ...]
    run: Path
    unit: Unit | None = None
    cases: Mapping[str, str] | None = None


def read_source(source: str | Path, runs: Path) -> Source:
    """Read a prediction table, or the run of this path or name."""
    path = Path(source)
    if path.suffix.lower() == ".csv":
        table, classes = read_predictions(path)
        run = path.resolve().parent.parent
        cases = read_unit(run)[1] if (run / ENVIRONMENT).is_file() else list_cases(table)
        return Source(path.stem, path, table, classes, run, cases=cases)
    folder = path if path.is_dir() else resolve_run(runs, str(source))
    run_folder, (scoring, cases) = RunFolder(folder), read_unit(folder)
    table, classes = run_folder.read_out_of_fold(), CohortRecord.read(folder).classes
    return Source(folder.resolve().name, folder, table, classes, folder, scoring.unit, cases)


def settle_unit(sources: Sequence[Source], asked: Unit | None) -> tuple[Scoring, Mapping[str, str]]:
    """Return what all sources are compared by, and the cases of the first source that knows them.

    Raises:
        DataError: some are scored by image and some by case; answers by case are asked for and there are none.
    """
    said = {s.name: s.unit for s in sources if s.unit is not None}
    if asked is None and len(set(said.values())) > 1:
        listed = "; ".join(f"{name} by {unit}" for name, unit in said.items())
        problem = Problem("units", listed, "scores by image and scores by case are no pair.",
                          "compare all of them by one: --unit image, or --unit case")  # fmt: skip
        raise DataError("not comparable as they are scored:", [problem])
    cases = next((s.cases for s in sources if s.cases is not None), None)
    first = sources[0].table
    labels = dict(zip(first["image"].astype(str), first["label"].astype(str), strict=True))
    if asked is None and said:
        unit = next(iter(said.values()))
        return replace(choose_unit(labels, cases, asked=unit), reason="as the runs are scored"), cases or {}
    return choose_unit(labels, cases, asked=asked), cases or {}


def read_given(run: Path, unit: Unit) -> AsGiven | None:
    """Return the scores of a run as given, where decisions may have been made with predictions in view."""
    if not (run / ENVIRONMENT).is_file():
        return None
    scores = Scores.find(run)
    own = scores.take(unit) if scores is not None else None
    if own is not None and own.as_given is not None:
        return own.as_given
    changed = Influence.read(run).describe()
    return describe_given(changed, None) if changed else None


def complete_sources(sources: list[Source]) -> list[Source]:
    """Give sources different names, and tables of other tools what they lack, from the first source that has it.

    Labels and cases are filled in by image. Names of images are completed where only the folder is missing.
    """
    named: list[Source] = []
    for source in sources:
        taken, name, number = {s.name for s in named}, source.name, 2
        while name in taken:
            name, number = f"{source.name} ({number})", number + 1
        named.append(replace(source, name=name))
    for column in ("label", "case"):
        known = next((s.table for s in named if {column, "image"} <= set(s.table)), None)
        if known is None:
            continue
        by_image = dict(zip(known["image"].astype(str), known[column], strict=True))
        short = {Path(image).name: image for image in by_image}
        for place, source in enumerate(named):
            table = source.table
            if "image" not in table:
                continue
            mine = set(table["image"].astype(str))
            if len(short) == len(by_image) and not mine & by_image.keys() and mine <= short.keys():
                table = table.assign(image=[short[image] for image in table["image"].astype(str)])
            if column not in table:
                table = table.assign(**{column: [by_image.get(image, "") for image in table["image"].astype(str)]})
            named[place] = replace(source, table=table)
    return named


def keep_common(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Return sources with the rows of the images that all have, and notes on the others; labels are not looked at.

    Raises:
        DataError: they have no image in common.
    """
    listed = [set(s.table["image"].astype(str)) for s in sources if "image" in s.table]
    if len(listed) < len(sources):
        return sources, []  # what is missing is said when the table is pooled
    shared = set.intersection(*listed)
    if not shared:
        raise DataError("the runs have no image in common: nothing can be compared", fix="name runs on the same images")
    lost = [(s.name, len(images - shared)) for s, images in zip(sources, listed, strict=True)]
    notes = [f"{name}: {count} images that others lack are left out" for name, count in lost if count]
    return [replace(s, table=s.table[s.table["image"].astype(str).isin(shared)]) for s in sources], notes
