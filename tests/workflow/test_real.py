"""Real images and real weights: the numbers that the preset ``quick`` must reach."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smalti
from smalti import workflow
from smalti.audit import read_findings, write_decisions
from smalti.evaluate import highest_losses
from smalti.types import Decision

SHARED = Path(__file__).parents[3] / "shared"
GLAS = SHARED / "data" / "glas-a"
LYMPHOCYTOSIS = SHARED / "data" / "lymphocytosis-a"
OSTEOSARCOMA = SHARED / "data" / "osteosarcoma60"
MOBILENET = SHARED / "weights" / "mobilenetv2_100.onnxzoo7_in1k_backbone" / "model.safetensors"
LITE = SHARED / "weights" / "tf_efficientnet_lite0.modelmaker_flowers5" / "model.safetensors"

pytestmark = pytest.mark.real

SIX_TILES = (f"model.weights={MOBILENET}", "tile.max_tiles=6")  # of some twelve an image: half of the time


def _need(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            pytest.skip(f"not applicable: {path.name} is not beside the project")


@pytest.fixture(scope="module")
def glas(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of the preset ``quick`` on glas-a; read only."""
    _need(GLAS, MOBILENET)
    return smalti.run(GLAS, "quick", settings=SIX_TILES, runs=tmp_path_factory.mktemp("glas"))


def test_glas_benign_malignant_reaches_what_frozen_features_can(glas: Any) -> None:
    # Measured: 0.976. A logistic regression on features of all tiles scores 0.965 with patients kept apart.
    result = glas
    assert result.scores.metrics["macro_f1"].value >= 0.93
    assert (result.scores.n_images, result.scores.n_cases) == (85, 7)
    assert not result.scores.interval.trustworthy  # seven patients
    assert (result.path / "report.html").is_file()
    assert not read_findings(result.path / "findings.json").findings  # no false alarm


def test_one_label_a_patient_is_answered_by_patient(tmp_path: Path) -> None:
    """Four of the twelve images of each patient, a third of the time. Measured: 0.668 by patient, 0.619 by image."""
    _need(LYMPHOCYTOSIS, MOBILENET)
    table = pd.read_csv(LYMPHOCYTOSIS / "samples.csv").groupby("patient").head(4)
    data = tmp_path / "lymphocytosis"
    (data / "images").mkdir(parents=True)
    for name in table["image"]:
        shutil.copy(LYMPHOCYTOSIS / name, data / name)
    table.to_csv(data / "samples.csv", index=False)
    settings = [f"model.weights={MOBILENET}", "model.head=logistic", "audit.checks=[]"]

    scores = smalti.run(data, "quick", settings=settings, runs=tmp_path / "runs").scores

    assert (scores.unit, scores.n_images, scores.n_units) == ("case", 260, 65)
    assert scores.by_image is not None
    assert scores.headline.value >= scores.by_image.headline.value >= 0.57


def test_osteosarcoma_without_masks_goes_the_whole_way(tmp_path: Path) -> None:
    # Patient and class are confounded here, so no score is demanded.
    _need(OSTEOSARCOMA, LITE)
    settings = ["model.backbone=tf_efficientnet_lite0", f"model.weights={LITE}", "tile.max_tiles=4"]

    result = smalti.run(OSTEOSARCOMA, "quick", settings=settings, runs=tmp_path)

    assert (result.scores.n_images, result.scores.n_cases) == (60, 4)
    folds = (result.path / "folds.csv").read_text()
    assert folds.startswith("seed,fold,image,case,label,role")
    findings = read_findings(result.path / "findings.json").findings
    assert {f.code for f in findings} == {"confounding"}  # no false alarm: class and patient are tied
    assert [f.evidence["kind"] for f in findings if f.severity != "info"] == ["case"]


@pytest.mark.usefixtures("no_pages")
def test_leaving_out_hard_real_images_flatters_but_does_not_raise_the_score(glas: Any, tmp_path: Path) -> None:
    shutil.copytree(glas.path.parent / "cache", tmp_path / "cache", copy_function=os.link)  # tiles and features
    settings = [*SIX_TILES, "data.label=grade", "data.case=patient", "audit.checks=[]"]
    before = smalti.run_ladder(GLAS, "purge", settings=settings, runs=tmp_path, until="as-it-came")[1].dump()
    table = pd.read_csv(tmp_path / before["rungs"][0]["run"] / "predictions" / "out_of_fold.csv")
    hardest = highest_losses(table, classes=before["classes"], count=13)["image"]
    rows = [Decision(image, "exclude", "because", "reader", "2026-11-24", "", "") for image in hardest]
    write_decisions(workflow.find_decisions(workflow.Project(GLAS, tmp_path)), rows)
    result = smalti.run_ladder(GLAS, "purge", settings=settings, runs=tmp_path, until="exclusions")[1].dump()
    first, second = result["rungs"][:2]
    gap = second["difference"]["macro_f1"]
    assert result["set_aside"]["excluded"] == 13
    assert second["own"]["value"] - first["own"]["value"] > gap["value"]
    assert gap["verdict"] == "no verdict"
