"""Which decisions may have been made with predictions in view, and what a run that follows them scores without them.

Whoever changes labels or leaves out images after networks have spoken about them fits the test to the networks: on
shuffled labels that lifts a score far above chance. So a run is not trusted where a decision that it follows answers a
finding about labels, or was not there when the first run on this data began. Neither the time nor the author that a
row names is believed: what counts is what the first run folder recorded. Decisions of a rule are free of it where the
audit, which sees pixels alone, proposes them again and none of its proposals of that kind is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...audit import LABEL_CHECKS
from ...audit.checks.registered import RELABEL_CHECKS
from ...audit.decisions import RULE
from ...errors import RunError
from ...project import Project
from ...records import (
    OTHER,
    AsGiven,
    Effects,
    Environment,
    Influence,
    Influenced,
    RunFolder,
    Scores,
    Source,
    UnitScores,
)
from ...records.layout import (
    COHORT,
    ENVIRONMENT,
    HEATMAPS,
    MEMBER_RUNS,
    PREDICTIONS,
    PREPARED,
    REPORT,
    SCORES,
    SUSPECTS,
    TRACES,
)
from ...store import read_json
from ...types import Decision
from ..prepare.ground import Ground

ACTING = ("exclude", "relabel", "repair")


def record_influence(
    project: Project, run_folder: RunFolder, ground: Ground, *, data: str, members: Iterable[Path] = ()
) -> Influence:
    """Return what may have influenced a run that begins on this ground; recorded once, read again when the run goes on.

    Args:
        project: its runs are looked at.
        run_folder: of the run.
        ground: what it stands on.
        data: hash of the data.
        members: runs that are combined; what influenced them influences the whole.
    """
    if (known := Influence.find(run_folder.path)) is not None:
        return known
    influence = _find_influence(project, run_folder, ground, data=data)
    for member in map(Influence.read, members):
        own = {(d.image, d.action) for d in influence.followed}
        more = (d for d in member.decisions if d.followed and (d.image, d.action) not in own)
        changes = {"first": influence.first or member.first, "decisions": (*influence.decisions, *more)}
        influence = influence.model_copy(update=changes)
    influence.write(run_folder.path)
    return influence


def _find_influence(project: Project, run_folder: RunFolder, ground: Ground, *, data: str) -> Influence:
    known = {d.image: d for d in ground.known}
    effects = _list_effects(ground.known)
    samples = (*ground.whole.labelled, *ground.whole.sealed)
    files = {s.image: ground.contents[s.image].file for s in samples if s.image in ground.contents}
    root = str(ground.cohort.root.resolve())
    earlier = _list_earlier(project.runs, run_folder, root=root, data=data, contents=frozenset(files.values()))
    first, at_first = earlier[0] if earlier else ("", Influence())
    followed = {(d.image, d.action) for d in ground.decisions}
    sealed = {s.image for s in ground.whole.sealed}

    def recall(image: str) -> Effects:
        """What the earliest run knew that has looked at the image; what this one knows where none has."""
        holding = (r.known for _, r in earlier if not r.contents or files.get(image, "") in r.contents)
        return next(holding, effects)

    found: list[Influenced] = []
    for sample in samples:
        image, decision = sample.image, known.get(sample.image)
        if decision is None or decision.action not in ACTING or effects[image] == ("relabel", sample.label):
            continue
        before = recall(image)
        late = before.get(image) != effects[image] and not _is_mechanical(decision, ground, before)
        if decision.finding in LABEL_CHECKS or late:
            by: Source = "networks" if decision.finding in RELABEL_CHECKS else "labels"
            source: Source = by if decision.finding in LABEL_CHECKS else "run"
            acts = (image, decision.action) in followed
            found.append(
                Influenced(image=image, action=decision.action, source=source, followed=acts, sealed=image in sealed)
            )
    acting = any(d.action in ACTING for d in ground.decisions)
    for image, (action, _) in at_first.known.items() if acting else ():
        # Whoever takes back some of the decisions and keeps others chooses too.
        if action in ACTING and effects.get(image, ("keep", ""))[0] not in ACTING:
            sealed_too = image in sealed
            found.append(Influenced(image=image, action="reset", source="run", followed=True, sealed=sealed_too))
    order = tuple(sorted(found, key=lambda d: d.image))
    return Influence(known=effects, first=first, decisions=order, contents=frozenset(files.values()))


def _list_effects(decisions: Iterable[Decision]) -> dict[str, tuple[str, str]]:
    return {d.image: (str(d.action), d.label if d.action == "relabel" else "") for d in decisions}


def _is_mechanical(decision: Decision, ground: Ground, before: Effects) -> bool:
    """Whether the audit proposes this again from pixels alone, and all of its proposals of this code are followed.

    One that was passed over, or kept after the first run, would be a choice.
    """
    code = decision.finding
    proposals = {f.images[0]: f.proposal for f in ground.seen.findings if f.code == code and f.proposal in ACTING}
    if decision.who != RULE or code in LABEL_CHECKS or proposals.get(decision.image) != decision.action:
        return False
    effects = _list_effects(ground.known)
    return all(
        effects.get(image, ("", ""))[0] in ACTING or (image in effects and effects[image] == before.get(image))
        for image in proposals
    )


def _list_earlier(
    runs: Path, run_folder: RunFolder, *, root: str, data: str, contents: frozenset[str]
) -> list[tuple[str, Influence]]:
    """Other runs that began no later, have learned, and have looked at any of these images; the earliest first.

    Images are known by their content: a copy under another name, a part of the data and more data are the same data.
    """
    own = Environment.read(run_folder.path).started
    found: list[tuple[str, str, Influence]] = []
    for path in [*runs.glob(f"*/{ENVIRONMENT}"), *runs.glob(f"*/{PREPARED}/*/{ENVIRONMENT}")]:
        other = path.parent
        # A member of a portfolio is no later than the run that it lies in.
        inside = other.resolve() in (run_folder.path.resolve(), *run_folder.path.resolve().parents)
        if inside or not _has_learned(other):
            continue
        # A run of an earlier version had its say too, so that these files are read whatever their version.
        began, cohort = _read_content(other / ENVIRONMENT), _read_content(other / COHORT)
        identity = began.get("identity")
        same = cohort.get("root") == root or (isinstance(identity, dict) and identity.get("data") == data)
        # Where its record is gone nothing was known, so that every decision counts as made after it.
        try:
            influence = Influence.read(other)
        except RunError:
            influence = Influence()
        started = str(began.get("started", ""))
        if started <= own and (same or not influence.contents.isdisjoint(contents)):
            found.append((started, other.name, influence))
    return [(name, influence) for _, name, influence in sorted(found, key=lambda one: one[:2])]


def _read_content(path: Path) -> dict[str, object]:
    """Read a JSON object of another run; empty where it is missing or damaged, which is the logbook's to tell."""
    with suppress(RunError):
        content = read_json(path)
        return content if isinstance(content, dict) else {}
    return {}


