"""The mask in six ways: tiles, stores, guides and whole runs, against what can be worked out by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage import measure as skimage_measure
from skimage import morphology

from smalti.errors import RecipeError
from smalti.recipe import Tile
from smalti.samples.augment import apply_transform, identity_transform, turn_tile
from smalti.tile import SHAPE_NAMES, TileStore, build_store
from smalti.tile.cut import BLUR_FRAC, find_pale
from smalti.tile.exchange import exchange_masks
from smalti.tile.shape import describe_mask, draw_outline, find_components, measure_distances
from smalti.train.maskfeatures import turn_squares
from smalti.types import Cohort, Sample

Make = Callable[..., Any]
GLASS, TISSUE = (240, 238, 244), (200, 120, 170)


def draw_mask(*discs: tuple[int, int, int], height: int = 200, width: int = 300) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), dtype=np.uint8)
    for row, col, radius in discs:
        cv2.circle(mask, (col, row), radius, 1, -1)
    return mask


def save(folder: Path, name: str, mask: NDArray[np.uint8] | None, *, case: str = "c", seed: int = 0) -> Sample:
    """Tissue with noise on the left two thirds, glass on the right, and a mask beside it."""
    height, width = (200, 300) if mask is None else mask.shape
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = TISSUE
    image[:, 2 * width // 3 :] = GLASS
    noise = rng.integers(-20, 21, (height, 2 * width // 3, 3))
    image[:, : 2 * width // 3] = np.clip(image[:, : 2 * width // 3] + noise, 0, 255)
    Image.fromarray(image).save(folder / f"{name}.png")
    if mask is not None:
        Image.fromarray(255 * mask).save(folder / f"{name}-mask.png")
    path = None if mask is None else folder / f"{name}-mask.png"
    return Sample(name, folder / f"{name}.png", path, "a", case, name)


def build(tmp_path: Path, samples: list[Sample], tile_px: int = 64, **knobs: Any) -> TileStore:
    cohort = Cohort(tmp_path, "table", tuple(samples), (), ("a",))
    tile = Tile(**{"min_tiles": 1, "max_tiles": 64, **knobs})
    return build_store(cohort, tile, tile_px=tile_px, cache=tmp_path / "cache")


def read_all(store: TileStore) -> NDArray[np.uint8]:
    return store.read_rows(0, len(store))


# --- where tiles are taken, and what is outside -------------------------------------------------------------------


def test_masks_are_stored_beside_their_tiles(tmp_path: Path) -> None:
    mask = draw_mask((60, 60, 40), (140, 220, 30))
    store = build(tmp_path, [save(tmp_path, "i", mask)], min_coverage=0.0)
    rows = np.arange(len(store))[::-1]
    masks, rasters = store.read_masks(rows), store.read_rasters(rows)
    for i, row in enumerate(rows):
        top, left = store.positions[row]
        part = mask[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(masks[i], part)
        np.testing.assert_allclose(rasters[i], 255 * part.reshape(16, 4, 16, 4).mean(axis=(1, 3)), atol=0.51)
        assert store.coverage[row] == pytest.approx(part.mean())
    four = store.read_tiles(rows, masked=True)
    np.testing.assert_array_equal(four[..., :3], store.read_tiles(rows))
    np.testing.assert_array_equal(four[..., 3], 255 * masks)


def test_ignoring_takes_all_tissue_and_still_says_what_is_covered(tmp_path: Path) -> None:
    """The same tiles as of an image without a mask; coverage is of the mask."""
    mask = draw_mask((60, 60, 30))
    with_mask = build(tmp_path, [save(tmp_path, "i", mask)], within="tissue", min_coverage=0.5)
    bare = build(tmp_path, [save(tmp_path, "i", None)], min_coverage=0.5)
    np.testing.assert_array_equal(with_mask.positions, bare.positions)
    np.testing.assert_array_equal(read_all(with_mask), read_all(bare))
    assert (bare.coverage >= 0.5).all()
    expected = [mask[r : r + 64, c : c + 64].mean() for r, c in with_mask.positions]
    np.testing.assert_allclose(with_mask.coverage, expected, rtol=1e-6)
    assert 0 < sum(np.array(expected) > 0) < len(expected)
    assert len(build(tmp_path, [save(tmp_path, "i", mask)], min_coverage=0.5)) < len(bare)


@pytest.mark.parametrize("source", ["tiles", "mask_box", "whole"])
def test_a_blank_has_the_colour_of_glass_outside_the_mask_only(source: str, tmp_path: Path) -> None:
    sample = save(tmp_path, "i", draw_mask((60, 60, 40)))
    plain = build(tmp_path, [sample], source=source, min_coverage=0.1)
    blank = build(tmp_path, [sample], source=source, min_coverage=0.1, outside="blank")
    assert plain.key != blank.key
    masks = blank.read_masks(np.arange(len(blank))).astype(bool)
    before, after = read_all(plain), read_all(blank)
    np.testing.assert_array_equal(after[masks], before[masks])
    assert (after[~masks] == GLASS).all()
    assert 0 < masks.mean() < 1


def test_a_blur_takes_the_texture_and_leaves_the_colour(tmp_path: Path) -> None:
    sample = save(tmp_path, "i", draw_mask((60, 60, 30)))
    plain = build(tmp_path, [sample], min_coverage=0.1)
    blur = build(tmp_path, [sample], min_coverage=0.1, outside="blur")
    masks = blur.read_masks(np.arange(len(blur))).astype(bool)
    before, after = read_all(plain), read_all(blur)
    np.testing.assert_array_equal(after[masks], before[masks])
    by_hand = np.stack([cv2.GaussianBlur(t, (0, 0), 64 * BLUR_FRAC, borderType=cv2.BORDER_REFLECT_101) for t in before])
    np.testing.assert_array_equal(after[~masks], by_hand[~masks])
    assert after[~masks].std(axis=0).max() < 0.3 * before[~masks].std(axis=0).min()
    np.testing.assert_allclose(after[~masks].mean(axis=0), before[~masks].mean(axis=0), atol=1)


def test_a_mask_of_nothing_leaves_the_picture(tmp_path: Path) -> None:
    sample = save(tmp_path, "i", draw_mask())
    np.testing.assert_array_equal(
        read_all(build(tmp_path, [sample], outside="blank")), read_all(build(tmp_path, [sample]))
    )


def test_the_palest_colour_of_an_image_without_glass_is_its_palest_tissue() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(100, 140, (200, 200, 3)).astype(np.uint8)
    image[:40, :40] = (190, 180, 185)  # 4 % lumen
    assert find_pale(image) == (190, 180, 185)


# --- components as regions ----------------------------------------------------------------------------------------


def test_each_component_is_shrunk_by_itself_the_largest_first(tmp_path: Path) -> None:
    mask = draw_mask((100, 40, 30), (50, 150, 20), (150, 150, 25), (20, 280, 3))  # the last is a crumb
    sample = save(tmp_path, "i", mask)
    store = build(tmp_path, [sample], source="mask_box", regions="components")
    sides = store.scale * 64
    np.testing.assert_allclose(sides, [61, 51, 41])
    image = np.asarray(Image.open(sample.path))
    for i, (row, col) in enumerate([(100, 40), (150, 150), (50, 150)]):
        side = round(sides[i])
        np.testing.assert_array_equal(store.positions[i], [row - side // 2, col - side // 2])
        part = image[row - side // 2 :, col - side // 2 :][:side, :side]
        np.testing.assert_array_equal(read_all(store)[i], cv2.resize(part, (64, 64), interpolation=cv2.INTER_LINEAR))
        assert store.coverage[i] == pytest.approx(np.pi / 4, abs=0.04)
    assert len(build(tmp_path, [sample], source="mask_box", regions="components", max_tiles=2)) == 2


def test_a_component_is_covered_by_tiles_of_its_own(tmp_path: Path) -> None:
    """Two touching boxes: coverage counts this component alone; a small one is in the middle of its tile."""
    mask = draw_mask((100, 100, 80), (30, 250, 20))
    store = build(tmp_path, [save(tmp_path, "i", mask)], regions="components", min_coverage=0.5)
    small = np.flatnonzero((store.positions == [0, 219]).all(axis=1))  # 10 - 11 would be outside the image
    assert len(small) == 1
    assert store.coverage[small[0]] == pytest.approx(mask[:, 200:].sum() / 64**2)
    large = np.setdiff1d(np.arange(len(store)), small)
    assert (store.positions[large, 1] + 64 <= 181).all()
    assert (store.coverage[large] >= 0.5).all()
    with pytest.raises(ValueError, match="ceiling"):
        Tile(regions="components", max_tiles=None)


def test_components_of_a_mask_of_nothing_are_the_image(tmp_path: Path) -> None:
    sample = save(tmp_path, "i", draw_mask())
    one, other = build(tmp_path, [sample], regions="components"), build(tmp_path, [sample])
    np.testing.assert_array_equal(one.positions, other.positions)


# --- the shape of a mask ------------------------------------------------------------------------------------------


def describe(mask: NDArray[np.uint8]) -> dict[str, float]:
    return dict(zip(SHAPE_NAMES, describe_mask(mask, mask.shape, given=True).tolist(), strict=True))


@pytest.mark.parametrize("turn", range(1, 8))
def test_no_turn_changes_a_description(turn: int) -> None:
    rng = np.random.default_rng(3)
    mask = (cv2.GaussianBlur(rng.normal(size=(180, 260)), (0, 0), 9) > 0.01).astype(np.uint8)
    turned = turn_tile(mask, turn)
    np.testing.assert_allclose(list(describe(turned).values()), list(describe(mask).values()), rtol=2e-3, atol=2e-3)


def test_descriptions_agree_with_scikit_image() -> None:
    mask = draw_mask((60, 60, 40), (140, 200, 30), (40, 180, 20))
    cv2.ellipse(mask, (250, 60), (40, 12), 30, 0, 360, 1, -1)
    mask[50:70, 50:70] = 0  # a hole
    found = describe(mask)
    parts = skimage_measure.regionprops(skimage_measure.label(mask))
    areas = np.array([p.area for p in parts], dtype=float)
    assert found["area"] == pytest.approx(mask.mean(), rel=1e-3)
    assert found["components"] == pytest.approx(np.log(len(parts)))
    assert found["largest"] == pytest.approx(areas.max() / areas.sum(), rel=1e-3)
    filled = np.array([p.area_filled for p in parts])
    assert found["holes"] == pytest.approx(1 - areas.sum() / filled.sum(), abs=0.005)
    for name, values in {
        "solidity": [p.area_filled / p.area_convex for p in parts],
        "eccentricity": [skimage_measure.regionprops(p.image_filled.astype(int))[0].eccentricity for p in parts],
    }.items():
        assert found[name] == pytest.approx(np.average(values, weights=areas), abs=0.03), name
    inside = morphology.medial_axis(mask, return_distance=True)[1]
    assert found["thickness"] == pytest.approx(inside[mask > 0].mean() / np.sqrt(mask.size), rel=0.02)
    centers = np.array([p.centroid for p in parts])
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=2) + np.diag([np.inf] * len(parts))
    assert found["distance"] == pytest.approx(apart.min(axis=1).mean() / np.sqrt(mask.size), rel=0.01)


def test_a_disc_is_compact_and_smooth_and_a_ragged_edge_is_not() -> None:
    disc = describe(draw_mask((100, 150, 80)))
    assert abs(disc["compactness"]) < 0.15
    assert abs(disc["dimension"] - 1) < 0.12
    assert disc["solidity"] > 0.98
    assert (disc["components"], disc["distance"], disc["distance_spread"]) == (0, 1, 0)
    rng = np.random.default_rng(0)
    ragged = draw_mask((100, 150, 60)) | (draw_mask((100, 150, 80)) & (rng.random((200, 300)) < 0.55).astype(np.uint8))
    rough = describe(ragged.astype(np.uint8))
    assert rough["dimension"] > disc["dimension"] + 0.1
    assert rough["compactness"] > 1


def test_an_empty_a_full_and_a_tiny_mask_are_described() -> None:
    for mask in (draw_mask(), 1 - draw_mask(), draw_mask((5, 5, 0)), np.eye(40, dtype=np.uint8)[:20]):
        values = describe_mask(mask, mask.shape, given=False)
        assert np.isfinite(values).all()
        assert values[0] == 0
    assert describe(1 - draw_mask())["area"] == 1


def test_the_raster_of_a_whole_mask_keeps_its_proportions() -> None:
    mask = draw_mask((50, 100, 40), height=100, width=200)
    outline = draw_outline(mask, mask.shape)
    assert outline.shape == (64, 64)
    assert (outline[:16] == 0).all()
    assert (outline[48:] == 0).all()
    assert outline.mean() / 255 == pytest.approx(mask.mean() / 2, rel=0.02)
    doubled = cv2.resize(mask, (400, 200), interpolation=cv2.INTER_NEAREST)
    assert np.abs(draw_outline(doubled, mask.shape).astype(int) - outline).max() <= 30
    assert [c.box for c in find_components(mask)] == [(10, 60, 81, 81)]


# --- the control --------------------------------------------------------------------------------------------------


def make_cohort(cases: list[int], *, unlabelled: int = 0, bare: int = 0) -> Cohort:
    samples = [Sample(f"i{n}", Path(f"i{n}"), Path(f"m{n}"), "ab"[c % 2], f"case{c}", "") for n, c in enumerate(cases)]
    samples += [Sample(f"b{n}", Path(f"b{n}"), None, "a", f"bare{n}", "") for n in range(bare)]
    rest = [Sample(f"t{n}", Path(f"t{n}"), Path(f"tm{n}"), None, f"t{n}", "") for n in range(unlabelled)]
    return Cohort(Path(), "table", tuple(samples), tuple(rest), ("a", "b"))


@pytest.mark.parametrize("cases", [[0, 1], [0, 0, 1, 1], [0, 0, 0, 1, 2, 3], list(range(9)), [5, 3, 5, 3, 1, 1, 1]])
def test_masks_of_other_cases_are_a_permutation(cases: list[int]) -> None:
    cohort = make_cohort(cases, unlabelled=3, bare=2)
    other = exchange_masks(cohort)
    before = {s.image: s for s in cohort.samples}
    owner = {s.mask_path: s for s in cohort.samples}
    for part in ("labelled", "unlabelled"):
        masks = [s.mask_path for s in getattr(other, part)]
        assert Counter(masks) == Counter(s.mask_path for s in getattr(cohort, part))
    for sample in other.samples:
        if sample.mask_path is None:
            assert sample == before[sample.image]
            continue
        assert owner[sample.mask_path].case != sample.case
        assert replace(sample, mask_path=before[sample.image].mask_path, foreign_mask=False) == before[sample.image]
    flipped = replace(cohort, labelled=tuple(replace(s, label="b") for s in cohort.labelled[::-1]))
    by_name = {s.image: s.mask_path for s in exchange_masks(flipped).samples}
    assert by_name == {s.image: s.mask_path for s in other.samples}  # neither labels nor order play a part


def test_a_single_image_to_predict_borrows_a_mask_and_one_large_case_is_refused() -> None:
    other = exchange_masks(make_cohort([0, 1, 2], unlabelled=1))
    assert other.unlabelled[0].mask_path in {Path("m0"), Path("m1"), Path("m2")}
    for cases in ([0, 0, 0, 1], [0]):
        with pytest.raises(RecipeError, match=r"exchanged between cases.*of one case.*Fix"):
            exchange_masks(make_cohort(cases))
    with pytest.raises(RecipeError, match="of 0 labelled images with a mask"):
        exchange_masks(make_cohort([], bare=3))


def test_another_mask_is_stretched_to_the_image(tmp_path: Path) -> None:
    small = draw_mask((25, 40, 20), height=50, width=80)
    large = draw_mask((100, 250, 40))
    samples = [save(tmp_path, "i", large, case="x"), save(tmp_path, "j", small, case="y")]
    plain, other = (build(tmp_path, samples, other_masks=o, min_coverage=0.3) for o in (False, True))
    assert plain.key != other.key
    stretched = cv2.resize(small, (300, 200), interpolation=cv2.INTER_NEAREST)
    for row in other.rows(0):
        top, left = other.positions[row]
        np.testing.assert_array_equal(other.read_masks(np.array([row]))[0], stretched[top : top + 64, left : left + 64])
    outlines, shapes = plain.read_shapes()
    swapped = other.read_shapes()[1]
    np.testing.assert_allclose(swapped[0, 1], shapes[1, 1], atol=0.01)  # area
    assert outlines.shape == (2, 64, 64)


# --- guides and the fourth channel --------------------------------------------------------------------------------


def test_masks_turn_as_their_tiles_do() -> None:
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (1, 8, 20, 20, 4)).astype(np.uint8)
    transform = replace(identity_transform(1, 8), turns=np.arange(8)[None])
    turned = apply_transform(tiles, transform)
    for turn in range(8):
        np.testing.assert_array_equal(turned[0, turn, ..., 3], turn_tile(tiles[0, turn, ..., 3], turn))
    np.testing.assert_array_equal(turn_squares(tiles[0, ..., 3], np.arange(8)), turned[0, ..., 3])
    coloured = apply_transform(tiles, replace(transform, offset=np.full((1, 3), 0.2, np.float32)))
    np.testing.assert_array_equal(coloured[..., 3], turned[..., 3])
    np.testing.assert_array_equal(coloured[..., :3], np.clip(turned[..., :3].astype(int) + 51, 0, 255))


def test_distances_are_those_of_scipy_wherever_a_mask_lies_in_memory() -> None:
    rng = np.random.default_rng(4)
    blobs = cv2.GaussianBlur(rng.random((150, 230)), (0, 0), 9)
    mask = (blobs > np.median(blobs)).astype(np.uint8)
    wanted = ndimage.distance_transform_edt(mask)
    for offset in range(8):
        room = np.zeros(mask.size + 64, np.uint8)
        moved = room[offset : offset + mask.size].reshape(mask.shape)
        moved[:] = mask
        np.testing.assert_allclose(measure_distances(moved), wanted, rtol=1e-12)
