"""Answers by case: the mean against pandas, scores against scikit-learn, what is chosen, refused, and never mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as reference
from typer.testing import CliRunner

from smalti import cli, workflow
from smalti.errors import DataError, RunError, SmaltiError
from smalti.evaluate import Scoring, average_cases, choose_unit, score_predictions, score_units
from smalti.ladder.scoring import read_scored, score_on, settle_unit
from smalti.logbook import choose_best, read_logbook
from smalti.recipe import load_recipe
from smalti.records import Scores, UnitScores
from smalti.stats import pool_predictions
from smalti.store import read_table
from smalti.tune.trial import TrialRunner, score_table
from textures import BARE, FAST, draw_texture, write_lines

CLASSES = ("a", "b", "c")
SCORES = ["score_a", "score_b", "score_c"]
BY_CASE = Scoring("case", by_case=True, reason="drawn")


def draw_table(cases: int = 40, *, sizes: tuple[int, ...] = (3,), seeds: int = 2, random: int = 0) -> pd.DataFrame:
    """Predictions with some skill; case k has ``sizes[k % len(sizes)]`` images, named so that both orders agree."""
    rng = np.random.default_rng(random)
    case = np.repeat(np.arange(cases), [sizes[k % len(sizes)] for k in range(cases)])
    label = rng.choice(3, size=cases, p=(0.5, 0.3, 0.2))[case]
    tables = []
    for seed in range(seeds):
        logits = rng.normal(size=(len(case), 3)) + rng.normal(size=(cases, 3))[case]
        logits[np.arange(len(case)), label] += 1.0
        table = pd.DataFrame(
            {"image": [f"i{n:04d}.png" for n in range(len(case))], "case": [f"p{c:03d}" for c in case]}
        )
        table = table.assign(fold=(case + seed) % 5, seed=seed, label=np.array(CLASSES)[label])
        table[SCORES] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def name_cases(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["image"], table["case"], strict=True))


def score_both(table: pd.DataFrame, cases: dict[str, str], **more: Any) -> Scores:
    return score_units(table, BY_CASE, classes=CLASSES, cases=cases, **more)


# --- the mean -----------------------------------------------------------------------------------------------------


def test_a_case_is_the_mean_of_its_images_as_pandas_has_it() -> None:
    table = draw_table(sizes=(1, 2, 5))
    found = average_cases(table.sample(frac=1, random_state=1), name_cases(table), classes=CLASSES)
    wanted = table.groupby(["seed", "case"])[SCORES].mean()
    assert list(found.columns) == ["image", "case", "fold", "seed", "label", *SCORES]
    assert len(found) == len(wanted) == 80
    pd.testing.assert_frame_equal(found.set_index(["seed", "image"])[SCORES].sort_index(), wanted, check_names=False)
    first = table.groupby(["seed", "case"])[["label", "fold"]].first()
    assert found.set_index(["seed", "image"]).sort_index()["label"].tolist() == first["label"].tolist()
    assert found.set_index(["seed", "image"]).sort_index()["fold"].tolist() == first["fold"].tolist()
    np.testing.assert_allclose(found[SCORES].sum(axis=1), 1)


def test_scores_by_case_are_those_of_scikit_learn_on_the_means() -> None:
    table = draw_table(sizes=(1, 2, 5))
    scores = score_both(table, name_cases(table))
    values = []
    for _, rows in table.groupby("seed"):
        means = rows.groupby("case")[SCORES].mean()
        truth = rows.groupby("case")["label"].first().map({"a": 0, "b": 1, "c": 2}).to_numpy()
        guess = means.to_numpy().argmax(axis=1)
        values.append(
            (
                reference.f1_score(truth, guess, average="macro"),
                reference.accuracy_score(truth, guess),
                reference.roc_auc_score(truth, means.to_numpy(), multi_class="ovr"),
                reference.log_loss(truth, means.to_numpy()),
            )
        )
    found = [scores.metrics[name].value for name in ("macro_f1", "accuracy", "auc", "log_loss")]
    assert found == pytest.approx(np.mean(values, axis=0))
    assert (scores.n_images, scores.n_units, scores.n_cases) == (105, 40, 40)
    assert np.sum(scores.confusion) == pytest.approx(40)
    assert scores.by_image == score_predictions(table, classes=CLASSES)


def test_with_one_image_a_case_both_units_have_the_very_same_scores() -> None:
    table = draw_table(60, sizes=(1,))
    scores = score_both(table, name_cases(table), inner=draw_table(60, sizes=(1,), random=3))
    assert UnitScores(**{key: getattr(scores, key) for key in UnitScores.model_fields}) == scores.by_image


def test_cases_that_share_a_picture_are_two_answers_and_one_in_the_intervals() -> None:
    table, named = draw_table(), name_cases(draw_table())
    joined = table.assign(case=["p000" if case == "p005" else case for case in table["case"]])  # of one fold
    apart, together = score_both(table, named), score_both(joined, named)
    assert (together.n_units, together.n_cases) == (40, 39)
    assert together.metrics["macro_f1"].value == apart.metrics["macro_f1"].value
    assert together.metrics["macro_f1"].low != apart.metrics["macro_f1"].low


def test_a_case_with_two_labels_has_no_mean() -> None:
    table = draw_table()
    table.loc[table["image"] == "i0001.png", "label"] = "c" if table["label"][0] != "c" else "a"
    with pytest.raises(DataError, match="p000: "):
        average_cases(table, name_cases(table), classes=CLASSES)


def test_inner_rows_are_averaged_within_their_fold() -> None:
    inner = draw_table(sizes=(4,), seeds=1)
    twice = pd.concat([inner, inner.assign(fold=inner["fold"] + 1)])  # inner in two folds
    scores = score_both(draw_table(sizes=(4,), seeds=1), name_cases(inner), inner=twice)
    means = inner.groupby("case")[SCORES].mean().to_numpy()
    truth = inner.groupby("case")["label"].first().map({"a": 0, "b": 1, "c": 2})
    wanted = reference.f1_score(truth, means.argmax(axis=1), average="macro")
    assert scores.inner["macro_f1"] == pytest.approx(wanted)
    assert scores.optimism == pytest.approx(wanted - scores.metrics["macro_f1"].value)


@pytest.mark.slow
def test_labels_shuffled_by_case_score_at_chance_by_case() -> None:
    gaps, inside = [], []
    for random in range(40):
        rng = np.random.default_rng(random)
        table = draw_table(60, sizes=(2, 6), seeds=1, random=random)
        given = table.groupby("case")["label"].first()
        shuffled = dict(zip(given.index, rng.permutation(given.to_numpy()), strict=True))
        metric = score_both(table.assign(label=table["case"].map(shuffled)), name_cases(table)).metrics["accuracy"]
        agreed = float((given.to_numpy() == pd.Series(shuffled).reindex(given.index).to_numpy()).mean())
        gaps.append(metric.value - metric.chance_prior)
        inside.append(metric.low <= max(metric.chance_prior, agreed) <= metric.high)
    assert abs(np.mean(gaps)) < 0.03
    assert np.mean(inside) > 0.85


# --- which unit ---------------------------------------------------------------------------------------------------

LABELS = {"1.png": "a", "2.png": "a", "3.png": "b", "4.png": "b"}
PAIRS = {"1.png": "p", "2.png": "p", "3.png": "q", "4.png": "q"}
MIXED = {"1.png": "p", "2.png": "q", "3.png": "q", "4.png": "r"}


@pytest.mark.parametrize(
    ("cases", "asked", "submitted", "unit", "by_case", "reason"),
    [
        (PAIRS, None, None, "case", True, "all images of each of the 2 cases share their label"),
        (PAIRS, None, "image", "image", True, "sample submission asks by image"),
        (PAIRS, None, "case", "case", True, "share their label"),
        (PAIRS, "image", None, "image", True, "as asked for"),
        (PAIRS, "case", "image", "case", True, "as asked for"),
        (MIXED, None, "case", "image", False, "1 of 3 cases have images with several labels (q: 1 a, 1 b)"),
        (MIXED, "image", None, "image", False, "q: 1 a, 1 b"),
        ({image: image for image in LABELS}, None, None, "image", False, "names no cases"),
        (None, None, None, "image", False, "names no cases"),
        ({"1.png": "p", "2.png": "q", "3.png": "r", "4.png": "s"}, None, None, "image", False, "every case has one"),
        ({"1.png": "p", "2.png": "q", "3.png": "r", "4.png": "s"}, "case", None, "case", True, "as asked for"),
        ({"1.png": "p", "2.png": "p"}, None, None, "case", True, "3 cases"),
    ],
)
def test_the_unit_is_chosen_and_said(
    cases: Any, asked: Any, submitted: Any, unit: str, by_case: bool, reason: str
) -> None:
    found = choose_unit(LABELS, cases, asked=asked, submitted=submitted)
    assert (found.unit, found.by_case) == (unit, by_case)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("cases", "message"),
    [(None, "names no cases.*data.case"), ({i: i for i in LABELS}, "names no cases"), (MIXED, "q: 1 a, 1 b.*image")],
)
def test_answers_by_case_that_do_not_exist_are_refused(cases: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s)no answer by case.*{message}"):
        choose_unit(LABELS, cases, asked="case")


# --- runs ---------------------------------------------------------------------------------------------------------


def draw_lab(folder: Path) -> Path:
    """Nine patients with two images each, three of them to predict; two patients share a picture."""
    rng, rows = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for number in range(18):
        patient = number // 2
        label = "AB"[patient % 2]
        pixels = draw_texture(label, rng)
        name = f"images/{number:02d}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append(f"{name},{label if patient < 6 else ''},P{patient},{'train' if patient < 6 else 'test'}")
    shutil.copyfile(folder / "images" / "00.png", folder / "images" / "08.png")  # of P0, and of P4 with the same label
    write_lines(folder / "samples.csv", "image,label,patient,part", *rows)
    write_lines(folder / "sample_submission.csv", "patient,A,B", *(f"P{p},0.5,0.5" for p in (8, 6, 7)))
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Runs by case and by image; read only."""
    place = tmp_path_factory.mktemp("lab")
    data, runs = draw_lab(place / "lab"), place / "runs"
    settings = [*FAST, "train.finetune.epochs=0", "predict.calibration=temperature", "split.seeds=[0,1]"]
    settings += ["audit.checks=[exact-duplicate]"]
    by_case = workflow.run(data, "default", settings=settings, runs=runs, name="cases")
    by_image = workflow.run(data, "default", settings=[*settings, "evaluate.unit=image"], runs=runs, name="images")
    return SimpleNamespace(data=data, runs=runs, cases=by_case, images=by_image)


