"""``python -m smalti.engine.driver``: hands units to Ray, and tells the process that started it how they went."""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from queue import SimpleQueue
from typing import IO, Any

from ..stopping import catch_signals
from .child import Message, answer, speaking
from .performing import Kind, Report, find_version, perform_away
from .resources import GB

WAIT_S = 0.1  # for the next unit that ends; then new ones are taken
LOOK_S, PATIENCE_S = 5.0, 600.0  # how often nodes are counted; how long a unit waits for a node that could hold it
CANCEL_S = 3.0
HUNG_S = 90.0  # Ray tries for 60 s to reach a head node that does not answer, and through ray:// for ever
STORE_BYTES = 100 << 20  # of shared memory; units leave files
KINDS: dict[str, Kind] = {"OutOfMemoryError": "memory", "WorkerCrashedError": "killed"}
REASONS = {
    "OutOfMemoryError": "its machine ran out of memory, and Ray ended it. Fix: ask for more memory for each unit",
    "WorkerCrashedError": "its process was killed, by the system where memory is short. Fix: give it more memory",
    "NodeDiedError": "its machine was lost",
}


def main() -> None:
    """Read units from stdin until it ends."""
    catch_signals()
    with speaking() as (messages, answers):
        begin = messages.get()
        assert begin is not None
        try:
            connect(begin["address"])
        except Exception as error:  # noqa: BLE001  # Ray raises many kinds; a person reads the text
            answer(answers, {"refused": f"{type(error).__name__}: {error}"})
            return
        catch_signals()  # anew, since Ray has put its own way to end in their place
        driver = Driver(answers, begin["folder"], begin["search"])
        try:
            driver.run(messages)
        finally:
            driver.end()


def connect(address: str) -> None:
    """Connect to a cluster; without an address, to that of RAY_ADDRESS or this machine, or to one that is made here."""
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address or os.environ.get("RAY_ADDRESS"):
        ray.init(address or "auto", **quiet)
        return
    try:
        ray.init("auto", **quiet)
    except ConnectionError:
        ray.init("local", include_dashboard=False, object_store_memory=STORE_BYTES, **quiet)


@dataclass
class Driver:
    """Units that Ray holds.

    Attributes:
        answers: stream to the parent.
        folder: where units run.
        search: where Python looks for their modules.
        held: what Ray will answer -> the unit, as the parent sent it.
        strange: needs that no node could meet -> since when.
        looked, turned: when nodes were counted, and when Ray last answered.
    """

    answers: IO[bytes]
    folder: str
    search: list[str]
    held: dict[Any, Message] = field(default_factory=dict)
    strange: dict[tuple[float, ...], float] = field(default_factory=dict)
    looked: float = 0.0
    turned: float = field(default_factory=time.monotonic)

    def watch(self) -> None:
        """End this process when Ray does not answer any more."""
        while time.monotonic() - self.turned < HUNG_S:
            time.sleep(1.0)
        sys.stderr.write(f"nothing was heard from Ray for {HUNG_S:.0f} s\n")
        sys.stderr.flush()
        os._exit(1)

    def run(self, messages: SimpleQueue[Message | None]) -> None:
        """Hand over what comes, and report what ends."""
        import ray

        threading.Thread(target=self.watch, daemon=True).start()
        while True:
            self.turned = time.monotonic()
            if time.monotonic() - self.looked > LOOK_S:
                self.look_at_nodes()
            try:
                while (message := messages.get(block=not self.held, timeout=LOOK_S)) is not None:
                    self.submit(message)
                return
            except queue.Empty:
                pass
            if self.held:
                ready, waiting = ray.wait([*self.held], num_returns=1, timeout=WAIT_S)
                more, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
                for reference in (*ready, *more):
                    self.report(reference)

    def submit(self, unit: Message) -> None:
        """Hand one unit to Ray; tries are counted by the parent, so Ray makes one."""
        import ray

        away = ray.remote(perform_away).options(
            num_cpus=unit["cpus"],
            num_gpus=unit["gpus"],
            memory=int(unit["memory_gb"] * GB) or None,
            max_retries=0,
            name=unit["unit"],
        )
        work = {key: unit[key] for key in ("task", "args", "done", "cpus", "gpus")}
        self.held[away.remote(self.folder, self.search, find_version(), **work)] = unit

    def report(self, reference: Any) -> None:
        """Tell the parent how a unit went."""
        import ray

        unit = self.held.pop(reference)
        try:
            report, said = ray.get(reference)
        except ray.exceptions.LocalRayletDiedError:
            raise  # Ray on this machine is gone, so each unit would fail in the same way
        except ray.exceptions.RayError as error:
            name, said = type(error).__name__, []
            why = REASONS.get(name, f"{name}: {str(error).strip().splitlines()[-1]}")
            report = Report(why, KINDS.get(name, "lost"))
        answer(self.answers, {"unit": unit["unit"], "report": asdict(report), "said": said})

    def look_at_nodes(self) -> None:
        """Tell the parent how many cores there are, and give up on units that no node could hold for a long time."""
        import ray

        first, self.looked = not self.looked, time.monotonic()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores, gpus = (int(sum(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
        text = {"text": f"Ray: {len(nodes)} node(s), {cores} core(s), {gpus} GPU(s)"} if first else {}
        answer(self.answers, {"cores": cores, **text})
        for reference, unit in [*self.held.items()]:
            needs = (unit["cpus"], unit["gpus"], unit["memory_gb"])
            asked = dict(zip(("CPU", "GPU", "memory"), (*needs[:2], needs[2] * GB), strict=True))
            if any(all(node.get(name, 0) >= count for name, count in asked.items()) for node in nodes):
                self.strange.pop(needs, None)
                continue
            why = f"no node of the cluster has {needs[0]} core(s), {needs[1]} GPU(s) and {needs[2]:g} GB at once"
            if needs not in self.strange:
                self.strange[needs] = time.monotonic()
                answer(self.answers, {"text": f"{unit['unit']} waits: {why}"})
            elif time.monotonic() - self.strange[needs] > PATIENCE_S:
                del self.held[reference]
                ray.cancel(reference)
                report = Report(f"{why}. Fix: ask for less, or add such a node", "final")
                answer(self.answers, {"unit": unit["unit"], "report": asdict(report), "said": []})

    def end(self) -> None:
        """Let units that run remove what they have half written, and leave the cluster."""
        import ray

        for reference in self.held:
            ray.cancel(reference)
        if self.held:
            ray.wait([*self.held], num_returns=len(self.held), timeout=CANCEL_S)
        ray.shutdown()


if __name__ == "__main__":
    main()
