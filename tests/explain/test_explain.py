"""Where networks looked: maps against formulas and loops, faithfulness of maps whose truth is known, the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from captum.attr import LayerGradCam
from torch import nn
from typer.testing import CliRunner

import smalti
from bags import build_learned
from pages import without_pages
from smalti.cli import app
from smalti.errors import DataError, RunError
from smalti.explain import (
    make_collection,
    measure_map,
    measure_ratio,
    share_inside,
    shrink_size,
    stitch_tiles,
    summarise_maps,
)
from smalti.explain.attribution import TileBag, choose_kind, find_cams, find_gradients, read_tiles, score_subsets
from smalti.explain.deletion import draw_curves
from smalti.explain.explanation import ExplanationRequest, explain_images
from smalti.models import POOLERS, BagReader, Head, UpperPart, build_backbone, cut_backbone
from smalti.recipe import Model
from smalti.records import ExplanationRecord, MapMeasures
from smalti.report import Legend, draw_overlay
from smalti.report.sections.looked import choose_images, say_trust
from smalti.review import read_insight
from smalti.store import hash_text, read_arrays
from smalti.train import train_folds
from smalti.workflow import explain_run
from textures import BARE, CLASSES

NAN = float("nan")


def make_reader(pooler: str, *, features: int = 5, classes: int = 3, seed: int = 0, **options: Any) -> BagReader:
    built = build_learned(pooler, features, classes, seed=seed, **options)
    head = Head(built.features, classes, dropout=0.5, by_class=built.by_class)
    nn.init.normal_(head.linear.weight)
    nn.init.normal_(head.linear.bias)
    return BagReader(built, head).eval()


def make_bag(count: int = 7, features: int = 5, *, seed: int = 0) -> TileBag:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=(count, features)).astype(np.float32))
    places = torch.stack([torch.arange(count) // 3, torch.arange(count) % 3], dim=1).float()
    return TileBag(values, places)


# --- what a reader says about tiles -------------------------------------------------------------------------------


def test_evidence_of_a_linear_network_is_the_formula() -> None:
    """Mean pooling and a linear head: the image's logit is the mean of its tiles' logits, so removal is known."""
    reader, bag = make_reader("mean"), make_bag()
    reading = read_tiles(reader, bag)
    assert choose_kind(reader, reading) == "evidence"
    logits = bag.features @ reader.head.linear.weight.T + reader.head.linear.bias
    expected = logits - logits.mean(dim=1, keepdim=True)
    torch.testing.assert_close(reading.alone, expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reading.logits, logits.mean(dim=0).detach(), atol=1e-5, rtol=1e-5)
    without_first = score_subsets(reader, bag, torch.arange(1, 7)[None])[0]
    torch.testing.assert_close(without_first, (logits.sum(dim=0) - logits[0]).detach() / 6, atol=1e-5, rtol=1e-5)


def test_contributions_add_up_to_the_logits() -> None:
    reader, bag = make_reader("additive"), make_bag()
    reader.head.scale.fill_(2.0)
    reading = read_tiles(reader, bag)
    assert choose_kind(reader, reading) == "contribution"
    assert reading.contributions is not None
    wanted = reading.logits - reader.head.linear.bias.detach()
    torch.testing.assert_close(reading.contributions.sum(dim=0), wanted - wanted.mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("pooler", "kind"), [("attention", "attention"), ("clam_mb", "class attention"), ("topk", "evidence")]
)
def test_what_is_shown_of_a_pooler(pooler: str, kind: str) -> None:
    reader, bag = make_reader(pooler), make_bag()
    reading = read_tiles(reader, bag)
    assert choose_kind(reader, reading) == kind
    shares = reading.take_map(kind, 1)
    assert shares.shape == (7,)
    if kind != "evidence":
        torch.testing.assert_close(shares.mean(), torch.tensor(1.0))  # multiples of an even share


@pytest.mark.parametrize("entry", list(POOLERS), ids=lambda e: e.name)
def test_every_pooler_can_be_read_and_asked_for_gradients(entry: Any) -> None:
    reader, bag = make_reader(entry.name), make_bag()
    reading = read_tiles(reader, bag)
    assert all(torch.isfinite(values).all() for values in (reading.logits, reading.attention, reading.alone))
    gradient = find_gradients(reader, bag, [2])[0]
    moved = TileBag(bag.features + 1e-3 * gradient, bag.places)
    # The logit rises by the squared length of the gradient, to first order.
    rise = (read_tiles(reader, moved).logits - reading.logits)[2]
    torch.testing.assert_close(rise, 1e-3 * gradient.square().sum(), atol=2e-5, rtol=0.1)


# --- Grad-CAM -----------------------------------------------------------------------------------------------------


def test_gradcam_is_that_of_a_direct_computation() -> None:
    """The whole network at once, as the paper writes it, against chunks."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0).eval()
    reader = make_reader("attention", features=backbone.num_features)
    tiles = torch.rand(5, 3, 64, 64)
    maps = backbone.forward_features(tiles).detach().requires_grad_()
    embedded = backbone.forward_head(maps)
    logits, _ = reader(embedded[None])
    gradient = torch.autograd.grad(logits[0, 1], maps)[0]
    expected = torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)).detach()
    part, reason = cut_backbone(backbone, tiles[:1])
    assert part is not None, reason
    wanted = find_gradients(reader, TileBag(embedded.detach(), torch.zeros(5, 2)), [1, 0])
    chunks = [find_cams(part, tiles[rows], wanted[:, rows]) for rows in (slice(0, 2), slice(2, 5))]
    found = torch.cat(chunks, dim=1)
    assert found.shape == (2, 5, *maps.shape[2:])
    assert expected.max() > 0
    torch.testing.assert_close(found[0], expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_gradcam_is_that_of_captum(name: str) -> None:
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0).eval()
    size = backbone.pretrained_cfg["input_size"][-1]
    tiles, wanted = torch.rand(3, 3, size, size), torch.randn(2, 3, backbone.num_features)
    part, reason = cut_backbone(backbone, tiles[:1])
    assert part is not None, reason
    whole = Tapped(part)
    lower = part.run_lower(tiles).clone().requires_grad_()
    theirs = [LayerGradCam(whole, whole.tap).attribute(lower, None, w, relu_attributions=True)[:, 0] for w in wanted]
    torch.testing.assert_close(find_cams(part, tiles, wanted), torch.stack(theirs).detach())
    assert theirs[0].max() > 0


