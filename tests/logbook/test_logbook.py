"""The logbook: what is read of healthy and of damaged folders, which run is chosen, which is the best, what is said."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from drawn_records import draw_run
from smalti import cli, logbook
from smalti.errors import RecipeError, RunError, SmaltiError
from smalti.recipe import list_knobs
from smalti.records import log_event
from smalti.store import read_json, write_atomic, write_json

Draw = Callable[..., Path]
Invoke = Callable[..., Any]


def log_stage_event(path: Path, event: str) -> None:
    """Log ``STAGE STATE: ERROR``; what is done took three seconds."""
    what, _, error = event.partition(": ")
    stage, state = what.split()
    log_event(path, what, stage=stage, state=state, error=error, seconds=3.0 if state == "done" else None)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder of runs."""
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def start_drawing(runs: Path) -> Draw:
    """Return what draws a run; each starts a minute after the one before."""
    minutes = iter(range(60))

    def place(name: str, *settings: str, **details: Any) -> Path:
        details.setdefault("started", f"2026-01-01T10:{next(minutes):02d}:00+00:00")
        return draw_run(runs, name, *settings, **details)

    return place


@pytest.fixture
def draw(runs: Path) -> Draw:
    """Draw a run; each starts a minute after the one before."""
    return start_drawing(runs)


def list_names(entries: Any) -> list[str]:
    return [entry.name for entry in entries]


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_read_as_it_was_made(finished: Any) -> None:
    """Every column against the files that a real run wrote."""
    book = logbook.read_logbook(finished.path.parent)
    (entry,) = [e for e in book.entries if e.name == finished.path.name]
    assert (entry.kind, entry.status, entry.error, entry.path) == ("run", "finished", "", finished.path)
    environment, cohort = (read_json(finished.path / name) for name in ("environment.json", "cohort.json"))
    assert (entry.started, entry.data) == (environment["started"], cohort["root"])
    assert entry.data_hash == environment["identity"]["data"]
    assert entry.device == environment["device"]["name"] != ""
    assert entry.metrics == finished.scores.metrics
    assert entry.chance_prior == finished.scores.headline.chance_prior
    assert (entry.n_images, entry.n_cases, entry.n_seeds) == (24, 18, 2)
    assert (entry.optimism, entry.trustworthy) == (finished.scores.optimism, finished.scores.interval.trustworthy)
    assert entry.recipe.keys() == list_knobs().keys()
    assert entry.recipe["split.seeds"] == [0, 1]
    assert entry.recipe["model.backbone"] == "test_resnet"
    events = [json.loads(line) for line in (finished.path / "events.log").read_text(encoding="utf-8").splitlines()]
    assert entry.seconds == pytest.approx(sum(e.get("seconds", 0) for e in events if e["event"].endswith(" done")))


def test_what_is_no_run_is_passed_over(runs: Path, draw: Draw) -> None:
    draw("a")
    write_json(draw("ladder") / "ladder.json", {})
    write_atomic(draw("waiting-ladder") / "ladder.yaml", "x: 1\n")
    draw(".a.half-made")
    write_json(runs / "cache" / "hashes.json", {})
    write_atomic(runs / "textures.decisions.csv", "image\n")
    assert list_names(logbook.read_logbook(runs).entries) == ["a"]


def test_entries_are_in_the_order_of_their_start(runs: Path, draw: Draw) -> None:
    for name, hour in (("c", 11), ("a", 12), ("b", 10)):
        draw(name, started=f"2026-01-01T{hour}:00:00+00:00")
    assert list_names(logbook.read_logbook(runs).entries) == ["b", "c", "a"]


def test_an_ensemble_is_known_by_its_members(runs: Path, draw: Draw) -> None:
    draw("a")
    draw("both", "ensemble.members=[a, b]")
    assert [e.kind for e in logbook.read_logbook(runs).entries] == ["run", "ensemble"]


