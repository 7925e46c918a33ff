"""What the folders of all runs say, one entry each; a damaged folder is an entry too, with the reason.

Only small files are read: ``environment.json``, ``recipe.yaml``, ``cohort.json``, ``events.log``, ``scores.json``.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..errors import RunError

Kind = Literal["run", "ensemble"]
Status = Literal["finished", "failed", "unfinished"]

LADDER_FILES = ("ladder.json", "ladder.yaml")
RUN_FILES = ("recipe.yaml", "environment.json", "events.log", "scores.json")
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
        metrics: of each metric ``value``, ``low`` and ``high``.
        chance_prior: macro-F1 of a guess with the shares of the classes.
        trustworthy: whether the score and its interval can be trusted.
        n_images: images that were scored; where nothing is scored yet, labelled images.
        n_cases: their cases.
        device: name of the chip.
        trust_reason: why it can be trusted or not.
        changed: what decisions have changed with predictions in view, in words; such a run is never trusted.
        as_given: macro-F1 without them, ``value``, ``low`` and ``high``; None where nothing was changed.
        unit: whether images or cases are scored; the other one is no metric of the entry.
    """

    name: str
    path: Path
    kind: Kind
    status: Status
    error: str
    started: str
    seconds: float | None
    data: str
    data_hash: str
    preset: str
    recipe: dict[str, Any]
    metrics: dict[str, dict[str, float | None]]
    chance_prior: float | None
    optimism: float | None
    trustworthy: bool | None
    n_images: int | None
    n_cases: int | None
    n_seeds: int | None
    device: str
    trust_reason: str = ""
    changed: str = ""
    as_given: dict[str, float | None] | None = None
    unit: str = "image"

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
        """The entry of this name.

        Raises:
            RunError: there is none; the message names the nearest.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        near = difflib.get_close_matches(name, [entry.name for entry in self.entries], n=1, cutoff=0.4)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RunError(f"no run is called '{name}' in {self.runs}.{hint} Fix: 'smalti logbook' lists them all")


def read_logbook(runs: str | Path) -> Logbook:
    """Read every run folder in ``runs``; caches, ladders and files beside them are passed over.

    A folder that is damaged never stops the reading: its entry has the status ``failed`` and says why.

    Raises:
        RunError: ``runs`` is no folder.
    """
    runs = Path(runs)
    if not runs.is_dir():
        raise RunError(f"no folder of runs at {runs}. Fix: 'smalti run DATA' makes one, or give its path with --runs")
    entries = [read_entry(path) for path in runs.iterdir() if is_run(path)]
    return Logbook(runs, tuple(sorted(entries, key=lambda entry: (entry.started, entry.name))))


def is_run(path: Path) -> bool:
    """Whether ``path`` is the folder of a run: no hidden folder, no ladder, and one of the files of a run is there."""
    if path.name.startswith(".") or not path.is_dir() or any((path / name).exists() for name in LADDER_FILES):
        return False
    return any((path / name).exists() for name in RUN_FILES)


def read_entry(path: Path) -> Entry:
    """Read one run folder; what is damaged makes it ``failed`` and is named in ``error``."""
    problems: list[str] = []
    environment = _read_json(path / "environment.json", problems, needed=True)
    recipe = _read_recipe(path / "recipe.yaml", problems)
    cohort = _read_json(path / "cohort.json", problems)
    scores = _read_json(path / "scores.json", problems)
    events = _read_events(path / "events.log", problems)
    metrics = {name: _take_interval(m) for name, m in _mapping(scores.get("metrics")).items() if isinstance(m, dict)}
    status, error = _judge_status(events, problems, scored="macro_f1" in metrics)
    members = recipe.get("ensemble.members")
    headline = _mapping(_mapping(scores.get("metrics")).get("macro_f1"))
    given = _mapping(scores.get("as_given"))
    given_score = _mapping(_mapping(given.get("metrics")).get("macro_f1"))
    first = next((_text(event.get("time")) for event in events), "")
    return Entry(
        name=path.resolve().name,
        path=path,
        kind="ensemble" if isinstance(members, list) and members else "run",
        status=status,
        error=error,
        started=_text(environment.get("started")) or first,
        seconds=_sum_seconds(events),
        data=_text(cohort.get("root")),
        data_hash=_text(_mapping(environment.get("identity")).get("data")),
        preset=_text(recipe.get("preset")),
        recipe=recipe,
        metrics=metrics,
        chance_prior=_number(headline.get("chance_prior")),
        optimism=_number(scores.get("optimism")),
        trustworthy=_truth(_mapping(scores.get("interval")).get("trustworthy")),
        n_images=_count(scores.get("n_images", cohort.get("n_labelled"))),
        n_cases=_count(scores.get("n_cases", cohort.get("n_cases"))),
        n_seeds=_count(scores.get("n_seeds")),
        device=_text(_mapping(environment.get("device")).get("name")),
        trust_reason=_text(_mapping(scores.get("interval")).get("reason")),
        changed=_text(given.get("changed")),
        as_given=_take_interval(given_score) if given_score else None,
        unit=_text(scores.get("unit")) or "image",
    )


def _judge_status(events: list[dict[str, Any]], problems: list[str], *, scored: bool) -> tuple[Status, str]:
    """Status and reason: damage first, then what the last stage left, then whether there is a score."""
    if problems:
        return "failed", "; ".join(problems)
    begun: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    for event in events:
        stage, _, what = _text(event.get("event")).rpartition(" ")
        if what == "begins":
            begun, failed = {**event, "stage": stage}, None
        elif what == "done":
            begun = None
        elif what == "failed":
            begun, failed = None, {**event, "stage": stage}
    if failed is not None:
        return "failed", f"{failed['stage']}: {_text(failed.get('error')) or 'no reason was recorded'}"
    if scored:
        return "finished", ""
    if begun is not None:
        since = _text(begun.get("time"))
        return "unfinished", f"{begun['stage']} began {since} and has not ended: interrupted, or still at work"
    return "unfinished", "there is no score yet"


def _read_json(path: Path, problems: list[str], *, needed: bool = False) -> dict[str, Any]:
    text = _read_text(path, problems, needed=needed)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(f"{path.name} is damaged: {error}")
        return {}
    if not isinstance(content, dict):
        problems.append(f"{path.name} is damaged: it holds no mapping")
        return {}
    return content


def _read_recipe(path: Path, problems: list[str]) -> dict[str, Any]:
    """Dotted knob to value; read as plain YAML, because older recipes lack knobs and name others."""
    text = _read_text(path, problems, needed=True)
    if text is None:
        return {}
    try:
        content = yaml.load(text, Loader=FAST_LOADER if len(text) < FAST_CHARACTERS else yaml.SafeLoader)
        if isinstance(content, dict):
            return dict(_flatten(content, ""))
        problems.append("recipe.yaml is damaged: it holds no mapping")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.append(f"recipe.yaml is damaged: {' '.join(str(error).split())}")
    return {}


def _flatten(section: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_events(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    """Events in order. A process that was killed leaves half a line, which is no damage."""
    events = []
    for line in (_read_text(path, problems) or "").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def _read_text(path: Path, problems: list[str], *, needed: bool = False) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if needed:
            problems.append(f"{path.name} is missing")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
    return None


def _sum_seconds(events: list[dict[str, Any]]) -> float | None:
    """Seconds of all stages that were done; None where none was."""
    done = [_number(event.get("seconds")) for event in events if _text(event.get("event")).endswith(" done")]
    known = [seconds for seconds in done if seconds is not None]
    return round(sum(known), 2) if known else None


def _take_interval(metric: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: _number(metric.get(key)) for key in ("value", "low", "high")}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(value: Any) -> float | None:
    """A finite number; NaN, infinity and anything else are None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
