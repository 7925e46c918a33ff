"""A folder of new images with labels: scores and a page beside the answers, by a column of its table on request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from handed import Handed
from smalti.cli import app
from smalti.cohort import Columns, list_fresh
from smalti.errors import DataError
from smalti.evaluate import Scoring, score_units
from smalti.model import FolderAnswers
from smalti.records import ModelRecord
from smalti.records.studies.external import ExternalRecord
from smalti.workflow import Listener, score_answers
from textures import CLASSES, write_lines

SCANNERS = Columns(subgroups=("scanner",))


def draw_table(cases: int = 40, *, skill: float, random: int) -> pd.DataFrame:
    """Rows image, case, label, refused, scores; two images a case."""
    rng = np.random.default_rng(random)
    truth = (np.arange(cases) % 3).repeat(2)
    logits = skill * np.eye(3)[truth] + rng.normal(0, 1, (2 * cases, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    head = [(f"x{i:03d}.png", f"p{i // 2}", CLASSES[y], "") for i, y in enumerate(truth)]
    table = pd.DataFrame(head, columns=["image", "case", "label", "refused"])
    return table.assign(**{f"score_{name}": shares[:, i] for i, name in enumerate(CLASSES)})


def answer(folder: Path, table: pd.DataFrame, *, labels: bool = True) -> FolderAnswers:
    """Pictures with a table that names them, and answers for them."""
    (folder / "new").mkdir(parents=True)
    for name in table["image"]:
        Image.new("RGB", (4, 4)).save(folder / "new" / name)
    head = "image,patient,scanner" + (",label" if labels else "")
    rows = [
        f"{row.image},{row.case},{'old' if int(row.case[1:]) % 2 else 'new'}" + (f",{row.label}" if labels else "")
        for row in table.itertuples()
    ]
    write_lines(folder / "new" / "samples.csv", head, *rows)
    out = folder / "out"
    out.mkdir()
    fresh = list_fresh(folder / "new", columns=SCANNERS if labels else Columns())
    return FolderAnswers(out, fresh, table.drop(columns="label"), None)


def describe_model() -> ModelRecord:
    """A model that promises what answers as good as these score out of fold."""
    table = draw_table(skill=2.0, random=7)
    table["fold"] = table["case"].str[1:].astype(int) % 5
    cases = dict(zip(table["image"], table["case"], strict=True))
    scores = score_units(table, Scoring("case", by_case=True), classes=CLASSES, cases=cases)
    return ModelRecord(
        name="ours", classes=CLASSES, unit="case", members=(), bits=None, mpp=None, population="out-of-fold",
        scores=scores, device={}, libraries={}, files={},
    )  # fmt: skip


def test_labels_in_the_folder_make_scores_and_a_page(tmp_path: Path) -> None:
    table = draw_table(skill=1.0, random=1)
    table.loc[:2, "refused"] = "blank: it shows nothing"
    found = answer(tmp_path, table)
    record = score_answers(describe_model(), found, by=["scanner"])
    assert record is not None
    assert ExternalRecord.read(found.path) == record
    assert (record.population, record.scores.unit, record.scores.n_cases) == ("external", "case", 39)
    assert (record.n_labelled, record.refused.n_images, record.refused.n_cases) == (80, 3, 1)
    assert {(row.column, row.value) for row in record.subgroups} == {("scanner", "old"), ("scanner", "new")}
    assert record.promised is not None
    page = (found.path / "external.html").read_text(encoding="utf-8")
    for text in ("External cohort, answered images: macro-F1 by case", "3 of 80 images with a known label are refused",
                 "blank (3)", "By case, out-of-fold (80 images of 40 cases), the model promises",
                 "other cases, so not paired", "scanner",
                 "Calibration slope", 'id="calibration"'):  # fmt: skip
        assert text in page, text
    assert "smalti external cohort" in page
    assert "<script" not in page


def test_the_same_answers_make_the_same_record(tmp_path: Path) -> None:
    found, model = answer(tmp_path, draw_table(skill=1.0, random=1)), describe_model()
    score_answers(model, found)
    first = (found.path / "external.json").read_bytes()
    shuffled = FolderAnswers(found.path, found.fresh, found.table.sample(frac=1, random_state=0), None)
    score_answers(model, shuffled)
    assert (found.path / "external.json").read_bytes() == first


def test_without_labels_there_is_no_score_and_none_of_an_earlier_call(tmp_path: Path) -> None:
    found = answer(tmp_path, draw_table(skill=1.0, random=1), labels=False)
    for name in ("external.json", "external.html"):
        (found.path / name).write_text("of labels that were there before", encoding="utf-8")
    assert score_answers(describe_model(), found) is None
    assert not list(found.path.iterdir())
    with pytest.raises(DataError, match=r"no image of .* has a label"):
        score_answers(describe_model(), found, by=["scanner"])


def test_labels_of_other_classes_are_told_and_not_scored(tmp_path: Path) -> None:
    found = answer(tmp_path, draw_table(skill=1.0, random=1).assign(label="grade 3"))
    heard: list[str] = []
    told = Listener(say=heard.append)
    assert score_answers(describe_model(), found, listener=told) is None
    assert "none of its classes" in heard[0]
    assert not (found.path / "external.json").exists()


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    answer(tmp_path, draw_table(skill=1.0, random=1))
    with pytest.raises(DataError, match="hospital"):
        list_fresh(tmp_path / "new", columns=Columns(subgroups=("hospital",)))


def test_the_command_scores_what_it_answers(handed: Handed, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.mkdir()
    names = []
    for number, path in enumerate(handed.files):
        (new / f"x{number}.png").write_bytes(path.read_bytes())
        names.append(f"x{number}.png,{CLASSES[number % 3]},{'ab'[number % 2]}")
    write_lines(new / "samples.csv", "image,label,scanner", *names)
    words = ["predict", str(handed.models / "colour"), str(new), "--out", str(tmp_path / "out"), "--by", "scanner"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = " ".join(result.output.split())
    assert "macro-F1 by image" in told.partition(", out-of-fold;")[0]
    assert "External cohort, answered images: macro-F1 by image" in told
    assert "open" in told
    assert "external.html" in told
    record = ExternalRecord.read(tmp_path / "out")
    assert record.n_labelled == len(handed.files)
    assert {row.value for row in record.subgroups} == {"a", "b"}
