"""Stains against drawn mixtures of known stains and against torchstain; references and maps by their invariances."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation
from sklearn.decomposition import sparse_encode
from torchstain.base.normalizers import MacenkoNormalizer

from smalti import recipe
from smalti.demo.field import TissuePlan, draw_tissue
from smalti.demo.planted import draw_blank, paint_slime
from smalti.samples import AUGMENTATIONS, apply_map, apply_transform, combine_frames, fit_maps, match_axes, solve_map
from smalti.samples.augment import identity_transform
from smalti.store import read_json
from smalti.tile import build_store
from smalti.tissue import KINDS, STAINS
from smalti.tissue.density import LEAST_DENSITY, LIGHT, STAIN_DENSITY
from smalti.tissue.frames import find_stains, make_frame
from smalti.tissue.stainable import judge_pixels, judge_tile, measure_frame
from smalti.tissue.vahadane import SPARSITY, factorise, solve_amounts
from smalti.types import Cohort, Sample
from smalti.workflow import run
from smalti.workflow.prepare.staining import describe_left
from textures import BARE

HAEMATOXYLIN, EOSIN = (0.651, 0.701, 0.290), (0.216, 0.801, 0.558)
METHODS = ("macenko", "vahadane", "reinhard")
Floats = NDArray[np.float64]


def unit(vectors: Any) -> Floats:
    vectors = np.asarray(vectors, dtype=float)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=0))


def mix(stains: Floats, count: int = 40_000, *, seed: int = 0, noise: float = 0.0) -> NDArray[np.uint8]:
    """Pixels (n, 3) of random amounts of two stains, by Beer and Lambert; some of each stain alone."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(3, 0.3, (count, 2))
    amounts[: count // 5, 0] = amounts[count // 5 : count * 2 // 5, 1] = 0
    light = LIGHT * np.exp(-amounts @ stains.T) - 1 + rng.normal(0, noise, (count, 3))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def density(pixels: NDArray[np.uint8]) -> Floats:
    """By the formula, not by the table."""
    return -np.log((pixels.reshape(-1, 3).astype(float) + 1) / 240)


def stained(pixels: NDArray[np.uint8]) -> Floats:
    found = density(pixels)
    return found[(found >= LEAST_DENSITY).all(axis=1)]


def draw_tile(seed: int, laboratory: int = 0) -> NDArray[np.uint8]:
    plan = TissuePlan((seed,), (seed, 1), (224, 224), "HER2(+)", laboratory)
    return draw_tissue(plan)[0]


def measure_angle(first: Floats, second: Floats) -> float:
    return float(np.degrees(np.arccos(np.clip(unit(first) @ unit(second), -1, 1))))


def test_densities_follow_the_formula() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    np.testing.assert_allclose(STAIN_DENSITY, density(levels)[:, 0], atol=1e-6)


@pytest.mark.parametrize("method", ["macenko", "vahadane"])
@pytest.mark.parametrize("turn", [0.0, 12.0])
def test_known_stains_are_found_in_their_mixtures(method: str, turn: float) -> None:
    about_grey = Rotation.from_rotvec(np.radians(turn) * np.ones(3) / np.sqrt(3)).as_matrix()
    stains = unit(np.abs(about_grey @ unit(np.transpose([HAEMATOXYLIN, EOSIN]))))
    frame = STAINS.build(method)(stained(mix(stains, noise=1.0)))
    for k in range(2):
        assert measure_angle(frame[:, k], stains[:, k]) < 4
    assert abs(frame[:, 2] @ stains).max() < 0.1


def test_the_plane_does_not_depend_on_where_the_pixels_lie_in_it() -> None:
    """Only thick tissue: the covariance sees little of the stains, the plane through white still does."""
    stains = unit(np.transpose([HAEMATOXYLIN, EOSIN]))
    rng = np.random.default_rng(0)
    amounts = 1.5 + rng.normal(0, 0.05, (20_000, 2)) @ np.array([[1, -1], [0, 0.1]])
    seen = amounts @ stains.T + rng.normal(0, 0.04, (20_000, 3))
    normals = [np.cross(*find_stains(seen, centred=centred).T) for centred in (False, True)]
    through, centred = (90 - abs(90 - measure_angle(n, np.cross(*stains.T))) for n in normals)
    assert through < 3 < centred


def test_signs_of_eigenvectors_play_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = stained(draw_tile(3))
    plain, eigh = find_stains(seen), np.linalg.eigh
    for signs in np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).reshape(3, -1).T:
        monkeypatch.setattr(np.linalg, "eigh", lambda a, signs=signs: (eigh(a)[0], eigh(a)[1] * signs))
        np.testing.assert_allclose(find_stains(seen), plain, atol=1e-9)


