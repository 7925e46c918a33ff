"""The command line as a person meets it: what it says, where it sends one next, and with which code it ends."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from smalti import cli, doctor
from smalti.audit import read_findings
from smalti.recipe import list_knobs
from textures import FAST, LABELLED, write_lines

SETTINGS = [word for setting in (*FAST, "train.finetune.epochs=0") for word in ("--set", setting)]
AUDITED = ["--recipe", "default", *SETTINGS]
QUICK = [*AUDITED, "--set", "audit.checks=[]"]
WEIGHTLESS = ["--set", "model.pretrained=false"]

Invoke = Callable[..., Any]


@pytest.fixture
def data(challenge: Path, tmp_path: Path) -> Path:
    """A copy of the drawn cohort, to be spoilt."""
    return Path(shutil.copytree(challenge, tmp_path / "textures"))


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command in an empty working folder; wide terminal, so that tables do not wrap."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: str | Path) -> Any:
        monkeypatch.setattr(sys, "argv", ["smalti", *map(str, words)])
        monkeypatch.setattr(cli.console, "out", Console(highlight=False, width=300))
        monkeypatch.setattr(cli.console, "err", Console(stderr=True, highlight=False, width=300))
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    return run


def check_ending(result: Any, *, where: str, then: str) -> None:
    """The last two lines: where the result is, what to run next."""
    assert result.exit_code == 0, result.output
    *_, where_line, then_line = result.stdout.strip().splitlines()
    assert re.match(rf"result: .*{where}", where_line)
    assert re.match(rf"next:   .*{then}", then_line)


# --- the whole way ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_command_does_the_whole_way(challenge: Path, tmp_path: Path) -> None:
    """In a process of its own; the paths that it prints exist, standard output holds no progress bar."""
    command = [sys.executable, "-m", "smalti", "run", str(challenge), *AUDITED]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    score, where, then = done.stdout.strip().splitlines()
    assert re.fullmatch(
        r"by image: macro-F1 0\.\d{3}, 95% interval .* 24 images, 18 cases, 1 seed\(s\); chance 0\.\d{3}, .*"
        r"By case: macro-F1 .*",
        score,
    )
    found = re.fullmatch(r"result: (.*) in (runs/textures-default-[0-9a-f]{6})", where)
    assert found
    assert found[1].split(", ") == ["report.html", "submission.csv", "scores.json"]
    assert all((tmp_path / found[2] / name).is_file() for name in found[1].split(", "))
    assert then == f"next:   open {found[2]}/report.html"


@pytest.mark.slow
def test_each_stage_alone_sends_to_the_next(data: Path, invoke: Invoke) -> None:
    """Following the printed commands from train to report ends with what run makes."""
    run = Path("runs/a b")  # a name that a shell would take apart
    result = invoke("train", data, *QUICK, "--name", "a b")
    check_ending(result, where="2 checkpoints in runs/a b/checkpoints", then="smalti predict 'runs/a b'")
    for word, where in (("predict", "predictions"), ("evaluate", r"scores\.json"), ("report", r"report\.html")):
        command = shlex.split(result.stdout.strip().splitlines()[-1].removeprefix("next:"))
        assert command == ["smalti", word, str(run)]
        result = invoke(*command[1:])
        check_ending(result, where=where, then="'runs/a b")
    assert json.loads((run / "scores.json").read_text(encoding="utf-8"))["n_images"] == LABELLED
    assert (run / "submission.csv").is_file()


def test_demo_draws_and_sends_to_run(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def draw(folder: Path, *, seed: int, progress: Any) -> Path:
        asked.append((folder, seed))
        progress(1, 1)
        return folder

    monkeypatch.setattr("smalti.demo.draw_cohort", draw)
    result = invoke("demo", "my cohort", "--seed", "3")
    check_ending(result, where="planted problems is in my cohort", then="smalti run 'my cohort' --recipe demo")
    assert asked == [(Path("my cohort"), 3)]


def test_evaluate_scores_the_table_of_another_tool(invoke: Invoke) -> None:
    rows = (f"i{n},{'ab'[n % 2]},{n % 2},{1 - n % 2}" for n in range(8))
    result = invoke("evaluate", write_lines(Path("t.csv"), "image,label,score_b,score_a", *rows))
    check_ending(result, where="t.csv", then="smalti run")
    assert "macro-F1 1.000" in result.stdout
    assert "balanced_accuracy" in result.stdout


# --- audit and decisions ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_audit_proposes_and_accepts(data: Path, invoke: Invoke) -> None:
    for kind in ("img", "mask"):
        shutil.copy(data / "train_data" / f"{kind}_0020.png", data / "train_data" / f"{kind}_0021.png")
    result = invoke("audit", data)
    where = r"no decisions yet; they will be kept in runs/textures\.decisions\.csv"
    check_ending(result, where=where, then="--accept exact-duplicate")
    assert "textures: 30 images" in result.stdout
    assert [path.name for path in Path("runs").iterdir()] == ["textures.audit"]
    page = Path("runs/textures.audit/report.html").read_text(encoding="utf-8")
    assert "train_data/img_0021.png has the same pixels as train_data/img_0020.png" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    findings = read_findings(Path("runs/textures.audit/findings.json")).findings
    assert page.count('<img src="data:image/jpeg;base64,') == len(findings)
    assert [f.images[0] for f in findings if f.code == "exact-duplicate"] == ["train_data/img_0021.png"]
    command = shlex.split(result.stdout.strip().splitlines()[-1].removeprefix("next:"))
    result = invoke(*command[1:])
    check_ending(result, where=r"decisions\.csv", then=f"smalti run {re.escape(str(data))}$")
    assert ",exclude,," in Path("runs/textures.decisions.csv").read_text(encoding="utf-8")


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_problems_are_a_table_and_one_command_that_goes_on(data: Path, invoke: Invoke) -> None:
    for number in (4, 15):
        path = data / "train_data" / f"img_{number:04d}.png"
        path.write_bytes(path.read_bytes()[:150])
    result = invoke("run", data, *QUICK, "--name", "r")
    assert result.exit_code == 2
    assert "2 problem(s)" in result.stderr
    for text in ("img_0004.png", "img_0015.png", "what is wrong", "fix"):
        assert text in result.stderr
    assert "result:" not in result.output
    assert not Path("runs").exists()
    lines = result.stderr.strip().splitlines()
    assert "without the 2 image(s)" in lines[-2]
    command = shlex.split(lines[-1])
    assert command[-1] == "--skip-problems"
    result = invoke(*command[1:])
    check_ending(result, where="report.html", then="report.html")
    assert "22 images" in result.stdout


def test_problems_that_leaving_out_does_not_help_offer_no_command(data: Path, invoke: Invoke) -> None:
    (data / "train_labels.csv").unlink()
    result = invoke("run", data, *QUICK)
    assert result.exit_code == 2
    assert "train_labels.csv" in result.stderr
    assert "--skip-problems" not in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "defualt"], r"no preset is called 'defualt'.*Fix.*default"),
        (["--recipe", "absent.yaml"], r"absent.yaml.*Fix"),
        (["--set", "split.fold=3"], r"split.fold.*Did you mean split.folds\?.*Fix"),
        (["--set", "split.folds"], r"no '='.*Fix"),
        (["--set", "split.folds=many"], r"split.folds"),
        (["--set", "train.transfer.lr=-1"], r"train.transfer.lr"),
        (["--set", "model.backbone=resnet51", *WEIGHTLESS], r"resnet51.*Fix.*resnet50"),
        (["--set", "train.transfer.optimiser=adamww", *QUICK], r"adamww.*Did you mean.*adamw"),
        (["--set", "model.pooler=meen", *QUICK], r"meen.*Did you mean 'mean'"),
        (["--set", "train.finetune.augmentation=flips_color", *QUICK], r"flips_color.*Did you mean 'flips_colour'"),
        (["--set", "audit.checks=[blnk]", *WEIGHTLESS], r"blnk.*Did you mean 'blank'"),
        pytest.param(
            ["--set", "split.folds=20", *QUICK[:6]],
            r"20 folds do not work.*Fix: --set split.folds",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_slip_ends_with_two_and_says_what_was_meant(
    words: list[str], message: str, challenge: Path, invoke: Invoke
) -> None:
    result = invoke("run", challenge, *words)
    assert result.exit_code == 2, result.output
    assert re.search(message, " ".join(result.stderr.split()))
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not list(Path().glob("runs/*/recipe.yaml"))  # found before anything is cut or computed
    assert not list(Path().glob("runs/cache/tiles-*"))


@pytest.mark.parametrize("words", [["predict", "nowhere"], ["evaluate", "nowhere.csv"], ["report", "nowhere"]])
def test_a_place_that_is_not_there_is_named(words: list[str], invoke: Invoke) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert re.search(r"nowhere.*Fix", " ".join(result.stderr.split()))


def test_a_data_folder_that_is_not_there_is_named(invoke: Invoke) -> None:
    for word in ("run", "train", "audit"):
        result = invoke(word, "nowhere")
        assert result.exit_code == 2
        assert "nowhere" in result.stderr
        assert not list(Path().iterdir())


def test_markup_in_names_is_text(data: Path, invoke: Invoke) -> None:
    """Square brackets mean colours to the library that prints; in a file name they are brackets."""
    shutil.copy(data / "train_data" / "img_0000.png", data / "train_data" / "[red]x[bold].png")
    result = invoke("run", data, *QUICK)
    assert result.exit_code == 2
    assert "[red]x[bold].png" in result.stderr


# --- looking things up --------------------------------------------------------------------------------------------


def test_parts_lists_every_kind(invoke: Invoke) -> None:
    result = invoke("parts")
    check_ending(result, where="above", then="smalti parts --knobs")
    words = result.stdout
    assert {kind for kind, _ in doctor.list_parts()} >= {"metric", "check", "augmentation", "pooler", "schedule"}
    for kind, entry in doctor.list_parts():
        assert kind in words
        assert entry.name in words
    assert "cosine" in words
    assert "macro_f1" in words


def test_knobs_lists_every_knob_with_its_meaning(invoke: Invoke) -> None:
    result = invoke("parts", "--knobs")
    check_ending(result, where=f"{len(list_knobs())} knobs above", then="smalti run")
    for name, description in list_knobs().items():
        assert re.search(rf"{re.escape(name)} +│ {re.escape(description[:40])}", result.stdout)


def test_doctor_says_whether_this_machine_will_do(invoke: Invoke) -> None:
    result = invoke("doctor", "--set", "train.device=cpu", *WEIGHTLESS)
    check_ending(result, where="this machine can run smalti", then="smalti demo")
    for name in ("Python", "torch", "timm", "device", "weights", "memory", "disk"):
        assert re.search(rf"│ {name} +│ (good|note)", result.stdout)


def test_doctor_ends_with_one_when_something_is_bad(invoke: Invoke) -> None:
    result = invoke("doctor", "--set", "model.weights=absent.safetensors")
    assert result.exit_code == 1
    assert re.search(r"weights +│ bad +│ no file at absent.safetensors", result.stdout)
    assert "next:" not in result.stdout


def test_every_command_explains_itself(invoke: Invoke) -> None:
    listed = invoke("--help").stdout
    commands = [[c.callback.__name__] for c in cli.app.registered_commands if c.callback]
    below = [["logbook", name] for name in ("show", "best", "diff", "export")]
    for words in [*commands, ["logbook"], *below]:
        assert words[0] in listed
        result = invoke(*words, "--help")
        assert result.exit_code == 0
        assert len(result.stdout) > 200
    assert listed.index("Look") < listed.index("─ Do") < listed.index("Judge")


def test_no_word_of_a_help_text_is_taken_for_markup() -> None:
    for command in typer.main.get_command(cli.app).commands.values():  # type: ignore[attr-defined]
        for told in [command, *getattr(command, "commands", {}).values()]:
            for option in told.params:
                text = option.help or ""
                assert Text.from_markup(text).plain == text, f"{told.name} {option.name}"


def test_the_version_is_that_of_the_package(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"smalti {importlib.metadata.version('smalti')}\n"
