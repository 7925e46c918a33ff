"""Units of work: the same files wherever they are made, and a unit that goes wrong is one outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from smalti.engine import Outcome, Place, Unit, carry_out, parse_place
from smalti.engine.crews import Processes
from smalti.engine.resources import Resources
from smalti.errors import RecipeError
from smalti.project import Listener
from smalti.records import layout, log_outcome, read_outcomes

HERE = Path(__file__).parent


def make(folder: Path, name: str, task: str, needs: dict[str, Any] | None = None, **args: Any) -> Unit:
    """A unit of tests/engine/tasks.py whose file is ``folder / name``."""
    return Unit(name, f"tasks:{task}", args, folder / name, **(needs or {}))


def digests(folder: Path, count: int, **args: Any) -> list[Unit]:
    folder.mkdir(exist_ok=True)
    return [make(folder, f"u{n}", "digest", path=str(folder / f"u{n}"), seed=n, **args) for n in range(count)]


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def list_workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "smalti.engine" in " ".join(p.cmdline())]


@pytest.mark.slow
def test_files_are_the_same_here_and_in_processes_and_are_reused(tmp_path: Path) -> None:
    here = carry_out(digests(tmp_path / "here", 6))
    units = digests(tmp_path / "there", 6)
    there = carry_out(units, on="processes:2")
    assert [outcome.status for outcome in here + there] == ["done"] * 12
    assert [outcome.unit for outcome in there] == units
    assert read(tmp_path / "here") == read(tmp_path / "there")
    units[2].done.unlink()
    again = carry_out(units, on="processes:2")
    assert [outcome.status for outcome in again] == ["reused", "reused", "done", *["reused"] * 3]
    assert read(tmp_path / "here") == read(tmp_path / "there")
    assert list_workers() == []


@pytest.mark.slow
@pytest.mark.parametrize("on", ["here", "processes:2"])
def test_a_unit_that_goes_wrong_is_an_outcome_and_the_others_go_on(on: str, tmp_path: Path) -> None:
    said: list[str] = []
    told: list[tuple[str, int, int]] = []
    units = [
        make(tmp_path, "fails", "fail", message="there"),
        make(tmp_path, "refuses", "refuse"),
        make(tmp_path, "forgets", "forget"),
        make(tmp_path, "memory", "run_out"),
        make(tmp_path, "leaves", "leave"),
        Unit("absent", "tasks:nothing_of_this_name", {}, tmp_path / "absent"),
        make(tmp_path, "speaks", "speak", path=str(tmp_path / "speaks")),
        *digests(tmp_path, 2),
    ]
    found = carry_out(units, on=on, tries=2, listener=Listener(said.append, lambda *row: told.append(row)))
    assert [outcome.unit for outcome in found] == units
    assert [outcome.status for outcome in found] == ["failed"] * 6 + ["done"] * 3
    errors = {outcome.unit.name: outcome.error for outcome in found}
    assert errors["fails"] == "KeyError: 'there'"
    assert errors["refuses"] == "no slide in it. Fix: look at it"
    assert errors["forgets"] == f"ended without {tmp_path / 'forgets'}"
    assert errors["memory"].startswith("the machine ran out of memory")
    assert errors["leaves"] == "SystemExit: enough"
    assert "nothing_of_this_name" in errors["absent"]
    # What the data refuses would be refused again.
    assert [outcome.tries for outcome in found] == [2, 1, 2, 2, 2, 2, 1, 1, 1]
    assert "in fail" in found[0].trace
    assert found[1].trace == ""
    assert "speaks: half way" in said
    assert told[0] == ("units", 0, 9)
    assert told[-1] == ("units", 9, 9)


@pytest.mark.slow
def test_a_killed_process_takes_one_unit_with_it_and_is_replaced(tmp_path: Path) -> None:
    once, always = ({"path": str(tmp_path / n), "counter": str(tmp_path / f"{n}.log")} for n in ("once", "always"))
    units = [
        make(tmp_path, "once", "die", times=1, **once),
        make(tmp_path, "always", "die", times=9, **always),
        *digests(tmp_path, 8, seconds=0.02),
    ]
    found = carry_out(units, on="processes:2", tries=3)
    assert [outcome.status for outcome in found] == ["done", "failed", *["done"] * 8]
    assert [outcome.tries for outcome in found] == [2, 3, *[1] * 8]
    assert "SIGKILL" in found[1].error
    assert "Fix: " in found[1].error
    assert list_workers() == []


def wait_for(true: Callable[[], object], *, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


CALLER = """
import signal
import sys
from pathlib import Path
from smalti.engine import Unit, carry_out
from smalti.stopping import catch_signals, say_stopped

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it
catch_signals()
sys.path.append(sys.argv[1])
folder = Path(sys.argv[2])
units = [
    Unit(n, "tasks:linger", {"path": str(folder / n), "pids": str(folder / "pids")}, folder / n) for n in ("a", "b")
]
try:
    carry_out(units, on=sys.argv[3])
