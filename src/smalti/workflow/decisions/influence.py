"""Which decisions may have been made with predictions in view, and what a run that follows them scores without them.

Whoever changes labels or leaves out images after networks have spoken about them fits the test to the networks: on
shuffled labels that lifts a score far above chance. So a run is not trusted where a decision that it follows answers a
finding about labels, or was not there when the first run on this data began. Neither the time nor the author that a
row names is believed: what counts is what the first run folder recorded. Decisions of a rule are free of it where the
audit, which sees pixels alone, proposes them again and none of its proposals of that kind is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...audit import LABEL_CHECKS, read_decisions, settle_decisions
from ...audit.checks.registered import RELABEL_CHECKS
from ...audit.decisions import RULE
from ...errors import RunError
from ...evaluate import OTHER, Unit, take_unit
from ...records import RunFolder
from ...store import read_json, reading, write_json
from ...types import Action, Decision
from ..place import MEMBERS
from ..prepare.ground import Ground

FILE = "influence.json"
ACTING = ("exclude", "relabel", "repair")
CHANGES = {
    "relabel": ("label was changed", "labels were changed"),
    "exclude": ("image was left out", "images were left out"),
    "repair": ("image was repaired", "images were repaired"),
    "reset": ("earlier decision was taken back", "earlier decisions were taken back"),
}

Source = Literal["networks", "labels", "run"]
Effects = Mapping[str, tuple[str, str]]  # image -> action and label of the decision that counts


@dataclass(frozen=True, slots=True)
class Influenced:
    """A decision that may have been made with predictions or labels in view.

    Attributes:
        image: what it is about.
        action: ``reset`` where an earlier decision was taken back.
        source: ``networks`` where it answers what they said of a label, ``labels`` for other findings about labels,
            ``run`` where it was not there when the first run began.
        followed: whether the run follows it, and does not only know of it.
        sealed: whether the image is sealed.
    """

    image: str
    action: Action
    source: Source
    followed: bool
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Influence:
    """What may have influenced a run.

    Attributes:
        known: effects of all decisions that were there when the run began.
        first: name of the first run on this data; empty where this one is it.
        decisions: those that may have been made with predictions or labels in view.
        contents: hashes of the labelled and sealed images, whatever they are called; empty where they are not known.
    """

    known: Effects
    first: str = ""
    decisions: tuple[Influenced, ...] = ()
    contents: frozenset[str] = frozenset()

    @property
    def followed(self) -> tuple[Influenced, ...]:
        """Those about labelled images that the run follows."""
        return tuple(d for d in self.decisions if d.followed and not d.sealed)

    @property
    def sealed(self) -> tuple[Influenced, ...]:
        """Those about sealed images that the run follows."""
        return tuple(d for d in self.decisions if d.followed and d.sealed)

    def describe(self) -> str:
        """What was changed and on whose word, for people; empty where nothing that the run follows was."""
        why = {
            "networks": "by what networks said",
            "labels": "for findings about labels",
            "run": f"after run {self.first} could be seen",
        }
        parts = []
        for source, words in why.items():
            for action, (one, many) in CHANGES.items():
                number = sum((d.source, d.action) == (source, action) for d in self.followed)
                if number:
                    parts.append(f"{number} {one if number == 1 else many} {words}")
        return ", ".join(parts)


def record_influence(
    run_folder: RunFolder, ground: Ground, *, runs: Path, data: str, members: Iterable[Path] = ()
) -> Influence:
    """What may have influenced a run that begins on this ground; recorded once, read again when the run goes on.

    Args:
        run_folder: of the run.
        ground: what it stands on.
        runs: folder of all runs.
        data: hash of the data.
        members: runs that are combined; what influenced them influences the whole.
    """
    path = run_folder.path / FILE
    if not path.is_file():
        influence = _find_influence(run_folder, ground, runs=runs, data=data)
        for member in members:
            influence = _join(influence, read_influence(member))
        write_json(path, asdict(influence) | {"contents": sorted(influence.contents)})
    return read_influence(run_folder.path)


def _join(influence: Influence, member: Influence) -> Influence:
    own = {(d.image, d.action) for d in influence.followed}
    more = tuple(d for d in member.decisions if d.followed and (d.image, d.action) not in own)
    return replace(influence, first=influence.first or member.first, decisions=(*influence.decisions, *more))


def read_influence(run: Path) -> Influence:
    """What `record_influence` wrote; of a run of an earlier version, what its decisions say by themselves.

    Raises:
        RunError: the file is missing or damaged.
    """
    path = run / FILE
    if path.is_file():
        with reading(path, fix="bring it back from a copy, or run it anew under another --name"):
            content = read_json(path)
            effects = {image: (str(action), str(label)) for image, (action, label) in content["known"].items()}
            decisions = tuple(Influenced(**row) for row in content["decisions"])
            return Influence(effects, str(content["first"]), decisions, frozenset(content.get("contents", ())))
    if (run / "cohort.json").is_file() and "label_by_case" in read_json(run / "cohort.json"):
        raise RunError(
            f"{path} does not exist, so nothing tells what influenced this run. Fix: bring it back from a copy, or run "
            "it anew under another --name"
        )
    known = settle_decisions(read_decisions(run / "decisions.csv"))
    late = [
        Influenced(d.image, d.action, _name_source(d), followed=True)
        for d in known.values()
        if d.action in ACTING and d.finding in LABEL_CHECKS
    ]
    return Influence(_list_effects(known.values()), decisions=tuple(late))


def _find_influence(run_folder: RunFolder, ground: Ground, *, runs: Path, data: str) -> Influence:
    known = {d.image: d for d in ground.known}
    effects = _list_effects(ground.known)
    samples = (*ground.whole.labelled, *ground.whole.sealed)
    files = {s.image: ground.contents[s.image].file for s in samples if s.image in ground.contents}
    root = str(ground.cohort.root.resolve())
    earlier = _list_earlier(run_folder, runs=runs, root=root, data=data, contents=frozenset(files.values()))
    first, at_first = earlier[0] if earlier else ("", Influence({}))
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
            source: Source = _name_source(decision) if decision.finding in LABEL_CHECKS else "run"
            acts = (image, decision.action) in followed
            found.append(Influenced(image, decision.action, source, acts, image in sealed))
    acting = any(d.action in ACTING for d in ground.decisions)
    for image, (action, _) in at_first.known.items() if acting else ():
        # Whoever takes back some of the decisions and keeps others chooses too.
        if action in ACTING and effects.get(image, ("keep", ""))[0] not in ACTING:
            found.append(Influenced(image, "reset", "run", True, image in sealed))
    order = tuple(sorted(found, key=lambda d: d.image))
    return Influence(effects, first, order, frozenset(files.values()))


def _list_effects(decisions: Iterable[Decision]) -> dict[str, tuple[str, str]]:
    return {d.image: (str(d.action), d.label if d.action == "relabel" else "") for d in decisions}


def _name_source(decision: Decision) -> Source:
    return "networks" if decision.finding in RELABEL_CHECKS else "labels"


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
    run_folder: RunFolder, *, runs: Path, root: str, data: str, contents: frozenset[str]
) -> list[tuple[str, Influence]]:
    """Other runs that began no later, have learned, and have looked at any of these images; the earliest first.

    Images are known by their content: a copy under another name, a part of the data and more data are the same data.
    """
    own = str(read_json(run_folder.path / "environment.json").get("started", ""))
    found: list[tuple[str, str, Influence]] = []
    for path in [*runs.glob("*/environment.json"), *runs.glob("*/prepared/*/environment.json")]:
        other = path.parent
        # A member of a portfolio is no later than the run that it lies in.
        if other.resolve() in (run_folder.path.resolve(), *run_folder.path.resolve().parents) or not _has_learned(
            other
        ):
            continue
        environment, cohort = _read_record(path), _read_record(other / "cohort.json")
        identity = environment.get("identity")
        same = cohort.get("root") == root or (isinstance(identity, dict) and identity.get("data") == data)
        influence = _read_known(other)
        started = str(environment.get("started", ""))
        if started <= own and (same or not influence.contents.isdisjoint(contents)):
            found.append((started, other.name, influence))
    return [(name, influence) for _, name, influence in sorted(found, key=lambda one: one[:2])]


def _read_record(path: Path) -> dict[str, Any]:
    """A record of another run; empty where it is damaged, which is the logbook's to tell."""
    try:
        content = read_json(path)
    except RunError:
        return {}
    return content if isinstance(content, dict) else {}