@pytest.mark.parametrize(
    ("events", "status", "error"),
    [
        (["train begins", "train failed: no memory"], "failed", "train: no memory"),
        (["train failed: no memory", "train begins"], "unfinished", "train began .*interrupted"),
        (["train failed", "train begins", "train done"], "unfinished", "no score yet"),
        (["train done", "explain failed"], "failed", "explain: no reason"),
    ],
)
def test_the_last_event_says_how_it_went(events: list[str], status: str, error: str, runs: Path, draw: Draw) -> None:
    path = draw("a", score=None)
    for event in events:
        log_stage_event(path, event)
    (entry,) = logbook.read_logbook(runs).entries
    assert entry.status == status
    assert re.search(error, entry.error)
    assert entry.metrics == {}
    assert entry.n_images == 24


def test_a_failed_run_that_was_repeated_with_success_is_finished(runs: Path, draw: Draw) -> None:
    path = draw("a")
    for event in ("evaluate failed: disk full", "evaluate begins", "evaluate done"):
        log_stage_event(path, event)
    (entry,) = logbook.read_logbook(runs).entries
    assert (entry.status, entry.error, entry.seconds) == ("finished", "", 13.0)


def test_half_a_line_at_the_end_of_the_events_is_no_damage(runs: Path, draw: Draw) -> None:
    with (draw("a") / "events.log").open("a", encoding="utf-8") as file:
        file.write('{"time": "2026-')
    assert logbook.read_logbook(runs).entries[0].status == "finished"


DAMAGE = {
    "cut short": b'{"metrics": {"macro_f1": {"val',
    "a list": b"[1, 2]",
    "bytes": b"\xff\xfe\x00\x9f: [",
    "nothing": b"",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["environment.json", "recipe.yaml", "cohort.json", "scores.json"])
def test_a_damaged_file_is_named_and_stops_nothing(name: str, content: bytes, runs: Path, draw: Draw) -> None:
    draw("good")
    (draw("bad") / name).write_bytes(content)
    good, bad = logbook.read_logbook(runs).entries
    assert (good.status, bad.status) == ("finished", "failed")
    assert bad.error.startswith(f"{name} is damaged")
    assert "\n" not in bad.error


@pytest.mark.parametrize("name", ["environment.json", "recipe.yaml"])
def test_a_missing_file_is_named(name: str, runs: Path, draw: Draw) -> None:
    (draw("bad") / name).unlink()
    (entry,) = logbook.read_logbook(runs).entries
    assert (entry.status, entry.error) == ("failed", f"{name} is missing")


def test_files_that_hold_what_they_should_not_are_named(runs: Path, draw: Draw) -> None:
    """Files that parse but hold something else: no exception, no invented number."""
    path = draw("a")
    write_json(path / "scores.json", {"metrics": {"macro_f1": {"value": "high"}}, "interval": [], "n_images": "x"})
    write_json(path / "environment.json", {"identity": None, "device": "chip", "started": None})
    write_atomic(path / "recipe.yaml", "ensemble: {members: 5}\n1: {2: x}\nlater: &a {again: *a}\n")
    (entry,) = logbook.read_logbook(runs).entries
    assert entry.status == "failed"
    for name in ("scores.json is damaged", "environment.json was written by another version", "recipe.yaml is damaged"):
        assert name in entry.error
    assert (entry.metrics, entry.data_hash, entry.n_images) == ({}, "", 24)
    write_atomic(path / "recipe.yaml", "ensemble: {members: 5}\n1: {2: x}\ndata: 2026-01-01\n")
    (entry,) = logbook.read_logbook(runs).entries
    assert (entry.kind, entry.recipe["1.2"]) == ("run", "x")
    assert logbook.find_bests(logbook.read_logbook(runs)) == ()
    assert logbook.filter_entries([entry], ["data == '/data/textures'"]) == (entry,)


def test_a_recipe_of_another_version_is_read_as_it_is(runs: Path, draw: Draw) -> None:
    path = draw("old")
    values = yaml.safe_load((path / "recipe.yaml").read_text(encoding="utf-8"))
    del values["ensemble"], values["predict"]
    values["train"]["warp"] = {"factor": 9}
    write_atomic(path / "recipe.yaml", yaml.safe_dump(values))
    draw("new")
    old, new = logbook.read_logbook(runs).entries
    assert old.status == "finished"
    assert old.recipe["train.warp.factor"] == 9
    different = logbook.diff_recipes(old, new)
    assert different["train.warp.factor"] == (9, "(not in this recipe)")
    assert different["predict.views"] == ("(not in this recipe)", 1)
    assert list_names(logbook.filter_entries([old, new], ["train.warp.factor > 5"])) == ["old"]


