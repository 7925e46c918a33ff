"""Real images and real weights: the numbers that the preset ``quick`` must reach."""

from __future__ import annotations

from pathlib import Path

import pytest

import smalti
from smalti.audit import read_findings

SHARED = Path(__file__).parents[3] / "shared"
GLAS = SHARED / "data" / "glas-a"
LYMPHOCYTOSIS = SHARED / "data" / "lymphocytosis-a"
OSTEOSARCOMA = SHARED / "data" / "osteosarcoma60"
MOBILENET = SHARED / "weights" / "mobilenetv2_100.onnxzoo7_in1k_backbone" / "model.safetensors"
LITE = SHARED / "weights" / "tf_efficientnet_lite0.modelmaker_flowers5" / "model.safetensors"

pytestmark = pytest.mark.real


def _need(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            pytest.skip(f"not applicable: {path.name} is not beside the project")


def test_glas_benign_malignant_reaches_what_frozen_features_can(tmp_path: Path) -> None:
    # A logistic regression on the same features scores 0.965 with patients kept apart.
    _need(GLAS, MOBILENET)

    result = smalti.run(GLAS, "quick", settings=[f"model.weights={MOBILENET}"], runs=tmp_path)

    assert result.scores.metrics["macro_f1"].value >= 0.93
    assert (result.scores.n_images, result.scores.n_cases) == (85, 7)
    assert not result.scores.interval.trustworthy  # seven patients
    assert (result.path / "report.html").is_file()
    assert not read_findings(result.path / "findings.json").findings  # no false alarm


def test_one_label_a_patient_is_answered_by_patient(tmp_path: Path) -> None:
    _need(LYMPHOCYTOSIS, MOBILENET)
    settings = [f"model.weights={MOBILENET}", "model.head=logistic", "audit.checks=[]"]

    scores = smalti.run(LYMPHOCYTOSIS, "quick", settings=settings, runs=tmp_path).scores

    assert (scores.unit, scores.n_images, scores.n_units) == ("case", 780, 65)
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
