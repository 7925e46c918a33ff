"""What the machine refuses and what ends a command: said in words, with a way out and the right code."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
import typer
from typer.testing import CliRunner

from smalti import workflow
from smalti.cli import console
from smalti.errors import DataError, RunError
from smalti.faults import explain_fault
from smalti.project import Project
from smalti.stopping import Terminated
from smalti.store import build_once, write_atomic
from smalti.store.leftovers import name_temporary, remove_leftovers
from smalti.workflow.place import check_name, check_place
from textures import write_lines

CODES = ("ENOSPC", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EEXIST", "EISDIR", "ENOENT", "EMFILE", "EIO", "ELOOP")


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_every_refusal_says_what_where_and_a_way_out(code: str) -> None:
    number = getattr(errno, code)
    fault = explain_fault(OSError(number, os.strerror(number), "/some/where"))
    assert fault is not None
    assert re.search(rf"/some/where.*{os.strerror(number)}|{os.strerror(number)}.*Fix: ", str(fault))
    assert "Fix: " in str(fault)
    assert fault.kind == ("disk" if code == "ENOSPC" else "path")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("can't start new thread"),
    ],
)
def test_no_memory_is_told_as_that(error: Exception) -> None:
    fault = explain_fault(error)
    assert fault is not None
    assert fault.kind == "memory"
    assert "Fix: " in str(fault)


def test_a_bug_is_no_fault_of_the_machine() -> None:
    for error in (RuntimeError("shapes differ"), ValueError("memory"), KeyError("a"), DataError("a folder")):
        assert explain_fault(error) is None


def test_a_lock_of_another_program_is_told_as_that(tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / "lock"), pytest.raises(filelock.Timeout) as caught:
        filelock.FileLock(tmp_path / "lock", timeout=0).acquire()
    fault = explain_fault(caught.value)
    assert fault is not None
    assert fault.kind == "lock"
    assert str(tmp_path / "lock") in str(fault)


# --- the edge -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), 2, "no space is left for /runs/a"),
        (MemoryError(), 2, "out of memory"),
        (RunError("no run. Fix: make one"), 2, "no run"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on where it was"),
        (Terminated(), 143, "stopped; the same command goes on where it was"),
    ],
)
def test_the_edge_ends_every_command_in_words(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = typer.Typer()

    @app.command()
    @console.guard
    def fail() -> None:
        raise error

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_bug_keeps_its_traceback() -> None:
    app = typer.Typer()

    @app.command()
    @console.guard
    def fail() -> None:
        raise ValueError("a bug")

    assert isinstance(CliRunner().invoke(app, []).exception, ValueError)


STOPPED = """
import sys, time
from smalti.stopping import catch_signals, say_stopped
catch_signals()
try:
    {body}
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
except KeyboardInterrupt as error:
    sys.exit(say_stopped(error))
"""
LOST = """
    class Slow:
        def __del__(self):
            print("ready", flush=True)
            time.sleep(1)  # a signal here can raise nothing
    slow = Slow()
    del slow
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("body", ["pass", LOST.strip()])
def test_signals_end_a_process_with_their_codes_and_are_never_lost(number: int, code: int, body: str) -> None:
    script = STOPPED.format(body=body)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, "stopped; the same command goes on where it was\n")


# --- disks and places ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    """In a process that may write no file beyond 1,000 bytes."""
    write_atomic(tmp_path / "a.json", "old")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    script = (
        "from pathlib import Path; from smalti.store import write_atomic; "
        f"write_atomic(Path({str(tmp_path)!r}, 'a.json'), 'n' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", script], preexec_fn=limit, capture_output=True, check=False)
    assert b"File too large" in done.stderr
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_folder_of_runs_that_cannot_be_is_refused_before_anything_is_read(challenge: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "file", "x")
    (tmp_path / "link").symlink_to(challenge)
    wrong = [tmp_path / "file", tmp_path / "file" / "deeper", challenge, challenge / "runs", tmp_path / "link" / "runs"]
    for runs in wrong:
        with pytest.raises(RunError, match=r"Fix: .*--runs"):
            workflow.run(challenge, "default", runs=runs)
    assert not (challenge / "runs").exists()
    check_place(Project(challenge, challenge.parent))  # the data may lie inside the runs


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(RunError, match=r"cannot be written to\. Fix: "):
        check_place(Project(tmp_path / "data", tmp_path / "runs"))


NO_NAMES = (
    "", " ", " a", ".", "..", "../x", "a/b", "/tmp/x", "a\\b", ".hidden", "a\nb", "a\x7f", "cache", "Report", "ä" * 200,
)  # fmt: skip


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_no_run_can_have_is_refused(name: str, challenge: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run can be called .*Fix: --name"):
        workflow.run(challenge, "default", runs=tmp_path / "runs", name=name)
    assert not (tmp_path / "runs").exists()


def test_names_that_runs_have_are_let_through() -> None:
    for name in ("a", "a b", "lauf-1", "läufer", "x.1", "v2_final"):
        assert check_name(name) == name


# --- what dead processes leave ------------------------------------------------------------------------------------


def leave(folder: Path) -> None:
    """A process that is killed while it writes a file and builds a folder."""
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom smalti.store.leftovers import name_temporary\n"
        f"folder = Path({str(folder)!r})\nname_temporary(folder).write_text('half')\n"
        "made = name_temporary(folder); made.mkdir(); (made / 'part').write_text('half')\nos._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)


@pytest.mark.slow
def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    leave(tmp_path / "deep")
    mine = name_temporary(tmp_path / "deep")
    mine.write_text("being written", encoding="utf-8")
    other = mine.with_name(re.sub("smalti-[0-9a-f]{8}", "smalti-00000000", mine.name))
    other.write_text("of another machine", encoding="utf-8")
    own = tmp_path / "deep" / ".notes.tmp"
    own.write_text("of a person", encoding="utf-8")
    assert len(list((tmp_path / "deep").iterdir())) == 5
    remove_leftovers(tmp_path)
    assert len(list((tmp_path / "deep").iterdir())) == 5, "not asked to look deeper"
    remove_leftovers(tmp_path, deep=True)
    assert set((tmp_path / "deep").iterdir()) == {mine, other, own}
    os.utime(other, (0, 0))
    remove_leftovers(tmp_path / "deep")
    assert set((tmp_path / "deep").iterdir()) == {mine, own}


def test_a_process_that_took_over_a_number_does_not_keep_what_the_dead_one_left(tmp_path: Path) -> None:
    mine = name_temporary(tmp_path)
    parts = mine.name.split("-")
    older = tmp_path / "-".join([*parts[:3], str(int(parts[3]) - 1000), parts[4]])
    older.write_text("", encoding="utf-8")
    remove_leftovers(tmp_path)
    assert not older.exists()


@pytest.mark.slow
def test_a_store_that_is_built_clears_what_was_left_beside_it(tmp_path: Path) -> None:
    leave(tmp_path)
    build_once(tmp_path / "store", lambda folder: None)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
