"""Near duplicates and shared masks: whatever was done to a copy it is found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.audit import audit_cohort, join_duplicates
from smalti.audit.compare.duplicates import NearPair, find_near_pairs
from smalti.audit.compare.overlay import overlay_textures
from smalti.audit.measure.digest import ImageDigest, digest_sample
from smalti.audit.measure.keypoints import describe_texture, mirror_texture
from smalti.audit.measure.outlines import describe_outline, find_near_outlines, measure_distance
from smalti.types import Cohort, Sample
from textures import draw_texture

Picture = NDArray[np.uint8]
HEIGHT, WIDTH = 420, 500
RNG = np.random.default_rng(5)


HAEMATOXYLIN, EOSIN = np.array((0.65, 0.70, 0.29)), np.array((0.27, 0.80, 0.40))  # density of red, green, blue


def draw_field(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Stroma, nuclei and lumina; all fields share their parameters."""
    rng = np.random.default_rng(seed)
    waves = cv2.resize(rng.normal(0, 1, (12, 15)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    eosin = np.clip(0.5 + 0.15 * waves, 0.1, 0.9).astype(np.float32)
    haematoxylin = np.full((height, width), 0.05, np.float32)
    for _ in range(700):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(3, 8)), int(rng.integers(3, 6)))
        cv2.ellipse(haematoxylin, centre, axes, float(rng.uniform(0, 180)), 0, 360, rng.uniform(0.7, 1.1), -1)
    for _ in range(8):
        centre, radius = (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(12, 30))
        cv2.circle(eosin, centre, radius, 0.02, -1)
        cv2.circle(haematoxylin, centre, radius, 0.02, -1)
    density = haematoxylin[..., None] * HAEMATOXYLIN + eosin[..., None] * EOSIN
    image = 250 * np.exp(-density) + rng.normal(0, 2, density.shape)
    return np.asarray(cv2.GaussianBlur(image.clip(0, 255).astype(np.uint8), (0, 0), 0.7), dtype=np.uint8)


def turn(image: Picture, degrees: float, border: int = cv2.BORDER_REFLECT) -> Picture:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    turned = cv2.warpAffine(image, matrix, (width, height), borderMode=border, borderValue=(255, 255, 255))
    return np.asarray(turned, dtype=np.uint8)


def crop(image: Picture, share: float, *, enlarge: bool = False) -> Picture:
    height, width = (round(n * share) for n in image.shape[:2])
    row, col = image.shape[0] - height, (image.shape[1] - width) // 3
    part = image[row : row + height, col : col + width]
    return resize(part, image.shape[1] / width) if enlarge else part


def resize(image: Picture, factor: float) -> Picture:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=way), dtype=np.uint8)


def compress(image: Picture, quality: int) -> Picture:
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


def shift_hue(image: Picture, by: int) -> Picture:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(int) + by) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)


def grey(image: Picture) -> Picture:
    return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def add_noise(image: Picture) -> Picture:
    return np.clip(image + RNG.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def paint(image: Picture, colour: tuple[int, int, int]) -> Picture:
    """Two blobs over a fifth of it."""
    painted = image.copy()
    cv2.circle(painted, (150, 140), 95, colour, -1)
    cv2.circle(painted, (370, 330), 70, colour, -1)
    return painted


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    **{
        f"quarter turns {k}{' mirrored' * m}": lambda i, k=k, m=m: np.rot90(i[:, ::-1] if m else i, k)  # type: ignore[misc]
        for k in range(4)
        for m in (0, 1)
        if (k, m) != (0, 0)
    },
    **{f"turned by {d}": lambda i, d=d: turn(i, d) for d in (5, -17, 30, 45)},  # type: ignore[misc]
    "turned over white": lambda i: turn(i, 20, cv2.BORDER_CONSTANT),
    **{f"cropped to {s}": lambda i, s=s: crop(i, s) for s in (0.9, 0.8, 0.7)},  # type: ignore[misc]
    "cropped and enlarged": lambda i: crop(i, 0.7, enlarge=True),
    "JPEG 60": lambda i: compress(i, 60),
    "JPEG 30": lambda i: compress(i, 30),
    "hue": lambda i: shift_hue(i, 70),
    "darker, less contrast": lambda i: (i * 0.5 + 20).astype(np.uint8),
    "gamma": lambda i: (255 * (i / 255) ** 2).astype(np.uint8),
    "grey": grey,
    "half size": lambda i: resize(i, 0.5),
    "enlarged": lambda i: resize(i, 1.5),
    "blurred": lambda i: np.asarray(cv2.GaussianBlur(i, (0, 0), 1.2), np.uint8),
    "noisy": add_noise,
    "painted": lambda i: paint(i, (20, 230, 60)),
    "painted white": lambda i: paint(i, (255, 255, 255)),
    "cropped and turned": lambda i: turn(crop(i, 0.8), 12),
    "painted and compressed": lambda i: compress(paint(i, (10, 60, 240)), 40),
    "mirrored, grey": lambda i: grey(i[:, ::-1]),
}


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Picture], ImageDigest]:
    folder = tmp_path_factory.mktemp("pictures")

    def make(name: str, picture: Picture) -> ImageDigest:
        return digest_sample(write_sample(folder, name, picture))

    return make


