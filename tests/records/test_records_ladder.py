"""Contract of the records of ladders, searches, curves, comparisons and seals: what is written is read.

Each record is written by the code that writes it in a run of smalti, on drawn predictions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from drawn_records import draw_run
from smalti.errors import RunError
from smalti.evaluate import score_predictions
from smalti.learn.answers import answer_cases
from smalti.logbook import read_logbook, settle_bests
from smalti.logbook.seal import add_opening, list_seals, write_seal
from smalti.records import Record
from smalti.records.studies.best import BestRuns
from smalti.records.studies.comparison import Comparison
from smalti.records.studies.ladder import ChanceLevels, LadderResult, Rung, RungState
from smalti.records.studies.learning import LearningPoint, LearningResult
from smalti.records.studies.seal import Seal
from smalti.records.studies.search import CurvePoint, KnobRange, OuterScores, Search, SearchResult, Study
from smalti.stats import pool_predictions
from smalti.store import write_json
from smalti.tune.space import Knob
from smalti.workflow.paired import compare_pools

CLASSES = ("a", "b")


def draw_table(skill: float, *, seed: int = 0) -> pd.DataFrame:
    """Predictions of 40 cases, five folds and two seeds."""
    rng = np.random.default_rng(seed)
    truth = np.arange(40) % 2
    parts = []
    for number in range(2):
        score = 1 / (1 + np.exp(-(skill * (2 * truth - 1) + rng.normal(0, 1, 40))))
        table = pd.DataFrame({"image": [f"i{k}" for k in range(40)], "label": [CLASSES[k] for k in truth]})
        parts.append(table.assign(fold=np.arange(40) % 5, seed=number, score_a=1 - score, score_b=score))
    return pd.concat(parts, ignore_index=True)


def draw_comparison() -> Comparison:
    pools = {name: pool_predictions(draw_table(skill), classes=CLASSES) for name, skill in (("x", 0.5), ("y", 2.0))}
    return compare_pools(pools, confidence=0.95)


def draw_ladder() -> LadderResult:
    found, scores = draw_comparison(), score_predictions(draw_table(2.0), classes=CLASSES)
    rungs = tuple(
        Rung(
            name=row.name, change="", settings=("model.dropout=0.1",), on=row.against, members=(), status="done",
            run=row.name, metrics=row.metrics, difference=row.difference, n_images=40, n_cases=40, trustworthy=True,
        )
        for row in found.rows
    )  # fmt: skip
    return LadderResult(
        ladder="two", about="", started="now", finished=None, data="/data", confidence=0.95, alpha=0.05, margin=0.02,
        classes=CLASSES, unit="image", n_images=40, n_cases=40, shares={"a": 0.5, "b": 0.5},
        chance=ChanceLevels.of(scores), best="y", choice=None, inner_choice=None, set_aside={"excluded": 2},
        scoring=("a sentence",), rungs=rungs,
    )  # fmt: skip


def draw_search() -> SearchResult:
    found, scores = draw_comparison(), score_predictions(draw_table(2.0), classes=CLASSES)
    knob = Knob.model_validate({"knob": "model.dropout", "choices": [0, 0.5, True, "x"]})
    point = CurvePoint(knob="model.dropout", value=0, seed=1, score=float("nan"))
    return SearchResult(
        about="", finished="now", search=Search(), knobs=(KnobRange(**knob.model_dump()),),
        studies=(Study(study="all", trials=2, value=0.5, params={"model.dropout": True}),),
        outer=OuterScores(**dict(found), interval=scores.interval, chance=0.5), inner=0.6, optimism=0.1, effects=None,
        idle=(), n_trials=2, n_complete=1, n_unscored=0, interactions=None, curves=(point,), noise=None,
        curve_points=4, least_trials=20,
    )  # fmt: skip


def draw_curve() -> LearningResult:
    scores = score_predictions(draw_table(2.0), classes=CLASSES)
    margin = scores.headline.model_dump(include={"value", "low", "high", "trustworthy", "reason"})
    point = LearningPoint(share=1.0, cases=32.0, images=32.0, networks=10, taught=0.9, single=(0.8, 0.9), **margin)
    return LearningResult(
        data="/data", orders=5, head="logistic", backbone="x", preset="quick", classes=CLASSES, n_images=40, n_cases=40,
        n_seeds=2, n_folds=5, confidence=0.95, margin=0.02, covers=scores.interval.covers,
        chance=ChanceLevels.of(scores), trustworthy=True, reason="", points=(point,), growth=(),
        answers=(answer_cases([], why="too few", margin=0.02, confidence=0.95),),
    )  # fmt: skip


def draw_seal() -> Seal:
    seal = Seal(data="/data", share=0.2, sealed_at="now", images=("i0",), n_images=1, n_cases=1)
    return add_opening(seal, {"x": draw_comparison().rows[0].metrics})


DRAWN: dict[str, Callable[[], Record]] = {
    "comparison": draw_comparison,
    "ladder": draw_ladder,
    "rung": lambda: RungState(key="k", status="done", run="r", seconds=1.5),
    "search": draw_search,
    "curve": draw_curve,
    "seal": draw_seal,
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    record = DRAWN[name]()
    path = record.write_file(tmp_path / "record.json")
    assert type(record).read_file(path) == record
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text
    assert type(record).read_file(path).write_file(tmp_path / "again.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", DRAWN)
def test_a_damaged_file_is_one_error_with_a_fix(name: str, tmp_path: Path) -> None:
    record = DRAWN[name]()
    path = record.write_file(tmp_path / "record.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    key = next(key for key in content if key != "version")
    for damaged in ({}, content | {"unknown": 1}, {k: v for k, v in content.items() if k != key}, [1]):
        write_json(path, damaged)
        with pytest.raises(RunError, match=r"record\.json.*Fix: "):
            type(record).read_file(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"record\.json is damaged.*Fix: "):
        type(record).read_file(path)


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "seal"])
def test_a_file_of_another_version_says_so(name: str, tmp_path: Path) -> None:
    record = DRAWN[name]()
    path = record.write_file(tmp_path / "record.json")
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"version": 2})
    with pytest.raises(RunError, match=r"another version of smalti.*Fix: "):
        type(record).read_file(path)


def test_an_older_seal_stays_readable(tmp_path: Path) -> None:
    """A seal is never made anew: one without hashes, whose openings do not say whether to trust them, is read."""
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    opening = {"time": "then", "runs": ["x"], "scores": {"x": {"macro_f1": score}}}
    old = {"data": "/data", "share": 0.2, "sealed_at": "then", "images": ["i"], "n_images": 1, "n_cases": 1}
    write_json(tmp_path / "data.seal.json", old | {"openings": [opening]})
    ((path, seal),) = list_seals(tmp_path).items()
    assert seal.openings[0].scores["x"]["macro_f1"].say() == "0.500 (0.400 to 0.600)"
    write_seal(path, seal)
    assert list_seals(tmp_path) == {path: seal}


def test_the_best_runs_are_read_as_the_logbook_writes_them(tmp_path: Path) -> None:
    draw_run(tmp_path, "a")
    (best,) = settle_bests(read_logbook(tmp_path))
    assert BestRuns.read(tmp_path).bests == {best.data: best.chosen}


def test_differences_that_cannot_be_computed_are_none() -> None:
    """Of two equal runs no smallest difference can be told."""
    pools = {name: pool_predictions(draw_table(1.0), classes=CLASSES) for name in ("x", "y")}
    gap = compare_pools(pools, confidence=0.95).rows[1].gap
    assert gap is not None
    assert (gap.value, gap.smallest_detectable) == (0.0, None)