@pytest.mark.parametrize("laboratory", [0, 1, 2])
def test_macenko_agrees_with_torchstain(laboratory: int) -> None:
    """With its conventions: centred plane, strengths of all pixels, nothing kept of what is neither stain."""
    theirs = MacenkoNormalizer(backend="numpy")
    target = draw_tile(100)
    theirs.fit(target)
    reference = make_frame(find_stains(stained(target), centred=True), density(target))
    reference[:, 2] = 0
    np.testing.assert_allclose(unit(reference[:, :2]), theirs.HERef, atol=1e-9)
    for seed in range(5):
        tile = draw_tile(seed, laboratory)
        source = make_frame(find_stains(stained(tile), centred=True), density(tile))
        ours = apply_map(tile, solve_map(source, reference).astype(np.float32))
        expected, _, _ = theirs.normalize(tile, stains=False)
        assert np.abs(ours.astype(int) - expected).max() <= 1


def test_amounts_are_those_of_the_sparse_coding_of_scikit_learn() -> None:
    seen = stained(mix(unit(np.transpose([HAEMATOXYLIN, EOSIN])), 400, noise=3))
    stains = unit(np.transpose([HAEMATOXYLIN, EOSIN]))
    theirs = sparse_encode(seen, stains.T, algorithm="lasso_cd", alpha=SPARSITY, positive=True, max_iter=100_000)
    np.testing.assert_allclose(solve_amounts(seen, stains), theirs, atol=1e-3)


def test_factorising_does_not_end_above_other_starts() -> None:
    seen = stained(draw_tile(1))[:4000]

    def lose(stains: Floats) -> float:
        amounts = solve_amounts(seen, stains)
        return float(((seen - amounts @ stains.T) ** 2).sum() / 2 + SPARSITY * amounts.sum())

    rng = np.random.default_rng(0)
    found = lose(factorise(seen, start=find_stains(seen)))
    others = [lose(factorise(seen, start=unit(rng.uniform(0, 1, (3, 2))))) for _ in range(5)]
    assert found <= min(others) * 1.002
    assert found <= lose(find_stains(seen))


@pytest.mark.parametrize("method", METHODS)
def test_an_image_that_is_the_reference_stays_as_it_is(method: str) -> None:
    tile = draw_tile(5)
    frame = STAINS.build(method)(stained(tile))
    stain_map = solve_map(frame, frame)
    np.testing.assert_array_equal(stain_map, np.eye(3, 4))
    assert apply_map(tile, stain_map.astype(np.float32)) is tile
    nearly = solve_map(frame, frame * (1 + 1e-12)).astype(np.float32)
    np.testing.assert_array_equal(apply_map(tile, nearly), tile)


@pytest.mark.parametrize("method", METHODS)
def test_a_stain_that_was_changed_is_undone(method: str) -> None:
    """Thicker sections and other dyes make another frame of the same amounts."""
    rng = np.random.default_rng(0)
    seen = stained(draw_tile(2))
    estimate = STAINS.build(method)
    reference = estimate(seen)
    for _ in range(5):
        if method == "reinhard":  # exact for a factor and a shift along its axes
            changed = seen * rng.uniform(0.7, 1.4) + rng.uniform(-0.1, 0.1)
            tolerance = 1e-9
        else:
            other = reference.copy()
            other[:, :2] *= rng.uniform(0.7, 1.4, 2)
            changed = seen @ solve_map(reference, other)[:, :3].T
            tolerance = 0.03 if method == "vahadane" else 0.01
        back = solve_map(estimate(changed), reference)
        np.testing.assert_allclose(changed @ back[:, :3].T + back[:, 3], seen, atol=tolerance * seen.max())


