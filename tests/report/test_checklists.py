"""Checklists: every item is answered or handed to the authors, every pointer resolves, and nothing is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from smalti.cli import app
from smalti.errors import RecipeError
from smalti.evaluate import measure_operating
from smalti.records import RunFolder
from smalti.records.scored import Margin
from smalti.records.studies.comparison import Difference
from smalti.records.studies.sites import SiteOut, SitesRecord, Subgroup
from smalti.report import list_checklists, write_checklist, write_report
from smalti.report.contents import read_record
from smalti.report.papers.checklist import ANSWERS, answer_items, load_checklist
from test_article import check_log, compile_article
from test_report import build_run, parse

pytestmark = pytest.mark.slow
ROWS = {
    "tripod-ai": (27, 52),
    "claim": (44, 44),
    "stard-ai": (40, 48),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two classes with its report."""
    found = build_run(tmp_path_factory.mktemp("two"), classes=("benign", "malignant"))
    measure_operating(
        found.read_out_of_fold(),
        pd.read_csv(found.predictions / "inner.csv"),
        classes=("benign", "malignant"),
        resamples=100,
    ).write(found.path)
    write_report(found)
    return found


@pytest.fixture(scope="module", autouse=True)
def two_shares() -> Any:
    """Shares of two classes where `build_run` draws labels of four."""
    import test_report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_report, "SHARES", (0.6, 0.4))
        yield


@pytest.mark.parametrize("name", ROWS)
def test_a_checklist_has_the_items_of_its_guideline(name: str) -> None:
    checklist = load_checklist(name)
    numbers = [item.number for item in checklist.items]
    assert len(set(numbers)) == len(numbers) == ROWS[name][1]
    whole = [int(re.match(r"\d+", number)[0]) for number in numbers]  # type: ignore[index]
    assert sorted(set(whole)) == list(range(1, ROWS[name][0] + 1))
    assert whole == sorted(whole)
    assert re.fullmatch(r"10\.\d{4,}/\S+", checklist.doi)
    assert all(item.knows or item.authors for item in checklist.items)


def test_every_answer_is_asked_for_and_every_question_has_its_answer() -> None:
    assert list_checklists() == tuple(sorted(ROWS))
    asked = {item.knows for name in ROWS for item in load_checklist(name).items} - {""}
    assert asked == set(ANSWERS)


@pytest.mark.parametrize("name", ROWS)
def test_every_item_is_answered_or_for_the_authors_and_every_pointer_resolves(run: RunFolder, name: str) -> None:
    page = parse(write_checklist(run, name).read_text(encoding="utf-8"))
    states = [attrs["class"] for tag, attrs in page.tags if tag == "li"]
    assert len(states) == ROWS[name][1]
    assert set(states) <= {"answered", "partly", "authors"}
    assert {"partly", "authors"} <= set(states)
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert len(links) == len([state for state in states if state != "authors"])
    report = parse((run.path / "report.html").read_text(encoding="utf-8"))
    anchors = {f"report.html#{attrs['id']}" for tag, attrs in report.tags if tag == "section"}
    assert set(links) <= anchors
    inside = {f"#{attrs['id']}" for tag, attrs in page.tags if tag == "section"}
    assert {str(attrs["href"]) for tag, attrs in page.tags if tag == "a"} - set(links) == inside


def test_answers_tell_the_numbers_of_the_records(run: RunFolder) -> None:
    items = {one.item.number: one for one in answer_items(load_checklist("stard-ai"), read_record(run))}
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    operating = json.loads((run.path / "operating.json").read_text(encoding="utf-8"))
    point = next(p for p in operating["points"] if p["asked"] == "specificity" and p["target"] == 0.9)
    accuracy = items["31"].answer
    assert accuracy is not None
    for share in (point["sensitivity"], point["specificity"], scores["metrics"]["auc"]):
        assert f"{share['value']:.2f} ({share['low']:.2f} to {share['high']:.2f}" in accuracy.text
    flow = items["7"].answer
    assert flow is not None
    assert "120 images of 80 cases" in flow.text
    assert "1 by rule, 1 by person" in flow.text
    assert items["6"].answer is None
    assert items["40b"].state == "answered"


