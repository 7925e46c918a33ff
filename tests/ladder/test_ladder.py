"""The ladder: what a file may say, what a rung inherits, what is run again, and what the rows are worth."""

from __future__ import annotations

import errno
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from pages import without_pages
from smalti import workflow
from smalti.audit.decisions import ACTIONS
from smalti.cli import app
from smalti.errors import DataError, RecipeError, RunError
from smalti.ladder import Ladder, describe_ladder, load_ladder, resolve_ladder, run_ladder
from smalti.ladder.progress import measure_progress
from smalti.recipe import list_documents
from smalti.records import RunFolder, log_event
from smalti.records.studies.ladder import LadderResult, Rung
from smalti.types import DECISION_COLUMNS
from textures import CLASSES, FAST, LABELLED, write_lines

SETTINGS = (
    *FAST, "train.finetune.epochs=0", "train.transfer.epochs=4", "evaluate.resamples=100",
    "audit.checks=[exact-duplicate]",
)  # fmt: skip
KEYS = ["seed", "fold", "image"]
STEPS = """
about: What is each step worth?
preset: quick
rungs:
  - {name: shrunk, change: nothing cleaned, set: [tile.source=whole], decisions: false}
  - {name: cleaned, decisions: true, set: ["audit.accept=[exact-duplicate]"]}
  - {name: tiles, set: [tile.source=tiles]}
  - {name: turns, set: [predict.views=4]}
  - {name: prior, from: shrunk, set: [predict.decision=prior]}
  - {name: average, from: tiles, members: [cleaned, tiles]}
"""
FAULTS = """
preset: quick
set: ["audit.accept=[exact-duplicate]"]
rungs:
  - {name: tiles}
  - {name: broken, set: [train.transfer.optimiser=adamww]}
  - {name: lost, from: tiles, set: [model.weights=absent.safetensors]}
  - {name: above, set: [model.weights=null, predict.decision=prior]}
  - {name: half, from: tiles, members: [tiles, broken]}
"""

Climb = Callable[..., dict[str, Any]]


# --- what a file may say ------------------------------------------------------------------------------------------


def write_ladder(path: Path, *rungs: str, head: str = "") -> Path:
    return write_lines(path, head, "rungs:", *(f"  - {{{rung}}}" for rung in rungs))


@pytest.mark.parametrize("name", list_documents("ladder"))
def test_built_in_ladders_resolve_and_every_rung_changes_something(name: str) -> None:
    steps = resolve_ladder(load_ladder(name))
    by_name = {step.name: step for step in steps}
    assert steps[0].on is None
    for step in steps[1:]:
        below = by_name[str(step.on)]
        assert (step.recipe, step.actions, step.members) != (below.recipe, below.actions, below.members)
        assert step.change


def test_what_is_wrong_with_a_ladder_is_said_at_once(tmp_path: Path) -> None:
    path = write_ladder(
        tmp_path / "l.yaml",
        "name: one",
        "name: one, set: [split.folds=3]",
        "name: Two, set: [split.folds=3]",
        "name: three",
        "name: four, from: nowhere, set: [split.folds=3]",
        "name: five, members: [one, later]",
        "name: later, set: [split.folds=3]",
    )
    with pytest.raises(RecipeError) as caught:
        load_ladder(path)
    for text in ("'one' is there twice", "'Two': a name is made of", "'three' changes nothing", "'nowhere'", "'later'"):
        assert text in str(caught.value)
    assert "Fix" in str(caught.value)


