"""New images: tissue like that of training is answered, everything else is refused by the right name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from smalti.audit.measure.digest import ImageDigest, digest_sample
from smalti.model.look import NAMES, measure_look
from smalti.model.moved import warn_shift
from smalti.model.population import describe_population, fit_doubt
from smalti.model.refusal import CODES, Refuser, refuse_unreadable
from smalti.records import TrainingPopulation
from smalti.types import Cohort, Sample

Picture = NDArray[np.uint8]
# Unit vectors of optical density, Ruifrok and Johnston 2001.
HAEMATOXYLIN, EOSIN = np.array([0.650, 0.704, 0.286]), np.array([0.072, 0.990, 0.105])
SIDE, COUNT = 160, 40


def draw_tissue(seed: int, *, stains: tuple[NDArray[np.float64], ...] = (HAEMATOXYLIN, EOSIN)) -> Picture:
    """Nuclei in wavy stroma, mixed from two stains in optical density, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    stroma = 0.35 + 0.08 * cv2.resize(rng.normal(0, 1, (9, 9)).astype(np.float32), (SIDE, SIDE))
    nuclei = np.zeros((SIDE, SIDE), np.float32)
    for x, y in rng.integers(0, SIDE, (SIDE, 2)).tolist():
        cv2.circle(nuclei, (x, y), int(rng.integers(2, 5)), float(rng.uniform(0.6, 1.2)), -1)
    nuclei = cv2.GaussianBlur(nuclei, (0, 0), 0.7)
    density = nuclei[..., None] * stains[0] + np.clip(stroma, 0, None)[..., None] * stains[1]
    return np.clip(245 * np.exp(-density) + rng.normal(0, 2, density.shape), 0, 255).astype(np.uint8)


@dataclass
class Source:
    """The part of an audit's file facts that a description reads."""

    mpp: float | None = 0.5


def describe(pictures: list[Picture], *, cases: int = 20, mpp: float | None = 0.5) -> TrainingPopulation:
    """The population of pictures that are dealt to so many cases."""
    samples = tuple(
        Sample(image=f"i{n}", path=Path(f"i{n}.png"), mask_path=None, label="a", case=f"c{n % cases}", index=f"{n}")
        for n in range(len(pictures))
    )
    digests = [draw_digest(s.image, p, mpp) for s, p in zip(samples, pictures, strict=True)]
    return describe_population(Cohort(Path(), "table", samples, (), ("a",)), digests)


def draw_digest(name: str, picture: Picture, mpp: float | None) -> ImageDigest:
    """What the audit would know about a picture, without its file."""
    seen = measure_look(picture).digest
    rest = dict.fromkeys(ImageDigest.__dataclass_fields__)
    parts = {key: getattr(seen, key) for key in ("size_px", "thumbnail", "colours", "appearance")}
    return ImageDigest(**(rest | parts | {"image": name, "source": Source(mpp)}))  # type: ignore[arg-type]


@cache
def describe_tissue() -> TrainingPopulation:
    """Forty images of twenty cases."""
    return describe([draw_tissue(seed) for seed in range(COUNT)])


def name_code(population: TrainingPopulation, picture: Picture, *, mpp: float | None = None) -> str:
    """The code of the refusal; empty where the picture is answered."""
    code, _, reason = Refuser(population).judge(picture, mpp=mpp).partition(": ")
    assert not code or (code in CODES and reason)
    return code


def test_new_tissue_is_answered() -> None:
    refuser = Refuser(describe_tissue())
    refused = [bool(refuser.judge(draw_tissue(1000 + seed))) for seed in range(20)]
    assert sum(refused) <= 1


def test_faults_are_refused_by_name() -> None:
    population = describe_tissue()
    tissue = draw_tissue(1000)
    glass = np.clip(240 + np.random.default_rng(0).normal(0, 2, tissue.shape), 0, 255).astype(np.uint8)
    painted = tissue.copy()
    cv2.circle(painted, (80, 80), 25, (20, 200, 60), -1)
    assert name_code(population, glass) == "blank"
    assert name_code(population, np.zeros_like(tissue)) == "blank"
    assert name_code(population, painted) == "painted"
    assert name_code(population, cv2.GaussianBlur(tissue, (0, 0), 2)) == "blurred"
    assert name_code(population, cv2.resize(tissue, (60, 60), interpolation=cv2.INTER_AREA)) == "scale"


