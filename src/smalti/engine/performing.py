"""Do one unit in this process, and say how it went: the same wherever it runs."""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.metadata
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import FaultError, SmaltiError, show_text
from ..faults import explain_fault

# final: the same input would fail again; scratch: the disk of temporary files is full; unseen: its file does not reach
# the machine of the caller; killed, lost: its process or its machine is gone.
Kind = Literal["", "error", "final", "memory", "disk", "scratch", "unseen", "killed", "lost"]


@dataclass(frozen=True, slots=True)
class Report:
    """How one try of a unit went.

    Attributes:
        error: why it failed; empty where the unit is done.
        kind: what sort of failure.
        seconds: how long it took.
        where: machine and process.
        trace: what Python said, where nobody foresaw the error.
    """

    error: str = ""
    kind: Kind = ""
    seconds: float = 0.0
    where: str = ""
    trace: str = ""


@dataclass(slots=True)
class _Voice:
    heard: Callable[[str], None] = lambda text: None


_VOICE = _Voice()
_POOLS: dict[int, Any] = {}  # number of loaded modules -> the libraries with threads among them


def say(text: str) -> None:
    """Say one line from inside a task; the listener of `carry_out` hears it, wherever the task runs."""
    _VOICE.heard(text)


def perform(
    task: str, args: Mapping[str, Any], done: str, cpus: int, *, heard: Callable[[str], None] = lambda text: None
) -> Report:
    """Call a task with as many threads as it has cores, and report; only Ctrl-C and SIGTERM pass."""
    started = time.monotonic()
    module, _, function = task.partition(":")
    before, _VOICE.heard = _VOICE.heard, heard
    error, kind, trace = "", "", ""
    try:
        call = getattr(importlib.import_module(module), function)
        with limit_threads(cpus):
            call(**args)
        if not Path(done).exists():
            error, kind = f"ended without {show_text(done)}", "error"
    except (Exception, SystemExit) as raised:  # noqa: BLE001  # a bug in one task must not end the others
        error, kind = explain_failure(raised, Path(done))
        if not isinstance(raised, SmaltiError):
            trace = traceback.format_exc()
    finally:
        _VOICE.heard = before
    where = f"{platform.node()}:{os.getpid()}"
    return Report(error, kind, round(time.monotonic() - started, 3), where, trace)  # type: ignore[arg-type]


@functools.cache
def find_version() -> str:
    """Return the version of smalti on this machine."""
    try:
        return importlib.metadata.version("smalti")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def perform_away(folder: str, path: Sequence[str], version: str, gpus: int, **unit: Any) -> tuple[Report, list[str]]:
    """Do one unit on a machine of a cluster, in the folder of the caller; return the report and what the task said."""
    said: list[str] = []
    if version != find_version():
        why = (
            f"{platform.node()} has smalti {find_version()}, and the caller {version}. Fix: install the same everywhere"
        )
        return Report(why, "error", where=platform.node()), said
    try:
        os.chdir(folder)
    except OSError as error:
        why = (
            f"{platform.node()} has no folder {folder} ({error.strerror}). Fix: start from one that all machines share"
        )
        return Report(show_text(why), "error", where=platform.node()), said
    sys.path += [place for place in path if place not in sys.path]
    if gpus == 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # as Ray did by itself before 2.60
    return perform(**unit, heard=said.append), said


def explain_failure(error: BaseException, done: Path) -> tuple[str, Kind]:
    """Return why a task failed, in one line, and what sort of failure that is."""
    fault = error if isinstance(error, FaultError) else explain_fault(error)
    if fault is None:
        if isinstance(error, SmaltiError):
            return show_text(str(error)), "final"
        return show_text(f"{type(error).__name__}: {error}"), "error"
    cause = error if isinstance(error, OSError) else error.__cause__
    number, name = (cause.errno, cause.filename) if isinstance(cause, OSError) else (None, None)
    kind: Kind = "memory" if fault.kind == "memory" else "error"
    if fault.kind == "disk" and number != errno.EFBIG:  # one file that is too large says nothing about others
        elsewhere = isinstance(name, str | bytes) and find_disk(Path(os.fsdecode(name))) != find_disk(done)
        kind = "scratch" if elsewhere else "disk"
    return show_text(str(fault)), kind


def find_disk(path: Path) -> int:
    """Return the number of the file system that a path is on, or will be on."""
    path = path.absolute()
    return next((place.stat().st_dev for place in (path, *path.parents) if place.exists()), 0)


@contextmanager
def limit_threads(cpus: int) -> Iterator[None]:
    """Let NumPy's libraries and torch, where they are loaded, use this many threads inside a block."""
    if len(sys.modules) not in _POOLS:  # looking takes milliseconds, as long as many a unit
        from threadpoolctl import ThreadpoolController

        _POOLS.clear()
        _POOLS[len(sys.modules)] = ThreadpoolController()
    (pools,) = _POOLS.values()
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else cpus
    with pools.limit(limits=cpus):
        if torch and before != cpus:
            torch.set_num_threads(cpus)
        try:
            yield
        finally:
            if torch and before != cpus:
                torch.set_num_threads(before)
