"""What ends a command from outside: Ctrl-C, and SIGTERM as schedulers send it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STOPPED = "stopped; the same command goes on where it was"
AGAIN_S = 0.1


class Terminated(KeyboardInterrupt):
    """SIGTERM: whatever lets go at Ctrl-C lets go at it too."""


def catch_signals() -> None:
    """Turn SIGTERM into `Terminated`, and see to it that neither it nor Ctrl-C gets lost; of the main thread only."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _raise_again


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _raise_again(unraisable: Any) -> None:
    """Send a signal anew that came while Python was in code that can raise nothing, such as a finaliser."""
    kind = unraisable.exc_type
    if not issubclass(kind, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    number = signal.SIGTERM if issubclass(kind, Terminated) else signal.SIGINT
    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def say_stopped(error: KeyboardInterrupt) -> int:
    """Say that a command was stopped; the exit code that shells expect of it."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one would only spoil the ending
            signal.signal(number, signal.SIG_IGN)
    sys.stderr.write(f"{STOPPED}\n")
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
