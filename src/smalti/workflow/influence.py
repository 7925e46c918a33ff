"""Which decisions may have been made with predictions in view, and what a run that follows them scores without them.

Whoever changes labels or leaves out images after networks have spoken about them fits the test to the networks: on
shuffled labels that lifts a score far above chance. So a run is not trusted where a decision that it follows answers a
finding about labels, or was not there when the first run on this data began. Neither the time nor the author that a
row names is believed: what counts is what the first run folder recorded. Decisions of a rule are free of it where the
audit, which sees pixels alone, proposes them again and none of its proposals of that kind is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..audit import LABEL_CHECKS, read_decisions, settle_decisions
from ..audit.checks import RELABEL_CHECKS
from ..audit.decisions import RULE
from ..errors import RunError
from ..runs import RunFolder, read_json, write_json
from ..types import Action, Decision
from .ground import Ground

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
    """

    known: Effects
    first: str = ""
    decisions: tuple[Influenced, ...] = ()

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


def record_influence(run_folder: RunFolder, ground: Ground, *, runs: Path, data: str) -> Influence:
    """What may have influenced a run that begins on this ground; recorded once, read again when the run goes on.

    Args:
        run_folder: of the run.
        ground: what it stands on.
        runs: folder of all runs.
        data: hash of the data.
    """
    path = run_folder.path / FILE
    if not path.is_file():
        write_json(path, asdict(_find_influence(run_folder, ground, runs=runs, data=data)))
    return read_influence(run_folder.path)


def read_influence(run: Path) -> Influence:
    """What `record_influence` wrote; of a run of an earlier version, what its decisions say by themselves.

    Raises:
        RunError: the file is damaged.
    """
    path = run / FILE
    if not path.is_file():
        known = settle_decisions(read_decisions(run / "decisions.csv"))
        decisions = [
            Influenced(d.image, d.action, _name_source(d), followed=True)
            for d in known.values()
            if d.action in ACTING and d.finding in LABEL_CHECKS
        ]
        return Influence(_list_effects(known.values()), decisions=tuple(decisions))
    content = read_json(path)
    effects = {image: (action, label) for image, (action, label) in content["known"].items()}
    return Influence(effects, content["first"], tuple(Influenced(**row) for row in content["decisions"]))


def _find_influence(run_folder: RunFolder, ground: Ground, *, runs: Path, data: str) -> Influence:
    known = {d.image: d for d in ground.known}
    effects = _list_effects(ground.known)
    first = _find_first(run_folder, runs=runs, root=str(ground.cohort.root.resolve()), data=data)
    before = read_influence(first).known if first is not None else effects
    followed = {(d.image, d.action) for d in ground.decisions}
    sealed = {s.image for s in ground.whole.sealed}
    labels = {s.image: s.label for s in (*ground.whole.labelled, *ground.whole.sealed)}
    found: list[Influenced] = []
    for image, label in labels.items():
        decision = known.get(image)
        if decision is None or decision.action not in ACTING or effects[image] == ("relabel", label):
            continue
        late = before.get(image) != effects[image] and not _is_mechanical(decision, ground, before)
        if decision.finding in LABEL_CHECKS or late:
            source: Source = _name_source(decision) if decision.finding in LABEL_CHECKS else "run"
            acts = (image, decision.action) in followed
            found.append(Influenced(image, decision.action, source, acts, image in sealed))
    acting = any(d.action in ACTING for d in ground.decisions)
    for image, (action, _) in before.items() if acting else ():
        # Whoever takes back some of the decisions and keeps others chooses too.
        if action in ACTING and effects.get(image, ("keep", ""))[0] not in ACTING:
            found.append(Influenced(image, "reset", "run", True, image in sealed))
    order = sorted(found, key=lambda d: d.image)
    return Influence(effects, first.name if first is not None else "", tuple(order))


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


def _find_first(run_folder: RunFolder, *, runs: Path, root: str, data: str) -> Path | None:
    """The first of the other runs on this data that began no later and has learned; by its folder or its content."""
    own = str(read_json(run_folder.path / "environment.json").get("started", ""))
    found: list[tuple[str, str, Path]] = []
    for path in [*runs.glob("*/environment.json"), *runs.glob("*/prepared/*/environment.json")]:
        other = path.parent
        if other.resolve() == run_folder.path.resolve() or not _has_learned(other):
            continue
        try:
            environment, cohort = read_json(path), read_json(other / "cohort.json")
        except RunError:  # a damaged folder is the logbook's to tell
            continue
        started = str(environment.get("started", ""))
        same = cohort.get("root") == root or environment.get("identity", {}).get("data") == data
        if same and started <= own:
            found.append((started, other.name, other))
    return min(found)[2] if found else None


def _has_learned(run: Path) -> bool:
    """Whether networks of this run may have said something about images; a search keeps what they said elsewhere."""
    if not (run / "cohort.json").is_file():
        return False
    return run.parent.name == "prepared" or any((run / "predictions").rglob("*.*"))


def tell_trust(scores: dict[str, Any], influence: Influence, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The scores of a run with what it scores as given; not to be trusted where something was changed.

    Args:
        scores: as in ``scores.json``.
        influence: of the run.
        given: scores under the labels as given, on all labelled images; None where they could not be predicted.
    """
    changed = influence.describe()
    if not changed:
        return scores
    section = describe_given(changed, given)
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
