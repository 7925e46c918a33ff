"""The outer fold has no say, features are computed once, and what is stored is what the network gives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from smalti import models, workflow
from smalti.models import POOLERS, Backbone, build_backbone
from smalti.tile import TileStore
from smalti.train import compute_features, freeze, make_fabric, read_checkpoint, score_bags, train_folds
from smalti.train.devices import Device
from smalti.types import Cohort
from textures import FAST, write_lines

Make = Callable[..., Any]


# --- the outer fold has no say ------------------------------------------------------------------------------------


def swap_labels(cohort: Cohort, chosen: NDArray[np.int64]) -> Cohort:
    """Each chosen image gets the next class."""
    following = dict(zip(cohort.classes, (*cohort.classes[1:], cohort.classes[0]), strict=True))
    labelled = list(cohort.labelled)
    for i in chosen:
        labelled[i] = replace(labelled[i], label=following[str(labelled[i].label)])
    return replace(cohort, labelled=tuple(labelled))


def spoil_tiles(store: TileStore, chosen: set[str], folder: Path) -> TileStore:
    """A copy of the store in which the tiles of the chosen images are noise."""
    shutil.copytree(store.folder, folder)
    tiles = np.memmap(folder / "tiles.u8", np.uint8, mode="r+").reshape(len(store), -1)
    for image in chosen:
        rows = list(store.rows(store.position(image)))
        tiles[rows] = np.random.default_rng(0).integers(0, 256, (len(rows), tiles.shape[1]), dtype=np.uint8)
    tiles.flush()
    return replace(store, key="spoilt", folder=folder)


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a checkpoint but the times, tensors as bytes."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            if key != "seconds":
                yield from flatten(inner, f"{path}/{key}")
    else:
        yield path, value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)


@pytest.mark.parametrize("what", ["labels", "pixels"])
def test_outer_images_change_nothing_that_is_trained(what: str, prepare: Make, tmp_path: Path) -> None:
    """Checkpoint and inner predictions of fold 0 stay the same to the last bit, whatever is done to its outer images.

    The same change to the training images is seen, so that the comparison has teeth.
    """
    experiment = prepare()
    splits = experiment.splits
    found = {}
    for way, part in (("plain", None), ("outer", splits[0].outer), ("train", splits[0].train[:1])):
        run = replace(experiment.run, path=tmp_path / way)
        run.path.mkdir()
        other = replace(experiment, run=run)
        if part is not None and what == "labels":
            other = replace(other, cohort=swap_labels(experiment.cohort, part))
        elif part is not None:
            images = {experiment.cohort.labelled[i].image for i in part}
            store = spoil_tiles(experiment.store, images, tmp_path / f"{way}-tiles")
            features = compute_features(
                experiment.backbone, store, views=1, fabric=experiment.fabric, cache=tmp_path / "cache"
            )
            seen = freeze(features, experiment.recipe, classes=3)
            other = replace(other, store=store, frozen=dict.fromkeys(experiment.frozen, seen))
        train_folds(replace(other, splits=splits[:1]))
        content = read_checkpoint(run.checkpoints / f"{splits[0].name}.safetensors")
        inner = pd.read_csv(run.predictions / "inner.csv").to_csv()
        found[way] = (dict(flatten(content)), inner)
    assert any(path.startswith("/weights/backbone") for path in found["plain"][0])
    assert found["outer"] == found["plain"]
    assert found["train"][0] != found["plain"][0]


def test_each_image_is_scored_once_per_seed_by_a_network_that_never_saw_its_case(finished: Any) -> None:
    scored = pd.read_csv(finished.path / "predictions" / "out_of_fold.csv")
    folds = pd.read_csv(finished.path / "folds.csv")
    samples = pd.read_csv(finished.path / "samples.csv")
    labelled = samples[samples["part"] == "labelled"]
    for _, of_seed in scored.groupby("seed"):
        assert sorted(of_seed["image"]) == sorted(labelled["image"])
    assert scored["seed"].nunique() == 2
    for row in scored.itertuples():
        fold = folds[(folds["seed"] == row.seed) & (folds["fold"] == row.fold)]
        assert row.case not in set(fold.loc[fold["role"].isin(["train", "inner"]), "case"])
        assert fold.loc[fold["image"] == row.image, "role"].tolist() == ["outer"]
    truth = labelled.set_index("image")["label"]
    assert (scored["label"] == scored["image"].map(truth)).all()


def test_out_of_fold_scores_are_those_of_the_fold_that_held_the_image_out(prepare: Make) -> None:
    """Scores by hand: stored tiles through the saved weights in a network that timm builds."""
    import timm

    experiment = prepare()
    splits = experiment.splits
    train_folds(experiment)
    workflow.predict(experiment)
    table = pd.read_csv(experiment.run.predictions / "out_of_fold.csv").set_index("image")
    spec = experiment.backbone.spec
    for split in splits:
        weights = read_checkpoint(experiment.run.checkpoints / f"{split.name}.safetensors")["weights"]
        network = timm.create_model("test_resnet", num_classes=0).eval()
        network.load_state_dict({k[9:]: v for k, v in weights.items() if k.startswith("backbone.")})
        image = experiment.cohort.labelled[split.outer[0]].image
        rows = experiment.store.rows(experiment.store.position(image))
        tiles = torch.from_numpy(experiment.store.read_rows(rows.start, rows.stop)).permute(0, 3, 1, 2) / 255
        with torch.inference_mode():
            values = (tiles - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
            embedding = (network(values).mean(dim=0) - weights["head.center"]) / weights["head.scale"]
            logits = weights["head.linear.weight"] @ embedding + weights["head.linear.bias"]
        expected = logits.softmax(dim=0).numpy()
        row = table.loc[image]
        assert row["fold"] == split.fold
        assert row[["score_A", "score_B", "score_C"]].to_numpy(float) == pytest.approx(expected, abs=1e-4)


# --- features -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(prepare: Make) -> TileStore:
    """The tiles of the drawn cohort."""
    return prepare().store


@pytest.fixture
def backbone() -> Backbone:
    from smalti.recipe import load_recipe

    return build_backbone(load_recipe(settings=FAST).model)


@pytest.fixture(scope="module")
def fabric() -> Any:
    return make_fabric(Device("cpu", "32-true", "", ""))


def test_features_are_what_the_backbone_gives(
    store: TileStore, backbone: Backbone, fabric: Any, tmp_path: Path
) -> None:
    """Each tile alone, normalised by hand; the second view is one of the eight turns and flips of the tile."""
    features = compute_features(backbone, store, views=2, fabric=fabric, cache=tmp_path)
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.spec.mean, backbone.spec.std))
    for bag in (0, 7, len(store.images) - 1):
        rows = store.rows(bag)
        pixels = torch.from_numpy(store.read_rows(rows.start, rows.stop)).permute(0, 3, 1, 2).float() / 255
        tiles = (pixels - mean) / std
        turned = [torch.rot90(t, k, (2, 3)) for t in (tiles, tiles.flip(3)) for k in range(4)]
        with torch.inference_mode():
            direct = [torch.cat([backbone.module(t[None]) for t in view]).numpy() for view in turned]
        assert features.read_bag(bag) == pytest.approx(direct[0], abs=1e-5)
        second = features.read_bag(bag, view=1)
        assert second != pytest.approx(direct[0], abs=1e-3)
        assert min(float(np.abs(second - d).max()) for d in direct[1:]) < 1e-5
        pooled = features.pool(POOLERS.build("mean", features.size, 3))
        assert pooled[0, bag].numpy() == pytest.approx(direct[0].mean(axis=0), abs=1e-5)
        largest = features.pool(POOLERS.build("max", features.size, 3))
        assert largest[1, bag].numpy() == pytest.approx(second.max(axis=0), abs=1e-5)


def test_a_bag_scores_the_same_whoever_else_is_scored(store: TileStore, prepare: Make) -> None:
    from smalti.train.fold import build_network

    experiment = prepare("model.dropout=0.5")
    network = build_network(experiment, experiment.splits[0], seed=0).train()
    torch.nn.init.normal_(network.head.linear.weight)
    options: dict[str, Any] = {"spec": experiment.backbone.spec, "fabric": experiment.fabric}
    everything = score_bags(network, store, np.arange(9), **options)
    assert network.training
    assert network.head.training
    for bag in (8, 0, 3):
        alone = score_bags(network, store, np.array([bag]), **options)
        assert torch.allclose(alone[0], everything[bag], atol=1e-5)
    assert score_bags(network, store, np.array([], dtype=np.int64), **options).shape == (0, 3)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_tiles_go_through_the_backbone_once_for_all_folds_and_seeds(
    challenge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the network; a second recipe with another head, seed or label uses what is stored."""
    passed: list[int] = []

    def build(*args: Any, **kwargs: Any) -> Backbone:
        made = build_backbone(*args, **kwargs)
        made.module.register_forward_hook(lambda module, inputs, output: passed.append(len(inputs[0])))
        return made

    data = shutil.copytree(challenge, tmp_path / "textures")
    monkeypatch.setattr(models, "build_backbone", build)
    settings = [*FAST, "split.seeds=[0,1]", "train.finetune.epochs=0", "audit.checks=[]"]
    result = workflow.run(data, "default", settings=settings, runs=tmp_path / "runs", name="one")
    assert len(pd.read_csv(result.path / "predictions" / "out_of_fold.csv")) == 48
    folders = sorted(p.name for p in (tmp_path / "runs" / "cache" / "features").iterdir())
    (tiles,) = (tmp_path / "runs" / "cache").glob("tiles-*/tiles.u8")
    assert sum(passed) == tiles.stat().st_size // (64 * 64 * 3)
    lines = (data / "train_labels.csv").read_text(encoding="utf-8").splitlines()
    write_lines(data / "train_labels.csv", lines[0], "0,B", *lines[2:])
    passed.clear()
    changed = [*settings, "split.seeds=[5]", "model.dropout=0.5", "train.transfer.optimiser=lion"]
    workflow.train_run(data, settings=changed, runs=tmp_path / "runs", name="two")
    assert not passed
    assert sorted(p.name for p in (tmp_path / "runs" / "cache" / "features").iterdir()) == folders
    pixels = np.asarray(Image.open(data / "train_data" / "img_0003.png")).copy()
    pixels[50, 50] ^= 255
    Image.fromarray(pixels).save(data / "train_data" / "img_0003.png")
    workflow.train_run(data, settings=settings, runs=tmp_path / "runs", name="three")
    assert passed


def test_other_weights_or_views_are_other_features(store: TileStore, fabric: Any, tmp_path: Path) -> None:
    from smalti.recipe import load_recipe

    model = load_recipe(settings=FAST).model
    files = [
        compute_features(build_backbone(model, seed=seed), store, views=views, fabric=fabric, cache=tmp_path).files
        for seed, views in ((0, 1), (1, 1), (0, 2), (0, 1))
    ]
    assert files[0] == files[3] == files[2][:1]  # a further view leaves the first as it is
    assert len({file for row in files for file in row}) == 3


def test_features_of_another_device_are_computed_there(
    store: TileStore, backbone: Backbone, fabric: Any, tmp_path: Path
) -> None:
    compute_features(backbone, store, views=1, fabric=fabric, cache=tmp_path)
    idle = SimpleNamespace(device=torch.device("cpu"), _precision=fabric._precision)  # knows nothing but what is there
    compute_features(backbone, store, views=1, fabric=idle, cache=tmp_path)
    other = SimpleNamespace(device=torch.device("cuda"), _precision=fabric._precision)
    with pytest.raises(AttributeError, match="setup_module"):
        compute_features(backbone, store, views=1, fabric=other, cache=tmp_path)
