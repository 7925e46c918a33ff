"""Folds as units of work: the same files wherever they are made; what fails is told, and the command goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smalti import workflow
from smalti.errors import DivergenceError, RecipeError, RunError
from smalti.explain.explanation import ExplanationRequest, explain_images
from smalti.project import Project
from smalti.records import read_events, read_outcomes
from smalti.train import read_checkpoint, train_folds, train_split
from smalti.workflow.units import ahead, tasks
from smalti.workflow.units.handover import open_experiment, write_experiment

Make = Callable[..., Any]
# No other test trains the same, whose weights a run here would take.
SHORT = ("train.finetune.epochs=1", "train.transfer.epochs=2", "train.refit=false", "train.transfer.lr=0.0029")


def place(experiment: Any, on: str = "here") -> Project:
    """The project of an experiment, whose units run there."""
    return Project(experiment.cohort.root, experiment.run.path.parent, on=on)


@pytest.fixture
def as_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units run in this process too."""
    monkeypatch.setattr(ahead, "HERE", "")


def read_tables(experiment: Any) -> dict[str, bytes]:
    folder = experiment.run.predictions
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def test_a_run_is_the_same_where_its_units_run_elsewhere(prepare: Make) -> None:
    here, there = prepare(*SHORT), prepare(*SHORT)
    for experiment, on in ((here, "here"), (there, "processes:2")):
        ahead.train_ahead(place(experiment, on), experiment)
        assert len(list(experiment.run.checkpoints.glob("*.safetensors"))) == (2 if on != "here" else 0)
        train_folds(experiment)
    for split in here.splits:
        one, other = (read_checkpoint(e.run.checkpoints / f"{split.name}.safetensors") for e in (here, there))
        assert one["weights"].keys() == other["weights"].keys()
        assert all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())
        assert torch.equal(one["inner_logits"], other["inner_logits"])
    assert sum(event.event == "trained" for event in read_events(there.run.path)) == 2
    assert not (there.run.path / "experiment.json").exists()

    write_experiment(there, cache=place(there).cache)
    for split in there.splits:
        tasks.predict_fold(str(there.run.path), split.name)
    before = {path: path.stat().st_mtime_ns for path in there.run.predictions.rglob("folds/*.csv")}
    assert len(before) == 4
    for experiment in (here, there):
        workflow.predict(experiment)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert read_tables(here) == read_tables(there)

    questions = [ExplanationRequest(s, 0, here.cohort.classes.index(str(s.label))) for s in here.cohort.labelled[:3]]
    done = there.run.path / "explained"
    tasks.explain_share(str(there.run.path), str(done), [(q.sample.image, q.shown, q.given) for q in questions])
    assert done.is_file()
    for one, other in zip(explain_images(here, questions), explain_images(there, questions), strict=True):
        assert one.networks == other.networks
        assert np.array_equal(one.values, other.values)


def test_a_fold_that_fails_is_told_and_the_same_command_goes_on(
    prepare: Make, as_units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = prepare(*SHORT, "train.finetune.epochs=0", "split.seeds=[0,1]")
    first, *others = (experiment.run.checkpoints / f"{split.name}.safetensors" for split in experiment.splits)

    def lose(experiment: Any, split: Any) -> None:
        if split.name == first.stem:
            raise RuntimeError("the share is gone")
        train_split(experiment, split)

    with monkeypatch.context() as patch:
        patch.setattr("smalti.train.train_split", lose)
        with pytest.raises(RunError, match=r"1 of 4 folds failed: fold0-seed0: RuntimeError: the share is gone"):
            ahead.train_ahead(place(experiment), experiment)
    rows = read_outcomes(experiment.run.path / "units.jsonl")
    assert {name: row.status for name, row in rows.items()} == {
        split.name: "failed" if split.name == first.stem else "done" for split in experiment.splits
    }
    stamps = [path.stat().st_mtime_ns for path in others]
    ahead.train_ahead(place(experiment), experiment)
    assert first.is_file()
    assert [path.stat().st_mtime_ns for path in others] == stamps


def test_what_training_refuses_is_refused_where_it_always_is(prepare: Make, as_units: None) -> None:
    knobs = ("train.transfer.epochs=0", "train.finetune.epochs=1", "train.finetune.lr=1e30", "train.refit=false")
    experiment = prepare(*knobs, "train.finetune.optimiser=sgd", "train.finetune.clip_norm=null")
    said: list[str] = []
    project = replace(place(experiment), listener=workflow.Listener(say=said.append))
    ahead.train_ahead(project, experiment)
    assert any("diverged" in text for text in said)
    with pytest.raises(DivergenceError, match="fold 0, seed 0"):
        train_folds(experiment)


def test_a_machine_that_does_not_see_the_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not see .*gone.*a file system that all machines share"):
        open_experiment(tmp_path / "gone")


def test_a_place_that_is_none_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'there' is no place"):
        workflow.run(tmp_path / "nothing", on="there")
