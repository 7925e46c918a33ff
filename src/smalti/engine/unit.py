"""A unit of work, and what became of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["done", "reused", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of work from files to files, which any process on any machine may do.

    Attributes:
        name: what people call it; no other unit of the same call has it.
        task: the function, as ``package.module:function``. It writes to temporary names and renames, and doing it
            twice is as good as doing it once.
        args: its keyword arguments; plain JSON values, paths as text.
        done: the file or folder that the task makes last. Where it exists, the unit is done.
        cpus: cores; the libraries of the task use this many threads everywhere, so that results do not depend on
            where it runs.
        gpus: devices; a unit of ``processes`` or Ray sees no others.
        memory_gb: main memory; 0 where it does not matter.
    """

    name: str
    task: str
    args: Mapping[str, Any]
    done: Path
    cpus: int = 1
    gpus: int = 0
    memory_gb: float = 0.0

    def __post_init__(self) -> None:
        module, _, function = self.task.partition(":")
        if not module or not function:
            raise ValueError(f"{self.name}: the task '{self.task}' is not of the form package.module:function")
        if self.cpus < 1 or self.gpus < 0 or self.memory_gb < 0:
            raise ValueError(f"{self.name}: a unit needs at least one core, and nothing below zero")
        json.dumps(dict(self.args))  # raises TypeError where a value cannot travel

    @property
    def needs(self) -> tuple[int, int, float]:
        """Cores, GPUs and GB of memory."""
        return self.cpus, self.gpus, self.memory_gb


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit.

    Attributes:
        unit: the unit.
        status: ``done`` now; ``reused``: it was done before; ``failed``: its last try failed; ``stopped``: it was not
            tried, or not tried again, since it could not have succeeded.
        error: why it failed or was stopped, with the fix; empty otherwise.
        seconds: of its last try.
        tries: how often it was begun in this call.
        where: machine and process of its last try.
        trace: what Python said about an error that nobody foresaw; empty otherwise.
    """

    unit: Unit
    status: Status
    error: str = ""
    seconds: float = 0.0
    tries: int = 0
    where: str = ""
    trace: str = ""


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists; a network share is asked anew rather than what it said before."""
    if path.exists():
        return True
    with suppress(OSError), os.scandir(path.parent):
        pass
    return path.exists()