def test_a_hundred_runs_are_read_in_well_under_a_second(runs: Path) -> None:
    draw_run(runs, "r0")
    for number in range(1, 100):
        shutil.copytree(runs / "r0", runs / f"r{number}")
    started = time.process_time()
    assert len(logbook.read_logbook(runs).entries) == 100
    assert time.process_time() - started < 1.0


def test_no_folder_of_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no folder of runs at .*absent.*Fix"):
        logbook.read_logbook(tmp_path / "absent")


@pytest.mark.slow
def test_the_logbook_loads_no_network_library() -> None:
    code = "import sys, smalti.logbook; sys.exit(any(m in sys.modules for m in ('torch', 'smalti.workflow', 'mlflow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- choosing -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four runs: two on glas, one of them with a larger rate; one unfinished; one on textures."""
    runs = tmp_path_factory.mktemp("entries")
    draw = start_drawing(runs)
    draw("plain", data="/data/glas-a", score=(0.6, 0.5, 0.7), seconds=100.0)
    draw(
        "fast", "train.transfer.lr=0.02", "split.seeds=[0,1]", data="/data/glas-a", score=(0.7, 0.45, 0.8), seconds=9.0
    )
    draw("cut", data="/data/glas-a", score=None)
    draw("other", "model.backbone=convnext_tiny", "split.folds=3", data="/elsewhere/textures", score=(0.3, 0.2, 0.4))
    return logbook.read_logbook(runs).entries


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ([], ["plain", "fast", "cut", "other"]),
        (["status == 'finished'"], ["plain", "fast", "other"]),
        (["status != 'finished'"], ["cut"]),
        (["model.backbone == 'convnext_tiny'"], ["other"]),
        (["`model.backbone` == 'convnext_tiny'"], ["other"]),
        (["macro_f1 > 0.5"], ["plain", "fast"]),
        (["macro_f1>=0.6", "macro_f1<0.7"], ["plain"]),
        (["macro_f1 >= 0.6 and macro_f1 < 0.7"], ["plain"]),
        (["low > 0.45"], ["plain"]),
        (["macro_f1_high <= 0.4"], ["other"]),
        (["seconds < 60"], ["fast", "other"]),
        (["data.str.contains('GLAS', case=False)"], ["plain", "fast", "cut"]),
        (["data_name == 'glas-a'"], ["plain", "fast", "cut"]),
        (["data == '/data/glas-a'"], ["plain", "fast", "cut"]),
        (["data == 'glas'"], []),
        (["train.transfer.lr == 2e-2"], ["fast"]),
        (["split.seeds == '[0, 1]'"], ["fast"]),
        (["split.folds == 'auto'"], ["plain", "fast", "cut"]),
        (["split.folds in [3, 4]"], ["other"]),
        (["train.refit == True"], ["plain", "fast", "cut", "other"]),
        (["model.weights.isna()"], ["plain", "fast", "cut", "other"]),
        (["started > '2026-01-01T10:02'"], ["cut", "other"]),
        (["optimism.isna()"], ["cut"]),
        (["auc > 0"], []),
    ],
)
def test_conditions_choose_entries(conditions: list[str], names: list[str], entries: Any) -> None:
    assert list_names(logbook.filter_entries(entries, conditions)) == names


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("makro_f1 > 0.5", "'makro_f1'.*Did you mean 'macro_f1'.*Fix"),
        ("model.bakbone == 'x'", "Did you mean 'model.backbone'"),
        ("backbone == 'x'", "Did you mean 'model.backbone'"),
        ("zzzzzz == 1", "Columns: name, kind"),
        ("macro_f1", "not understood.*Fix.*columns: name, kind"),
        ("macro_f1 > 'high'", "not understood.*Fix"),
        ("split.folds > 2", "not understood.*Fix"),
        ("seconds <", "not understood.*Fix"),
        ("macro_f1 > (0.5", "not understood.*Fix"),
        ("1/0 > 2", "not understood.*Fix"),
        ("name.str.contains('(')", "not understood.*Fix"),
        ("status = 'finished'", "not understood.*Fix"),
        ("@__import__('os').system('true')", "not understood.*Fix|no column"),
    ],
)
def test_a_condition_that_cannot_be_met_is_explained(condition: str, message: str, entries: Any) -> None:
    with pytest.raises(RecipeError, match=message):
        logbook.filter_entries(entries, [condition])