class Tapped(nn.Module):
    """An upper part as captum takes it: one number a tile, and a module that gives the maps."""

    def __init__(self, part: UpperPart) -> None:
        super().__init__()
        self.part, self.tap = part, nn.Identity()

    def forward(self, lower: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.part(self.tap(self.part.take_maps(lower)), lower)
        return (embedded * wanted).sum(dim=1)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext", "test_byobnet"])
def test_the_upper_part_gives_the_embedding_of_the_whole(name: str) -> None:
    backbone = timm.create_model(name, num_classes=0).eval()
    size = backbone.pretrained_cfg["input_size"][-1]
    tiles = torch.rand(2, 3, size, size)
    part, reason = cut_backbone(backbone, tiles[:1])
    assert part is not None, reason
    wanted = torch.rand(2, backbone.num_features)
    lower = part.run_lower(tiles)
    torch.testing.assert_close(part(part.take_maps(lower), lower), backbone(tiles))
    assert find_cams(part, tiles, wanted[None]).sum() > 0


@pytest.mark.parametrize("side", [64, 240])
def test_maps_of_stages_lie_over_each_other_and_keep_what_they_embed(side: int) -> None:
    """At 240 px the grids are 30, 15 and 8, which is no multiple of the last; of the finest the map is its own."""
    backbone = build_backbone(Model(backbone="tf_efficientnet_lite0", pretrained=False, embedding="stages")).module
    tiles = torch.rand(2, 3, side, side)
    part, reason = cut_backbone(backbone, tiles[:1])
    assert part is not None, reason
    with torch.inference_mode():
        embedded = backbone(tiles)
    wanted = torch.rand(2, embedded.shape[1])
    lower = part.run_lower(tiles)
    torch.testing.assert_close(part(part.take_maps(lower), lower), embedded)
    finest = backbone.read_maps(tiles)[0].detach()
    only = torch.zeros_like(wanted)
    only[:, : finest.shape[1]] = wanted[:, : finest.shape[1]]
    expected = torch.relu((finest * only[:, : finest.shape[1], None, None]).sum(dim=1)) / finest[0, 0].numel()
    torch.testing.assert_close(find_cams(part, tiles, only[None])[0], expected, atol=1e-7, rtol=1e-3)


def test_a_backbone_without_maps_says_so() -> None:
    part, reason = cut_backbone(nn.Flatten(), torch.zeros(1, 3, 4, 4))
    assert part is None
    assert "Flatten" in reason


# --- stitching ----------------------------------------------------------------------------------------------------


def test_stitching_is_a_mean_over_tiles_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    size = (37, 52)
    boxes = np.array([[r, c, 16, 16] for r in (0, 10, 21) for c in (-3, 9, 30)], dtype=np.float64)
    boxes = np.vstack([boxes, [[5, 5, 40, 40]]])  # of a lower magnification, beyond the border
    values = rng.normal(size=len(boxes)).astype(np.float32)
    found = stitch_tiles(values, boxes, size_px=size)
    for row, col in np.ndindex(*size):
        over = [v for v, (r, c, h, w) in zip(values, boxes, strict=True) if r <= row < r + h and c <= col < c + w]
        if over:
            assert found[row, col] == pytest.approx(np.mean(over), abs=1e-6)
        else:
            assert np.isnan(found[row, col])
    assert np.isnan(found).any()


def test_pictures_of_tiles_are_enlarged_into_their_boxes() -> None:
    picture = np.array([[[0, 1], [0, 1]]], dtype=np.float32)
    found = stitch_tiles(picture, np.array([[0.0, -4, 8, 8]]), size_px=(8, 4))
    np.testing.assert_allclose(found[:, 0], 0.625)  # the right half is in the image: a fourth of a step past the middle
    np.testing.assert_allclose(found[:, 2:], 1)


def test_a_large_image_has_a_small_map() -> None:
    size, boxes = (20_000, 10_000), np.array([[19_000.0, 9_000, 1_000, 1_000]])
    found = stitch_tiles(np.ones(1, np.float32), boxes, size_px=size, scale=0.01)
    assert found.shape == shrink_size(size, 0.01) == (200, 100)
    assert (found[190:, 90:] == 1).all()
    assert np.isnan(found).sum() == 200 * 100 - 100


# --- share inside the mask ----------------------------------------------------------------------------------------


def test_share_inside_the_mask_by_hand() -> None:
    heat = np.array([[3.0, 1.0], [-5.0, NAN]], dtype=np.float32)
    mask = np.array([[1.0, 0.0], [0.5, 1.0]], dtype=np.float32)
    inside, area = share_inside(heat, mask)
    assert inside == pytest.approx(3 / 4)  # what speaks against and what was not looked at do not count
    assert area == pytest.approx(1.5 / 3)
    assert np.isnan(share_inside(-np.ones((2, 2), np.float32), mask)).all()


def test_an_even_map_is_inside_as_often_as_the_area() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[r, c, 16, 16] for r in range(0, 48, 8) for c in range(0, 40, 8)], dtype=np.float64)
    heat = stitch_tiles(np.ones(len(boxes), np.float32), boxes, size_px=(64, 64))
    inside, area = share_inside(heat, (rng.random((64, 64)) < 0.3).astype(np.float32))
    assert inside == pytest.approx(area, rel=1e-6)


