"""Augmentation against NumPy and torchvision, batches against the tile store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from smalti import recipe
from smalti.samples import (
    AUGMENTATIONS,
    BagBatches,
    Transform,
    apply_transform,
    iterate_ahead,
    normalise_tiles,
    view_transform,
)
from smalti.samples.augment import colour_matrix, identity_transform, turn_tile
from smalti.samples.batches import draw_images, find_chances
from smalti.tile import TileStore, build_store
from smalti.types import Cohort, InputSpec, Sample

SPEC = InputSpec(224, False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# --- augmentation -------------------------------------------------------------------------------------------------


def draw_tiles(*shape: int, seed: int = 0, side: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, side, side, 3), dtype=np.uint8)


def test_the_eight_turns_are_the_symmetries_of_the_square() -> None:
    tile = draw_tiles(1)[0]
    found = [turn_tile(tile, t) for t in range(8)]
    wanted = [np.rot90(start, k) for start in (tile, tile[:, ::-1]) for k in range(4)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    members = {one.tobytes() for one in found}
    assert len(members) == 8
    for first in range(8):  # closed, with an inverse for each
        after = {turn_tile(found[first], t).tobytes() for t in range(8)}
        assert after == members
        assert tile.tobytes() in after


def test_each_tile_of_a_batch_has_its_own_turn() -> None:
    tiles, turns = draw_tiles(5, 8), np.arange(40).reshape(5, 8) % 8
    plain = identity_transform(5, 8)
    turned = apply_transform(tiles, replace(plain, turns=turns))
    for place in np.ndindex(5, 8):
        np.testing.assert_array_equal(turned[place], turn_tile(tiles[place], int(turns[place])))


def test_normalisation_is_that_of_torchvision() -> None:
    tiles = torch.from_numpy(draw_tiles(6, side=8))
    found = normalise_tiles(tiles, spec=SPEC)
    plain = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(SPEC.mean), list(SPEC.std))])
    torch.testing.assert_close(found, plain(tiles.permute(0, 3, 1, 2)), atol=2e-6, rtol=1e-5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_source_tiles_are_left_alone() -> None:
    tiles = draw_tiles(1, 2)
    before = tiles.copy()
    for name in ("none", "flips", "flips_colour"):
        draw = AUGMENTATIONS.build(name)
        found = apply_transform(tiles, draw(1, 2, 1.0, np.random.default_rng(0)))
        normalise_tiles(torch.from_numpy(found[0]), spec=SPEC)
    np.testing.assert_array_equal(tiles, before)


@given(bright=st.floats(0.6, 1.4), saturation=st.floats(0.6, 1.4))
@settings(deadline=None, max_examples=40)
def test_brightness_and_saturation_are_those_of_torchvision(bright: float, saturation: float) -> None:
    # Mid tones, so that nothing is clamped on the way.
    image = torch.from_numpy(np.random.default_rng(1).uniform(0.3, 0.6, (3, 5, 5)).astype(np.float32))
    one = np.ones(1)
    matrix, offset = colour_matrix(one * bright, one, one * saturation, gains=np.ones((1, 3)))
    found = torch.einsum("ij,jhw->ihw", torch.from_numpy(matrix[0]), image) + torch.from_numpy(offset[0])[:, None, None]
    wanted = tv.adjust_brightness(tv.adjust_saturation(image, saturation), bright)
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)  # torchvision's weights add up to 0.9999


def test_contrast_turns_about_mid_grey_and_gains_come_first() -> None:
    one = np.ones(1)
    matrix, offset = colour_matrix(one, one * 0.5, one, gains=np.array([[1.1, 1.0, 0.9]]))
    for colour in np.random.default_rng(0).random((5, 3)):
        found = matrix[0] @ colour + offset[0]
        np.testing.assert_allclose(found, 0.5 + 0.5 * (colour * [1.1, 1.0, 0.9] - 0.5), atol=1e-6)
    grey = colour_matrix(one, one * 0.3, one, gains=np.ones((1, 3)))
    np.testing.assert_allclose(grey[0][0] @ np.full(3, 0.5) + grey[1][0], 0.5, atol=1e-6)


def test_a_recoloured_batch_is_what_its_matrix_says_clamped() -> None:
    tiles = draw_tiles(3, 2)
    transform = AUGMENTATIONS.build("flips_colour")(3, 2, 1.0, np.random.default_rng(0))
    found = apply_transform(tiles, transform)
    for i in range(3):
        for j in range(2):
            turn = int(transform.turns[i, j])
            start = tiles[i, j]
            tile = np.rot90(start[:, ::-1] if turn >= 4 else start, turn % 4) / 255
            wanted = np.clip(tile @ transform.matrix[i].T + transform.offset[i], 0, 1) * 255
            np.testing.assert_allclose(found[i, j], wanted, atol=1)  # OpenCV rounds 8-bit products in fixed point


@pytest.mark.parametrize("name", ["none", "flips", "flips_colour"])
def test_augmentation_follows_its_random_state_and_at_strength_zero_keeps_colours(name: str) -> None:
    draw = AUGMENTATIONS.build(name)
    first, second = (draw(4, 3, 0.7, np.random.default_rng(5)) for _ in range(2))
    for part in ("turns", "matrix", "offset"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
    still = draw(4, 3, 0.0, np.random.default_rng(5))
    np.testing.assert_allclose(still.matrix, np.repeat(np.eye(3)[None], 4, axis=0), atol=1e-6)
    np.testing.assert_allclose(still.offset, 0, atol=1e-6)


def test_flips_reach_all_eight_and_colour_grows_with_strength() -> None:
    turns = AUGMENTATIONS.build("flips")(50, 40, 0.0, np.random.default_rng(0)).turns
    counts = np.bincount(turns.ravel(), minlength=8)
    assert len(counts) == 8
    assert counts.min() > 180  # 250 each, standard deviation 15
    draw = AUGMENTATIONS.build("flips_colour")
    spread = [np.abs(draw(200, 1, s, np.random.default_rng(0)).matrix - np.eye(3)).mean() for s in (0, 0.3, 0.6, 1)]
    assert spread == sorted(spread)
    assert np.ptp(draw(200, 1, 1.0, np.random.default_rng(0)).matrix[:, 0, 0]) > 0.3


@pytest.mark.parametrize("side", [6, 16, 50])
def test_tiles_are_fitted_to_a_backbone_of_one_size_as_torchvision_does(side: int) -> None:
    fixed = InputSpec(16, True, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    tiles = torch.from_numpy(draw_tiles(2, side=side))
    found = normalise_tiles(tiles, spec=fixed)
    assert found.shape == (2, 3, 16, 16)
    plain = tiles.permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(found, (tv.resize(plain, [16, 16], antialias=True) - 0.5) / 0.5, atol=1e-5, rtol=0)
    assert normalise_tiles(tiles, spec=SPEC).shape == (2, 3, side, side)


def test_a_stored_view_is_one_symmetry_for_every_tile() -> None:
    for view in range(8):
        transform = view_transform(view, images=2, tiles=3)
        assert isinstance(transform, Transform)
        assert (transform.turns == view).all()
        plain = view_transform(0, images=2, tiles=3)
        np.testing.assert_array_equal(transform.matrix, plain.matrix)


# --- batches ------------------------------------------------------------------------------------------------------

TILE_PX = 16
BAG_TILES = (6, 1, 4, 2, 9, 3, 5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Bag i has BAG_TILES[i] tiles; every pixel of it is (i, number of the tile, 7)."""
    root = tmp_path_factory.mktemp("drawn")
    samples = []
    for i, count in enumerate(BAG_TILES):
        pixels = np.zeros((TILE_PX, TILE_PX * count, 3), dtype=np.uint8)
        pixels[...] = (i, 0, 7)
        pixels[..., 1] = np.arange(TILE_PX * count) // TILE_PX
        full = np.full(pixels.shape[:2], 255, dtype=np.uint8)
        for name, array in ((f"img_{i}.png", pixels), (f"mask_{i}.png", full)):
            Image.fromarray(array).save(root / name)
        samples.append(Sample(f"img_{i}.png", root / f"img_{i}.png", root / f"mask_{i}.png", "a", f"c{i}", str(i)))
    cohort = Cohort(root, "table", tuple(samples), (), ("a",))
    return build_store(cohort, recipe.Tile(min_tiles=1), tile_px=TILE_PX, cache=root / "cache")