def test_all_wrong_conditions_are_said_at_once(entries: Any) -> None:
    with pytest.raises(RecipeError, match=r"(?s)statsu.*secondz"):
        logbook.filter_entries(entries, ["statsu == 'finished'", "status == 'finished'", "secondz < 3"])


@pytest.mark.parametrize(
    ("by", "ascending", "names"),
    [
        ("macro_f1", None, ["fast", "plain", "other", "cut"]),
        ("low", None, ["plain", "fast", "other", "cut"]),
        ("low", True, ["other", "fast", "plain", "cut"]),
        ("log_loss", None, ["fast", "plain", "other", "cut"]),  # lower is better
        ("seconds", None, ["fast", "other", "plain", "cut"]),
        ("seconds", False, ["plain", "other", "fast", "cut"]),
        ("name", None, ["cut", "fast", "other", "plain"]),
        ("split.folds", None, ["other", "plain", "fast", "cut"]),  # numbers before words
        ("auc", None, ["plain", "fast", "cut", "other"]),  # nobody has one
    ],
)
def test_the_best_score_comes_first_and_what_has_none_last(
    by: str, ascending: bool | None, names: list[str], entries: Any
) -> None:
    assert list_names(logbook.sort_entries(entries, by, ascending=ascending)) == names
    with pytest.raises(RecipeError, match="Did you mean"):
        logbook.sort_entries(entries, by + "x", ascending=ascending)


def test_a_difference_names_what_was_set_and_nothing_else(entries: Any) -> None:
    plain, fast, *_ = entries
    assert logbook.diff_recipes(plain, fast) == {"train.transfer.lr": (None, 0.02), "split.seeds": ([0], [0, 1])}
    assert logbook.diff_recipes(plain, plain) == {}


def test_a_table_holds_every_field(entries: Any) -> None:
    table = logbook.tabulate_entries(entries).set_index("name")
    assert table.loc["fast", "macro_f1_low"] == 0.45
    assert table.loc["fast", "train.transfer.lr"] == 0.02
    assert table.loc["fast", "split.seeds"] == "[0, 1]"
    assert table.columns.is_unique
    assert set(list_knobs()) <= set(table.columns)


# --- the best -----------------------------------------------------------------------------------------------------


def name_best(runs: Path) -> str:
    return logbook.resolve_run(runs, "best").name


def test_the_best_has_the_highest_lower_bound(runs: Path, draw: Draw) -> None:
    """Not the highest score: a wide interval promises less."""
    draw("wide", score=(0.9, 0.4, 1.0))
    draw("narrow", score=(0.7, 0.6, 0.8))
    draw("cut", score=None)
    assert name_best(runs) == "narrow"
    log_stage_event(runs / "narrow", "report failed: x")
    assert name_best(runs) == "wide"


def test_bounds_that_agree_to_three_decimals_go_to_the_cheaper_run(runs: Path, draw: Draw) -> None:
    draw("slow", score=(0.7, 0.60049, 0.8), seconds=100.0)
    draw("fast", score=(0.7, 0.59951, 0.8), seconds=5.0)
    assert name_best(runs) == "fast"
    draw("better", score=(0.7, 0.6016, 0.8), seconds=1000.0)
    assert name_best(runs) == "better"


def test_an_ensemble_costs_what_its_members_cost(runs: Path, draw: Draw) -> None:
    draw("a", score=(0.5, 0.4, 0.6), seconds=60.0)
    draw("b", score=(0.5, 0.4, 0.6), seconds=60.0)
    draw("both", "ensemble.members=[a, b, both]", score=(0.7, 0.6, 0.8), seconds=1.0)
    draw("one", score=(0.7, 0.6, 0.8), seconds=100.0)
    assert name_best(runs) == "one"
    draw("faster", score=(0.7, 0.6, 0.8), seconds=122.0)
    shutil.rmtree(runs / "one")
    assert name_best(runs) == "both"