except KeyboardInterrupt as error:
    sys.exit(say_stopped(error))
"""


def end_caller(folder: Path, on: str, number: int, *, running: int = 2) -> int:
    """Send a signal to a process that carries out units, when they run; return its exit code when all is gone."""
    pids = folder / "pids"
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(HERE), str(folder), on], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2 * running)
        started = [psutil.Process(int(pid)) for pid in pids.read_text(encoding="utf-8").split()]
        started += psutil.Process(caller.pid).children(recursive=True)
        os.kill(caller.pid, number)
        code = caller.wait(180)
    finally:
        caller.kill()
        caller.wait()
    wait_for(lambda: not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
    return code


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_caller_that_ends_leaves_no_process_and_nothing_half_written(number: int, tmp_path: Path) -> None:
    code = end_caller(tmp_path, "processes:2", number)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert [path.name for path in tmp_path.iterdir()] == ["pids"]


@pytest.mark.slow
def test_units_get_their_cores_gpus_and_memory_and_never_more_than_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Resources(cpus=3, gpus=("5", "7"), memory_gb=4.0)
    monkeypatch.setattr("smalti.engine.crews.measure_resources", lambda: there)
    wanted = {
        "two": {"cpus": 2},
        "gpu": {"gpus": 1},
        "both": {"cpus": 3, "gpus": 2},
        "many": {"gpus": 3},
        "wide": {"memory_gb": 5.0},
    }
    units = [make(tmp_path, name, "describe", needs, path=str(tmp_path / name)) for name, needs in wanted.items()]
    found = carry_out(units, on="processes")
    assert [o.status for o in found] == ["done"] * 3 + ["failed"] * 2
    assert "3 GPU(s), and this machine has 2" in found[3].error
    assert "5 GB of memory, and this machine has 4.0" in found[4].error
    assert {name: (tmp_path / name).read_text(encoding="utf-8") for name in ("two", "gpu", "both")} == {
        "two": "[2] ", "gpu": "[1] 5", "both": "[3] 5,7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("needs", "workers", "most"),
    [
        ({"cpus": 1}, None, 3),
        ({"cpus": 1}, 2, 2),
        ({"cpus": 2}, None, 1),
        ({"gpus": 1}, None, 2),
        ({"memory_gb": 1.5}, None, 2),
        ({"cpus": 9}, None, 1),
    ],
)
def test_no_more_units_run_at_once_than_there_is_room_for(
    needs: dict[str, Any], workers: int | None, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Processes(workers, lambda unit, text: None, Resources(cpus=3, gpus=("5", "7"), memory_gb=4.0))
    started: list[str] = []
    monkeypatch.setattr("smalti.engine.crews.Child", lambda *args: Mute(started))
    units = [make(tmp_path, f"u{n}", "forget", needs) for n in range(5)]
    assert [crew.begin(unit) for unit in units] == [n < most for n in range(5)]
    assert len(started) == most


def test_an_idle_process_is_used_again_and_gives_up_a_gpu_that_another_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = Processes(None, lambda unit, text: None, Resources(cpus=4, gpus=("5",), memory_gb=4.0))
    started: list[str] = []
    monkeypatch.setattr("smalti.engine.crews.Child", lambda *args: Mute(started))
    same, other = {"gpus": 1}, {"gpus": 1, "cpus": 2}
    for name, needs, count in (("a", same, 1), ("b", same, 1), ("c", other, 2), ("d", {}, 3)):
        assert crew.begin(make(tmp_path, name, "forget", needs))
        assert started.count("started") == count
        crew.busy.clear()  # all have ended
    assert started == ["started", "ended", "started", "started"]
    assert [gpus for _, gpus in crew.suited.values()] == [("5",), ()]


class Mute:
    """A process that never answers."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        log.append("started")

    def send(self, message: object) -> None:
        """Hear nothing."""

    def ask_to_end(self) -> None:
        self.log.append("ended")

    def kill(self, *, after_s: float) -> None:
        """Be gone."""