def _has_learned(run: Path) -> bool:
    """Whether networks of this run may have said something about images; a search keeps what they said elsewhere."""
    said = (SCORES, TRACES, SUSPECTS, REPORT)
    folders = (run / PREDICTIONS, run / HEATMAPS, *(run / MEMBER_RUNS).glob(f"*/{PREDICTIONS}"))
    return run.parent.name == PREPARED or any((run / name).is_file() for name in said) or any(
        any(folder.rglob("*.*")) for folder in folders
    )  # fmt: skip


def tell_trust(scores: Scores, influence: Influence, given: Scores | None) -> Scores:
    """Return the scores of a run with what it scores as given; not to be trusted where something was changed.

    Args:
        scores: of the run.
        influence: of the run.
        given: the scores under the labels as given, on all labelled images; None where they could not be predicted.
    """
    changed = influence.describe()
    if not changed:
        return scores
    other = OTHER[scores.unit]
    beside: dict[str, UnitScores] = {}
    if (found := scores.take(other)) is not None:
        section = describe_given(changed, None if given is None else given.take(other))
        beside[f"by_{other}"] = found.model_copy(update=_doubt(found, section))
    section = describe_given(changed, None if given is None else given.take(scores.unit))
    return scores.model_copy(update=_doubt(scores, section) | beside)


def _doubt(scores: UnitScores, section: AsGiven) -> dict[str, object]:
    """Return what changes in the scores of one unit: none is to be trusted, and what they are as given."""
    cover = scores.interval
    reason = "; ".join([section.words, *([] if cover.trustworthy else [cover.reason])])
    doubt = {"trustworthy": False, "reason": reason}
    metrics = {name: score.model_copy(update=doubt) for name, score in scores.metrics.items()}
    return {"metrics": metrics, "interval": cover.model_copy(update=doubt), "as_given": section}


def describe_given(changed: str, given: UnitScores | None) -> AsGiven:
    """Describe what is scored as given, in the form that scores, ladders and comparisons hold.

    Args:
        changed: what was changed, in words.
        given: the scores without that; None where there are none.
    """
    if given is None:
        words = f"{changed}; what it scores as given is not known"
        return AsGiven(changed=changed, words=words, n_images=None, n_cases=None, metrics=None)
    words = f"{changed}; as given it scores {given.headline.say()}"
    return AsGiven(changed=changed, words=words, n_images=given.n_images, n_cases=given.n_cases, metrics=given.metrics)