def test_blur_is_refused_where_too_few_images_are_known_for_a_usual_sharpness() -> None:
    population = describe([draw_tissue(seed) for seed in range(7)], cases=7)
    assert not population.facts.focus
    assert population.facts.rarity is None
    for seed in range(1000, 1004):
        tissue, noise = draw_tissue(seed), np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE, 3))
        blurred = cv2.GaussianBlur(tissue.astype(np.float64), (0, 0), 2) + noise
        assert name_code(population, tissue) == ""
        assert name_code(population, np.clip(blurred, 0, 255).astype(np.uint8)) == "blurred"


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "page", "brick", "grass", "rocket"])
def test_photographs_and_documents_are_refused(name: str) -> None:
    picture = np.asarray(getattr(data, name)())
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    assert name_code(describe_tissue(), picture) in ("foreign", "painted", "blank")


def test_microns_per_pixel_beyond_those_of_training_are_refused() -> None:
    tissue = draw_tissue(1000)
    assert [name_code(describe_tissue(), tissue, mpp=mpp) for mpp in (0.25, 0.4, 0.5, 0.6, 1.0)] == [
        "scale", "", "", "", "scale",
    ]  # fmt: skip


def test_another_stain_is_refused_or_warned_about() -> None:
    stains = (np.array([0.3, 0.8, 0.5]), np.array([0.02, 0.7, 0.6]))
    assert name_code(describe_tissue(), draw_tissue(1000, stains=stains)) in ("stain", "foreign")


def test_images_that_are_not_stained_are_answered_by_who_learned_from_them() -> None:
    """Grey pictures, of which colour says nothing; what is coloured is foreign there."""
    grey = [np.repeat(draw_tissue(seed)[..., 1:2], 3, axis=2) for seed in range(COUNT + 8)]
    refuser = Refuser(describe(grey[:COUNT]))
    assert sum(bool(refuser.judge(picture)) for picture in grey[COUNT:]) <= 1
    assert refuser.judge(np.asarray(data.coffee()))
    assert refuser.judge(draw_tissue(1))


def test_faults_among_the_training_images_do_not_become_usual() -> None:
    pictures = [draw_tissue(seed) for seed in range(COUNT)]
    pictures[3], pictures[17] = np.asarray(data.astronaut())[:SIDE, :SIDE], np.full((SIDE, SIDE, 3), 240, np.uint8)
    population = describe(pictures)
    assert population.facts.left_out == {"blank": 1, "foreign": 1}
    assert population.facts.n_images == COUNT - 2
    assert name_code(population, np.asarray(data.astronaut())[-SIDE:, :SIDE]) == "foreign"


def test_a_fault_of_most_training_images_is_none() -> None:
    """Green paint that is on every second image is what these images are like."""
    pictures = [draw_tissue(seed) for seed in range(COUNT)]
    for number, picture in enumerate(pictures):
        if number % 2:
            cv2.circle(picture, (30 + number, 80), 12 + number % 5, (20, 200, 60), -1)
    population = describe(pictures)
    assert population.facts.left_out == {}
    painted = draw_tissue(1000)
    cv2.circle(painted, (60, 80), 14, (20, 200, 60), -1)
    assert name_code(population, painted) == ""


def test_few_cases_widen_what_is_answered() -> None:
    pictures = [draw_tissue(seed) for seed in range(COUNT)]
    bars = [rarity.bar for cases in (2, 10, 40) if (rarity := describe(pictures, cases=cases).facts.rarity)]
    assert bars == sorted(bars, reverse=True)
    assert describe(pictures[:5], cases=5).facts.rarity is None


