"""What the folders of all runs say, one entry each; a damaged folder is an entry too, with the reason.

Only small files are read: environment, recipe, cohort, events and scores.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ..errors import RunError
from ..notation import flatten
from ..records import (
    AsGiven,
    CohortRecord,
    Environment,
    Margin,
    Record,
    Scores,
    Unit,
    find_last_stage,
    read_events,
    sum_seconds,
)
from ..records.layout import ENVIRONMENT, EVENTS, LADDER, LADDER_RECIPE, RECIPE, SCORES

Kind = Literal["run", "ensemble"]
Status = Literal["finished", "failed", "unfinished"]
Found = TypeVar("Found", bound=Record)

# The parser of libyaml takes a seventh of the time, where PyYAML was built with it. Text that nests some 40,000 deep
# kills it, and with it the process; recipes have about 1,500 characters.
FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FAST_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One run as its folder tells it; what is not known is None, or empty text.

    Attributes:
        name: name of the folder.
        path: the folder.
        kind: ``ensemble`` where the recipe names members, else ``run``.
        status: ``finished`` (scored), ``failed`` (its last stage failed, or a file is damaged) or ``unfinished``.
        error: why it failed or is unfinished.
        started: ISO 8601.
        seconds: of all stages that were done; waiting and interrupted stages do not count.
        data: the data folder.
        data_hash: hash of pixels, masks, labels and cases.
        recipe: dotted knob to value, as the run folder has it.
        metrics: metric -> score.
        chance_prior: macro-F1 of a guess with the shares of the classes.
        trustworthy: whether the score and its interval can be trusted.
        trust_reason: why.
        n_images: images that were scored; where nothing is scored yet, labelled images.
        n_cases: their cases.
        device: name of the chip.
        as_given: scores without decisions that were made with predictions in view; None where there are none. A run
            with such decisions is never trusted.
        unit: whether images or cases are scored; the other one is no metric of the entry.
    """

    name: str
    path: Path
    kind: Kind = "run"
    status: Status = "unfinished"
    error: str = ""
    started: str = ""
    seconds: float | None = None
    data: str = ""
    data_hash: str = ""
    preset: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Margin] = field(default_factory=dict)
    chance_prior: float | None = None
    optimism: float | None = None
    trustworthy: bool | None = None
    trust_reason: str = ""
    n_images: int | None = None
    n_cases: int | None = None
    n_seeds: int | None = None
    device: str = ""
    as_given: AsGiven | None = None
    unit: Unit = "image"

    @property
    def data_name(self) -> str:
        """Name of the data folder."""
        return Path(self.data).name


@dataclass(frozen=True, slots=True)
class Logbook:
    """All runs of a folder, in the order of their start."""

    runs: Path
    entries: tuple[Entry, ...]

    def find(self, name: str) -> Entry:
        """Return the entry of this name.

        Raises:
            RunError: there is none; the message names the nearest.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        near = difflib.get_close_matches(name, [entry.name for entry in self.entries], n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RunError(f"no run is called '{name}' in {self.runs}.{hint}", fix="'smalti logbook' lists them all")


def read_logbook(runs: str | Path) -> Logbook:
    """Read every run folder in ``runs``; caches, ladders and files beside them are passed over.

    A folder that is damaged never stops the reading: its entry has the status ``failed`` and says why.

    Raises:
        RunError: ``runs`` is no folder.
    """
    runs = Path(runs)
    if not runs.is_dir():
        raise RunError(f"no folder of runs at {runs}", fix="'smalti run DATA' makes one, or give its path with --runs")
    entries = [read_entry(path) for path in runs.iterdir() if is_run(path)]
    return Logbook(runs, tuple(sorted(entries, key=lambda entry: (entry.started, entry.name))))


def is_run(path: Path) -> bool:
    """Return whether ``path`` is the folder of a run: not hidden, no ladder, and with one of the files of a run."""
    if (
        path.name.startswith(".")
        or not path.is_dir()
        or any((path / name).exists() for name in (LADDER, LADDER_RECIPE))
    ):
        return False
    return any((path / name).exists() for name in (RECIPE, ENVIRONMENT, EVENTS, SCORES))


def read_entry(path: Path) -> Entry:
    """Read one run folder; what is damaged makes it ``failed`` and is named in ``error``."""
    problems: list[str] = []

    def read(record: type[Found]) -> Found | None:
        try:
            return record.find(path)
        except (RunError, OSError) as error:
            problems.append(str(error).replace(str(record.locate(path)), record.FILE))
            return None

    if not (path / ENVIRONMENT).is_file():
        problems.append(f"{ENVIRONMENT} is missing")
    environment, recipe = read(Environment), _read_recipe(path / RECIPE, problems)
    cohort, scores, events = read(CohortRecord), read(Scores), read_events(path)
    status: Status = "failed" if problems else "finished" if scores else "unfinished"
    error, stage = "; ".join(problems), find_last_stage(events)
    if not problems and stage is not None and stage.state == "failed":
        status, error = "failed", f"{stage.stage}: {stage.error or 'no reason was recorded'}"
    elif status == "unfinished":
        error = "there is no score yet"
        if stage is not None:
            error = f"{stage.stage} began {stage.time} and has not ended: interrupted, or still running"
    members = recipe.get("ensemble.members")
    counted = scores or cohort
    return Entry(
        name=path.resolve().name,
        path=path,
        kind="ensemble" if isinstance(members, list) and members else "run",
        status=status,
        error=error,
        started=environment.started if environment else events[0].time if events else "",
        seconds=sum_seconds(events),
        data=cohort.root if cohort else "",
        data_hash=environment.identity.get("data", "") if environment else "",
        preset=str(recipe.get("preset") or ""),
        recipe=recipe,
        metrics=dict(scores.metrics) if scores else {},
        chance_prior=scores.headline.chance_prior if scores else None,
        optimism=scores.optimism if scores else None,
        trustworthy=scores.interval.trustworthy if scores else None,
        trust_reason=scores.interval.reason if scores else "",
        n_images=scores.n_images if scores else cohort.n_labelled if cohort else None,
        n_cases=counted.n_cases if counted else None,
        n_seeds=scores.n_seeds if scores else None,
        device=environment.device.get("name", "") if environment else "",
        as_given=scores.as_given if scores else None,
        unit=scores.unit if scores else "image",
    )


def _read_recipe(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return dotted knob -> value; read as plain YAML, because older recipes lack knobs and name others."""
    if not path.is_file():
        problems.append(f"{path.name} is missing")
        return {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = yaml.load(text, Loader=FAST_LOADER if len(text) < FAST_CHARACTERS else yaml.SafeLoader)
        if isinstance(content, dict):
            return flatten(content)
        problems.append(f"{path.name} is damaged: it holds no mapping")
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        problems.append(f"{path.name} is damaged: {' '.join(str(error).split())}")
    return {}