def test_reinhard_gives_the_means_and_spreads_of_the_reference() -> None:
    target, tile = stained(draw_tile(1)), stained(draw_tile(2, 1))
    estimate = STAINS.build("reinhard")
    stain_map = solve_map(estimate(tile), estimate(target))
    moved = tile @ stain_map[:, :3].T + stain_map[:, 3]
    opponent = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
    for statistic in (np.mean, np.std):
        np.testing.assert_allclose(statistic(moved @ opponent.T, axis=0), statistic(target @ opponent.T, axis=0))


def test_a_map_is_applied_as_the_formula_says() -> None:
    tile = draw_tile(7)
    stain_map = np.array([[0.9, 0.1, 0.05, 0.02], [0.0, 1.2, 0.0, -0.05], [0.1, -0.05, 1.0, 0.0]])
    light = 240 * np.exp(-(density(tile) @ stain_map[:, :3].T + stain_map[:, 3])) - 1
    expected = np.clip(light, 0, 255).reshape(tile.shape)
    assert np.abs(apply_map(tile, stain_map.astype(np.float32)) - expected).max() <= 0.51


def test_normalisation_and_augmentation_are_one_map() -> None:
    source, target = (STAINS.build("macenko")(stained(draw_tile(s, lab))) for s, lab in ((1, 0), (2, 1)))
    amounts = np.array([[0.8, 0.05], [1.3, -0.02], [1.1, 0.01]])
    first, second = solve_map(source, target), solve_map(target, target, amounts=amounts)
    both = solve_map(source, target, amounts=amounts)
    np.testing.assert_allclose(both[:, :3], second[:, :3] @ first[:, :3])
    np.testing.assert_allclose(both[:, 3], second[:, :3] @ first[:, 3] + second[:, 3])
    found = (np.linalg.inv(target[:, :3]) @ (both[:, :3] @ source[:, :3])).diagonal()
    np.testing.assert_allclose(found, amounts[:, 0])


def test_an_odd_quarter_of_the_images_does_not_move_the_reference_far() -> None:
    rng = np.random.default_rng(0)
    plain = STAINS.build("macenko")(stained(draw_tile(1)))
    frames = plain * rng.uniform(0.97, 1.03, (12, 3, 4))
    odd = np.concatenate([frames, np.repeat(plain[None, ::-1] * 3, 4, axis=0)])
    clean, spoilt = (combine_frames(f, [f"c{i}" for i in range(len(f))]) for f in (frames, odd))
    assert clean is not None
    assert spoilt is not None
    np.testing.assert_allclose(spoilt, clean, atol=0.05 * np.abs(plain).max())


def test_each_case_counts_once_and_the_order_does_not_matter() -> None:
    frames = np.stack([STAINS.build("macenko")(stained(draw_tile(s, s % 3))) for s in range(5)])
    many = np.concatenate([frames, np.repeat(frames[:1], 20, axis=0)])
    cases = [*"abcde", *"a" * 20]
    few = combine_frames(frames, "abcde")
    assert few is not None
    np.testing.assert_allclose(combine_frames(many, cases), few, atol=1e-6)
    np.testing.assert_allclose(combine_frames(frames[::-1], "edcba"), few, atol=1e-9)
    unknown = np.full((1, 3, 4), np.nan)
    np.testing.assert_array_equal(combine_frames(np.concatenate([frames, unknown]), "abcdef"), few)
    assert combine_frames(unknown, "a") is None


def test_stains_whose_order_is_doubtful_follow_the_reference() -> None:
    frame = STAINS.build("macenko")(stained(draw_tile(1)))
    swapped = frame[:, [1, 0, 2, 3]]
    np.testing.assert_array_equal(match_axes(np.stack([swapped, frame]), frame), np.stack([frame, frame]))


def draw_odd(kind: str) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    tissue = draw_tile(1)
    if kind == "blank":
        return draw_blank(rng, (224, 224))[0]
    if kind == "grey":
        return np.repeat(cv2.cvtColor(tissue, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if kind == "painted":
        return paint_slime(rng, tissue)
    return np.full((224, 224, 3), (0, 255, 60), np.uint8) if kind == "neon" else np.full((224, 224, 3), 255, np.uint8)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("blank", "blank"), ("grey", "grey"), ("painted", "painted"), ("neon", "painted"), ("white", "blank")],
)
def test_what_has_no_stain_is_told(kind: str, reason: str) -> None:
    picture = draw_odd(kind)
    assert KINDS[judge_tile(picture)] == reason
    frame, number = measure_frame(picture.reshape(-1, 3), "macenko")
    assert KINDS[number] == reason
    assert np.isnan(frame).all()


