"""Carry out units of work, wherever: each ends as done, reused, failed or stopped, and none takes others with it."""

from __future__ import annotations

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..project import SILENT, Listener
from .cluster import Cluster
from .crews import Crew, Here, Processes
from .performing import Report, find_disk
from .places import Place, parse_place
from .unit import Outcome, Status, Unit, is_there

SAY_S = 60.0  # between two lines of progress
SHOWN = 20  # failures that are said
FULL_BYTES, FULL_IN_A_ROW = 32 << 20, 2  # a disk with less room is full; so is one that refuses unit after unit
STOPPED = "not tried, since it would meet the same: {why}"


def carry_out(
    units: Sequence[Unit],
    *,
    on: str = "here",
    tries: int = 2,
    listener: Listener = SILENT,
    stage: str = "units",
    each: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Do all units, and return what became of each, in the order of the units.

    A unit whose ``done`` exists is reused. One that fails, or whose process or machine dies, is tried again up to
    ``tries`` times in all. Where it was killed or ran out of memory, it is tried again alone, after all others.

    Args:
        units: names and ``done`` files are unique.
        on: ``here``, ``processes``, ``processes:N``, ``ray`` or ``ray://HOST:PORT``.
        tries: how often a unit may be begun.
        listener: hears how many have ended, what failed, and how long the others will take.
        stage: what the progress is called.
        each: hears of each outcome as it comes, of those that are not reused; `smalti.records.log_outcome` keeps it.

    Raises:
        RecipeError: ``on`` is none of these.
        MissingExtraError: Ray is asked for and is not installed.
        KeyboardInterrupt: by Ctrl-C; no process is left, and the same call goes on where it was.
    """
    for values in ([unit.name for unit in units], [str(unit.done) for unit in units]):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ValueError(f"two units are called, or make, {twice[0]}")
    place = parse_place(on)
    work = Work(units, tries=tries, listener=listener, stage=stage, each=each)
    if work.queues:
        crew = gather_crew(place, work, listener)
        try:
            work.run(crew)
        finally:
            crew.end()
    return [work.outcomes[unit.name] for unit in units]


def gather_crew(place: Place, work: Work, listener: Listener) -> Crew:
    """Return who does the units."""
    if place.kind == "here":
        return Here(work.hear)
    if place.kind == "processes":
        return Processes(place.workers, work.hear)
    return Cluster(place.address, work.hear, listener)


class Work:
    """Units that wait, those that are tried again, and outcomes."""

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        tries: int,
        listener: Listener,
        stage: str,
        each: Callable[[Outcome], None],
    ) -> None:
        self.units, self.total, self.most_tries = units, len(units), tries
        self.listener, self.stage, self.each = listener, stage, each
        self.begun: dict[str, int] = {}
        self.queues: dict[tuple[int, int, float], deque[Unit]] = {}  # by what they need, in their order
        self.alone: deque[Unit] = deque()  # tried again with nothing beside them
        self.running: set[str] = set()
        self.refused: Counter[int | None] = Counter()  # disk -> how many units it refused since one was done
        self.outcomes = {unit.name: Outcome(unit, "reused") for unit in units if unit.done.exists()}
        waiting = [unit for unit in units if unit.name not in self.outcomes]
        # GPUs first: a unit that needs none finds room beside them.
        for needs in sorted({unit.needs for unit in waiting}, key=lambda n: (n[1], n[2], n[0]), reverse=True):
            self.queues[needs] = deque(unit for unit in waiting if unit.needs == needs)
        self.reused, self.complaints = len(self.outcomes), 0
        self.started = self.said = time.monotonic()
        listener.tell(stage, self.reused, self.total)

    def hear(self, unit: Unit, text: str) -> None:
        """Pass on what a task says."""
        self.listener.say(f"{unit.name}: {text}")

    def run(self, crew: Crew) -> None:
        """Do all units."""
        for waiting in self.queues.values():
            if why := crew.refuse(waiting[0]):
                for unit in waiting:
                    self._conclude(Outcome(unit, "failed", why))
                waiting.clear()
        while len(self.outcomes) < self.total:
            for waiting in self.queues.values():
                while waiting and crew.begin(waiting[0]):
                    self._note_begin(waiting.popleft())
            if self.alone and not self.running and crew.begin(self.alone[0]):
                self._note_begin(self.alone.popleft())
            for unit, report in crew.hear():
                self._settle(unit, report, crew)
            if crew.lost:
                self._stop_lost(crew.lost)
            self._say_progress()

    def _note_begin(self, unit: Unit) -> None:
        self.running.add(unit.name)
        self.begun[unit.name] = self.begun.get(unit.name, 0) + 1

    def _settle(self, unit: Unit, report: Report, crew: Crew) -> None:
        self.running.discard(unit.name)
        begun = self.begun[unit.name]
        tried = Outcome(unit, "done", seconds=report.seconds, tries=begun, where=report.where)
        if is_there(unit.done):  # its process may have died after it was done
            if self.refused:
                self.refused -= Counter({None: FULL_IN_A_ROW, find_disk(unit.done): FULL_IN_A_ROW})
            if report.error:
                self.listener.say(f"{unit.name}: done, and then {report.error}")
            self._conclude(tried)
            return
        error, kind = report.error, report.kind
        if not error:
            error = f"{unit.done} cannot be seen from here. Fix: use a folder that all machines share"
            kind = "unseen"
        useless = kind in ("disk", "unseen") or (kind == "scratch" and crew.one_machine)
        if begun < self.most_tries and not useless and kind != "final":
            self._complain(f"{unit.name}: {error} (try {begun} of {self.most_tries})")
            crowded = kind in ("killed", "memory") and crew.one_machine
            (self.alone if crowded else self.queues[unit.needs]).append(unit)
            return
        self._conclude(replace(tried, status="failed", error=error, trace=report.trace))
        if useless:
            self._stop_alike(unit, error, everywhere=kind != "disk")

    def _stop_alike(self, unit: Unit, error: str, *, everywhere: bool) -> None:
        """Stop the units that would meet the same full disk; ``everywhere``: that of temporary files, or no disk."""
        disk = None if everywhere else find_disk(unit.done)
        self.refused[disk] += 1
        folder = next(place for place in unit.done.absolute().parents if place.exists())
        if self.refused[disk] < FULL_IN_A_ROW and (everywhere or shutil.disk_usage(folder).free >= FULL_BYTES):
            return
        for other in [other for waiting in (*self.queues.values(), self.alone) for other in waiting]:
            if everywhere or find_disk(other.done) == disk:
                self._stop(other, STOPPED.format(why=error))

    def _stop_lost(self, why: str) -> None:
        """Stop all units that have not ended; some may be done, and could not say so."""
        self.running.clear()
        for unit in self.units:
            if unit.name not in self.outcomes:
                self._stop(unit, why)
        self.listener.say(why)

    def _stop(self, unit: Unit, why: str) -> None:
        for waiting in (self.queues[unit.needs], self.alone):
            if unit in waiting:
                waiting.remove(unit)
        status: Status = "done" if is_there(unit.done) else "stopped"
        error = "" if status == "done" else why
        self._conclude(Outcome(unit, status, error, tries=self.begun.get(unit.name, 0)), aloud=False)

    def _conclude(self, outcome: Outcome, *, aloud: bool = True) -> None:
        self.outcomes[outcome.unit.name] = outcome
        if outcome.error and aloud:
            self._complain(f"{outcome.unit.name} {outcome.status}: {outcome.error}")
        self.listener.tell(self.stage, len(self.outcomes), self.total)
        self.each(outcome)

    def _complain(self, text: str) -> None:
        self.complaints += 1
        if self.complaints <= SHOWN:
            self.listener.say(text)
        elif self.complaints == SHOWN + 1:
            self.listener.say("further failures are not said one by one; they are counted, and each is an outcome")

    def _say_progress(self) -> None:
        """Say once a minute how far the work is; a bar is not drawn everywhere."""
        now, ended = time.monotonic(), len(self.outcomes)
        if now - self.said < SAY_S or ended == self.total:
            return
        self.said = now
        failed = sum(outcome.status != "done" and outcome.status != "reused" for outcome in self.outcomes.values())
        text = f"{self.stage}: {ended - failed} of {self.total} done, {failed} failed, {len(self.running)} running"
        if ended > self.reused:
            left_s = (now - self.started) * (self.total - ended) / (ended - self.reused)
            text += f", about {left_s / 60:.0f} min left"
        self.listener.say(text)
