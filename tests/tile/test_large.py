"""Large images: cut by region as if they were held whole, in pieces, and what is coarser about them stays near."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smalti import images, recipe
from smalti.errors import DataError
from smalti.tile import TileStore, build_store
from smalti.tile.plane import Plane
from smalti.types import Cohort, Repair, Sample

TILE_PX = 32


def draw_sample(root: Path, *, mask: bool) -> Sample:
    """Tissue with a hole of glass on a slide, smooth enough to be seen at any scale."""
    rng = np.random.default_rng(0)
    image = np.full((700, 900, 3), 245, np.uint8)
    cv2.ellipse(image, (420, 340), (330, 260), 0, 0, 360, (200, 120, 180), -1)
    cv2.circle(image, (420, 340), 70, (245, 245, 245), -1)
    image = np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    Image.fromarray(image).save(root / "a.png")
    disc = cv2.circle(np.zeros((700, 900), np.uint8), (500, 300), 180, 255, -1)
    Image.fromarray(disc).save(root / "m.png")
    return Sample("a.png", root / "a.png", root / "m.png" if mask else None, "a", "a", "a")


def build(sample: Sample, cache: Path, **knobs: object) -> TileStore:
    cohort = Cohort(sample.path.parent, "table", (sample,), (), ("a",))
    return build_store(cohort, recipe.Tile(**knobs), tile_px=TILE_PX, cache=cache)  # type: ignore[arg-type]


def read_all(store: TileStore) -> NDArray[np.uint8]:
    return store.read_rows(0, len(store))


@pytest.fixture
def by_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large, and every other pixel of a mask is kept."""
    monkeypatch.setattr(images, "WHOLE_PX", 700 * 900 // 4)


@pytest.mark.slow
def test_regions_give_the_tiles_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = draw_sample(tmp_path, mask=True)
    knobs = {"overlap_frac": 0.3, "min_coverage": 0.0, "max_tiles": None}
    whole = build(sample, tmp_path / "whole", **knobs)
    monkeypatch.setattr(images, "WHOLE_PX", 700 * 900 // 4)
    monkeypatch.setattr("smalti.tile.store.PIECE_BYTES", 7 * 3 * TILE_PX**2)
    parts = build(sample, tmp_path / "parts", **knobs)
    np.testing.assert_array_equal(parts.positions, whole.positions)
    np.testing.assert_array_equal(read_all(parts), read_all(whole))
    assert np.abs(parts.coverage - whole.coverage).max() < 0.07  # two pixels of 32 along an edge
    assert np.abs(parts.coverage - whole.coverage).mean() < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("knobs", [{"source": "whole"}, {"source": "mask_box"}])
def test_boxes_of_large_images_look_like_those_of_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, str]
) -> None:
    sample = draw_sample(tmp_path, mask=True)
    whole = build(sample, tmp_path / "whole", **knobs)
    monkeypatch.setattr(images, "WHOLE_PX", 700 * 900 // 4)
    parts = build(sample, tmp_path / "parts", **knobs)
    assert np.abs(parts.positions - whole.positions).max() <= 2
    assert np.abs(read_all(parts).astype(float) - read_all(whole)).mean() < 2
    assert parts.coverage == pytest.approx(whole.coverage, abs=0.02)


@pytest.mark.slow
def test_tissue_of_a_large_image_is_found_in_its_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = draw_sample(tmp_path, mask=False)
    whole = build(sample, tmp_path / "whole", max_tiles=None)
    monkeypatch.setattr(images, "WHOLE_PX", 700 * 900 // 4)
    monkeypatch.setattr("smalti.tile.scene.VIEW_PX", 300)
    parts = build(sample, tmp_path / "parts", max_tiles=None)
    both = {tuple(p) for p in whole.positions.tolist()} & {tuple(p) for p in parts.positions.tolist()}
    assert len(both) > 0.9 * max(len(whole), len(parts))


@pytest.mark.slow
def test_paint_on_a_large_image_is_filled_in_every_tile(tmp_path: Path, by_region: None) -> None:
    sample = draw_sample(tmp_path, mask=True)
    image = np.array(Image.open(sample.path))
    cv2.rectangle(image, (480, 280), (560, 330), (0, 0, 255), -1)
    Image.fromarray(image).save(sample.path)
    outline = ((280.0, 480.0), (280.0, 560.0), (330.0, 560.0), (330.0, 480.0))
    store = build(
        replace(sample, repair=Repair(outline=(outline,))), tmp_path / "cache", max_tiles=None, min_coverage=0.01
    )
    tiles = read_all(store).astype(int)
    assert not (tiles[..., 2] - tiles[..., 0] > 100).any(), "no blue is left"
    under = build(sample, tmp_path / "painted", max_tiles=None, min_coverage=0.01)
    assert store.coverage.sum() < under.coverage.sum() - 80 * 50 / TILE_PX**2 / 2, "and it is off the mask"


def test_a_mask_of_another_size_is_told(tmp_path: Path, by_region: None) -> None:
    sample = draw_sample(tmp_path, mask=True)
    Image.new("L", (450, 350)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="450x350 px, its image 900x700"):
        build(sample, tmp_path / "cache")


def test_coarse_coverage_weighs_cut_cells() -> None:
    """Against the same map made as fine as the image."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 2, (20, 30), dtype=np.uint8)
    fine = coarse.repeat(7, axis=0).repeat(7, axis=1)
    positions = np.stack([rng.integers(-10, 130, 50), rng.integers(-10, 200, 50)], axis=1)
    ours = Plane.over(coarse, fine.shape).cover(positions, side_px=24)
    theirs = Plane(fine, (1, 1), fine.shape).cover(positions, side_px=24)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_array_equal(
        Plane.over(coarse, fine.shape).crop(5, 9, height_px=50, width_px=60), fine[5:55, 9:69]
    )


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_open_image_gives_the_regions_of_the_closed_one(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(draw_sample(tmp_path, mask=False).path).save(tmp_path / "t.png", exif=exif)
    whole = images.read_image(tmp_path / "t.png")
    with images.open_regions(tmp_path / "t.png") as regions:
        assert regions.size_px == whole.shape[:2] == (900, 700)
        for row, col in ((0, 0), (100, 300), (868, 668)):
            part = regions.read(row, col, height_px=32, width_px=32)
            np.testing.assert_array_equal(part, whole[row : row + 32, col : col + 32])
        assert regions.size_px == (900, 700)
        with pytest.raises(DataError, match="leaves the image"):
            regions.read(890, 0, height_px=32, width_px=32)


@pytest.mark.parametrize("name", ["m.png", "grey.png", "opaque.png", "mask.tif"])
def test_a_thinned_mask_is_the_mask_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    draw_sample(tmp_path, mask=True)
    disc = np.array(Image.open(tmp_path / "m.png"))
    Image.fromarray(disc).save(tmp_path / "mask.tif", compression="tiff_lzw")
    grey = disc // 3 + 20
    grey[699, 899] = 200  # the only one of its value, and not among those that are kept
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([np.zeros((700, 900, 3), np.uint8), disc])).save(tmp_path / "opaque.png")
    whole, levels = images.read_mask(tmp_path / name)
    monkeypatch.setattr("smalti.images.masks.planes.BAND_PX", 900 * 50)
    thinned, same_levels = images.read_mask(tmp_path / name, most_px=700 * 900 // 9)
    np.testing.assert_array_equal(thinned, whole[::3, ::3])
    assert levels == same_levels == (name == "grey.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "knobs",
    [{"outside": "blank"}, {"within": "tissue"}, {"regions": "components"}, {"source": "whole"}, {"other_masks": True}],
)
def test_masks_of_large_images_are_those_of_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knobs: dict[str, object]
) -> None:
    """Every other pixel of a mask is kept, so that its edge may be off by one."""
    first = draw_sample(tmp_path, mask=True)
    Image.fromarray(cv2.circle(np.zeros((300, 500), np.uint8), (200, 150), 90, 255, -1)).save(tmp_path / "n.png")
    Image.fromarray(np.full((300, 500, 3), 130, np.uint8)).save(tmp_path / "b.png")
    second = Sample("b.png", tmp_path / "b.png", tmp_path / "n.png", "a", "b", "b")
    cohort = Cohort(tmp_path, "table", (first, second), (), ("a",))

    def build_both(cache: str) -> TileStore:
        tile = recipe.Tile(max_tiles=200, **knobs)  # type: ignore[arg-type]
        return build_store(cohort, tile, tile_px=TILE_PX, cache=tmp_path / cache)

    whole = build_both("whole")
    monkeypatch.setattr(images, "WHOLE_PX", 700 * 900 // 4)
    parts = build_both("parts")
    places = [dict(zip(map(tuple, s.positions[: s.count(0)].tolist()), s.rows(0), strict=True)) for s in (whole, parts)]
    both = sorted(places[0].keys() & places[1].keys())
    assert len(both) >= 0.8 * max(len(p) for p in places)
    rows = [np.array([p[place] for place in both]) for p in places]
    masks = [store.read_masks(r) for store, r in zip((whole, parts), rows, strict=True)]
    assert (masks[0] == masks[1]).mean() > 0.97
    tiles = [store.read_tiles(r) for store, r in zip((whole, parts), rows, strict=True)]
    assert np.abs(tiles[0].astype(float) - tiles[1])[masks[0] == masks[1]].mean() < 3
    (outlines, shapes), (near, close) = whole.read_shapes(), parts.read_shapes()
    assert np.abs(outlines.astype(float) - near).mean() < 4
    np.testing.assert_allclose(close[:, :2], shapes[:, :2], atol=0.01)


# --- slides -------------------------------------------------------------------------------------------------------

SLIDE_TILE_PX = 256


def draw_slide(path: Path, tiles: list[NDArray[np.uint8]], *, count: int) -> None:
    """A tiled TIFF of ``count`` x ``count`` tiles, the one at (row, col) ``tiles[(row + col) % n]``, each kept once."""
    encoded = [cv2.imencode(".jpg", t[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for t in tiles]
    starts = np.cumsum([8, *map(len, encoded)])
    which = np.add.outer(np.arange(count), np.arange(count)).ravel() % len(tiles)
    lengths = np.array([len(e) for e in encoded], "<u4")[which]
    arrays = [np.array([8, 8, 8], "<u2"), starts[which].astype("<u4"), lengths]
    places = starts[-1] + starts[-1] % 2 + np.cumsum([0, *(a.nbytes for a in arrays)])
    side_px = count * SLIDE_TILE_PX
    fields = [
        (256, 4, 1, side_px), (257, 4, 1, side_px), (258, 3, 3, places[0]), (259, 3, 1, 7), (262, 3, 1, 6),
        (277, 3, 1, 3), (322, 4, 1, SLIDE_TILE_PX), (323, 4, 1, SLIDE_TILE_PX), (324, 4, count**2, places[1]),
        (325, 4, count**2, places[2]), (530, 3, 2, 2 | 2 << 16),
    ]  # fmt: skip
    directory = (
        struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", *map(int, f)) for f in fields) + b"\0" * 4
    )
    body = b"".join(encoded) + b"\0" * int(starts[-1] % 2) + b"".join(a.tobytes() for a in arrays)
    path.write_bytes(b"II*\0" + struct.pack("<I", places[3]) + body + directory)


@pytest.mark.slow
def test_a_slide_of_400_million_pixels_is_cut_without_being_held(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    colours = [(200, 120, 180), (170, 90, 160), (215, 150, 200)]
    tiles = [np.full((SLIDE_TILE_PX, SLIDE_TILE_PX, 3), c, np.uint8) for c in colours]
    draw_slide(tmp_path / "a.tif", tiles, count=80)
    mask = np.zeros((80, 80), np.uint8)
    mask[20:40, 10:70] = 255
    large = cv2.resize(mask, (20_480, 20_480), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(tmp_path / "m.png"), large, [cv2.IMWRITE_PNG_BILEVEL, 1])
    del large
    sample = Sample("a.tif", tmp_path / "a.tif", tmp_path / "m.png", "a", "a", "a")
    cohort = Cohort(tmp_path, "table", (sample,), (), ("a",))
    tracemalloc.start()
    store = build_store(cohort, recipe.Tile(max_tiles=200), tile_px=SLIDE_TILE_PX, cache=tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6  # what NumPy holds; Pillow holds the mask beside it, a byte a pixel
    assert len(store) == 200
    assert store.coverage.min() > 0.98  # the mask ends where tiles do, but is kept at every third pixel
    wanted = np.array(colours)[(store.positions // SLIDE_TILE_PX).sum(axis=1) % 3]
    assert np.abs(store.read_rows(0, 200)[:, 128, 128].astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("suffix", ["tif", "svs"])  # read with tifffile, and with OpenSlide
def test_a_thumbnail_of_a_slide_without_a_pyramid_is_averaged_in_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    pytest.importorskip("openslide")
    rng = np.random.default_rng(0)
    blurred = [cv2.GaussianBlur(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8), (0, 0), 4) for _ in range(3)]
    draw_slide(tmp_path / f"a.{suffix}", blurred, count=7)
    whole = images.read_image(tmp_path / f"a.{suffix}")
    monkeypatch.setattr("smalti.images.pyramids.BAND_PX", 100 * 7 * 256)
    small = images.read_thumbnail(tmp_path / f"a.{suffix}", longest_px=256)
    assert small.shape == (256, 256, 3)
    reference = cv2.resize(whole, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - reference).mean() < 3
    with images.open_regions(tmp_path / f"a.{suffix}") as regions:
        part = regions.read(300, 500, height_px=90, width_px=70)
    assert np.abs(part.astype(float) - whole[300:390, 500:570]).mean() < 2
