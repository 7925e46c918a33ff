"""``events.log``: what happened in a run folder, one line of JSON for each event."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ..errors import RunError
from ..store import now_text
from .layout import ENVIRONMENT, EVENTS, MODEL_RECORD, OUT_OF_FOLD, RECIPE

State = Literal["begins", "done", "failed"]


class Event(BaseModel):
    """One event.

    Attributes:
        time: ISO 8601.
        event: what happened, for people.
        stage: the stage that it is about; empty for other events, which have details of their own.
        state: of that stage.
        seconds: how long a stage took that is done.
        error: why a stage failed.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    time: str
    event: str
    stage: str = ""
    state: State | None = None
    seconds: float | None = None
    error: str = ""


def log_event(folder: Path, event: str, **details: Any) -> None:
    """Append one event to the log of a run folder: time, event, details."""
    line = json.dumps({"time": now_text(), "event": event, **details}, default=str, ensure_ascii=False)
    with (folder / EVENTS).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def log_stage(folder: Path, stage: str) -> Iterator[None]:
    """Log when a stage begins and how long it took, or the error that ended it.

    Raises:
        RunError: there is no run folder.
    """
    if not any((folder / name).is_file() for name in (ENVIRONMENT, RECIPE, OUT_OF_FOLD)):
        if (folder / MODEL_RECORD).is_file():
            raise RunError(f"{folder} is a model folder, and no run folder", fix="give the run that it is the model of")
        raise RunError(f"no run folder at {folder}", fix="give the path that 'smalti run' printed")
    started = time.monotonic()
    log_event(folder, f"{stage} begins", stage=stage, state="begins")
    try:
        yield
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        log_event(folder, f"{stage} failed", stage=stage, state="failed", error=why)
        raise
    seconds = round(time.monotonic() - started, 2)
    log_event(folder, f"{stage} done", stage=stage, state="done", seconds=seconds)


def read_events(folder: Path) -> tuple[Event, ...]:
    """Read the events of a run folder in order; empty without a log.

    A process that is killed leaves half a line, so lines that are no event are skipped.
    """
    path = folder / EVENTS
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            found.append(Event.model_validate_json(line))
        except ValueError:
            continue
    return tuple(found)


def find_last_stage(events: tuple[Event, ...]) -> Event | None:
    """Find the stage that has failed, or that began and has not ended; None where the last one is done."""
    last: Event | None = None
    for event in events:
        if event.state is not None:
            last = None if event.state == "done" else event
    return last


def sum_seconds(events: tuple[Event, ...]) -> float | None:
    """Sum the seconds of all stages that are done; None where none is."""
    done = [event.seconds for event in events if event.state == "done" and event.seconds is not None]
    return round(sum(done), 2) if done else None
