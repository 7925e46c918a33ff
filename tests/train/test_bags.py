"""Training poolers on bags of stored features: padding, drawing, restarts, and a needle that only attention finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from bags import build_learned, draw_bags, store_features
from smalti import recipe
from smalti.errors import PartError, RecipeError
from smalti.models import BagReader, Head
from smalti.predict import predict_outer
from smalti.samples import BagBatches, Pairing, mix_targets, split_tiles
from smalti.train import FrozenFeatures, load_network, read_bags, train_folds
from smalti.train.experiment import read_options
from smalti.train.tasks.bags import BagTask, fit_reader, pad_bags

Make = Callable[..., Any]


def build_reader(name: str = "gated_attention", features: int = 6, classes: int = 3) -> BagReader:
    pooler = build_learned(name, features, classes)
    return BagReader(pooler, Head(pooler.features, classes, dropout=0.5, by_class=pooler.by_class))


@pytest.mark.parametrize("name", ["mean", "gated_attention", "clam_mb", "dsmil", "transmil", "set_transformer"])
def test_a_bag_reads_the_same_beside_any_others(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags = draw_bags(12)
    features = store_features(tmp_path, bags, views=2)
    reader = build_reader(name)
    reader.train()
    monkeypatch.setattr("smalti.train.tasks.bags.SCORED_TILES", 17)  # several groups of padded bags
    found = read_bags(reader, features, np.arange(12), views=2)
    assert reader.training  # as it was
    reader.eval()
    with torch.inference_mode():
        for i, bag in enumerate(bags):
            places = torch.from_numpy(features.store.find_places(i))[None]
            alone = [reader(torch.from_numpy(bag + 100 * v)[None], positions=places)[0] for v in (0, 1)]
            torch.testing.assert_close(found[i], torch.stack(alone).mean(dim=0)[0], rtol=1e-4, atol=1e-4)


def test_padding_keeps_tiles_masks_and_places_together(tmp_path: Path) -> None:
    bags = draw_bags(5)
    features = store_features(tmp_path, bags)
    rows = [np.arange(len(bags[i]))[::2] for i in (3, 1)]
    padded = pad_bags(features, [3, 1], rows=rows, view=0)
    for i, bag in enumerate((3, 1)):
        count = len(rows[i])
        assert padded.mask[i].tolist() == [True] * count + [False] * (padded.mask.shape[1] - count)
        np.testing.assert_array_equal(padded.features[i, :count], bags[bag][rows[i]])
        np.testing.assert_array_equal(padded.positions[i, :count, 0], rows[i])


@pytest.mark.parametrize(("most", "dropped"), [(None, 0.0), (3, 0.0), (None, 0.5), (2, 0.9)])
def test_a_step_draws_the_tiles_it_may(most: int | None, dropped: float, tmp_path: Path) -> None:
    bags = draw_bags(6)
    features = store_features(tmp_path, bags)
    phase = recipe.Transfer(tiles_per_image=most, tile_dropout=dropped)
    from smalti.train import choose_device, make_fabric

    none = np.empty(0, dtype=np.int64)
    fabric = make_fabric(choose_device(recipe.Train(device="cpu")))
    task = BagTask(build_reader(), fabric, features, np.arange(6), torch.zeros(6, dtype=torch.long), none, none, phase)
    rng = np.random.default_rng(0)
    for bag, values in enumerate(bags):
        seen = set()
        for _ in range(60):
            drawn = task._draw_rows(bag, rng)
            allowed = len(values) if most is None else min(most, len(values))
            assert len(drawn) == max(1, round(allowed * (1 - dropped)))
            assert len(set(drawn.tolist())) == len(drawn)
            seen |= set(drawn.tolist())
        assert seen == set(range(len(values)))


def test_scale_is_that_of_the_training_tiles_alone(tmp_path: Path) -> None:
    bags = draw_bags(8)
    features = store_features(tmp_path, bags)
    reader = build_reader()
    fit_reader(reader, features, np.array([1, 4, 5]))
    tiles = np.concatenate([bags[i] for i in (1, 4, 5)])
    np.testing.assert_allclose(reader.pooler.center, tiles.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reader.pooler.scale, tiles.std(axis=0, ddof=1), rtol=1e-4)


def make_needles(embed: Make, tmp_path: Path, *settings: str, count: int = 160, name: str = "run") -> tuple[Any, Any]:
    """Bags of 12 tiles; one tile in class b is shifted far along a direction, and others hide it from a mean."""
    rng = np.random.default_rng(5)
    labels = np.array(["a", "b"])[np.arange(count) % 2]
    bags = []
    for label in labels:
        bag = rng.normal(size=(12, 10)).astype(np.float32)
        # Every bag has a tile far away, so that its mean moves; which way tells the class only for that tile.
        bag[:, 0] -= bag[:, 0].mean()
        if label == "b":
            bag[0, 1] = 8.0
            bag[1:, 1] -= (bag[:, 1].sum()) / 11
        else:
            bag[:, 1] -= bag[:, 1].mean()
        bags.append(bag[rng.permutation(12)])
    means = np.stack([bag.mean(axis=0) for bag in bags])
    experiment = embed(means, labels, "split.folds=2", "train.transfer.lr=0.01", *settings, name=name)
    features = store_features(tmp_path / name, bags)
    named = replace(features.store, images=tuple(s.image for s in experiment.cohort.labelled))
    features = replace(features, store=named)
    frozen = dict.fromkeys(experiment.frozen, FrozenFeatures(features, None))
    return replace(experiment, store=named, frozen=frozen)


def score(experiment: Any) -> float:
    train_folds(experiment)
    table = predict_outer(experiment)
    return float((table["label"] == np.where(table["score_a"] > table["score_b"], "a", "b")).mean())


def measure_looks(experiment: Any) -> float:
    """Average precision of the attention for the needle in held-out bags that have one, the mean."""
    found = []
    for split in experiment.splits:
        pooler = load_network(experiment, split).pooler
        for bag in experiment.find_bags(split.outer[split.outer % 2 == 1]):
            tiles = experiment.frozen[split.name].features.read_bag(bag)
            with torch.inference_mode():
                looks = pooler(torch.from_numpy(tiles)[None]).attention[0].numpy()
            found.append(average_precision_score(tiles[:, 1] == 8, looks))
    return float(np.mean(found))


def test_attention_finds_the_needle_that_a_mean_cannot(embed: Make, tmp_path: Path) -> None:
    experiment = make_needles(embed, tmp_path, "model.pooler=clam_mb", "train.transfer.epochs=40")
    splits = experiment.splits
    assert score(experiment) > 0.9
    assert measure_looks(experiment) > 0.9
    features = experiment.frozen[splits[0].name].features
    means = torch.stack([torch.from_numpy(features.read_bag(i)).mean(dim=0) for i in range(160)])[None]
    frozen = dict.fromkeys(experiment.frozen, FrozenFeatures(features, means))
    blind = make_needles(embed, tmp_path, "train.transfer.epochs=40", name="mean")
    assert score(replace(blind, frozen=frozen)) < 0.65


def test_branches_find_the_needle(embed: Make, tmp_path: Path) -> None:
    settings = ("model.pooler=attention", "model.pooler_options=[branches=8]", "train.transfer.epochs=40")
    assert score(make_needles(embed, tmp_path, *settings)) > 0.9


def test_a_learned_pooler_is_kept_and_comes_back(embed: Make, tmp_path: Path) -> None:
    settings = ("model.pooler=clam_mb", "train.transfer.epochs=3", "model.pooler_options=[hidden=16]")
    first = make_needles(embed, tmp_path, *settings, name="one", count=60)
    splits = first.splits
    second = make_needles(embed, tmp_path, *settings, name="two", count=60)
    for experiment in (first, second):
        train_folds(experiment)
    tables = [predict_outer(e) for e in (first, second)]
    pd.testing.assert_frame_equal(*tables)
    network = load_network(first, splits[0])
    assert network.pooler.score.content.in_features == 16
    bags = first.find_bags(splits[0].outer)
    with torch.inference_mode():
        logits = read_bags(network.reader, first.frozen[splits[0].name].features, bags)
    scores = tables[0].set_index("image").loc[[f"i{b:04d}" for b in bags], ["score_a", "score_b"]]
    np.testing.assert_allclose(logits.double().softmax(dim=1).numpy(), scores, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        ["model.pooler=topk", "model.pooler_options=[k=0]"],
        ["model.pooler=topk", "model.pooler_options=[k=2.5]"],
        ["model.pooler=logsumexp", "model.pooler_options=[r=0]"],
        ["model.pooler=attention", "model.pooler_options=[branches=0]"],
        ["model.pooler=attention", "model.pooler_options=[hidden=0]"],
        ["model.pooler=attention", "model.pooler_options=[dropout=2]"],
        ["model.pooler=attention", "model.pooler_options=[hidden=abc]"],
        ["model.pooler=set_transformer", "model.pooler_options=[heads=3]"],
        ["model.pooler=set_transformer", "model.pooler_options=[hidden=null]"],
        ["model.pooler=transmil", "model.pooler_options=[hidden=30]"],
        ["model.pooler=transmil", "model.pooler_options=[landmarks=0]"],
        ["train.transfer.loss=focal", "train.transfer.loss_options=[gamma=much]"],
        ["train.finetune.augmentation=randaugment", "train.finetune.augmentation_options=[count=-1]"],
    ],
)
def test_options_that_no_bag_can_be_read_with_are_told_before_training(settings: list[str]) -> None:
    from smalti.recipe import load_recipe
    from smalti.train import check_parts

    option = settings[1].partition("=")[2].strip("[]")
    with pytest.raises(PartError, match=rf"does not work with {option}.*smalti parts"):
        check_parts(load_recipe(settings=settings))


def test_options_that_a_pooler_does_not_take_are_told_before_training(embed: Make, tmp_path: Path) -> None:
    from smalti.recipe import load_recipe
    from smalti.train import check_parts

    with pytest.raises(PartError, match="depth"):
        check_parts(load_recipe(settings=["model.pooler=attention", "model.pooler_options=[depth=3]"]))
    check_parts(load_recipe(settings=["model.pooler=attention", "model.pooler_options=[hidden=32]"]))
    assert read_options(("hidden=32", "r=0.5", "k=null")) == {"hidden": 32, "r": 0.5, "k": None}
    with pytest.raises(RecipeError, match="name=value"):
        load_recipe(settings=["model.pooler_options=[=32]"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_the_whole_way_with_a_pooler_that_learns(challenge: Path, tmp_path: Path) -> None:
    from smalti import workflow
    from textures import BARE

    settings = [*BARE, "model.pooler=dsmil", "train.transfer.epochs=3", "train.finetune.epochs=1"]
    result = workflow.run(challenge, "default", settings=settings, runs=tmp_path, name="bags")
    assert 0 <= result.scores.metrics["macro_f1"].value <= 1
    assert (tmp_path / "bags" / "predictions" / "test.csv").is_file()


@given(own=st.integers(1, 9), partners=st.integers(1, 9), share=st.floats(0, 1))
def test_a_mixed_label_is_the_share_of_the_tiles_that_a_bag_gave(own: int, partners: int, share: float) -> None:
    kept, taken, label = split_tiles(own, partners, share=share)
    assert 0 <= kept <= own
    assert 0 <= taken <= partners
    assert kept + taken > 0
    given_by = np.array([kept / own, taken / partners])
    np.testing.assert_allclose(label, given_by[0] / given_by.sum())
    assert abs(kept / own - share) <= 0.5 / own + 1e-12
    if own == partners:
        assert label == kept / own
        assert kept + taken == own


def test_mixed_targets_are_those_of_mixup() -> None:
    targets = torch.tensor([0, 2, 1])
    pairing = Pairing(np.array([1, 2, 0]), np.array([0.25, 1.0, 0.5]))
    found = mix_targets(targets, pairing, kept=pairing.shares, classes=3)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0, 0.75], [0, 0, 1.0], [0.5, 0.5, 0]]))


def test_mixed_bags_hold_the_tiles_of_both_and_are_read_as_one(tmp_path: Path) -> None:
    bags = draw_bags(6, seed=3)
    features = store_features(tmp_path, bags)
    none = np.empty(0, dtype=np.int64)
    from smalti.train import choose_device, make_fabric

    fabric = make_fabric(choose_device(recipe.Train(device="cpu")))
    phase = recipe.Transfer(bag_mixing=1.0, batch_images=6)
    task = BagTask(build_reader(), fabric, features, np.arange(6), torch.arange(6) % 3, none, none, phase)
    owner = {bag[row].tobytes(): (i, len(bag)) for i, bag in enumerate(bags) for row in range(len(bag))}
    for seed in range(5):
        for forward, targets in task.draw_batches(np.random.default_rng(seed)):
            values, mask, places = forward.args[:3]  # type: ignore[attr-defined]
            for i in range(len(values)):
                tiles = [owner[tile.numpy().tobytes()] for tile in values[i, mask[i]]]
                shares = np.zeros(3)
                for bag, size in tiles:
                    shares[bag % 3] += 1 / size
                np.testing.assert_allclose(targets[i], shares / shares.sum(), atol=1e-6)
                if len({bag for bag, _ in tiles}) == 2:
                    real = [tuple(place) for place in places[i, mask[i]].tolist()]
                    assert len(set(real)) == len(real)


def test_nothing_is_drawn_otherwise_where_nothing_is_mixed(tmp_path: Path) -> None:
    bags = draw_bags(6)
    features = store_features(tmp_path, bags)
    none = np.empty(0, dtype=np.int64)
    from smalti.train import choose_device, make_fabric

    fabric = make_fabric(choose_device(recipe.Train(device="cpu")))
    targets = torch.arange(6) % 3
    task = BagTask(build_reader(), fabric, features, np.arange(6), targets, none, none, recipe.Transfer())
    (_, found), *rest = list(task.draw_batches(np.random.default_rng(0)))
    assert not rest
    assert found.ndim == 1


def test_a_loss_on_tiles_takes_the_classes_of_a_mixed_bag_by_their_share() -> None:
    pooler = build_learned("clam_mb", 6, 3).eval()
    values, mask = torch.randn(1, 7, 6), torch.ones(1, 7, dtype=torch.bool)
    pooled = pooler(values, mask)
    one, two = (pooler.instance_loss(pooled, mask, torch.tensor([name])) for name in (0, 2))
    mixed = pooler.instance_loss(pooled, mask, torch.tensor([[0.3, 0.0, 0.7]]))
    torch.testing.assert_close(mixed, 0.3 * one + 0.7 * two)


def test_drawn_tiles_of_two_bags_are_mixed_before_they_are_read(prepare: Make) -> None:
    store = prepare().store
    bags = np.arange(6)
    targets = np.arange(6) % 3
    batches = BagBatches(store, bags, targets, 6, 4, mixing=(1.0, 3))
    for batch in batches.draw(np.random.default_rng(1)):
        owners = np.searchsorted(store.starts, batch.rows, side="right") - 1
        for row, soft in zip(owners, batch.targets, strict=True):
            wanted = np.bincount(targets[row], minlength=3) / 4
            np.testing.assert_allclose(soft, wanted, atol=1e-6)
        np.testing.assert_array_equal(
            batch.tiles.reshape(-1, *batch.tiles.shape[2:]), store.read_tiles(batch.rows.ravel())
        )


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize("pooler", ["attention", "clam_mb"])
def test_the_whole_way_with_mixed_bags(pooler: str, challenge: Path, tmp_path: Path) -> None:
    from smalti import workflow
    from textures import BARE

    mixing = ["train.transfer.bag_mixing=1", "train.finetune.bag_mixing=0.5"]
    settings = [*BARE, f"model.pooler={pooler}", "train.transfer.epochs=2", "train.finetune.epochs=1", *mixing]
    result = workflow.run(challenge, "default", settings=settings, runs=tmp_path, name="mixed")
    assert 0 <= result.scores.metrics["macro_f1"].value <= 1
    with pytest.raises(RecipeError, match="bag_mixing"):
        recipe.load_recipe(settings=["model.fusion=concat", "train.transfer.bag_mixing=1"])
