"""Repairs: paint is filled flat and leaves the mask, a mask is cut to tissue, files stay, a run says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti import recipe, records, workflow
from smalti.audit import (
    accept_proposals,
    apply_decisions,
    read_decisions,
    validate_decisions,
    write_decisions,
)
from smalti.audit.repairs import REPAIRS, plan_repair
from smalti.errors import DataError
from smalti.records import RunFolder
from smalti.report import write_report
from smalti.store import hash_file, read_json, read_table
from smalti.tile import build_store, read_sample
from smalti.tissue import find_tissue
from smalti.types import Action, Cohort, Decision, Finding, Repair, Sample
from smalti.workflow.prepare.identity import identify
from textures import BARE, draw_texture

Picture = NDArray[np.uint8]
PAINT = (40, 200, 60)
SIDE_PX = 160
BLOT = ((50.0, 60.0), (50.0, 100.0), (90.0, 100.0), (90.0, 60.0))  # (row, column), 40 px a side


def decide(image: str, action: Action, *, finding: str = "", label: str = "") -> Decision:
    return Decision(image, action, "because", "reader", "2026-11-24", finding, label)


def find_paint(image: str, *outline: Sequence[tuple[float, float]]) -> Finding:
    return Finding("painted", "warning", (image,), 0.1, "paint", "repair", {"outline": [list(p) for p in outline]})


def draw_tissue(seed: int = 0) -> Picture:
    """Glass on the right third, stained texture elsewhere."""
    rng = np.random.default_rng(seed)
    picture = np.asarray(cv2.resize(draw_texture("B", rng), (SIDE_PX, SIDE_PX)), dtype=np.uint8)
    picture[:, 110:] = 245
    return picture


def repair(sample: Sample, findings: list[Finding]) -> tuple[Picture, Picture]:
    """The picture and the mask that tiles are cut from, where the findings are to be repaired."""
    return read_sample(replace(sample, repair=plan_repair(findings)))


def write_sample(folder: Path, picture: Picture, mask: Picture | None, *, name: str = "a.png") -> Sample:
    path, mask_path = folder / name, folder / f"mask_{name}"
    cv2.imwrite(str(path), picture[:, :, ::-1])
    if mask is not None:
        cv2.imwrite(str(mask_path), 255 * mask)
    return Sample(name, path, None if mask is None else mask_path, "a", name, name)


def paint_blot(picture: Picture, *, blur_px: float = 0) -> Picture:
    """The picture with `BLOT` painted on it, its edge as soft as asked for."""
    share = np.zeros(picture.shape[:2], np.float32)
    cv2.fillPoly(share, [np.array(BLOT, np.int32)[:, ::-1]], 1.0)
    if blur_px:
        share = np.asarray(cv2.GaussianBlur(share, (0, 0), blur_px))
    mixed = share[..., None] * np.array(PAINT) + (1 - share[..., None]) * picture
    return mixed.round().astype(np.uint8)


# --- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blur_px", [0, 2])
def test_paint_becomes_the_median_colour_of_the_tissue_around_and_leaves_the_mask(
    tmp_path: Path, blur_px: float
) -> None:
    clean = draw_tissue()
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[20:140, 20:140] = 1
    sample = write_sample(tmp_path, paint_blot(clean, blur_px=blur_px), mask)
    before = hash_file(sample.path), hash_file(sample.mask_path or sample.path)
    picture, cut = repair(sample, [find_paint("a.png", BLOT)])
    changed = (picture != cv2.imread(str(sample.path))[:, :, ::-1]).any(axis=2)
    # Nothing green is left, and what is far from the paint is as it was.
    lead = picture[..., 1].astype(int) - picture[..., [0, 2]].max(axis=2)
    assert lead.max() < 20
    rows, cols = np.nonzero(changed)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == pytest.approx((50, 90, 60, 100), abs=9)
    assert len(np.unique(picture[changed], axis=0)) == 1  # flat: no texture is invented
    # The colour: the median of stained pixels of the picture without paint, glass left out.
    under = clean[:, :110][mask[:, :110] == 1]
    assert picture[70, 80] == pytest.approx(np.median(under, axis=0), abs=4)
    assert not cut[50:91, 60:101].any()
    outside = mask.copy()
    outside[40:101, 50:111] = 0
    assert (cut[outside == 1] == 1).all()
    assert (cut <= mask).all()
    assert (hash_file(sample.path), hash_file(sample.mask_path or sample.path)) == before


def test_several_outlines_are_filled_and_without_a_mask_paint_is_no_tissue(tmp_path: Path) -> None:
    other = ((120.0, 10.0), (120.0, 40.0), (150.0, 40.0), (150.0, 10.0))
    picture = paint_blot(draw_tissue())
    picture[120:151, 10:41] = PAINT
    sample = write_sample(tmp_path, picture, None)
    assert find_tissue(picture)[70, 80]
    assert find_tissue(picture)[135, 25]
    for findings in ([find_paint("a.png", BLOT, other)], [find_paint("a.png", BLOT), find_paint("a.png", other)]):
        whole, tissue = repair(sample, findings)
        assert not ((whole == PAINT).all(axis=2)).any()
        assert not tissue[50:91, 60:101].any()
        assert not tissue[120:151, 10:41].any()
        assert tissue[:, :45].mean() > 0.5
        assert not tissue[:, 125:].any()


def test_a_mask_is_cut_to_where_tissue_is_and_the_picture_stays(tmp_path: Path) -> None:
    clean = draw_tissue()
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[40:120, 90:150] = 1
    sample = write_sample(tmp_path, clean, mask)
    picture, cut = repair(sample, [Finding("blank-under-mask", "warning", ("a.png",), 1.0, "glass", "repair")])
    assert (picture == clean).all()
    assert (cut == mask * find_tissue(clean)).all()
    assert not cut[:, 116:].any()
    assert cut[40:120, 90:105].mean() > 0.8


def test_what_no_repair_helps_is_said(tmp_path: Path) -> None:
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[60:80, 70:90] = 1  # all of it painted over
    sample = write_sample(tmp_path, paint_blot(draw_tissue()), mask)
    with pytest.raises(DataError, match=r"nothing is left under the mask.*Fix: exclude"):
        repair(sample, [find_paint("a.png", BLOT)])
    everything = ((0.0, 0.0), (0.0, 160.0), (160.0, 160.0), (160.0, 0.0))
    with pytest.raises(DataError, match="nothing is left"):
        repair(sample, [find_paint("a.png", everything)])
    with pytest.raises(DataError, match=r"no repair for 'foreign'.*Fix.*painted"):
        plan_repair([Finding("foreign", "warning", ("a.png",), 1.0, "a house", "exclude")])
    with pytest.raises(DataError, match="no outline"):
        plan_repair([Finding("painted", "warning", ("a.png",), 1.0, "paint", "repair")])


# --- the store ----------------------------------------------------------------------------------------------------


def test_the_store_has_repaired_tiles_under_a_key_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    samples = tuple(
        write_sample(tmp_path / "data", paint_blot(draw_tissue(i)), np.ones((SIDE_PX, SIDE_PX), np.uint8), name=name)
        for i, name in enumerate(("a.png", "b.png"))
    )
    cohort = Cohort(tmp_path / "data", "table", samples, (), ("a",))
    repaired = replace(cohort, labelled=(replace(samples[0], repair=Repair((BLOT,))), samples[1]))
    moved = replace(cohort, labelled=(replace(samples[0], repair=Repair((BLOT[:3],))), samples[1]))
    tile = recipe.Tile(min_coverage=0, min_tiles=1)
    stores = [build_store(c, tile, tile_px=32, cache=tmp_path / "cache") for c in (cohort, repaired, moved, cohort)]
    assert len({store.key for store in stores}) == 3
    assert stores[0].key == stores[3].key
    plain, mended = stores[:2]
    here, there = (store.read_rows(*(store.rows(0)[0], store.rows(0)[-1] + 1)) for store in (plain, mended))
    assert (here == PAINT).all(axis=3).any()
    assert not (there == PAINT).all(axis=3).any()
    at = {tuple(p): c for p, c in zip(mended.positions[: mended.count(0)].tolist(), mended.coverage, strict=False)}
    assert at[(64, 64)] == 0  # all of this tile was painted
    assert at[(0, 0)] == 1
    same = [store.read_rows(*(store.rows(1)[0], store.rows(1)[-1] + 1)) for store in (plain, mended)]
    assert (same[0] == same[1]).all()


# --- decisions ----------------------------------------------------------------------------------------------------


def make_cohort() -> Cohort:
    names = [f"i{k}" for k in range(8)]
    samples = [Sample(n, Path(n), None, "ab"[k % 2], n, n) for k, n in enumerate(names)]
    bare = [replace(s, label=None) for s in samples]
    return Cohort(Path(), "table", tuple(samples[:4]), tuple(bare[4:6]), ("a", "b"), sealed=tuple(bare[6:]))


def test_a_repair_travels_on_the_sample_in_every_part() -> None:
    cohort = make_cohort()
    findings = [find_paint(f"i{k}", BLOT) for k in (0, 4, 6, 7)]
    rows = [decide(f"i{k}", "repair", finding="painted") for k in (0, 4, 6)] + [decide("gone", "repair", finding="x")]
    applied = apply_decisions(cohort, rows, findings=findings)
    assert [s.image for s in applied.samples if s.repair] == ["i0", "i4", "i6"]
    assert applied.labelled[0] == replace(cohort.labelled[0], repair=Repair((BLOT,)))
    assert applied.notes == cohort.notes
    # A finding alone does nothing, and a later row takes the repair back.
    assert apply_decisions(cohort, [], findings=findings) == cohort
    undone = apply_decisions(cohort, [*rows, *(decide(f"i{k}", "keep") for k in (0, 4, 6))], findings=findings)
    assert undone == cohort


def test_repairs_whose_finding_is_gone_are_told_at_once() -> None:
    rows = [decide(f"i{k}", "repair", finding="painted") for k in (0, 1, 4)]
    with pytest.raises(DataError, match="smalti review") as caught:
        apply_decisions(make_cohort(), rows, findings=[find_paint("i1", BLOT)])
    assert [p.message.split()[0] for p in caught.value.problems] == ["i0", "i4"]
    assert {p.code for p in caught.value.problems} == {"repair-without-finding"}


def test_a_row_to_repair_names_a_finding_that_can_be_repaired() -> None:
    rows = [decide("i0", "repair", finding=code) for code in ("", "foreign", "painted")]
    with pytest.raises(DataError) as caught:
        validate_decisions(rows, images={"i0"}, classes=("a", "b"))
    assert [(p.code, p.file) for p in caught.value.problems] == [
        ("decision-repair", "decisions.csv row 2"),
        ("decision-repair", "decisions.csv row 3"),
    ]
    assert all(code in str(caught.value) for code in REPAIRS)


def test_a_rule_accepts_each_kind_of_proposal_and_the_strongest_of_several(tmp_path: Path) -> None:
    findings = [
        find_paint("i0", BLOT),
        Finding("blank", "warning", ("i0",), 1.0, "empty", "exclude"),
        find_paint("i1", BLOT),
        replace(find_paint("i2", BLOT), proposal="keep"),
        find_paint("i4", BLOT),
    ]
    codes = ("blank", *(("painted",) if "painted" in _list_checks() else ()))
    wanted = [("i0", "exclude", "blank", "")]
    if "painted" in codes:
        wanted += [("i1", "repair", "painted", ""), ("i4", "repair", "painted", "")]
    accepted = accept_proposals(findings, codes, decided=())
    assert sorted((d.image, d.action, d.finding, d.label) for d in accepted) == sorted(wanted)
    # What a rule has written can be read, is valid and can be applied.
    read = read_decisions(write_decisions(tmp_path / "decisions.csv", accepted))
    assert read == accepted
    validate_decisions(read, images={f"i{k}" for k in range(8)}, classes=("a", "b"))
    applied = apply_decisions(make_cohort(), read, findings=findings)
    assert "i0" not in {s.image for s in applied.samples}


def _list_checks() -> set[str]:
    from smalti.audit import CHECKS

    return {entry.name for entry in CHECKS}


# --- a run --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def painted(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A ground on which one learning and one test image are to be repaired, and a run on it; read only."""
    place = tmp_path_factory.mktemp("repaired")
    asked = recipe.load_recipe(settings=[*BARE, "train.finetune.epochs=0", "train.transfer.epochs=2"])
    project = workflow.Project(challenge, place / "runs")
    ground = workflow.inspect_ground(project, asked)
    names = ("train_data/img_0003.png", "test_data/img_0001.png")
    outline = ((30.0, 30.0), (30.0, 60.0), (60.0, 60.0), (60.0, 30.0))
    seen = replace(ground.seen, findings=tuple(find_paint(name, outline) for name in names))
    rows = tuple(decide(name, "repair", finding="painted") for name in names)
    cohort = apply_decisions(ground.whole, rows, findings=seen.findings)
    repaired = replace(ground, cohort=cohort, decisions=rows, seen=seen)
    result = workflow.run_on(project, repaired, asked, name="mended")
    return ground, repaired, RunFolder(result.path), names


