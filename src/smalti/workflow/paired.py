"""Runs and prediction tables side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..errors import RunError
from ..evaluate import MARGIN, Pair, average_cases, check_alike, check_margin, compare_pairs, measure_margins
from ..project import RUNS
from ..records.scored import AsGiven, Unit
from ..records.studies.comparison import ComparedRun, Comparison, Difference
from ..stats import Pool, judge_trust, pool_predictions, score_pool
from .compared_sources import complete_sources, keep_common, read_given, read_source, settle_unit


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
) -> Comparison:
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
        out: folder in which the comparison is written.

    Raises:
        DataError: a table that cannot be scored, or other images, labels, cases or classes than the first; some runs
            are scored by image and some by case; answers by case are asked for and there are none.
        RunError: fewer than two, or no such run.
        RecipeError: a margin below 0, or of 1 and more.
    """
    check_margin(margin)
    if len(sources) < 2:
        raise RunError("one run has nothing to be compared with", fix="name two or more runs or tables")
    read = complete_sources([read_source(source, Path(runs)) for source in sources])
    read, notes = keep_common(read) if common else (read, [])
    first = read[0].classes  # columns have names, so the order of equal classes plays no role
    classes = {s.name: first if set(s.classes) == set(first) else s.classes for s in read}
    pools = {s.name: pool_predictions(s.table, classes=classes[s.name]) for s in read}
    check_alike(pools)
    scoring, cases = settle_unit(read, unit)
    n_images = len(pools[read[0].name].images)
    if scoring.unit == "case":
        means = {s.name: average_cases(s.table, cases, classes=classes[s.name]) for s in read}
        pools = {name: pool_predictions(table, classes=classes[name]) for name, table in means.items()}
    given = {s.name: g for s in read if (g := read_given(s.run, scoring.unit)) is not None}
    found = compare_pools(pools, confidence=confidence, given=given, without_luck=without_luck, margin=margin)
    notes += describe_folds(pools)
    if without_luck:
        notes.append("as asked for, luck that cannot be measured is in no interval and in no verdict")
    rows = [row.model_copy(update={"path": str(s.path)}) for row, s in zip(found.rows, read, strict=True)]
    about = {"unit": scoring.unit, "unit_reason": scoring.reason, "n_images": n_images}
    result = found.model_copy(update=about | {"notes": tuple(notes), "rows": tuple(rows)})
    if out is not None:
        result.write(Path(out))
    return result


def compare_pools(
    pools: Mapping[str, Pool],
    *,
    confidence: float,
    given: Mapping[str, AsGiven] | None = None,
    without_luck: bool = False,
    margin: float = MARGIN,
) -> Comparison:
    """Compare every pool with the first, by image.

    Args:
        pools: by name.
        confidence: of the intervals.
        given: scores as given of those whose labels or images were changed with predictions in view; a comparison with
            one of them has no verdict.
        without_luck: give a verdict also where the luck of trainings cannot be measured.
        margin: within which a difference is practically equal.
    """
    given = given or {}
    scored = {name: score_pool(pool) for name, pool in pools.items()}
    names = list(pools)
    first = pools[names[0]]
    pairs = []
    for name in names[1:]:
        changed = [n for n in (name, names[0]) if n in given]
        why = f"labels or images of {' and '.join(changed)} were changed with predictions in view" if changed else ""
        pairs.append(Pair(name, names[0], scored[name], scored[names[0]], why))
    found = compare_pairs(pairs, confidence=confidence, without_luck=without_luck, margin=margin)
    differences = [None, *({metric: Difference(**asdict(d)) for metric, d in one.items()} for one in found)]
    trustworthy, reason = judge_trust(first)
    if given:
        doubts = [f"{name}: {section.words}" for name, section in given.items()]
        trustworthy, reason = False, "; ".join([*doubts, *([] if trustworthy else [reason])])
    rows = tuple(
        ComparedRun(
            name=name,
            path="",
            n_seeds=len(pools[name].scores),
            metrics=measure_margins(pools[name], confidence=confidence),
            against=None if difference is None else names[0],
            difference=difference,
            as_given=given.get(name),
        )
        for name, difference in zip(names, differences, strict=True)
    )
    return Comparison(
        names=tuple(names), classes=first.classes, unit="image", unit_reason="", n_images=len(first.images),
        n_units=len(first.images), n_cases=first.n_cases, confidence=confidence, alpha=round(1 - confidence, 10),
        margin=margin, trustworthy=trustworthy, reason=reason, notes=(), rows=rows,
    )  # fmt: skip


def describe_folds(pools: Mapping[str, Pool]) -> list[str]:
    """Return what to know about folds and seeds when reading a comparison with the first pool."""
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
