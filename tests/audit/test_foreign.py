"""Images that do not belong: found by colour, grain and rarity; other laboratories and odd tissue are not accused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from smalti.audit import Audit, audit_cohort
from smalti.records import Embeddings
from smalti.stats.robust import score_deviation, score_isolation
from smalti.tissue.appearance import measure_appearance
from smalti.types import Sample
from tissues import DAB, DIGESTS, HAEMATOXYLIN, Picture, draw_photograph, draw_tissue, write_cohort, write_tissues


def draw_cartoon(seed: int, side: int = 256) -> Picture:
    """A face on lilac, in colours that stain could have; every one has its own nose."""
    rng = np.random.default_rng(seed)
    picture = np.full((side, side, 3), (214, 170, 205), np.uint8)
    cv2.circle(picture, (side // 2, side // 2), side // 3, (190, 90, 160), -1)
    for x in (side // 3, 2 * side // 3):
        cv2.circle(picture, (x, side * 2 // 5), side // 16, (90, 40, 110), -1)
    cv2.circle(picture, (side // 2 + int(rng.integers(-9, 9)), side // 2), int(rng.integers(6, 12)), (120, 60, 120), -1)
    return picture


def name_foreign(audit: Audit) -> set[str]:
    return {f.images[0] for f in audit.findings if f.code == "foreign"}


@pytest.fixture(scope="module")
def tissues(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return write_tissues(tmp_path_factory.mktemp("tissues"))


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smalti.audit.findings.digest_sample", DIGESTS)


@pytest.mark.slow
def test_two_laboratories_are_one_cohort(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    stains = (np.array([0.55, 0.76, 0.35]), np.array([0.20, 0.92, 0.33]))
    others = {f"other{i}.png": draw_tissue(100 + i, stains=stains, amount=1.6) for i in range(4)}
    assert name_foreign(audit_cohort(write_cohort(tmp_path, others, beside=tissues), checks=("foreign",))) == set()


@pytest.mark.slow
def test_a_cluster_of_cartoons_in_stain_colours_does_not_vouch_for_itself(
    tmp_path: Path, tissues: tuple[Sample, ...]
) -> None:
    cartoons = {f"cartoon{i}.png": draw_cartoon(i) for i in range(3)}
    audit = audit_cohort(write_cohort(tmp_path, cartoons, beside=tissues), checks=("foreign",))
    assert name_foreign(audit) == cartoons.keys()
    assert all("without any grain" in f.message and f.proposal == "exclude" for f in audit.findings)


@pytest.mark.slow
@pytest.mark.parametrize("grey", [False, True])
def test_photographs_are_found(tmp_path: Path, tissues: tuple[Sample, ...], grey: bool) -> None:
    photographs = {f"photo{i}.png": draw_photograph(i, grey=grey) for i in range(3)}
    audit = audit_cohort(write_cohort(tmp_path, photographs, beside=tissues), checks=("foreign",))
    assert name_foreign(audit) == photographs.keys()


@pytest.mark.slow
def test_another_stain_is_found_where_it_is_rare_and_says_nothing_where_it_is_usual(
    tmp_path: Path, tissues: tuple[Sample, ...]
) -> None:
    brown = {f"brown{i}.png": draw_tissue(200 + i, stains=(0.5 * HAEMATOXYLIN, 1.5 * DAB)) for i in range(30)}
    few = dict(list(brown.items())[:2])
    assert name_foreign(audit_cohort(write_cohort(tmp_path, few, beside=tissues), checks=("foreign",))) == few.keys()
    usual = audit_cohort(write_cohort(tmp_path, brown), checks=("foreign",))
    assert usual.findings == ()
    assert str(usual.outcomes["foreign"]).startswith("not applicable: the usual image")


def test_a_small_cohort_is_judged_by_colour_alone_and_says_so(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    photo = {"photo.png": draw_photograph(0, grey=True)}
    audit = audit_cohort(write_cohort(tmp_path, photo, beside=tissues[:5]), checks=("foreign",))
    assert name_foreign(audit) == {"photo.png"}
    assert "6 images" in audit.outcomes["foreign"].reason


@pytest.mark.slow
def test_a_test_image_is_kept_whatever_it_shows(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    cohort = write_cohort(tmp_path, {"photo.png": draw_photograph(0, grey=True)}, beside=tissues)
    moved = replace(cohort.labelled[-1], label=None)
    (finding,) = audit_cohort(
        replace(cohort, labelled=cohort.labelled[:-1], unlabelled=(moved,)), checks=("foreign",)
    ).findings
    assert finding.proposal == "keep"


@pytest.mark.slow
def test_features_add_to_appearance_and_never_accuse_alone(tmp_path: Path, tissues: tuple[Sample, ...]) -> None:
    # A fifth of it is green: too little by itself.
    half = draw_tissue(0)
    half[:, :80] = np.clip(np.array((60, 150, 60)) + np.random.default_rng(0).normal(0, 3, (256, 80, 3)), 0, 255)
    cohort = write_cohort(tmp_path, {"half.png": half}, beside=tissues)
    names = tuple(s.image for s in cohort.samples)
    points = np.random.default_rng(1).normal(0, 0.1, (len(names), 12)) + np.eye(12)[0]
    points[names.index("half.png")] = points[names.index("tissue07.png")] = 9 * np.eye(12)[5]
    path = Embeddings(names, points.astype(np.float32)).write_file(tmp_path / "features.npz")
    without = audit_cohort(cohort, checks=("foreign",))
    beside = audit_cohort(cohort, checks=("foreign",), embeddings=path)
    assert "model.weights" in without.outcomes["foreign"].reason
    assert "model.weights" not in beside.outcomes["foreign"].reason
    assert name_foreign(beside) - name_foreign(without) <= {"half.png"}
    assert "half.png" in name_foreign(beside)


@pytest.mark.parametrize("change", ["mirrored", "turned", "dimmer", "enlarged"])
def test_what_is_measured_keeps_still(change: str) -> None:
    picture = draw_tissue(0)
    changed = {
        "mirrored": picture[:, ::-1],
        "turned": np.rot90(picture),
        "dimmer": (0.8 * picture).astype(np.uint8),
        "enlarged": np.asarray(cv2.resize(picture, None, fx=3, fy=3), dtype=np.uint8),
    }[change]
    before, after = measure_appearance(picture), measure_appearance(np.ascontiguousarray(changed))
    assert after.off_colour_frac == pytest.approx(before.off_colour_frac, abs=0.02)
    assert after.tissue_frac == pytest.approx(before.tissue_frac, abs=0.05)


def test_isolation_ranks_as_the_neighbours_of_scikit_learn() -> None:
    points = np.random.default_rng(0).standard_t(3, (60, 4))
    scores = score_isolation(points, np.arange(60), floor=1e-9)
    centred = points - np.median(points, axis=0)
    scaled = centred / np.median(np.abs(centred), axis=0)
    distances, _ = NearestNeighbors(n_neighbors=7).fit(scaled).kneighbors(scaled)  # itself and six more
    assert (np.argsort(scores) == np.argsort(distances[:, -1])).all()


def test_copies_do_not_vouch_for_each_other() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(0, 1, (40, 3)), np.full((8, 3), 9.0)])
    alone, copies = np.arange(48), np.concatenate([np.arange(40), np.full(8, 40)])
    assert score_isolation(points, alone, floor=0.1)[40:].max() < 0  # eight are more than a tenth
    assert score_isolation(points, copies, floor=0.1)[40:].min() > 3


def test_deviation_is_z_for_normal_values() -> None:
    values = np.random.default_rng(0).normal(5, 2, 20_000)
    assert score_deviation(values, floor=1e-9) == pytest.approx((values - 5) / 2, abs=0.15)
    assert score_deviation([3.0, 3.0, 3.0, 3.5], floor=1.0).tolist() == [0, 0, 0, 0.5]
