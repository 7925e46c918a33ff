"""What is exported of a run beside its knobs and scores: learning curves, files, and a hash that says what is new."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from ..errors import RunError
from ..records.layout import HISTORY, RECIPE, REPORT, SCORES
from ..store import hash_file, hash_text, read_table
from ..types import HISTORY_COLUMNS
from .entries import Entry

FILES = (REPORT, SCORES, RECIPE)
SERIES = tuple(name for name in HISTORY_COLUMNS if name not in ("seed", "fold", "phase", "epoch"))


@dataclass(frozen=True, slots=True)
class Curve:
    """One number over the epochs of a phase of one fold.

    Attributes:
        split: ``fold0-seed0``.
        name: ``finetune/inner_loss``.
        points: (epoch, value); epochs without a value are skipped.
    """

    split: str
    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """Names of runs by what became of them, and what was left out."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    problems: tuple[str, ...]


def read_curves(entry: Entry) -> tuple[Curve, ...]:
    """Read the learning curves of a run; none where there are none (an ensemble, a run that failed).

    Raises:
        RunError: the file is damaged.
    """
    path = entry.path / HISTORY
    if not path.is_file():
        return ()
    try:
        table = read_table(path)
        keys = table[["fold", "seed", "epoch"]].astype(int)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", fix="delete it and train again ('smalti run')") from None
    table = table.assign(fold=keys["fold"], seed=keys["seed"], epoch=keys["epoch"])
    curves = []
    for (fold, seed, phase), rows in table.groupby(["fold", "seed", "phase"], sort=False):
        for name in SERIES:
            if name in rows:
                numbers = pd.to_numeric(rows[name], errors="coerce")
                pairs = zip(rows["epoch"], numbers, strict=True)
                points = tuple((int(epoch), float(value)) for epoch, value in pairs if pd.notna(value))
                curves.append(Curve(f"fold{fold}-seed{seed}", f"{phase}/{name}", points))
    return tuple(curve for curve in curves if curve.points)


def list_scores(entry: Entry) -> dict[str, float]:
    """Return every metric with ``_low`` and ``_high``, optimism, chance level and seconds, where they are known."""
    scores: dict[str, float | None] = {}
    for name, metric in entry.metrics.items():
        scores |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
    scores |= {"optimism": entry.optimism, "chance_prior": entry.chance_prior, "seconds": entry.seconds}
    return {name: value for name, value in scores.items() if value is not None}


def list_files(entry: Entry, names: Iterable[str] = FILES) -> tuple[Path, ...]:
    """Return those of the named files that the run folder has."""
    return tuple(path for name in names if (path := entry.path / name).is_file())


def hash_content(entry: Entry) -> str:
    """Return a hash that changes whenever something that is exported changes."""
    files = list_files(entry, (*FILES, HISTORY))
    said = {name: value for name, value in asdict(entry).items() if name != "path"}
    return hash_text(repr(said), *(f"{path.name}|{hash_file(path)}" for path in files))


def read_start(entry: Entry) -> float:
    """Return when the run was started, in seconds since 1970; 0 where that is not known."""
    try:
        return datetime.fromisoformat(entry.started).timestamp()
    except ValueError:
        return 0.0
