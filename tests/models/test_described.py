"""Descriptions against scikit-image, numpy and drawn discs; under turns, threads and batches; as backbones of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import skew

from smalti.errors import PartError, RecipeError, WeightsError
from smalti.models import (
    DESCRIPTIONS,
    backbones,
    build_backbone,
    cut_backbone,
    find_weights,
    hash_weights,
    read_input_px,
)
from smalti.models.described import colour, nuclei, texture
from smalti.models.described.channels import STAIN_GAIN, Planes, blur
from smalti.predict import predict_outer
from smalti.recipe import Model, load_recipe
from smalti.samples import normalise_tiles
from smalti.train import check_parts, compute_features, train_folds
from textures import draw_texture

NAMES = [entry.name for entry in DESCRIPTIONS]
ALL = "described:" + "+".join(NAMES)
FROZEN = ("train.finetune.epochs=0", "model.head=logistic")


def draw_tile(seed: int = 0, size_px: tuple[int, int] = (96, 96)) -> NDArray[np.uint8]:
    return np.ascontiguousarray(draw_texture("AB"[seed % 2], np.random.default_rng(seed))[: size_px[0], : size_px[1]])


def draw_odd() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    dot = np.full((64, 64, 3), 255, np.uint8)
    dot[30:36, 30:36] = (60, 30, 120)
    return {
        "black": np.zeros((16, 16, 3), np.uint8),
        "white": np.full((224, 224, 3), 255, np.uint8),
        "even": np.full((50, 50, 3), (200, 120, 180), np.uint8),
        "noise": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8),
        "wide": rng.integers(0, 256, (17, 90, 3), dtype=np.uint8),
        "half": half,
        "dot": dot,
        "green": np.full((33, 33, 3), (0, 255, 0), np.uint8),
    }


def name_numbers(name: str, picture: NDArray[np.uint8]) -> dict[str, float]:
    description = DESCRIPTIONS.build(name)
    return dict(zip(description.names, description.measure(Planes(picture)).tolist(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_turning_and_mirroring_a_tile_changes_nothing(name: str) -> None:
    measure = DESCRIPTIONS.build(name).measure
    for picture in (draw_tile(0), draw_tile(1, (63, 50)), *draw_odd().values()):
        wanted = measure(Planes(picture))
        for turn in range(1, 8):
            turned = np.rot90(picture[:, ::-1] if turn >= 4 else picture, turn % 4)
            np.testing.assert_allclose(measure(Planes(np.ascontiguousarray(turned))), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", draw_odd())
def test_every_tile_has_numbers_of_moderate_size(name: str, what: str) -> None:
    description = DESCRIPTIONS.build(name)
    numbers = description.measure(Planes(draw_odd()[what]))
    assert numbers.shape == (len(description.names),)
    assert np.isfinite(numbers).all()
    assert np.abs(numbers).max() < 200


def test_neither_batch_nor_threads_change_a_byte() -> None:
    module = build_backbone(Model(backbone=ALL)).module
    tiles = torch.from_numpy(np.stack([draw_tile(seed) for seed in range(4)])).permute(0, 3, 1, 2) / 255
    wanted = module(tiles)
    before = cv2.getNumThreads(), torch.get_num_threads()
    try:
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            torch.set_num_threads(threads)
            assert torch.equal(module(tiles), wanted)
            assert torch.equal(torch.cat([module(tile[None]) for tile in tiles.flip(0)]), wanted.flip(0))
            assert torch.equal(module(tiles.to(memory_format=torch.channels_last)), wanted)
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def test_what_a_network_would_get_is_the_tile_as_it_was_stored() -> None:
    backbone = build_backbone(Model(backbone="described:colour"))
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    seen = backbone.module(normalise_tiles(torch.from_numpy(stored), spec=backbone.spec))[0]
    wanted = DESCRIPTIONS.build("colour").measure(Planes(stored[0]))
    np.testing.assert_array_equal(seen.numpy(), wanted.astype(np.float32))


def test_stains_are_those_of_scikit_image() -> None:
    from skimage.color import rgb2hed

    picture = draw_tile()
    # Theirs is in units of ln(1e-6), of values that are not 0, and cut at 0.
    wanted = rgb2hed((picture.astype(np.float64) + 1) / 256) * -np.log10(1e-6)
    found = np.stack(Planes(picture).stains, axis=-1)
    np.testing.assert_allclose(found.clip(0), wanted, atol=1e-5)


def test_colours_are_moments_and_quantiles_of_pixels() -> None:
    picture = draw_tile(1)
    numbers = name_numbers("colour", picture)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    densities = -np.log10((picture.astype(np.float64) + 1) / 256)
    planes = {"red": picture[..., 0] / 255, "blue": picture[..., 2] / 255, "saturation": hsv[..., 1] / 255}
    planes |= {"green density": densities[..., 1], "value": picture.max(axis=2) / 255}
    planes |= dict(zip(colour.STAINED, Planes(picture).stains, strict=True))
    for name, plane in planes.items():
        assert numbers[f"{name} mean"] == pytest.approx(plane.mean(), abs=1e-6)
        assert numbers[f"{name} spread"] == pytest.approx(plane.std(), abs=1e-6)
        fade = plane.std() ** 3 / (plane.var() + colour.LEAST_SPREAD**2) ** 1.5
        assert numbers[f"{name} skewness"] == pytest.approx(skew(plane.ravel()) * fade, abs=1e-4)
        for q in colour.QUANTILES if f"{name} q0.1" in numbers else ():
            wanted = np.quantile(plane, q, method="inverted_cdf")
            assert numbers[f"{name} q{q:g}"] == pytest.approx(wanted, abs=0.5 * 4 / colour.BINS + 1e-6)
    covariance = np.cov(densities[..., 0].ravel(), densities[..., 2].ravel(), bias=True)
    faded = covariance[0, 1] / np.sqrt(np.prod(np.diag(covariance) + colour.LEAST_SPREAD**2))
    assert numbers["red with blue"] == pytest.approx(faded, abs=1e-6)
    glassy = picture.copy()
    glassy[:48] = 250
    assert name_numbers("colour", glassy)["tissue"] == pytest.approx(0.5, abs=0.01)
    both = [name_numbers("colour", p)["eosin of tissue"] for p in (glassy, np.ascontiguousarray(picture[48:]))]
    assert both[0] == pytest.approx(both[1], abs=1e-6)


@pytest.mark.parametrize("radius", texture.RADII)
def test_local_binary_patterns_are_those_of_scikit_image(radius: int) -> None:
    from skimage.feature import local_binary_pattern

    plane = Planes(draw_tile()).light
    codes = local_binary_pattern(plane, texture.POINTS, radius, method="uniform")
    inner = codes[radius:-radius, radius:-radius].astype(int)
    wanted = np.bincount(inner.ravel(), minlength=10) / inner.size
    # Weights of 1/256 decide a few equal neighbours another way than theirs, which round to 1/100000.
    np.testing.assert_allclose(texture.count_patterns(plane, radius), wanted, atol=0.01)


def test_patterns_do_not_see_brightness_or_contrast() -> None:
    plane = (Planes(draw_tile()).light // 2).astype(np.uint8)
    for other in (plane + np.uint8(60), plane * np.uint8(2)):
        np.testing.assert_array_equal(texture.count_patterns(other, 1), texture.count_patterns(plane, 1))


@pytest.mark.parametrize("distance", texture.DISTANCES)
def test_co_occurrence_is_that_of_scikit_image(distance: int) -> None:
    from skimage.feature import graycomatrix, graycoprops

    greys = np.random.default_rng(distance).integers(0, texture.GREYS, (40, 31), dtype=np.uint8)
    greys[:20] //= 3
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    each = graycomatrix(greys, [distance], angles, levels=texture.GREYS, symmetric=True, normed=True)
    wanted = each.mean(axis=3, keepdims=True)
    matrix = texture.count_pairs(greys, distance)
    np.testing.assert_allclose(matrix, wanted[..., 0, 0], atol=1e-12)
    found = dict(zip(texture.PROPERTIES, texture.measure_pairs(matrix), strict=True))
    found["contrast"] = np.expm1(found["contrast"])
    for name in texture.PROPERTIES:
        assert found[name] == pytest.approx(graycoprops(wanted, name)[0, 0], abs=1e-9)


def test_a_blur_is_two_means_and_its_bands_add_up() -> None:
    plane = Planes(draw_tile()).light
    once = cv2.blur(plane.astype(np.float64), (9, 9), borderType=cv2.BORDER_REFLECT)
    twice = cv2.blur(once, (9, 9), borderType=cv2.BORDER_REFLECT)
    np.testing.assert_allclose(blur(plane, 9), twice, atol=1e-3)
    white = np.full((64, 64), 255, np.uint8)
    np.testing.assert_allclose(blur(white, max(texture.BLURS_PX)), 255.0)  # the largest sum that there can be


def test_stripes_run_one_way_and_discs_do_not() -> None:
    rows, cols = np.mgrid[:96, :96]
    stripes = np.repeat((127 + 100 * np.sin((rows + cols) / 3)).astype(np.uint8)[..., None], 3, axis=2)
    rings = np.repeat((127 + 100 * np.sin(np.hypot(rows - 47.5, cols - 47.5))).astype(np.uint8)[..., None], 3, axis=2)
    ran, round_ = name_numbers("texture", stripes), name_numbers("texture", rings)
    assert ran["light alignment"] > 0.9
    assert round_["light alignment"] < 0.05
    assert round_["light coherence 9"] > 0.8


def draw_nuclei(middles: list[tuple[int, int]], axes: tuple[int, int]) -> NDArray[np.uint8]:
    picture = np.full((160, 160, 3), (236, 200, 220), np.uint8)
    for row, col in middles:
        cv2.ellipse(picture, (col, row), axes, 30, 0, 360, (90, 60, 150), -1)
    return picture


def test_drawn_nuclei_are_counted_and_measured() -> None:
    from skimage.filters import threshold_otsu
    from skimage.measure import label, regionprops

    middles = [(30, 30), (30, 110), (80, 70), (120, 30), (120, 120)]
    picture = draw_nuclei(middles, (14, 9))
    numbers = name_numbers("nuclei", picture)
    smooth = np.rint(blur(Planes(picture).nuclear, 3)).astype(np.uint8)
    wanted = regionprops(label(smooth > threshold_otsu(smooth)), intensity_image=smooth)
    assert len(wanted) == 5
    assert np.expm1(numbers["density"]) == pytest.approx(5 * nuclei.FIELD / picture[..., 0].size)
    assert numbers["single"] == 1
    assert numbers["area"] == pytest.approx(np.mean([np.log(w.area) for w in wanted]), abs=0.02)
    assert numbers["eccentricity"] == pytest.approx(np.mean([w.eccentricity for w in wanted]), abs=0.01)
    assert numbers["amount"] == pytest.approx(np.mean([w.intensity_mean for w in wanted]) / STAIN_GAIN, abs=0.02)
    assert numbers["fullness"] == pytest.approx(1, abs=0.03)
    nearest = [min(np.hypot(a - c, b - d) for c, d in middles if (a, b) != (c, d)) for a, b in middles]
    assert numbers["gap"] == pytest.approx(np.mean(np.log(nearest)), abs=0.05)
    assert np.exp(numbers["radius"]) == pytest.approx(9, abs=1)


def test_nuclei_that_touch_have_a_core_each() -> None:
    numbers = name_numbers("nuclei", draw_nuclei([(60, 60), (60, 76), (110, 110)], (9, 9)))
    assert numbers["single"] == pytest.approx(2 / 3)
    assert np.expm1(numbers["density"]) == pytest.approx(3 * nuclei.FIELD / 160**2)


def test_grain_of_an_empty_tile_is_no_nucleus() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (96, 96, 3))
    numbers = name_numbers("nuclei", np.clip(np.array([240, 236, 240]) + noise, 0, 255).astype(np.uint8))
    assert numbers["density"] == numbers["share"] == numbers["area"] == 0
    assert numbers["gap"] == pytest.approx(np.log(96))


def test_descriptions_need_no_weights_and_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_reach_hub", lambda _: pytest.fail("the hub was asked"))
    for pretrained in (True, False):
        model = Model(backbone=ALL, pretrained=pretrained)
        assert find_weights(model) == "described"
        assert read_input_px(model) == 224
        backbone = build_backbone(model)
        assert (backbone.name, backbone.norm, backbone.note) == (ALL, None, None)
        assert not list(backbone.module.parameters())
        assert backbone.module(torch.zeros(2, 3, 40, 40)).shape == (2, backbone.features)
    assert backbone.features == sum(len(DESCRIPTIONS.build(name).names) for name in NAMES)
    one, other = (hash_weights(build_backbone(Model(backbone=f"described:{n}")).module) for n in NAMES[:2])
    assert one != other


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("described:colours", "Did you mean 'colour'"),
        ("described:colour+colour", "colour twice"),
        ("described:", "no description is called ''"),
        ("described:colour+", "no description is called ''"),
    ],
)
def test_slips_in_the_name_are_told_as_such(name: str, said: str) -> None:
    for look in (find_weights, build_backbone):
        with pytest.raises(WeightsError, match=f"{said}.* Fix: "):
            look(Model(backbone=name))
    recipe = load_recipe(settings=FROZEN)
    with pytest.raises(PartError, match=said):
        check_parts(recipe.model_copy(update={"model": recipe.model.model_copy(update={"backbone": name})}))


def test_what_needs_a_network_is_refused_all_at_once() -> None:
    check_parts(load_recipe(settings=[f"model.backbone={ALL}", *FROZEN]))
    asked = ["model.mask_channel=true", "model.norm=group", "train.finetune.epochs=3", "model.weights=w.safetensors"]
    with pytest.raises(RecipeError) as caught:
        check_parts(load_recipe(settings=[f"model.backbone={ALL}", *asked]))
    for setting in asked:
        assert setting in str(caught.value)
    fixes = [part.split()[0].rstrip(",") for part in str(caught.value).split("--set ")[1:]]
    check_parts(load_recipe(settings=[f"model.backbone={ALL}", *asked, *fixes]))


def test_gradcam_says_why_there_is_none() -> None:
    part, reason = cut_backbone(build_backbone(Model(backbone=ALL)).module, torch.zeros(1, 3, 32, 32))
    assert part is None
    assert "does not show its maps" in reason


def test_features_are_kept_under_the_code_that_made_them(
    prepare: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import smalti.train.features as features

    experiment = prepare("model.backbone=described:colour", *FROZEN)

    def compute() -> Path:
        found = compute_features(
            experiment.backbone, experiment.store, views=1, fabric=experiment.fabric, cache=tmp_path
        )
        return found.files[0]

    first = compute()
    bag = next(iter(experiment.frozen.values())).features.read_bag(0)
    tiles = experiment.store.read_rows(0, 1)
    wanted = DESCRIPTIONS.build("colour").measure(Planes(np.ascontiguousarray(tiles[0])))
    found = np.fromfile(first, dtype=np.float32, count=len(wanted))
    np.testing.assert_array_equal(found, wanted.astype(np.float32))
    np.testing.assert_array_equal(bag[0], found)
    assert compute() == first
    monkeypatch.setattr(features, "hash_code", lambda *modules: "another")
    assert compute() != first


@pytest.mark.parametrize("pooler", ["mean", "mean_spread", "covariance"])
def test_a_run_on_descriptions_repeats_to_the_byte_and_learns(prepare: Callable[..., Any], pooler: str) -> None:
    scores = []
    for _ in range(2):
        experiment = prepare(f"model.backbone={ALL}", f"model.pooler={pooler}", *FROZEN)
        train_folds(experiment)
        table = predict_outer(experiment)
        scores.append(table.to_csv())
    assert scores[0] == scores[1]
    said = table[[f"score_{name}" for name in experiment.cohort.classes]].to_numpy().argmax(axis=1)
    given = [experiment.cohort.classes.index(label) for label in table["label"]]
    assert (said == given).mean() > 0.8
