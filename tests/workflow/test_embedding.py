"""Backbone features for the audit: made where weights are at hand, and nothing heavy is loaded where they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from smalti.audit import audit_cohort
from smalti.cohort import read_cohort
from smalti.project import Project
from smalti.recipe import load_recipe
from smalti.records import Embeddings
from smalti.workflow.prepare.embedding import embed_cohort
from textures import FAST

AUDIT = """
import sys
from pathlib import Path
from smalti.recipe import load_recipe
from smalti.workflow import Project, inspect_ground
here = Path(sys.argv[2])
recipe = load_recipe(settings=["audit.checks=[foreign,blank]"])
inspect_ground(Project(Path(sys.argv[1]), here), recipe)
assert not {"torch", "timm"} & sys.modules.keys()
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path


@pytest.mark.slow
def test_an_audit_without_weights_loads_no_network(challenge: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", AUDIT, str(challenge), str(tmp_path)], check=True)
    assert embed_cohort(Project(challenge, tmp_path), read_cohort(challenge), load_recipe()) is None


@pytest.mark.slow
def test_each_image_has_its_features_and_the_audit_takes_them(challenge: Path, weights: Path, tmp_path: Path) -> None:
    cohort = read_cohort(challenge)
    recipe = load_recipe(settings=[*FAST, f"model.weights={weights}"])
    path = embed_cohort(Project(challenge, tmp_path), cohort, recipe)
    assert path is not None
    names = tuple(s.image for s in cohort.samples)
    points = Embeddings.read_file(path).order(names)
    assert points is not None
    assert len(np.unique(points, axis=0)) == len(names)
    assert np.array_equal(Embeddings.read_file(path).order(names[::-1]), points[::-1])
    assert embed_cohort(Project(challenge, tmp_path), cohort, recipe) == path
    audit = audit_cohort(cohort, checks=("foreign",), embeddings=path)
    assert {name: str(result) for name, result in audit.outcomes.items()} == {"foreign": "nothing found"}


def test_checks_that_want_no_features_wait_for_none(challenge: Path, weights: Path, tmp_path: Path) -> None:
    recipe = load_recipe(settings=[*FAST, f"model.weights={weights}", "audit.checks=[blank]"])
    assert embed_cohort(Project(challenge, tmp_path), read_cohort(challenge), recipe) is None
