"""Time that a run has used, over interruptions, and the most memory that it held."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from ...errors import RunError
from ...project import Listener
from ...records import UsedTime

EVERY_S = 2.0  # what a kill can take off the record


@dataclass
class Clock:
    """Seconds used and peak memory of a run folder, kept while the run goes on.

    Attributes:
        folder: of the run.
        before_s: used by earlier calls.
        peak_gb: the largest resident memory of the process that was seen, over all calls.
    """

    folder: Path
    before_s: float = 0.0
    peak_gb: float = 0.0
    started: float = field(default_factory=time.monotonic)
    written: float = field(default=0.0)

    @classmethod
    def open(cls, folder: Path, *, started: float) -> Clock:
        """The clock of a run folder, going on from what earlier calls used; ``started`` is of `time.monotonic`.

        What cannot be read counts as nothing: the record says how long a run may go on, and nothing that it scores.
        """
        try:
            known = UsedTime.find(folder)
        except RunError:
            known = None
        numbers = (0.0, 0.0) if known is None else (known.seconds, known.peak_memory_gb)
        before, peak = (value if math.isfinite(value) else 0.0 for value in numbers)
        return cls(folder, before, peak, started)

    @property
    def used_s(self) -> float:
        """Seconds used by all calls."""
        return self.before_s + time.monotonic() - self.started

    def tick(self, *, now: bool = False) -> None:
        """Look at memory, and keep the record where the last is old or ``now`` asks for it."""
        self.peak_gb = max(self.peak_gb, psutil.Process().memory_info().rss / 2**30)
        if now or time.monotonic() - self.written > EVERY_S:
            self.written = time.monotonic()
            UsedTime(seconds=round(self.used_s, 1), peak_memory_gb=round(self.peak_gb, 3)).write(self.folder)

    @contextmanager
    def running(self, listener: Listener) -> Iterator[Listener]:
        """A listener whose every sign of progress keeps the record; the last is kept when the block ends."""

        def tell(stage: str, done: int, total: int) -> None:
            self.tick()
            listener.tell(stage, done, total)

        try:
            yield replace(listener, tell=tell)
        finally:
            self.tick(now=True)