def test_a_run_says_what_it_repaired_and_sources_stay(painted: Any) -> None:
    ground, repaired, run, names = painted
    about = read_json(run.path / "cohort.json")
    assert about["repaired"] == list(names)
    assert about["left_out"] == []
    samples = read_table(run.path / "samples.csv").set_index("image")["repair"].fillna("")
    assert set(samples[samples != ""].index) == set(names)
    page = write_report(run).read_text(encoding="utf-8")
    assert "2 images" in page
    assert "Repaired before tiles were cut" in page
    whole, cut = (read_sample(next(s for s in g.cohort.samples if s.image == names[0])) for g in (ground, repaired))
    assert cut[1].sum() < whole[1].sum()


def test_a_repair_changes_what_a_run_stands_on_and_the_data_hash_stays(painted: Any, tmp_path: Path) -> None:
    ground, repaired, *_ = painted
    wider = [find_paint(f.images[0], BLOT[:3]) for f in repaired.seen.findings]
    moved = replace(repaired, cohort=apply_decisions(repaired.whole, repaired.decisions, findings=wider))
    project = workflow.Project(ground.cohort.root, tmp_path)
    known = [identify(project, g) for g in (ground, repaired, moved, repaired)]
    assert len({row["data"] for row in known}) == 1
    assert len({row["decisions"] for row in known}) == 3
    assert known[1] == known[3]
    hashes = {records.hash_cohort(g.cohort, memo=tmp_path / "hashes.json") for g in (ground, repaired)}
    assert len(hashes) == 1  # of the sources, which stay
