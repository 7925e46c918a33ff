"""Units of work: the same files wherever they are made, and a unit that goes wrong is one outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from smalti.engine import Unit, carry_out
from smalti.project import Listener

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


def wait_for(true: Callable[[], object], *, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


CALLER = """
import sys
from pathlib import Path
from smalti.engine import Unit, carry_out
from smalti.stopping import catch_signals, say_stopped

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
    wait_for(lambda: pids.exists() and len(pids.read_text(encoding="utf-8").split()) == 2 * running)
    started = [psutil.Process(int(pid)) for pid in pids.read_text(encoding="utf-8").split()]
    started += psutil.Process(caller.pid).children(recursive=True)
    os.kill(caller.pid, number)
    code = caller.wait(30)
    wait_for(lambda: not [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
    return code


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_caller_that_ends_leaves_no_process_and_nothing_half_written(number: int, tmp_path: Path) -> None:
    code = end_caller(tmp_path, "processes:2", number)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    assert [path.name for path in tmp_path.iterdir()] == ["pids"]
