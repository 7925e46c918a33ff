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