def test_an_interval_that_is_not_to_be_trusted_counts_only_among_its_like(runs: Path, draw: Draw) -> None:
    draw("few", score=(0.9, 0.8, 1.0), trustworthy=False)
    assert name_best(runs) == "few"
    draw("many", score=(0.6, 0.5, 0.7))
    assert name_best(runs) == "many"


@pytest.mark.parametrize(
    "change", [{"data_hash": "d2"}, {"images": 22}, {"cases": 17}, {"settings": ["evaluate.confidence=0.8"]}]
)
def test_scores_of_other_images_do_not_compete(change: dict[str, Any], runs: Path, draw: Draw) -> None:
    draw("before", score=(0.9, 0.8, 1.0))
    draw("after", *change.pop("settings", ()), score=(0.6, 0.5, 0.7), **change)
    assert name_best(runs) == "after"


def test_several_data_folders_have_a_best_each(runs: Path, draw: Draw) -> None:
    for name, data in (("a", "/data/glas"), ("b", "/data/textures"), ("c", "/old/textures")):
        draw(name, data=data, data_hash=data)
    with pytest.raises(RunError, match=r"'best' means 3 runs.*best:glas \(a\), best:/data/textures \(b\), best:/old"):
        logbook.resolve_run(runs, "best")
    with pytest.raises(RunError, match=r"'best:textures' means 2 runs.*Fix"):
        logbook.resolve_run(runs, "best:textures")
    with pytest.raises(RunError, match=r"no data folder fits 'best:glass'.*best:glas"):
        logbook.resolve_run(runs, "best:glass")
    assert logbook.resolve_run(runs, "best:glas") == runs / "a"
    assert logbook.resolve_run(runs, "best:/old/textures") == runs / "c"


def test_a_run_is_found_by_name_and_by_path(runs: Path, draw: Draw) -> None:
    path = draw("first-try")
    assert logbook.resolve_run(runs, "first-try") == path
    assert logbook.resolve_run(runs / "nowhere", str(path)) == path
    with pytest.raises(RunError, match=r"no run is called 'frist-try'.*Did you mean 'first-try'.*Fix"):
        logbook.resolve_run(runs, "frist-try")
    write_json(path / "ladder.json", {})
    with pytest.raises(RunError, match="no run is called"):
        logbook.resolve_run(runs, "first-try")
    with pytest.raises(RunError, match=r"none is the best.*Fix"):
        logbook.resolve_run(runs, "best")


def test_the_file_says_which_and_by_which_rule(runs: Path, draw: Draw) -> None:
    draw("a", score=(0.6, 0.5, 0.7))
    (best,) = logbook.settle_bests(logbook.read_logbook(runs))
    assert read_json(runs / "best.json")["bests"] == {
        "/data/textures": {"run": "a", "rule": best.chosen.rule, "score": {"value": 0.6, "low": 0.5, "high": 0.7},
                           "time": best.chosen.time, "note": "", "unit": "image"}
    }  # fmt: skip
    assert "lower bound" in best.chosen.rule
    assert not best.by_hand
    before = (runs / "best.json").stat().st_mtime_ns
    assert logbook.settle_bests(logbook.read_logbook(runs)) == (best,)
    assert (runs / "best.json").stat().st_mtime_ns == before


def test_a_choice_by_hand_needs_a_reason_and_stays(runs: Path, draw: Draw) -> None:
    draw("a", score=(0.8, 0.7, 0.9))
    draw("b", score=(0.6, 0.5, 0.7))
    draw("cut", score=None)
    for note in ("", "  "):
        with pytest.raises(RunError, match=r"without a reason.*Fix"):
            logbook.set_best(runs, "b", note=note)
    with pytest.raises(RunError, match=r"'cut' is unfinished.*Fix"):
        logbook.set_best(runs, "cut", note="why not")
    with pytest.raises(RunError, match="no run is called 'bb'"):
        logbook.set_best(runs, "bb", note="why not")
    logbook.set_best(runs, "b", note="simpler")
    draw("c", score=(0.9, 0.8, 1.0))
    (best,) = logbook.settle_bests(logbook.read_logbook(runs))
    assert (best.run, best.chosen.note, best.by_hand) == ("b", "simpler", True)
    assert best.warning == "by the rule it would be c"
    assert name_best(runs) == "b"
    draw("d", data_hash="changed")
    assert "other data" in logbook.find_bests(logbook.read_logbook(runs))[0].warning
    (best,) = logbook.settle_bests(logbook.read_logbook(runs), renew=True)
    assert (best.run, best.chosen.note, best.by_hand) == ("d", "", False)