@pytest.mark.parametrize("laboratory", [0, 1, 2])
def test_tissue_has_a_stain(laboratory: int) -> None:
    for seed in range(4):
        assert judge_tile(draw_tile(seed, laboratory)) == 0
    jpeg = cv2.imdecode(cv2.imencode(".jpg", draw_tile(9), [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    assert judge_pixels(np.asarray(jpeg, np.uint8).reshape(-1, 3)) == 0


def test_one_stain_alone_is_singular() -> None:
    one = np.repeat(unit(HAEMATOXYLIN)[:, None], 2, axis=1)
    for method in ("macenko", "vahadane"):
        frame, kind = measure_frame(mix(one), method)
        assert kind == 0
        assert np.isnan(frame).all()


def make_cohort(folder: Path, pictures: dict[str, NDArray[np.uint8]]) -> Cohort:
    folder.mkdir(parents=True)
    samples = []
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
        samples.append(Sample(name, folder / name, None, "a", name, name))
    return Cohort(folder, "table", tuple(samples), (), ("a",))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Five tissue images of three laboratories, 0 to 4, then a grey and a painted one, and one that is half glass."""
    root = tmp_path_factory.mktemp("stain")
    half = draw_tile(8).copy()
    half[:112] = 244
    pictures = [*(draw_tile(s, s % 3) for s in range(5)), draw_odd("grey"), draw_odd("painted"), half]
    cohort = make_cohort(root / "data", {f"i{n}.png": p for n, p in enumerate(pictures)})
    return build_store(cohort, recipe.Tile(max_tiles=None, min_coverage=0.0), tile_px=56, cache=root / "cache")


@pytest.mark.parametrize("method", METHODS)
def test_images_and_tiles_without_a_stain_pass_through_and_are_counted(store: Any, method: str) -> None:
    maps = fit_maps(store, method, bags=np.arange(4), cases="aabc")
    tiles = store.read_rows(0, len(store))
    seen = maps.restain(tiles, 0)
    images, kinds = maps.find_left(np.arange(8))
    assert images == {"i5.png": "grey", "i6.png": "painted"}
    assert kinds.get("blank", 0) >= 8
    changed = (seen != tiles).any(axis=(1, 2, 3))
    for image in (5, 6):
        assert not changed[store.rows(image)].any()
    assert changed[store.rows(0)].all()
    half = changed[store.rows(7)]
    assert not half[:8].any()
    assert half[8:].any()


def test_nothing_is_done_unless_asked(store: Any) -> None:
    maps = fit_maps(store, "none", bags=np.arange(4), cases="aabc")
    tiles = store.read_rows(0, 6)
    assert maps.key == ""
    assert maps.restain(tiles, 0) is tiles


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_reference_ignores_what_is_held_out(method: str, tmp_path: Path) -> None:
    pictures = {f"i{n}.png": draw_tile(n, n % 3) for n in range(5)}
    changed = pictures | {"i4.png": draw_tile(50, 2)}
    references = []
    for name, drawn in (("plain", pictures), ("changed", changed)):
        cohort = make_cohort(tmp_path / name, drawn)
        tiles = build_store(cohort, recipe.Tile(), tile_px=112, cache=tmp_path / "cache")
        references.append(fit_maps(tiles, method, bags=np.arange(4), cases="abcd").reference)
    np.testing.assert_array_equal(*references)
    other = fit_maps(tiles, method, bags=np.arange(5), cases="abcde").reference
    assert not np.array_equal(other, references[1])


@pytest.mark.slow
@pytest.mark.parametrize(("tile", "tile_px"), [(recipe.Tile(), 224), (recipe.Tile(within="tissue"), 56)])
def test_the_reference_is_made_of_the_mask_alone(tile: recipe.Tile, tile_px: int, tmp_path: Path) -> None:
    """Another stain outside the mask changes nothing, inside the same tiles or in tiles of its own."""
    mask = np.zeros((224, 224), np.uint8)
    mask[:, :112] = 255
    left, right = draw_tile(1, 0), draw_tile(2, 1)
    found = []
    for name, outside in (("one", draw_tile(3, 0)), ("two", right)):
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(np.where(mask[..., None] > 0, left, outside)).save(folder / "i.png")
        Image.fromarray(mask).save(folder / "mask.png")
        sample = Sample("i.png", folder / "i.png", folder / "mask.png", "a", "a", "i")
        cohort = Cohort(folder, "table", (sample,), (), ("a",))
        tiles = build_store(cohort, tile, tile_px=tile_px, cache=tmp_path / "cache")
        found.append([tiles.read_staining(entry.name).frames for entry in STAINS])
    np.testing.assert_array_equal(*found)


def test_stains_are_looked_at_when_a_tile_changes_and_once(store: Any) -> None:
    for path in store.folder.glob("stain-*.npz"):
        path.unlink()
    maps = fit_maps(store, "none", bags=np.arange(4), cases="abcd")
    assert maps.solve(np.zeros((1, 1), np.int64)) is None
    assert not list(store.folder.glob("stain-*.npz"))
    amounts = np.full((1, 3, 2), 1.1)
    first = maps.solve(np.zeros((1, 1), np.int64), amounts)
    (path,) = store.folder.glob("stain-*.npz")
    kept = path.stat().st_mtime_ns
    again = fit_maps(store, "none", bags=np.arange(4), cases="abcd").solve(np.zeros((1, 1), np.int64), amounts)
    np.testing.assert_array_equal(first, again)
    assert path.stat().st_mtime_ns == kept


@pytest.mark.parametrize("normalise", ["none", "macenko"])
def test_stain_augmentation(store: Any, normalise: str) -> None:
    maps = fit_maps(store, normalise, bags=np.arange(4), cases="abcd")
    draw = AUGMENTATIONS.build("flips_stain")
    rows = np.stack([np.arange(3) + store.starts[bag] for bag in (0, 1, 5)])
    tiles = store.read_tiles(rows.ravel()).reshape(3, 3, 56, 56, 3)
    weak, strong = (draw(3, 3, strength, np.random.default_rng(0)) for strength in (0.0, 1.0))
    still = apply_transform(tiles, replace(weak, turns=weak.turns * 0), maps=maps.solve(rows, weak.amounts))
    plain = apply_transform(tiles, identity_transform(3, 3), maps=maps.solve(rows))
    np.testing.assert_array_equal(still, plain)
    if normalise == "none":
        np.testing.assert_array_equal(plain, tiles)
    varied = apply_transform(tiles, replace(strong, turns=strong.turns * 0), maps=maps.solve(rows, strong.amounts))
    difference = np.abs(varied.astype(float) - plain).mean(axis=(1, 2, 3, 4))
    assert (difference[:2] > 2).all()
    assert difference[2] == 0  # grey
    assert np.abs(strong.amounts[..., 0] - 1).max() <= 0.4


@pytest.mark.parametrize(
    ("images", "tiles", "words"),
    [
        ({}, {}, "all 85 images were normalised, with all their tiles."),
        (
            {"a": "blank", "b": "painted", "c": "blank"},
            {"grey": 2},
            "3 of 85 images were left as they are: 2 blank, 1 painted; so were 2 tiles of the other images: 2 grey.",
        ),
        ({}, {"blank": 7}, "0 of 85 images were left as they are; so were 7 tiles of the other images: 7 blank."),
    ],
)
def test_what_was_left_is_said_in_words(images: dict[str, str], tiles: dict[str, int], words: str) -> None:
    assert describe_left(images, tiles, total=85) == words


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_run_normalises_each_fold_to_its_own_reference(challenge: Path, tmp_path: Path) -> None:
    settings = [*BARE, "train.finetune.epochs=1", "stain.normalise=macenko", "train.finetune.augmentation=flips_stain"]
    result = run(challenge, "default", settings=settings, runs=tmp_path / "runs", name="one")
    recorded = read_json(result.path / "stain.json")
    references = recorded["references"]
    assert set(references) == {"fold0-seed0", "fold1-seed0"}
    assert references["fold0-seed0"] != references["fold1-seed0"]
    assert recorded["summary"] in (result.path / "events.log").read_text(encoding="utf-8")
    again = run(challenge, "default", settings=settings, runs=tmp_path / "again", name="one")
    scored = [(r.path / "predictions" / "test.csv").read_text() for r in (result, again)]
    assert scored[0] == scored[1]