def test_a_run_answers_by_patient_first_and_by_image_beside(lab: SimpleNamespace) -> None:
    scores = Scores.read(lab.cases.path)
    assert (scores.unit, scores.n_images, scores.n_units, scores.n_cases) == ("case", 12, 6, 5)
    assert "6 cases share their label" in scores.unit_reason
    out = pd.read_csv(lab.cases.path / "predictions" / "out_of_fold.csv")
    patients = {f"images/{n:02d}.png": f"P{n // 2}" for n in range(18)}
    means = out.assign(patient=out["image"].map(patients)).groupby(["seed", "patient"])
    truth, guess = means["label"].first(), means[["score_A", "score_B"]].mean().to_numpy().argmax(axis=1)
    f1 = [
        reference.f1_score(truth[truth.index.get_level_values("seed") == s],
                           np.array(["A", "B"])[guess[truth.index.get_level_values("seed") == s]], average="macro")
        for s in (0, 1)
    ]  # fmt: skip
    assert scores.metrics["macro_f1"].value == pytest.approx(np.mean(f1))
    by_case = pd.read_csv(lab.cases.path / "predictions" / "by_case.csv")
    assert len(by_case) == 12
    assert by_case.groupby("seed")["case"].nunique().tolist() == [5, 5]  # P0 and P4 share a picture
    text = lab.cases.describe()
    assert text.startswith("by case: macro-F1")
    assert "12 images, 6 cases (5 apart: some share pictures), 2 seed(s)" in text
    assert f"By image: macro-F1 {scores.by_image.headline.value:.3f}" in text
    assert lab.images.scores.take("case").metrics == scores.metrics
    assert lab.images.scores.take("image").metrics == scores.by_image.metrics