@pytest.fixture(scope="module")
def fields(digest: Callable[[str, Picture], ImageDigest]) -> list[ImageDigest]:
    return [digest(f"field{i:02}.png", draw_field(i)) for i in range(9)]


def write_sample(folder: Path, name: str, picture: Picture, label: str | None = "a") -> Sample:
    cv2.imwrite(str(folder / name), np.ascontiguousarray(picture[..., ::-1]))
    return Sample(name, folder / name, None, label, f"case {name}", name)


def name_pairs(pairs: tuple[NearPair, ...]) -> set[frozenset[str]]:
    return {frozenset(pair.images) for pair in pairs}


# --- pairs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(
    digest: Callable[[str, Picture], ImageDigest], fields: list[ImageDigest], change: str
) -> None:
    copy = digest("copy.png", CHANGES[change](draw_field(3)))
    (pair,) = find_near_pairs([*fields[1:5], copy])  # all nine among themselves: see the next test
    assert set(pair.images) == {"field03.png", "copy.png"}
    assert not pair.partial


@pytest.mark.slow
def test_order_changes_nothing(digest: Callable[[str, Picture], ImageDigest], fields: list[ImageDigest]) -> None:
    digests = [*fields, digest("x.png", turn(draw_field(1), 30)), digest("a.png", crop(draw_field(2), 0.7))]
    pairs = find_near_pairs(digests)
    assert name_pairs(pairs) == {frozenset({"field01.png", "x.png"}), frozenset({"field02.png", "a.png"})}
    shuffled = [digests[i] for i in np.random.default_rng(0).permutation(len(digests))]
    assert find_near_pairs(shuffled) == pairs


@pytest.mark.slow
@pytest.mark.parametrize("label", ["A", "B", "C"])
def test_textures_of_one_kind_are_no_copies_of_each_other(
    digest: Callable[[str, Picture], ImageDigest], label: str
) -> None:
    rng = np.random.default_rng(1)
    assert find_near_pairs([digest(f"{label}{i}.png", draw_texture(label, rng)) for i in range(12)]) == ()


@pytest.mark.slow
def test_a_shared_scale_bar_makes_no_pair(digest: Callable[[str, Picture], ImageDigest]) -> None:
    pictures = []
    for seed in range(6):
        picture = draw_field(100 + seed)
        cv2.rectangle(picture, (330, 370), (490, 410), (255, 255, 255), -1)
        cv2.putText(picture, "100 um x20", (340, 398), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
        pictures.append(digest(f"barred{seed}.png", picture))
    assert find_near_pairs(pictures) == ()


@pytest.mark.slow
def test_charts_of_one_layout_are_no_copies(digest: Callable[[str, Picture], ImageDigest]) -> None:
    rng = np.random.default_rng(2)
    charts = []
    for number in range(6):
        chart = np.full((400, 500, 3), 250, np.uint8)
        for bar in range(8):
            high = int(rng.integers(40, 300))
            cv2.rectangle(
                chart, (50 + 55 * bar, 350 - high), (85 + 55 * bar, 350), rng.integers(0, 230, 3).tolist(), -1
            )
        cv2.line(chart, (30, 350), (490, 350), (20, 20, 20), 3)
        cv2.line(chart, (30, 30), (30, 350), (20, 20, 20), 3)
        charts.append(digest(f"chart{number}.png", chart))
    assert find_near_pairs(charts) == ()


def test_neighbours_on_a_slide_are_no_copies_unless_they_overlap(
    digest: Callable[[str, Picture], ImageDigest],
) -> None:
    slide = draw_field(50, 420, 1250)
    apart = [digest(f"apart{i}.png", slide[:, 500 * i : 500 * i + 450]) for i in range(2)]
    assert find_near_pairs(apart) == ()
    half = digest("half.png", slide[:, 225:675])
    pairs = find_near_pairs([*apart, half])
    assert name_pairs(pairs) >= {frozenset({"apart0.png", "half.png"})}
    assert all(pair.partial for pair in pairs)
    (shared,) = (p.overlap_frac for p in pairs if "apart0.png" in p.images)
    assert shared == pytest.approx((0.5, 0.5), abs=0.03)


# --- the transformation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "factor"), [(0, 0.8), (25, 1.3), (-70, 1.0), (160, 0.7)])
def test_the_planted_matrix_is_found_again(degrees: float, factor: float) -> None:
    picture = draw_field(7)
    planted = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, factor)
    moved = np.asarray(cv2.warpAffine(picture, planted, (WIDTH, HEIGHT), borderMode=cv2.BORDER_CONSTANT), np.uint8)
    overlay = overlay_textures(describe_texture(moved), describe_texture(picture), least_matches=8)
    assert overlay is not None
    # Both have the same longer side, so the matrices differ in the unit of the shift alone, and by half a pixel.
    points = RNG.uniform(0.3, 0.7, (50, 2)) * (WIDTH, HEIGHT)
    expected = points @ planted[:, :2].T + planted[:, 2]
    found = (points / WIDTH) @ overlay.matrix[:, :2].T * WIDTH + overlay.matrix[:, 2] * WIDTH
    assert np.abs(found - expected).max() < 3