# --- deletion and insertion ---------------------------------------------------------------------------------------


def make_witnesses(seed: int) -> tuple[TileBag, np.ndarray]:
    """A bag of 30 tiles of which 5 hold the class, and which these are."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(30, np.float32)
    truth[rng.choice(30, 5, replace=False)] = 1
    features = rng.normal(0, 0.1, (30, 5)).astype(np.float32)
    features[:, 0] += truth
    return TileBag(torch.from_numpy(features), torch.zeros(30, 2)), truth


def measure(maps: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> MapMeasures:
    """Faithfulness over 20 bags of a network that knows the witnesses, for maps made from the truth."""
    reader = make_reader("mean", classes=2)
    with torch.no_grad():
        reader.head.linear.weight.zero_()
        reader.head.linear.weight[1, 0] = 10.0
        reader.head.linear.bias.copy_(torch.tensor([2.0, 0.0]))
    measured = []
    for seed in range(20):
        bag, truth = make_witnesses(seed)
        values = maps(truth, np.random.default_rng(seed)).astype(np.float32)
        curves = draw_curves(reader, bag, values[None], shown=1)
        stacked = np.stack([curves.deletion[0], curves.insertion[0], curves.random])
        assert np.ptp(stacked[:, -1]) < 1e-9  # all tiles there: the same for all
        measured.append(measure_map(values[None], curves.kept, stacked, shares=(NAN, NAN)))
    return summarise_maps(measured, [f"c{i}" for i in range(20)], resamples=300, confidence=0.95)


def test_a_perfect_map_beats_random_order() -> None:
    found = measure(lambda truth, _: truth)
    assert found.verdict == "better"
    assert found.deletion.low > 0.1
    assert found.insertion.low > 0.1
    assert found.inside.value is None


def test_a_map_upside_down_is_worse_and_a_map_of_noise_is_neither() -> None:
    assert measure(lambda truth, _: 1 - truth).verdict == "worse"
    noise = measure(lambda truth, rng: rng.random(len(truth)))
    assert noise.verdict == "cannot tell"
    assert abs(noise.deletion.value) < 0.1


def test_curves_do_not_depend_on_the_order_of_equal_calls() -> None:
    bag, truth = make_witnesses(0)
    reader = make_reader("attention")
    first, second = (draw_curves(reader, bag, truth[None], shown=0) for _ in range(2))
    np.testing.assert_array_equal(first.random, second.random)
    assert first.kept[0] == 1
    assert first.kept[-1] == 30


# --- means and agreement ------------------------------------------------------------------------------------------


def test_means_and_ratios_resample_cases() -> None:
    values, cases = [1.0, 1.0, 1.0, 4.0, NAN], ["a", "a", "a", "b", "c"]
    mean = measure_ratio(values, np.ones(len(values)), cases, resamples=500, confidence=0.95)
    assert (mean.value, mean.n_images, mean.n_cases, mean.trustworthy) == (1.75, 4, 2, False)
    assert mean.low <= 1.75 <= mean.high
    ratio = measure_ratio([1, 3], [1, 1], ["a", "b"], resamples=100, confidence=0.9)
    assert ratio.value == 2
    assert measure_ratio([NAN], [1.0], ["a"], resamples=100, confidence=0.9).n_images == 0


def test_agreement_is_the_mean_rank_correlation() -> None:
    from scipy.stats import spearmanr

    maps = np.random.default_rng(0).normal(size=(4, 25)).astype(np.float32) + np.arange(25) / 10
    found = measure_map(maps.astype(np.float32), np.array([1, 2]), np.zeros((3, 2)), shares=(NAN, NAN))
    pairs = [spearmanr(maps[i], maps[j])[0] for i in range(4) for j in range(i)]
    assert found.agreement == pytest.approx(np.mean(pairs))
    assert abs(found.chance.mean()) < 0.1
    assert np.isnan(measure_map(maps[:1], np.array([1]), np.zeros((3, 1)), shares=(NAN, NAN)).agreement)


# --- files --------------------------------------------------------------------------------------------------------


def test_geojson_is_what_qupath_reads() -> None:
    boxes = np.array([[0.0, 32, 64, 64], [-10, 200, 64, 64]])
    found = make_collection(
        boxes,
        {"attention": np.array([0.25, 1.5], np.float32)},
        size_px=(100, 250),
        names=["B", "A"],
        classes=["A", "B"],
    )
    first, second = json.loads(json.dumps(found))["features"]
    assert found["type"] == "FeatureCollection"
    assert first["type"] == "Feature"
    assert first["geometry"] == {"type": "Polygon", "coordinates": [[[32, 0], [96, 0], [96, 64], [32, 64], [32, 0]]]}
    assert second["geometry"]["coordinates"][0] == [[200, 0], [250, 0], [250, 54], [200, 54], [200, 0]]
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"]["name"] == "B"
    assert all(0 <= part <= 255 for part in first["properties"]["classification"]["color"])
    assert second["properties"]["measurements"] == {"attention": 1.5}


def test_the_overlay_has_the_shape_of_the_map_and_marks_what_was_not_seen() -> None:
    picture = np.full((400, 500, 3), (200, 120, 180), np.uint8)
    heat = np.tile(np.linspace(0, 1, 500, dtype=np.float32), (400, 1))
    heat[:, :100] = np.nan
    mask = np.zeros((400, 500), np.float32)
    mask[50:100, 300:400] = 1
    drawn = draw_overlay(picture, heat, mask=mask, legend=Legend("attention", "1: an even share"))
    assert drawn.shape == picture.shape
    assert np.ptp(drawn[20, :100].astype(int), axis=1).max() == 0  # grey
    assert drawn[20, 490, 1] > drawn[20, 150, 1]  # the scale ends in yellow, which is the brighter
    assert (drawn[50, 320] > 200).all()  # the outline
    assert (drawn[395, 400] != 255).any()
    small = draw_overlay(picture[:40, :60], heat[:40, :60], mask=None, legend=Legend("a", "b"))
    assert small.shape == (40, 60, 3)


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with attention and two seeds, explained whole; read only."""
    settings = [
        *BARE, "split.seeds=[0,1]", "model.pooler=attention", "tile.min_coverage=0", "tile.overlap_frac=0.5",
        "train.finetune.epochs=0",
    ]  # fmt: skip
    with without_pages():
        run = smalti.run(
            challenge, "default", settings=settings, runs=tmp_path_factory.mktemp("explained"), name="looked"
        ).path
        smalti.explain_run(run)
    return Path(run)