def test_a_submission_by_patient_holds_the_means_of_the_table_by_case(lab: SimpleNamespace) -> None:
    table = pd.read_csv(lab.cases.path / "predictions" / "test_by_case.csv")
    assert sorted(set(table["image"])) == ["P6", "P7", "P8"]
    assert len(table) == 3 * 2 * 2  # patients, folds, seeds
    sent = pd.read_csv(lab.cases.path / "submission.csv").set_index("patient")
    assert sent.index.tolist() == ["P8", "P6", "P7"]
    means = table.groupby("image")[["score_A", "score_B"]].mean()
    np.testing.assert_allclose(sent.sort_index().to_numpy(), means.to_numpy(), atol=1e-8)


def test_the_page_has_the_cases_that_went_most_wrong(lab: SimpleNamespace) -> None:
    page = (lab.cases.path / "report.html").read_text(encoding="utf-8")
    section = page.partition('id="cases"')[2].partition("</section>")[0]
    assert all(f"<td>P{n}</td>" in section for n in range(6))
    assert "5 in the intervals" in section
    assert "macro-F1 by case" in page
    assert 'id="cases"' in (lab.images.path / "report.html").read_text(encoding="utf-8")


def test_runs_by_image_and_by_case_are_no_pair(lab: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="--unit image"):
        workflow.compare_sources(["cases", "images"], runs=lab.runs)
    for unit, number in (("image", 12), ("case", 6)):
        result = workflow.compare_sources(["cases", "images"], runs=lab.runs, unit=unit).dump()
        assert (result["unit"], result["n_images"], result["n_units"]) == (unit, 12, number)
        values = [row["metrics"]["macro_f1"]["value"] for row in result["rows"]]
        wanted = lab.cases.scores.take(unit).metrics["macro_f1"].value
        assert values == pytest.approx([wanted] * 2)
        assert result["rows"][1]["difference"]["macro_f1"]["value"] == 0
    alike = workflow.compare_sources(["cases", "cases"], runs=lab.runs).dump()
    assert (alike["unit"], alike["unit_reason"]) == ("case", "as the runs are scored")


