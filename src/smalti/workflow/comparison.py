"""Runs and prediction tables side by side, and the one look into the sealed part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort import Columns, inspect_folder
from ..errors import DataError, Problem, RunError
from ..evaluate import (
    MARGIN,
    Difference,
    Pair,
    Scoring,
    Unit,
    average_cases,
    check_alike,
    check_margin,
    choose_unit,
    compare_pairs,
    measure_margins,
    take_unit,
)
from ..logbook import resolve_run
from ..logbook.seal import Seal, add_opening, find_seal, read_seal, write_seal
from ..project import RUNS
from ..records import RunFolder
from ..stats import Pool, judge_trust, pool_predictions, score_pool
from ..store import read_json, read_table, reading, write_json
from ..types import score_columns
from .decisions.influence import describe_given, read_influence
from .prepare.units import read_unit
from .stages import list_cases, read_predictions


@dataclass(frozen=True, slots=True)
class Source:
    """One side of a comparison: a name, where it is, and its out-of-fold table with the classes in score order.

    Attributes:
        run: folder of the run that it is of; that of no run where a table is of another tool.
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


def compare_sources(
    sources: Sequence[str | Path],
    *,
    runs: str | Path = RUNS,
    common: bool = False,
    unit: Unit | None = None,
    without_luck: bool = False,
    confidence: float = 0.95,
    margin: float = MARGIN,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Compare run folders and prediction tables of any tool with the first of them, pair by pair.

    Args:
        sources: at least two: run folders, names of runs, ``best``, or CSV tables (``image, score_<class>...`` or
            ``image, predicted``). Labels and cases that a table lacks are those of the first source that has them.
        runs: where names of runs are looked up.
        common: compare on the images that all have, instead of refusing.
        unit: whether images or cases are counted; None takes what all runs say, for tables alone see `choose_unit`.
        without_luck: give a verdict also where the luck of trainings cannot be measured, as if there were none.
        confidence: of the intervals.
        margin: a difference whose whole interval lies within this of zero is called practically equal; 0 does not ask.
        out: folder in which ``comparison.json`` is written.

    Returns:
        The content of ``comparison.json``.

    Raises:
        DataError: a table that cannot be scored, or other images, labels, cases or classes than the first; some runs
            are scored by image and some by case; answers by case are asked for and there are none.
        RunError: fewer than two, or no such run.
        RecipeError: a margin below 0, or of 1 and more.
    """
    check_margin(margin)
    if len(sources) < 2:
        raise RunError("one run has nothing to be compared with. Fix: name two or more runs or tables")
    read = _complete([_read_source(source, Path(runs)) for source in sources])
    read, notes = _keep_common(read) if common else (read, [])
    pools = {s.name: pool_predictions(s.table, classes=_order(s, read[0])) for s in read}
    check_alike(pools)
    scoring, cases = _settle_unit(read, unit)
    n_images = len(pools[read[0].name].images)
    if scoring.unit == "case":
        means = {s.name: average_cases(s.table, cases, classes=_order(s, read[0])) for s in read}
        pools = {s.name: pool_predictions(means[s.name], classes=_order(s, read[0])) for s in read}
    given = {s.name: g for s in read if (g := _read_given(s.run, scoring.unit)) is not None}
    result = tabulate_comparison(pools, confidence=confidence, given=given, without_luck=without_luck, margin=margin)
    result |= {"unit": scoring.unit, "unit_reason": scoring.reason, "n_images": n_images}
    result["notes"] = notes + describe_folds(pools)
    if without_luck:
        result["notes"].append("as asked for, luck that cannot be measured is in no interval and in no verdict")
    for row, source in zip(result["rows"], read, strict=True):
        row["path"] = str(source.path)
    if out is not None:
        write_json(Path(out) / "comparison.json", result)
    return result


def tabulate_comparison(
    pools: Mapping[str, Pool],
    *,
    confidence: float,
    given: Mapping[str, Mapping[str, Any]] | None = None,
    without_luck: bool = False,
    margin: float = MARGIN,
) -> dict[str, Any]:
    """Every pool against the first, as ``comparison.json`` holds it.

    Args:
        pools: by name.
        confidence: of the intervals.
        given: what those of them score as given whose labels or images were changed with predictions in view; a
            comparison with one of them has no verdict.
        without_luck: give a verdict also where the luck of trainings cannot be measured.
        margin: within which a difference is practically equal.
    """
    given = given or {}
    scored = {name: score_pool(pool) for name, pool in pools.items()}
    names = list(pools)
    first = pools[names[0]]
    pairs = [
        Pair(
            name,
            names[0],
            scored[name],
            scored[names[0]],
            say_withheld([n for n in (name, names[0]) if n in given]),
        )
        for name in names[1:]
    ]
    found = compare_pairs(pairs, confidence=confidence, without_luck=without_luck, margin=margin)
    trustworthy, reason = judge_trust(first)
    if given:
        doubts = [f"{name}: {section['words']}" for name, section in given.items()]
        trustworthy, reason = False, "; ".join([*doubts, *([] if trustworthy else [reason])])
    rows = [
        {
            "name": name,
            "path": "",
            "n_seeds": len(pools[name].scores),
            "metrics": tabulate_margins(pools[name], confidence=confidence),
            "against": names[0] if position else None,
            "difference": tabulate_differences(found[position - 1]) if position else None,
            "as_given": given.get(name),
        }
        for position, name in enumerate(names)
    ]
    return {
        "names": names, "classes": list(first.classes), "unit": "image",
        "n_images": len(first.images), "n_units": len(first.images), "n_cases": first.n_cases,
        "confidence": confidence, "alpha": round(1 - confidence, 10), "margin": margin,
        "trustworthy": trustworthy, "reason": reason, "notes": [], "rows": rows,
    }  # fmt: skip


def say_withheld(names: Sequence[str]) -> str:
    """Why there is no verdict on these; empty where there are none."""
    if not names:
        return ""
    return f"labels or images of {' and '.join(names)} were changed with predictions in view"


def describe_folds(pools: Mapping[str, Pool]) -> list[str]:
    """What to know about folds and seeds when reading the comparison."""
    first, *others = pools
    notes = []
    unknown = [name for name, pool in pools.items() if (pool.fold == pool.fold.flat[0]).all()]
    for name in others:
        mine, theirs = pools[name].fold, pools[first].fold
        if mine.shape != theirs.shape:
            notes.append(f"{name} has {len(mine)} seed(s), {first} {len(theirs)}: each is averaged over its own")
        elif (mine != theirs).any() and not {name, first} & set(unknown):
            notes.append(f"{name} and {first} used other folds: the luck of the folds is part of the difference")
    return notes


def tabulate_margins(pool: Pool, *, confidence: float) -> dict[str, dict[str, Any]]:
    """Every metric with its interval, as JSON holds it."""
    margins = measure_margins(pool, confidence=confidence)
    return {name: {key: _number(value) for key, value in asdict(margin).items()} for name, margin in margins.items()}


def tabulate_differences(differences: Mapping[str, Difference]) -> dict[str, dict[str, Any]]:
    """Differences as JSON holds them: None for what could not be computed."""
    return {
        metric: {key: _number(value) for key, value in asdict(difference).items()}
        for metric, difference in differences.items()
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value  # NaN is no JSON


def _read_source(source: str | Path, runs: Path) -> Source:
    path = Path(source)
    if path.suffix.lower() == ".csv":
        table, classes = read_predictions(path)
        run = path.resolve().parent.parent
        cases = read_unit(run)[1] if (run / "environment.json").is_file() else list_cases(table)
        return Source(path.stem, path, table, classes, run, cases=cases)
    folder = path if path.is_dir() else resolve_run(runs, str(source))
    run_folder, (scoring, cases) = RunFolder(folder), read_unit(folder)
    table, classes = run_folder.read_out_of_fold(), run_folder.read_classes()
    return Source(folder.resolve().name, folder, table, classes, folder, scoring.unit, cases)


def _settle_unit(sources: Sequence[Source], asked: Unit | None) -> tuple[Scoring, Mapping[str, str]]:
    """What all are compared by, and the cases that the first names which knows them; never some so and some so."""
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


def _read_given(run: Path, unit: Unit) -> dict[str, Any] | None:
    """What a run scores as given, where that is another score; None too where the folder is that of no run."""
    if not (run / "environment.json").is_file():
        return None
    changed = read_influence(run).describe()
    path = run / "scores.json"
    scores = read_json(path) if path.is_file() else None
    if isinstance(scores, dict) and scores.get("as_given") is not None:
        with reading(path):
            kept = (take_unit(scores, unit) or {}).get("as_given")
            if kept is not None:
                return dict(kept) | {"words": str(kept["words"])}
    return describe_given(changed, None) if changed else None


def _complete(sources: list[Source]) -> list[Source]:
    """Sources under different names, with what tables of other tools lack taken from the first that has it.

    Labels and cases by image; names of images where only the folder in front of them is missing.
    """
    named: list[Source] = []
    for source in sources:
        taken, name, number = {s.name for s in named}, source.name, 2
        while name in taken:
            name, number = f"{source.name} ({number})", number + 1
        named.append(replace(source, name=name))
    for column in ("label", "case"):
        known = next((s.table for s in named if {column, "image"} <= set(s.table)), None)
        if known is not None:
            named = [replace(s, table=_fill(_rename(s.table, known), column, known)) for s in named]
    return named


def _keep_common(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """Sources with the rows of images that all have, and what was left out; before labels are looked at."""
    listed = [set(s.table["image"].astype(str)) for s in sources if "image" in s.table]
    if len(listed) < len(sources):
        return sources, []  # what is missing is said when the table is pooled
    shared = set.intersection(*listed)
    if not shared:
        raise DataError("the runs have no image in common: nothing can be compared. Fix: name runs on the same images")
    lost = [(s.name, len(images - shared)) for s, images in zip(sources, listed, strict=True)]
    notes = [f"{name}: {count} images that others lack are left out" for name, count in lost if count]
    return [replace(s, table=s.table[s.table["image"].astype(str).isin(shared)]) for s in sources], notes


def _fill(table: pd.DataFrame, column: str, known: pd.DataFrame) -> pd.DataFrame:
    """The table with a column that it lacks, by image; images that are not known keep it empty."""
    if column in table or "image" not in table:
        return table
    by_image = dict(zip(known["image"].astype(str), known[column], strict=True))
    return table.assign(**{column: [by_image.get(image, "") for image in table["image"].astype(str)]})


def _rename(table: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The table with the image names of ``known``, where all of its names are theirs without the folder."""
    if "image" not in table:
        return table
    images = set(known["image"].astype(str))
    short = {Path(image).name: image for image in images}
    mine = table["image"].astype(str)
    if len(short) < len(images) or set(mine) & images or not set(mine) <= set(short):
        return table
    return table.assign(image=[short[image] for image in mine])


def _order(source: Source, first: Source) -> tuple[str, ...]:
    """Classes in the order of the first source where they are the same; columns have names, so order plays no role."""
    return first.classes if set(source.classes) == set(first.classes) else source.classes


def open_seal(
    names: Sequence[str | Path], *, runs: str | Path = RUNS, margin: float = MARGIN
) -> tuple[Seal, dict[str, Any]]:
    """Score runs on the sealed cases and write down that it was done: the one look that nothing was chosen upon.

    Each run's scores are averaged over its folds and seeds, as its submission is. With several runs the first is the
    one that the others are compared with.

    Returns:
        The seal with the new opening, and a comparison as `compare_sources` gives, on the sealed images.

    Raises:
        RunError: a run without sealed images, runs of different data, or no seal.
        RecipeError: a margin below 0, or of 1 and more; the seal stays closed.
    """
    check_margin(margin)
    folders = [Path(n) if Path(n).is_dir() else resolve_run(Path(runs), str(n)) for n in names]
    roots = {str(read_json(folder / "cohort.json", "root")["root"]) for folder in folders}
    if len(roots) != 1:
        raise RunError(f"the runs are of different data: {', '.join(sorted(roots))}. Fix: open one seal at a time")
    seals = _find_seals(folders, Path(roots.pop()))
    labels = _read_labels(folders[0])
    pools = {folder.resolve().name: _pool_sealed(folder, labels) for folder in folders}
    check_alike(pools)
    first = next(iter(pools.values()))
    scoring, cases = _settle_sealed(folders, {image: labels[image] for image in first.images})
    if scoring.unit == "case":
        pools = {folder.resolve().name: _pool_sealed(folder, labels, cases) for folder in folders}
    result = tabulate_comparison(pools, confidence=0.95, given=_find_touched(folders, seals.values()), margin=margin)
    result |= {"unit": scoring.unit, "unit_reason": scoring.reason, "n_images": len(first.images)}
    scores = {row["name"]: row["metrics"] for row in result["rows"]}
    seals = {path: add_opening(seal, scores) for path, seal in seals.items()}
    for path, seal in seals.items():
        write_seal(path, seal)
    for folder in folders:
        RunFolder(folder).log("seal opened", scores=scores[folder.resolve().name]["macro_f1"])
    return next(iter(seals.values())), result


def _find_seals(folders: Sequence[Path], root: Path) -> dict[Path, Seal]:
    """The seals under which runs were made; of runs that do not say it, the one of their data folder."""
    runs = folders[0].resolve().parent
    named = [name for folder in folders for name in read_json(folder / "cohort.json").get("seals", ())]
    paths = [runs / name for name in dict.fromkeys(named)] or [find_seal(root, runs=runs)]
    found = {path: read_seal(path) for path in paths}
    if missing := [str(path) for path, seal in found.items() if seal is None]:
        raise RunError(
            f"nothing is sealed: no {', '.join(missing)}. Fix: --set split.sealed_frac=0.2 from the first run on"
        )
    return {path: seal for path, seal in found.items() if seal is not None}


def _find_touched(folders: Sequence[Path], seals: Iterable[Seal]) -> dict[str, dict[str, Any]]:
    """Runs whose sealed scores may be touched by decisions that were made with predictions in view.

    Labels here are those that were given, whatever was decided. What is left is sealed images that were left out or
    repaired, and networks that had seen the sealed cases before these were sealed.
    """
    touched, earlier = {}, sorted({name for seal in seals for name in seal.runs_before})
    for folder in folders:
        influence = read_influence(folder)
        inside = len(influence.sealed)
        before = f"the sealed cases may have been seen by {', '.join(earlier)}, made before the seal"
        reasons = [f"{inside} sealed images were left out or repaired with predictions in view"] if inside else []
        reasons += [before] if influence.followed and earlier else []
        if reasons:
            touched[folder.resolve().name] = describe_given("; ".join(reasons), None)
    return touched


def _read_labels(folder: Path) -> dict[str, str]:
    """The given label of every image of the data folder that a run was made on."""
    columns = Columns(**RunFolder(folder).read_recipe().data.model_dump())
    cohort, _ = inspect_folder(Path(read_json(folder / "cohort.json", "root")["root"]), columns=columns)
    return {} if cohort is None else {s.image: s.label for s in cohort.labelled if s.label is not None}


def _settle_sealed(folders: Sequence[Path], labels: Mapping[str, str]) -> tuple[Scoring, Mapping[str, str]]:
    """What is counted: cases where all runs count cases and those that are sealed have one label each; else images."""
    read = [read_unit(folder) for folder in folders]
    cases = next((cases for _, cases in read if cases is not None), None)
    by_case = all(scoring.unit == "case" for scoring, _ in read)
    return choose_unit(labels, cases, asked=None if by_case else "image"), cases or {}


def _pool_sealed(folder: Path, labels: Mapping[str, str], cases: Mapping[str, str] | None = None) -> Pool:
    """Pool the sealed images of a run, or their means by case where ``cases`` are given."""
    from ..predict import average_scores

    classes = RunFolder(folder).read_classes()
    path = folder / "predictions" / "sealed.csv"
    if not path.is_file():
        raise RunError(f"{folder.name} has no scores of the sealed part: it is older than the seal. Fix: run it anew")
    samples = read_table(folder / "samples.csv", "image", "case").set_index("image")
    scores = average_scores(read_table(path, "image", *score_columns(classes)), classes=classes)
    gone = [image for image in scores["image"] if image not in labels]
    if gone:
        raise RunError(f"{len(gone)} sealed images have no label any more ({gone[0]}). Fix: bring the data folder back")
    case, label = [samples["case"][i] for i in scores["image"]], [labels[i] for i in scores["image"]]
    table = scores.assign(case=case, label=label)
    return pool_predictions(table if cases is None else average_cases(table, cases, classes=classes), classes=classes)
