"""Several magnifications of one place, and microns per pixel: against squares cut and shrunk by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smalti import recipe
from smalti.errors import RecipeError
from smalti.recipe import load_recipe
from smalti.tile import TileStore, build_store
from smalti.types import Cohort, Sample

TILE_PX = 32


def build(root: Path, samples: tuple[Sample, ...], **knobs: object) -> TileStore:
    cohort = Cohort(root, "table", samples, (), ("a",))
    return build_store(cohort, recipe.Tile(**knobs), tile_px=TILE_PX, cache=root / "cache")  # type: ignore[arg-type]


def draw_sample(root: Path, *, height: int = 96, width: int = 128) -> tuple[Sample, NDArray[np.uint8]]:
    image = np.random.default_rng(0).integers(0, 200, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 255
    Image.fromarray(image).save(root / "a.png")
    Image.fromarray(mask).save(root / "m.png")
    return Sample("a.png", root / "a.png", root / "m.png", "a", "a", "a"), image


def test_wider_squares_have_the_middle_of_their_place(tmp_path: Path) -> None:
    sample, image = draw_sample(tmp_path)
    store = build(tmp_path, (sample,), magnifications=(1, 2, 4), min_coverage=0.5, min_tiles=1)
    assert len(store) % 3 == 0
    assert store.scale.reshape(-1, 3).tolist() == [[1, 2, 4]] * (len(store) // 3)
    middles = (store.positions + store.scale[:, None] * TILE_PX / 2).reshape(-1, 3, 2)
    np.testing.assert_array_equal(middles, np.repeat(middles[:, :1], 3, axis=1))
    pad = 2 * TILE_PX
    mirrored = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    for (row, col), scale, tile in zip(
        store.positions.tolist(), store.scale.tolist(), store.read_rows(0, len(store)), strict=True
    ):
        side = int(scale * TILE_PX)
        square = mirrored[row + pad : row + pad + side, col + pad : col + pad + side].astype(float)
        averaged = square.reshape(TILE_PX, int(scale), TILE_PX, int(scale), 3).mean(axis=(1, 3))
        assert np.abs(tile - averaged).max() <= 1, "the mean of each block of pixels"


def test_floor_and_ceiling_count_places_and_each_square_has_its_coverage(tmp_path: Path) -> None:
    sample, _ = draw_sample(tmp_path)
    alone = build(tmp_path, (sample,), min_coverage=0.5, max_tiles=3, min_tiles=1)
    store = build(tmp_path, (sample,), magnifications=(1, 2), min_coverage=0.5, max_tiles=3, min_tiles=1)
    assert len(alone) == 3
    np.testing.assert_array_equal(store.positions[::2], alone.positions)
    np.testing.assert_array_equal(store.coverage[::2], alone.coverage)
    mask = np.zeros((96, 128))
    mask[:48] = 1
    for (row, col), share in zip(store.positions[1::2].tolist(), store.coverage[1::2].tolist(), strict=True):
        inside = mask[max(0, row) : row + 64, max(0, col) : col + 64]
        assert share == pytest.approx(inside.mean())


def test_places_are_those_of_the_middles(tmp_path: Path) -> None:
    sample, _ = draw_sample(tmp_path)
    plain = build(tmp_path, (sample,), min_coverage=0, min_tiles=1)
    np.testing.assert_array_equal(plain.find_places(0), (plain.positions / TILE_PX).astype(np.float32))
    store = build(tmp_path, (sample,), magnifications=(1, 4), min_coverage=0, min_tiles=1)
    np.testing.assert_array_equal(store.find_places(0)[::2], plain.find_places(0))
    np.testing.assert_array_equal(store.find_places(0)[1::2], plain.find_places(0))


def test_images_of_two_scales_show_the_same_microns(tmp_path: Path) -> None:
    """A picture and itself at twice the resolution give the same tiles; one of unknown scale is left as it is."""
    rng = np.random.default_rng(3)
    coarse = cv2.GaussianBlur(rng.integers(0, 200, (96, 128, 3), dtype=np.uint8), (0, 0), 2)
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
    samples = []
    for name, pixels, mpp in (("coarse.tif", coarse, 0.5), ("fine.tif", fine, 0.25), ("none.png", coarse, None)):
        per_cm = {} if mpp is None else {282: 10_000 / mpp, 283: 10_000 / mpp, 296: 3}
        Image.fromarray(pixels).save(tmp_path / name, **({"tiffinfo": per_cm} if per_cm else {}))
        samples.append(Sample(name, tmp_path / name, None, "a", name, name))
    store = build(tmp_path, tuple(samples), mpp=0.5, min_coverage=0, max_tiles=None)
    assert [store.count(i) for i in range(3)] == [12, 12, 12]
    tiles = store.read_rows(0, 36).reshape(3, 12, TILE_PX, TILE_PX, 3)
    np.testing.assert_array_equal(tiles[0], tiles[1])
    np.testing.assert_array_equal(tiles[0], tiles[2])
    assert store.scale.reshape(3, 12)[:, 0].tolist() == [1, 2, 1]
    np.testing.assert_array_equal(store.find_places(0), store.find_places(1))


def test_a_small_image_has_its_wider_squares_too(tmp_path: Path) -> None:
    sample, image = draw_sample(tmp_path, height=20, width=24)
    store = build(tmp_path, (sample,), magnifications=(1, 4))
    assert len(store) == 2
    assert store.positions.tolist() == [[0, 0], [-48, -48]]
    narrow, wide = store.read_rows(0, 2)
    np.testing.assert_array_equal(narrow[:20, :24], image)
    shrunk = cv2.resize(image[:20], (6, 5), interpolation=cv2.INTER_AREA)
    assert np.abs(wide[12:17, 12:18].astype(float) - shrunk).max() <= 1
    assert (wide[20:] == wide[0, 0]).all(), "no copies beyond what the image fills"


@pytest.mark.parametrize("value", ["[]", "[2, 1]", "[1, 1]", "[0, 1]"])
def test_magnifications_ascend(value: str) -> None:
    with pytest.raises(RecipeError, match=r"tile"):
        load_recipe("quick", settings=[f"tile.magnifications={value}"])
