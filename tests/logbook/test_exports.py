"""The logbook in MLflow and TensorBoard: what arrives there, read back with their own clients."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from drawn_records import draw_history, draw_run
from smalti import cli, logbook
from smalti.errors import MissingExtraError, RunError
from smalti.recipe import load_recipe
from smalti.records import log_event
from smalti.store import write_atomic

pytestmark = pytest.mark.slow

os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})  # read when mlflow is imported
HEALTHY_S = 90.0


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A scored run with curves and a report, a failed one, and one that was cut off."""
    folder = tmp_path / "runs"
    path = draw_run(folder, "good", "train.transfer.lr=0.02", score=(0.6, 0.5, 0.7), seconds=12.5)
    draw_history(path)
    write_atomic(path / "report.html", "<p>report</p>")
    failed = draw_run(folder, "bad's [1]", score=None)
    log_event(failed, "train failed", stage="train", state="failed", error="no memory")
    draw_run(folder, "cut", score=None)
    return folder


def read_entries(runs: Path) -> Any:
    return logbook.read_logbook(runs).entries


# --- MLflow -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server with a SQLite file, for this module alone."""
    if importlib.util.find_spec("mlflow") is None or importlib.util.find_spec("sqlalchemy") is None:
        pytest.skip("not applicable: MLflow and its server are not installed")
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder / 'runs.db'}",
               "--artifacts-destination", str(folder / "artifacts")]  # fmt: skip
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_healthy(address, process, folder / "server.log")
        yield address
    finally:
        end_group(process)


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + HEALTHY_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"no MLflow server at {address}:\n{log.read_text(encoding='utf-8')[-2000:]}")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which are a process group of their own."""
    try:
        os.killpg(process.pid, 15)
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait(10)
    except ProcessLookupError:
        process.wait(10)


@pytest.fixture
def client(server: str) -> Any:
    """MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server)


def find_runs(client: Any, experiment: str) -> dict[str, Any]:
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = [run.info.run_name for run in found]
    assert len(names) == len(set(names))
    return {run.info.run_name: run for run in found}


def test_knobs_scores_curves_files_and_state_arrive(server: str, client: Any, runs: Path) -> None:
    done = logbook.export_mlflow(read_entries(runs), uri=server, experiment="arrive")
    assert (set(done.created), done.updated, done.problems) == ({"good", "bad's [1]", "cut"}, (), ())
    found = find_runs(client, "arrive")
    good = found["good"]
    (entry,) = [e for e in read_entries(runs) if e.name == "good"]
    assert good.data.params.keys() == entry.recipe.keys()
    assert good.data.params["train.transfer.lr"] == "0.02"
    assert good.data.params["split.seeds"] == "[0]"
    assert good.data.params["model.weights"] == "null"
    wanted = {"macro_f1": 0.6, "macro_f1_low": 0.5, "macro_f1_high": 0.7, "optimism": 0.05, "seconds": 12.5}
    assert {name: good.data.metrics[name] for name in wanted} == pytest.approx(wanted)
    assert "auc" not in good.data.metrics  # nobody could compute it
    assert good.data.tags["smalti.data_hash"] == "d1"
    assert good.info.status == "FINISHED"
    assert good.info.end_time - good.info.start_time == 12_500
    for name in ("report.html", "scores.json", "recipe.yaml"):
        copy = Path(client.download_artifacts(good.info.run_id, name, str(runs.parent)))
        assert copy.read_bytes() == (runs / "good" / name).read_bytes()
    assert {run: found[run].info.status for run in ("bad's [1]", "cut")} == {"bad's [1]": "FAILED", "cut": "RUNNING"}
    assert found["bad's [1]"].data.tags["smalti.error"] == "train: no memory"


def test_curves_keep_their_epochs(server: str, client: Any, runs: Path) -> None:
    logbook.export_mlflow(read_entries(runs), uri=server, experiment="curves")
    run = find_runs(client, "curves")["good"]
    table = pd.read_csv(runs / "good" / "history.csv")
    for (fold, phase), rows in table.groupby(["fold", "phase"]):
        name = f"fold{fold}-seed0/{phase}/inner_loss"
        history = client.get_metric_history(run.info.run_id, name)
        known = rows.dropna(subset="inner_loss")
        assert sorted((m.step, m.value) for m in history) == list(zip(known.epoch, known.inner_loss, strict=True))
        assert len(known) == len(rows) - 1


def test_a_second_export_adds_nothing(server: str, client: Any, runs: Path) -> None:
    first = logbook.export_mlflow(read_entries(runs), uri=server, experiment="again")
    before = find_runs(client, "again")
    shutil.copytree(runs, runs.parent / "moved")  # where the folder lies makes no difference
    second = logbook.export_mlflow(read_entries(runs.parent / "moved"), uri=server, experiment="again")
    assert (second.created, second.updated, set(second.unchanged)) == ((), (), set(first.created))
    after = find_runs(client, "again")
    assert {n: r.info.run_id for n, r in after.items()} == {n: r.info.run_id for n, r in before.items()}


