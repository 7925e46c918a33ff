"""Pseudo-labels in a run on images: the audit keeps unfit images from teaching, and weights know which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from smalti import workflow
from smalti.audit import Audit, CheckResult
from smalti.recipe import load_recipe
from smalti.records import Environment, GateRecord
from smalti.train import train_folds
from smalti.types import Finding
from textures import BARE

SETTINGS = (
    *BARE, "train.finetune.epochs=0", "model.head=ridge", "train.pseudo.rounds=1", "train.gate.keep=always",
    "train.pseudo.unlike_frac=0", "train.pseudo.agreement_frac=0", "train.pseudo.share_frac=1",
)  # fmt: skip


@pytest.mark.slow
def test_images_with_findings_do_not_teach(challenge: Path, tmp_path: Path) -> None:
    recipe, said = load_recipe(settings=SETTINGS), list[str]()
    project = workflow.Project(challenge, tmp_path / "runs", tmp_path / "none.csv", workflow.Listener(say=said.append))
    ground = workflow.inspect_ground(project, recipe)
    free = [s.image for s in ground.cohort.unlabelled]
    findings = (
        Finding("shift", "info", tuple(free[:2]), 1.0, "they differ"),
        Finding("foreign", "warning", (free[1],), 9.0, "a photograph"),
        Finding("foreign", "warning", (ground.cohort.labelled[0].image,), 9.0, "a photograph"),
        Finding("blur", "warning", (free[2],), 9.0, "it is blurred"),
    )
    seen = Audit(findings, {"foreign": CheckResult(2), "shift": CheckResult(None, "why not")})
    experiments = {}
    for name, audited in (("plain", ground), ("found", replace(ground, seen=seen))):
        experiments[name] = workflow.prepare(project, audited, recipe, name=name)
    assert experiments["found"].unfit == {free[0]: "shift", free[1]: "foreign"}
    trained = [Environment.read(one.run.path).training for one in experiments.values()]
    assert trained[0] != trained[1]  # no weights of the other are taken
    assert [text for text in said if text.startswith("pseudo-labels")] == [
        "pseudo-labels: the check shift was not made, so that no unlabelled image is left out for it",
        "pseudo-labels: the check foreign was not made, so that no unlabelled image is left out for it",
        "pseudo-labels: the check shift was not made, so that no unlabelled image is left out for it",
    ]
    for name, one in experiments.items():
        train_folds(one)
        taught = set(pd.read_csv(one.run.path / "pseudo.csv")["image"])
        assert taught
        assert taught <= set(free[2:] if name == "found" else free)
        about = GateRecord.read(one.run.path).verdicts[0].about
        assert ("1 left out (foreign); 1 left out (shift); " in about) == (name == "found")