def test_every_image_has_its_files_and_numbers(explained: Path, challenge: Path) -> None:
    told = ExplanationRecord.read(explained)
    assert (told.kind, told.n_images, told.shown, told.no_gradcam) == ("attention", 30, "predicted", "")
    names = [row.image for row in told.images]
    values = read_arrays(explained / "predictions" / "attention.npz")
    assert values["images"].tolist() == names
    for first, last in zip(values["starts"], values["starts"][1:], strict=False):
        assert values["attention"][first:last].sum() == pytest.approx(1, abs=1e-5)
    for name in names:
        stem = explained / "heatmaps" / name.removesuffix(".png")
        found = json.loads(stem.with_suffix(".geojson").read_text(encoding="utf-8"))
        assert found["features"]
        assert stem.with_suffix(".png").is_file()
        assert stem.with_name(f"{stem.name}.gradcam.png").is_file()
    maps = told.maps["map"]
    assert maps.agreement.n_images == 30  # two seeds, or all folds
    assert maps.area.value == pytest.approx(maps.inside.value / maps.focus.value)
    insight = read_insight(explained, images=names)
    assert insight.find_heatmap(names[0]) is not None


def test_the_report_says_where_it_looked(explained: Path) -> None:
    page = smalti.report_run(explained).read_text(encoding="utf-8")
    assert 'id="looked"' in page
    assert say_trust(ExplanationRecord.read(explained))[:30] in page
    assert page.count("data:image/jpeg") > 4
    assert "Tiles that speak most" in page