def make_batches(store: TileStore, *, batch_images: int = 3, tiles: int = 4) -> BagBatches:
    bags = np.array([5, 0, 1, 6, 4, 3, 2], dtype=np.int64)
    return BagBatches(store, bags, bags * 10, batch_images, tiles)


@pytest.mark.parametrize("batch_images", [1, 2, 3, 4, 6, 7, 50])
def test_every_image_comes_once_with_its_own_tiles_and_target(store: TileStore, batch_images: int) -> None:
    batches = make_batches(store, batch_images=batch_images)
    drawn = list(batches.draw(np.random.default_rng(0)))
    assert len(drawn) == -(-len(BAG_TILES) // batch_images)
    seen: list[int] = []
    for batch in drawn:
        assert batch.tiles.shape == (len(batch.targets), 4, TILE_PX, TILE_PX, 3)
        assert (batch.tiles.dtype, batch.targets.dtype) == (np.uint8, torch.int64)
        assert len(batch.targets) <= batch_images
        for bag, target in zip(batch.tiles, batch.targets.tolist(), strict=True):
            assert (bag[..., 0] == target // 10).all()
            numbers = bag[:, 0, 0, 1].astype(int)
            assert (bag[..., 1] == numbers[:, None, None]).all()  # a whole tile, not a mixture
            assert numbers.max() < BAG_TILES[target // 10]
            if BAG_TILES[target // 10] >= 4:
                assert len(np.unique(numbers)) == 4  # without replacement
            seen.append(target // 10)
    assert sorted(seen) == list(range(7))


def test_the_random_state_is_all_that_a_pass_depends_on(store: TileStore) -> None:
    def draw(seed: int) -> list[NDArray[np.uint8]]:
        return [b.tiles for b in make_batches(store).draw(np.random.default_rng(seed))]

    first, again, other = draw(3), draw(3), draw(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    rng = np.random.default_rng(3)
    epochs = [[b.targets.tolist() for b in make_batches(store).draw(rng)] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_every_tile_is_drawn_in_the_long_run(store: TileStore) -> None:
    batches, rng = make_batches(store, tiles=2), np.random.default_rng(0)
    seen = {
        (int(t[0, 0, 0]), int(t[0, 0, 1]))
        for _ in range(60)
        for b in batches.draw(rng)
        for t in b.tiles.reshape(-1, *b.tiles.shape[2:])
    }
    assert seen == {(i, n) for i, count in enumerate(BAG_TILES) for n in range(count)}


@given(count=st.integers(1, 60), size=st.integers(1, 20))
@settings(deadline=None, max_examples=80)
def test_batches_are_a_partition_without_a_lonely_image(count: int, size: int) -> None:
    batches = draw_images(count, size, rng=np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // size)
    if size > 2 and count > 1:
        assert min(sizes) > 1


TARGETS = np.array([0, 0, 0, 0, 0, 0, 1, 1])
CASES = ["a", "a", "a", "a", "b", "c", "c", "d"]  # c has images of both classes


def test_images_are_drawn_by_class_and_by_case() -> None:
    balanced = find_chances(TARGETS, CASES, sampling="balanced")
    cases = find_chances(TARGETS, CASES, sampling="cases")
    both = find_chances(TARGETS, CASES, sampling="balanced_cases")
    assert find_chances(TARGETS, CASES, sampling="shuffled") is None
    np.testing.assert_allclose(balanced, [1 / 12] * 6 + [1 / 4] * 2)
    np.testing.assert_allclose(cases, [1 / 16] * 4 + [1 / 4] + [1 / 8] * 2 + [1 / 4])
    np.testing.assert_allclose(both, [1 / 24] * 4 + [1 / 6] * 2 + [1 / 4] * 2)


def test_draws_follow_their_chances() -> None:
    chances = find_chances(TARGETS, CASES, sampling="balanced_cases")
    rng = np.random.default_rng(0)
    drawn = np.concatenate([b for _ in range(2000) for b in draw_images(8, 3, rng=rng, chances=chances)])
    assert len(drawn) == 16_000
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), chances, atol=0.01)


# --- reading ahead ------------------------------------------------------------------------------------------------


def count_readers() -> int:
    return sum(t.name == "read-ahead" for t in threading.enumerate())


@pytest.mark.parametrize("depth", [1, 2, 50])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_reading_ahead_changes_neither_items_nor_order(depth: int, count: int) -> None:
    items = [None, False, *range(count)]  # values that must not be taken for the end
    assert list(iterate_ahead(iter(items), depth=depth)) == items
    assert count_readers() == 0


@pytest.mark.parametrize("error", [KeyError("tile"), KeyboardInterrupt("stop"), StopIteration("odd")])
def test_an_error_of_the_producer_comes_after_the_items_before_it(error: BaseException) -> None:
    class Producer:
        """Raises inside ``__next__`` after two items."""

        left = 2

        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            if self.left == 0:
                raise error
            self.left -= 1
            return self.left

    seen: list[int] = []
    if isinstance(error, StopIteration):
        assert list(iterate_ahead(Producer())) == [1, 0]
    else:
        with pytest.raises(type(error)) as caught:
            seen.extend(iterate_ahead(Producer()))
        assert caught.value is error
    assert count_readers() == 0


def test_an_abandoned_reader_stops_and_never_runs_far_ahead() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(10**9):
            made.append(i)
            yield i

    reader = iterate_ahead(produce(), depth=2)
    assert [next(reader) for _ in range(3)] == [0, 1, 2]
    assert count_readers() == 1
    reader.close()
    assert count_readers() == 0
    assert len(made) <= 3 + 2 + 1  # taken, queued, in the hand
    with pytest.raises(ZeroDivisionError):  # as in a training step that fails
        [1 // item for item in iterate_ahead(produce())]
    assert count_readers() == 0


def test_a_reader_that_is_never_asked_starts_no_thread() -> None:
    reader = iterate_ahead(iter(range(3)))
    assert count_readers() == 0
    del reader
