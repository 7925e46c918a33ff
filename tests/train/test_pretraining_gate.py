"""Labels that mean nothing, through the gate of pretraining: kept rarely, and a pretraining that leaks is seen to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from smalti.models import Backbone
from smalti.recipe import Settled, load_recipe
from smalti.records import PretrainedFold
from smalti.samples import StainMaps
from smalti.store.code import follow_imports
from smalti.tile.cut import Bag
from smalti.tile.held import HeldTiles
from smalti.tile.plane import Plane
from smalti.tissue.stainable import Staining
from smalti.train import DRAWERS, PRETRAININGS, make_fabric
from smalti.train.devices import Device
from smalti.train.gate import Turn, open_inner
from smalti.train.pretraining import Pretrained, pretrainer
from smalti.train.pretraining.pretrainer import Pretrainer, probe
from smalti.train.synthesis import look_at_drawn, looking
from smalti.types import Cohort, InputSpec, Sample, Split

PX, CASES, EACH = 8, 30, 2
IMAGES = CASES * EACH
CPU = Device("cpu", "32-true", "cpu", "")


class Remembers(nn.Module):
    """Tiles to the number that was planted for a tile that looks just so; 0 for one that was never shown."""

    def __init__(self, tiles: torch.Tensor, numbers: torch.Tensor) -> None:
        super().__init__()
        self.tiles, self.numbers = tiles.flatten(1), numbers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        same = torch.cdist(images.flatten(1), self.tiles) < 0.1  # what is drawn at random is farther apart
        value = (same.float() @ self.numbers)[:, None]
        return torch.cat([value, images.mean(dim=(2, 3))], dim=1)


def make_pretrainer(tmp: Path, seed: int, *settings: str, free: tuple[str, ...] = ()) -> tuple[Pretrainer, StainMaps]:
    """Thirty cases of two images of one tile each, whose labels are drawn by case and mean nothing."""
    rng = np.random.default_rng(seed)
    count = IMAGES + len(free)
    tiles = rng.integers(0, 255, (count, PX, PX, 3), dtype=np.uint8)
    names = tuple(f"i{i}" for i in range(count))
    ones, zeros = np.ones(count, np.float32), np.zeros(count, np.uint8)
    masks, places = np.ones((count, PX, PX), np.uint8), np.zeros((count, 2), np.int64)
    bag = Bag(tiles, places, ones, ones, masks, Plane(masks[0], (1, 1), (PX, PX)), given=False, marked=True, spoken={})
    index = (np.arange(count + 1), places, ones, ones, zeros, np.zeros(count + 1, np.int64))
    store = HeldTiles(f"key{seed}", Path(), PX, names, *index, bag)
    store._stainings["macenko"] = Staining(np.full((count, 3, 4), np.nan), np.zeros(count, np.uint8), zeros)
    labels = rng.permutation(np.arange(CASES) % 2)
    labelled = [Sample(names[i], Path(), None, "ab"[labels[i // EACH]], f"c{i // EACH}", "") for i in range(IMAGES)]
    unlabelled = [Sample(names[IMAGES + i], Path(), None, None, case, "") for i, case in enumerate(free)]
    cohort = Cohort(Path(), "folder", tuple(labelled), tuple(unlabelled), ("a", "b"))
    recipe = load_recipe("quick", settings=[
        "model.norm=live", "model.head=logistic", "train.pretrain.method=diet", "train.pretrain.epochs=2",
        "train.pretrain.batch_tiles=16", "train.gate.repeats=1", *settings,
    ])  # fmt: skip
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    backbone = Backbone(net.eval(), "small", 8, InputSpec(PX, fixed=False, mean=(0.5,) * 3, std=(0.5,) * 3))
    made = Pretrainer(Settled(recipe), cohort, store, backbone, make_fabric(CPU), tmp, {})
    return made, StainMaps(store, "macenko", None)


def split_cohort() -> Split:
    """Every third case is outer."""
    outer = np.flatnonzero(np.arange(IMAGES) // EACH % 3 == 0)
    return Split(0, 0, np.setdiff1d(np.arange(IMAGES), outer), np.empty(0, np.int64), outer)


def score_outer(made: Pretrainer, stains: StainMaps, backbone: Backbone) -> float:
    """Accuracy on the outer images of a head that is solved on all others."""
    split, labelled = split_cohort(), made.cohort.labelled
    points = made._embed(backbone, [s.image for s in labelled], stains)
    whole = Split(0, 0, np.arange(IMAGES), np.empty(0, np.int64), np.empty(0, np.int64))
    inner = open_inner(made.cohort, whole, repeats=1)
    said = probe(points, inner, Turn(0, 0, split.train, split.outer)).argmax(axis=1)
    return float((said == made.cohort.targets[split.outer]).mean())


def plant(leaks: bool) -> Any:
    """A pretraining that remembers the labels of what teaches; one that leaks remembers those of everything."""

    def teach(self: Pretrainer, images: list[str], stains: StainMaps, name: str) -> Pretrained:
        known = [s for s in self.cohort.labelled if leaks or s.image in set(images)]
        tiles = self.store.read_tiles(np.array([self.store.position(s.image) for s in known]))
        shown = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 255
        numbers = torch.tensor([1.0 if s.label == "a" else -1.0 for s in known])
        return Pretrained(Remembers((shown - 0.5) / 0.5, numbers), ())

    return teach


@pytest.fixture
def _quick_probe(monkeypatch: Any) -> None:
    monkeypatch.setattr(pretrainer, "PROBE", "ridge")


@pytest.mark.slow
@pytest.mark.usefixtures("_quick_probe")
def test_labels_that_mean_nothing_are_kept_rarely_and_the_outer_score_is_chance(tmp_path: Path) -> None:
    kept, scores = [], []
    for seed in range(6):
        made, stains = make_pretrainer(tmp_path / str(seed), seed)
        backbone, record = made.pretrain_fold(split_cohort(), stains)
        assert not record.collapsed
        assert record.verdict.gain is not None
        kept.append(record.verdict.kept)
        scores.append(score_outer(made, stains, backbone))
    assert sum(kept) <= 1
    assert abs(np.mean(scores) - 0.5) < 2.6 * 0.5 / np.sqrt(6 * CASES / 3)  # of ten outer cases each


@pytest.mark.slow
@pytest.mark.usefixtures("_quick_probe")
def test_a_pretraining_that_knows_what_is_held_out_is_seen_to_leak(tmp_path: Path, monkeypatch: Any) -> None:
    """What remembers the cases that teach gains nothing; what remembers those that judge is kept every time."""
    verdicts: dict[bool, list[PretrainedFold]] = {}
    for leaks in (False, True):
        monkeypatch.setattr(Pretrainer, "_teach", plant(leaks))
        made = [make_pretrainer(tmp_path, seed) for seed in range(3)]
        verdicts[leaks] = [one.pretrain_fold(split_cohort(), stains)[1] for one, stains in made]
    assert not any(record.verdict.kept for record in verdicts[False])
    assert all(record.verdict.kept for record in verdicts[True])


def test_unlabelled_images_of_what_a_turn_holds_out_do_not_teach_in_it(tmp_path: Path, monkeypatch: Any) -> None:
    taught: list[list[str]] = []

    def teach(self: Pretrainer, images: list[str], stains: StainMaps, name: str) -> Pretrained:
        taught.append(list(images))
        return Pretrained(self.backbone.module, ())

    monkeypatch.setattr(Pretrainer, "_teach", teach)
    # Of an outer case, of two inner cases, of a sealed case, of nobody; and one that the audit found unfit.
    made, stains = make_pretrainer(
        tmp_path, 0, "train.pretrain.transductive=true", free=("c0", "c1", "c2", "sealed", "new", "foreign")
    )
    sealed = Sample("s", Path(), None, "a", "sealed", "")
    made = replace(made, cohort=replace(made.cohort, sealed=(sealed,)), unfit={"i65": "foreign"})
    _, record = made.pretrain_fold(split_cohort(), stains)
    cases = {s.image: s.case for s in made.cohort.samples}
    whole, *turns = taught
    assert {cases[image] for image in whole if image in {"i60", "i61", "i62", "i63", "i64", "i65"}} == {
        "c1",
        "c2",
        "new",
    }
    assert record.further == 3
    assert len(turns) == 3
    for images in turns:
        labelled = {cases[image] for image in images if int(image[1:]) < IMAGES}
        assert {cases[image] for image in images} == labelled | {"new"}
    assert len({frozenset(images) for images in turns}) == 3


def test_another_method_loss_or_drawer_is_another_entry_of_the_cache(tmp_path: Path, monkeypatch: Any) -> None:
    """What is kept under a hash of code depends on the files of all methods; a package names them in its init."""
    asked: list[str] = []
    monkeypatch.setattr(pretrainer, "hash_code", lambda *modules: asked.extend(modules) or "code")
    made, stains = make_pretrainer(tmp_path, 0, "train.pretrain.epochs=1")
    images = [s.image for s in made.cohort.labelled[:8]]
    made._teach(images, stains, "fold")
    assert {entry.build.__module__ for entry in PRETRAININGS} <= follow_imports(*asked)
    assert {f"smalti.train.pretraining.{name}" for name in ("unlabelled_loop", "views", "methods")} <= follow_imports(
        *asked
    )
    assert len(list((tmp_path / "pretrained").glob("*.safetensors"))) == 1
    made._teach(images, stains, "fold")
    assert len(list((tmp_path / "pretrained").glob("*.safetensors"))) == 1
    first, *others = made.cohort.labelled
    cohort = replace(made.cohort, labelled=(replace(first, case="other"), *others))
    replace(made, cohort=cohort)._teach(images, stains, "fold")
    assert len(list((tmp_path / "pretrained").glob("*.safetensors"))) == 2  # the cases were dealt differently


def test_another_way_of_drawing_is_another_entry_of_the_cache(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[str] = []

    def note(*modules: str) -> str:
        asked.extend(modules)
        raise InterruptedError

    monkeypatch.setattr(looking, "hash_code", note)
    made, stains = make_pretrainer(tmp_path, 0, "train.synthesis.method=paste")
    masked = tuple(replace(s, mask_path=Path()) for s in made.cohort.labelled)
    cohort = replace(made.cohort, labelled=masked)
    with pytest.raises(InterruptedError):
        look_at_drawn(made.recipe, cohort, made.store, made.backbone, stains, fabric=made.fabric, cache=tmp_path)
    assert {entry.build.__module__ for entry in DRAWERS} <= follow_imports(*asked)
