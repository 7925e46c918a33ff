"""An audit goes on past broken files and says which; a run refuses them until somebody has decided."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from smalti import cli, workflow
from smalti.audit import audit_cohort, read_decisions, read_findings
from smalti.cohort import inspect_folder
from smalti.errors import DataError
from smalti.recipe import load_recipe
from smalti.types import Cohort
from textures import LABELLED, UNLABELLED

CHECKS = "audit.checks=[integrity,blank]"
Invoke = Callable[..., Any]


@pytest.fixture
def broken(challenge: Path, tmp_path: Path) -> Path:
    """A copy with a truncated image, an empty mask, a mask of another size, a missing one, and one in grey."""
    data = Path(shutil.copytree(challenge, tmp_path / "textures")) / "train_data"
    image = data / "img_0004.png"
    image.write_bytes(image.read_bytes()[:150])
    Image.fromarray(np.zeros_like(np.array(Image.open(data / "mask_0007.png")))).save(data / "mask_0007.png")
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(data / "mask_0009.png")
    (data / "mask_0011.png").unlink()
    grey = np.array(Image.open(data / "mask_0013.png"))
    grey[20, 20] = 200
    Image.fromarray(grey).save(data / "mask_0013.png")
    return data.parent


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str | Path) -> Any:
        monkeypatch.setattr(sys, "argv", ["smalti", *map(str, words)])
        monkeypatch.setattr(cli.console, "out", Console(highlight=False, width=300))
        monkeypatch.setattr(cli.console, "err", Console(stderr=True, highlight=False, width=300))
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    return run


EXPECTED = {
    "train_data/img_0004.png": ("unreadable", "error", "exclude"),
    "train_data/img_0007.png": ("mask-empty", "error", "exclude"),
    "train_data/img_0009.png": ("mask-size", "error", "exclude"),
    "train_data/img_0011.png": ("mask-missing", "error", "exclude"),
    "train_data/img_0013.png": ("mask-grey", "warning", "keep"),
}
UNUSABLE = {image for image, (_, severity, _) in EXPECTED.items() if severity == "error"}


@pytest.mark.slow
def test_an_audit_goes_on_and_a_run_refuses_until_it_is_decided(broken: Path, invoke: Invoke) -> None:
    result = invoke("audit", broken, "--set", CHECKS)
    assert result.exit_code == 0, result.output
    assert "smalti run refuses this folder until 4 image(s)" in result.stdout
    assert re.search(r"next: .*smalti audit .*--accept integrity", result.stdout)
    folder = Path("runs/textures.audit")
    audit = read_findings(folder / "findings.json")
    assert {f.images[0]: (f.evidence["problem"], f.severity, f.proposal) for f in audit.findings} == EXPECTED
    assert {f.code for f in audit.findings} == {"integrity"}
    assert all("Fix: " in f.message and f.evidence["file"] in f.message for f in audit.findings)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(image in page for image in EXPECTED)
    assert "no picture" in page

    refused = invoke("run", broken, "--set", CHECKS)
    assert refused.exit_code == 2
    assert "4 problem(s)" in refused.stderr

    result = invoke("audit", broken, "--set", CHECKS, "--accept", "integrity")
    assert result.exit_code == 0, result.output
    assert "refuses" not in result.stdout
    assert "next:   smalti run" in result.stdout
    rows = read_decisions(Path("runs/textures.decisions.csv"))
    assert {(r.image, r.action, r.who, r.finding) for r in rows} == {
        (image, "exclude", "rule", "integrity") for image in UNUSABLE
    }


@pytest.mark.slow
def test_accepted_exclusions_are_honoured_by_what_a_run_stands_on(broken: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    project, recipe = workflow.Project(broken, tmp_path / "runs", path), load_recipe(settings=[CHECKS])
    with pytest.raises(DataError, match="4 problem"):
        workflow.inspect_ground(project, recipe)
    assert not path.exists()
    first = workflow.inspect_ground(project, recipe, problems="report")
    assert {image for p in first.standing for image in p.images} == UNUSABLE
    assert not path.exists()
    accepting = load_recipe(settings=[CHECKS, "audit.accept=[integrity]"])
    second = workflow.inspect_ground(project, accepting, problems="report")
    third = workflow.inspect_ground(project, recipe)
    for ground in (first, second, third):
        assert {s.image for s in ground.cohort.samples}.isdisjoint(UNUSABLE)
        assert len(ground.cohort.samples) == LABELLED + UNLABELLED - len(UNUSABLE)
        assert str(ground.seen.outcomes["integrity"]) == "5 found"
    assert second.standing == third.standing == ()


def test_to_keep_what_cannot_be_read_is_refused(broken: Path, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("image,action\ntrain_data/img_0004.png,keep\n", encoding="utf-8")
    with pytest.raises(DataError, match="4 problem"):
        workflow.inspect_ground(workflow.Project(broken, tmp_path / "runs", path), load_recipe(settings=[CHECKS]))


def test_a_problem_of_several_images_is_a_finding_about_each(broken: Path) -> None:
    cohort, problems = inspect_folder(broken)
    both = [p for p in problems if p.code == "mask-empty"]
    found = audit_cohort(Cohort(broken, "table", (), (), ("A",)), checks=("integrity",), problems=both * 2)
    assert cohort is not None
    assert [f.images for f in found.findings] == [("train_data/img_0007.png",)] * 2


@pytest.mark.slow
def test_a_clean_folder_says_nothing_found_and_no_table_of_labels_still_stops(
    challenge: Path, tmp_path: Path, invoke: Invoke
) -> None:
    project = workflow.Project(challenge, tmp_path / "runs")
    ground = workflow.inspect_ground(project, load_recipe(settings=[CHECKS]), problems="report")
    assert str(ground.seen.outcomes["integrity"]) == "nothing found"
    data = Path(shutil.copytree(challenge, tmp_path / "textures"))
    (data / "train_labels.csv").unlink()
    result = invoke("audit", data)
    assert result.exit_code == 2
    assert "train_labels.csv" in result.stderr
    assert not list(Path().iterdir())
