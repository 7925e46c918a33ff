"""Phase pretrain without the gate: what views show, what losses are, and that the loop repeats, goes on and stops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from smalti.errors import MissingExtraError, PartError, RecipeError
from smalti.models import Backbone
from smalti.recipe import Pretrain, load_recipe
from smalti.samples import StainMaps
from smalti.tile import TileStore
from smalti.tissue.stainable import Staining
from smalti.train import PRETRAININGS, check_parts, make_fabric
from smalti.train.devices import Device
from smalti.train.pretraining import TileViews, methods, pretrain
from smalti.train.pretraining.unlabelled_loop import measure_spread
from smalti.train.pretraining.views import crop_tiles
from smalti.types import InputSpec

PX, IMAGES, EACH = 16, 6, 4
CPU = Device("cpu", "32-true", "cpu", "")
METHODS = [entry.name for entry in PRETRAININGS]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnStore(TileStore):
    """Tiles in memory. No stain can be told of noise, so that views keep their colours."""

    tiles: np.ndarray

    def read_staining(self, method: str) -> Staining:
        return Staining(np.full((IMAGES, 3, 4), np.nan), np.zeros(IMAGES, np.uint8), self.kind)

    def _read(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self.tiles[rows]


def make_store() -> DrawnStore:
    """Six images of four tiles in a row, each image with a texture of its own."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (IMAGES * EACH, PX, PX, 3), dtype=np.uint8)
    for i in range(len(tiles)):
        tiles[i] = cv2.GaussianBlur(tiles[i], (0, 0), 0.4 + i // EACH)
    places = np.stack([np.tile(np.arange(EACH) * PX, IMAGES), np.zeros(len(tiles))], axis=1).astype(np.int64)
    ones, zeros = np.ones(len(tiles), np.float32), np.zeros(len(tiles), np.uint8)
    names, starts = tuple(f"i{i}" for i in range(IMAGES)), np.arange(IMAGES + 1) * EACH
    stained = np.zeros(IMAGES + 1, np.int64)
    return DrawnStore("key", Path(), PX, names, starts, places, ones, ones, zeros, stained, tiles)


def collect(cases: str = "aabbcc", most: int | None = None) -> TileViews:
    store = make_store()
    return TileViews.collect(store, range(IMAGES), list(cases), stains=StainMaps(store, "macenko", None), most=most)


def make_backbone() -> Backbone:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return Backbone(net.eval(), "small", 12, InputSpec(PX, fixed=False, mean=(0.5,) * 3, std=(0.5,) * 3))


def learn(tmp: Path | None = None, **knobs: object):
    settings = Pretrain(**{"method": "diet", "epochs": 3, "batch_tiles": 8, **knobs})  # type: ignore[arg-type]
    return pretrain(make_backbone(), collect(), settings, seed=(1, 2), fabric=make_fabric(CPU), progress=tmp)


def test_neighbours_are_tiles_beside_it_in_the_same_image():
    views = collect()
    assert [set(found.tolist()) for found in views.beside[:4]] == [{1}, {0, 2}, {1, 3}, {2}]
    owners = np.repeat(np.arange(IMAGES), EACH)
    assert all(owners[i] == owners[j] for i, found in enumerate(views.beside) for j in found)


def test_a_batch_holds_one_tile_of_a_case_as_long_as_there_are_cases():
    views = collect("abcdef")
    order = views.order(np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(IMAGES * EACH))
    assert all(len(set(views.cases[part])) == IMAGES for part in order.reshape(-1, IMAGES))


def test_most_tiles_of_an_image_are_an_even_choice():
    views = collect(most=2)
    assert views.rows.tolist() == [row for bag in range(IMAGES) for row in (bag * EACH, bag * EACH + 2)]


def test_no_crop_shows_the_tile_as_it_is_and_a_crop_shows_part_of_it():
    tiles = make_store().read_rows(0, 3)
    assert crop_tiles(tiles, least=1.0, rng=np.random.default_rng(0)) is tiles
    flat = np.full((2, PX, PX, 3), 7, dtype=np.uint8)
    assert (crop_tiles(flat, least=0.5, rng=np.random.default_rng(0)) == 7).all()


def test_views_of_a_pass_cover_every_tile_once():
    knobs = Pretrain(method="vicreg", batch_tiles=7, beside=0.0, crop=1.0, stain=0.0)
    views = collect()
    seen = [part for _, part in views.draw(knobs, np.random.default_rng(0), views=2)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(IMAGES * EACH))
    # Without colour, crop and neighbours a view is a turned tile: the same pixels in another order.
    batch, part = next(iter(views.draw(knobs, np.random.default_rng(1), views=2)))
    plain = views.store.read_tiles(views.rows[part])
    for view in batch:
        assert (np.sort(view.reshape(len(view), -1)) == np.sort(plain.reshape(len(plain), -1))).all()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_lowers_its_loss_on_a_fixed_batch(name):
    torch.manual_seed(0)
    first = torch.randn(16, 12, requires_grad=True)
    views, numbers = [first, first + 0.3 * torch.randn(16, 12)], torch.arange(16)
    objective = PRETRAININGS.build(name, 12, 16).eval()  # in eval mode SimCLR remembers nothing
    start = objective(views, numbers, numbers)
    start.backward()
    assert first.grad is not None
    assert torch.isfinite(first.grad).all()
    assert first.grad.abs().sum() > 0


def test_simclr_is_that_of_lightly_where_all_cases_differ():
    from lightly.loss import NTXentLoss

    torch.manual_seed(0)
    one, two = torch.randn(9, 128), torch.randn(9, 128)
    objective = PRETRAININGS.build("simclr", 128, 9, temperature=0.3, memory=0)
    objective.projection = nn.Identity()
    numbers = torch.arange(9)
    torch.testing.assert_close(objective([one, two], numbers, numbers), NTXentLoss(temperature=0.3)(one, two))


def test_simclr_pushes_no_tile_of_a_case_away():
    torch.manual_seed(0)
    objective = PRETRAININGS.build("simclr", 12, 9)
    numbers, same = torch.arange(9), torch.zeros(9, dtype=torch.long)
    views = [torch.randn(9, 12), torch.randn(9, 12)]
    assert (
        float(objective(views, numbers, same).detach()) == 0
    )  # nothing else is there, and what it remembers is the same case
    assert float(objective(views, numbers, same).detach()) == 0
    assert float(objective(views, numbers, same + 1).detach()) > 0  # of another case, which is remembered


def test_diet_is_the_cross_entropy_of_numbers():
    objective = PRETRAININGS.build("diet", 3, 5, smoothing=0.0)
    points, numbers = torch.randn(4, 3), torch.tensor([0, 4, 2, 2])
    logits = (points @ objective.classes.weight.T).detach()
    wanted = -logits.log_softmax(dim=1)[torch.arange(4), numbers].mean()
    torch.testing.assert_close(objective([points], numbers, numbers).detach(), wanted)


def test_pretraining_changes_a_copy_and_repeats():
    before = {name: value.clone() for name, value in make_backbone().module.state_dict().items()}
    one, two = learn(), learn()
    assert [row.loss for row in one.history] == [row.loss for row in two.history]
    for name, value in one.module.state_dict().items():
        assert torch.equal(value, two.module.state_dict()[name])
    assert any(not torch.equal(value, before[name]) for name, value in one.module.state_dict().items())
    assert not one.module.training


@pytest.mark.parametrize("name", ["diet", "simclr"])
def test_an_interrupted_pretraining_goes_on_to_the_same_bytes(tmp_path, name):
    whole = learn(method=name)
    place = tmp_path / "state.progress"

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    knobs = Pretrain(method=name, epochs=3, batch_tiles=8)
    with pytest.raises(KeyboardInterrupt):
        pretrain(make_backbone(), collect(), knobs, seed=(1, 2), fabric=make_fabric(CPU), progress=place, tell=stop)
    assert place.is_file()
    torch.manual_seed(99)  # whatever happened in between
    rest = learn(place, method=name)
    assert not place.is_file()
    assert [row.loss for row in rest.history] == [row.loss for row in whole.history]
    for name_, value in whole.module.state_dict().items():
        assert torch.equal(value, rest.module.state_dict()[name_])


def test_a_collapse_is_noticed_and_undone():
    found = learn(method="vicreg", lr=50.0, batch_tiles=4, epochs=6)
    assert found.collapsed
    for name, value in make_backbone().module.state_dict().items():
        assert torch.equal(value, found.module.state_dict()[name])


def test_spread_is_one_where_embeddings_point_anywhere_and_none_where_they_are_alike():
    rng = np.random.default_rng(0)
    spread, rank = measure_spread(rng.normal(size=(4000, 16)))
    assert spread == pytest.approx(1, abs=0.02)
    assert rank == pytest.approx(16, rel=0.02)
    spread, rank = measure_spread(np.ones((50, 16)) + 1e-9 * rng.normal(size=(50, 16)))
    assert spread < 1e-6
    line = np.outer(rng.normal(size=50), rng.normal(size=16))
    assert measure_spread(line)[1] == pytest.approx(1, abs=0.05)


def test_a_slip_and_what_cannot_learn_are_told_before_any_work():
    def ask(*settings: str) -> None:
        check_parts(load_recipe("quick", settings=["model.norm=live", "model.head=logistic", *settings]))

    with pytest.raises(PartError, match="diet"):
        ask("train.pretrain.method=diets")
    with pytest.raises(PartError, match="smoothing"):
        ask("train.pretrain.method=diet", "train.pretrain.options=[smooth=0.1]")
    with pytest.raises(RecipeError, match="no weights"):
        ask("train.pretrain.method=diet", "model.backbone=described:colour")


def test_without_lightly_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "lightly.loss", None)
    with pytest.raises(MissingExtraError, match=r"smalti\[pretrain\]"):
        methods.load_lightly()
