"""What experiments stand on: a data folder after reading, audit and decisions, and the steps from one to the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ...audit import (
    Audit,
    accept_proposals,
    append_decisions,
    apply_decisions,
    audit_cohort,
    hold_decisions,
    read_decisions,
    read_evidence,
    settle_decisions,
)
from ...cohort import Columns, inspect_folder
from ...errors import DataError, Problem
from ...project import Listener, Project
from ...recipe import Recipe
from ...store import now_text
from ...types import Action, Cohort, Content, Decision
from ..decisions.belonging import bind_decisions, find_decisions, mark_decisions
from .embedding import embed_cohort

OnProblems = Literal["refuse", "skip", "report"]
UNFIT = ("shift", "foreign")  # checks whose findings keep an unlabelled image from teaching
SKIPPED = "skip-problems"  # who decided, when images with problems were left out on request


@dataclass(frozen=True, slots=True)
class Ground:
    """A data folder after reading, decisions and audit: what an experiment stands on.

    Attributes:
        cohort: duplicates joined into one case, sealed cases set apart, decisions applied.
        whole: the same before decisions; folds are made on it, so that they do not depend on what was left out.
        decisions: the ones that apply to this folder.
        seen: the audit of the cohort as it was read.
        standing: problems of images that nobody has excluded; a run refuses them.
        contents: image -> what it holds, of all images that have a file.
        seals: files of the seals that hold images of this folder.
        bound: image -> all images of its case, where these share their label in the data as they were read.
        known: all decisions that were there, also where only some of them act.
        cases: image -> the case that the data names, before duplicates were joined; else the image itself.
    """

    cohort: Cohort
    whole: Cohort
    decisions: tuple[Decision, ...]
    seen: Audit
    standing: tuple[Problem, ...] = ()
    contents: Mapping[str, Content] = field(default_factory=dict)
    seals: tuple[Path, ...] = ()
    bound: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: tuple[Decision, ...] = ()
    cases: Mapping[str, str] = field(default_factory=dict)


def find_unfit(ground: Ground, recipe: Recipe, *, listener: Listener) -> dict[str, str]:
    """Return unlabelled image -> code of the finding for which it may not teach, whatever was decided about it.

    Empty where the recipe lets none teach. Where there are no unlabelled images, or no check has looked at them, that
    is said.
    """
    teach = {
        "pseudo-labels": recipe.train.pseudo.rounds > 0,
        "pretraining": recipe.train.pretrain.method is not None and recipe.train.pretrain.transductive,
    }
    part = " and ".join(name for name, asked in teach.items() if asked)
    if not part:
        return {}
    free = {s.image for s in ground.cohort.unlabelled}
    if not free:
        listener.say(f"{part}: there are no unlabelled images, so that none teaches")
    for code in UNFIT:
        if free and (code not in ground.seen.outcomes or ground.seen.outcomes[code].found is None):
            listener.say(f"{part}: the check {code} was not made, so that no unlabelled image is left out for it")
    findings = [finding for finding in ground.seen.findings if finding.code in UNFIT]
    return {image: finding.code for finding in findings for image in finding.images if image in free}


def restrict_decisions(ground: Ground, actions: Collection[Action]) -> Ground:
    """Return the ground on which only decisions for these actions count; those about images that cannot be used stay.

    Raises:
        DataError: as `apply_decisions`.
    """
    usable = {s.image for s in ground.whole.samples}
    settled = settle_decisions(ground.decisions).values()
    decisions = tuple(d for d in settled if d.action in actions or d.image not in usable)
    cohort = apply_decisions(ground.whole, decisions, findings=ground.seen.findings, bound=ground.bound)
    return replace(ground, cohort=cohort, decisions=decisions)


@dataclass(frozen=True, slots=True)
class FolderAsRead:
    """A data folder before anything is decided.

    Attributes:
        cohort: the images that can be used.
        wrong: problems and warnings.
        decisions: that were there already.
        skipped: decisions that leave out images with problems; on request, and not yet written.
    """

    cohort: Cohort
    wrong: tuple[Problem, ...]
    decisions: tuple[Decision, ...]
    skipped: tuple[Decision, ...]

    @property
    def unusable(self) -> set[str]:
        """Images that are not in the cohort, or that were left out for their problems."""
        return {i for p in self.wrong for i in p.images} | {d.image for d in self.decisions if d.who == SKIPPED}


def read_folder(project: Project, recipe: Recipe, *, problems: OnProblems) -> FolderAsRead:
    """Read a data folder and the decisions about it.

    Raises:
        DataError: with every problem of the folder at once, where problems refuse it.
    """
    decisions, listener = read_decisions(find_decisions(project)), project.listener
    columns = Columns(**recipe.data.name_columns())
    cohort, wrong = inspect_folder(project.data, columns=columns, progress=listener.follow("read"))
    standing = list_standing(wrong, decisions)
    if cohort is None or (standing and problems == "refuse"):
        raise DataError(f"{project.data} cannot be used as it is: {len(standing)} problem(s)", wrong)
    skipped: tuple[Decision, ...] = ()
    if problems == "skip":
        excluded, reasons = _list_excluded(decisions), dict[str, Problem]()
        for problem in standing:
            for image in set(problem.images) - excluded:
                reasons.setdefault(image, problem)
        if reasons:
            listener.say(f"{len(reasons)} image(s) with problems are left out, recorded as decisions")
        skipped = tuple(
            Decision(image, "exclude", p.message, SKIPPED, now_text(), p.code) for image, p in sorted(reasons.items())
        )
    for note in cohort.notes:
        listener.say(note)
    return FolderAsRead(cohort, wrong, decisions, skipped)


def _list_excluded(decisions: Iterable[Decision]) -> set[str]:
    return {image for image, d in settle_decisions(decisions).items() if d.action == "exclude"}


def list_standing(problems: Iterable[Problem], decisions: Iterable[Decision]) -> tuple[Problem, ...]:
    """Return what stands against a run: what is wrong with an image that is excluded already is no problem."""
    excluded = _list_excluded(decisions)
    return tuple(p for p in problems if not p.warning and not (p.images and set(p.images) <= excluded))


def audit_folder(project: Project, folder: FolderAsRead, recipe: Recipe, *, run: Path | None) -> Audit:
    """Audit a folder as it was read, with the label suspects of a finished run on it."""
    evidence = None if run is None else read_evidence(run)
    embeddings = embed_cohort(project, folder.cohort, recipe)
    return audit_cohort(
        folder.cohort, checks=recipe.audit.checks, progress=project.listener.follow("audit"), problems=folder.wrong,
        evidence=evidence, embeddings=embeddings,
    )  # fmt: skip


def bind_folder(
    project: Project, folder: FolderAsRead, contents: Mapping[str, Content], bound: Mapping[str, tuple[str, ...]]
) -> tuple[Decision, ...]:
    """Return the decisions that act on a folder; those that leave out images with problems are written now.

    Raises:
        DataError: as `bind_decisions`.
    """
    if skipped := mark_decisions(folder.skipped, contents, root=folder.cohort.root):
        append_decisions(find_decisions(project), skipped)
    return bind_decisions(
        project, (*folder.decisions, *skipped), folder.cohort, contents=contents, unusable=folder.unusable, bound=bound
    )


def accept(project: Project, seen: Audit, recipe: Recipe, *, contents: Mapping[str, Content]) -> tuple[Decision, ...]:
    """Return what is decided by rule now; what a person decided while the audit ran goes before."""
    if not recipe.audit.accept:
        return ()
    path = find_decisions(project)
    with hold_decisions(path):
        accepted = accept_proposals(seen.findings, recipe.audit.accept, decided=read_decisions(path))
        if accepted := mark_decisions(accepted, contents, root=project.data):
            append_decisions(path, accepted)
            project.listener.say(f"{len(accepted)} proposal(s) accepted by rule, recorded in {path}")
    return accepted