def test_knobs_that_do_not_exist_are_said_at_once_with_their_rung(tmp_path: Path) -> None:
    path = write_ladder(
        tmp_path / "l.yaml",
        "name: one",
        "name: two, set: [tile.sorce=whole]",
        "name: three, set: [predict.views=4]",
        "name: four, set: [predict.view=8]",
    )
    with pytest.raises(RecipeError) as caught:
        run_ladder(tmp_path, path, runs=tmp_path / "runs")
    text = str(caught.value)
    assert re.findall(r"rung '(\w+)'", text) == ["two", "four"]  # and not those that inherit the fault
    assert "Did you mean tile.source?" in text
    assert "Did you mean predict.views?" in text
    assert not (tmp_path / "runs").exists()
    with pytest.raises(RecipeError, match=r"split\.fold:"):
        resolve_ladder(load_ladder("frozen"), settings=["split.fold=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rungs: [", "not valid YAML"),
        ("", "ladder: "),
        ("rungs: []", "rungs"),
        ("- a\n- b", "ladder: "),
        ("rungs: [{name: a, sett: [split.folds=3]}]", r"rungs.0.sett: "),
        ("rungs: [{name: a}]\npreset: defualt", "no preset is called 'defualt'"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_no_ladder_says_why(text: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "l.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError, match=message) as caught:
        resolve_ladder(load_ladder(path))
    assert "Fix" in str(caught.value)


def test_names_that_do_not_exist_are_answered_with_those_that_do(tmp_path: Path) -> None:
    for name in ("chalenge", "../challenge", tmp_path / "absent.yaml"):
        with pytest.raises(RecipeError, match=rf"Fix.*{', '.join(list_documents('ladder'))}"):
            load_ladder(name)
    with pytest.raises(RecipeError, match=r"no rung 'tile'.*Fix.*tiles"):
        resolve_ladder(load_ladder("frozen"), until="tile")
    with pytest.raises(RunError, match=r"nowhere.*Fix"):
        run_ladder(tmp_path / "nowhere", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_settings_of_the_file_yield_to_the_users_and_those_to_the_rungs() -> None:
    rungs = [
        {"name": "a", "set": ["split.folds=4"]},
        {"name": "b", "set": ["predict.views=4"], "decisions": False},
        {"name": "c", "from": "a", "set": ["predict.views=8"]},
        {"name": "d", "set": ["split.folds=5"]},
        {"name": "e", "from": "b", "members": ["a", "d"]},
    ]
    ladder = Ladder.model_validate({"set": ["tile.size_px=64", "split.folds=2", "tile.min_tiles=2"], "rungs": rungs})
    steps = {s.name: s for s in resolve_ladder(ladder, settings=["tile.size_px=96", "split.folds=3"])}
    assert [s.on for s in steps.values()] == [None, "a", "a", "c", "b"]
    assert {s.recipe.tile.size_px for s in steps.values()} == {96}
    assert {s.recipe.tile.min_tiles for s in steps.values()} == {2}
    assert [s.recipe.split.folds for s in steps.values()] == [4, 4, 4, 5, 4]
    assert [s.recipe.predict.views for s in steps.values()] == [1, 4, 8, 8, 4]
    assert [s.actions for s in steps.values()] == [ACTIONS, (), ACTIONS, ACTIONS, ()]
    assert steps["c"].settings == ("predict.views=8",)
    assert steps["e"].members == ("a", "d")
    assert [s.name for s in resolve_ladder(ladder, until="c")] == ["a", "b", "c"]


# --- climbing -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def no_report() -> Iterator[None]:
    with without_pages():
        yield


def list_times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def decide(path: Path, image: str) -> Path:
    return write_lines(path, ",".join(DECISION_COLUMNS), f"{image},exclude,,torn,a reader,,")


def dump(result: LadderResult) -> Any:
    """What the file of a result holds."""
    return json.loads(json.dumps(result.dump()))


def revive(content: dict[str, Any]) -> LadderResult:
    return LadderResult.model_validate({key: value for key, value in content.items() if key != "version"})


@pytest.fixture(scope="module")
def climbed(challenge: Path, tmp_path_factory: pytest.TempPathFactory, no_report: None) -> SimpleNamespace:
    """A ladder climbed in two goes, on a cohort with one copy of an image and one decision; read only."""
    place = tmp_path_factory.mktemp("ladder")
    data = Path(shutil.copytree(challenge, place / "textures"))
    for kind in ("img", "mask"):
        shutil.copy(data / "train_data" / f"{kind}_0020.png", data / "train_data" / f"{kind}_0021.png")
    decisions = decide(workflow.find_decisions(workflow.Project(data, place)), "train_data/img_0012.png")
    runs = place / "runs"
    runs.mkdir()
    decisions = decisions.rename(workflow.find_decisions(workflow.Project(data, runs)))
    text = decisions.read_bytes()
    file = write_lines(place / "steps.yaml", STEPS)
    first = dump(run_ladder(data, file, settings=SETTINGS, runs=runs, until="tiles")[1])
    before = list_times(runs)
    folder, found = run_ladder(data, file, settings=SETTINGS, runs=runs)
    result = dump(found)
    rows = {row["name"]: row for row in result["rungs"]}
    return SimpleNamespace(
        data=data, runs=runs, file=file, folder=folder, first=first, before=before, result=result, rows=rows,
        decisions=decisions, text=text,
    )  # fmt: skip


def read_part(climbed: SimpleNamespace, rung: str, name: str) -> pd.DataFrame:
    return pd.read_csv(climbed.runs / climbed.rows[rung]["run"] / name)


def read_events(climbed: SimpleNamespace, rung: str) -> list[dict[str, Any]]:
    text = (climbed.runs / climbed.rows[rung]["run"] / "events.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_rungs_are_done_and_the_second_go_adds_only_what_was_missing(climbed: SimpleNamespace) -> None:
    assert [row["status"] for row in climbed.result["rungs"]] == ["done"] * 6
    assert [row["name"] for row in climbed.first["rungs"]] == ["shrunk", "cleaned", "tiles"]
    assert [row["reused"] for row in climbed.result["rungs"]] == [True] * 3 + [False] * 3
    written = json.loads((climbed.folder / "ladder.json").read_text(encoding="utf-8"))
    assert written == climbed.result
    after = list_times(climbed.runs)
    kept = {k: v for k, v in climbed.before.items() if climbed.folder.name not in k and "hashes.json" not in k}
    assert {k: after[k] for k in kept} == kept
    # Three more views of the same tiles, and nothing else.
    made = {k.split("/")[1:3][-1] for k in after.keys() - climbed.before.keys() if k.startswith("cache/")}
    assert {re.sub(".*-", "", name) for name in made} == {"view1", "view2", "view3"}


def test_rungs_share_folds_also_where_something_was_cleaned(climbed: SimpleNamespace) -> None:
    whole, cleaned = read_part(climbed, "shrunk", "folds.csv"), read_part(climbed, "cleaned", "folds.csv")
    gone = {"train_data/img_0012.png", "train_data/img_0021.png"}
    assert set(whole["image"]) - set(cleaned["image"]) == gone
    pd.testing.assert_frame_equal(whole[~whole["image"].isin(gone)].reset_index(drop=True), cleaned)
    for rung in ("tiles", "turns", "average"):
        pd.testing.assert_frame_equal(read_part(climbed, rung, "folds.csv"), cleaned)


def test_a_rung_that_only_predicts_otherwise_trains_nothing(climbed: SimpleNamespace) -> None:
    for rung, base in (("turns", "tiles"), ("prior", "shrunk")):
        events = [line["event"] for line in read_events(climbed, rung)]
        assert "weights taken" in events
        assert "trained" not in events
        for fold in (0, 1):
            one, two = (climbed.runs / climbed.rows[r]["run"] / f"checkpoints/fold{fold}-seed0.safetensors"
                        for r in (rung, base))  # fmt: skip
            assert one.read_bytes() == two.read_bytes()
            assert one.samefile(two)
    assert [line["event"] for line in read_events(climbed, "tiles")].count("trained") == 2


def test_decisions_act_from_the_rung_that_says_so_and_the_file_stays_as_it_was(climbed: SimpleNamespace) -> None:
    counts = {name: row["own"]["n_images"] for name, row in climbed.rows.items()}
    assert counts == {"shrunk": 24, "cleaned": 22, "tiles": 22, "turns": 22, "prior": 24, "average": 22}
    assert climbed.decisions.read_bytes() == climbed.text
    assert not list(climbed.data.rglob("*decisions*"))


def test_all_rungs_are_scored_on_the_images_that_no_decision_speaks_against(climbed: SimpleNamespace) -> None:
    assert {row["n_images"] for row in climbed.rows.values()} == {climbed.result["n_images"]} == {22}
    assert climbed.result["set_aside"] == {"excluded": 2}
    words = " ".join(climbed.result["scoring"])
    assert "the same 22 images of 16 cases; 2 were set aside from scoring: 2 excluded" in words
    own = [climbed.rows[name]["own"]["value"] for name in ("cleaned", "shrunk")]
    assert f"'cleaned' would have {own[0]:.3f} (22 images) and 'shrunk' {own[1]:.3f} (24 images)" in words
    assert not any(row["notes"] for row in climbed.rows.values())


def test_rows_hold_what_the_runs_scored(climbed: SimpleNamespace) -> None:
    for row in climbed.rows.values():
        scores = json.loads((climbed.runs / row["run"] / "scores.json").read_text(encoding="utf-8"))
        kept = {
            m: {k: v[k] for k in ("value", "low", "high", "trustworthy", "reason")}
            for m, v in scores["metrics"].items()
        }
        numbers = {key: scores[key] for key in ("n_images", "n_cases")}
        assert row["own"] == numbers | kept["macro_f1"]
        assert (row["n_seeds"], row["optimism"]) == (scores["n_seeds"], scores["optimism"])
        assert row["trustworthy"] == scores["interval"]["trustworthy"]
        if row["name"] not in {"shrunk", "prior"}:  # those that left nothing out
            assert numbers == {key: row[key] for key in numbers}
            assert row["metrics"] == kept
            assert row["trust_reason"] == scores["interval"]["reason"]
        assert row["seconds"] > 0
        assert 0.05 < row["peak_memory_gb"] < 50
    last = json.loads((climbed.runs / climbed.rows["average"]["run"] / "scores.json").read_text(encoding="utf-8"))
    assert climbed.result["n_images"] == last["n_images"] == 22
    assert climbed.result["chance"]["prior"] == last["metrics"]["macro_f1"]["chance_prior"]
    assert sum(climbed.result["shares"].values()) == pytest.approx(1)
    rivals = [row for row in climbed.rows.values() if row["n_images"] == 22]
    lows = [round(row["metrics"]["macro_f1"]["low"], 3) for row in rivals]
    assert climbed.result["best"] == rivals[int(np.argmax(lows))]["name"]


def guess(table: pd.DataFrame) -> pd.Series:
    scores = table[[f"score_{c}" for c in CLASSES]].to_numpy()
    return pd.Series(np.array(CLASSES)[scores.argmax(axis=1)], index=table.index)


def test_differences_are_those_of_scikit_learn_on_common_images(climbed: SimpleNamespace) -> None:
    assert climbed.rows["shrunk"]["difference"] is None
    compared = {"cleaned": "shrunk", "tiles": "cleaned", "turns": "tiles", "prior": "shrunk", "average": "tiles"}
    for name, base in compared.items():
        row = climbed.rows[name]
        assert row["on"] == base
        one, two = (read_part(climbed, rung, "predictions/out_of_fold.csv").set_index("image") for rung in (name, base))
        both = one.index.intersection(two.index)
        values = [f1_score(t["label"][both], guess(t)[both], average="macro") for t in (one, two)]
        found = row["difference"]["macro_f1"]
        assert found["value"] == pytest.approx(values[0] - values[1], abs=1e-9)
        assert found["low"] <= found["value"] <= found["high"]
        assert found["p"] <= found["p_holm"] <= 1
        assert (found["verdict"] == "no verdict") == bool(found["why"])  # two folds of one seed


def test_an_ensemble_is_the_mean_of_its_members(climbed: SimpleNamespace) -> None:
    columns = [f"score_{c}" for c in CLASSES]
    for part in ("out_of_fold", "inner", "test"):
        tables = [
            read_part(climbed, rung, f"predictions/{part}.csv").set_index(KEYS).sort_index()[columns]
            for rung in ("average", "cleaned", "tiles")
        ]
        pd.testing.assert_frame_equal(tables[0], (tables[1] + tables[2]) / 2, atol=1e-7)
    assert not (climbed.runs / climbed.rows["average"]["run"] / "checkpoints").exists()


def test_the_plan_and_the_result_can_be_read_by_people(climbed: SimpleNamespace) -> None:
    text = (climbed.folder / "ladder.yaml").read_text(encoding="utf-8")
    assert re.findall(r"--- # (\w+):", text) == list(climbed.rows)
    lines = describe_ladder(revive(climbed.result))
    assert "22 images, 16 cases" in lines[0]
    assert climbed.result["best"] in lines[1]
    assert any(line.startswith("not to be trusted") for line in lines)  # 16 cases are few


# --- what is run again --------------------------------------------------------------------------------------------


def test_an_unchanged_call_runs_nothing_and_loads_no_torch(climbed: SimpleNamespace) -> None:
    script = (
        "import json, sys, time\n"
        "from smalti.ladder import run_ladder\n"
        "data, file, runs, *settings = sys.argv[1:]\n"
        "started = time.monotonic()\n"
        "folder, result = run_ladder(data, file, settings=settings, runs=runs)\n"
        "print(json.dumps([time.monotonic() - started, 'torch' in sys.modules, result.dump()]))\n"
    )
    before = list_times(climbed.runs)
    command = [sys.executable, "-c", script, str(climbed.data), str(climbed.file), str(climbed.runs), *SETTINGS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seconds, torch_is_there, result = json.loads(done.stdout)
    assert result == climbed.result
    assert not torch_is_there
    assert seconds < 5
    after = list_times(climbed.runs)
    written = f"{climbed.folder.name}/ladder.yaml"
    assert {k: v for k, v in after.items() if k != written} == {k: v for k, v in before.items() if k != written}


@pytest.fixture
def copied(climbed: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """The climbed ladder with runs that may be changed."""
    runs = Path(shutil.copytree(climbed.runs, tmp_path / "runs"))
    return SimpleNamespace(**{**vars(climbed), "runs": runs, "folder": runs / climbed.folder.name})


@pytest.fixture
def ran(climbed: SimpleNamespace, copied: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the rungs that are run; each is there in a moment, as a copy of what was run before."""
    names: list[str] = []

    def run_on(project: workflow.Project, *_: Any, name: str, **__: Any) -> None:
        rung = name.split("-")[1]
        names.append(rung)
        if not (project.runs / name).exists():
            shutil.copytree(climbed.runs / climbed.rows[rung]["run"], project.runs / name)

    monkeypatch.setattr(workflow, "run_on", run_on)
    return names


def climb_again(copied: SimpleNamespace, text: str = STEPS, **options: Any) -> dict[str, Any]:
    file = write_lines(copied.runs.parent / "steps.yaml", text)
    folder, found = run_ladder(copied.data, file, settings=SETTINGS, runs=copied.runs, **options)
    result = dump(found)
    assert folder == copied.folder
    return result


def test_a_changed_rung_and_those_that_inherit_from_it_are_run_again(copied: SimpleNamespace, ran: list[str]) -> None:
    climb_again(copied)
    assert not ran
    result = climb_again(copied, STEPS.replace("tile.source=tiles]", "tile.source=tiles, tile.min_tiles=2]"))
    assert ran == ["tiles", "turns", "average"]
    assert [row["name"] for row in result["rungs"] if not row["reused"]] == ran


def test_what_does_not_fit_into_the_budget_is_skipped_and_done_by_a_later_call(
    copied: SimpleNamespace, ran: list[str]
) -> None:
    text = STEPS.replace("tile.source=tiles]", "tile.source=tiles, tile.min_tiles=2]")
    result = climb_again(copied, text, budget_min=0)
    assert not ran
    rows = {row["name"]: row for row in result["rungs"]}
    assert [rows[name]["status"] for name in ("shrunk", "cleaned", "prior")] == ["done"] * 3
    assert [rows[name]["status"] for name in ("tiles", "turns")] == ["skipped"] * 2
    assert re.search(r"needs about [\d.]+ min; 0\.0 of 0 min were left\. Fix: call again", rows["tiles"]["error"])
    assert rows["average"]["status"] == "failed", "an ensemble of what was skipped"
    result = climb_again(copied, text, budget_min=1000)
    assert ran == ["tiles", "turns", "average"]
    assert {row["status"] for row in result["rungs"]} == {"done"}


def test_other_words_for_a_rung_are_written_without_running_it(copied: SimpleNamespace, ran: list[str]) -> None:
    result = climb_again(copied, STEPS.replace("nothing cleaned", "as it came"))
    assert not ran
    assert result["rungs"][0]["change"] == "as it came"
    assert json.loads((copied.folder / "ladder.json").read_text(encoding="utf-8")) == result


def test_another_decision_runs_everything_again(copied: SimpleNamespace, ran: list[str]) -> None:
    decide(workflow.find_decisions(workflow.Project(copied.data, copied.runs)), "train_data/img_0014.png")
    climb_again(copied)
    assert ran == list(copied.rows)


def set_state(copied: SimpleNamespace, rung: str, **values: Any) -> Path:
    path = copied.folder / "rungs" / f"{rung}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | values), encoding="utf-8")
    return path


def test_a_rung_that_was_killed_twice_is_not_tried_again(copied: SimpleNamespace, ran: list[str]) -> None:
    """The state file says 'running' when the process dies; the next call counts that."""
    path = set_state(copied, "tiles", status="running", run=None, killed=0)
    result = climb_again(copied)
    assert ran == ["tiles"]
    assert json.loads(path.read_text(encoding="utf-8"))["killed"] == 0  # it came through
    ran.clear()
    set_state(copied, "tiles", status="running", run=None, killed=1)
    (copied.folder / "rungs" / "average.json").unlink()
    for _ in range(2):
        result = climb_again(copied)
        rows = {row["name"]: row for row in result["rungs"]}
        assert not ran
        assert re.search(rf"killed 2 times.*Fix.*{re.escape(str(path))}", rows["tiles"]["error"])
        assert [name for name, row in rows.items() if row["status"] == "failed"] == ["tiles", "average"]
        assert rows["turns"]["notes"] == ["tiles, which it changes, has no score"]
    path.unlink()
    assert all(row["status"] == "done" for row in climb_again(copied)["rungs"])


def test_a_rung_that_came_further_between_kills_is_tried_as_often_as_it_takes(
    copied: SimpleNamespace, ran: list[str]
) -> None:
    """What the run folder holds now is compared with what it held when the rung was begun."""
    path = set_state(copied, "tiles")
    run = copied.runs / json.loads(path.read_text(encoding="utf-8"))["run"]
    for number in range(4):
        progress = measure_progress(run)
        (run / "checkpoints" / f"more-{number}.progress").write_text("an epoch", encoding="utf-8")
        set_state(copied, "tiles", status="running", killed=1, progress=progress)
        climb_again(copied, until="tiles")
        assert json.loads(path.read_text(encoding="utf-8"))["status"] == "done"
    assert ran == ["tiles"] * 4
    for killed in (0, 1):
        set_state(copied, "tiles", status="running", killed=killed, progress=measure_progress(run))
        status = {row["name"]: row["status"] for row in climb_again(copied, until="tiles")["rungs"]}["tiles"]
        assert status == ("failed" if killed else "done")


def test_progress_is_what_is_new_and_not_what_is_done_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    seen = [measure_progress(tmp_path)]
    for step in ("begin", "epoch", "next epoch", "fold"):
        if step == "begin":
            log_event(tmp_path, "tile begins", stage="tile", state="begins")
        elif step == "fold":
            (run.checkpoints / "fold0-seed0.safetensors").write_bytes(b"weights")
        else:
            (run.checkpoints / "fold0.progress").write_bytes(step.encode())
        seen.append(measure_progress(tmp_path))
        log_event(tmp_path, "tile begins", stage="tile", state="begins")
        (run.checkpoints / ".half").write_bytes(b"temporary")
        assert measure_progress(tmp_path) == seen[-1]
    assert len(set(seen)) == 5


def test_retry_tries_a_rung_again_that_was_given_up(copied: SimpleNamespace, ran: list[str]) -> None:
    set_state(copied, "tiles", status="running", run=None, killed=1)
    assert {row["name"]: row["status"] for row in climb_again(copied, until="tiles")["rungs"]}["tiles"] == "failed"
    ran.clear()
    assert {row["status"] for row in climb_again(copied, retry=True, until="tiles")["rungs"]} == {"done"}
    assert ran[0] == "tiles"


def test_a_full_disk_stops_the_ladder_and_no_memory_fails_the_rung(
    copied: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = set_state(copied, "tiles", key="another")

    def fail(error: Exception) -> Callable[..., None]:
        def run_on(*_: Any, **__: Any) -> None:
            raise error

        return run_on

    monkeypatch.setattr(workflow, "run_on", fail(OSError(errno.ENOSPC, "No space left on device", "a")))
    with pytest.raises(OSError, match="No space"):
        climb_again(copied, until="tiles")
    assert json.loads(path.read_text(encoding="utf-8"))["status"] == "waiting"
    monkeypatch.setattr(workflow, "run_on", fail(MemoryError()))
    rows = {row["name"]: row for row in climb_again(copied, until="tiles")["rungs"]}
    assert (rows["tiles"]["status"], "out of memory. Fix: " in rows["tiles"]["error"]) == ("failed", True)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"key": 1, "other": 2}', '{"status": "done'])
def test_a_damaged_state_of_a_rung_is_found_out_again(content: str, copied: SimpleNamespace, ran: list[str]) -> None:
    (copied.folder / "rungs" / "tiles.json").write_text(content, encoding="utf-8")
    (copied.folder / "ladder.json").write_text(content, encoding="utf-8")
    said: list[str] = []
    result = climb_again(copied, until="tiles", listener=workflow.Listener(say=said.append))
    assert {row["status"] for row in result["rungs"]} == {"done"}
    assert any("tiles.json is damaged" in text for text in said)


def test_the_command_ends_with_1_where_a_rung_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = Rung(
        name="tiles", change="", settings=(), on=None, members=(), status="failed", error="it broke. Fix: mend it"
    )  # fmt: skip
    monkeypatch.setattr("smalti.ladder.run_ladder", lambda *_, **__: (tmp_path, SimpleNamespace(rungs=[row])))
    monkeypatch.setattr("smalti.ladder.describe_ladder", lambda _: [])
    done = CliRunner().invoke(app, ["ladder", str(tmp_path)])
    assert done.exit_code == 1
    assert "failed: tiles: it broke. Fix: mend it" in done.output
    assert "result:" in done.output


def test_a_rung_that_a_person_interrupts_was_not_killed(
    copied: SimpleNamespace, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    path = set_state(copied, "tiles", key="another")
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "run_on", stop)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                climb_again(copied, until="tiles")
            assert json.loads(path.read_text(encoding="utf-8"))["status"] == "waiting"
    climb_again(copied, until="tiles")
    assert ran == ["tiles"]


def test_an_error_of_a_library_is_a_row_with_its_trace(
    copied: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(*_: Any, name: str, **__: Any) -> None:
        raise ValueError(f"{name} is too much")

    set_state(copied, "turns", key="another")
    monkeypatch.setattr(workflow, "run_on", run_on)
    said: list[str] = []
    result = climb_again(copied, until="turns", listener=workflow.Listener(say=said.append))
    row = result["rungs"][3]
    assert row["status"] == "failed"
    assert re.search(r"ValueError: textures-turns-.* is too much .*failures/turns\.txt", row["error"])
    assert row["metrics"] is row["difference"] is row["n_images"] is row["run"] is None
    assert "Traceback" in (copied.folder / "failures" / "turns.txt").read_text(encoding="utf-8")
    assert any("turns failed" in text and "goes on" in text for text in said)


def test_rungs_that_fail_are_rows_and_the_others_go_on(copied: SimpleNamespace) -> None:
    file = write_lines(copied.runs.parent / "faults.yaml", FAULTS)
    result = dump(run_ladder(copied.data, file, settings=SETTINGS, runs=copied.runs)[1])
    rows = {row["name"]: row for row in result["rungs"]}
    assert {n: row["status"] for n, row in rows.items()} == {
        "tiles": "done", "broken": "failed", "lost": "failed", "above": "done", "half": "failed",
    }  # fmt: skip
    assert "adamww" in rows["broken"]["error"]
    assert "absent.safetensors" in rows["lost"]["error"]
    assert "broken failed" in rows["half"]["error"]
    assert rows["above"]["difference"] is None
    assert rows["above"]["notes"] == ["lost, which it changes, has no score"]
    assert rows["tiles"]["run"] == copied.rows["tiles"]["run"]  # the same recipe on the same data is the same run
    assert result["best"] in {"tiles", "above"}
    json.loads((copied.runs / "textures-ladder-faults" / "ladder.json").read_text(encoding="utf-8"))


def test_changed_data_is_another_run_and_the_old_one_stays(copied: SimpleNamespace, tmp_path: Path) -> None:
    copied.data = Path(shutil.copytree(copied.data, tmp_path / "textures"))
    old = copied.runs / copied.rows["shrunk"]["run"]
    before = list_times(old)
    lines = (copied.data / "train_labels.csv").read_text(encoding="utf-8").splitlines()
    write_lines(copied.data / "train_labels.csv", lines[0], "0,B", *lines[2:])
    row = climb_again(copied, until="shrunk")["rungs"][0]
    assert (row["status"], row["own"]["n_images"]) == ("done", LABELLED), row["error"]
    assert row["run"] != copied.rows["shrunk"]["run"]
    assert list_times(old) == before


def test_data_that_nobody_can_use_fails_every_rung_with_the_reason(copied: SimpleNamespace, tmp_path: Path) -> None:
    copied.data = Path(shutil.copytree(copied.data, tmp_path / "textures"))
    (copied.data / "train_data" / "img_0003.png").write_bytes(b"no image")
    recipe = resolve_ladder(load_ladder(copied.file))[0].recipe
    with pytest.raises(DataError) as caught:
        workflow.inspect_ground(workflow.Project(copied.data, tmp_path / "none"), recipe)
    result = climb_again(copied, until="cleaned")
    assert [row["error"] for row in result["rungs"]] == [str(caught.value)] * 2
    assert result["best"] is result["chance"] is None
    assert describe_ladder(revive(result)) == ["no rung has a score"]
