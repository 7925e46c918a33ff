"""The log of a run folder: when a stage began, how long it took, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import RunError
from ..records import RunFolder


@contextmanager
def stage(run_folder: RunFolder, name: str) -> Iterator[None]:
    """Log when a stage began and how long it took, or the error that ended it."""
    if not run_folder.path.is_dir():
        raise RunError(f"no run folder at {run_folder.path}. Fix: give the path that 'smalti run' printed")
    started = time.monotonic()
    run_folder.log(f"{name} begins")
    try:
        yield
    except Exception as error:
        run_folder.log(f"{name} failed", error=f"{type(error).__name__}: {error}")
        raise
    run_folder.log(f"{name} done", seconds=round(time.monotonic() - started, 2))