def test_a_label_is_explained_only_by_networks_that_never_saw_its_case(prepare: Callable[..., Any]) -> None:
    experiment = prepare("model.pooler=attention", "train.transfer.epochs=1", "train.finetune.epochs=0")
    splits = experiment.splits
    train_folds(experiment)
    sample = experiment.cohort.labelled[3]
    unlabelled = experiment.cohort.unlabelled[0]
    questions = [ExplanationRequest(sample, 0, 1), ExplanationRequest(unlabelled, 2, None)]
    first, second = explain_images(experiment, questions)
    assert first.no_cams == ""
    held_out = [s.name for s in splits if 3 in s.outer]
    assert list(first.networks) == held_out
    assert len(held_out) == 1
    assert list(second.networks) == [s.name for s in splits]
    assert first.cams is not None
    assert len(first.cams) == 2  # of the shown class and of the label
    assert second.cams is not None
    assert len(second.cams) == 1


def test_finetuned_networks_are_explained_with_their_own_backbones(prepare: Callable[..., Any]) -> None:
    experiment = prepare("model.pooler=clam_mb", "train.transfer.epochs=1", "train.finetune.epochs=1")
    splits = experiment.splits
    train_folds(experiment)
    from smalti.predict import predict_unlabelled

    questions = [ExplanationRequest(s, 1, None) for s in experiment.cohort.unlabelled]
    found = explain_images(experiment, questions)
    table = predict_unlabelled(experiment).set_index(["image", "fold"])
    for explanation in found:
        assert explanation.kind == "class attention"
        scores = torch.from_numpy(explanation.logits).softmax(dim=1).numpy()
        for row, split in zip(scores, splits, strict=True):
            wanted = table.loc[(explanation.question.sample.image, split.fold), [f"score_{c}" for c in CLASSES]]
            np.testing.assert_allclose(row, wanted.to_numpy(dtype=float), atol=1e-4)


