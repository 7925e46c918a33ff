"""How far the run of a rung has come, so that kills that cost only time are told from those that repeat."""

from __future__ import annotations

import json
from pathlib import Path

from ..store import hash_text

DONE = ("checkpoints", "predictions", "policies")  # folders of a run whose files are written as it comes further


def measure_progress(run: Path) -> str:
    """Hash of what a run folder holds and which stages it has seen; it changes where the run comes further.

    Files that a repetition writes anew under the same name do not change it, nor do stages that begin again.
    """
    files = [path for name in DONE for path in sorted((run / name).rglob("[!.]*")) if path.is_file()]
    rows = []
    for path in files:
        stat = path.stat()
        # The state of a phase grows older in place, epoch after epoch.
        rows.append(f"{path.relative_to(run)}|{stat.st_size}|{stat.st_mtime_ns if path.suffix == '.progress' else ''}")
    return hash_text(*rows, *sorted(_read_events(run / "events.log")))


def _read_events(path: Path) -> set[str]:
    """Stages that began or ended, and folds that were trained."""
    if not path.is_file():
        return set()
    events = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
            events.add(f"{event['event']} {event.get('split', '')}")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line of a process that was killed
    return events
