"""End a command from outside: by Ctrl-C, or by SIGTERM as schedulers send it."""

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
    """SIGTERM, handled like Ctrl-C."""


def catch_signals() -> None:
    """Turn SIGTERM into `Terminated`, and make sure that neither it nor Ctrl-C gets lost; main thread only."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    def raise_again(unraisable: Any) -> None:
        # A signal may come while Python runs code that cannot raise, such as a finaliser: send it again.
        kind = unraisable.exc_type
        if not issubclass(kind, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
            return
        number = signal.SIGTERM if issubclass(kind, Terminated) else signal.SIGINT
        again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = raise_again


def say_stopped(error: KeyboardInterrupt) -> int:
    """Say that a command was stopped, and return the exit code that shells expect."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one would only spoil the ending
            signal.signal(number, signal.SIG_IGN)
    sys.stderr.write(f"{STOPPED}\n")
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
