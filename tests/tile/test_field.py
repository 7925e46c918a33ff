"""How much a tile shows: small cohorts choose the field, single small images keep the magnification of the others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smalti import recipe
from smalti.errors import RecipeError
from smalti.explain.heatmap import find_boxes
from smalti.images import hash_image
from smalti.recipe import load_recipe
from smalti.tile import TileStore, build_store, note_sizes, settle_field
from smalti.tile.cut import cut_bag
from smalti.types import Cohort, Sample

Picture = NDArray[np.uint8]
TILE_PX = 64


def draw_samples(folder: Path, *sizes: tuple[int, int]) -> tuple[Sample, ...]:
    """Noise of tissue's colours, each image of its own size."""
    rng = np.random.default_rng(1)
    samples = []
    for i, size in enumerate(sizes):
        path = folder / f"{i}.png"
        cv2.imwrite(str(path), rng.integers((120, 40, 90), (220, 130, 200), (*size, 3), dtype=np.uint8))
        samples.append(Sample(path.name, path, None, "ab"[i % 2], f"case{i}", path.name))
    return tuple(samples)


def read_rgb(sample: Sample) -> Picture:
    return np.asarray(cv2.imread(str(sample.path)))[:, :, ::-1]


def build(folder: Path, samples: tuple[Sample, ...], **knobs: object) -> TileStore:
    tile = settle_field(recipe.Tile.model_validate(knobs), samples, tile_px=TILE_PX)
    cohort = Cohort(folder, "table", samples, (), ("a", "b"))
    return build_store(cohort, tile, tile_px=TILE_PX, cache=folder / "cache")