def test_the_least_sure_are_refused_where_that_is_asked_for() -> None:
    scores = np.random.default_rng(0).dirichlet((2, 2, 2), 500)
    doubt = fit_doubt(scores, share=0.1)
    assert doubt is not None
    assert np.mean(scores.max(axis=1) < doubt.confidence) == pytest.approx(0.1, abs=0.01)
    assert fit_doubt(scores, share=0) is None
    base = describe_tissue()
    refuser = Refuser(TrainingPopulation(base.facts.model_copy(update={"doubt": doubt}), base.traits, base.case,
                                         base.common, base.spots))  # fmt: skip
    tissue, sure = draw_tissue(1000), np.array([0.98, 0.01, 0.01])
    assert refuser.judge(tissue, scores=sure, agreement=1.0) == ""
    assert refuser.judge(tissue, scores=np.array([0.34, 0.33, 0.33])).startswith("unsure: ")
    assert refuser.judge(tissue, scores=np.array([np.nan] * 3)).startswith("unsure: ")
    assert refuser.judge(tissue, scores=sure, agreement=0.3).startswith("unsure: ")
    assert Refuser(base).judge(tissue, scores=np.array([0.34, 0.33, 0.33])) == ""


def test_a_file_that_cannot_be_read_is_one_line() -> None:
    assert refuse_unreadable("a.png is\ncut off") == "unreadable: a.png is cut off"


def test_the_description_is_small_and_holds_no_picture(tmp_path: Path) -> None:
    population = describe_tissue()
    population.write(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert sum(file.stat().st_size for file in files) < 1e6 / 2000 * COUNT + 50_000
    again = TrainingPopulation.read(tmp_path)
    tissue = [draw_tissue(2000), cv2.GaussianBlur(draw_tissue(2001), (0, 0), 2), np.asarray(data.coffee())]
    assert [Refuser(again).judge(p) for p in tissue] == [Refuser(population).judge(p) for p in tissue]
    before = [file.read_bytes() for file in files]
    again.write(tmp_path)
    describe([draw_tissue(seed) for seed in range(COUNT)]).write(tmp_path / "twice")
    assert [file.read_bytes() for file in files] == before
    assert [file.read_bytes() for file in sorted((tmp_path / "twice").iterdir())] == before


def test_many_images_that_moved_together_are_another_laboratory() -> None:
    here = np.stack([measure_look(draw_tissue(3000 + seed)).traits for seed in range(24)])
    stains = (np.array([0.55, 0.72, 0.42]), np.array([0.14, 0.95, 0.30]))
    there = np.stack([measure_look(draw_tissue(3000 + seed, stains=stains)).traits for seed in range(24)])
    population = describe_tissue()
    assert here.shape == (24, len(NAMES))
    assert warn_shift(population, here) is None
    said = warn_shift(population, there)
    assert said is not None
    assert "another laboratory" in said
    assert "absorption of" in said
    assert warn_shift(population, np.concatenate([here[:14], there[:10]])) is not None
    assert warn_shift(population, there[:4]) is None  # too few to tell


def test_one_of_several_laboratories_of_training_is_no_other() -> None:
    stains = (np.array([0.55, 0.72, 0.42]), np.array([0.14, 0.95, 0.30]))
    both = [draw_tissue(seed) for seed in range(20)] + [draw_tissue(seed, stains=stains) for seed in range(20, 40)]
    there = np.stack([measure_look(draw_tissue(3000 + seed, stains=stains)).traits for seed in range(16)])
    assert warn_shift(describe(both, cases=40), there) is None
    assert warn_shift(describe_tissue(), there) is not None


def test_digests_of_files_and_of_pictures_agree(tmp_path: Path) -> None:
    picture = draw_tissue(0)
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    sample = Sample(image="a", path=tmp_path / "a.png", mask_path=None, label="a", case="c", index="a")
    read, seen = digest_sample(sample), measure_look(picture).digest
    assert read.size_px == seen.size_px
    assert np.array_equal(read.thumbnail, seen.thumbnail)
    assert read.appearance.sharpness == seen.appearance.sharpness
    assert read.colours == seen.colours or read.colours.spots == seen.colours.spots


def test_a_large_picture_is_measured_as_its_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.images.WHOLE_PX", 1_000_000)
    picture = np.tile(draw_tissue(0), (12, 9, 1))
    cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    sample = Sample(image="a", path=tmp_path / "a.png", mask_path=None, label="a", case="c", index="a")
    read, seen = digest_sample(sample), measure_look(picture).digest
    assert read.size_px == seen.size_px == picture.shape[:2]
    assert seen.appearance.sharpness == read.appearance.sharpness
    assert np.array_equal(seen.thumbnail, read.thumbnail)
