"""Same recipe, same bytes: run twice, cut short anywhere, killed by the system."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pages import without_pages
from smalti import workflow
from smalti.train import loop, read_checkpoint, train_folds
from textures import BARE

Make = Callable[..., Any]
# A state after every epoch, as where epochs take long; the command line is the real one. Each line of the input starts
# it in a process of its own, which shares with the one before only what was imported; its number and its end are told.
DRIVER = """
import os
import sys

import smalti.train.loop as loop
import smalti.workflow
from smalti.__main__ import main

loop.SAVE_EVERY_S = 0.0
for _ in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        main()
        sys.exit(0)
    os.write(1, b"%d\\n" % child)
    os.write(1, b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
# Stored statistics: with live ones finetuning from scratch only harms here, and there is no refit to be killed in.
LONG = (
    "train.finetune.epochs=3",
    "train.finetune.patience=99",
    "train.transfer.epochs=12",
    "model.norm=frozen_statistics",
)
KILL_DEADLINE_S = 120.0
TABLES = ("test.csv", "inner.csv", "dynamics.npz", "embeddings.npz")  # of predictions


class CutError(BaseException):
    """Stands for the end of the process: no Exception."""


def read_scores(run: Path) -> bytes:
    return (run / "predictions" / "out_of_fold.csv").read_bytes()


# --- cut short in the same process --------------------------------------------------------------------------------


def cut_after(epochs: int) -> Callable[[str, int, int], None]:
    """A listener that ends everything after so many epochs."""
    count = itertools.count(1)

    def tell(stage: str, done: int, total: int) -> None:
        if next(count) >= epochs:
            raise CutError

    return tell


@pytest.mark.parametrize("optimiser", ["adamw", "lion", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_a_head_cut_short_again_and_again_ends_the_same(
    optimiser: str, schedule: str, embed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, views and every schedule: momentum, rates and random numbers all go on where they were."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "c"], 60)
    points = rng.normal(size=(2, 60, 8)) + (labels == "a")[:, None]
    knobs = [f"optimiser={optimiser}", f"schedule={schedule}", "epochs=9", "patience=4", "batch_images=7"]
    knobs = ["split.folds=2", "model.dropout=0.4", *(f"train.transfer.{knob}" for knob in knobs)]
    ends = []
    for way, cuts in (("whole", []), ("cut", [1, 3, 2, 4, 1, 2])):
        experiment = embed(points, labels, *knobs, name=way)
        splits = experiment.splits
        for epochs in cuts:
            with pytest.raises(CutError):
                train_folds(experiment, tell=cut_after(epochs))
            assert list(experiment.run.checkpoints.glob("*.progress")) or epochs == 1
        train_folds(experiment)
        assert not list(experiment.run.checkpoints.glob("*.progress"))
        contents = [read_checkpoint(experiment.run.checkpoints / f"{s.name}.safetensors") for s in splits]
        history = pd.read_csv(experiment.run.path / "history.csv").drop(columns="seconds")
        ends.append((contents, history.to_csv()))
    (whole, whole_history), (cut, cut_history) = ends
    assert whole_history == cut_history
    for one, other in zip(whole, cut, strict=True):
        assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())
        assert torch.equal(one["inner_logits"], other["inner_logits"])


def test_the_best_weights_from_before_a_cut_are_kept(embed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels without meaning at a high rate: the best epoch is early, the cut after it."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(60, 8)), rng.choice(["a", "b"], 60)
    knobs = ("split.folds=2", "train.refit=false", "train.transfer.lr=0.1", "train.transfer.patience=8")
    ends = []
    for way in ("whole", "cut"):
        experiment = embed(points, labels, *knobs, "train.transfer.schedule=constant", name=way)
        splits = experiment.splits
        if way == "cut":
            with pytest.raises(CutError):
                train_folds(replace(experiment, splits=splits[:1]), tell=cut_after(8))
            (path,) = experiment.run.checkpoints.glob("*.progress")
            standing = read_checkpoint(path)["standing"]
            assert standing["best_epoch"] < standing["epoch"] - 1
        train_folds(replace(experiment, splits=splits[:1]))
        ends.append(read_checkpoint(experiment.run.checkpoints / f"{splits[0].name}.safetensors")["weights"])
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "plateau"])
def test_a_tested_rate_that_was_cut_while_it_warmed_up_goes_on(
    schedule: str, embed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate that the test found is in no recipe, so that it must be in the state."""
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], 60)
    points = rng.normal(size=(60, 8)) + (labels == "a")[:, None]
    knobs = ("rate_test=true", "warmup_epochs=4", "epochs=8", f"schedule={schedule}", "lr=0.5")
    rates = {}
    for cut in (False, True):
        experiment = embed(
            points, labels, "split.folds=2", "train.refit=false", *(f"train.transfer.{k}" for k in knobs), name=f"{cut}"
        )
        splits = experiment.splits
        if cut:
            with pytest.raises(CutError):
                train_folds(replace(experiment, splits=splits[:1]), tell=cut_after(2))
        train_folds(replace(experiment, splits=splits[:1]))
        rates[cut] = pd.read_csv(experiment.run.path / "history.csv")["lr"].tolist()
    assert rates[True] == rates[False]
    assert max(rates[True]) != pytest.approx(0.5)


def test_a_finished_fold_is_not_trained_again(embed: Make) -> None:
    labels = np.array(["a", "b"] * 20)
    experiment = embed(np.random.default_rng(0).normal(size=(40, 4)), labels, "split.folds=3")
    train_folds(experiment)
    times = {p: p.stat().st_mtime_ns for p in experiment.run.checkpoints.iterdir()}
    assert len(times) == 3
    train_folds(experiment, tell=cut_after(1))  # an epoch would raise
    assert {p: p.stat().st_mtime_ns for p in experiment.run.checkpoints.iterdir()} == times


# --- the whole way ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing cut short; read only."""
    with without_pages():
        return workflow.run(challenge, "default", settings=BARE, runs=tmp_path_factory.mktemp("whole"), name="r").path


@pytest.mark.usefixtures("no_pages")
def test_the_same_recipe_twice_gives_the_same_bytes(whole: Path, challenge: Path, tmp_path: Path) -> None:
    """In two folders with a cache each: tiles, features, weights, scores, submission; another seed differs."""
    again, other = (
        workflow.run(
            challenge, "default", settings=[*BARE, f"split.seeds=[{s}]"], runs=tmp_path / f"{s}", name="r"
        ).path
        for s in (0, 1)
    )
    assert read_scores(again) == read_scores(whole)
    assert read_scores(other) != read_scores(whole)
    for name in ("submission.csv", "folds.csv", "samples.csv", "scores.json", "predictions/test.csv"):
        assert (again / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("stage", ["fold0-seed0 outer", "fold1-seed0 test"])
def test_a_run_cut_short_while_predicting_goes_on(stage: str, whole: Path, challenge: Path, tmp_path: Path) -> None:
    def tell(name: str, done: int, total: int) -> None:
        if name == stage:
            raise CutError

    options: dict[str, Any] = {"settings": BARE, "runs": tmp_path, "name": "r"}
    with pytest.raises(CutError):
        workflow.run(challenge, "default", listener=workflow.Listener(tell=tell), **options)
    assert not (tmp_path / "r" / "submission.csv").exists()
    run = workflow.run(challenge, "default", **options).path
    assert read_scores(run) == read_scores(whole)
    assert (run / "submission.csv").read_bytes() == (whole / "submission.csv").read_bytes()


# --- killed -------------------------------------------------------------------------------------------------------


def list_settings() -> list[str]:
    return ["--recipe", "default", *(word for setting in (*BARE, *LONG) for word in ("--set", setting))]


class Driver:
    """The command line in processes of its own, one after the other."""

    def __init__(self, words: list[str], folder: Path) -> None:
        (folder / "driver.py").write_text(DRIVER, encoding="utf-8")
        self.log = folder / "driver.log"
        with self.log.open("wb") as log:
            self._parent = subprocess.Popen(
                [sys.executable, "driver.py", *words], cwd=folder, env={**os.environ, "PYTHONPATH": ""}, bufsize=0,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()

    def start(self) -> int:
        """Start a process; its number."""
        self._parent.stdin.write(b"\n")
        return self.wait()

    def wait(self) -> int:
        """The exit code of the process when it has ended; that of a signal is negative."""
        assert self.tells(KILL_DEADLINE_S), self.log.read_text()
        return int(self._parent.stdout.readline() or "no number: the driver has ended")

    def tells(self, timeout_s: float = 0.0) -> bool:
        return bool(select.select([self._parent.stdout], [], [], timeout_s)[0])

    def kill_when(self, reached: Callable[[], bool]) -> None:
        """Start, wait until ``reached``, then a little by chance, SIGKILL."""
        child = self.start()
        deadline = time.monotonic() + KILL_DEADLINE_S
        while not reached() and not self.tells() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(random.Random(str(reached)).uniform(0, 0.01))
        if not self.tells():
            os.kill(child, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL, self.log.read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(challenge: Path, tmp_path: Path) -> None:
    """Killed while features are computed, in a transfer, in a finetuning and in its refit, then left alone."""
    with without_pages():
        whole = workflow.run(challenge, "default", settings=[*BARE, *LONG], runs=tmp_path / "whole", name="r").path
    words = ["run", str(challenge), "--runs", "killed", "--name", "r", *list_settings()]
    run = tmp_path / "killed" / "r"
    log, checkpoints = run / "events.log", run / "checkpoints"
    kept: dict[str, list[dict[str, Any]]] = {}

    def says(text: str) -> Callable[[], bool]:
        return lambda: log.is_file() and text in log.read_text(encoding="utf-8")

    def holds(pattern: str) -> Callable[[], bool]:
        return lambda: any(checkpoints.glob(pattern))

    moments = [
        says("features begins"),
        holds("fold0-*.transfer.progress"),
        holds("fold1-*.finetune.progress"),
        holds("fold1-*.refit-finetune.progress"),
    ]
    with Driver(words, tmp_path) as driver:
        for moment in moments:
            driver.kill_when(moment)
            assert not (run / "scores.json").exists()
            for path in checkpoints.glob("*.progress"):  # a file is whole or absent
                kept[path.name] = read_checkpoint(path)["standing"]["history"]
        driver.start()
        assert driver.wait() == 0, driver.log.read_text()
    assert read_scores(run) == read_scores(whole)
    names = ["submission.csv", "scores.json", "suspects.json", "traces.json", *(f"predictions/{t}" for t in TABLES)]
    for name in names:
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    # The epochs from before the kill were not repeated: their times, which no repetition would meet, are in the end.
    history = pd.read_csv(run / "history.csv")
    assert any("finetune" in name for name in kept)
    for name, rows in kept.items():
        fold, phase = int(name[4]), name.split(".")[1]
        found = history[(history["fold"] == fold) & (history["phase"] == phase)]["seconds"].tolist()
        assert found[: len(rows)] == [row["seconds"] for row in rows]
    leftovers = [p.name for p in (tmp_path / "killed").rglob("*") if p.suffix == ".progress"]
    assert not leftovers