def test_images_smaller_than_a_tile_are_scaled_and_nothing_is_mirrored(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (50, 50), (50, 50), (50, 50), (50, 30), (12, 50))
    store = build(tmp_path, samples)
    assert len(store) == 5
    np.testing.assert_allclose(store.scale, 50 / TILE_PX)
    for sample in samples[:3]:
        i = store.position(sample.image)
        wanted = cv2.resize(read_rgb(sample), (TILE_PX, TILE_PX), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(store.read_rows(i, i + 1)[0], wanted)
        np.testing.assert_allclose(find_boxes(store, i), [[0, 0, 50, 50]], atol=1e-4)
    tile = settle_field(recipe.Tile(), samples, tile_px=TILE_PX)
    notes = note_sizes(tile, samples, tile_px=TILE_PX)
    assert [note.split(",")[0].split(" (")[0] for note in notes] == [
        "tiles show squares of 50 px",
        "1 of 5 images",
        "1 of 5 images",
    ]
    assert "scaled to 64 px" in notes[0]
    assert all("4.png" in note for note in notes[1:])


def test_a_single_small_image_keeps_the_magnification_of_the_others(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (200, 200), (300, 150), (100, 100), (20, 24))
    tile = settle_field(recipe.Tile(), samples, tile_px=TILE_PX)
    assert tile.field_px is None
    store = build(tmp_path, samples, min_tiles=1)
    assert set(store.scale.tolist()) == {1.0}
    row = store.rows(store.position("3.png")).start
    cut, image = store.read_rows(row, row + 1)[0], read_rgb(samples[3])
    np.testing.assert_array_equal(cut[:20, :24], image)
    rest = np.concatenate([cut[20:].reshape(-1, 3), cut[:, 24:].reshape(-1, 3)])
    assert len(np.unique(rest, axis=0)) == 1
    assert rest[0].min() >= np.median(image.min(axis=2)), "the palest colour"
    assert store.read_masks(np.array([row]))[0][20:].sum() == 0
    (note,) = note_sizes(tile, samples, tile_px=TILE_PX)
    assert note.startswith("1 of 4 images (3.png) fill less than half")


def test_small_images_are_not_enlarged_to_all_that_a_backbone_takes(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (50, 50), (60, 50))
    for size_px, fixed, wanted in ((None, False, 128), (None, True, None), (192, False, 192)):
        tile = settle_field(recipe.Tile(size_px=size_px), samples, tile_px=size_px or 224, fixed=fixed)
        assert (tile.field_px, tile.size_px) == (50, wanted)


def test_long_and_thin_images_are_cut_in_squares_of_their_width(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (400, 40), (40, 320), (40, 40))
    store = build(tmp_path, samples, min_coverage=0, max_tiles=None)
    assert [store.count(i) for i in range(3)] == [10, 8, 1]
    np.testing.assert_allclose(store.scale, 40 / TILE_PX)
    assert store.positions[:10].tolist() == [[40 * i, 0] for i in range(10)]


def test_the_whole_of_a_thin_image_is_no_pile_of_copies(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (64, 5), (64, 48))
    store = build(tmp_path, samples, source="whole")
    thin, broad = store.read_rows(0, 2)
    np.testing.assert_array_equal(thin[:, 29:34], read_rgb(samples[0]))
    assert len(np.unique(np.delete(thin, range(29, 34), axis=1).reshape(-1, 3), axis=0)) == 1
    wanted = np.pad(read_rgb(samples[1]), ((0, 0), (8, 8), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(broad, wanted)
    tile = recipe.Tile(source="whole")
    assert settle_field(tile, samples, tile_px=TILE_PX).field_px is None
    assert settle_field(tile, samples, tile_px=64) is tile
    assert settle_field(tile, samples, tile_px=224).size_px == 160, "2.5 times the longer side, in steps of 32"
    (tmp_path / "broad").mkdir()
    broad = draw_samples(tmp_path / "broad", (300, 300))
    assert settle_field(tile, [*samples, *broad], tile_px=224) is tile, "the largest says what whole images need"
    assert "(0.png) fill less than half" in note_sizes(tile, samples, tile_px=TILE_PX)[0]


def test_a_single_pixel_is_a_flat_tile_and_said(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (1, 1), (100, 100), (100, 100))
    store = build(tmp_path, samples)
    assert len(np.unique(store.read_rows(0, 1).reshape(-1, 3), axis=0)) == 1
    notes = note_sizes(recipe.Tile(), samples, tile_px=TILE_PX)
    assert notes[-1] == "1 of 3 images (0.png) have a side below 16 px and show next to nothing"
    alone = draw_samples(tmp_path, (1, 1), (2, 3))
    assert settle_field(recipe.Tile(), alone, tile_px=TILE_PX).field_px is None, "they are no measure of a cohort"


def test_microns_per_pixel_and_a_given_field_are_not_overruled(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path, (50, 50))
    for knobs in ({"mpp": 0.5}, {"field_px": 33}, {"source": "mask_box"}):
        tile = recipe.Tile.model_validate(knobs)
        assert settle_field(tile, samples, tile_px=TILE_PX) is tile
    keys = {build(tmp_path, samples, **knobs).key for knobs in ({}, {"mpp": 0.5}, {"field_px": 33})}
    assert len(keys) == 3
    for setting in ("[tile.mpp=0.5, tile.field_px=50]", "[tile.source=whole, tile.field_px=50]"):
        with pytest.raises(RecipeError, match="field_px"):
            load_recipe("quick", settings=setting.strip("[]").split(", "))


@given(height=st.integers(1, 90), width=st.integers(1, 90))
@settings(deadline=None, max_examples=40)
def test_no_pixel_is_shown_more_than_thrice_along_a_side(
    height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("field")
    code = np.arange(height * width, dtype=np.uint32)
    picture = np.stack([code % 256, code // 256, 40 + code % 7], axis=-1).astype(np.uint8).reshape(height, width, 3)
    cv2.imwrite(str(folder / "0.png"), picture[..., ::-1])
    sample = Sample("0.png", folder / "0.png", None, "a", "a", "0")
    knobs = recipe.Tile(min_coverage=0, max_tiles=None)
    bag = cut_bag(sample, knobs, tile_px=TILE_PX, hashes={sample.path: hash_image(sample.path)})
    shown = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    for pixels in bag.pixels:
        colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        often = [tuple(c) for c, n in zip(colours.tolist(), counts.tolist(), strict=True) if n > 9]
        assert len(often) <= 1, "the palest colour alone"
        assert len({tuple(c) for c in colours.tolist()} - shown - set(often)) == 0
