"""What cleaning is worth: on images that nobody doubts, where the flattering way of scoring would rise by itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold

from drawn_records import draw_cohort_record, settle_scores
from pages import without_pages
from smalti import workflow
from smalti.audit import write_decisions
from smalti.evaluate import score_predictions
from smalti.ladder import describe_ladder, load_ladder, resolve_ladder, run_ladder
from smalti.ladder.tabulating import tabulate_ladder
from smalti.recipe import load_recipe
from smalti.records import Influence
from smalti.records.studies.ladder import LadderResult, RungState
from smalti.report import write_ladder_report
from smalti.store import write_atomic, write_table
from smalti.types import Action, Decision
from textures import FAST, write_lines

CLASSES = ("A", "B", "C")
IMAGES, SIZE = 150, 8
Chosen = NDArray[np.bool_]


def decide(image: str, action: Action, *, label: str = "", finding: str = "") -> Decision:
    return Decision(image, action, "because", "reader", "2026-11-24", finding, label)


# --- drawn prediction tables --------------------------------------------------------------------------------------


@dataclass
class Problem:
    """Images as Gaussian clouds, two images a case, of which a share has a wrong label; and many fresh ones."""

    features: NDArray[np.float64]
    truth: NDArray[np.int64]
    given: NDArray[np.int64]
    fresh: NDArray[np.float64]
    fresh_truth: NDArray[np.int64]

    @classmethod
    def draw(cls, seed: int, *, wrong_frac: float) -> Problem:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(len(CLASSES), SIZE))
        truth, fresh_truth = (rng.integers(0, len(CLASSES), n) for n in (IMAGES, 4000))
        features, fresh = (centres[t] + rng.normal(0, 1.3, (len(t), SIZE)) for t in (truth, fresh_truth))
        wrong = rng.permutation(IMAGES) < wrong_frac * IMAGES
        given = np.where(wrong, (truth + rng.integers(1, 3, IMAGES)) % len(CLASSES), truth)
        return cls(features, truth, given, fresh, fresh_truth)

    def learn(self, kept: Chosen) -> LogisticRegression:
        return LogisticRegression(C=100.0, max_iter=2000).fit(self.features[kept], self.given[kept])

    def predict(self, kept: Chosen) -> pd.DataFrame:
        """Out-of-fold table of the kept images, the folds those of all images."""
        cases = np.arange(IMAGES) // 2
        rows = []
        for fold, (train, outer) in enumerate(GroupKFold(5).split(cases, groups=cases)):
            model = self.learn(np.isin(np.arange(IMAGES), train) & kept)
            held = outer[kept[outer]]
            for i, scores in zip(held, model.predict_proba(self.features[held]), strict=True):
                rows.append((f"i{i:03d}", f"c{cases[i]:03d}", fold, 0, CLASSES[self.given[i]], *scores))
        return pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label", *(f"score_{c}" for c in CLASSES)])

    def measure_gain(self, kept: Chosen) -> float:
        """What leaving out is really worth: macro-F1 on fresh images under their true labels."""
        scores = [
            f1_score(self.fresh_truth, self.learn(k).predict(self.fresh), average="macro")
            for k in (kept, np.ones(IMAGES, bool))
        ]
        return float(scores[0] - scores[1])


def write_run(path: Path, table: pd.DataFrame, *decisions: Decision) -> None:
    recipe = load_recipe("quick", settings=["evaluate.resamples=100"])
    write_atomic(path / "recipe.yaml", recipe.to_yaml())
    write_table(path / "predictions" / "out_of_fold.csv", table)
    settle_scores(score_predictions(table, classes=CLASSES)).write(path)
    draw_cohort_record(path, classes=CLASSES).write(path)
    Influence().write(path)
    write_decisions(path / "decisions.csv", decisions)


def revive(content: dict[str, Any]) -> LadderResult:
    return LadderResult.model_validate({key: value for key, value in content.items() if key != "version"})


def tabulate(runs: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The table of the first rungs of the built-in ladder, from run folders of these names."""
    steps = resolve_ladder(load_ladder("purge"))[: len(names)]
    states = {s.name: RungState(key="", status="done", run=name) for s, name in zip(steps, names, strict=True)}
    project = workflow.Project(runs / "data", runs)
    return tabulate_ladder(project, steps, states, name="x", about="", started="", finished="now", margin=0.02).dump()