def test_sites_are_answered_from_the_record_of_sites(tmp_path: Path) -> None:
    run = build_run(tmp_path, classes=("benign", "malignant"))
    asked = {"tripod-ai": ("6a", "12d", "23b"), "stard-ai": ("9",)}

    def answer() -> dict[str, Any]:
        record = read_record(run)
        items = [(name, one) for name in asked for one in answer_items(load_checklist(name), record)]
        return {f"{name} {one.item.number}": one.answer for name, one in items if one.item.number in asked[name]}

    assert set(answer().values()) == {None}
    score = Margin(value=0.7, low=0.5, high=0.8, trustworthy=False, reason="few sites")
    gap = Difference(
        value=0.1, low=0.0, high=0.2, p=0.1, p_holm=0.1, smallest_detectable=0.2, verdict="cannot tell", why="",
        p_equal=None, margin=0,
    )  # fmt: skip
    out = SiteOut(
        score=score, by_site=score, out_of_fold=score.model_copy(update={"value": 0.8}), gap=gap, chance=0.5,
        n_images=120, n_cases=80, n_sites=3, n_groups=3, n_seeds=1,
    )  # fmt: skip
    group = Subgroup(
        column="site", value="north", n_images=40, n_cases=30, classes={"benign": 20, "malignant": 20}, score=score,
        site_out=None, difference=None, why="too few",
    )  # fmt: skip
    sites = SitesRecord(
        unit="image", n_sites=3, site_out=None, site_out_why="it was not asked for", told=None, told_why="",
        robust=None, association=None, subgroups=(group,), sentence="What holds elsewhere is not known.", alarm=False,
    )  # fmt: skip
    sites.write(run.path)
    found = answer()
    assert {one.anchor for one in found.values()} == {"sites"}
    assert "3 sites" in found["tripod-ai 6a"].text
    assert "3 sites" in found["stard-ai 9"].text
    assert "No site was left out: it was not asked for." in found["tripod-ai 12d"].text
    assert found["tripod-ai 23b"].text == (
        "What holds elsewhere is not known. Mean recall of each site: "
        "site north (30 cases): 0.70 (0.50 to 0.80, not to be trusted)."
    )
    sites.model_copy(update={"site_out": out}).write(run.path)
    found = answer()
    assert "trained once more for each site that was left out" in found["tripod-ai 12d"].text
    assert "out of fold 0.80 (0.50 to 0.80, not to be trusted), on sites that were left out 0.70" in (
        found["tripod-ai 23b"].text
    )
    items = {one.item.number: one.answer for one in answer_items(load_checklist("claim"), read_record(run))}
    assert items["33"] is not None
    assert items["33"].anchor == "sites"
    assert "same sites" in items["40"].text  # type: ignore[union-attr]
    assert "site north" in items["37"].text  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ROWS)
def test_what_a_run_does_not_know_it_does_not_answer(name: str, tmp_path: Path) -> None:
    """Of an empty run nothing but what holds of any run is said."""
    bare = RunFolder(tmp_path / "bare")
    bare.path.mkdir()
    for one in answer_items(load_checklist(name), read_record(bare)):
        assert one.authors or one.answer
        assert one.answer is None or one.answer.anchor in {"licences", "looked"}


def test_a_page_is_the_same_twice_and_text_from_data_is_harmless(tmp_path: Path) -> None:
    nasty = ('<script>alert("1")</script>', "$x_{$ & <b> %")
    run = build_run(tmp_path, classes=nasty)
    page = parse(write_checklist(run, "claim").read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    tex = (run.path / "checklist-claim.tex").read_bytes()
    write_checklist(run, "claim")
    assert (run.path / "checklist-claim.tex").read_bytes() == tex
    assert tex.isascii()


@pytest.mark.parametrize("name", ROWS)
def test_the_table_compiles(run: RunFolder, name: str) -> None:
    write_checklist(run, name)
    path = run.path / f"checklist-{name}.tex"
    text = path.read_text(encoding="utf-8")
    body = text[text.index(r"\endfoot") : text.rindex(r"\end{longtable}")]
    rows = body.split("\\addlinespace")[:-1]
    assert len(rows) == ROWS[name][1]
    assert all(len(re.findall(r"(?<!\\)&", row.rpartition(r"\\*")[2])) == 3 for row in rows)
    depth = np.cumsum([(sign == "{") - (sign == "}") for sign in re.sub(r"\\[{}]", "", text) if sign in "{}"])
    assert depth.min() >= 0
    assert depth[-1] == 0
    check_log(compile_article(path))


def test_the_command_writes_report_and_checklist(run: RunFolder) -> None:
    (run.path / "report.html").unlink()
    done = CliRunner().invoke(app, ["report", str(run.path), "--checklist", "claim"])
    assert done.exit_code == 0, done.output
    assert "checklist-claim.html, checklist-claim.tex and report.html" in done.output
    assert (run.path / "report.html").is_file()
    done = CliRunner().invoke(app, ["report", str(run.path), str(run.path), "--checklist", "claim"])
    assert done.exit_code == 2


def test_an_unknown_checklist_is_refused_by_name(run: RunFolder) -> None:
    with pytest.raises(RecipeError, match=r"no checklist is called 'consort'.*claim, stard-ai, tripod-ai"):
        write_checklist(run, "consort")
