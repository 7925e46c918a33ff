"""Units on a Ray cluster.

Ray ends a process whose head node is lost, so a process of its own talks to it (`driver.py`), and this one is told.
"""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..errors import FaultError
from ..project import Listener
from .child import GRACE_S, Child, Message
from .crews import LOOK_S
from .performing import Report
from .unit import Unit

AHEAD = 3  # units of equal needs, a core, that Ray holds, so that none waits for the next one
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOST = (
    "the Ray cluster is lost: its head node, or the network to it ({how}). Fix: start it; the same command "
    "goes on where it was"
)


class Cluster:
    """A Ray cluster.

    Raises:
        FaultError: there is none at this address.
    """

    one_machine = False

    def __init__(self, address: str, heard: Callable[[Unit, str], None], listener: Listener) -> None:
        self.heard, self.listener = heard, listener
        self.messages: SimpleQueue[tuple[Child, Any]] = SimpleQueue()
        self.running: dict[str, Unit] = {}
        self.lost, self.room = "", 0
        self.child = Child("smalti.engine.driver", QUIET, self.messages)
        self.child.send({"address": address, "folder": str(Path.cwd()), "search": sys.path})
        try:
            self._connect(address or "this machine")
        except BaseException:
            self.end()
            raise

    def _connect(self, address: str) -> None:
        while not self.room:
            message = self.messages.get()[1]
            if message is None or "refused" in message:
                why = self.child.explain_end() if message is None else message["refused"]
                fix = "start one ('ray start --head'), or check the address"
                raise FaultError(f"no Ray cluster at {address}: {why}", fix=fix, kind="network")
            self._note(message)

    def refuse(self, unit: Unit) -> str:
        """Refuse nothing: nodes may still join."""
        return ""

    def begin(self, unit: Unit) -> bool:
        """Hand a unit to Ray, which waits for the cores, GPUs and memory that it needs."""
        alike = sum(other.needs == unit.needs for other in self.running.values())
        if self.lost or alike >= self.room:  # units that wait for a GPU do not keep others from cores
            return False
        self.running[unit.name] = unit
        needs = {"cpus": unit.cpus, "gpus": unit.gpus, "memory_gb": unit.memory_gb}
        done = os.fspath(unit.done)
        self.child.send({"unit": unit.name, "task": unit.task, "args": dict(unit.args), "done": done, **needs})
        return True

    def hear(self) -> Iterator[tuple[Unit, Report]]:
        """Wait for what Ray says; a unit whose machine is gone is reported as lost."""
        try:
            message = self.messages.get(timeout=LOOK_S)[1]
        except queue.Empty:
            if self.child.process.poll() is None:
                return
            message = None
        if message is None:
            self.lost = LOST.format(how=self.child.explain_end())
        elif "report" in message:
            unit = self.running.pop(message["unit"])
            for text in message["said"]:
                self.heard(unit, text)
            yield unit, Report(**message["report"])
        else:
            self._note(message)

    def _note(self, message: Message) -> None:
        if "cores" in message:
            self.room = max(1, AHEAD * message["cores"])
        if "text" in message:
            self.listener.say(message["text"])

    def end(self) -> None:
        """End the process that talks to Ray, and with it all units that run."""
        self.child.ask_to_end()
        self.child.kill(after_s=GRACE_S)
