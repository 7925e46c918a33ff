"""The whole way: what a run folder holds and when, what a decision does, what is done only once."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image, ImageEnhance
from sklearn.metrics import f1_score

from smalti import workflow
from smalti.errors import DataError, RunError, SmaltiError
from smalti.recipe import load_recipe
from smalti.types import DECISION_COLUMNS, FOLD_COLUMNS, HISTORY_COLUMNS, PREDICTION_COLUMNS, SAMPLE_COLUMNS
from smalti.workflow.prepare import ground
from textures import CLASSES, FAST, LABELLED, draw_texture, name_label, write_lines

pytestmark = pytest.mark.slow

QUICK = (*FAST, "train.finetune.epochs=0")
BARE = (*QUICK, "audit.checks=[]")
SCORES = tuple(f"score_{c}" for c in CLASSES)
PLANNED = {
    "influence.json",
    "recipe.yaml",
    "environment.json",
    "cohort.json",
    "samples.csv",
    "cases.csv",
    "decisions.csv",
    "findings.json",
    "folds.csv",
}
LEARNED = {"history.csv", "events.log", "scores.json", "report.html", "submission.csv", "suspects.json", "traces.json"}
LEARNED |= {"figures/augmentation.png"}
PREDICTED = {
    f"predictions/{name}" for name in ("out_of_fold.csv", "by_case.csv", "test.csv", "inner.csv", "rules.json")
}
PREDICTED |= {"predictions/dynamics.npz", "predictions/embeddings.npz"}


@pytest.fixture
def data(challenge: Path, tmp_path: Path) -> Path:
    """A copy of the drawn cohort, to be spoilt."""
    return Path(shutil.copytree(challenge, tmp_path / "textures"))


def list_files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def hash_folder(folder: Path) -> dict[str, tuple[str, int]]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def read_identity(run: Path) -> dict[str, str]:
    return json.loads((run / "environment.json").read_text(encoding="utf-8"))["identity"]


def read_folds(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "folds.csv")


# --- the run folder -----------------------------------------------------------------------------------------------


def test_a_run_folder_holds_what_was_promised_and_nothing_else(finished: Any) -> None:
    pairs = [f"fold{f}-seed{s}" for f in (0, 1) for s in (0, 1)]
    expected = PLANNED | LEARNED | PREDICTED | {f"checkpoints/{p}.safetensors" for p in pairs}
    expected |= {f"predictions/folds/{part}-{p}.csv" for part in ("outer", "test") for p in pairs}
    expected |= {f"predictions/folds/dynamics-{p}.npz" for p in pairs}
    expected |= {f"model/{name}" for name in ("model.json", "README.md", "population.json", "population.npz")}
    expected |= {"model/recipes/whole.yaml"}
    expected |= {f"model/weights/whole/{p}.safetensors" for p in pairs}
    assert list_files(finished.path) == expected


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("samples.csv", SAMPLE_COLUMNS),
        ("folds.csv", FOLD_COLUMNS),
        ("history.csv", HISTORY_COLUMNS),
        ("decisions.csv", DECISION_COLUMNS),
        ("predictions/out_of_fold.csv", PREDICTION_COLUMNS + SCORES),
        ("predictions/inner.csv", PREDICTION_COLUMNS + SCORES),
        ("predictions/test.csv", PREDICTION_COLUMNS + SCORES),
    ],
)
def test_tables_have_the_columns_of_the_contract(name: str, columns: tuple[str, ...], finished: Any) -> None:
    assert (finished.path / name).read_text(encoding="utf-8").splitlines()[0] == ",".join(columns)


def test_the_score_is_that_of_scikit_learn_on_the_table(finished: Any) -> None:
    table = pd.read_csv(finished.path / "predictions" / "out_of_fold.csv")
    guesses = np.array(CLASSES)[table[list(SCORES)].to_numpy().argmax(axis=1)]
    seeds = [
        f1_score(table["label"][rows], guesses[rows], average="macro")
        for rows in (table["seed"] == seed for seed in (0, 1))
    ]
    written = json.loads((finished.path / "scores.json").read_text(encoding="utf-8"))
    assert written["metrics"]["macro_f1"]["value"] == pytest.approx(np.mean(seeds))
    text = finished.describe()
    for part in (f"{np.mean(seeds):.3f}", "interval", "24 images, 18 cases, 2 seed(s)", "chance"):
        assert part in text


def test_inner_predictions_are_of_inner_images(finished: Any) -> None:
    inner, folds = pd.read_csv(finished.path / "predictions" / "inner.csv"), read_folds(finished.path)
    keys = ["seed", "fold", "image"]
    roles = inner.merge(folds, on=keys, validate="1:1")["role"]
    assert set(roles) == {"inner"}
    assert len(inner) == (folds["role"] == "inner").sum() > 0


def test_the_plan_is_written_before_training_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smalti.train.train_folds", stop)
    with pytest.raises(KeyboardInterrupt):
        workflow.run(data, "default", settings=QUICK, runs=tmp_path / "runs", name="r")
    run = tmp_path / "runs" / "r"
    assert list_files(run) == PLANNED | {"events.log"}
    recorded = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    own = ["transfer.lr=0.003", "transfer.weight_decay=0.01", "finetune.lr=0.0003", "finetune.weight_decay=0.01"]
    settled = load_recipe(
        settings=[*QUICK, "model.norm=live", "model.embedding=last", *(f"train.{knob}" for knob in own)]
    )
    assert recorded == settled.model_dump(mode="json")
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert set(environment["identity"]) == {"data", "decisions", "weights", "recipe"}
    assert environment["device"]["accelerator"] == "cpu"
    assert {"torch", "timm", "numpy", "smalti"} <= set(environment["libraries"])


def test_source_data_is_never_changed(data: Path, tmp_path: Path) -> None:
    before = hash_folder(data)
    workflow.run(data, "default", settings=QUICK, runs=tmp_path / "runs")
    assert hash_folder(data) == before
    assert set(tmp_path.iterdir()) == {data, tmp_path / "runs"}


def test_events_say_what_was_done_in_order(finished: Any) -> None:
    lines = [json.loads(line) for line in (finished.path / "events.log").read_text(encoding="utf-8").splitlines()]
    stages = ["tile", "features", "train", "predict", "evaluate", "suspects", "model", "report"]
    begun = [line["event"] for line in lines if line["event"] != "trained"]
    assert begun == [f"{stage} {word}" for stage in stages for word in ("begins", "done")]
    assert [line["split"] for line in lines if line["event"] == "trained"] == [
        f"fold{f}-seed{s}" for s in (0, 1) for f in (0, 1)
    ]


@pytest.mark.usefixtures("no_pages")
def test_labels_that_mean_nothing_score_by_chance_whatever_the_cache_holds(data: Path, tmp_path: Path) -> None:
    """The whole way on shuffled labels, pooled over three shuffles: inside what guessing gives.

    Tiles and features were computed under the true labels before, and are used again.
    """
    true = workflow.run(data, "default", settings=BARE, runs=tmp_path / "runs", name="true")
    assert true.scores.metrics["macro_f1"].value > 0.6
    cached = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "cache").rglob("*.*32")}
    assert cached
    truth, guesses = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = rng.permutation([name_label(i) for i in range(LABELLED)])
        write_lines(data / "train_labels.csv", "sample_index,label", *(f"{i},{v}" for i, v in enumerate(labels)))
        (data / "cases.csv").unlink(missing_ok=True)
        run = workflow.run(data, "default", settings=BARE, runs=tmp_path / "runs", name=f"r{seed}").path
        table = pd.read_csv(run / "predictions" / "out_of_fold.csv")
        truth += table["label"].tolist()
        guesses += np.array(CLASSES)[table[list(SCORES)].to_numpy().argmax(axis=1)].tolist()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "cache").rglob("*.*32")} == cached
    rng = np.random.default_rng(9)
    chance = [f1_score(rng.permutation(truth), guesses, average="macro") for _ in range(500)]
    observed = f1_score(truth, guesses, average="macro")
    # Upwards is a leak. Downwards there is more room: whoever is held out is missing from the classes learned.
    assert np.mean(chance) - 5 * np.std(chance) < observed < np.quantile(chance, 0.995)


# --- done only once -----------------------------------------------------------------------------------------------


def watch_files(run: Path) -> dict[str, int]:
    folders = (run / "checkpoints", run / "predictions" / "folds", run.parent / "cache")
    return {
        str(p): p.stat().st_mtime_ns for f in folders for p in f.rglob("*") if p.is_file() and p.name != "hashes.json"
    }


@pytest.mark.usefixtures("no_pages")
def test_reopening_and_running_again_train_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = workflow.run(data, "default", settings=BARE, runs=tmp_path / "runs", name="r")
    kept, scores = watch_files(first.path), (first.path / "predictions" / "out_of_fold.csv").read_bytes()
    experiment = workflow.reopen(first.path)
    assert [s.name for s in experiment.splits] == ["fold0-seed0", "fold1-seed0"]
    workflow.predict(experiment)
    monkeypatch.chdir(first.path)
    experiment = workflow.reopen(".")  # a person who stands in the run folder
    assert experiment.run.path.resolve() == first.path.resolve()
    monkeypatch.undo()
    again = workflow.run(data, "default", settings=BARE, runs=tmp_path / "runs", name="r")
    assert watch_files(first.path) == kept
    assert (first.path / "predictions" / "out_of_fold.csv").read_bytes() == scores
    assert again.scores == first.scores
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"r", "cache"}


def test_another_recipe_or_other_data_in_the_same_folder_is_refused(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"runs": tmp_path / "runs", "name": "r"}
    workflow.train_run(data, settings=BARE, **options)
    kept = hash_folder(tmp_path / "runs" / "r")
    with pytest.raises(RunError, match=r"different: recipe.*Fix"):
        workflow.train_run(data, settings=[*BARE, "model.dropout=0.3"], **options)
    write_lines(data / "cases.csv", "sample_index,case", "0,x", "2,x")
    with pytest.raises(RunError, match="different: data"):
        workflow.train_run(data, settings=BARE, **options)
    assert hash_folder(tmp_path / "runs" / "r") == kept


def test_a_folder_that_is_no_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    for call in (workflow.evaluate_run, workflow.report_run, workflow.reopen):
        with pytest.raises(SmaltiError, match=r"nowhere.*Fix"):
            call(tmp_path / "nowhere")  # type: ignore[operator]
    assert not list(tmp_path.iterdir())


# --- decisions ----------------------------------------------------------------------------------------------------


def decide(path: Path, *rows: tuple[str, str, str]) -> Path:
    lines = (f"{image},{action},{label},seen at the microscope,a reader,," for image, action, label in rows)
    return write_lines(path, ",".join(DECISION_COLUMNS), *lines)


def test_decisions_act_and_belong_to_the_identity(data: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    plain = workflow.train_run(data, settings=BARE, runs=runs, name="plain")
    file = decide(
        tmp_path / "d.csv",
        ("train_data/img_0012.png", "exclude", ""),
        ("train_data/img_0014.png", "relabel", "C"),
        ("train_data/img_0016.png", "keep", ""),
    )
    other = workflow.train_run(data, settings=BARE, runs=runs, name="other", decisions=file)
    before, after = ({s.image: s.label for s in e.cohort.labelled} for e in (plain, other))
    assert {k for k in before if k not in after} == {"train_data/img_0012.png"}
    assert {k: after[k] for k in after if after[k] != before[k]} == {"train_data/img_0014.png": "C"}
    one, two = read_identity(plain.run.path), read_identity(other.run.path)
    assert one["decisions"] != two["decisions"]
    assert one["recipe"] == two["recipe"]
    assert "img_0012" not in (other.run.path / "folds.csv").read_text(encoding="utf-8")
    record = json.loads((other.run.path / "cohort.json").read_text(encoding="utf-8"))
    assert [row["image"] for row in record["left_out"]] == ["train_data/img_0012.png"]
    with pytest.raises(RunError, match="decisions"):
        workflow.train_run(data, settings=BARE, runs=runs, name="plain", decisions=file)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("train_data/img_9999.png", "exclude", ""), "no image"),
        (("train_data/img_0001.png", "delete", ""), "no action"),
        (("train_data/img_0001.png", "relabel", "D"), "no class"),
    ],
)
def test_a_decision_that_cannot_be_followed_stops(
    row: tuple[str, str, str], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        workflow.train_run(data, settings=BARE, runs=tmp_path / "runs", decisions=decide(tmp_path / "d.csv", row))
    assert not list((tmp_path / "runs").glob("*/recipe.yaml"))


def test_near_duplicates_are_one_case_and_share_a_fold(data: Path, tmp_path: Path) -> None:
    """A brighter copy, saved again, under another name and case."""
    source = Image.open(data / "train_data" / "img_0020.png")
    ImageEnhance.Brightness(source).enhance(1.04).save(data / "train_data" / "img_0013.png")
    shutil.copy(data / "train_data" / "mask_0020.png", data / "train_data" / "mask_0013.png")
    settings = [*QUICK, "audit.checks=[near-duplicate]"]
    found = workflow.train_run(data, settings=settings, runs=tmp_path / "runs", name="r")
    case = {s.image: s.case for s in found.cohort.labelled}
    assert case["train_data/img_0013.png"] == case["train_data/img_0020.png"] == "s13"
    folds = read_folds(found.run.path)
    pair = folds[folds["image"].isin(["train_data/img_0013.png", "train_data/img_0020.png"])]
    assert len(pair) == 2 * len(found.splits)
    assert (pair.groupby("fold")["role"].nunique() == 1).all()
    assert "near-duplicate" in (found.run.path / "findings.json").read_text(encoding="utf-8")


def test_a_rule_accepts_proposals_once(data: Path, tmp_path: Path) -> None:
    shutil.copy(data / "train_data" / "img_0020.png", data / "train_data" / "img_0021.png")
    shutil.copy(data / "train_data" / "mask_0020.png", data / "train_data" / "mask_0021.png")
    settings = [*QUICK, "audit.checks=[exact-duplicate]", "audit.accept=[exact-duplicate]"]
    options: dict[str, Any] = {"settings": settings, "runs": tmp_path / "runs", "name": "r"}
    first = workflow.train_run(data, **options)
    file = workflow.find_decisions(workflow.Project(data, tmp_path / "runs"))
    written = pd.read_csv(file)
    assert written["action"].tolist() == ["exclude"]
    assert written["finding"].tolist() == ["exact-duplicate"]
    assert len(first.cohort.labelled) == LABELLED - 1
    text = file.read_bytes()
    workflow.train_run(data, **options)
    assert file.read_bytes() == text == (first.run.path / "decisions.csv").read_bytes()


# --- problems -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_pages")
def test_skipped_problems_are_decisions_and_stay_so(data: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    broken = data / "train_data" / "img_0015.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (data / "test_data" / "img_0002.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        workflow.run(data, "default", settings=BARE, runs=runs, name="r")
    assert {p.file for p in caught.value.problems} == {"train_data/img_0015.png", "test_data/img_0002.png"}
    assert not runs.exists()
    said: list[str] = []
    listener = workflow.Listener(say=said.append)
    first = workflow.run(data, "default", settings=BARE, runs=runs, name="r", skip_problems=True, listener=listener)
    assert any("2 image(s) with problems are left out" in text for text in said)
    assert any("most frequent class" in text for text in said)
    written = pd.read_csv(workflow.find_decisions(workflow.Project(data, runs)))
    assert sorted(written["image"]) == ["test_data/img_0002.png", "train_data/img_0015.png"]
    assert set(written["action"]) == {"exclude"}
    assert set(written["who"]) == {ground.SKIPPED}
    assert len(pd.read_csv(first.path / "submission.csv")) == 6
    kept = watch_files(first.path)
    again = workflow.run(data, "default", settings=BARE, runs=runs, name="r")
    assert again.scores == first.scores
    assert watch_files(first.path) == kept
    workflow.predict(workflow.reopen(first.path))


# --- other layouts ------------------------------------------------------------------------------------------------


def write_class_folders(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(LABELLED):
        path = folder / name_label(number) / f"picture{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_texture(name_label(number), rng)).save(path)
    return folder


def write_tabled(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    (folder / "slides").mkdir(parents=True)
    rows = []
    for number in range(LABELLED + 3):
        label = name_label(number)
        Image.fromarray(draw_texture(label, rng)).save(folder / "slides" / f"s{number}.png")
        rows.append(f"slides/s{number}.png,{label},p{number // 2}")
    write_lines(folder / "samples.csv", "image,diagnosis,patient", *rows)
    return folder


def test_class_folders_go_the_whole_way(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "folders")
    result = workflow.run(data, "default", settings=QUICK, runs=tmp_path / "runs", name="r")
    assert result.scores.metrics["macro_f1"].value > 0.6
    assert result.scores.n_images == result.scores.n_cases == LABELLED
    assert {"submission.csv", "predictions/test.csv"}.isdisjoint(list_files(result.path))


@pytest.mark.usefixtures("no_pages")
def test_a_table_with_named_columns_goes_the_whole_way(tmp_path: Path) -> None:
    data = write_tabled(tmp_path / "table")
    settings = [*BARE, "data.label=diagnosis", "data.case=patient"]
    result = workflow.run(data, "default", settings=settings, runs=tmp_path / "runs", name="r")
    assert result.scores.metrics["macro_f1"].value > 0.6
    assert result.scores.n_images == LABELLED + 3
    assert result.scores.n_cases == math.ceil((LABELLED + 3) / 2)


# --- a table of another tool --------------------------------------------------------------------------------------


def test_a_table_that_another_tool_made_is_scored(tmp_path: Path) -> None:
    """Six images, two classes: three hits of 'no', two of 'yes', one 'no' taken for 'yes'."""
    rows = [
        ("a", "no", 0.9),
        ("b", "no", 0.8),
        ("c", "no", 0.6),
        ("d", "no", 0.3),
        ("e", "yes", 0.2),
        ("f", "yes", 0.4),
    ]
    path = write_lines(
        tmp_path / "t.csv", "image,label,score_no,score_yes", *(f"{i},{v},{s},{1 - s}" for i, v, s in rows)
    )
    result = workflow.evaluate_table(path)
    assert result.scores.metrics["macro_f1"].value == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert result.scores.metrics["balanced_accuracy"].value == pytest.approx((3 / 4 + 1) / 2)
    assert result.scores.n_cases == 6
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["image,label\na,x\n", "image,label,score_x,score_y\na,z,0.5,0.5\n", "", "a\nb,c,d\n"])
def test_a_table_that_cannot_be_scored_says_why(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SmaltiError, match="Fix"):
        workflow.evaluate_table(tmp_path / "t.csv")
    with pytest.raises(SmaltiError, match="Fix"):
        workflow.evaluate_table(tmp_path / "absent.csv")