def test_what_networks_see_is_what_they_explain(prepare: Callable[..., Any]) -> None:
    """Each fold with its own stain, the mask as a guide and several networks: the logits are those of the scores."""
    settings = ("model.pooler=attention", "train.transfer.epochs=1", "train.finetune.epochs=0")
    experiment = prepare(*settings, "stain.normalise=reinhard", "model.coverage_weights=true")
    splits = experiment.splits
    train_folds(experiment)
    from smalti.predict import predict_unlabelled

    sample = experiment.cohort.unlabelled[0]
    (found,) = explain_images(experiment, [ExplanationRequest(sample, 0, None)])
    table = predict_unlabelled(experiment).set_index(["image", "fold"])
    scores = torch.from_numpy(found.logits).softmax(dim=1).numpy()
    for row, split in zip(scores, splits, strict=True):
        wanted = table.loc[(sample.image, split.fold), [f"score_{c}" for c in CLASSES]]
        np.testing.assert_allclose(row, wanted.to_numpy(dtype=float), atol=1e-4)


def test_an_interrupted_explanation_goes_on(prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from smalti.explain import explanation as module

    experiment = prepare("model.pooler=attention", "train.transfer.epochs=1", "train.finetune.epochs=0")
    train_folds(experiment)
    questions = [ExplanationRequest(s, 0, None) for s in experiment.cohort.unlabelled]
    whole = [e.values for e in explain_images(experiment, questions)]
    parts = sorted((experiment.run.predictions / "explained").rglob("*.npz"))
    assert len(parts) == len(questions)
    parts[2].unlink()
    calls = []
    original = module.Explainer.explain

    def count(self: Any, question: ExplanationRequest) -> Any:
        calls.append(question)
        return original(self, question)

    monkeypatch.setattr(module.Explainer, "explain", count)
    again = [e.values for e in explain_images(experiment, questions)]
    assert len(calls) == 1
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first, second)
    other = [ExplanationRequest(questions[0].sample, 1, None)]
    list(explain_images(experiment, other))
    assert len(calls) == 2  # another class is another question
    list(explain_images(replace(experiment, store=replace(experiment.store, key="cut anew")), other))
    assert len(calls) == 3  # and so are other tiles


# --- the command --------------------------------------------------------------------------------------------------


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["explain", *words], env={"COLUMNS": "300"})


