"""Who does units on this machine: this process, or several."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Protocol

from .child import GRACE_S, Child
from .performing import Report, perform
from .resources import Resources, measure_resources
from .unit import Unit

LOOK_S = 0.5  # how often processes are looked at that say nothing
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
KILLED = (
    "its process was killed ({how}), by the system where memory is short. Fix: give it more memory, or run fewer units "
    "at a time (--on processes:N)"
)


class Crew(Protocol):
    """Does units.

    Attributes:
        one_machine: units share the disk of temporary files, and each other's memory.
        lost: why no unit can be done any more; empty while they can.
    """

    one_machine: bool
    lost: str

    def refuse(self, unit: Unit) -> str:
        """Return why a unit can never run here; empty where it can."""

    def begin(self, unit: Unit) -> bool:
        """Begin a unit; False where there is no room for it now."""

    def hear(self) -> Iterator[tuple[Unit, Report]]:
        """Wait a while, and yield units that have ended."""

    def end(self) -> None:
        """End everything that was begun, and leave no process."""


class Here:
    """This process, one unit after the other."""

    one_machine = True
    lost = ""

    def __init__(self, heard: Callable[[Unit, str], None]) -> None:
        self.heard = heard
        self.unit: Unit | None = None

    def refuse(self, unit: Unit) -> str:
        """Refuse nothing: the task says what it lacks."""
        return ""

    def begin(self, unit: Unit) -> bool:
        """Take one unit; it is done when it is waited for."""
        if self.unit is not None:
            return False
        self.unit = unit
        return True

    def hear(self) -> Iterator[tuple[Unit, Report]]:
        """Do the unit."""
        if (unit := self.unit) is not None:
            report = perform(unit.task, unit.args, str(unit.done), unit.cpus, heard=lambda text: self.heard(unit, text))
            self.unit = None
            yield unit, report

    def end(self) -> None:
        """End nothing."""


class Processes:
    """Several processes of this machine; each has the threads and the GPUs of the units that it does, from its start.

    A process that dies takes its unit with it and no other; the next unit gets a new one.
    """

    one_machine = True
    lost = ""

    def __init__(
        self, workers: int | None, heard: Callable[[Unit, str], None], resources: Resources | None = None
    ) -> None:
        self.there = resources or measure_resources()
        self.workers, self.heard = workers or self.there.cpus, heard
        self.messages: SimpleQueue[tuple[Child, Any]] = SimpleQueue()
        self.busy: dict[Child, Unit] = {}
        self.suited: dict[Child, tuple[int, tuple[str, ...]]] = {}  # child -> threads and GPUs that it has

    def refuse(self, unit: Unit) -> str:
        """Refuse units that ask for more GPUs or memory than this machine has; cores only make them wait."""
        if unit.gpus > len(self.there.gpus):
            return (
                f"it asks for {unit.gpus} GPU(s), and this machine has {len(self.there.gpus)} that can be seen. Fix: "
                "name them in CUDA_VISIBLE_DEVICES, or ask for a CPU"
            )
        if unit.memory_gb > self.there.memory_gb:
            return (
                f"it asks for {unit.memory_gb:g} GB of memory, and this machine has {self.there.memory_gb:.1f}. "
                "Fix: ask for less, or use a larger machine"
            )
        return ""

    def begin(self, unit: Unit) -> bool:
        """Begin a unit in an idle process that suits it, or in a new one."""
        running = self.busy.values()
        cpus = self.there.cpus - sum(min(u.cpus, self.there.cpus) for u in running)
        memory = self.there.memory_gb - sum(u.memory_gb for u in running)
        used = {gpu for child in self.busy for gpu in self.suited[child][1]}
        gpus = tuple([gpu for gpu in self.there.gpus if gpu not in used][: unit.gpus])
        asked = min(unit.cpus, self.there.cpus)
        if len(running) >= self.workers or asked > cpus or unit.memory_gb > memory or len(gpus) < unit.gpus:
            return False
        idle = [child for child in self.suited if child not in self.busy]
        kinds = {child: (threads, len(names)) for child, (threads, names) in self.suited.items()}
        child = next((c for c in idle if kinds[c] == (unit.cpus, unit.gpus)), None)
        if child is None:
            crowded = len(self.suited) >= self.workers
            for other in [c for c in idle if set(gpus) & {*self.suited[c][1]}] or idle[:crowded]:
                self._dismiss(other)  # it may hold memory of the GPU
            threads = dict.fromkeys(THREADS, str(unit.cpus))
            child = Child("smalti.engine.worker", {**threads, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}, self.messages)
            self.suited[child] = unit.cpus, gpus
        self.busy[child] = unit
        child.send({"task": unit.task, "args": dict(unit.args), "done": str(unit.done), "cpus": unit.cpus})
        return True

    def hear(self) -> Iterator[tuple[Unit, Report]]:
        """Wait for a message of a process, or for one to die."""
        try:
            child, message = self.messages.get(timeout=LOOK_S)
        except queue.Empty:
            # What a dead process has started may hold its pipe open.
            for child in [c for c in self.busy if c.process.poll() is not None]:
                yield from self._bury(child)
            return
        if message is None:
            yield from self._bury(child)
        elif child in self.busy and "said" in message:
            self.heard(self.busy[child], message["said"])
        elif child in self.busy:
            os.ftruncate(child.log.fileno(), 0)  # what nobody will read; both processes share the position in it
            os.lseek(child.log.fileno(), 0, os.SEEK_SET)
            yield self.busy.pop(child), Report(**message)

    def _bury(self, child: Child) -> Iterator[tuple[Unit, Report]]:
        if child not in self.suited:
            return
        unit, how = self.busy.pop(child, None), child.explain_end()
        self._dismiss(child)
        if unit is not None:
            yield unit, Report(KILLED.format(how=how), "killed")

    def _dismiss(self, child: Child) -> None:
        del self.suited[child]
        child.ask_to_end()
        child.kill(after_s=GRACE_S)

    def end(self) -> None:
        """End all processes: all are asked first, so that they remove what they have half written."""
        for child in self.suited:
            child.ask_to_end()
        for child in [*self.suited]:
            child.kill(after_s=GRACE_S)
        self.suited.clear()
        self.busy.clear()
