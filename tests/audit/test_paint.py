"""Paint and ink: found whatever its colour and place, outlined, and never seen in stain alone."""

from __future__ import annotations

import colorsys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.audit import audit_cohort
from smalti.audit.checks.artefacts import name_colour
from smalti.audit.measure.polygons import draw_outlines
from smalti.audit.measure.spots import summarise_colours
from smalti.tile.repair import draw_outline
from smalti.tissue.density import DENSITY
from smalti.tissue.gamut import count_densities, measure_distance, measure_excess
from smalti.types import Cohort, Finding, Repair, Sample

Picture = NDArray[np.uint8]
STAINS = {"a": ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)), "b": ((0.49, 0.77, 0.41), (0.10, 0.73, 0.56))}
HUES = tuple(range(0, 360, 30))


def draw_tissue(seed: int, *, lab: str = "a", height: int = 240, width: int = 320) -> Picture:
    """Two stains, mixed by Beer and Lambert: stroma, nuclei, holes, and the noise of a camera."""
    rng = np.random.default_rng(seed)
    waves = cv2.resize(rng.normal(0, 1, (24, 32)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    nuclei, holes = np.zeros((2, height, width), np.float32)
    for target, count, low, high in ((nuclei, 300, 2, 6), (holes, 5, 8, 20)):
        for _ in range(count):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.circle(target, centre, int(rng.integers(low, high)), float(rng.uniform(0.6, 1)), -1, cv2.LINE_AA)
    solid = 1 - np.minimum(holes, 1)
    amounts = np.stack([(0.1 + 0.5 * nuclei) * solid, (0.25 + 0.06 * waves) * solid], axis=2)
    light = 250 * 10 ** -(np.maximum(amounts, 0) @ np.array(STAINS[lab]))
    return np.clip(np.rint(light + rng.normal(0, 3, light.shape)), 0, 255).astype(np.uint8)


def spin_colour(hue: int, *, saturation: float = 1.0, value: float = 1.0) -> tuple[int, int, int]:
    red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(hue / 360, saturation, value))
    return red, green, blue


def paint_blob(picture: Picture, colour: tuple[int, int, int], *, alpha: float = 1.0) -> tuple[Picture, Picture]:
    """The picture with a blob of some 8 %, and where it is."""
    cover = np.zeros(picture.shape[:2], np.uint8)
    centre = (picture.shape[1] // 3, picture.shape[0] // 2)
    cv2.ellipse(cover, centre, (picture.shape[1] // 6, picture.shape[0] // 5), 20, 0, 360, 1, -1)
    weight = alpha * cover[..., None]
    return np.rint(picture * (1 - weight) + np.array(colour) * weight).astype(np.uint8), cover


def audit_pictures(root: Path, pictures: list[Picture], *, masks: list[Picture] | None = None) -> list[Finding]:
    samples = []
    for number, picture in enumerate(pictures):
        path, mask_path = root / f"{number:03}.png", None
        cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
        if masks is not None:
            mask_path = root / f"{number:03}_mask.png"
            cv2.imwrite(str(mask_path), 255 * masks[number])
        samples.append(Sample(path.name, path, mask_path, "a", path.name, path.name))
    cohort = Cohort(root, "table", tuple(samples), (), ("a",))
    return list(audit_cohort(cohort, checks=("painted", "pen")).findings)


def named(findings: list[Finding]) -> set[str]:
    return {f.images[0] for f in findings if f.code == "painted"}


@pytest.mark.slow
def test_tissue_of_two_labs_is_not_painted(tmp_path: Path) -> None:
    assert audit_pictures(tmp_path, [draw_tissue(i, lab="ab"[i % 7 == 0]) for i in range(28)]) == []


@pytest.mark.slow
def test_every_hue_is_found_in_a_single_image(tmp_path: Path) -> None:
    clean = draw_tissue(1)
    for hue in HUES:
        folder = tmp_path / str(hue)
        folder.mkdir()
        colour = spin_colour(hue, value=0.9)
        painted, cover = paint_blob(clean, colour)
        (finding,) = audit_pictures(folder, [painted])
        assert finding.code == "painted"
        assert np.abs(np.array(finding.evidence["colour"]) - colour).max() <= 3
        assert finding.score == pytest.approx(cover.mean(), rel=0.15)


@pytest.mark.parametrize("colour", [(5, 5, 5), (128, 128, 128), (255, 128, 255), (255, 150, 150)])
def test_flat_paint_is_found_in_any_colour(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    painted, _ = paint_blob(draw_tissue(2), colour)
    assert [f.code for f in audit_pictures(tmp_path, [painted])] == ["painted"]


@pytest.mark.slow
def test_one_paint_on_a_sixth_of_the_cohort_is_found_there_and_only_there(tmp_path: Path) -> None:
    pictures = [draw_tissue(i) for i in range(36)]
    for i in range(0, 36, 6):
        pictures[i], _ = paint_blob(pictures[i], spin_colour(45), alpha=0.6)
    assert named(audit_pictures(tmp_path, pictures)) == {f"{i:03}.png" for i in range(0, 36, 6)}


@pytest.mark.slow
def test_what_half_of_the_cohort_has_is_its_habit(tmp_path: Path) -> None:
    stamped = [paint_blob(draw_tissue(i), (128, 128, 128))[0] if i % 2 else draw_tissue(i) for i in range(24)]
    assert audit_pictures(tmp_path, stamped) == []


def test_black_frame_of_a_slide_is_no_paint(tmp_path: Path) -> None:
    picture = draw_tissue(3)
    picture[:, :40] = 0
    assert audit_pictures(tmp_path, [picture]) == []


def test_flips_and_scale_change_nothing(tmp_path: Path) -> None:
    painted, _ = paint_blob(draw_tissue(4, height=480, width=640), (20, 200, 220))
    views = {
        "flip": painted[:, ::-1],
        "turn": np.rot90(painted),
        "half": cv2.resize(painted, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "same": painted,
    }
    shares = {}
    for name, view in views.items():
        folder = tmp_path / name
        folder.mkdir()
        (finding,) = audit_pictures(folder, [np.asarray(view, np.uint8)])
        shares[name] = finding.score
    assert list(shares.values()) == pytest.approx([shares["same"]] * 4, rel=0.1)


def test_outline_covers_the_paint_and_little_else(tmp_path: Path) -> None:
    painted, cover = paint_blob(draw_tissue(5, height=480, width=700), (30, 230, 60))
    (finding,) = audit_pictures(tmp_path, [painted], masks=[np.ones_like(cover)])
    outline = tuple(tuple((float(r), float(c)) for r, c in polygon) for polygon in finding.evidence["outline"])
    filled = np.zeros_like(cover)
    for polygon in finding.evidence["outline"]:
        cv2.fillPoly(filled, [np.array(polygon, np.int32)[:, ::-1]], 1)
    assert filled[cover > 0].mean() > 0.98
    assert cover[filled > 0].mean() > 0.85
    assert draw_outline(Repair(outline=outline), height_px=480, width_px=700)[cover > 0].all()
    assert finding.evidence["mask_frac_painted"] == pytest.approx(finding.evidence["painted_frac"], rel=0.02)
    assert finding.proposal == "repair"


def test_a_mask_painted_over_is_past_repair(tmp_path: Path) -> None:
    painted, cover = paint_blob(draw_tissue(6), (30, 230, 60))
    (finding,) = audit_pictures(tmp_path, [painted], masks=[cover])
    assert finding.evidence["mask_frac_painted"] > 0.9
    assert finding.proposal == "exclude"


def test_outline_of_a_ring_leaves_its_inside_free() -> None:
    ring = np.zeros((120, 160), np.uint8)
    cv2.circle(ring, (80, 60), 50, 1, 12)
    (polygon,) = draw_outlines(ring.astype(bool), (120, 160))
    filled = np.zeros_like(ring)
    cv2.fillPoly(filled, [np.array(polygon, np.int32)[:, ::-1]], 1)
    assert filled[60, 80] == 0
    assert (filled == ring).mean() > 0.98


def test_mixtures_of_two_stains_are_possible_and_near_their_rays() -> None:
    # Beer and Lambert by the formula, against what is measured from the rounded pixels.
    vectors = np.array(STAINS["a"])
    amounts = np.random.default_rng(0).uniform(0.2, 0.8, (400, 2))
    pixels = np.rint(256 * 10 ** -(amounts @ vectors) - 1).clip(0, 255).astype(np.uint8).reshape(20, 20, 3)
    assert measure_excess(pixels, sigma_px=0.01).max() < 1
    densities = DENSITY[pixels].reshape(-1, 3).astype(np.float32)
    # The plane through white that the singular vectors span holds every mixture.
    plane = np.linalg.svd(densities, full_matrices=False)[2][:2]
    assert np.abs(densities - densities @ plane.T @ plane).max() < 0.03
    rays = np.array([vectors.T @ (share, 1 - share) for share in np.linspace(0, 1, 41)], np.float32)
    assert measure_distance(densities, rays).max() < 0.06


def test_distance_to_rays_is_that_of_the_nearest_point() -> None:
    rng = np.random.default_rng(1)
    points, rays = rng.uniform(0, 1, (30, 3)).astype(np.float32), rng.uniform(0.1, 1, (4, 3)).astype(np.float32)
    steps = np.linspace(0.35, 2.8, 4000)[:, None, None]
    slow = [np.linalg.norm(p - steps * rays, axis=2).min() for p in points]
    assert measure_distance(points, rays) == pytest.approx(slow, abs=1e-3)


def test_density_bins_hold_their_pixels() -> None:
    picture = draw_tissue(7)
    centres, which = count_densities(picture, width=0.06)
    assert np.abs(centres[which] - DENSITY[picture]).max() <= 0.0301


def test_summary_stays_small() -> None:
    picture, cover = paint_blob(draw_tissue(8, height=900, width=1200), (30, 230, 60))
    summary = summarise_colours(picture, cover)
    assert len(summary.labels) + len(summary.mask or b"") < 20_000
    assert max(summary.size_px) == 512


@pytest.mark.parametrize(
    ("colour", "word"),
    [
        ((5, 5, 5), "black"),
        ((250, 250, 250), "white"),
        ((128, 120, 128), "grey"),
        ((20, 220, 40), "green"),
        ((240, 30, 30), "red"),
        ((250, 240, 20), "yellow"),
        ((20, 40, 240), "blue"),
        ((240, 20, 230), "magenta"),
    ],
)
def test_colours_have_names(colour: tuple[int, int, int], word: str) -> None:
    assert name_colour(colour) == word


def test_a_drawing_without_noise_is_not_painted(tmp_path: Path) -> None:
    drawn = np.full((240, 320, 3), (214, 150, 190), np.uint8)
    for x in range(20, 320, 40):
        cv2.circle(drawn, (x, 60 + x // 4), 9, (120, 70, 150), -1)
    assert audit_pictures(tmp_path, [drawn]) == []