def test_a_full_disk_stops_units_that_would_write_there_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smalti.engine.carrying.find_disk", lambda path: int("other" in Path(path).parts))
    monkeypatch.setattr("smalti.engine.performing.find_disk", lambda path: int("other" in Path(path).parts))
    (tmp_path / "other").mkdir()
    units = [make(tmp_path, f"full{n}", "fill", path=str(tmp_path / f"full{n}")) for n in range(5)]
    units += digests(tmp_path / "other", 2)
    found = carry_out(units, tries=3)
    # One refusal may be a matter of its size; after the second nothing else is tried on that disk.
    assert [o.status for o in found] == ["failed"] * 2 + ["stopped"] * 3 + ["done"] * 2
    assert [o.tries for o in found] == [1, 1, 0, 0, 0, 1, 1]
    assert all("no space is left" in o.error and "Fix: " in o.error for o in found[:5])
    assert "not tried" in found[2].error


def test_a_disk_without_room_stops_at_the_first_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 4096})
    monkeypatch.setattr("smalti.engine.carrying.shutil.disk_usage", lambda folder: usage)
    found = carry_out([make(tmp_path, f"u{n}", "fill", path=str(tmp_path / f"u{n}")) for n in range(3)])
    assert [o.status for o in found] == ["failed", "stopped", "stopped"]


def test_each_outcome_is_kept_and_read_back(tmp_path: Path) -> None:
    path, heard = tmp_path / "rows" / layout.UNITS, []
    units = [make(tmp_path, "fails", "fail", message="there"), *digests(tmp_path, 2)]

    def keep(outcome: Outcome) -> None:
        heard.append(outcome.unit.name)
        log_outcome(path, outcome)

    carry_out(units, tries=1, each=keep)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"unit": "half a li')
    rows = read_outcomes(path)
    assert [*rows] == heard == ["fails", "u0", "u1"]
    assert (rows["fails"].status, rows["fails"].error, rows["fails"].tries) == ("failed", "KeyError: 'there'", 1)
    assert rows["u0"].where.endswith(f":{os.getpid()}")
    heard.clear()
    carry_out(units, tries=1, each=keep)
    assert heard == ["fails"]
    assert read_outcomes(path).keys() == rows.keys()
    assert read_outcomes(tmp_path / "none") == {}


@pytest.mark.parametrize("on", ["", "there", "processes:", "processes:0", "processes:two", "ray:", "ray://", "ray://a"])
def test_a_place_that_is_none_is_refused_before_any_work(on: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no place where work can be done"):
        carry_out(digests(tmp_path, 1), on=on)
    assert not any(tmp_path.iterdir())


def test_places_are_read() -> None:
    assert parse_place("here") == Place("here")
    assert parse_place("processes") == Place("processes")
    assert parse_place("processes:4") == Place("processes", 4)


def test_units_that_would_overwrite_each_other_are_refused(tmp_path: Path) -> None:
    one, two = digests(tmp_path, 2)
    for other in (replace(two, name=one.name), replace(two, done=one.done)):
        with pytest.raises(ValueError, match="two units"):
            carry_out([one, other])
    with pytest.raises(ValueError, match=r"package\.module:function"):
        replace(one, task="tasks.digest")
    with pytest.raises(ValueError, match="at least one core"):
        replace(one, cpus=0)
    with pytest.raises(TypeError):
        replace(one, args={"path": tmp_path})


@pytest.mark.slow
def test_the_engine_loads_nothing_heavy() -> None:
    code = "import smalti.engine, sys; print({'torch', 'ray', 'numpy', 'pandas'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
