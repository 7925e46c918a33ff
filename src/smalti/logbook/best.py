"""The run called ``best``: one for each data folder, by a stated rule or by hand with a note; in ``runs/best.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..store import now_text, read_json, write_json
from .entries import Entry, Logbook, is_run, read_logbook

ALIAS = "best"
FILE = "best.json"
HEADLINE = "macro_f1"
BY_HAND = "set by hand"
RULE = (
    "among finished runs on the same data and the same scored images, all by image or all by case, the highest lower "
    "bound of the interval of macro-F1; bounds that agree to three decimals go to the run that took less time; a run "
    "whose interval is not to be trusted counts only where there is no other, and one whose labels or images were "
    "changed with predictions in view only where none is without"
)


@dataclass(frozen=True, slots=True)
class Best:
    """Which run of a data folder is called ``best``, and why.

    Attributes:
        data: the data folder; the data hash where the folder is not known.
        run: name of the run folder.
        rule: `RULE`, or `BY_HAND`.
        score: macro-F1 with ``value``, ``low``, ``high``; None when the run is no longer there.
        time: since when, ISO 8601.
        note: why, when set by hand.
        warning: what speaks against an alias that was set by hand; empty text otherwise.
        unit: whether the score counts images or cases.
    """

    data: str
    run: str
    rule: str
    score: dict[str, float | None] | None
    time: str
    note: str = ""
    warning: str = ""
    unit: str = "image"

    @property
    def by_hand(self) -> bool:
        """Whether a person set it."""
        return self.rule == BY_HAND


def choose_best(entries: Sequence[Entry]) -> Entry | None:
    """The best of one data folder's runs by `RULE`; None where nothing is finished.

    Scores of other images do not compare. Where the data, its decisions or the sealed part changed between runs, those
    count that share data, scored images, their unit and confidence with the latest finished one.
    """
    scored = [entry for entry in entries if _read_bound(entry) is not None]
    finished = [entry for entry in scored if not entry.changed] or scored
    if not finished:
        return None
    latest = max(finished, key=lambda entry: (entry.started, entry.name))
    alike = [entry for entry in finished if _name_state(entry) == _name_state(latest)]
    trusted = [entry for entry in alike if entry.trustworthy]
    costs = {entry.name: _count_seconds(entry, entries) for entry in alike}
    return min(
        trusted or alike,
        key=lambda entry: (-round(_read_bound(entry) or 0.0, 3), costs[entry.name], entry.started, entry.name),
    )


def find_bests(logbook: Logbook, *, renew: bool = False) -> tuple[Best, ...]:
    """The best of every data folder with a finished run: as set by hand, else by `RULE`. Nothing is written.

    ``renew`` forgets what was set by hand.

    Raises:
        RunError: ``best.json`` is damaged.
    """
    recorded = _read_bests(logbook.runs)
    groups: dict[str, list[Entry]] = {}
    for entry in logbook.entries:
        groups.setdefault(_name_data(entry), []).append(entry)
    bests = []
    for data in dict.fromkeys((*groups, *recorded)):
        old = recorded.get(data)
        chosen = choose_best(groups.get(data, []))
        if old is not None and old.by_hand and not renew:
            bests.append(_check_choice(old, groups.get(data, []), chosen))
        elif chosen is not None:
            same = old is not None and not old.by_hand and old.run == chosen.name
            time = old.time if old is not None and same else now_text()
            bests.append(Best(data, chosen.name, RULE, chosen.metrics[HEADLINE], time, unit=chosen.unit))
    return tuple(bests)


def settle_bests(logbook: Logbook, *, renew: bool = False) -> tuple[Best, ...]:
    """As `find_bests`, and write ``best.json`` where something changed."""
    bests = find_bests(logbook, renew=renew)
    if {best.data: replace(best, warning="") for best in bests} != _read_bests(logbook.runs):
        _write_bests(logbook.runs, bests)
    return bests


def set_best(runs: Path, name: str, *, note: str) -> Best:
    """Call a run ``best`` by hand; it stays until another is set, or ``settle_bests(..., renew=True)``.

    Raises:
        RunError: the note is empty, there is no such run, or it is not finished.
    """
    if not note.strip():
        raise RunError(f"'{name}' cannot be set as {ALIAS} without a reason. Fix: --note 'why this run'")
    logbook = read_logbook(runs)
    entry = logbook.find(name)
    if entry.status != "finished":
        raise RunError(f"run '{name}' is {entry.status} ({entry.error}). Fix: finish it, or set a finished run")
    best = Best(_name_data(entry), name, BY_HAND, entry.metrics[HEADLINE], now_text(), note.strip(), unit=entry.unit)
    others = tuple(old for old in find_bests(logbook) if old.data != best.data)
    _write_bests(runs, (*others, best))
    return best


def resolve_run(runs: Path, name: str) -> Path:
    """The folder of a run: ``best``, ``best:<data folder>`` (its name or path), the name of a run, or a path.

    Raises:
        RunError: nothing of this name; or ``best`` of several data folders; the message lists what there is.
    """
    runs = Path(runs)
    if name == ALIAS or name.startswith(f"{ALIAS}:"):
        return _resolve_alias(read_logbook(runs), name)
    for path in (runs / name, Path(name)):
        if is_run(path):
            return path
    if not runs.is_dir():
        raise RunError(f"no run at {name}, and no folder of runs at {runs}. Fix: give a path, or --runs")
    return read_logbook(runs).find(name).path


def _resolve_alias(logbook: Logbook, name: str) -> Path:
    bests = find_bests(logbook)
    if not bests:
        raise RunError(f"no run in {logbook.runs} is finished, so none is the best. Fix: 'smalti logbook' says why")
    wanted = name.partition(":")[2].rstrip("/")
    names = [Path(best.data).name for best in bests]
    chosen = [best for best, short in zip(bests, names, strict=True) if not wanted or wanted in (best.data, short)]
    if len(chosen) == 1 and chosen[0].score is None:
        run, warning = chosen[0].run, chosen[0].warning
        raise RunError(f"'{name}' was set by hand to '{run}', but {warning}. Fix: 'smalti logbook best', for the rule")
    if len(chosen) == 1:
        return logbook.find(chosen[0].run).path
    # Two data folders may have one name; then only the path tells them apart.
    known = [best.data if names.count(short) > 1 else short for best, short in zip(bests, names, strict=True)]
    listed = ", ".join(f"{ALIAS}:{label} ({best.run})" for label, best in zip(known, bests, strict=True))
    what = f"'{name}' means {len(chosen)} runs" if chosen else f"no data folder fits '{name}'"
    raise RunError(f"{what} in {logbook.runs}. Fix: one of {listed}")


def _check_choice(old: Best, entries: Sequence[Entry], chosen: Entry | None) -> Best:
    """A choice by hand as it stands today: its present score, and what has changed since."""
    entry = next((entry for entry in entries if entry.name == old.run), None)
    if entry is None or _read_bound(entry) is None:
        state = "is no longer there" if entry is None else f"is {entry.status} now"
        return replace(old, score=None, warning=f"the run {state}")
    warning = ""
    if chosen is not None and _name_state(chosen) != _name_state(entry):
        warning = "later runs have other data, other scored images, or count another unit"
    elif chosen is not None and chosen.name != entry.name:
        warning = f"by the rule it would be {chosen.name}"
    return replace(old, score=entry.metrics[HEADLINE], warning=warning, unit=entry.unit)


def _name_data(entry: Entry) -> str:
    return entry.data or entry.data_hash


def _name_state(entry: Entry) -> tuple[Any, ...]:
    """What two runs must share for their intervals to be set beside each other."""
    return entry.data_hash, entry.unit, entry.n_images, entry.n_cases, entry.recipe.get("evaluate.confidence", 0.95)


def _read_bound(entry: Entry) -> float | None:
    """Lower bound of macro-F1 of a finished run; a value that has none cannot compete."""
    return entry.metrics[HEADLINE]["low"] if entry.status == "finished" else None


def _count_seconds(entry: Entry, entries: Sequence[Entry], *, above: tuple[str, ...] = ()) -> float:
    """Seconds of a run; those of an ensemble include its members, without which it would not be there."""
    total = float("inf") if entry.seconds is None else entry.seconds
    if entry.kind == "ensemble":
        names = set(map(str, entry.recipe["ensemble.members"])) - {entry.name, *above}
        inside = (*above, entry.name)
        total += sum(_count_seconds(member, entries, above=inside) for member in entries if member.name in names)
    return total


def _read_bests(runs: Path) -> dict[str, Best]:
    path = runs / FILE
    if not path.is_file():
        return {}
    content = read_json(path)
    try:
        return {str(data): Best(data=str(data), **record) for data, record in content.items()}
    except (AttributeError, TypeError):
        raise RunError(f"{path} is damaged. Fix: delete it; 'smalti logbook' writes it again") from None


def _write_bests(runs: Path, bests: Sequence[Best]) -> None:
    content = {}
    for best in bests:
        record = asdict(best)
        del record["warning"]  # of the moment, not of the choice
        content[record.pop("data")] = record
    write_json(runs / FILE, content)
