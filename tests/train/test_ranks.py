"""Several processes that train one network: the images, the weights and the losses of one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from smalti.engine.resources import Resources
from smalti.errors import RecipeError, RunError
from smalti.recipe import load_recipe
from smalti.samples import BagBatches, Share
from smalti.train import Device, check_spread, read_checkpoint, train_folds

Make = Callable[..., Any]
# Without dropout all ways compute the same but for rounding. A step of AdamW makes much of a rounding near zero.
PLAIN = (
    "model.norm=frozen_statistics", "model.dropout=0", "train.refit=false", "train.finetune.optimiser=sgd",
    "train.finetune.batch_images=3", "train.finetune.epochs=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Resources(cpus=2, gpus=(), memory_gb=8)
    monkeypatch.setattr("smalti.train.ranks.spreading.measure_resources", lambda: there)


def learn(experiment: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train the first fold; its checkpoint and history."""
    (split,) = experiment.splits[:1]
    train_folds(replace(experiment, splits=(split,)))
    history = pd.read_csv(experiment.run.path / "history.csv")
    return read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors"), history


@pytest.mark.parametrize("mixing", [None, (0.4, 3)])
def test_shares_are_the_images_of_one_process_in_their_order(mixing: Any, prepare: Make) -> None:
    experiment = prepare("train.finetune.epochs=1")
    bags = np.arange(7)
    batches = BagBatches(experiment.store, bags, bags % 3, 5, 2, mixing=mixing)
    parts = [replace(batches, share=Share(rank, 3)).draw(np.random.default_rng(4)) for rank in range(3)]
    for whole, *shares in zip(batches.draw(np.random.default_rng(4)), *parts, strict=True):
        for name in ("tiles", "places", "targets", "bags", "rows"):
            joined = np.concatenate([np.asarray(getattr(share, name)) for share in shares])
            assert np.array_equal(joined, np.asarray(getattr(whole, name)))
        assert all(torch.equal(share.whole, whole.targets) for share in shares)


def test_two_processes_train_the_network_that_one_trains(prepare: Make) -> None:
    """Steps of three and of two images, two stages, and both kinds of a further loss."""
    extra = ("train.finetune.consistency=1", "model.pooler=clam_sb", "model.pooler_options=[dropout=0]")
    alone, once = learn(prepare(*PLAIN, *extra))
    experiment = prepare(*PLAIN, *extra, "train.devices=2")
    together, twice = learn(experiment)
    assert alone["weights"].keys() == together["weights"].keys()
    for name, value in alone["weights"].items():
        assert torch.allclose(value.float(), together["weights"][name].float(), rtol=1e-4, atol=1e-6), name
    assert torch.allclose(alone["inner_logits"], together["inner_logits"], atol=1e-5)
    columns = ["phase", "epoch", "lr", "train_loss", "inner_loss"]
    pd.testing.assert_frame_equal(once[columns], twice[columns], rtol=1e-4)
    assert not list(experiment.run.checkpoints.glob("*.progress"))


def test_a_process_that_is_killed_is_an_error_and_leaves_nobody(prepare: Make) -> None:
    experiment = prepare(*PLAIN, "train.devices=2", "train.finetune.epochs=1000", "train.finetune.patience=1000")
    killed: list[int] = []

    def kill(name: str, done: int, total: int) -> None:
        if "finetune" in name and done == 2 and not killed:
            killed.append(multiprocessing.active_children()[-1].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(RunError, match=r"one of 2 processes .* was lost .signal 9"):
        train_folds(replace(experiment, splits=experiment.splits[:1]), tell=kill)
    assert killed
    assert multiprocessing.active_children() == []
    assert not list(experiment.run.checkpoints.glob("*.safetensors"))


def check(module: torch.nn.Module, *settings: str, device: str = "cpu") -> None:
    recipe = load_recipe(settings=["train.finetune.epochs=1", *settings])
    check_spread(module, recipe, Device(device, "32-true", "", ""))  # type: ignore[arg-type]


def test_devices_that_are_not_there_and_statistics_that_cannot_be_shared_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    with pytest.raises(RecipeError, match=r"train.devices=3, and this machine has 2 for cpu.*--on processes"):
        check(network, "train.devices=3", "model.norm=frozen")
    with pytest.raises(RecipeError, match=r"model.norm=live .* on GPUs alone"):
        check(network, "train.devices=2", "model.norm=live")
    check(torch.nn.Sequential(torch.nn.GroupNorm(1, 3)), "train.devices=2", "model.norm=live")
    check(network, "train.devices=1", "model.norm=live")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check(network, "train.devices=4", "model.norm=live", device="cuda")
    with pytest.raises(RecipeError, match=r"model.norm=ghost .* cannot synchronise"):
        check(network, "train.devices=2", "model.norm=ghost", device="cuda")
    with pytest.raises(RecipeError, match="devices above 1 share the steps of phase finetune"):
        load_recipe(settings=["train.finetune.epochs=0", "train.devices=2"])


def test_a_step_has_an_image_for_each_process(prepare: Make) -> None:
    experiment = prepare(*PLAIN, "train.devices=2", "train.finetune.batch_images=1")
    with pytest.raises(RecipeError, match=r"train.devices=2 wants one each"):
        learn(experiment)
