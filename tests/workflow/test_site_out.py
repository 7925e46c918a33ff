"""A run on data with sites has site-out scores beside its own, in its records, its report and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from smalti import workflow
from smalti.cli import app
from smalti.records import RunFolder
from smalti.records.layout import REPORT, SITE_FOLDS, SITE_OUT, SITE_RUNS, SITES
from smalti.records.studies.sites import SiteFolds, SitesRecord

SETTINGS = ("model.backbone=described:colour+texture", "model.head=logistic", "audit.checks=[]", "tile.size_px=32")
pytestmark = pytest.mark.slow


def draw(root: Path, *, tied: bool) -> Path:
    """Noise in the colour of its scanner, which goes with the class or does not; 48 cases of six sites."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    scanners = rng.uniform(90, 200, (6, 3))
    rows = []
    for case in range(48):
        site = case % 6
        label = (site if tied and case % 12 != 11 else int(rng.integers(2))) % 2
        pixels = rng.normal(scanners[site], 25, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{case}.png")
        rows.append((f"{case}.png", f"p{case}", "ab"[label], f"s{site}", "fm"[case % 2]))
    pd.DataFrame(rows, columns=["image", "patient", "label", "site", "sex"]).to_csv(root / "labels.csv", index=False)
    return root


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tied")
    data = draw(place / "data", tied=True)
    settings = (*SETTINGS, "data.subgroups=[sex]")
    return workflow.run(data, "quick", settings=settings, runs=place / "runs", name="run").path


def test_a_scanner_that_goes_with_the_class_is_seen_and_said(tied: Path) -> None:
    record = SitesRecord.read(tied)
    assert record.site_out is not None
    assert (record.site_out.out_of_fold.value or 0) > 0.75
    assert record.site_out.gap.verdict == "better"
    assert record.alarm
    page = (tied / REPORT).read_text(encoding="utf-8")
    assert "The score leans on the site" in page
    assert {(row.column, row.value) for row in record.subgroups} >= {("site", "s0"), ("sex", "f")}
    shown = CliRunner().invoke(app, ["evaluate", str(tied)]).output
    assert "Sites: The score leans on the site" in shown


def test_no_image_is_scored_by_what_saw_its_site(tied: Path) -> None:
    folds = SiteFolds.read(tied).folds
    samples = pd.read_csv(tied / "samples.csv").set_index("image")
    table = pd.read_csv(tied / SITE_OUT)
    held = [folds[f"fold{fold}-seed{seed}"] for fold, seed in zip(table["fold"], table["seed"], strict=True)]
    assert all(samples.loc[image, "site"] in sites for image, sites in zip(table["image"], held, strict=True))
    assert set(table["image"]) == set(RunFolder(tied).read_out_of_fold()["image"])
    assert not (tied / SITE_RUNS).exists()


def test_a_stopped_run_goes_on_to_the_same_bytes(tied: Path) -> None:
    kept = {name: (tied / name).read_bytes() for name in (SITE_OUT, SITE_FOLDS, SITES)}
    (tied / SITE_FOLDS).unlink()
    (tied / SITE_OUT).unlink()
    settings = (*SETTINGS, "data.subgroups=[sex]")
    workflow.run(tied.parents[1] / "data", "quick", settings=settings, runs=tied.parent, name="run")
    assert {name: (tied / name).read_bytes() for name in kept} == kept


def test_folds_of_sites_make_every_score_such_a_score(tied: Path) -> None:
    settings = (*SETTINGS, "split.group=site")
    run = workflow.run(tied.parents[1] / "data", "quick", settings=settings, runs=tied.parent, name="by-site")
    record, scores = SitesRecord.read(run.path), run.scores
    assert record.site_out is None
    assert "its scores are site-out scores" in record.site_out_why
    assert scores.n_folds == 6
    beside = SitesRecord.read(tied).site_out
    assert beside is not None
    assert (scores.headline.value or 1) < (beside.out_of_fold.value or 0)


def test_what_is_not_done_says_why_and_data_without_sites_gets_no_file(tied: Path, tmp_path: Path) -> None:
    off = workflow.run(
        tied.parents[1] / "data", "quick", settings=(*SETTINGS, "evaluate.sites=none"), runs=tied.parent, name="off"
    )
    assert SitesRecord.read(off.path).site_out_why == "evaluate.sites=none"
    data = draw(tmp_path / "data", tied=False)
    table = pd.read_csv(data / "labels.csv").drop(columns="site")
    table.to_csv(data / "labels.csv", index=False)
    plain = workflow.run(data, "quick", settings=SETTINGS, runs=tmp_path / "runs", name="run")
    assert not (plain.path / SITES).exists()
    assert not (plain.path / SITE_OUT).exists()
    assert "site" not in pd.read_csv(plain.path / "samples.csv")
