"""The tiles of one image in memory: what a store on disk has, measured only where it is asked for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from smalti import recipe
from smalti.tile import TileStore, build_store, cut, hold_scene, open_scene
from smalti.types import Cohort, Sample

SIDE, TILE_PX = 96, 32
WAYS = (
    recipe.Tile(source="tiles"),
    recipe.Tile(source="mask_box", outside="blank"),
    recipe.Tile(source="tiles", magnifications=(1.0, 2.0)),
)


def draw_sample(folder: Path, *, mask: bool) -> Sample:
    """A stained square on glass, and two discs as its mask."""
    rng = np.random.default_rng(3)
    picture = np.full((SIDE, SIDE, 3), 240.0)
    picture[8:80, 8:88] = (170, 90, 190)
    picture += rng.normal(0, 12, picture.shape)
    cv2.imwrite(str(folder / "x.png"), np.clip(picture, 0, 255).astype(np.uint8))
    discs = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (30, 30), 16, 255, -1)
    cv2.imwrite(str(folder / "x_mask.png"), cv2.circle(discs, (70, 60), 9, 255, -1))
    return Sample("x.png", folder / "x.png", folder / "x_mask.png" if mask else None, "a", "c", "x")


def hold(sample: Sample, tile: recipe.Tile) -> TileStore:
    """The tiles of a sample in memory."""
    with open_scene(sample) as scene:
        return hold_scene(scene, tile, tile_px=TILE_PX, given=sample.mask_path is not None, name=sample.image)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("tile", WAYS)
def test_tiles_in_memory_are_those_of_a_store(tmp_path: Path, tile: recipe.Tile, mask: bool) -> None:
    sample = draw_sample(tmp_path, mask=mask)
    held = hold(sample, tile)
    cohort = Cohort(tmp_path, "table", (sample,), (), ("a", "b"))
    built = build_store(cohort, tile, tile_px=TILE_PX, cache=tmp_path / "cache")
    rows = np.arange(len(built))[::-1]
    for name in ("read_tiles", "read_masks", "read_rasters"):
        np.testing.assert_array_equal(getattr(held, name)(rows), getattr(built, name)(rows))
    for one, two in zip(held.read_shapes(), built.read_shapes(), strict=True):
        np.testing.assert_array_equal(one, two)
    mine, theirs = held.read_staining("macenko"), built.read_staining("macenko")
    for part in ("frames", "kind", "tile_kind"):
        np.testing.assert_array_equal(getattr(mine, part), getattr(theirs, part))


def test_what_nobody_asks_for_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("judge_tile", "describe_mask", "draw_outline"):
        monkeypatch.setattr(cut, name, None)
    held = hold(draw_sample(tmp_path, mask=True), WAYS[0])
    assert held.read_rows(0, len(held), masked=True).shape == (len(held), TILE_PX, TILE_PX, 4)
    with pytest.raises(TypeError):
        held.read_shapes()
    with pytest.raises(TypeError):
        held.read_staining("macenko")