@pytest.mark.parametrize(("quarter", "mirrored"), [(1, False), (3, True), (0, True), (2, False)])
def test_turn_and_mirroring_are_told_from_either_side(
    digest: Callable[[str, Picture], ImageDigest], quarter: int, mirrored: bool
) -> None:
    picture = draw_field(8)
    copy = resize(np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirrored else picture, quarter)), 0.5)
    (pair,) = find_near_pairs([digest("a copy.png", copy), digest("source.png", picture)])
    assert pair.mirrored == mirrored
    scale, turn_deg = pair.lay("source.png")  # what was done
    assert scale == pytest.approx(0.5, abs=0.01)
    assert np.cos(np.radians(turn_deg - 90 * quarter)) > np.cos(np.radians(1))
    scale, turn_deg = pair.lay("a copy.png")  # and what undoes it, after mirroring again
    assert scale == pytest.approx(2, abs=0.04)
    assert np.cos(np.radians(turn_deg - (90 if mirrored else -90) * quarter)) > np.cos(np.radians(1))


def test_mirroring_a_texture_is_the_texture_of_the_mirrored_image() -> None:
    picture = draw_field(9)
    overlay = overlay_textures(
        mirror_texture(describe_texture(picture)), describe_texture(picture[:, ::-1].copy()), least_matches=8
    )
    assert overlay is not None
    assert overlay.matches > 100
    np.testing.assert_allclose(overlay.matrix, np.eye(2, 3), atol=0.01)


@pytest.mark.parametrize("picture", [np.full((1, 1, 3), 9), np.full((300, 40, 3), 250), np.zeros((2, 900, 3))])
def test_pictures_without_texture_have_no_points(picture: Picture) -> None:
    texture = describe_texture(picture.astype(np.uint8))
    assert len(texture.points) == len(texture.descriptors) == 0
    assert overlay_textures(texture, texture, least_matches=8) is None


# --- findings -----------------------------------------------------------------------------------------------------


def make_cohort(labelled: list[Sample], unlabelled: list[Sample]) -> Cohort:
    return Cohort(labelled[0].path.parent, "table", tuple(labelled), tuple(unlabelled), ("a", "b"))


def test_overlapping_fields_join_a_case_and_are_kept(tmp_path: Path) -> None:
    slide = draw_field(51, 420, 900)
    parts = {"left.png": "a", "right.png": "b"}
    samples = [
        write_sample(tmp_path, name, slide[:, 230 * i : 230 * i + 480], label)
        for i, (name, label) in enumerate(parts.items())
    ]
    cohort = make_cohort([*samples, write_sample(tmp_path, "other.png", draw_field(1))], [])
    names = ("near-duplicate", "overlapping-fields", "contradicting-labels")
    audit = audit_cohort(cohort, checks=names)
    (finding,) = audit.findings
    assert (finding.code, finding.images, finding.proposal) == ("overlapping-fields", ("right.png", "left.png"), "keep")
    assert finding.evidence["overlap_frac"] == pytest.approx(250 / 480, abs=0.03)
    assert {s.case for s in join_duplicates(cohort, audit.findings).labelled} == {"case left.png", "case other.png"}