def test_the_command_says_where_and_what_next(explained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explained, tmp_path / "looked"))
    shutil.copytree(explained.parent / "cache", tmp_path / "cache")
    done = invoke(str(run), "--images", "train_data/img_0003.png", "--class", "B")
    assert done.exit_code == 0, done.output
    *_, where, then = done.stdout.strip().splitlines()
    assert where.startswith("result: explanation.json in ")
    assert then == f"next:   smalti report {run}"
    told = ExplanationRecord.read(run)
    assert [row.image for row in told.images] == ["train_data/img_0003.png"]
    assert told.images[0].shown == told.shown == "B"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "train_data/img_0033.png"], "knows no image 'train_data/img_0033.png'"),
        (["--class", "D"], "knows no class 'D'"),
        (["--images", "0"], "0 images"),
    ],
)
def test_what_the_run_does_not_know(explained: Path, words: list[str], said: str) -> None:
    done = invoke(str(explained), *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Fix:" in done.stderr


def test_runs_that_cannot_be_explained(explained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        explain_run(tmp_path / "nothing")
    run = Path(shutil.copytree(explained, tmp_path / "r"))
    (run / "predictions" / "out_of_fold.csv").unlink()
    with pytest.raises(RunError, match="no predictions"):
        explain_run(run)
    next((run / "checkpoints").glob("*.safetensors")).unlink()
    with pytest.raises(RunError, match="not trained: 1 of 4"):
        explain_run(run)
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    changed = recipe.replace("members: []", "members: [one, two]")
    (run / "recipe.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(RunError, match=r"not the recipe that this run began with"):
        explain_run(run)
    environment = (run / "environment.json").read_text(encoding="utf-8")
    (run / "environment.json").write_text(environment.replace(hash_text(recipe), hash_text(changed)), encoding="utf-8")
    with pytest.raises(RunError, match=r"ensemble.*one, two"):
        explain_run(run)


def test_maps_of_an_earlier_question_do_not_stay(explained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explained, tmp_path / "r"))
    table = pd.read_csv(run / "predictions" / "out_of_fold.csv")
    image, label = table["image"][0], table["label"][0]
    other = next(name for name in CLASSES if name != label)
    path = run / "heatmaps" / f"{Path(image).with_suffix('')}.gradcam-label.png"
    explain_run(run, images=[image], shown=other)
    assert path.is_file()
    explain_run(run, images=[image], shown=label)
    assert not path.is_file()


def test_names_are_read_with_blanks_between_them_and_none_at_all_is_refused(explained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explained, tmp_path / "r"))
    names = pd.read_csv(run / "predictions" / "out_of_fold.csv")["image"].unique()[:2].tolist()
    assert invoke(str(run), "--images", ", ".join(names)).exit_code == 0
    assert sorted(row.image for row in ExplanationRecord.read(run).images) == sorted(names)
    with pytest.raises(DataError, match="no image was named"):
        explain_run(run, images=[])


def test_images_that_would_share_a_file_are_refused(explained: Path) -> None:
    from smalti.types import Cohort, Sample
    from smalti.workflow.explaining.explain import choose_samples

    first = Sample("a.png", Path("a.png"), None, "A", "a", "a")
    cohort = Cohort(Path(), "table", (first, replace(first, image="a.tif")), (), ("A",))
    with pytest.raises(RunError, match="suffix"):
        choose_samples(cohort, None)
    assert choose_samples(cohort, ["a.tif"])[0].image == "a.tif"
    assert len(choose_samples(cohort, 1)) == 1
    with pytest.raises(DataError, match=r"a\.tif"):
        choose_samples(cohort, ["a.tiff"])


def test_the_report_shows_right_and_wrong_images() -> None:
    def row(image: str, label: str, predicted: str, score: float) -> Any:
        return SimpleNamespace(image=image, label=label, predicted=predicted, scores={label: score, predicted: score})

    rows = [row("a", "A", "A", 0.9), row("b", "A", "A", 0.8), row("c", "B", "B", 0.7), row("d", "B", "A", 0.1)]
    right, wrong = choose_images(rows).values()
    assert [r.image for r in right] == ["a", "c"]
    assert [r.image for r in wrong] == ["d"]