def test_a_run_of_another_version_is_one_error_with_the_fix(lab: SimpleNamespace, tmp_path: Path) -> None:
    old = Path(shutil.copytree(lab.images.path, tmp_path / "old"))
    content = json.loads((old / "environment.json").read_text(encoding="utf-8"))
    del content["version"]
    (old / "environment.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"environment.json was written by another version .* Fix: .* --name"):
        workflow.evaluate_run(old)


def test_a_ladder_of_both_is_scored_by_image(lab: SimpleNamespace) -> None:
    both = [read_scored(run) for run in (lab.cases.path, lab.images.path)]
    unit, words = settle_unit(both)
    assert unit == "image"
    assert words
    assert settle_unit(both[:1]) == ("case", [])
    scores = [score_on(outcome, outcome.pool.images[:8], unit).metrics for outcome in both]
    assert scores[0] == scores[1]
    some = [p for p in both[0].pool.images if p in {f"images/{n:02d}.png" for n in range(8)}]
    part = score_on(both[0], some, "case")
    assert (part.n_images, part.n_units) == (8, 4)


def test_scores_of_another_unit_do_not_compete_for_the_best(lab: SimpleNamespace) -> None:
    entries = {entry.name: entry for entry in read_logbook(lab.runs).entries}
    assert choose_best([entries["cases"], entries["images"]]).name == "images"  # the latest says what is counted
    assert choose_best([entries["cases"]]).unit == "case"


def test_a_question_that_has_no_answer_is_refused_before_anything_is_written(lab: SimpleNamespace) -> None:
    data = Path(shutil.copytree(lab.data, lab.runs.parent / "mixed"))
    text = (data / "samples.csv").read_text(encoding="utf-8").replace("images/02.png,B", "images/02.png,A")
    (data / "samples.csv").write_text(text, encoding="utf-8")
    runs = lab.runs.parent / "none"
    with pytest.raises(SmaltiError, match="P1: 1 A, 1 B"):
        workflow.run(data, "default", settings=[*BARE, "evaluate.unit=case"], runs=runs, name="r")
    assert not (runs / "r").exists()


def test_a_search_chooses_by_what_it_is_scored_by(lab: SimpleNamespace) -> None:
    recipe = load_recipe(settings=[*FAST, "audit.checks=[exact-duplicate]"])
    project = workflow.Project(lab.data, lab.runs)
    ground = workflow.inspect_ground(project, recipe)
    table = read_table(lab.cases.path / "predictions" / "out_of_fold.csv")
    for unit in ("case", "image"):
        asked = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"unit": unit})})
        bench = TrialRunner(project, ground, lab.runs / "tune", asked)
        wanted = lab.cases.scores.take(unit).metrics["macro_f1"].value
        assert score_table(bench.count(table), ("A", "B")) == pytest.approx(wanted)


