"""``units.jsonl``: what became of each unit of work, a line a unit, in the order in which they ended.

A unit that is reused keeps its line from when it was done.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from ...engine import Outcome
from ...engine.unit import Status
from ..record import Part


class UnitRow(Part):
    """What became of one unit of work.

    Attributes:
        unit: its name.
        status: ``done``, ``failed``, or ``stopped``.
        seconds: of its last try.
        tries: how often it was begun.
        where: machine and process of its last try.
        error: why it failed or was stopped.
    """

    unit: str
    status: Status
    seconds: float
    tries: int
    where: str = ""
    error: str = ""


def log_outcome(path: Path, outcome: Outcome) -> None:
    """Append a line."""
    row = UnitRow(
        unit=outcome.unit.name,
        status=outcome.status,
        seconds=outcome.seconds,
        tries=outcome.tries,
        where=outcome.where,
        error=outcome.error,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(row.model_dump_json() + "\n")


def read_outcomes(path: Path) -> dict[str, UnitRow]:
    """Read the last line of each unit; a process that was killed leaves half a line, which is skipped."""
    found = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = UnitRow.model_validate_json(line)
        except ValidationError:
            continue
        found[row.unit] = row
    return found
