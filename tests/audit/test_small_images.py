"""Small images: what is planted among them is found, and what they cannot show is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.audit import Audit, audit_cohort
from smalti.audit.compare.overlay import LEAST_LIKENESS, match_points, root_descriptors
from smalti.audit.measure.digest import digest_sample
from smalti.audit.measure.keypoints import describe_texture
from smalti.images import hash_image
from smalti.recipe import Tile
from smalti.tile.cut import cut_bag
from smalti.tissue.appearance import BLACK, PATCH_PX, PATCHES, measure_appearance
from smalti.tissue.vahadane import SPARSITY, solve_amounts
from smalti.types import Cohort, Sample

Picture = NDArray[np.uint8]
SIDE_PX = 50
HAEMATOXYLIN, EOSIN = np.array((0.65, 0.70, 0.29)), np.array((0.27, 0.80, 0.40))


def draw_tile(seed: int, side_px: int = SIDE_PX) -> Picture:
    """Some nuclei of 5 to 10 px on uneven stroma."""
    rng = np.random.default_rng(seed)
    size = (side_px, side_px)
    eosin = np.clip(0.5 + 0.15 * cv2.resize(rng.normal(0, 1, (5, 5)), size, interpolation=cv2.INTER_CUBIC), 0.1, 0.9)
    haematoxylin = np.full(size, 0.05)
    for _ in range(side_px**2 // 80):
        centre, axes = rng.integers(side_px, size=2).tolist(), rng.integers(2, 6, 2).tolist()
        cv2.ellipse(haematoxylin, centre, axes, float(rng.uniform(0, 180)), 0, 360, rng.uniform(0.5, 1.1), -1)
    density = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
    return (250 * np.exp(-density) + rng.normal(0, 3, density.shape)).clip(0, 255).astype(np.uint8)


def audit_pictures(folder: Path, pictures: dict[str, Picture], *, checks: tuple[str, ...] | None = None) -> Audit:
    samples = []
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / name), np.ascontiguousarray(picture[..., ::-1]))
        samples.append(Sample(name, folder / name, None, "ab"[len(samples) % 2], name, name))
    return audit_cohort(Cohort(folder, "table", tuple(samples), (), ("a", "b")), checks=checks)


@pytest.mark.slow
def test_what_is_planted_among_small_images_is_found_and_nothing_else(tmp_path: Path) -> None:
    tiles = {f"{i:02}.png": draw_tile(i) for i in range(40)}
    stripes = np.indices((SIDE_PX, SIDE_PX)).sum(axis=0)[..., None] // 6 % 2 * np.array([10, 200, 40])
    planted = {
        "same.png": tiles["03.png"],
        "turned.png": np.rot90(tiles["05.png"]),
        "mirrored.png": tiles["07.png"][:, ::-1],
        "cropped.png": tiles["09.png"][4:, 3:48],
        "glass.png": (244 + np.random.default_rng(0).normal(0, 1.5, (SIDE_PX, SIDE_PX, 3))).astype(np.uint8),
        "chart.png": (stripes + 20).astype(np.uint8),
    }
    audit = audit_pictures(tmp_path, tiles | planted)
    found: dict[str, set[frozenset[str]]] = {}
    for finding in audit.findings:
        found.setdefault(finding.code, set()).add(frozenset(finding.images))
    assert found["exact-duplicate"] == {frozenset({"same.png", "03.png"})}
    copies = {"turned.png": "05.png", "mirrored.png": "07.png", "cropped.png": "09.png"}
    assert found["near-duplicate"] == {frozenset(pair) for pair in copies.items()}
    assert found["blank"] == {frozenset({"glass.png"})}
    assert found["foreign"] == {frozenset({"chart.png"})}
    assert "overlapping-fields" not in found
    assert "focus" not in found


@pytest.mark.slow
def test_what_tiny_images_cannot_show_is_not_applicable_and_what_they_can_is_found(tmp_path: Path) -> None:
    tiles = {f"{i:02}.png": draw_tile(i) for i in range(20)}
    tiny = {f"tiny{i}.png": draw_tile(100 + i, 12) for i in range(3)}
    audit = audit_pictures(
        tmp_path,
        tiles | tiny | {"again.png": tiny["tiny0.png"]},
        checks=("exact-duplicate", "near-duplicate", "overlapping-fields", "focus"),
    )
    assert [set(f.images) for f in audit.findings] == [{"again.png", "tiny0.png"}]
    words = "not applicable for 4 of 24 images: a side is below 16 px"
    assert str(audit.outcomes["exact-duplicate"]) == "1 found"
    assert [str(audit.outcomes[c]) for c in ("near-duplicate", "overlapping-fields", "focus")] == 3 * [
        f"nothing found; {words}"
    ]


@pytest.mark.parametrize(("side_px", "most_px"), [(20, 100), (50, 100), (64, 128), (128, 256), (400, 256)])
def test_the_copy_that_is_looked_at_follows_the_image(tmp_path: Path, side_px: int, most_px: int) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), draw_tile(1, side_px))
    digest = digest_sample(Sample("a.png", tmp_path / "a.png", None, "a", "a", "0"))
    assert digest.thumbnail.shape == (min(side_px, 128), min(side_px, 128), 3)
    assert max(digest.texture.light.shape) == min(192, most_px)
    assert 0 < len(digest.texture.points) <= min(300, most_px**2 // 128)


@pytest.mark.parametrize("size", [(50, 50), (50, 61), (200, 340), (384, 384), (700, 900)])
def test_overlapping_samples_count_as_if_each_were_looked_at(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[1])
    picture = np.array((200, 90, 160), np.uint8) - rng.integers(0, 12, (*size, 3), dtype=np.uint8)
    picture[rng.random(size) < 0.1] = BLACK
    picture[: size[0] // 3, : size[1] // 3] = (200, 90, 160)  # even
    crushed, even, stained = 0.0, 0.0, 0.0
    starts = [np.linspace(0, n - PATCH_PX, PATCHES).round().astype(int) for n in size]
    flat = np.all(picture == (200, 90, 160), axis=2)
    alike = cv2.erode(flat.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    black = (picture <= BLACK).sum(axis=2) >= 2
    for row in starts[0]:
        for col in starts[1]:
            patch = np.s_[row : row + PATCH_PX, col : col + PATCH_PX]
            crushed += float(black[patch].mean()) / PATCHES**2
            inner = np.s_[row + 1 : row + PATCH_PX - 1, col + 1 : col + PATCH_PX - 1]
            even, stained = even + alike[inner].sum(), stained + (~black[inner]).sum()
    look = measure_appearance(picture)
    assert look.crushed_frac == pytest.approx(crushed, abs=1e-12)
    found = 1 - (1 - look.grainless_frac) / (1 - look.off_colour_frac)
    assert found == pytest.approx(even / stained, abs=1e-12)  # all but black is stained here


def test_points_of_many_pairs_match_as_those_of_each_alone() -> None:
    textures = [describe_texture(draw_tile(seed, side_px)) for seed, side_px in enumerate((50, 50, 90, 33, 12))]
    pairs = [(first, second) for first in textures for second in textures]
    for (first, second), (mine, theirs) in zip(pairs, match_points(pairs), strict=True):
        likeness = root_descriptors(first.descriptors) @ root_descriptors(second.descriptors).T
        expected = [
            (i, j)
            for i, j in np.argwhere(likeness > LEAST_LIKENESS).tolist()
            if likeness[i].argmax() == j and likeness[:, j].argmax() == i
        ]
        assert list(zip(mine.tolist(), theirs.tolist(), strict=True)) == expected


def test_amounts_are_the_best_of_all_that_are_not_negative() -> None:
    rng = np.random.default_rng(3)
    stains = np.abs(rng.normal(size=(3, 2)))
    stains /= np.linalg.norm(stains, axis=0)
    densities = rng.normal(0.2, 0.5, (60, 3))
    grid = np.stack(np.meshgrid(np.linspace(0, 2.5, 251), np.linspace(0, 2.5, 251)), axis=-1).reshape(-1, 2)

    def cost(density: NDArray[np.float64], amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((density - amounts @ stains.T) ** 2).sum(axis=-1) / 2 + SPARSITY * amounts.sum(axis=-1)

    for density, amounts in zip(densities, solve_amounts(densities, stains), strict=True):
        assert (amounts >= 0).all()
        assert cost(density, amounts) <= cost(density, grid).min() + 1e-12


def test_the_stain_of_a_small_image_comes_from_no_more_pixels_than_it_has(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), draw_tile(4))
    sample = Sample("a.png", tmp_path / "a.png", None, "a", "a", "0")
    bag = cut_bag(sample, Tile(), tile_px=224, hashes={sample.path: hash_image(sample.path)})
    assert bag.pixels.shape == (1, 224, 224, 3)
    assert SIDE_PX**2 / 2 < len(bag.choose_tissue()) <= SIDE_PX**2
