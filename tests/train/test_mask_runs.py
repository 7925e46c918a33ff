"""The mask in training and prediction, on a cohort whose class is only in the shape of the masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from smalti import workflow
from smalti.errors import RecipeError
from smalti.predict import predict_outer
from smalti.recipe import load_recipe
from smalti.train import check_parts, load_network, read_checkpoint, score_bags, train_folds
from textures import FAST

Make = Callable[..., Any]
SHAPES = (
    "tile.source=whole",
    "train.finetune.epochs=0",
    "train.transfer.epochs=20",
    "train.transfer.lr=0.01",
    "train.refit=false",
)
FUSED = "model.fusion=concat"


def draw_shapes(folder: Path, *, shuffled: bool = False, count: int = 48) -> Path:
    """Noise of one distribution everywhere; the mask is one disc (a), or six small ones of the same area (b)."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True)
    labels = np.array(["a", "b"])[np.arange(count) % 2]
    for i, label in enumerate(labels):
        Image.fromarray(rng.integers(60, 200, (96, 96, 3)).astype(np.uint8)).save(folder / f"i{i:02d}.png")
        mask = np.zeros((96, 96), dtype=np.uint8)
        if label == "a":
            cv2.circle(mask, tuple(rng.integers(36, 60, 2).tolist()), 24, 255, -1)
        else:
            for row, col in np.ndindex(2, 3):
                jitter = rng.integers(-3, 4, 2)
                cv2.circle(mask, (18 + 30 * col + int(jitter[0]), 28 + 40 * row + int(jitter[1])), 10, 255, -1)
        Image.fromarray(mask).save(folder / f"i{i:02d}_m.png")
    shown = rng.permutation(labels) if shuffled else labels
    names = [f"i{i:02d}" for i in range(count)]
    table = {"image": [f"{n}.png" for n in names], "mask": [f"{n}_m.png" for n in names], "label": shown}
    pd.DataFrame(table).to_csv(folder / "samples.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data")


def measure(prepare: Make, *settings: str, data: Path) -> float:
    """Share of out-of-fold images whose class is right."""
    experiment = prepare(*SHAPES, *settings, data=data)
    train_folds(experiment)
    table = predict_outer(experiment)
    return float((table["label"] == np.where(table["score_a"] > table["score_b"], "a", "b")).mean())


@pytest.mark.parametrize("fusion", ["concat", "gate", "cross_attention"])
def test_a_branch_reads_a_class_that_is_in_the_shape_alone(fusion: str, prepare: Make, shapes: Path) -> None:
    assert measure(prepare, f"model.fusion={fusion}", data=shapes) > 0.9


def test_without_the_branch_or_with_other_masks_or_labels_there_is_nothing(
    prepare: Make, shapes: Path, tmp_path: Path
) -> None:
    """48 guesses: three standard deviations of a coin are 0.22."""
    assert abs(measure(prepare, data=shapes) - 0.5) < 0.22
    assert abs(measure(prepare, FUSED, "tile.other_masks=true", data=shapes) - 0.5) < 0.22
    shuffled = draw_shapes(tmp_path / "shuffled", shuffled=True)
    assert abs(measure(prepare, FUSED, data=shuffled) - 0.5) < 0.22


def test_a_branch_is_fitted_to_training_images_kept_and_read_back(prepare: Make, shapes: Path) -> None:
    settings = (FUSED, "model.pooler=gated_attention", "model.coverage_weights=true")
    experiment = prepare(*SHAPES, *settings, "train.transfer.epochs=3", data=shapes)
    splits = experiment.splits
    train_folds(experiment)
    _, described = experiment.store.read_shapes()
    network = load_network(experiment, splits[0])
    learned = described[experiment.find_bags(splits[0].train)]
    np.testing.assert_allclose(network.branch.shape_center, learned.mean(axis=0), rtol=1e-4, atol=1e-5)
    weights = read_checkpoint(experiment.run.checkpoints / f"{splits[0].name}.safetensors")["weights"]
    assert not any(name.startswith("backbone.") for name in weights)
    assert any(name.startswith("branch.fusion.") for name in weights)
    # All the way from pixels gives what stored features gave.
    bags = experiment.find_bags(splits[0].outer)
    logits = score_bags(network, experiment.store, bags, spec=experiment.backbone.spec, fabric=experiment.fabric)
    table = predict_outer(replace(experiment, splits=splits[:1])).set_index("image")
    names = [experiment.store.images[bag] for bag in bags]
    scores = table.loc[names, ["score_a", "score_b"]]
    np.testing.assert_allclose(logits.double().softmax(dim=1).numpy(), scores, atol=1e-5)


