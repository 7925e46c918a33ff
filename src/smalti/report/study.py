"""A ladder, one run or many runs, read into one shape that page and article are written from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ..errors import RunError
from ..records import RunFolder
from ..store import read_json
from .datasets import Chance, Dataset, describe_dataset, merge_shares, name_folder
from .record import RunRecord, read_record
from .trials import HEADLINE, Trial, read_gaps, read_given, read_rung, read_scores

if TYPE_CHECKING:
    from ..logbook import Entry


@dataclass(frozen=True, slots=True)
class Study:
    """What was tried, on which data, with what result.

    Attributes:
        folder: where its page and its article are written.
        trials: in the order in which they are told: rungs from the bottom, runs by their start.
        best: name of the best trial; None where none is.
        margin: within which a difference is practically equal; 0 where that was not asked.
        recipe: knob -> value that all trials start from (first rung, the run, or the commonest values).
        record: the run that tells about data, method and machine; None where no run folder is there.
        choice: what the highest score is worth, since the cases that score it chose it (ladder.json).
        picked: what choosing by inner images alone scores, in words (ladder.json); empty where it means nothing.
        comparison: comparison.json, where it is there.
        scoring: sentences about the images that all rungs were scored on (ladder.json); empty where that is all.
    """

    kind: Literal["ladder", "run", "runs"]
    folder: Path
    title: str
    trials: tuple[Trial, ...]
    datasets: tuple[Dataset, ...]
    about: str = ""
    best: str | None = None
    confidence: float = 0.95
    alpha: float = 0.05
    margin: float = 0.0
    started: str = ""
    finished: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    record: RunRecord | None = None
    choice: Mapping[str, Any] | None = None
    picked: str = ""
    comparison: Mapping[str, Any] | None = None
    scoring: tuple[str, ...] = ()

    @property
    def champion(self) -> Trial | None:
        """The best trial."""
        return self.find(self.best)

    @property
    def compared(self) -> tuple[Trial, ...]:
        """Trials with a paired difference."""
        return tuple(t for t in self.trials if t.gap is not None)

    def find(self, name: str | None) -> Trial | None:
        """The trial of this name."""
        return next((t for t in self.trials if t.name == name), None)

    def list_by(self, status: str) -> tuple[Trial, ...]:
        """Trials that are ``done``, ``failed``, ``skipped``, ``waiting`` or ``unfinished``."""
        return tuple(t for t in self.trials if t.status == status)

    def list_verdict(self, verdict: str) -> tuple[Trial, ...]:
        """Compared trials with this verdict on the headline metric."""
        return tuple(t for t in self.compared if t.gap is not None and t.gap.verdict == verdict)

    def list_metrics(self) -> tuple[str, ...]:
        """Metrics of any trial, the headline first."""
        names = dict.fromkeys((HEADLINE, *(name for t in self.trials for name in t.scores)))
        return tuple(names)


def read_study(folder: Path, *, entries: Sequence[Entry] = (), title: str = "") -> Study:
    """The ladder, the run or (where entries are given) the runs of a folder.

    Raises:
        RunError: the folder holds none of them, or a file is damaged.
    """
    if entries or (folder / "comparison.json").is_file():
        return gather_runs(entries, folder=folder, title=title)
    if (folder / "ladder.json").is_file():
        return read_ladder(folder)
    if (folder / "scores.json").is_file():
        return read_single(folder, title=title)
    raise RunError(
        f"no ladder.json, comparison.json or scores.json in {folder}. Fix: give the folder that 'smalti ladder', "
        "'smalti compare' or 'smalti run' printed"
    )


def read_ladder(folder: Path) -> Study:
    """A ladder folder; the runs lie beside it.

    Raises:
        RunError: ladder.json is missing or damaged.
    """
    content = dict(read_json(folder / "ladder.json"))
    data = name_folder(str(content.get("data") or "")) or "data"
    unit = str(content.get("unit") or "image")
    trials = tuple(read_rung(row, data=data, unit=unit) for row in content.get("rungs") or ())
    record = _read_first(folder.parent / t.run for t in trials if t.run and t.status == "done")
    dataset = describe_dataset(data, record, n_images=content.get("n_images"), n_cases=content.get("n_cases"))
    return Study(
        "ladder",
        folder,
        str(content.get("ladder") or folder.name),
        trials,
        (_settle_dataset(dataset, content),),
        about=str(content.get("about") or ""),
        best=content.get("best"),
        confidence=float(content.get("confidence") or 0.95),
        alpha=float(content.get("alpha") or 0.05),
        margin=float(content.get("margin") or 0.0),
        started=str(content.get("started") or ""),
        finished=str(content.get("finished") or ""),
        recipe=_read_recipe(record),
        record=record,
        choice=content.get("choice"),
        picked=str((content.get("inner_choice") or {}).get("words") or ""),
        scoring=tuple(str(sentence) for sentence in content.get("scoring") or ()),
    )


def _settle_dataset(dataset: Dataset, content: Mapping[str, Any]) -> Dataset:
    """What ladder.json says about the data stands above what a run says."""
    chance = content.get("chance") or {}
    levels = [chance.get(key) for key in ("majority", "prior", "prior_low", "prior_high")]
    shares = content.get("shares") or {}
    return replace(
        dataset,
        chance=Chance(*levels) if chance else dataset.chance,
        classes=merge_shares(dataset.classes, shares) if shares else dataset.classes,
    )


def read_single(folder: Path, *, title: str = "") -> Study:
    """One run as a study of one trial.

    Raises:
        RunError: scores.json is missing or damaged.
    """
    record = read_record(RunFolder(folder))
    scores = record.scores
    if scores is None:
        raise RunError(f"{folder / 'scores.json'} does not exist. Fix: run the stage that writes it ('smalti run')")
    data = name_folder(str(record.root)) if record.root else "data"
    trial = Trial(
        record.name,
        run=record.name,
        data=data,
        scores=read_scores(scores["metrics"]),
        started=str((record.environment or {}).get("started") or ""),
        n_images=scores["n_images"],
        n_cases=scores["n_cases"],
        n_seeds=scores["n_seeds"],
        optimism=scores["optimism"],
        trustworthy=scores["interval"]["trustworthy"],
        trust_reason=scores["interval"]["reason"],
        unit=str(scores.get("unit") or "image"),
        **read_given(scores.get("as_given")),
    )
    return Study(
        "run",
        folder,
        title or record.name,
        (trial,),
        (describe_dataset(data, record),),
        best=record.name,
        confidence=scores["interval"]["confidence"],
        started=trial.started,
        recipe=_read_recipe(record),
        record=record,
    )


def gather_runs(entries: Sequence[Entry], *, folder: Path, title: str) -> Study:
    """Many runs, sorted by their start, with the comparison in ``folder`` where there is one.

    Raises:
        RunError: comparison.json is damaged.
    """
    path = folder / "comparison.json"
    comparison = dict(read_json(path)) if path.is_file() else None
    ordered = sorted(entries, key=lambda entry: (entry.started, entry.name))
    common, differing = find_differing([entry.recipe for entry in ordered])
    rows = {str(row["name"]): row for row in (comparison or {}).get("rows") or ()}
    names = _name_data(ordered)
    trials = [
        replace(_read_entry(entry, rows.pop(entry.name, {})), settings=settings, data=names[_key_data(entry)])
        for entry, settings in zip(ordered, differing, strict=True)
    ]
    # Tables of other tools are compared too, but no entry of the logbook.
    trials += [_read_table(row, comparison or {}) for row in rows.values()]
    tellers = {names[_key_data(entry)]: entry for entry in reversed(ordered) if entry.status == "finished"}
    datasets = tuple(_describe_entry(name, entry) for name, entry in reversed(tellers.items()))
    highest = find_highest(trials) if len(datasets) == 1 else None
    first = _read_first(entry.path for entry in ordered if entry.status == "finished")
    return Study(
        "runs",
        folder,
        title or folder.name,
        tuple(trials),
        datasets,
        best=highest.name if highest else None,
        confidence=float((comparison or {}).get("confidence") or 0.95),
        alpha=float((comparison or {}).get("alpha") or 0.05),
        margin=float((comparison or {}).get("margin") or 0.0),
        started=trials[0].started if trials else "",
        recipe=common,
        record=first,
        comparison=comparison,
    )


def _read_unit(entry: Entry) -> str:
    return str(getattr(entry, "unit", "image"))


def _key_data(entry: Entry) -> tuple[str, str]:
    """Which data set is scored, and by which unit: scores by image and by case do not stand beside each other."""
    return entry.data_hash or entry.data, _read_unit(entry) if entry.status == "finished" else ""


def _name_data(entries: Sequence[Entry]) -> dict[tuple[str, str], str]:
    """Folder name of every data set; with a piece of its hash where two share a name, and the unit where it has two."""
    folders = {entry.data_hash or entry.data: name_folder(entry.data) or "unknown data" for entry in entries}
    counts, names = Counter(folders.values()), {}
    for key, unit in map(_key_data, entries):
        units = sorted({other for known, other in map(_key_data, entries) if known == key and other})
        name = folders[key] if counts[folders[key]] == 1 else f"{folders[key]} ({key[:6]})"
        names[key, unit] = f"{name}, by {unit or units[0]}" if len(units) > 1 else name
    return names


def _read_table(row: Mapping[str, Any], comparison: Mapping[str, Any]) -> Trial:
    """A row of comparison.json that is no run folder."""
    return Trial(
        str(row["name"]),
        kind="table",
        data="tables of other tools",
        scores=read_scores(row.get("metrics")),
        n_images=comparison.get("n_images"),
        n_cases=comparison.get("n_cases"),
        n_seeds=row.get("n_seeds"),
        unit=str(comparison.get("unit") or "image"),
        on=row.get("against"),
        gaps=read_gaps(row.get("difference")),
    )


def _read_entry(entry: Entry, row: Mapping[str, Any]) -> Trial:
    return Trial(
        entry.name,
        on=row.get("against"),
        status="done" if entry.status == "finished" else entry.status,
        error=entry.error,
        run=entry.name,
        kind=entry.kind,
        started=entry.started,
        device=entry.device,
        seconds=entry.seconds,
        n_images=entry.n_images,
        n_cases=entry.n_cases,
        n_seeds=entry.n_seeds,
        scores=read_scores(entry.metrics),
        gaps=read_gaps(row.get("difference")),
        chance=entry.chance_prior,
        optimism=entry.optimism,
        trustworthy=entry.trustworthy,
        # Whoever hands over entries of another make may know nothing of these.
        trust_reason=getattr(entry, "trust_reason", ""),
        changed=getattr(entry, "changed", ""),
        given=read_scores({HEADLINE: getattr(entry, "as_given", None)}).get(HEADLINE),
        unit=_read_unit(entry),
    )


def find_differing(recipes: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """The commonest value of every knob, and for each recipe ``knob=value`` where it has another one."""
    knobs = dict.fromkeys(knob for recipe in recipes for knob in recipe)
    common: dict[str, Any] = {}
    for knob in knobs:
        values = [recipe[knob] for recipe in recipes if knob in recipe]
        counts = Counter(say_value(value) for value in values)
        common[knob] = max(values, key=lambda value: counts[say_value(value)])
    differing = [
        tuple(f"{knob}={say_value(recipe[knob])}" for knob in knobs if knob in recipe and recipe[knob] != common[knob])
        for recipe in recipes
    ]
    return common, differing


def say_value(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def find_highest(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the largest score of the headline metric; changed with predictions in view only if all are."""
    found = [t for t in trials if t.score is not None]
    scored = [(t.score.value, t) for t in [t for t in found if not t.changed] or found if t.score is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _describe_entry(name: str, entry: Entry) -> Dataset:
    record = _read_first([entry.path])
    known = Chance(None, entry.chance_prior, None, None) if record is None or record.scores is None else None
    return describe_dataset(name, record, n_images=entry.n_images, n_cases=entry.n_cases, chance=known)


def _read_first(paths: Any) -> RunRecord | None:
    """The first of the folders that can be read as a run."""
    for path in paths:
        if not (path / "cohort.json").is_file():
            continue
        try:
            return read_record(RunFolder(path))
        except RunError:  # a damaged run among many has its own row that says so
            continue
    return None


def _read_recipe(record: RunRecord | None) -> dict[str, Any]:
    if record is None or record.recipe is None:
        return {}
    return dict(flatten_recipe(yaml.safe_load(record.recipe) or {}))


def flatten_recipe(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted knob -> value."""
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict) and value:
            flat |= flatten_recipe(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
