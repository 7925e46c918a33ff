"""What a rung costs: seconds and peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

EVERY_S = 0.05


@dataclass
class Cost:
    """Filled when the measured block ends.

    Attributes:
        seconds: wall clock.
        peak_memory_gb: largest resident memory of the process, looked at every 50 ms.
    """

    seconds: float = 0.0
    peak_memory_gb: float = 0.0


@contextmanager
def measure_cost() -> Iterator[Cost]:
    """Measure a block; the peak of the operating system would be that of the whole process so far."""
    cost, process, stopped = Cost(), psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stopped.wait(EVERY_S):
            peak = max(peak, process.memory_info().rss)

    thread = threading.Thread(target=watch, name="memory", daemon=True)
    started = time.monotonic()
    thread.start()
    try:
        yield cost
    finally:
        stopped.set()
        thread.join()
        cost.seconds = round(time.monotonic() - started, 2)
        cost.peak_memory_gb = round(max(peak, process.memory_info().rss) / 2**30, 3)
