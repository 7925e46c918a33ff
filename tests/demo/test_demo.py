"""The drawn cohort: same bytes from the same seed, the promised layout, and a signal only where it should be."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import f_oneway
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti.demo import CLASS_SHARES, CohortPlan, draw_cohort, draw_plan, plan_cohort
from smalti.demo.field import TissuePlan, draw_tissue
from smalti.demo.plan import class_counts
from smalti.demo.shapes import outlines
from smalti.demo.tumour import draw_mask
from smalti.errors import DataError, RecipeError

SMALL = (140, 220)  # sides of the images that tests draw


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return np.asarray(image)


@pytest.fixture(scope="module")
def plan() -> CohortPlan:
    return plan_cohort(seed=3, labelled=60, unlabelled=6, side_px=SMALL)


@pytest.fixture(scope="module")
def cohort(plan: CohortPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_plan(plan, tmp_path_factory.mktemp("demo") / "cohort", workers=1)


def planted(folder: Path, kind: str) -> list[dict[str, str]]:
    return [row for row in rows(folder / "truth" / "planted.csv") if row["kind"] == kind]


@pytest.mark.slow
def test_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    small = plan_cohort(seed=5, labelled=24, unlabelled=4, side_px=SMALL)
    one = draw_plan(small, tmp_path / "one", workers=1)
    two = draw_plan(small, tmp_path / "two", workers=2)
    assert digests(one) == digests(two)


@pytest.mark.slow
def test_another_seed_draws_other_images(tmp_path: Path, cohort: Path) -> None:
    other = draw_plan(plan_cohort(seed=4, labelled=60, unlabelled=6, side_px=SMALL), tmp_path / "o", workers=1)
    same = set(digests(other).values()) & set(digests(cohort).values())
    common = {name for name, digest in digests(cohort).items() if digest in same}
    foreign = {row["image"].replace("img_", "mask_") for row in planted(cohort, "foreign")}
    assert common == foreign | {"sample_submission.csv"}  # the rest hangs on the seed


def test_files_and_tables_name_the_same_images(cohort: Path) -> None:
    for part, table, n in (("train", "train_labels.csv", 60), ("test", "sample_submission.csv", 6)):
        names = [row["sample_index"] for row in rows(cohort / table)]
        assert names == [f"img_{i:04d}.png" for i in range(n)]
        found = {p.name for p in (cohort / f"{part}_data").iterdir()}
        assert found == set(names) | {name.replace("img", "mask") for name in names}
    train = [row["sample_index"] for row in rows(cohort / "train_labels.csv")]
    assert [row["sample_index"] for row in rows(cohort / "cases.csv")] == train
    test = [row["sample_index"] for row in rows(cohort / "sample_submission.csv")]
    assert [row["sample_index"] for row in rows(cohort / "truth" / "test_labels.csv")] == test
    assert {p.name for p in cohort.iterdir()} == {
        "train_data", "test_data", "truth", "train_labels.csv", "sample_submission.csv", "cases.csv",
    }  # fmt: skip


def test_every_mask_fits_its_image_and_is_binary(cohort: Path) -> None:
    for path in cohort.glob("*_data/img_*.png"):
        image, mask = pixels(path), pixels(path.with_name(path.name.replace("img", "mask")))
        assert image.shape == (*mask.shape, 3)
        assert set(np.unique(mask)) == {0, 255}


def test_masks_cover_between_10_and_40_percent() -> None:
    shares = [(draw_mask(np.random.default_rng(i), (400, 560)) > 0).mean() for i in range(60)]
    assert min(shares) >= 0.10
    assert max(shares) <= 0.40


def test_exact_duplicates_are_byte_equal(cohort: Path) -> None:
    found = planted(cohort, "exact-duplicate")
    assert found
    for row in found:
        for kind in ("img_", "mask_"):
            copy, source = (cohort / row[key].replace("img_", kind) for key in ("image", "detail"))
            assert copy.read_bytes() == source.read_bytes()


def test_no_other_two_images_are_byte_equal(cohort: Path) -> None:
    sums = {name: digest for name, digest in digests(cohort).items() if "/img_" in name}
    copies = {row["image"] for row in planted(cohort, "exact-duplicate")}
    repeated = Counter(digest for name, digest in sums.items() if name not in copies)
    assert max(repeated.values()) == 1


def test_foreign_pictures_share_one_mask_that_nothing_else_has(cohort: Path) -> None:
    foreign = {row["image"].replace("img_", "mask_") for row in planted(cohort, "foreign")}
    sums = {name: digest for name, digest in digests(cohort).items() if "/mask_" in name}
    shared = {sums[name] for name in foreign}
    assert len(foreign) >= 2
    assert len(shared) == 1
    assert {name for name, digest in sums.items() if digest in shared} == foreign


def test_near_duplicates_resemble_their_source_and_differ_from_it(cohort: Path) -> None:
    found = planted(cohort, "near-duplicate")
    assert found
    for row in found:
        copy, source = (pixels(cohort / row[key]) for key in ("image", "detail"))
        assert copy.shape != source.shape or (copy != source).any()
        small = [cv2.resize(i, (24, 24), interpolation=cv2.INTER_AREA).ravel() for i in (copy, source, source[:, ::-1])]
        assert max(np.corrcoef(small[0], other)[0, 1] for other in small[1:]) > 0.6


def test_painted_images_have_slime_on_their_source(cohort: Path) -> None:
    found = planted(cohort, "painted")
    assert found
    for row in found:
        copy, source = (pixels(cohort / row[key]).astype(int) for key in ("image", "detail"))
        changed = (copy != source).any(axis=2)
        assert 0.01 < changed.mean() < 0.7
        blue, green, red = copy[changed].mean(axis=0)
        assert green > 1.3 * max(blue, red)


def test_blank_images_are_almost_white(cohort: Path) -> None:
    found = planted(cohort, "blank")
    assert found
    assert all(np.mean(pixels(cohort / row["image"]) > 225) > 0.95 for row in found)


def test_wrong_labels_are_exactly_those_written_down(plan: CohortPlan, cohort: Path) -> None:
    given = {f"train_data/{row['sample_index']}": row["label"] for row in rows(cohort / "train_labels.csv")}
    told = {row["image"]: row["detail"] for row in planted(cohort, "wrong-label")}
    drawn = {i.name: i.tissue.label for i in plan.train if i.tissue is not None}
    assert told == {name: label for name, label in drawn.items() if given[name] != label}
    assert set(given.values()) == set(CLASS_SHARES)


def test_the_test_part_is_clean(plan: CohortPlan) -> None:
    assert {image.kind for image in plan.test} == {"tissue"}
    assert all(image.given == image.true for image in plan.test)


def test_default_plan_has_what_was_promised() -> None:
    default = plan_cohort()
    kinds = Counter(kind for _, kind, _ in default.planted)
    contradicting = sum(1 for i in default.train if i.source >= 0 and i.given != i.true)
    assert (len(default.train), len(default.test)) == (160, 60)
    assert kinds == {
        "foreign": 8, "painted": 6, "blank": 4, "exact-duplicate": 4, "near-duplicate": 5,
        "wrong-label": 8 + contradicting,
    }  # fmt: skip
    assert 1 <= contradicting <= 2
    tissue = [i for i in default.train if i.kind == "tissue"]
    for name, share in CLASS_SHARES.items():
        assert sum(i.true == name for i in tissue) / len(tissue) == pytest.approx(share, abs=0.01)
    sides = [side for i in default.train + default.test if i.tissue for side in i.shape]
    assert min(sides) >= 600
    assert max(sides) <= 1400


def test_cases_hold_one_class_one_laboratory_and_at_most_two_images() -> None:
    default = plan_cohort(seed=1)
    cases: dict[str, list] = {}
    for image in default.train:
        cases.setdefault(image.case, []).append(image)
    assert Counter(len(images) for images in cases.values()).keys() == {1, 2}
    for first, *others in cases.values():
        for other in others:
            assert (first.true, first.tissue.laboratory) == (other.true, other.tissue.laboratory)
            assert first.kind == other.kind == "tissue"
    copied = [i for i in default.train if i.source >= 0]
    assert all(i.case != default.train[i.source].case for i in copied)


def test_laboratory_and_size_do_not_tell_the_class() -> None:
    images = [i for seed in range(12) for i in plan_cohort(seed=seed).test]
    by_class = [[i for i in images if i.true == name] for name in CLASS_SHARES]
    for measure in (lambda i: i.shape[0], lambda i: i.shape[1], lambda i: float(i.tissue.laboratory == 0)):
        assert f_oneway(*([measure(i) for i in group] for group in by_class)).pvalue > 0.001


@pytest.mark.parametrize("n", [4, 8, 18, 60, 133, 1000])
def test_class_counts_add_up_and_stay_near_the_shares(n: int) -> None:
    counts = class_counts(n)
    assert sum(counts.values()) == n
    assert min(counts.values()) >= min(2, n // 4)
    assert all(abs(counts[name] - share * n) <= 2 for name, share in CLASS_SHARES.items())


@pytest.mark.parametrize("seed", range(3))
def test_the_class_changes_nothing_outside_the_mask(seed: int) -> None:
    drawn = [draw_tissue(TissuePlan((seed, 1), (seed, 2), (300, 340), name, seed)) for name in CLASS_SHARES]
    first, mask = drawn[0]
    for image, other_mask in drawn[1:]:
        np.testing.assert_array_equal(mask, other_mask)
        np.testing.assert_array_equal(image[mask == 0], first[mask == 0])
        assert (image[mask > 0] != first[mask > 0]).any(axis=1).mean() > 0.3


def fine_texture(image: np.ndarray, mask: np.ndarray) -> list[float]:
    """Differences of Gaussians of the red optical density under the mask: log spread, skewness, log kurtosis."""
    density = -np.log((image[..., 0].astype(np.float32) + 1) / 256)
    levels = [cv2.GaussianBlur(density, (0, 0), 0.8 * 2 ** (k / 2)) for k in range(7)]
    features = []
    for fine, coarse in pairwise(levels):
        band = (fine - coarse)[mask > 0]
        spread = band.std()
        features += [np.log(spread), (band**3).mean() / spread**3, np.log((band**4).mean() / spread**4)]
    return [float(v) for v in features]


@pytest.mark.slow
def test_fine_texture_tells_the_class_and_mean_colour_does_not() -> None:
    labels, texture, colour = [], [], []
    for k in range(64):
        name = list(CLASS_SHARES)[k % 4]
        image, mask = draw_tissue(TissuePlan((77, k), (78, k), (320, 320), name, k // 4 % 3))
        labels.append(name)
        texture.append(fine_texture(image, mask))
        colour.append(image[mask > 0].mean(axis=0))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    assert cross_val_score(model, texture, labels, cv=5, scoring="f1_macro").mean() > 0.7
    # chance is 0.25; 0.45 is over three standard errors of 64 guesses above it
    assert cross_val_score(model, colour, labels, cv=5, scoring="f1_macro").mean() < 0.45


def test_smooth_outlines_have_the_area_of_an_ellipse() -> None:
    rng = np.random.default_rng(0)
    axes = np.array([[10.0, 20.0], [30.0, 30.0]], np.float32)
    shapes = outlines(
        rng, np.zeros((2, 2), np.float32), axes=axes, angles=np.ones(2, np.float32), roughness=0, corners=90
    )
    for shape, (a, b) in zip(shapes, axes, strict=True):
        assert cv2.contourArea(shape) == pytest.approx(np.pi * a * b, rel=0.01)


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    small = plan_cohort(seed=6, labelled=24, unlabelled=1, side_px=(128, 140))
    draw_plan(small, tmp_path / "c", workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 25) for i in range(1, 26)]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="new folder"):
        draw_cohort(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_plan(plan_cohort(labelled=24, side_px=(128, 140)), tmp_path / "c", workers=1, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "fix"),
    [({"labelled": 23}, "at least 24"), ({"unlabelled": 0}, "at least 24"), ({"side_px": (900, 600)}, "smallest")],
)
def test_an_impossible_cohort_is_refused(asked: dict, fix: str) -> None:
    with pytest.raises(RecipeError, match=fix):
        plan_cohort(**asked)
