"""Tiles: geometry against set identities, coverage against NumPy sums, the store against slices of the images."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from smalti import images, recipe
from smalti.errors import DataError, RecipeError, RunError
from smalti.tile import TileStore, build_store, cut, make_grid, measure_coverage, select_tiles, store
from smalti.tissue import find_tissue
from smalti.types import Cohort, Sample

TILE_PX = 32
SIZES = ((70, 96), (32, 32), (20, 50), (101, 33))


def draw_cohort(root: Path, *, masks: bool = True) -> Cohort:
    """Noise images of several sizes with a disc as the mask."""
    rng = np.random.default_rng(0)
    samples = []
    for i, (height, width) in enumerate(SIZES):
        path, mask_path = root / f"img_{i}.png", root / f"mask_{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 200, (height, width, 3), dtype=np.uint8))
        disc = cv2.circle(np.zeros((height, width), np.uint8), (width // 2, height // 2), 14, 255, -1)
        cv2.imwrite(str(mask_path), disc)
        samples.append(Sample(path.name, path, mask_path if masks else None, "ab"[i % 2], f"case{i}", path.name))
    return Cohort(root, "table", tuple(samples[:3]), (replace(samples[3], label=None),), ("a", "b"))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path)))[:, :, ::-1]


def build(cohort: Cohort, cache: Path, tile: recipe.Tile | None = None, tile_px: int = TILE_PX) -> TileStore:
    return build_store(cohort, tile or recipe.Tile(), tile_px=tile_px, cache=cache)


# --- grid ---------------------------------------------------------------------------------------------------------

LENGTHS = st.integers(1, 120)
OVERLAPS = st.floats(0, 0.94)


@given(height=LENGTHS, width=LENGTHS, tile_px=st.integers(1, 50), overlap=OVERLAPS)
@settings(deadline=None, max_examples=150)
def test_every_pixel_lies_in_a_tile_and_every_tile_in_the_image(
    height: int, width: int, tile_px: int, overlap: float
) -> None:
    positions = make_grid(height, width, tile_px=tile_px, overlap_frac=overlap)
    covered = np.zeros((height, width), dtype=bool)
    for row, col in positions:
        covered[row : row + tile_px, col : col + tile_px] = True
    assert covered.all()
    assert (positions >= 0).all()
    ends = positions + tile_px
    assert (ends[:, 0] <= max(height, tile_px)).all()
    assert (ends[:, 1] <= max(width, tile_px)).all()
    assert len(np.unique(positions, axis=0)) == len(positions)


@pytest.mark.slow
@given(height=LENGTHS, width=LENGTHS, tile_px=st.integers(1, 50), overlap=OVERLAPS)
@settings(deadline=None, max_examples=50)
def test_a_turned_image_has_the_turned_grid(height: int, width: int, tile_px: int, overlap: float) -> None:
    upright = {(r, c) for r, c in make_grid(height, width, tile_px=tile_px, overlap_frac=overlap).tolist()}
    lying = {(c, r) for r, c in make_grid(width, height, tile_px=tile_px, overlap_frac=overlap).tolist()}
    assert upright == lying


def test_without_overlap_a_fitting_image_is_cut_into_a_partition() -> None:
    positions = make_grid(96, 64, tile_px=32)
    assert len(positions) == 96 * 64 // 32**2


def test_the_last_row_and_column_move_inward() -> None:
    assert make_grid(70, 32, tile_px=32).tolist() == [[0, 0], [32, 0], [38, 0]]


@pytest.mark.parametrize(("tile_px", "overlap"), [(0, 0.0), (8, 1.0), (8, -0.1)])
def test_an_impossible_grid_is_refused(tile_px: int, overlap: float) -> None:
    with pytest.raises(RecipeError, match="Fix:"):
        make_grid(10, 10, tile_px=tile_px, overlap_frac=overlap)


@given(height=LENGTHS, width=LENGTHS, tile_px=st.integers(1, 50), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=80)
def test_coverage_is_the_mean_of_the_mask(height: int, width: int, tile_px: int, seed: int) -> None:
    mask = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.uint8)
    positions = make_grid(height, width, tile_px=tile_px, overlap_frac=0.3)
    naive = [mask[r : r + tile_px, c : c + tile_px].astype(float).mean() for r, c in positions]
    np.testing.assert_allclose(measure_coverage(mask, positions, tile_px=tile_px), naive, rtol=1e-6)


def test_coverage_of_a_partition_adds_up_to_the_mask() -> None:
    mask = np.random.default_rng(3).integers(0, 2, (96, 64), dtype=np.uint8)
    coverage = measure_coverage(mask, make_grid(96, 64, tile_px=32), tile_px=32)
    assert coverage.sum() * 32**2 == pytest.approx(mask.sum())


# --- selection ----------------------------------------------------------------------------------------------------

COVERAGES = st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9, 1.0]), min_size=1, max_size=40)


@given(values=COVERAGES, floor=st.floats(0, 1), least=st.integers(1, 9), most=st.none() | st.integers(1, 20))
@settings(deadline=None)
def test_selection_keeps_its_promises(values: list[float], floor: float, least: int, most: int | None) -> None:
    coverage = np.array(values, dtype=np.float32)
    chosen = select_tiles(coverage, min_coverage=floor, min_tiles=least, max_tiles=most)
    assert len(chosen) >= 1, "no image loses all its tiles"
    assert (np.diff(chosen) > 0).all(), "sorted, none twice"
    enough = int((coverage >= floor).sum())
    touching = int((coverage > 0).sum())
    wanted = enough if enough >= least else min(least, touching or len(coverage))
    assert len(chosen) == min(wanted, most or wanted)
    if enough < least and touching and most is None:
        left_out = np.delete(coverage, chosen)
        assert coverage[chosen].min() >= left_out.max(initial=0)
        assert (coverage[chosen] > 0).all()


def test_the_ceiling_chooses_evenly() -> None:
    chosen = select_tiles(np.ones(100, np.float32), min_coverage=0.5, min_tiles=1, max_tiles=10)
    assert np.diff(chosen).tolist() == [10] * 9


# --- tissue -------------------------------------------------------------------------------------------------------


def draw_tissue(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Pink with purple nuclei."""
    image = np.full((height, width, 3), (225, 160, 200), np.uint8)
    for _ in range(height * width // 300):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(image, centre, int(rng.integers(3, 7)), (90, 50, 130), -1)
    return image


@pytest.mark.parametrize("glass", [(255, 255, 255), (243, 243, 246), (225, 225, 225)])
def test_tissue_is_told_from_glass(glass: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    image = np.full((300, 400, 3), glass, np.uint8)
    image[:, 150:] = draw_tissue(rng, 300, 250)
    truth = np.zeros((300, 400), np.uint8)
    truth[:, 150:] = 1
    noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    found = find_tissue(noisy)
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_an_image_of_tissue_alone_is_not_split_into_nuclei_and_stroma() -> None:
    assert find_tissue(draw_tissue(np.random.default_rng(2), 1500, 1200)).mean() > 0.99


def test_an_empty_image_keeps_everything() -> None:
    found = find_tissue(np.full((50, 70, 3), 252, np.uint8))
    assert found.shape == (50, 70)
    assert found.all()


# --- store --------------------------------------------------------------------------------------------------------


def test_the_store_holds_slices_of_the_mirrored_image(tmp_path: Path) -> None:
    cohort = draw_cohort(tmp_path)
    store = build(cohort, tmp_path / "cache", recipe.Tile(min_coverage=0, overlap_frac=0.25, max_tiles=None))
    assert store.images == tuple(s.image for s in cohort.samples)
    for sample in cohort.samples:
        image = read_rgb(sample.path)
        i = store.position(sample.image)
        grid = make_grid(*image.shape[:2], tile_px=TILE_PX, overlap_frac=0.25)
        rows = store.rows(i)
        np.testing.assert_array_equal(store.positions[rows.start : rows.stop], grid)
        assert store.count(i) == len(grid)
        missing = [max(0, TILE_PX - n) for n in image.shape[:2]]
        padded = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
        expected = np.stack([padded[r : r + TILE_PX, c : c + TILE_PX] for r, c in grid])
        np.testing.assert_array_equal(store.read_rows(rows.start, rows.stop), expected)


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    store = build(draw_cohort(tmp_path), tmp_path / "cache")
    everything = store.read_rows(0, len(store))
    rows = np.array([3, 0, 1, 1, len(store) - 1])
    np.testing.assert_array_equal(store.read_tiles(rows), everything[rows])
    assert store.read_tiles(np.empty(0, np.int64)).shape == (0, TILE_PX, TILE_PX, 3)
    with pytest.raises(IndexError, match="rows"):
        store.read_rows(0, len(store) + 1)
    with pytest.raises(RunError, match=r"nobody\.png"):
        store.position("nobody.png")


def test_without_a_mask_the_tissue_counts(tmp_path: Path) -> None:
    image = np.full((TILE_PX, 2 * TILE_PX, 3), 255, np.uint8)
    image[:, TILE_PX:] = (200, 120, 180)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    sample = Sample("a.png", tmp_path / "a.png", None, "a", "a", "a")
    store = build(Cohort(tmp_path, "table", (sample,), (), ("a",)), tmp_path / "cache", recipe.Tile(min_tiles=1))
    assert store.positions.tolist() == [[0, TILE_PX]]


def test_the_mask_box_is_cut_as_a_square_around_the_mask(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    mask[100:120, 200 : 200 + TILE_PX] = 255  # as wide as a tile, less high: nothing is resized
    cv2.imwrite(str(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    sample = Sample("a.png", tmp_path / "a.png", tmp_path / "m.png", "a", "a", "a")
    cohort = Cohort(tmp_path, "table", (sample,), (), ("a",))
    store = build(cohort, tmp_path / "cache", recipe.Tile(source="mask_box"))
    assert store.positions.tolist() == [[94, 200]]
    np.testing.assert_array_equal(store.read_rows(0, 1)[0], image[94 : 94 + TILE_PX, 200 : 200 + TILE_PX, ::-1])
    assert store.coverage[0] == pytest.approx(20 / TILE_PX)


def test_the_whole_image_keeps_its_aspect_by_mirroring(tmp_path: Path) -> None:
    cohort = draw_cohort(tmp_path)
    store = build(cohort, tmp_path / "cache", recipe.Tile(source="whole"), tile_px=50)
    assert len(store) == len(SIZES)
    image = read_rgb(cohort.labelled[0].path)  # 70 x 96: padded, then shrunk
    padded = np.pad(image, ((13, 13), (0, 0), (0, 0)), mode="reflect")
    wanted = cv2.resize(padded, (50, 50), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(store.read_rows(0, 1)[0], wanted)
    assert store.positions[0].tolist() == [-13, 0]


def test_a_second_call_cuts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = draw_cohort(tmp_path)
    calls: list[tuple[int, int]] = []
    first = build_store(
        cohort, recipe.Tile(), tile_px=TILE_PX, cache=tmp_path / "c", progress=lambda *a: calls.append(a)
    )
    assert calls == [(i + 1, len(SIZES)) for i in range(len(SIZES))]
    monkeypatch.setattr("smalti.tile.store.cut_bag", None)
    second = build(cohort, tmp_path / "c")
    assert second.folder == first.folder
    np.testing.assert_array_equal(second.starts, first.starts)


def test_the_key_follows_what_the_tiles_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, cache = draw_cohort(tmp_path), tmp_path / "cache"
    key = build(cohort, cache).key
    relabelled = replace(cohort, labelled=tuple(replace(s, label="b", case="x") for s in reversed(cohort.labelled)))
    assert build(relabelled, cache).key == key, "labels, cases and order do not matter"
    assert build(cohort, cache, recipe.Tile(overlap_frac=0.5)).key != key
    assert build(cohort, cache, tile_px=16).key != key
    parts = [recipe.Tile(regions="components", within=within, max_tiles=4) for within in ("mask", "tissue")]
    assert build(cohort, cache, parts[0]).key != build(cohort, cache, parts[1]).key, "an empty mask is cut by it"
    whole = build(cohort, cache, recipe.Tile(source="whole")).key
    assert build(cohort, cache, recipe.Tile(source="whole", max_tiles=3)).key == whole, "a knob that nothing reads"
    monkeypatch.setattr("smalti.store.hash_code", lambda *_: "other code")
    assert build(cohort, cache).key != key
    monkeypatch.undo()
    mask_path = cohort.labelled[0].mask_path
    assert mask_path is not None
    cv2.imwrite(str(mask_path), np.full(SIZES[0], 255, np.uint8))
    remasked = build(cohort, cache).key
    assert remasked != key
    cv2.imwrite(str(cohort.labelled[0].path), np.zeros((*SIZES[0], 3), np.uint8))
    assert build(cohort, cache).key not in {key, remasked}


@pytest.mark.parametrize("held_bytes", [images.HELD_BYTES, 0], ids=["held in memory", "on disk"])
@pytest.mark.parametrize("of", ["path", "mask_path"])
def test_a_file_that_changes_while_tiles_are_cut_and_is_put_back_is_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, held_bytes: int
) -> None:
    cohort, cache = draw_cohort(tmp_path), tmp_path / "cache"
    file = getattr(cohort.labelled[2], of)
    right, stamp = file.read_bytes(), file.stat()
    wrong = cv2.imencode(".png", np.full((*SIZES[2], 3), 99, np.uint8))[1].tobytes()
    monkeypatch.setattr("smalti.images.holding.HELD_BYTES", held_bytes)
    check = store._check_disk

    def disturb(*args: Any, **kwargs: Any) -> None:
        check(*args, **kwargs)  # the key is known by now
        file.write_bytes(wrong)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_check_disk", disturb)
        with pytest.raises(DataError, match=rf"{file.name}: changed while smalti was reading it.*Fix: wait"):
            build(cohort, cache)
    file.write_bytes(right)
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again, alone = build(cohort, cache), build(cohort, tmp_path / "alone")
    assert again.key == alone.key
    assert (again.folder / "tiles.u8").read_bytes() == (alone.folder / "tiles.u8").read_bytes()
    assert (again.folder / "masks.u1").read_bytes() == (alone.folder / "masks.u1").read_bytes()


def test_what_is_put_back_before_the_end_of_the_cut_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = draw_cohort(tmp_path)
    file = cohort.labelled[0].path
    monkeypatch.setattr("smalti.images.holding.HELD_BYTES", 0)
    take = cut.Cut.take

    def disturb(self: cut.Cut, start: int, stop: int) -> cut.Bag:
        if self.scene.size_px == SIZES[0]:  # while this very file is open; another thread may be opening it else
            right, stamp = file.read_bytes(), file.stat()
            file.write_bytes(right[::-1])
            file.write_bytes(right)
            os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        return take(self, start, stop)

    monkeypatch.setattr(cut.Cut, "take", disturb)
    with pytest.raises(DataError, match="changed while"):
        build(cohort, tmp_path / "cache")


def test_a_file_that_goes_while_tiles_are_cut_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = draw_cohort(tmp_path)
    monkeypatch.setattr(store, "_check_disk", lambda *_, **__: cohort.labelled[1].path.unlink())
    with pytest.raises(DataError, match=r"img_1\.png: does not exist"):
        build(cohort, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("tiles-*"))


def test_squares_far_larger_than_an_image_are_refused(tmp_path: Path) -> None:
    tile = recipe.Tile(magnifications=(1.0, 64.0))
    with pytest.raises(RecipeError, match=r"squares of 16384 px, and img_0\.png has 70 x 96 px\. Fix"):
        build(draw_cohort(tmp_path), tmp_path / "cache", tile, tile_px=256)


def _build_beside_another(cohort: Cohort, cache: Path, barrier: Barrier) -> None:
    def meet(done: int, total: int) -> None:
        if done == 1:  # both are in the middle of building when either goes on
            barrier.wait(timeout=60)

    build_store(cohort, recipe.Tile(), tile_px=TILE_PX, cache=cache, progress=meet)


@pytest.mark.slow
def test_two_processes_may_build_the_same_store_at_once(tmp_path: Path) -> None:
    cohort, context = draw_cohort(tmp_path), multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    arguments = (cohort, tmp_path / "both", barrier)
    processes = [context.Process(target=_build_beside_another, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [p.exitcode for p in processes] == [0, 0]
    folders = [p for p in (tmp_path / "both").iterdir() if p.is_dir()]
    alone = build(cohort, tmp_path / "alone")
    assert [f.name for f in folders] == [alone.folder.name], "one store, no remains"
    assert (folders[0] / "tiles.u8").read_bytes() == (alone.folder / "tiles.u8").read_bytes()


def test_a_full_disk_is_told_before_anything_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = draw_cohort(tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("smalti.tile.store.shutil.disk_usage", lambda _: usage)
    with pytest.raises(RunError, match=r"GB are free\. Fix:"):
        build(cohort, tmp_path / "cache")
    assert {p.name for p in (tmp_path / "cache").iterdir()} <= {"hashes.json"}


def test_a_failure_leaves_no_half_store(tmp_path: Path) -> None:
    cohort = draw_cohort(tmp_path)
    mask_path = cohort.labelled[1].mask_path
    assert mask_path is not None
    cv2.imwrite(str(mask_path), np.zeros((5, 5), np.uint8))
    with pytest.raises(DataError, match="5x5 px, its image 32x32"):
        build(cohort, tmp_path / "cache")
    assert {p.name for p in (tmp_path / "cache").iterdir()} <= {"hashes.json"}


def test_a_damaged_store_is_an_error_with_its_fix(tmp_path: Path) -> None:
    cohort = draw_cohort(tmp_path)
    store = build(cohort, tmp_path / "cache")
    with (store.folder / "tiles.u8").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(RunError, match="Fix: delete"):
        build(cohort, tmp_path / "cache")
    with pytest.raises(RunError, match="became shorter"):
        store.read_rows(0, 1)
