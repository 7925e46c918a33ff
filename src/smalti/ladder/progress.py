"""How far the run of a rung is, so that a process killed at the same place again is noticed."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ..records.layout import CHECKPOINTS, EVENTS, POLICIES, PREDICTIONS
from ..store import hash_text

DONE = (CHECKPOINTS, PREDICTIONS, POLICIES)  # folders of a run whose files are written as it makes progress


def measure_progress(run: Path) -> str:
    """Return a hash of the files of a run folder and of its stages; it changes when the run makes progress.

    Files that a repetition writes again under the same name do not change it, nor do stages that begin again.
    """
    files = [path for name in DONE for path in sorted((run / name).rglob("[!.]*")) if path.is_file()]
    rows = []
    for path in files:
        stat = path.stat()
        # The state of a phase is replaced after each epoch.
        rows.append(f"{path.relative_to(run)}|{stat.st_size}|{stat.st_mtime_ns if path.suffix == '.progress' else ''}")
    events, path = set(), run / EVENTS  # stages that began or ended, and folds that were trained
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # half a line of a process that was killed
            event = json.loads(line)
            events.add(f"{event['event']} {event.get('split', '')}")
    return hash_text(*rows, *sorted(events))
