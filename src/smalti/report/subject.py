"""A ladder, one run or many runs, read into one shape that page and article are written from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import RunError
from ..notation import flatten, read_yaml, say_value
from ..records import HEADLINE, RunFolder, Scores
from ..records.layout import COHORT, RECIPE, SCORES
from ..records.studies.comparison import Comparison
from ..records.studies.ladder import ChanceLevels, CorrectedChoice, LadderResult
from .compared import Candidate, describe_entry, describe_rung, describe_table, drop_unknown
from .contents import RunRecord, read_record
from .datasets import Dataset, Share, describe_dataset, name_folder

if TYPE_CHECKING:
    from ..logbook import Entry


@dataclass(frozen=True, slots=True)
class Subject:
    """What was tried, on which data, with what result.

    Attributes:
        folder: where its page and its article are written.
        candidates: in the order of the page: rungs from the bottom, runs by their start.
        best: name of the best candidate; None where there is none.
        margin: within which a difference is practically equal; 0 where that was not asked.
        recipe: knob -> value that all candidates start from (first rung, the run, or the commonest values).
        record: the run that tells about data, method and machine; None where no run folder is there.
        choice: what the highest score is worth, since the cases that score it chose it.
        picked: what choosing by inner images alone scores, in words; empty where that could not be done.
        comparison: the paired comparison of many runs, where there is one.
        scoring: sentences about the images that all rungs are scored on.
    """

    kind: Literal["ladder", "run", "runs"]
    folder: Path
    title: str
    candidates: tuple[Candidate, ...]
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
    choice: CorrectedChoice | None = None
    picked: str = ""
    comparison: Comparison | None = None
    scoring: tuple[str, ...] = ()

    @property
    def scores(self) -> Scores | None:
        """The scores of the run that tells about data and method."""
        return self.record.scores if self.record else None

    @property
    def champion(self) -> Candidate | None:
        """The best candidate."""
        return next((c for c in self.candidates if c.name == self.best), None)

    @property
    def compared(self) -> tuple[Candidate, ...]:
        """Candidates with a paired difference."""
        return tuple(c for c in self.candidates if c.gap is not None)

    def list_by(self, status: str) -> tuple[Candidate, ...]:
        """Return the candidates of a status, see `Candidate`."""
        return tuple(c for c in self.candidates if c.status == status)

    def list_verdict(self, verdict: str) -> tuple[Candidate, ...]:
        """Return the compared candidates with this verdict on the headline metric."""
        return tuple(c for c in self.compared if c.gap is not None and c.gap.verdict == verdict)

    def list_metrics(self) -> tuple[str, ...]:
        """Return the metrics of any candidate, the headline first."""
        return tuple(dict.fromkeys((HEADLINE, *(name for c in self.candidates for name in c.scores))))


def read_subject(folder: Path, *, entries: Sequence[Entry] = (), title: str = "") -> Subject:
    """Read the ladder, the run or (where entries are given) the runs of a folder.

    Raises:
        RunError: the folder holds none of them, or a file is damaged.
    """
    if entries or Comparison.locate(folder).is_file():
        return gather_runs(entries, folder=folder, title=title)
    if LadderResult.locate(folder).is_file():
        return read_ladder(folder)
    if not (folder / SCORES).is_file():
        raise RunError(
            f"no {LadderResult.FILE}, {Comparison.FILE} or {SCORES} in {folder}",
            fix="give the folder that 'smalti ladder', 'smalti compare' or 'smalti run' printed",
        )
    # One run is a subject with one candidate.
    record, scores = read_record(RunFolder(folder)), Scores.read(folder)
    data = name_folder(str(record.root)) if record.root else "data"
    candidate = Candidate(
        record.name,
        run=record.name,
        data=data,
        scores=drop_unknown(scores.metrics),
        started=record.environment.started if record.environment else "",
        n_images=scores.n_images,
        n_cases=scores.n_cases,
        n_seeds=scores.n_seeds,
        optimism=scores.optimism,
        trustworthy=scores.interval.trustworthy,
        trust_reason=scores.interval.reason,
        unit=scores.unit,
        as_given=scores.as_given,
    )
    return Subject(
        "run", folder, title or record.name, (candidate,), (describe_dataset(data, record),), best=record.name,
        confidence=scores.interval.confidence, started=candidate.started, recipe=_read_recipe(record), record=record,
    )  # fmt: skip


def read_ladder(folder: Path) -> Subject:
    """Read a ladder folder; the runs lie beside it.

    Raises:
        RunError: the result of the ladder is missing or damaged.
    """
    result = LadderResult.read(folder)
    data = name_folder(result.data) or "data"
    candidates = tuple(describe_rung(rung, data=data, unit=result.unit) for rung in result.rungs)
    record = _read_first(folder.parent / c.run for c in candidates if c.run and c.status == "done")
    dataset = describe_dataset(
        data,
        record,
        n_images=result.n_images,
        n_cases=result.n_cases,
        chance=result.chance,
    )
    if result.shares:  # as the ladder counted them; a class that the run does not count has no numbers
        counted = {share.name: share for share in dataset.classes}
        shares = [replace(counted.get(name, Share(name, value)), share=value) for name, value in result.shares.items()]
        dataset = replace(dataset, classes=tuple(shares))
    return Subject(
        "ladder", folder, result.ladder, candidates, (dataset,), about=result.about, best=result.best,
        confidence=result.confidence, alpha=result.alpha, margin=result.margin, started=result.started,
        finished=result.finished or "", recipe=_read_recipe(record), record=record,
        choice=result.choice, picked=result.inner_choice.words if result.inner_choice else "", scoring=result.scoring,
    )  # fmt: skip


def gather_runs(entries: Sequence[Entry], *, folder: Path, title: str) -> Subject:
    """Gather many runs, sorted by their start, with the comparison in ``folder`` where there is one.

    Raises:
        RunError: the comparison is damaged.
    """
    found = Comparison.find(folder)
    ordered = sorted(entries, key=lambda entry: (entry.started, entry.name))
    common, differing = find_differing([entry.recipe for entry in ordered])
    rows = {row.name: row for row in found.rows} if found else {}
    # Every data set has the name of its folder; with a piece of its hash where two share a name, and the unit where it
    # has two.
    folders = {entry.data_hash or entry.data: name_folder(entry.data) or "unknown data" for entry in ordered}
    counts, names = Counter(folders.values()), {}
    for key, unit in map(_key_data, ordered):
        units = sorted({other for known, other in map(_key_data, ordered) if known == key and other})
        name = folders[key] if counts[folders[key]] == 1 else f"{folders[key]} ({key[:6]})"
        names[key, unit] = f"{name}, by {unit or units[0]}" if len(units) > 1 else name
    candidates = [
        describe_entry(entry, rows.pop(entry.name, None), data=names[_key_data(entry)], settings=settings)
        for entry, settings in zip(ordered, differing, strict=True)
    ]
    if found:  # tables of other tools are compared too, but are no entry of the logbook
        candidates += [describe_table(row, found) for row in rows.values()]
    datasets = []
    for name, entry in {names[_key_data(e)]: e for e in ordered[::-1] if e.status == "finished"}.items():
        record = _read_first([entry.path])
        known = None
        if record is None or record.scores is None:
            known = ChanceLevels(majority=None, prior=entry.chance_prior, prior_low=None, prior_high=None)
        datasets.append(describe_dataset(name, record, n_images=entry.n_images, n_cases=entry.n_cases, chance=known))
    highest = find_highest(candidates) if len(datasets) == 1 else None
    first = _read_first(entry.path for entry in ordered if entry.status == "finished")
    subject = Subject(
        "runs", folder, title or folder.name, tuple(candidates), tuple(reversed(datasets)),
        best=highest.name if highest else None, started=candidates[0].started if candidates else "", recipe=common,
        record=first, comparison=found,
    )  # fmt: skip
    if found is None:
        return subject
    return replace(subject, confidence=found.confidence, alpha=found.alpha, margin=found.margin)


def _key_data(entry: Entry) -> tuple[str, str]:
    """Return which data set is scored, and by which unit: scores by image and by case are not set side by side."""
    return entry.data_hash or entry.data, entry.unit if entry.status == "finished" else ""


def find_differing(recipes: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], list[tuple[str, ...]]]:
    """Return the commonest value of every knob, and ``knob=value`` of each recipe where it has another one."""
    knobs = dict.fromkeys(knob for recipe in recipes for knob in recipe)
    common = {}
    for knob in knobs:
        values = [recipe[knob] for recipe in recipes if knob in recipe]
        counts = Counter(say_value(value) for value in values)
        common[knob] = max(values, key=lambda value: counts[say_value(value)])
    differing = [
        tuple(f"{knob}={say_value(recipe[knob])}" for knob in knobs if knob in recipe and recipe[knob] != common[knob])
        for recipe in recipes
    ]
    return common, differing


def find_highest(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the candidate with the highest score; changed with predictions in view only where all are."""
    scored = [c for c in candidates if c.score is not None]
    trusted = [c for c in scored if not c.as_given] or scored
    return max(trusted, key=lambda c: (c.score.value if c.score else None) or 0.0, default=None)


def _read_first(paths: Iterable[Path]) -> RunRecord | None:
    """Return the first of the folders that can be read as a run."""
    for path in paths:
        if (path / COHORT).is_file():
            with suppress(RunError):  # a damaged run among many has its own row that says so
                return read_record(RunFolder(path))
    return None


def _read_recipe(record: RunRecord | None) -> Mapping[str, Any]:
    if record is None or record.recipe is None:
        return {}
    return flatten(read_yaml(record.folder / RECIPE, kind="recipe", fix="bring it back from a copy") or {})