def test_a_page_of_many_runs_sets_no_score_by_image_beside_one_by_case(lab: SimpleNamespace, tmp_path: Path) -> None:
    page = workflow.report_on(runs=lab.runs, to=tmp_path / "page").read_text(encoding="utf-8")
    assert "Highest on lab, by case: &#39;cases&#39;" in page
    assert "Highest on lab, by image" in page


# --- tables of other tools ----------------------------------------------------------------------------------------


def test_a_table_of_another_tool_is_scored_by_its_cases(tmp_path: Path) -> None:
    table = draw_table(sizes=(2, 3), seeds=1)
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    found = workflow.evaluate_table(path).scores
    wanted = score_predictions(average_cases(table, name_cases(table), classes=CLASSES), classes=CLASSES)
    assert found.unit == "case"
    assert found.metrics["macro_f1"].value == pytest.approx(wanted.metrics["macro_f1"].value)
    assert workflow.evaluate_table(path, unit="image").scores.unit == "image"
    table.drop(columns="case").to_csv(path, index=False)
    assert workflow.evaluate_table(path).scores.unit == "image"
    with pytest.raises(DataError, match="no answer by case"):
        workflow.evaluate_table(path, unit="case")


def test_the_command_takes_a_unit_for_tables_and_not_for_runs(lab: SimpleNamespace, tmp_path: Path) -> None:
    draw_table(sizes=(2,)).to_csv(tmp_path / "table.csv", index=False)

    def call(*words: str | Path) -> Any:
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    assert "Scored by image: as asked for." in call("evaluate", tmp_path / "table.csv", "--unit", "image").output
    assert "Scored by case" in call("evaluate", tmp_path / "table.csv").output
    refused = call("evaluate", lab.cases.path, "--unit", "image")
    assert refused.exit_code != 0
    told = call("compare", "cases", "images", "--runs", lab.runs, "--unit", "case")
    assert "by case (as asked for); 12 images" in told.output


def test_two_tables_are_compared_by_case_on_the_images_that_both_have(tmp_path: Path) -> None:
    first, second = draw_table(sizes=(2, 3)), draw_table(sizes=(2, 3))
    second = second[second["image"] != "i0000.png"]
    for name, table in (("one", first), ("two", second)):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    with pytest.raises(DataError, match="--common"):
        workflow.compare_sources(paths, unit="case")
    result = workflow.compare_sources(paths, common=True).dump()
    assert (result["unit"], result["n_images"], result["n_units"]) == ("case", 99, 40)
    assert result["rows"][1]["difference"]["macro_f1"]["value"] == 0  # both without the image
    pool = pool_predictions(average_cases(second, name_cases(first), classes=CLASSES), classes=CLASSES)
    assert pool.n_cases == 40
