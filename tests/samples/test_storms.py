"""Automated augmentation and mixing of pixels, against torchvision and the papers' own arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision import transforms
from torchvision.transforms import InterpolationMode, autoaugment
from torchvision.transforms.v2 import functional as tv

from smalti import recipe, workflow
from smalti.errors import PartError, RecipeError
from smalti.samples import AUGMENTATIONS, Pairing, apply_transform, automated, mix_pixels
from smalti.samples.automated import mix_chains
from smalti.samples.operations import AUTO, GENERAL, TISSUE, WIDE, Operation
from smalti.samples.pixels import draw_box
from textures import BARE

OPERATIONS = {**AUTO, **TISSUE}
STORMS = ("randaugment", "trivialaugment", "autoaugment", "augmix", "tissue")
# What still changes a tile at amount 0, as it does in the papers: these take no magnitude.
WITHOUT_AMOUNT = ("autocontrast", "equalize")


def draw_tile(channels: int = 3, *, seed: int = 0, side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = tv.gaussian_blur(torch.from_numpy(rng.integers(0, 256, (3, side, side), dtype=np.uint8)), [9, 9], [3.0])
    tile = tv.autocontrast(smooth).permute(1, 2, 0).numpy()
    if channels == 3:
        return tile
    mask = np.zeros((side, side, 1), dtype=np.uint8)
    mask[: side // 2] = 255
    return np.concatenate([tile, mask], axis=2)


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("channels", [3, 4])
def test_an_operation_keeps_the_tile_it_was_given_its_shape_and_a_mask_of_two_values(name: str, channels: int) -> None:
    tile = draw_tile(channels)
    before = tile.copy()
    for amount in (-1.0, -0.3, 0.5, 1.0):
        found = OPERATIONS[name](tile, amount, np.random.default_rng(1))
        assert found.shape == tile.shape
        assert found.dtype == np.uint8
        if channels == 4:
            assert set(np.unique(found[..., 3]).tolist()) <= {0, 255}
    np.testing.assert_array_equal(tile, before)


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in (*WITHOUT_AMOUNT, "compress")])
def test_an_amount_of_nothing_changes_nothing_and_a_full_one_does(name: str) -> None:
    tile = draw_tile()
    np.testing.assert_array_equal(OPERATIONS[name](tile, 0.0, np.random.default_rng(1)), tile)
    assert (OPERATIONS[name](tile, 1.0, np.random.default_rng(1)) != tile).any()


def test_jpeg_is_worse_with_the_amount() -> None:
    tile = draw_tile()
    errors = [
        np.abs(TISSUE["compress"](tile, a, np.random.default_rng(0)) - tile.astype(int)).mean() for a in (0, 0.5, 1)
    ]
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y", "warp"])
def test_the_mask_travels_with_the_pixels(name: str) -> None:
    # A tile whose colour is its mask: after the move they must agree but for the seam and what comes from outside.
    mask = draw_tile(4)[..., 3:]
    found = OPERATIONS[name](np.repeat(mask, 4, axis=2), 0.5, np.random.default_rng(2))
    inside = found[..., 3] == 255
    assert 0.1 < inside.mean() < 0.9
    assert (found[..., 0][inside] > 127).mean() > 0.97


@pytest.mark.parametrize("name", [n for n in GENERAL if not n.startswith(("rotate", "shear", "translate"))])
def test_colour_operations_leave_the_mask(name: str) -> None:
    tile = draw_tile(4)
    np.testing.assert_array_equal(OPERATIONS[name](tile, 1.0, np.random.default_rng(0))[..., 3], tile[..., 3])


# Names of torchvision's older transforms, whose own tables of magnitudes are the reference. Shear is about the centre
# here and about a corner there; translations are rounded here and cut off there: these have tests of their own.
SAME = {"Brightness": "brightness", "Color": "saturation", "Contrast": "contrast", "Sharpness": "sharpness",
        "Posterize": "posterize", "Solarize": "solarize", "AutoContrast": "autocontrast", "Equalize": "equalize",
        "Rotate": "rotate"}  # fmt: skip
SIGNED = {"Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
SPACES = {
    "randaugment": (lambda: transforms.RandAugment()._augmentation_space(31, (50, 50)), 31, GENERAL),
    "trivialaugment": (lambda: transforms.TrivialAugmentWide()._augmentation_space(31), 31, WIDE),
    "autoaugment": (lambda: transforms.AutoAugment()._augmentation_space(10, (50, 50)), 10, AUTO),
}


@pytest.mark.parametrize("theirs", [*SAME, "Invert"])
@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("third", [0, 1, 2, 3])
def test_an_operation_is_torchvisions_at_every_magnitude(theirs: str, space: str, third: int) -> None:
    list_magnitudes, bins, operations = SPACES[space]
    if theirs not in list_magnitudes():
        assert theirs == "Invert"
        assert "invert" not in operations
        return
    magnitudes, signed = list_magnitudes()[theirs]
    magnitude = float(magnitudes[third * (bins - 1) // 3]) if magnitudes.ndim else 0.0
    tile = draw_tile()
    image = torch.from_numpy(tile).permute(2, 0, 1)
    wanted = autoaugment._apply_op(image, theirs, magnitude, InterpolationMode.BILINEAR, [240.0] * 3)
    # Rotation is counted the other way round; at nothing a negative is left out, so that a storm can begin as none.
    amount = (-1 if theirs == "Rotate" else 1) * (1.0 if theirs == "Invert" else third / 3)
    found = operations[{**SAME, "Invert": "invert"}[theirs]](tile, amount, np.random.default_rng(0))
    np.testing.assert_allclose(found, wanted.permute(1, 2, 0), atol=1)
    assert signed == (theirs in SIGNED)


@pytest.mark.parametrize("learned_on", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_draws_operations_as_often_as_published(learned_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each operation is counted instead of done; torchvision's own list of pairs says how often it should be.
    met: list[tuple[str, float]] = []

    def count(name: str) -> Operation:
        return lambda tile, amount, rng: (met.append((name, round(abs(amount), 6))), tile)[1]

    monkeypatch.setattr(automated, "AUTO", {name: count(name) for name in AUTO})
    transform = AUGMENTATIONS.build("autoaugment", learned_on=learned_on)(1, 6000, 0.5, np.random.default_rng(0))
    tile = draw_tile()
    for edit in transform.edits[0]:
        edit(tile)
    pairs = transforms.AutoAugment(transforms.AutoAugmentPolicy(learned_on)).policies
    wanted: dict[str, float] = {}
    for name, chance, _ in (step for pair in pairs for step in pair):
        wanted[name] = wanted.get(name, 0.0) + chance / len(pairs)
    found = {name: sum(m[0] == automated.NAMES[name] for m in met) / 6000 for name in wanted}
    assert found == pytest.approx(wanted, abs=0.03)
    amounts = {(name, ninths) for pair in pairs for name, chance, ninths in pair if chance}
    assert set(met) == {(automated.NAMES[n], round(0.5 * (9 if k is None else k) / 9, 6)) for n, k in amounts}


def test_autoaugment_names_what_it_knows() -> None:
    with pytest.raises(RecipeError, match="imagenet, cifar10, svhn"):
        AUGMENTATIONS.build("autoaugment", learned_on="slides")


@pytest.mark.parametrize(("operations", "pixels"), [(GENERAL, 22), (WIDE, 7)])
def test_a_translation_moves_by_its_share_of_the_side(operations: dict[str, Operation], pixels: int) -> None:
    tile = draw_tile()
    right = operations["translate_x"](tile, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(right[:, pixels:], tile[:, :-pixels])
    assert (right[:, :pixels] == 240).all()
    up = operations["translate_y"](tile, -1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(up[:-pixels], tile[pixels:])


@pytest.mark.parametrize(("operations", "slope"), [(GENERAL, 0.3), (WIDE, 0.99)])
def test_a_shear_slants_by_its_tangent_and_leaves_the_centre(operations: dict[str, Operation], slope: float) -> None:
    tile = np.zeros((81, 81, 3), dtype=np.uint8)
    tile[:, 40] = 255
    slanted = operations["shear_x"](tile, 1.0, np.random.default_rng(0))[..., 0].astype(float)
    rows, columns = np.arange(25, 56), np.arange(20, 61)  # no glass comes in so far
    band = slanted[np.ix_(rows, columns)]
    centres = (band * columns).sum(axis=1) / band.sum(axis=1)
    np.testing.assert_allclose(np.abs(np.polyfit(rows, centres, 1)[0]), slope, atol=0.02)
    assert abs(centres[15] - 40) < 0.6


@pytest.mark.parametrize("name", STORMS)
def test_a_storm_repeats_itself_grows_with_strength_and_at_nothing_only_turns(name: str) -> None:
    tiles = np.stack([draw_tile(seed=s) for s in range(8)])[:, None]
    draw = AUGMENTATIONS.build(name)
    first, again = (apply_transform(tiles, draw(8, 1, 0.7, np.random.default_rng(3))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    still = draw(8, 1, 0.0, np.random.default_rng(3))
    turned = apply_transform(tiles, AUGMENTATIONS.build("flips")(8, 1, 0.0, np.random.default_rng(3)))
    np.testing.assert_array_equal(apply_transform(tiles, still), turned)

    def measure(strength: float) -> float:
        moved = []
        for seed in range(12):
            found = draw(8, 1, strength, np.random.default_rng(seed))
            plain = AUGMENTATIONS.build("flips")(8, 1, 0.0, np.random.default_rng(seed))
            moved.append(np.abs(apply_transform(tiles, found).astype(int) - apply_transform(tiles, plain)).mean())
        return float(np.mean(moved))

    assert measure(0.1) < measure(1.0)


def test_augmix_is_the_papers_sum() -> None:
    tile = draw_tile()
    chains = [[(GENERAL["rotate"], 0.5, 0)], [(GENERAL["brightness"], -0.5, 0)], []]
    weights = np.array([0.2, 0.3, 0.1])
    parts = [
        GENERAL["rotate"](tile, 0.5, np.random.default_rng(0)),
        GENERAL["brightness"](tile, -0.5, np.random.default_rng(0)),
        tile,
    ]
    wanted = 0.4 * tile + sum(w * p.astype(float) for w, p in zip(weights, parts, strict=True))
    np.testing.assert_allclose(mix_chains(chains, weights, tile), wanted, atol=0.51)


# --- mixing -------------------------------------------------------------------------------------------------------


def pair(share: float) -> Pairing:
    return Pairing(np.array([1, 0, 2]), np.array([share, share, share]))


def test_mixup_is_a_mean_of_pixels_and_of_labels() -> None:
    tiles = np.stack([draw_tile(seed=s) for s in range(6)]).reshape(3, 2, 48, 48, 3)
    found, kept = mix_pixels(tiles, pair(0.7), way="mixup", rng=np.random.default_rng(0))
    np.testing.assert_allclose(found[0], 0.7 * tiles[0] + 0.3 * tiles[1], atol=0.51)
    np.testing.assert_allclose(kept, [0.7, 0.7, 1.0])  # the last has itself for a partner
    np.testing.assert_array_equal(found[2], tiles[2])


def test_cutmix_keeps_of_the_label_what_it_keeps_of_the_area() -> None:
    tiles = np.zeros((3, 4, 48, 48, 3), dtype=np.uint8)
    tiles[0], tiles[1] = 10, 200
    found, kept = mix_pixels(tiles, pair(0.6), way="cutmix", rng=np.random.default_rng(0))
    assert kept[0] == pytest.approx((found[0] == 10).mean())
    assert kept[1] == pytest.approx((found[1] == 200).mean())
    assert 0.6 <= kept[0] < 1  # a box over the edge is cut off


def test_a_box_has_its_share_where_nothing_is_cut_off() -> None:
    rng = np.random.default_rng(0)
    areas = [draw_box((200, 200), share=0.75, rng=rng).mean() for _ in range(300)]
    assert max(areas) == pytest.approx(0.25, abs=0.01)


def test_cutmix_along_the_mask_pastes_only_masked_pixels_and_counts_only_these() -> None:
    tiles = np.zeros((3, 1, 48, 48, 4), dtype=np.uint8)
    tiles[0, ..., :3], tiles[1, ..., :3] = 10, 200
    tiles[0, 0, :, :24, 3] = 255
    tiles[1, 0, :24, :, 3] = 255
    found, kept = mix_pixels(tiles, pair(0.3), way="mask_cutmix", rng=np.random.default_rng(1))
    pasted = found[0, 0, ..., 0] == 200
    assert pasted.any()
    assert not pasted[24:].any()  # the partner's mask is its upper half
    assert (found[0, 0, ..., 3][pasted] == 255).all()
    left = (tiles[0, 0, ..., 3] > 0) & ~pasted
    assert kept[0] == pytest.approx(left.sum() / (left.sum() + pasted.sum()))
    none = np.zeros_like(tiles)
    unchanged, kept = mix_pixels(none, pair(0.3), way="mask_cutmix", rng=np.random.default_rng(1))
    np.testing.assert_array_equal(unchanged, none)
    np.testing.assert_array_equal(kept, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
@pytest.mark.parametrize(("storm", "way"), [("augmix", "mask_cutmix"), ("tissue", "mixup")])
def test_the_whole_way_in_a_storm_with_mixed_pixels(storm: str, way: str, challenge: Path, tmp_path: Path) -> None:
    knobs = [f"train.finetune.augmentation={storm}", f"train.finetune.pixel_mixing={way}"]
    settings = [*BARE, "train.transfer.epochs=1", "train.finetune.epochs=1", *knobs]
    result = workflow.run(challenge, "default", settings=settings, runs=tmp_path, name="storm")
    assert 0 <= result.scores.metrics["macro_f1"].value <= 1


@pytest.mark.slow
def test_views_that_have_to_agree_are_the_tile_and_two_others_of_it(challenge: Path, tmp_path: Path) -> None:
    knobs = ["train.finetune.augmentation=augmix", "train.finetune.consistency=12", "train.watch=none"]
    settings = [*BARE, "train.transfer.epochs=1", "train.finetune.epochs=1", *knobs]

    def learn(*more: str) -> pd.DataFrame:
        experiment = workflow.train_run(challenge, settings=[*settings, *more], runs=tmp_path)
        return pd.read_csv(experiment.run.path / "history.csv")

    found = [learn(*more).query("phase == 'finetune'") for more in ((), ("train.finetune.consistency=0",))]
    # The further loss is there and counts: a divergence is positive.
    assert (found[0].train_loss.to_numpy() != found[1].train_loss.to_numpy()).all()
    # Three views of a tile that nothing changes are one, and the loss is that of the tile as it is.
    still = ["train.finetune.augmentation=none", "model.dropout=0", "model.norm=frozen"]
    losses = [learn(*still, f"train.finetune.consistency={c}").train_loss for c in (12, 0)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    with pytest.raises(RecipeError, match="consistency"):
        recipe.load_recipe(settings=["train.finetune.consistency=1", "train.finetune.pixel_mixing=mixup"])


def test_two_ways_of_mixing_the_same_tiles_are_refused() -> None:
    with pytest.raises(RecipeError, match="bag_mixing and pixel_mixing"):
        recipe.load_recipe(settings=["train.finetune.bag_mixing=1", "train.finetune.pixel_mixing=mixup"])


def test_what_an_augmentation_takes_is_read_from_the_recipe(challenge: Path, tmp_path: Path) -> None:
    tiles = np.stack([draw_tile(seed=s) for s in range(4)])[:, None]
    still = AUGMENTATIONS.build("randaugment", count=0)(4, 1, 1.0, np.random.default_rng(3))
    turned = AUGMENTATIONS.build("flips")(4, 1, 1.0, np.random.default_rng(3))
    np.testing.assert_array_equal(apply_transform(tiles, still), apply_transform(tiles, turned))
    wrong = [*BARE, "train.finetune.augmentation=randaugment", "train.finetune.augmentation_options=[number=3]"]
    with pytest.raises(PartError, match="count"):
        workflow.run(challenge, "default", settings=wrong, runs=tmp_path, name="wrong")


def test_a_branch_that_reads_one_mask_refuses_tiles_of_two() -> None:
    with pytest.raises(RecipeError, match="pixel_mixing"):
        recipe.load_recipe(settings=["model.fusion=concat", "train.finetune.pixel_mixing=cutmix"])
