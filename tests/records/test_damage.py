"""Records that were cut, emptied or swapped: named with a way out, or made anew; never another score."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smalti import logbook, workflow
from smalti.audit import read_evidence, read_findings
from smalti.errors import RunError, SmaltiError
from smalti.recipe import load_recipe
from smalti.records import RunFolder, Traces, open_run
from smalti.records.layout import SUSPECTS, TRACES
from smalti.report import write_report
from smalti.review import read_insight
from smalti.store import hash_files
from smalti.tile.store import open_store
from smalti.train import read_checkpoint

WAYS: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut in half": lambda content: content[: len(content) // 2],
    "cut at a line": lambda content: b"".join(content.splitlines(keepends=True)[:-2]),
    "a list": lambda content: b"[]",
    "a mapping": lambda content: b"{}",
    "nothing": lambda content: b"null",
    "bytes": lambda content: bytes(range(256)) * 3,
    "another version": lambda content: b'{"version": 99, "content": []}',
}
# To a table or to arrays one text without their columns is like another.
WAYS_OF_TABLES = ("emptied", "cut in half", "cut at a line", "a list", "bytes")
# What scores anew costs a hundred times what only reads, so that it meets fewer ways.
SCORING = {"evaluate", "compare"}
WAYS_OF_SCORING = {"emptied", "cut in half", "cut at a line", "a list", "another version"}
RECORDS = (
    "cohort.json", "decisions.csv", "environment.json", "events.log", "findings.json", "folds.csv", "history.csv",
    "predictions/dynamics.npz", "predictions/embeddings.npz", "predictions/inner.csv", "predictions/out_of_fold.csv",
    "predictions/rules.json", "predictions/test.csv", "recipe.yaml", "samples.csv", "scores.json", "submission.csv",
    "suspects.json", "traces.json", "checkpoints/fold0-seed0.safetensors",
)  # fmt: skip


def copy_run(source: Path, target: Path) -> Path:
    """A copy whose files may be replaced; what is appended to is a file of its own."""
    shutil.copytree(source, target, copy_function=os.link)
    (target / "events.log").unlink()
    shutil.copy(source / "events.log", target / "events.log")
    return target


def damage(path: Path, way: str) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(WAYS[way](content))


def check_way_out(error: SmaltiError) -> None:
    assert "Fix: " in str(error), str(error)


def read_all(run: Path) -> dict[str, Callable[[], Any]]:
    """What commands do with the records of a run."""

    def book() -> None:
        read = logbook.read_logbook(run.parent)
        logbook.settle_bests(read)

    return {
        "evaluate": lambda: workflow.evaluate_run(run).scores,
        "compare": lambda: workflow.compare_sources([run, run.parent / "other"], runs=run.parent),
        "logbook": book,
        "insight": lambda: read_insight(run, images=[f"train_data/img_{i:04d}.png" for i in range(24)]),
        "evidence": lambda: read_evidence(run),
        "findings": lambda: read_findings(run / "findings.json"),
        "suspects": lambda: read_findings(run / SUSPECTS),
        "traces": lambda: Traces.read(run),
        "checkpoint": lambda: read_checkpoint(run / "checkpoints" / "fold0-seed0.safetensors"),
        "recipe": lambda: RunFolder(run).read_recipe(),
    }


@pytest.mark.parametrize("record", RECORDS)
def test_a_damaged_record_is_named_or_changes_nothing(record: str, finished: Any, tmp_path: Path) -> None:
    text = Path(record).suffix in {".json", ".yaml", ".log"}
    for number, way in enumerate(WAYS if text else WAYS_OF_TABLES):
        run = copy_run(finished.path, tmp_path / f"{number}" / "whole")
        copy_run(finished.path, tmp_path / f"{number}" / "other")
        damage(run / record, way)
        for name, read in read_all(run).items():
            if name in SCORING and way not in WAYS_OF_SCORING:
                continue
            try:
                found = read()
            except SmaltiError as error:
                check_way_out(error)
                continue
            if name == "evaluate":
                assert found == finished.scores, (way, "another score")
            # It has written these anew.
            if name == "evaluate" and record in ("scores.json", SUSPECTS, TRACES):
                damage(run / record, way)


@pytest.mark.parametrize(
    "record", ["scores.json", "cohort.json", "folds.csv", "findings.json", "predictions/rules.json"]
)
@pytest.mark.parametrize("way", ["a mapping", "cut at a line", "another version"])
def test_a_report_of_a_damaged_record_is_refused_or_written(
    record: str, way: str, finished: Any, tmp_path: Path
) -> None:
    run = copy_run(finished.path, tmp_path / "whole")
    damage(run / record, way)
    try:
        write_report(RunFolder(run))
    except SmaltiError as error:
        check_way_out(error)


def test_a_table_cut_at_a_line_is_no_smaller_cohort(finished: Any, tmp_path: Path) -> None:
    run = copy_run(finished.path, tmp_path / "whole")
    damage(run / "predictions" / "out_of_fold.csv", "cut at a line")
    with pytest.raises(RunError, match=r"out_of_fold\.csv has 46 rows, and not those that .*folds\.csv names\. Fix: "):
        workflow.evaluate_run(run)


def test_a_recipe_that_was_edited_is_not_that_of_the_run(finished: Any, tmp_path: Path) -> None:
    run = copy_run(finished.path, tmp_path / "whole")
    text = (run / "recipe.yaml").read_text(encoding="utf-8")
    (run / "recipe.yaml").unlink()
    (run / "recipe.yaml").write_text(text.replace("resamples: 200", "resamples: 300"), encoding="utf-8")
    with pytest.raises(RunError, match="is not the recipe that this run began with"):
        workflow.evaluate_run(run)


def test_a_run_is_not_continued_on_a_damaged_record(tmp_path: Path) -> None:
    recipe, identity = load_recipe(), {"data": "a"}
    for number, content in enumerate(("", "[]", "{}", "null", '{"identity": [1]}', '{"identity": null}')):
        run = open_run(tmp_path / f"{number}", recipe=recipe, identity=identity)
        (run.path / "environment.json").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=r"environment\.json (is damaged|was written by another version).*Fix"):
            open_run(run.path, recipe=recipe, identity=identity)


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_store_of_tiles_is_named(way: str, finished: Any, tmp_path: Path) -> None:
    (store,) = (finished.path.parent / "cache").glob("tiles-*")
    for number, name in enumerate(("index.npz", "store.json", "tiles.u8", "masks.u1")):
        path = Path(shutil.copytree(store, tmp_path / f"{number}" / store.name)) / name
        if not path.is_file():
            continue
        before = path.read_bytes()
        damage(path, way)
        if path.read_bytes() == before:
            continue
        with pytest.raises(RunError, match="Fix: delete"):
            open_store(path.parent)


def test_a_damaged_memo_of_hashes_is_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.store.hashes.TICK_NS", -1)  # what was written this very moment is kept too
    (tmp_path / "a").write_bytes(b"a")
    memo = tmp_path / "hashes.json"
    right = hash_files([tmp_path / "a"], memo=memo)
    for way in WAYS:
        damage(memo, way)
        assert hash_files([tmp_path / "a"], memo=memo) == right
    memo.write_text(json.dumps({str(tmp_path / "a"): [1]}), encoding="utf-8")
    assert hash_files([tmp_path / "a"], memo=memo) == right


def test_a_damaged_table_of_a_fold_is_made_anew(prepare: Any) -> None:
    from smalti.predict import predict_outer
    from smalti.train import train_folds

    experiment = prepare("train.finetune.epochs=0")
    splits = experiment.splits
    train_folds(experiment)
    right = predict_outer(experiment)
    path = experiment.run.predictions / "folds" / f"outer-{splits[0].name}.csv"
    for way in WAYS:
        damage(path, way)
        found = predict_outer(experiment)
        assert list(found["image"]) == list(right["image"])
        assert np.array_equal(found.iloc[:, 5:].to_numpy(), right.iloc[:, 5:].to_numpy())