def test_what_changed_is_brought_up_to_date(server: str, client: Any, runs: Path) -> None:
    """A score that was computed again, also a lower one, and a run that went on after it had been cut off."""
    logbook.export_mlflow(read_entries(runs), uri=server, experiment="change")
    before = find_runs(client, "change")
    scores = json.loads((runs / "good" / "scores.json").read_text(encoding="utf-8"))
    scores["metrics"]["macro_f1"]["value"] = 0.55
    write_atomic(runs / "good" / "scores.json", json.dumps(scores))
    draw_run(runs, "cut", score=(0.4, 0.3, 0.5))
    draw_history(runs / "cut")
    done = logbook.export_mlflow(read_entries(runs), uri=server, experiment="change")
    assert (done.created, set(done.updated), done.unchanged) == ((), {"good", "cut"}, ("bad's [1]",))
    after = find_runs(client, "change")
    assert {n: r.info.run_id for n, r in after.items()} == {n: r.info.run_id for n, r in before.items()}
    assert after["good"].data.metrics["macro_f1"] == pytest.approx(0.55)
    assert len(client.get_metric_history(after["good"].info.run_id, "fold0-seed0/transfer/inner_loss")) == 2
    assert after["cut"].info.status == "FINISHED"
    assert len(client.get_metric_history(after["cut"].info.run_id, "fold0-seed0/transfer/inner_loss")) == 2


def test_a_run_that_was_trained_anew_takes_the_place_of_the_old_one(server: str, client: Any, runs: Path) -> None:
    """MLflow never changes a parameter; there is still one run of each name."""
    logbook.export_mlflow(read_entries(runs), uri=server, experiment="anew")
    before = find_runs(client, "anew")
    shutil.rmtree(runs / "good")
    draw_run(runs, "good", "train.transfer.lr=0.5", started="2026-03-01T10:00:00+00:00")
    assert logbook.export_mlflow(read_entries(runs), uri=server, experiment="anew").updated == ("good",)
    after = find_runs(client, "anew")
    assert after["good"].info.run_id != before["good"].info.run_id
    assert after["good"].data.params["train.transfer.lr"] == "0.5"
    assert after.keys() == before.keys()


def test_each_data_folder_is_an_experiment_of_its_own(server: str, client: Any, runs: Path) -> None:
    draw_run(runs, "good on glas", data="/data/glas", data_hash="d2")
    logbook.export_mlflow(read_entries(runs), uri=server)
    assert find_runs(client, "glas").keys() == {"good on glas"}
    assert find_runs(client, "textures").keys() == {"good", "bad's [1]", "cut"}


def test_damaged_curves_are_said_and_the_rest_arrives(server: str, client: Any, runs: Path) -> None:
    write_atomic(runs / "good" / "history.csv", 'fold,seed\n"')
    done = logbook.export_mlflow(read_entries(runs), uri=server, experiment="damaged")
    (problem,) = done.problems
    assert re.search(r"history.csv is damaged.*Fix", problem)
    assert find_runs(client, "damaged")["good"].data.metrics["macro_f1"] == pytest.approx(0.6)


def test_more_knobs_and_points_than_one_request_takes_arrive(server: str, client: Any, runs: Path) -> None:
    path = runs / "good"
    draw_history(path, folds=3, epochs=101)
    many = "".join(f"  knob{number}: {number}\n" for number in range(120))
    text = load_recipe().to_yaml() + f"more:\n{many}  long: '{'x' * 9000}'\n  odd name,ü: 1\n"
    write_atomic(path / "recipe.yaml", text)
    logbook.export_mlflow(read_entries(runs), uri=server, experiment="many")
    run = find_runs(client, "many")["good"]
    assert run.data.params["more.knob119"] == "119"
    assert run.data.params["more.odd name_ü"] == "1"
    assert len(run.data.params["more.long"]) == 6000
    assert len(client.get_metric_history(run.info.run_id, "fold2-seed0/finetune/inner_loss")) == 100