def _read_known(run: Path) -> Influence:
    """What another run knew; nothing where its record is gone, so that every decision counts as made after it."""
    try:
        return read_influence(run)
    except RunError:
        return Influence({})


def _has_learned(run: Path) -> bool:
    """Whether networks of this run may have said something about images; a search keeps what they said elsewhere."""
    said = ("scores.json", "traces.json", "suspects.json", "report.html")
    folders = (run / "predictions", run / "heatmaps", *(run / MEMBERS).glob("*/predictions"))
    return run.parent.name == "prepared" or any((run / name).is_file() for name in said) or any(
        any(folder.rglob("*.*")) for folder in folders
    )  # fmt: skip


def tell_trust(scores: dict[str, Any], influence: Influence, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The scores of a run with what it scores as given; not to be trusted where something was changed.

    Args:
        scores: as in ``scores.json``.
        influence: of the run.
        given: likewise under the labels as given, on all labelled images; None where they could not be predicted.
    """
    changed = influence.describe()
    if not changed:
        return scores
    unit: Unit = scores.get("unit", "image")
    doubted = _doubt(scores, describe_given(changed, None if given is None else take_unit(given, unit)))
    other = OTHER[unit]
    if (beside := take_unit(scores, other)) is not None:
        section = describe_given(changed, None if given is None else take_unit(given, other))
        doubted[f"by_{other}"] = _doubt(beside, section)
    return doubted


def _doubt(scores: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """The scores of one unit, none of them to be trusted, with what they are as given."""
    reasons = [section["words"], *([] if scores["interval"]["trustworthy"] else [scores["interval"]["reason"]])]
    doubt = {"trustworthy": False, "reason": "; ".join(reasons)}
    metrics = {name: row | doubt for name, row in scores["metrics"].items()}
    return scores | {"metrics": metrics, "interval": scores["interval"] | doubt, "as_given": section}


def describe_given(changed: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The section ``as_given`` of scores, ladders and comparisons: ``changed, words, n_images, n_cases, metrics``.

    Args:
        changed: what was changed, in words.
        given: scores without that, as in ``scores.json``; None where there are none.
    """
    words = "what it scores as given is not known"
    if given is not None:
        value, low, high = (given["metrics"]["macro_f1"][key] for key in ("value", "low", "high"))
        interval = "" if low is None else f" ({low:.3f} to {high:.3f})"
        words = f"as given it scores {value:.3f}{interval}"
    numbers = {key: given[key] if given is not None else None for key in ("n_images", "n_cases", "metrics")}
    return {"changed": changed, "words": f"{changed}; {words}", **numbers}
