"""The model card: a header that YAML reads, the numbers of the records, licences that are not promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from smalti.licences import find_data, find_weights
from smalti.recipe import load_recipe
from smalti.records import RunFolder
from smalti.records.studies.sites import SitesRecord
from smalti.report import write_card, write_report
from smalti.report.papers.card import choose_licence
from test_report import build_run, parse

pytestmark = pytest.mark.slow
SECTIONS = (
    "Intended use", "Population", "Training", "Score", "Limits", "What it refuses", "Licences", "How to load it",
)  # fmt: skip


def read_card(path: Path) -> tuple[dict[str, Any], str]:
    _, header, body = path.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), body


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return build_run(tmp_path_factory.mktemp("carded"))


def test_a_card_tells_population_score_and_licences(run: RunFolder, tmp_path: Path) -> None:
    header, body = read_card(write_card(run, tmp_path))
    assert [line.removeprefix("## ") for line in body.splitlines() if line.startswith("## ")] == list(SECTIONS)
    assert header["library_name"] == "smalti"
    assert header["pipeline_tag"] == "image-classification"
    assert (header["license"], header["license_name"]) == ("other", "not-stated")
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    value = header["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert value == pytest.approx(scores["metrics"]["macro_f1"]["value"], abs=1e-4)
    for metric in scores["metrics"].values():
        assert f"{metric['value']:.3f}" in body
        assert f"{metric['low']:.3f} to {metric['high']:.3f}" in body
    assert "120 images of 80 cases" in body
    assert "the images of this run | not stated | unknown | unknown" in body
    assert "Subgroups: not stated" in body
    assert "smalti.load\\_model" not in body
    assert "smalti.load_model(" in body


def test_a_card_tells_the_sites_that_the_run_measured(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    sites = SitesRecord(
        unit="image", n_sites=3, site_out=None, site_out_why="not asked", told=None, told_why="not asked", robust=None,
        association=None, subgroups=(), sentence="The score leans on the site.", alarm=True,
    )  # fmt: skip
    sites.write(run.path)
    _, body = read_card(write_card(run, tmp_path))
    assert "3 sites. The score leans on the site." in body
    assert "Sites and scanners: not stated" not in body


def rewrite_recipe(run: RunFolder, *settings: str) -> None:
    """Give a run another recipe, as if it had been made by that one."""
    run.recipe_path.write_text(load_recipe(settings=settings).to_yaml(), encoding="utf-8")


def test_a_card_names_the_population_of_its_score(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    for group, population, warned in (("case", "out-of-fold", "another site, scanner"), ("site", "site-out", "")):
        rewrite_recipe(run, f"split.group={group}")
        header, body = read_card(write_card(run, tmp_path))
        assert header["model-index"][0]["results"][0]["metrics"][0]["name"] == f"macro-F1 by image, {population}"
        assert ("no score here speaks of another site" in body) == bool(warned)
    assert "new cases of other sites like these" in body
    assert "on held-out sites" in body


def test_a_card_says_that_unsure_images_are_refused_only_where_they_are(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    for share in (0, 0.1):
        rewrite_recipe(run, f"predict.unsure_frac={share}")
        _, body = read_card(write_card(run, tmp_path))
        assert ("where the networks are too unsure" in body) == bool(share)


def test_a_card_of_an_empty_run_promises_nothing(tmp_path: Path) -> None:
    bare = RunFolder(tmp_path / "bare")
    bare.path.mkdir()
    header, body = read_card(write_card(bare, tmp_path))
    assert "model-index" not in header
    assert header["license"] == "other"
    assert "Not stated." in body


def test_names_from_data_change_no_table(tmp_path: Path) -> None:
    nasty = ("a|b", "<script>", "[x](y)", "*c*")
    _, body = read_card(write_card(build_run(tmp_path, classes=nasty), tmp_path))
    assert "<script>" not in body.replace("\\<", "")
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    for line in rows:
        assert line.replace("\\|", "").count("|") in (4, 5, 6)


def test_a_model_is_as_free_as_its_strictest_part() -> None:
    free, closed = find_weights("tf_efficientnet_lite0"), find_weights("hf-hub:MahmoodLab/UNI2-h")
    assert choose_licence([free], find_data("CC-BY-4.0"))[0] == "apache-2.0"
    assert choose_licence([free], find_data("CC-BY-SA-4.0"))[0] == "other"
    assert choose_licence([free, closed], find_data("CC-BY-4.0")) == ("other", "not settled for: UNI2-h")
    assert choose_licence([find_weights("x", file="mine.pt")], find_data("CC0-1.0"))[0] == "other"


def test_the_report_has_card_and_licences(run: RunFolder) -> None:
    page = parse(write_report(run).read_text(encoding="utf-8"))
    assert {"card", "licences", "threshold"} <= {attrs["id"] for tag, attrs in page.tags if tag == "section"}
    text = " ".join(page.words)
    assert "it is of two classes, and this run has more" in text
    assert "what is unknown is yours to find out" in text.lower()