def compare(runs: Path, problem: Problem, choose: Callable[[pd.DataFrame], set[str]]) -> tuple[Chosen, dict[str, Any]]:
    """Which images a choice from the first table keeps, and the ladder of the run with all and the run with those."""
    table = problem.predict(np.ones(IMAGES, bool))
    out = choose(table)
    kept = np.array([f"i{i:03d}" not in out for i in range(IMAGES)])
    write_run(runs / "all", table)
    write_run(runs / "kept", problem.predict(kept), *(decide(image, "exclude") for image in sorted(out)))
    return kept, tabulate(runs, ("all", "kept"))


def choose_hardest(table: pd.DataFrame) -> set[str]:
    """Of every ten images, the one with the highest loss and its next."""
    of_label = [row[f"score_{row['label']}"] for _, row in table.iterrows()]
    return set(table["image"].iloc[np.argsort(of_label)[: IMAGES // 5]])


def read_gains(result: dict[str, Any]) -> tuple[float, float, str]:
    """Gain on the same images, gain of each on its own images, verdict."""
    first, second = result["rungs"][:2]
    gap = second["difference"]["macro_f1"]
    return gap["value"], second["own"]["value"] - first["own"]["value"], gap["verdict"]


@pytest.mark.slow
def test_leaving_out_hard_images_flatters_but_does_not_raise_the_score(tmp_path: Path) -> None:
    gains = []
    verdicts = []
    for seed in range(12):
        problem = Problem.draw(seed, wrong_frac=0)
        kept, result = compare(tmp_path / str(seed), problem, choose_hardest)
        honest, naive, verdict = read_gains(result)
        assert naive > 0.1
        gains.append((honest, naive, problem.measure_gain(kept)))
        verdicts.append(verdict)
    honest, naive, true = np.mean(gains, axis=0)
    assert true < 0.005
    assert honest < 0.005
    assert naive > 0.14
    assert verdicts.count("better") <= 1  # of twelve, at 95 % confidence


@pytest.mark.slow
def test_leaving_out_wrong_labels_is_worth_what_fresh_images_say(tmp_path: Path) -> None:
    gains = []
    for seed in range(6):
        problem = Problem.draw(seed, wrong_frac=0.25)
        wrong = {f"i{i:03d}" for i in np.flatnonzero(problem.truth != problem.given)}
        kept, result = compare(tmp_path / str(seed), problem, lambda _, wrong=wrong: wrong)
        honest, naive, _ = read_gains(result)
        gains.append((honest, naive, problem.measure_gain(kept)))
    honest, naive, true = np.mean(gains, axis=0)
    assert true > 0.02
    assert honest == pytest.approx(true, abs=0.03)
    assert naive > true + 0.1  # wrong labels left the score too


def test_leaving_out_any_images_changes_nothing_but_the_number(tmp_path: Path) -> None:
    problem = Problem.draw(0, wrong_frac=0)
    rng = np.random.default_rng(0)
    _, result = compare(tmp_path, problem, lambda t: set(rng.choice(t["image"], 30, replace=False)))
    honest, naive, verdict = read_gains(result)
    assert abs(honest) < 0.05
    assert abs(naive) < 0.08
    assert verdict == "cannot tell"


# --- which images are trusted -------------------------------------------------------------------------------------


def draw_table(images: list[str], labels: dict[str, str]) -> pd.DataFrame:
    rng = np.random.default_rng(len(images))
    scores = rng.dirichlet(np.ones(3), len(images))
    rows = [(i, i, n % 2, 0, labels.get(i, CLASSES[int(i[1:]) % 3])) for n, i in enumerate(images)]
    table = pd.DataFrame(rows, columns=["image", "case", "fold", "seed", "label"])
    return table.assign(**{f"score_{c}": scores[:, n] for n, c in enumerate(CLASSES)})


def test_what_a_decision_speaks_against_scores_no_rung_and_what_all_follow_is_no_dispute(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(20)]
    shared = (decide("i1", "relabel", label="C"), decide("i2", "keep"))
    rows = (*shared, decide("i3", "exclude"), decide("i4", "relabel", label="A"), decide("i5", "repair"))
    write_run(tmp_path / "all", draw_table(images, {"i1": "C"}), *shared)
    rest = [i for i in images if i not in ("i3", "i6")]  # nobody says why i6 is missing
    write_run(tmp_path / "kept", draw_table(rest, {"i1": "C", "i4": "A"}), *rows)
    write_decisions(
        workflow.find_decisions(workflow.Project(tmp_path / "data", tmp_path)), [*rows, decide("i7", "exclude")]
    )
    result = tabulate(tmp_path, ("all", "kept"))
    assert result["set_aside"] == {"excluded": 2, "relabelled": 1, "repaired": 1, "not scored by every rung": 1}
    first, second = result["rungs"][:2]
    assert first["n_images"] == second["n_images"] == result["n_images"] == 15
    assert (first["own"]["n_images"], second["own"]["n_images"]) == (20, 18)
    trusted = [i for i in images if i not in {"i3", "i4", "i5", "i6", "i7"}]
    for row, (table, labels) in zip((first, second), ((images, {"i1": "C"}), (rest, {"i1": "C"})), strict=True):
        part = draw_table(table, labels).set_index("image").loc[trusted]
        guess = np.array(CLASSES)[part[[f"score_{c}" for c in CLASSES]].to_numpy().argmax(axis=1)]
        assert row["metrics"]["macro_f1"]["value"] == pytest.approx(f1_score(part["label"], guess, average="macro"))
    assert any("5 were set aside from scoring" in line for line in describe_ladder(revive(result)))


def test_decisions_that_come_from_labels_are_said_to_flatter(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(12)]
    rows = (decide("i0", "exclude", finding="contradicting-labels"), decide("i1", "exclude", finding="blank"))
    write_run(tmp_path / "all", draw_table(images, {}))
    write_run(tmp_path / "kept", draw_table(images[2:], {}), *rows)
    words = " ".join(tabulate(tmp_path, ("all", "kept"))["scoring"])
    assert "1 of these decisions answer findings that come from labels" in words
    assert "sealed" in words


def test_labels_that_differ_without_a_decision_are_set_aside_too(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(12)]
    write_run(tmp_path / "all", draw_table(images, {}))
    write_run(tmp_path / "kept", draw_table(images, {"i0": "B"}))
    assert tabulate(tmp_path, ("all", "kept"))["set_aside"] == {"relabelled": 1}


def test_without_dispute_nothing_is_set_aside_and_nothing_said(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(12)]
    for name in ("all", "kept"):
        write_run(tmp_path / name, draw_table(images, {}), decide("i99", "exclude"), decide("i1", "repair"))
    result = tabulate(tmp_path, ("all", "kept"))
    assert (result["set_aside"], result["scoring"], result["n_images"]) == ({}, (), 12)


def test_where_every_image_is_in_doubt_no_rung_has_a_score(tmp_path: Path) -> None:
    images = [f"i{k}" for k in range(12)]
    write_run(tmp_path / "all", draw_table(images, {}))
    write_run(tmp_path / "kept", draw_table(images[:6], {}), *(decide(i, "exclude") for i in images))
    result = tabulate(tmp_path, ("all", "kept"))
    assert [row["metrics"] for row in result["rungs"][:2]] == [None, None]
    assert all("no image is left" in row["notes"][0] for row in result["rungs"][:2])
    assert result["best"] is result["n_images"] is None
    revive(result).write(tmp_path / "ladder")
    assert "no image is left" in write_ladder_report(tmp_path / "ladder").read_text(encoding="utf-8")
    assert describe_ladder(revive(result)) == ["no rung has a score"]


# --- the built-in ladder ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def purged(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The built-in ladder on a cohort with a decision of each kind; read only."""
    place = tmp_path_factory.mktemp("purge")
    data = Path(shutil.copytree(challenge, place / "textures"))
    _put_mask_on_glass(data / "train_data", "0003")
    rows = [
        decide("train_data/img_0012.png", "exclude"),
        decide("train_data/img_0014.png", "relabel", label="C"),
        decide("train_data/img_0003.png", "repair", finding="blank-under-mask"),
        decide("train_data/img_0005.png", "keep"),
    ]
    write_decisions(workflow.find_decisions(workflow.Project(data, place / "runs")), rows)
    settings = (*FAST, "train.finetune.epochs=0", "train.transfer.epochs=3", "audit.checks=[blank-under-mask]")
    with without_pages("write_report", "write_article"):
        folder, found = run_ladder(data, "purge", settings=settings, runs=place / "runs")
    result = found.dump()
    rungs = {row["name"]: row for row in result["rungs"]}
    return SimpleNamespace(data=data, runs=place / "runs", folder=folder, result=result, rungs=rungs)


def _put_mask_on_glass(folder: Path, number: str) -> None:
    """All of the picture right of column 50 becomes glass, where all of its mask is but one column of pixels."""
    picture = np.asarray(cv2.imread(str(folder / f"img_{number}.png")))
    picture[:, 50:] = 244
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[8:-8, 49:-8] = 255
    cv2.imwrite(str(folder / f"img_{number}.png"), picture)
    cv2.imwrite(str(folder / f"mask_{number}.png"), mask)


def read_actions(purged: SimpleNamespace, rung: str) -> list[str]:
    path = purged.runs / purged.rungs[rung]["run"] / "decisions.csv"
    return list(pd.read_csv(path)["action"])


def test_rungs_follow_the_decisions_that_they_name(purged: SimpleNamespace) -> None:
    assert [row["status"] for row in purged.result["rungs"]] == ["done"] * 5, purged.result["rungs"]
    assert read_actions(purged, "as-it-came") == []
    assert read_actions(purged, "exclusions") == ["exclude"]
    assert read_actions(purged, "relabels") == ["exclude", "relabel"]
    assert read_actions(purged, "repairs") == read_actions(purged, "purged") == ["exclude", "relabel", "repair"]
    repaired = {
        name: json.loads((purged.runs / row["run"] / "cohort.json").read_text(encoding="utf-8"))["repaired"]
        for name, row in purged.rungs.items()
    }
    assert {name for name, images in repaired.items() if images} == {"repairs", "purged"}
    assert repaired["repairs"] == ["train_data/img_0003.png"]


def test_every_rung_is_scored_on_the_same_images_and_the_page_says_so(purged: SimpleNamespace) -> None:
    assert purged.result["set_aside"] == {"excluded": 1, "relabelled": 1, "repaired": 1}
    assert {row["n_images"] for row in purged.rungs.values()} == {21}
    assert [row["own"]["n_images"] for row in purged.rungs.values()] == [24, 23, 23, 23, 23]
    assert purged.rungs["purged"]["on"] == "as-it-came"
    page = (purged.folder / "report.html").read_text(encoding="utf-8")
    for sentence in purged.result["scoring"]:
        assert sentence.replace("'", "&#39;") in page or sentence in page
    assert "3 were set aside from scoring" in page
    assert "on its own images" in page


def test_rungs_that_follow_the_same_decisions_train_once(purged: SimpleNamespace) -> None:
    events = purged.runs / purged.rungs["purged"]["run"] / "events.log"
    assert '"trained"' not in events.read_text(encoding="utf-8")
    difference = purged.rungs["purged"]["difference"]
    values = {name: purged.rungs[name]["metrics"]["macro_f1"]["value"] for name in ("purged", "as-it-came")}
    assert difference["macro_f1"]["value"] == pytest.approx(values["purged"] - values["as-it-came"])


def test_a_restricted_rung_can_be_opened_again(purged: SimpleNamespace) -> None:
    """Its folder holds the decisions that it followed, so that nothing more is accepted the second time."""
    run = purged.runs / purged.rungs["exclusions"]["run"]
    before = (run / "environment.json").read_text(encoding="utf-8")
    workflow.reopen(run)
    assert (
        json.loads((run / "environment.json").read_text(encoding="utf-8"))["identity"] == json.loads(before)["identity"]
    )


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_what_a_rule_accepts_is_held_back_from_rungs_that_do_not_name_it(challenge: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(challenge, tmp_path / "textures"))
    for kind in ("img", "mask"):
        shutil.copy(data / "train_data" / f"{kind}_0020.png", data / "train_data" / f"{kind}_0021.png")
    lines = (
        "rungs:",
        "  - {name: none, decisions: false}",
        "  - {name: some, decisions: [relabel]}",
        "  - {name: all, decisions: true}",
    )
    file = write_lines(tmp_path / "steps.yaml", "preset: quick", *lines)
    settings = (*FAST, "train.finetune.epochs=0", "train.transfer.epochs=1", "audit.checks=[exact-duplicate]")
    accept = "audit.accept=[exact-duplicate]"
    result = run_ladder(data, file, settings=(*settings, accept), runs=tmp_path / "runs")[1].dump()
    assert [row["own"]["n_images"] for row in result["rungs"]] == [24, 24, 23]
    assert {row["n_images"] for row in result["rungs"]} == {23}
    workflow.reopen(tmp_path / "runs" / result["rungs"][0]["run"])
    assert not workflow.find_decisions(workflow.Project(data, tmp_path / "runs")).exists()
