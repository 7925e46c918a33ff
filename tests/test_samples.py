"""Folds against set identities, augmentation against NumPy and torchvision, batches against the tile store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from smalti import recipe
from smalti.errors import SplitError
from smalti.samples import (
    AUGMENTATIONS,
    BagBatches,
    Transform,
    apply_transform,
    count_folds,
    iterate_ahead,
    split_cases,
    tabulate_folds,
    view_transform,
)
from smalti.samples.augment import colour_matrix, identity_transform, turn_tiles
from smalti.samples.batches import shuffle_batches
from smalti.tile import TileStore, build_store
from smalti.types import FOLD_COLUMNS, Cohort, InputSpec, Sample, Split

SPEC = InputSpec(224, False, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def make_cohort(rows: list[tuple[str, str]]) -> Cohort:
    """A cohort of (case, label) rows; there are no files."""
    samples = tuple(Sample(f"i{n}", Path(f"i{n}"), None, label, case, str(n)) for n, (case, label) in enumerate(rows))
    return Cohort(Path(), "table", samples, (), tuple(sorted({label for _, label in rows})))


def balanced_cohort(cases: int, *, images: int = 2, classes: str = "abc") -> Cohort:
    return make_cohort([(f"c{i}", classes[i % len(classes)]) for i in range(cases) for _ in range(images)])


def in_each_class(cohort: Cohort) -> int:
    """Number of cases of the class with fewest."""
    return min(len({s.case for s in cohort.labelled if s.label == name}) for name in cohort.classes)


# --- folds --------------------------------------------------------------------------------------------------------


def check_folds(cohort: Cohort, splits: tuple[Split, ...], *, seeds: tuple[int, ...]) -> None:
    everything = list(range(len(cohort.labelled)))
    for seed in seeds:
        of_seed = [s for s in splits if s.seed == seed]
        assert [s.fold for s in of_seed] == list(range(len(of_seed)))
        assert sorted(i for s in of_seed for i in s.outer.tolist()) == everything
    assert len(splits) % len(seeds) == 0
    for split in splits:
        assert sorted([*split.train, *split.inner, *split.outer]) == everything
        cases = [{cohort.labelled[i].case for i in part} for part in (split.train, split.inner, split.outer)]
        assert sum(map(len, cases)) == len(set.union(*cases)) == len({s.case for s in cohort.labelled})
        assert {cohort.labelled[i].label for i in split.train} == set(cohort.classes)
        assert len(split.outer) > 0


COHORTS = st.lists(st.tuples(st.integers(0, 9).map("c{}".format), st.sampled_from("abc")), min_size=2, max_size=40).map(
    make_cohort
)


@given(cohort=COHORTS, folds=st.one_of(st.just("auto"), st.integers(2, 6)), inner=st.floats(0.05, 0.5))
@settings(deadline=None, max_examples=60)
def test_folds_of_any_cohort_keep_the_contract_or_are_refused(cohort: Cohort, folds: object, inner: float) -> None:
    def split(number: object) -> tuple[Split, ...] | str:
        try:
            return split_cases(
                cohort, recipe.Split.model_validate({"folds": number, "inner_frac": inner, "seeds": [0, 3]})
            )
        except SplitError as error:
            return str(error)

    answer = split(folds)
    if isinstance(answer, str):
        told = answer.partition("split.folds=")[2].split()
        assert bool(told) is (in_each_class(cohort) >= 2)
        assert told or "No number of folds works" in answer
        folds, answer = (int(told[0]), split(int(told[0]))) if told else (folds, ())
    assert not isinstance(answer, str)
    if answer:
        check_folds(cohort, answer, seeds=(0, 3))
        assert folds in ("auto", len(answer) // 2)


@given(cases=st.integers(2, 12), data=st.data())
@settings(deadline=None, max_examples=40)
def test_one_label_per_case_and_two_cases_per_class_can_always_be_split(cases: int, data: st.DataObject) -> None:
    labels = ["a", "a", *data.draw(st.lists(st.sampled_from("ab"), min_size=cases, max_size=cases)), "b", "b"]
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(labels), max_size=len(labels)))
    rows = [(f"c{i}", label) for i, (label, size) in enumerate(zip(labels, sizes, strict=True)) for _ in range(size)]
    cohort = make_cohort(rows)
    splits = split_cases(cohort, recipe.Split())
    assert len(splits) >= 2
    check_folds(cohort, splits, seeds=(0,))


def test_auto_takes_five_folds_where_five_work() -> None:
    cohort = balanced_cohort(30)
    assert count_folds(cohort) == 5
    assert len(split_cases(cohort, recipe.Split())) == 5
    assert count_folds(balanced_cohort(4, classes="ab")) == 4
    assert count_folds(cohort, most=3) == 3


def test_auto_agrees_with_the_explicit_number() -> None:
    cohort = balanced_cohort(12)
    auto, five = (split_cases(cohort, recipe.Split(folds=f)) for f in ("auto", 5))
    assert [[p.tolist() for p in (s.train, s.inner, s.outer)] for s in auto] == [
        [p.tolist() for p in (s.train, s.inner, s.outer)] for s in five
    ]


def test_too_many_folds_name_the_largest_number_and_it_works() -> None:
    cohort = balanced_cohort(7)
    with pytest.raises(SplitError) as caught:
        split_cases(cohort, recipe.Split(folds=20))
    told = int(str(caught.value).partition("split.folds=")[2].split()[0])
    check_folds(cohort, split_cases(cohort, recipe.Split(folds=told)), seeds=(0,))
    assert told == 7  # leave one case out
    with pytest.raises(SplitError):
        split_cases(cohort, recipe.Split(folds=told + 1))


def test_where_two_folds_fail_but_three_work_the_message_says_three() -> None:
    # Each pair of the three cases is a class: two folds put both cases of some class together.
    cohort = make_cohort([("x", "a"), ("y", "a"), ("y", "b"), ("z", "b"), ("z", "c"), ("x", "c")])
    with pytest.raises(SplitError, match=r"split\.folds=3 "):
        split_cases(cohort, recipe.Split(folds=2))
    check_folds(cohort, split_cases(cohort, recipe.Split(folds=3)), seeds=(0,))
    assert len(split_cases(cohort, recipe.Split())) == 3


@pytest.mark.parametrize("folds", ["auto", 2, 5])
def test_a_class_in_a_single_case_is_refused_by_name(folds: object) -> None:
    rows = [(f"c{i}", "ab"[i % 2]) for i in range(10)] + [("lonely", "rare")] * 5
    with pytest.raises(SplitError, match=r"'rare' has 1 case\(s\): lonely.*No number of folds works.*Fix"):
        split_cases(make_cohort(rows), recipe.Split.model_validate({"folds": folds}))


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    cohort = balanced_cohort(30)

    def draw(*seeds: int) -> dict[int, list[list[int]]]:
        splits = split_cases(cohort, recipe.Split(seeds=seeds))
        return {seed: [s.outer.tolist() + s.inner.tolist() for s in splits if s.seed == seed] for seed in seeds}

    np.random.seed(1)
    first = draw(0, 1)
    np.random.seed(2)
    assert draw(1, 0) == first
    assert first[0] != first[1]
    assert draw(1_000_000)[1_000_000] not in first.values()


@pytest.mark.parametrize("frac", [0.1, 0.2, 0.34, 0.5])
def test_the_inner_part_has_about_the_share_asked_for(frac: float) -> None:
    for split in split_cases(balanced_cohort(60, images=1), recipe.Split(inner_frac=frac)):
        assert abs(len(split.inner) / (len(split.inner) + len(split.train)) - frac) < 0.05


def test_folds_are_stratified() -> None:
    cohort = make_cohort([(f"c{i}", "a" if i % 4 else "b") for i in range(80)])
    for split in split_cases(cohort, recipe.Split()):
        for part in (split.outer, split.inner):
            assert abs(np.mean(cohort.targets[part] == 1) - 0.25) < 0.1


def test_the_table_of_folds_says_the_same() -> None:
    cohort = balanced_cohort(12)
    splits = split_cases(cohort, recipe.Split(folds=3, seeds=(0, 5)))
    table = tabulate_folds(cohort, splits)
    assert tuple(table.columns) == FOLD_COLUMNS
    assert len(table) == 2 * 3 * len(cohort.labelled)
    assert (table.groupby(["seed", "fold", "case"])["role"].nunique() == 1).all()
    assert (pd.crosstab([table["seed"], table["image"]], table["role"])["outer"] == 1).all()
    by_name = {s.image: s for s in cohort.labelled}
    assert all((by_name[r.image].case, by_name[r.image].label) == (r.case, r.label) for r in table.itertuples())


# --- augmentation -------------------------------------------------------------------------------------------------


def draw_tiles(*shape: int, seed: int = 0, side: int = 6) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, (*shape, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def test_the_eight_turns_are_the_symmetries_of_the_square() -> None:
    tile = draw_tiles(1)[0].numpy()
    found = [turn_tiles(torch.from_numpy(tile[None]), torch.tensor([t]))[0].numpy() for t in range(8)]
    wanted = [np.rot90(start, k) for start in (tile, tile[:, ::-1]) for k in range(4)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    members = {one.tobytes() for one in found}
    assert len(members) == 8
    for first in range(8):  # closed, with an inverse for each
        after = turn_tiles(torch.from_numpy(found[first].copy())[None].repeat(8, 1, 1, 1), torch.arange(8)).numpy()
        assert {one.tobytes() for one in after} == members
        assert tile.tobytes() in {one.tobytes() for one in after}


def test_each_tile_of_a_batch_has_its_own_turn() -> None:
    tiles, turns = draw_tiles(40), torch.arange(40) % 8
    turned = turn_tiles(tiles, turns)
    for i in range(40):
        torch.testing.assert_close(turned[i], turn_tiles(tiles[i : i + 1], turns[i : i + 1])[0], rtol=0, atol=0)


def test_the_plain_view_is_torchvision_normalisation() -> None:
    tiles = draw_tiles(2, 3, side=8)
    found = apply_transform(tiles, view_transform(0, images=2, tiles=3), spec=SPEC)
    plain = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(SPEC.mean), list(SPEC.std))])
    torch.testing.assert_close(found, plain(tiles.reshape(6, 8, 8, 3).permute(0, 3, 1, 2)))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_the_source_tiles_are_left_alone() -> None:
    tiles = draw_tiles(1, 2)
    before = tiles.clone()
    for name in ("none", "flips", "flips_colour"):
        draw = AUGMENTATIONS.build(name)
        apply_transform(tiles, draw(1, 2, 1.0, np.random.default_rng(0)), spec=SPEC)
    assert torch.equal(tiles, before)


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
    found = apply_transform(tiles, transform, spec=SPEC).permute(0, 2, 3, 1).numpy().reshape(3, 2, 6, 6, 3)
    for i in range(3):
        for j in range(2):
            turn = int(transform.turns[i, j])
            start = tiles[i, j].numpy()
            tile = np.rot90(start[:, ::-1] if turn >= 4 else start, turn % 4) / 255
            wanted = np.clip(tile @ transform.matrix[i].T + transform.offset[i], 0, 1)
            np.testing.assert_allclose(found[i, j], (wanted - SPEC.mean) / SPEC.std, atol=2e-5)


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
    tiles = draw_tiles(1, 2, side=side)
    found = apply_transform(tiles, identity_transform(1, 2), spec=fixed)
    assert found.shape == (2, 3, 16, 16)
    plain = tiles[0].permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(found, (tv.resize(plain, [16, 16], antialias=True) - 0.5) / 0.5, atol=1e-5, rtol=0)
    free = apply_transform(tiles, identity_transform(1, 2), spec=SPEC)
    assert free.shape == (2, 3, side, side)


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
    assert len(drawn) == len(batches)
    seen: list[int] = []
    for batch in drawn:
        assert batch.tiles.shape == (len(batch.targets), 4, TILE_PX, TILE_PX, 3)
        assert (batch.tiles.dtype, batch.targets.dtype) == (torch.uint8, torch.int64)
        assert len(batch.targets) <= batch_images
        for bag, target in zip(batch.tiles, batch.targets.tolist(), strict=True):
            assert (bag[..., 0] == target // 10).all()
            numbers = bag[:, 0, 0, 1]
            assert (bag[..., 1] == numbers[:, None, None]).all()  # a whole tile, not a mixture
            assert numbers.max() < BAG_TILES[target // 10]
            if BAG_TILES[target // 10] >= 4:
                assert len(numbers.unique()) == 4  # without replacement
            seen.append(target // 10)
    assert sorted(seen) == list(range(7))


def test_the_random_state_is_all_that_a_pass_depends_on(store: TileStore) -> None:
    def draw(seed: int) -> list[NDArray[np.uint8]]:
        return [b.tiles.numpy() for b in make_batches(store).draw(np.random.default_rng(seed))]

    first, again, other = draw(3), draw(3), draw(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    rng = np.random.default_rng(3)
    epochs = [[b.targets.tolist() for b in make_batches(store).draw(rng)] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_every_tile_is_drawn_in_the_long_run(store: TileStore) -> None:
    batches, rng = make_batches(store, tiles=2), np.random.default_rng(0)
    seen = {
        (int(t[0, 0, 0]), int(t[0, 0, 1])) for _ in range(60) for b in batches.draw(rng) for t in b.tiles.flatten(0, 1)
    }
    assert seen == {(i, n) for i, count in enumerate(BAG_TILES) for n in range(count)}


@given(count=st.integers(1, 60), size=st.integers(1, 20))
@settings(deadline=None, max_examples=80)
def test_batches_are_a_partition_without_a_lonely_image(count: int, size: int) -> None:
    batches = shuffle_batches(count, size, rng=np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-count // size)
    if size > 2 and count > 1:
        assert min(sizes) > 1


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
        list(map(lambda item: 1 // item, iterate_ahead(produce())))
    assert count_readers() == 0


def test_a_reader_that_is_never_asked_starts_no_thread() -> None:
    reader = iterate_ahead(iter(range(3)))
    assert count_readers() == 0
    del reader
