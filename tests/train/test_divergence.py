"""Training that stops being numbers: what was good is kept, and it is said; half precision goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

from smalti import workflow
from smalti.errors import DivergenceError
from smalti.train import loop, read_checkpoint, train_folds
from smalti.train.optim.averaging import Averaging, copy_weights
from smalti.train.optim.sam import climb, descend
from textures import FAST

Make = Callable[..., Any]
KNOBS = ("split.folds=2", "train.transfer.epochs=6", "train.transfer.lr=0.01")


def poison(monkeypatch: pytest.MonkeyPatch, *, phase: str, epoch: int) -> None:
    """Make one weight no number at the end of an epoch of a phase, as an overflow does."""
    plain = loop.Loop._learn

    def learn(self: loop.Loop, optimiser: Any, at: int) -> float:
        found = plain(self, optimiser, at)
        if (self.stream.phase, at) == (phase, epoch):
            with torch.no_grad():
                next(self.task.module.parameters()).fill_(float("nan"))
        return found

    monkeypatch.setattr(loop.Loop, "_learn", learn)


def draw(embed: Make, *knobs: str, name: str = "run") -> Any:
    labels = np.array(["a", "b"] * 30)
    points = np.random.default_rng(0).normal(size=(60, 6)) + (labels == "a")[:, None] * 2
    return embed(points, labels, *KNOBS, *knobs, name=name)


def learn(experiment: Any) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    train_folds(replace(experiment, splits=experiment.splits[:1]))
    content = read_checkpoint(experiment.run.checkpoints / f"{experiment.splits[0].name}.safetensors")
    return content["weights"], pd.read_csv(experiment.run.path / "history.csv")


@pytest.mark.parametrize("averaging", ["none", "ema", "swa", "soup"])
def test_the_best_before_the_weights_were_lost_is_kept(
    averaging: str, embed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, phase="transfer", epoch=3)
    experiment = draw(embed, "train.refit=false", f"train.transfer.averaging={averaging}")
    weights, history = learn(experiment)
    assert history["epoch"].tolist() == [0, 1, 2, 3]  # what is lost does not come back
    # The exponential mean stands as it was before the last step of the epoch.
    assert history["inner_loss"].isna().tolist() == [False, False, False, averaging != "ema"]
    assert history["inner_macro_f1"].isna().tolist() == history["inner_loss"].isna().tolist()
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())
    found = pd.read_csv(experiment.run.path / "diverged.csv")
    assert found.to_dict("records") == [{"seed": 0, "fold": 0, "phase": "transfer", "epoch": 3}]


def test_a_refit_that_diverges_leaves_the_first_weights(embed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = learn(draw(embed, "train.refit=false", name="first"))
    poison(monkeypatch, phase="refit-transfer", epoch=0)
    experiment = draw(embed, name="both")
    kept, _ = learn(experiment)
    assert all(torch.equal(value, kept[name]) for name, value in first.items())
    assert pd.read_csv(experiment.run.path / "diverged.csv")["phase"].tolist() == ["refit-transfer"]


def test_training_without_one_good_epoch_is_an_error_that_says_what_to_do(embed: Make) -> None:
    experiment = draw(embed, "train.transfer.optimiser=sgd", "train.transfer.lr=1e38")
    with pytest.raises(DivergenceError, match=r"transfer of fold 0.*lr=1e\+38.*lower train\.transfer\.lr"):
        train_folds(experiment)
    assert not list(experiment.run.checkpoints.glob("*.safetensors"))


def test_finetuning_that_is_lost_at_once_leaves_what_transfer_learned(
    prepare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, phase="finetune", epoch=0)
    experiment = prepare("train.refit=false")
    weights, history = learn(experiment)
    assert (history["phase"] == "finetune").sum() == 1
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


@pytest.mark.slow
def test_terminal_and_report_say_where_it_diverged(
    challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, phase="transfer", epoch=2)
    heard: list[str] = []
    settings = [*FAST, "train.finetune.epochs=0", "train.transfer.epochs=4", "audit.checks=[]"]
    result = workflow.run(
        challenge, "default", settings=settings, runs=tmp_path, name="run", listener=workflow.Listener(say=heard.append)
    )
    assert sum("training diverged in epoch 2 of phase transfer" in line for line in heard) >= 2
    page = (result.path / "report.html").read_text(encoding="utf-8")
    assert "Training diverged (NaN weights): seed 0, fold 0, transfer, epoch 2" in page


# --- half precision and devices -----------------------------------------------------------------------------------


def test_a_gradient_that_overflowed_moves_nothing() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weight.grad = torch.tensor([float("inf"), 1.0])
    assert climb([weight], rho=0.5) == []
    assert weight.tolist() == [1.0, 2.0]


def test_descending_ends_at_the_very_place_it_began() -> None:
    """Adding a step and taking it away again would leave the last bits changed."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(1000))
    before = weight.detach().clone()
    weight.grad = torch.randn(1000)
    moved = climb([weight], rho=0.05)
    assert float((weight - before).detach().norm()) == pytest.approx(0.05, rel=1e-4)
    descend(moved)
    assert torch.equal(weight, before)


def test_means_go_on_where_the_module_is() -> None:
    """Files hold tensors of the CPU, whatever device they came from."""
    other = torch.nn.Linear(2, 1, device="meta")
    state = {"mean": copy_weights(torch.nn.Linear(2, 1)), "taken": 1}
    state["candidates"] = [(0.5, 0, dict(state["mean"]))]
    averaging = Averaging(other, kind="swa", decay=0.9, start=0)
    averaging.load_state_dict(state)
    placed = [*averaging.mean.values(), *averaging.candidates[0][2].values()]
    assert {value.device.type for value in placed} == {"meta"}


def test_the_scale_of_half_precision_goes_on_where_it_was(embed: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    experiment = draw(embed)
    splits = experiment.splits
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    monkeypatch.setattr("smalti.train.fold.make_fabric", lambda device: fabric)

    def cut(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_folds(replace(experiment, splits=splits[:1]), tell=cut)
    (path,) = experiment.run.checkpoints.glob("*.progress")
    assert read_checkpoint(path)["precision"]["scale"] == 512.0
    scaler.update(2.0)
    seen: list[float] = []
    train_folds(replace(experiment, splits=splits[:1]), tell=lambda *_: seen.append(scaler.get_scale()))
    assert seen[0] == 512.0