def test_the_command_exports_and_says_where(server: str, client: Any, runs: Path) -> None:
    words = ["logbook", "export", "mlflow", "--to", server, "--runs", str(runs), "--where", "status == 'finished'"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert f"result: 1 run(s) in {server}:" in result.stdout
    assert f"next:   open {server}" in result.stdout
    assert "good" in find_runs(client, "textures")


def test_nothing_is_left_in_the_environment_but_that_no_use_is_reported(
    server: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name)
    before = dict(os.environ)
    logbook.export_mlflow(read_entries(runs), uri=server, experiment="environment")
    assert dict(os.environ) == before | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def test_a_server_that_is_not_there_is_said_soon(runs: Path) -> None:
    pytest.importorskip("mlflow", reason="not applicable: MLflow is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(RunError, match=rf"MLflow at {address} did not take the runs.*Fix.*mlflow server"):
        logbook.export_mlflow(read_entries(runs), uri=address)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_library_that_is_missing_is_named(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # importing it fails from now on
    monkeypatch.delitem(sys.modules, "tensorboard.summary", raising=False)
    export: Any = logbook.export_mlflow if name == "mlflow" else logbook.export_tensorboard
    place = {"uri": "http://127.0.0.1:1"} if name == "mlflow" else {"folder": runs.parent / "board"}
    with pytest.raises(MissingExtraError, match=rf"Fix: pip install 'smalti\[{name}\]'"):
        export(read_entries(runs), **place)


# --- TensorBoard --------------------------------------------------------------------------------------------------


@pytest.fixture
def board(runs: Path) -> Path:
    """The runs as TensorBoard's event files."""
    pytest.importorskip("tensorboard", reason="not applicable: TensorBoard is not installed")
    folder = runs.parent / "board"
    done = logbook.export_tensorboard(read_entries(runs), folder=folder)
    assert (set(done.created), done.problems) == ({"good", "bad's [1]", "cut"}, ())
    return folder


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()["tensors"]
    return {
        tag: [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)] for tag in tags
    }


def test_scores_and_curves_are_in_the_event_files(runs: Path, board: Path) -> None:
    scores = read_scalars(board / "good")
    assert scores["scores/macro_f1"] == [(0, pytest.approx(0.6))]
    assert scores["scores/macro_f1_low"] == [(0, pytest.approx(0.5))]
    assert scores["run/finished"] == [(0, 1.0)]
    assert "scores/auc" not in scores
    table = pd.read_csv(runs / "good" / "history.csv")
    for (fold, phase), rows in table.groupby(["fold", "phase"]):
        known = rows.dropna(subset="inner_loss")
        points = read_scalars(board / "good" / f"fold{fold}-seed0")[f"{phase}/inner_loss"]
        assert points == [(e, pytest.approx(v)) for e, v in zip(known.epoch, known.inner_loss, strict=True)]
    assert read_scalars(board / "cut") == {"run/finished": [(0, 0.0)]}


def test_the_recipe_and_the_error_are_beside_the_scores(board: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def describe(name: str) -> str:
        events = EventAccumulator(str(board / name)).Reload()
        return str(events.SummaryMetadata("run/finished").summary_description)

    assert "    backbone: auto" in describe("good").replace("      ", "    ")
    assert describe("bad's [1]").startswith("**failed** train: no memory")


def test_a_second_board_has_every_point_once(runs: Path, board: Path) -> None:
    before = {path: path.read_bytes() for path in board.rglob("*") if path.is_file()}
    done = logbook.export_tensorboard(read_entries(runs), folder=board)
    assert len(done.unchanged) == 3
    assert {path: path.read_bytes() for path in board.rglob("*") if path.is_file()} == before
    draw_run(runs, "cut", score=(0.4, 0.3, 0.5))
    assert logbook.export_tensorboard(read_entries(runs), folder=board).updated == ("cut",)
    assert read_scalars(board / "cut")["run/finished"] == [(0, 1.0)]
    assert not [path for path in board.iterdir() if path.name.startswith(".")]


def test_folders_of_others_are_left_alone(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="not applicable: TensorBoard is not installed")
    write_atomic(tmp_path / "board" / "good" / "events.out.tfevents.1", "theirs")
    with pytest.raises(RunError, match=r"has good, not written by smalti.*Fix"):
        logbook.export_tensorboard(read_entries(runs), folder=tmp_path / "board")
    assert [path.name for path in (tmp_path / "board").rglob("*")] == ["good", "events.out.tfevents.1"]


def test_writing_event_files_loads_no_network_library(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="not applicable: TensorBoard is not installed")
    code = (
        "import sys\nfrom smalti import logbook\n"
        f"logbook.export_tensorboard(logbook.read_logbook({str(runs)!r}).entries, folder={str(tmp_path / 'b')!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_writes_event_files_and_says_where(runs: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="not applicable: TensorBoard is not installed")
    target = tmp_path / "a board"
    write_atomic(runs / "good" / "history.csv", "fold\nx\n")
    words = ["logbook", "export", "tensorboard", "--to", str(target), "--runs", str(runs)]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == 0, result.output
    assert "3 new, 0 updated, 0 unchanged" in result.stdout
    assert f"next:   tensorboard --logdir '{target}'" in result.stdout
    assert "history.csv is damaged" in result.stderr