def test_a_copy_in_the_test_part_and_a_contradiction_are_said(tmp_path: Path) -> None:
    picture = draw_field(2)
    labelled = [write_sample(tmp_path, "a.png", picture), write_sample(tmp_path, "b.png", turn(picture, 9), "b")]
    cohort = make_cohort(labelled, [write_sample(tmp_path, "t.png", crop(picture, 0.9), None)])
    findings = audit_cohort(cohort, checks=("near-duplicate", "contradicting-labels")).findings
    near = {f.images[0]: f for f in findings if f.code == "near-duplicate"}
    assert near.keys() == {"b.png", "t.png"}
    assert set(near["t.png"].images) == {"t.png", "a.png", "b.png"}
    assert "unlabelled part: t.png" in near["t.png"].message
    assert near["t.png"].proposal == "keep"
    assert "contradict each other: a, b" in near["b.png"].message
    contradicting = {f.images[0] for f in findings if f.code == "contradicting-labels"}
    assert contradicting == {"a.png", "b.png"}


def test_of_two_copies_the_larger_is_kept(tmp_path: Path) -> None:
    picture = draw_field(4)
    small, large = write_sample(tmp_path, "a.png", resize(picture, 0.6)), write_sample(tmp_path, "b.png", picture)
    (finding,) = audit_cohort(make_cohort([small, large], []), checks=("near-duplicate",)).findings
    assert finding.images == ("a.png", "b.png")


# --- masks --------------------------------------------------------------------------------------------------------


def draw_mask(seed: int, side: int = 400) -> Picture:
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    for _ in range(6):
        centre, axes = rng.integers(60, side - 60, 2).tolist(), rng.integers(20, 55, 2).tolist()
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    return mask


MASK_CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "shifted": lambda m: np.roll(m, 1, axis=0),
    "resized": lambda m: np.asarray(cv2.resize(m, (530, 470), interpolation=cv2.INTER_NEAREST), np.uint8),
    "JPEG": lambda m: (compress(np.repeat(255 * m[..., None], 3, axis=2), 30)[..., 0] > 127).astype(np.uint8),
}


def test_the_distance_of_outlines_is_that_of_discs() -> None:
    rows, cols = np.mgrid[:1000, :1000] - 499.5
    discs = [describe_outline((np.hypot(rows, cols) < radius).astype(np.uint8)) for radius in (300, 310)]
    assert measure_distance(*discs) == pytest.approx(0.010, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("change", MASK_CHANGES)
def test_nearly_the_same_mask_on_another_field_is_found(tmp_path: Path, change: str) -> None:
    masks = {f"{i}.png": draw_mask(i) for i in range(6)} | {"copy.png": MASK_CHANGES[change](draw_mask(2))}
    samples = []
    for i, (name, mask) in enumerate(masks.items()):
        sample = write_sample(tmp_path, name, resize(draw_field(30 + i), 1)[: mask.shape[0], : mask.shape[1]])
        cv2.imwrite(str(tmp_path / f"mask_{name}"), 255 * mask)
        samples.append(replace(sample, mask_path=tmp_path / f"mask_{name}"))
    findings = audit_cohort(make_cohort(samples, []), checks=("shared-mask",)).findings
    assert {f.images for f in findings} == {("2.png", "copy.png"), ("copy.png", "2.png")}
    assert {f.proposal for f in findings} == {"exclude"}


def test_outlines_of_other_glands_are_not_near() -> None:
    assert find_near_outlines([describe_outline(draw_mask(i)) for i in range(40)]) == []


@pytest.mark.slow
def test_a_full_mask_and_one_of_specks_are_told_where_others_are_not(tmp_path: Path) -> None:
    specks = (np.random.default_rng(0).random((400, 400)) < 0.2).astype(np.uint8)
    masks = [*(draw_mask(i) for i in range(4)), np.ones((400, 400), np.uint8), specks]
    samples = []
    for i, mask in enumerate(masks):
        sample = write_sample(tmp_path, f"{i}.png", draw_field(i)[:400, :400])
        cv2.imwrite(str(tmp_path / f"mask_{i}.png"), 255 * mask)
        samples.append(replace(sample, mask_path=tmp_path / f"mask_{i}.png"))
    findings = audit_cohort(make_cohort(samples, []), checks=("implausible-mask",)).findings
    assert [f.images for f in findings] == [("4.png",), ("5.png",)]
    assert {f.proposal for f in findings} == {"keep"}
    full = [replace(s, mask_path=samples[4].mask_path) for s in samples]
    assert audit_cohort(make_cohort(full, []), checks=("implausible-mask",)).findings == ()