def test_a_choice_by_hand_whose_run_is_gone_is_said(runs: Path, draw: Draw) -> None:
    draw("a")
    logbook.set_best(runs, "a", note="first")
    shutil.rmtree(runs / "a")
    draw("b")
    (best,) = logbook.settle_bests(logbook.read_logbook(runs))
    assert (best.run, best.chosen.score) == ("a", None)
    with pytest.raises(RunError, match=r"by hand to 'a', but the run is no longer there.*Fix: 'smalti logbook best'"):
        logbook.resolve_run(runs, "best")


@pytest.mark.parametrize(
    "content", ['{"version": 1, "bests": 1}', "[1]", '{"version": 1, "bests": {"x": {"run": "a"}}}', "{"]
)
def test_a_damaged_file_of_the_best_is_an_error(content: str, runs: Path, draw: Draw) -> None:
    draw("a")
    write_atomic(runs / "best.json", content)
    with pytest.raises(SmaltiError, match=r"best.json is damaged.*Fix"):
        logbook.find_bests(logbook.read_logbook(runs))


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def invoke(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run ``smalti logbook`` beside the folder of runs, on a screen of a given width."""
    monkeypatch.chdir(runs.parent)

    def run(*words: str, width: int = 160) -> Any:
        monkeypatch.setattr(cli.console, "out", Console(highlight=False, width=width))
        monkeypatch.setattr(cli.console, "err", Console(stderr=True, highlight=False, width=300))
        return CliRunner().invoke(cli.app, ["logbook", *words])

    return run


def test_the_table_never_shows_a_naked_number(draw: Draw, invoke: Invoke) -> None:
    draw("a[1]", score=(0.61, 0.52, 0.73), seconds=200.0)
    draw("few", score=(0.41, 0.12, 0.63), trustworthy=False)
    log_stage_event(draw("bad", score=None), "train failed: CUDA [out of memory]")
    result = invoke()
    assert result.exit_code == 0, result.output
    assert re.search(
        r"\* a\[1\] +textures +default +image +0\.610 +0\.520–0\.730 +0\.330 +24 +18 +2 +3 min +finished", result.stdout
    )
    assert re.search(r"  few +textures +default +image +0\.410 +0\.120–0\.630 \? ", result.stdout)
    assert "failed bad: train: CUDA [out of memory]" in result.stdout
    assert "not to be trusted" in result.stdout
    assert "best of /data/textures: a[1], by the rule" in result.stdout
    assert "highest lower bound" in result.stdout
    *_, where, then = result.stdout.strip().splitlines()
    assert where == "result: 3 of 3 run(s) of runs above, 1 failed"
    assert then == "next:   smalti report 'runs/a[1]'"


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_the_screen(width: int, draw: Draw, invoke: Invoke) -> None:
    """No line of a run is longer than the screen, no name is broken, and every number is there."""
    names = [f"textures-default-ab12c{number}" for number in range(3)]
    for name in names:
        draw(name, score=(0.6, 0.5, 0.7), seconds=4000.0, trustworthy=False)
    lines = invoke(width=width).stdout.splitlines()
    end = next(i for i, line in enumerate(lines) if "best of" in line)
    assert max(map(len, lines[:end])) <= width
    text = " ".join(" ".join(lines[:end]).split())
    numbers = "image 0.600 0.500–0.700 ? 0.330 24 18 2 67 min finished"
    for name in names:
        form = f"{name} (textures, default) {numbers}" if width == 80 else f"{name} textures default {numbers}"
        assert form in text


def test_conditions_columns_and_order_shape_the_table(draw: Draw, invoke: Invoke) -> None:
    draw("a", "train.transfer.lr=0.02", score=(0.6, 0.5, 0.7))
    draw("b", "train.transfer.lr=0.003", score=(0.8, 0.7, 0.9))
    draw("c", score=None)
    result = invoke(
        "show", "--where", "status == 'finished'", "--sort", "low", "--columns", "name,low,train.transfer.lr"
    )
    assert re.search(r"name +low +train.transfer.lr", result.stdout)
    assert re.search(r"(?s)b +0.700 +0.003.*a +0.500 +0.020", result.stdout)
    assert "result: 2 of 3 run(s)" in result.stdout
    upwards = invoke("show", "--sort", "low", "--ascending", "--columns", "name,low").stdout
    assert re.search(r"(?s)a +0.5.*b +0.7", upwards)
    for words in (["--columns", "name,lwo"], ["--sort", "lwo"], ["--where", "lwo > 1"]):
        result = invoke("show", *words)
        assert result.exit_code == 2
        assert re.search(r"'lwo'.*Did you mean 'low'.*Fix", result.stderr)


def test_two_recipes_are_set_beside_each_other(draw: Draw, invoke: Invoke) -> None:
    draw("a", "train.transfer.lr=0.003", score=(0.6, 0.5, 0.7))
    draw("b", "train.transfer.lr=0.02", score=(0.8, 0.7, 0.9))
    result = invoke("diff", "a", "best")
    assert result.exit_code == 0
    assert re.search(r"train.transfer.lr +0.003 +0.02", result.stdout)
    assert "result: 1 knob(s) differ" in result.stdout


def test_the_best_is_set_by_hand_with_a_note_and_given_back(runs: Path, draw: Draw, invoke: Invoke) -> None:
    draw("a", score=(0.8, 0.7, 0.9))
    draw("b", score=(0.6, 0.5, 0.7))
    assert "without a reason" in invoke("best", "b").stderr
    result = invoke("best", "b", "--note", "we [really] trust it")
    assert "b, set by hand: we [really] trust it (by the rule it would be a)" in result.stdout
    assert read_json(runs / "best.json")["bests"]["/data/textures"]["note"] == "we [really] trust it"
    assert "by the rule" in invoke("best").stdout
    assert read_json(runs / "best.json")["bests"]["/data/textures"]["run"] == "a"


@pytest.mark.parametrize(
    "words",
    [
        ["export", "mlflow"],
        ["--to", "x"],
        ["export", "paper", "--to", "x"],
        ["best", "--note", "x"],
        ["--runs", "x", "best"],
    ],
)
def test_options_that_do_not_belong_together_are_refused(words: list[str], draw: Draw, invoke: Invoke) -> None:
    draw("a")
    result = invoke(*words)
    assert result.exit_code == 2
    assert "result:" not in result.output


def test_openings_of_seals_are_shown(runs: Path, draw: Draw, invoke: Invoke) -> None:
    draw("a")
    opening = {"time": "2026-02-01T10:00:00+00:00", "runs": ["a", "b"],
               "scores": {"a": {"macro_f1": {"value": 0.55, "low": 0.44, "high": 0.66}}}}  # fmt: skip
    seal = {"data": "/data/textures", "share": 0.2, "sealed_at": "x", "images": ["i"], "n_images": 1, "n_cases": 5}
    write_json(runs / "textures.seal.json", seal)
    assert "seal of textures: 5 cases, not opened yet" in invoke().stdout
    write_json(runs / "textures.seal.json", seal | {"openings": [opening]})
    result = invoke().stdout
    assert "opened 2026-02-01T10:00:00+00:00: a macro-F1 0.550 (0.440 to 0.660); b without a score" in result
    assert "warning" not in result
    write_json(runs / "textures.seal.json", seal | {"openings": [opening, opening]})
    assert "this seal was opened 2 times" in invoke().stdout
    write_atomic(runs / "textures.seal.json", '{"data": 1}')
    assert "textures.seal.json is damaged" in invoke().stdout


def test_a_csv_holds_what_the_screen_cannot(runs: Path, draw: Draw, invoke: Invoke) -> None:
    draw("a", "train.transfer.lr=0.02")
    result = invoke("show", "--csv", "all runs.csv")
    assert "next:   open 'all runs.csv'" in result.stdout
    table = pd.read_csv(runs.parent / "all runs.csv")
    assert table.loc[0, "macro_f1_low"] == 0.5
    assert table.loc[0, "train.transfer.lr"] == 0.02


def test_no_runs_send_to_the_first_run(invoke: Invoke) -> None:
    assert "next:   smalti run DATA" in invoke().stdout
    result = invoke("--runs", "absent")
    assert result.exit_code == 2
    assert "absent" in result.stderr
