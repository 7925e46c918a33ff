"""Blank, blurred and badly exposed images: found by the standard of physics and of their cohort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.audit import Audit, audit_cohort
from smalti.tissue.appearance import measure_appearance, measure_sharpness
from smalti.types import Sample
from tissues import (
    DIGESTS,
    EOSIN,
    HAEMATOXYLIN,
    draw_photograph,
    draw_tissue,
    write_cohort,
    write_tissues,
)

Picture = NDArray[np.uint8]
CHECKS = ("blank", "focus", "foreign", "saturation")


def name_found(audit: Audit, code: str) -> set[str]:
    return {f.images[0] for f in audit.findings if f.code == code}


def draw_glass(colour: tuple[float, float, float], *, noise: float = 2.0, side: int = 256) -> NDArray[np.float64]:
    return np.array(colour) + np.random.default_rng(7).normal(0, noise, (side, side, 3))


def shade(glass: NDArray[np.float64], depth: float) -> NDArray[np.float64]:
    rows, cols = np.mgrid[-1 : 1 : glass.shape[0] * 1j, -1 : 1 : glass.shape[1] * 1j]
    return glass * (1 - depth * (rows**2 + cols**2) / 2)[..., None]


def soil(glass: NDArray[np.float64]) -> NDArray[np.float64]:
    rng = np.random.default_rng(8)
    for x, y in rng.integers(0, 256, (25, 2)).tolist():
        cv2.circle(glass, (x, y), int(rng.integers(1, 5)), (110, 90, 70), -1)
    return glass


GLASS: dict[str, Callable[[], NDArray[np.float64]]] = {
    "white": lambda: draw_glass((255, 255, 255), noise=0),
    "grey": lambda: draw_glass((175, 175, 175)),
    "yellowish": lambda: draw_glass((245, 235, 205)),
    "pinkish": lambda: draw_glass((243, 231, 238)),
    "bluish": lambda: draw_glass((222, 231, 244)),
    "noisy": lambda: draw_glass((225, 225, 225), noise=12),
    "vignetted": lambda: shade(draw_glass((238, 236, 230)), 0.4),
    "dirty": lambda: soil(draw_glass((240, 240, 238))),
    "black": lambda: draw_glass((2, 2, 2), noise=1),
}


@pytest.fixture(scope="module")
def tissues(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return write_tissues(tmp_path_factory.mktemp("tissues"))


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.audit.findings.digest_sample", DIGESTS)


@pytest.mark.slow
def test_every_kind_of_glass_is_blank_and_not_foreign(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    blanks = {f"{name}.png": np.clip(draw(), 0, 255).round().astype(np.uint8) for name, draw in GLASS.items()}
    audit = audit_cohort(write_cohort(tmp_path, blanks, beside=tissues), checks=CHECKS)
    assert name_found(audit, "blank") == blanks.keys()
    assert name_found(audit, "foreign") == name_found(audit, "focus") == set()


def test_fat_pale_and_sparse_tissue_is_not_blank(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    fat = np.full((256, 256, 3), 242, np.uint8)
    for x in range(0, 256, 32):
        cv2.line(fat, (x, 0), (x, 255), (226, 180, 208), 2)
        cv2.line(fat, (0, x), (255, x), (226, 180, 208), 2)
    sparse = np.full((256, 256, 3), 242, np.uint8)
    sparse[:64, :64] = draw_tissue(0)[:64, :64]
    odd = {"fat.png": fat, "sparse.png": sparse, "pale.png": draw_tissue(50, amount=0.3)}
    audit = audit_cohort(write_cohort(tmp_path, odd, beside=tissues), checks=("blank",))
    assert audit.findings == ()


def test_tissue_is_measured_as_it_was_drawn() -> None:
    picture = draw_glass((240, 240, 240))
    picture[:, :100] = draw_tissue(0)[:, :100]
    mask = np.zeros((256, 256), np.uint8)
    mask[:, 50:150] = 1
    look = measure_appearance(np.clip(picture, 0, 255).astype(np.uint8), mask)
    assert look.tissue_frac == pytest.approx(100 / 256, abs=0.02)
    assert look.masked_tissue_frac == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_in_a_cohort_without_colour_what_stands_out_is_no_glass(tmp_path: Path) -> None:
    greys = {f"grey{i:02}.png": draw_photograph(i, grey=True) for i in range(8)}
    blank = np.clip(draw_glass((200, 200, 200)), 0, 255).astype(np.uint8)
    audit = audit_cohort(write_cohort(tmp_path, {**greys, "blank.png": blank}), checks=("blank",))
    assert name_found(audit, "blank") == {"blank.png"}


@pytest.mark.parametrize("sigma_px", [3, 6])
def test_blurred_images_are_found_and_no_others(tmp_path: Path, tissues: tuple[Sample, ...], sigma_px: int) -> None:
    blurred = {f"blurred{i}.png": cv2.GaussianBlur(draw_tissue(60 + i), (0, 0), sigma_px) for i in range(3)}
    audit = audit_cohort(write_cohort(tmp_path, blurred, beside=tissues), checks=("focus",))
    assert name_found(audit, "focus") == blurred.keys()
    assert {f.proposal for f in audit.findings} == {"keep"}


@pytest.mark.slow
def test_sizes_are_compared_among_themselves(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    # Enlarged images have no fine details; where many are, that is how this part of the cohort was made.
    large = {f"large{i:02}.png": np.asarray(cv2.resize(draw_tissue(i), None, fx=2, fy=2)) for i in range(20)}
    assert audit_cohort(write_cohort(tmp_path, large, beside=tissues), checks=("focus",)).findings == ()


def test_sharpness_falls_with_blur_and_not_with_contrast_or_amount_of_stain() -> None:
    picture = draw_tissue(3, side=512)
    softer = [measure_sharpness(cv2.GaussianBlur(picture, (0, 0), s)) for s in (0.5, 1, 2, 4)]
    assert sorted(softer, reverse=True) == softer
    doubled = draw_tissue(3, side=512, amount=2.0)
    assert measure_sharpness(doubled) == pytest.approx(measure_sharpness(picture), abs=0.2)


def test_clipped_and_dark_images_are_said(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    bright, dark = draw_tissue(53).astype(np.float64), draw_tissue(54).astype(np.float64)
    odd = {
        "bright.png": np.clip(1.4 * bright, 0, 255).astype(np.uint8),
        "dark.png": (0.4 * dark).astype(np.uint8),
        "crushed.png": np.where(dark[..., 1:2] < 150, 0, dark).astype(np.uint8),
    }
    audit = audit_cohort(write_cohort(tmp_path, odd, beside=tissues), checks=("saturation",))
    assert name_found(audit, "saturation") == odd.keys()
    assert {f.severity for f in audit.findings} == {"info"}


def test_few_images_have_no_usual(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    outcomes = audit_cohort(write_cohort(tmp_path, {}, beside=tissues[:6]), checks=("focus", "saturation")).outcomes
    assert all(str(outcome).startswith("not applicable: 6 images") for outcome in outcomes.values())


def test_a_mask_on_glass_is_told_from_one_on_tissue(tmp_path: Path) -> None:
    picture = np.clip(draw_glass((225, 222, 215)), 0, 255).astype(np.uint8)
    picture[:128] = draw_tissue(0, stains=(HAEMATOXYLIN, EOSIN))[:128]
    cohort = write_cohort(tmp_path, {"over.png": picture, "under.png": np.ascontiguousarray(picture[:, ::-1])})
    masks = {"over.png": np.s_[:100], "under.png": np.s_[150:]}
    labelled = []
    for sample in cohort.labelled:
        mask = np.zeros((256, 256), np.uint8)
        mask[masks[sample.image]] = 255
        cv2.imwrite(str(tmp_path / f"mask_{sample.image}"), mask)
        labelled.append(replace(sample, mask_path=tmp_path / f"mask_{sample.image}"))
    audit = audit_cohort(replace(cohort, labelled=tuple(labelled)), checks=("blank-under-mask",))
    assert name_found(audit, "blank-under-mask") == {"under.png"}
