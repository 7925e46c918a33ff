"""The run called ``best``: one for each data folder, by a stated rule or by hand with a note."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RunError
from ..records.scored import HEADLINE, Interval
from ..records.studies.best import BestRun, BestRuns
from ..store import now_text
from .entries import Entry, Logbook, is_run, read_logbook

ALIAS = "best"
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
        chosen: the run, as it is recorded.
        warning: what speaks against a choice by hand; empty text otherwise.
    """

    data: str
    chosen: BestRun
    warning: str = ""

    @property
    def run(self) -> str:
        """Name of the run folder."""
        return self.chosen.run

    @property
    def by_hand(self) -> bool:
        """Whether a person set it."""
        return self.chosen.rule == BY_HAND


def choose_best(entries: Sequence[Entry]) -> Entry | None:
    """Return the best of the runs of one data folder by `RULE`; None where nothing is finished.

    Scores of other images do not compare. Where the data, its decisions or the sealed part changed between runs, those
    count that share data, scored images, their unit and confidence with the latest finished one.
    """
    scored = [entry for entry in entries if _read_bound(entry) is not None]
    finished = [entry for entry in scored if not entry.as_given] or scored
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
    """Return the best of every data folder with a finished run: as set by hand, else by `RULE`.

    ``renew`` forgets what was set by hand.

    Raises:
        RunError: the record of the best runs is damaged.
    """
    found = BestRuns.find(logbook.runs)
    recorded = found.bests if found else {}
    groups: dict[str, list[Entry]] = {}
    for entry in logbook.entries:
        groups.setdefault(entry.data or entry.data_hash, []).append(entry)
    bests = []
    for data in dict.fromkeys((*groups, *recorded)):
        old = recorded.get(data)
        chosen = choose_best(groups.get(data, []))
        if old is not None and old.rule == BY_HAND and not renew:
            bests.append(_check_choice(data, old, groups.get(data, []), chosen))
        elif chosen is not None:
            same = old is not None and old.rule != BY_HAND and old.run == chosen.name
            time = old.time if old is not None and same else now_text()
            bests.append(Best(data, _record(chosen, rule=RULE, time=time)))
    return tuple(bests)


def settle_bests(logbook: Logbook, *, renew: bool = False) -> tuple[Best, ...]:
    """Find the best runs, and record them where something changed."""
    bests = find_bests(logbook, renew=renew)
    record = BestRuns(bests={best.data: best.chosen for best in bests})
    if record != (BestRuns.find(logbook.runs) or BestRuns(bests={})):
        record.write(logbook.runs)
    return bests


def set_best(runs: Path, name: str, *, note: str) -> Best:
    """Call a run ``best`` by hand; it stays until another is set, or ``settle_bests(..., renew=True)``.

    Raises:
        RunError: the note is empty, there is no such run, or it is not finished.
    """
    if not note.strip():
        raise RunError(f"'{name}' cannot be set as {ALIAS} without a reason", fix="--note 'why this run'")
    logbook = read_logbook(runs)
    entry = logbook.find(name)
    if entry.status != "finished":
        raise RunError(f"run '{name}' is {entry.status} ({entry.error})", fix="finish it, or set a finished run")
    chosen = _record(entry, rule=BY_HAND, time=now_text(), note=note.strip())
    best = Best(entry.data or entry.data_hash, chosen)
    others = {old.data: old.chosen for old in find_bests(logbook) if old.data != best.data}
    BestRuns(bests=others | {best.data: best.chosen}).write(runs)
    return best


def resolve_run(runs: Path, name: str) -> Path:
    """Return the folder of a run: ``best``, ``best:<data folder>`` (its name or path), the name of a run, or a path.

    Raises:
        RunError: nothing of this name; or ``best`` of several data folders; the message lists what there is.
    """
    runs = Path(runs)
    if name == ALIAS or name.startswith(f"{ALIAS}:"):
        logbook = read_logbook(runs)
        bests = find_bests(logbook)
        if not bests:
            raise RunError(
                f"no run in {logbook.runs} is finished, so none is the best", fix="'smalti logbook' says why"
            )
        wanted = name.partition(":")[2].rstrip("/")
        names = [Path(best.data).name for best in bests]
        chosen = [best for best, short in zip(bests, names, strict=True) if not wanted or wanted in (best.data, short)]
        if len(chosen) == 1 and chosen[0].chosen.score is None:
            run, warning = chosen[0].run, chosen[0].warning
            raise RunError(
                f"'{name}' was set by hand to '{run}', but {warning}", fix="'smalti logbook best', for the rule"
            )
        if len(chosen) == 1:
            return logbook.find(chosen[0].run).path
        # Two data folders may have one name; then only the path tells them apart.
        known = [best.data if names.count(short) > 1 else short for best, short in zip(bests, names, strict=True)]
        listed = ", ".join(f"{ALIAS}:{label} ({best.run})" for label, best in zip(known, bests, strict=True))
        what = f"'{name}' means {len(chosen)} runs" if chosen else f"no data folder fits '{name}'"
        raise RunError(f"{what} in {logbook.runs}", fix=f"one of {listed}")
    for path in (runs / name, Path(name)):
        if is_run(path):
            return path
    if not runs.is_dir():
        raise RunError(f"no run at {name}, and no folder of runs at {runs}", fix="give a path, or --runs")
    return read_logbook(runs).find(name).path


def _check_choice(data: str, old: BestRun, entries: Sequence[Entry], chosen: Entry | None) -> Best:
    """Return a choice by hand with its score of today, and what has changed since."""
    entry = next((entry for entry in entries if entry.name == old.run), None)
    if entry is None or _read_bound(entry) is None:
        state = "is no longer there" if entry is None else f"is {entry.status} now"
        return Best(data, old.model_copy(update={"score": None}), f"the run {state}")
    warning = ""
    if chosen is not None and _name_state(chosen) != _name_state(entry):
        warning = "later runs have other data, other scored images, or count another unit"
    elif chosen is not None and chosen.name != entry.name:
        warning = f"by the rule it would be {chosen.name}"
    return Best(data, _record(entry, rule=old.rule, time=old.time, note=old.note), warning)


def _name_state(entry: Entry) -> tuple[object, ...]:
    """Return what two runs must share so that their intervals can be compared."""
    return entry.data_hash, entry.unit, entry.n_images, entry.n_cases, entry.recipe.get("evaluate.confidence", 0.95)


def _read_bound(entry: Entry) -> float | None:
    """Return the lower bound of macro-F1 of a finished run; a run without one cannot compete."""
    return entry.metrics[HEADLINE].low if entry.status == "finished" else None


def _count_seconds(entry: Entry, entries: Sequence[Entry], *, above: tuple[str, ...] = ()) -> float:
    """Return the seconds of a run; those of an ensemble include its members."""
    total = float("inf") if entry.seconds is None else entry.seconds
    if entry.kind == "ensemble":
        names = set(map(str, entry.recipe["ensemble.members"])) - {entry.name, *above}
        inside = (*above, entry.name)
        total += sum(_count_seconds(member, entries, above=inside) for member in entries if member.name in names)
    return total


def _record(entry: Entry, *, rule: str, time: str, note: str = "") -> BestRun:
    score = Interval(**entry.metrics[HEADLINE].model_dump(include=set(Interval.model_fields)))
    return BestRun(run=entry.name, rule=rule, score=score, time=time, note=note, unit=entry.unit)