def test_coverage_weighs_frozen_features(prepare: Make, challenge: Path) -> None:
    plain = prepare("train.finetune.epochs=0", "tile.within=tissue")
    weighed = prepare("train.finetune.epochs=0", "tile.within=tissue", "model.coverage_weights=true")
    assert plain.store.key == weighed.store.key
    features = next(iter(weighed.frozen.values()))
    for bag in range(len(weighed.store.images)):
        rows = weighed.store.rows(bag)
        coverage = weighed.store.coverage[rows.start : rows.stop]
        weights = coverage if coverage.sum() > 0 else None
        expected = np.average(features.features.read_bag(bag), axis=0, weights=weights)
        np.testing.assert_allclose(features.embeddings[0, bag], expected, rtol=1e-4, atol=1e-5)


def measure_start(prepare: Make, *settings: str) -> tuple[torch.Tensor, Any]:
    """Scores of the inner images before anything of the backbone has moved: a rate of next to nothing."""
    still = ("train.transfer.epochs=0", "train.finetune.epochs=1", "train.finetune.lr=1e-30", "train.refit=false")
    experiment = prepare(*still, "train.finetune.augmentation=none", "model.norm=frozen", *settings)
    splits = experiment.splits
    train_folds(replace(experiment, splits=splits[:1]))
    content = read_checkpoint(experiment.run.checkpoints / f"{splits[0].name}.safetensors")
    return content["inner_logits"], experiment


def test_a_channel_starts_as_the_network_without_it(prepare: Make) -> None:
    plain, _ = measure_start(prepare)
    channel, _ = measure_start(prepare, "model.mask_channel=true")
    assert torch.equal(plain, channel)


def test_a_channel_learns_is_kept_and_reads_the_mask(prepare: Make) -> None:
    settings = ("model.mask_channel=true", "train.finetune.epochs=1", "train.refit=false")
    experiment = prepare(*settings, "train.transfer.epochs=0")
    splits = experiment.splits
    train_folds(replace(experiment, splits=splits[:1]))
    network = load_network(experiment, splits[0])
    assert network.takes_mask
    slices = [v for name, v in network.state_dict().items() if name.endswith(".slice.weight")]
    assert len(slices) == 1
    assert slices[0].abs().sum() > 0
    table = predict_outer(replace(experiment, splits=splits[:1]))
    assert np.isfinite(table[[f"score_{c}" for c in experiment.cohort.classes]]).all(axis=None)
    tiles = torch.from_numpy(experiment.store.read_rows(0, 1, masked=True)).permute(0, 3, 1, 2).float() / 255
    bare = tiles.clone()
    bare[:, 3] = 0
    with torch.inference_mode():
        assert not torch.equal(network.backbone(tiles), network.backbone(bare))


def test_recipes_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"mask_channel learns in finetune only.*Fix"):
        load_recipe("quick", settings=["model.mask_channel=true"])
    for pooler in ("max", "topk", "transmil"):
        with pytest.raises(RecipeError, match=rf"'{pooler}' has no shares.*Fix"):
            check_parts(load_recipe(settings=[f"model.pooler={pooler}", "model.coverage_weights=true"]))
    with pytest.raises(RecipeError, match="source=whole shrinks all of it"):
        load_recipe(settings=["tile.regions=components", "tile.source=whole"])
    for knob in ("tile.mpp=0.5", "tile.magnifications=[1,2]"):
        with pytest.raises(RecipeError, match="source=mask_box shrinks"):
            load_recipe(settings=["tile.source=mask_box", knob])


@pytest.mark.slow
def test_everything_at_once_goes_the_whole_way(challenge: Path, tmp_path: Path) -> None:
    """Channel, branch, weights, components and a blur in one run, unlabelled images included."""
    settings = [
        *FAST,
        "audit.checks=[]",
        FUSED,
        "model.pooler=attention",
        "model.coverage_weights=true",
        "model.mask_channel=true",
        "tile.regions=components",
        "tile.outside=blur",
        "train.transfer.epochs=2",
        "train.transfer.views=2",
        "train.finetune.epochs=1",
        "predict.views=2",
    ]
    workflow.run(challenge, "default", settings=settings, runs=tmp_path, name="all")
    scores = pd.read_csv(tmp_path / "all" / "predictions" / "test.csv")
    assert len(scores) > 0
    assert scores.filter(like="score_").notna().all(axis=None)


def test_the_ladder_knows_its_controls() -> None:
    from smalti.ladder.definition import load_ladder, resolve_ladder

    steps = {step.name: step for step in resolve_ladder(load_ladder("mask"))}
    for name in ("select", "blank", "weight", "path", "channel"):
        control = steps[f"{name}-other"]
        assert control.on == name
        assert control.recipe == steps[name].recipe.model_copy(
            update={"tile": steps[name].recipe.tile.model_copy(update={"other_masks": True})}
        )
    assert {s.on for s in steps.values() if not s.name.endswith("-other")} == {None, "ignore", "opened"}
    assert not {name for name, s in steps.items() if s.recipe.train.finetune.epochs} - {
        "opened",
        "channel",
        "channel-other",
    }
