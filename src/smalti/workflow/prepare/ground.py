"""A data folder after reading, decisions and audit: what experiments stand on."""

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
    check_accepted,
    find_bound_cases,
    hide_sealed,
    hold_decisions,
    join_duplicates,
    read_decisions,
    read_evidence,
    settle_decisions,
)
from ...cohort import Columns, inspect_folder
from ...errors import DataError, Problem
from ...recipe import Recipe
from ...store import now_text
from ...store.leftovers import remove_leftovers
from ...types import Action, Cohort, Content, Decision
from ..decisions.belonging import Sealing, bind_decisions, mark_decisions, read_contents, seal_cohort
from ..listening import SILENT, Listener
from ..place import check_place
from .embedding import embed_cohort

OnProblems = Literal["refuse", "skip", "report"]
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


def restrict_decisions(ground: Ground, actions: Collection[Action]) -> Ground:
    """The ground on which only decisions for these actions count; those about images that cannot be used stay.

    Raises:
        DataError: as `apply_decisions`.
    """
    usable = {s.image for s in ground.whole.samples}
    settled = settle_decisions(ground.decisions).values()
    decisions = tuple(d for d in settled if d.action in actions or d.image not in usable)
    cohort = apply_decisions(ground.whole, decisions, findings=ground.seen.findings, bound=ground.bound)
    return replace(ground, cohort=cohort, decisions=decisions)


def inspect_ground(
    data: Path,
    *,
    recipe: Recipe,
    decisions_path: Path,
    seal_path: Path | None = None,
    cache: Path | None = None,
    run: Path | None = None,
    problems: OnProblems = "refuse",
    listener: Listener = SILENT,
) -> Ground:
    """Read a data folder, apply its decisions, audit it, and accept the proposals that the recipe names.

    Images with problems stop it by default. With ``problems="skip"`` they are excluded, and that is recorded as
    decisions; with ``"report"`` they are left out of the cohort and are findings. Decisions act on the images that they
    were about (`bind_decisions`). With ``seal_path`` the cases of every seal beside it that holds images of this folder
    are set apart; a seal is made there where the recipe asks for one and there is none.
    With ``run``, a finished run on this folder, its label suspects are among the findings. With ``cache`` the audit
    has backbone features where the recipe's weights are at hand.

    Raises:
        DataError: with every problem of the folder at once; nothing is written.
        WeightsError: the weights that the recipe names cannot be had.
        RecipeError: the seal that is there is not the one that the recipe asks for, or a rule is to change labels.
        RunError: the folder of the runs, which holds ``cache``, lies inside the data folder or cannot be written to.
    """
    check_accepted(recipe.audit.accept)
    if cache is not None:
        check_place(cache.parent, data=data)
        remove_leftovers(cache.parent)
        remove_leftovers(cache, deep=True)
    decisions = read_decisions(decisions_path)
    cohort, wrong = _read_folder(data, recipe, listener=listener)
    standing = _list_standing(wrong, decisions)
    if cohort is None or (standing and problems == "refuse"):
        raise DataError(f"{data} cannot be used as it is: {len(standing)} problem(s)", wrong)
    skipped = _skip(standing, decisions, listener=listener) if problems == "skip" else ()
    for note in cohort.notes:
        listener.say(note)
    evidence = None if run is None else read_evidence(run)
    embeddings = None if cache is None else embed_cohort(cohort, recipe, cache=cache, listener=listener)
    seen = audit_cohort(
        cohort, checks=recipe.audit.checks, progress=listener.follow("audit"), problems=wrong, evidence=evidence,
        embeddings=embeddings,
    )  # fmt: skip
    unusable = {image for p in wrong for image in p.images} | {d.image for d in decisions if d.who == SKIPPED}
    contents = read_contents(cohort, seen, unusable=unusable, cache=cache)
    if skipped := mark_decisions(skipped, contents, root=cohort.root):
        append_decisions(decisions_path, skipped)
    bound, named = find_bound_cases(cohort), {s.image: s.case for s in cohort.samples}
    decisions = bind_decisions(
        (*decisions, *skipped), decisions_path, cohort, contents=contents, unusable=unusable, bound=bound,
        listener=listener,
    )  # fmt: skip
    # Joined first: an excluded image may be the only bridge between the cases of its two twins.
    sealing = Sealing(join_duplicates(cohort, seen.findings))
    if seal_path is not None:
        share = recipe.split.sealed_frac
        sealing = seal_cohort(sealing.cohort, seal_path, contents=contents, share=share, cache=cache, listener=listener)
        seen = hide_sealed(seen, sealing.cohort)
    for code, outcome in seen.outcomes.items():
        if outcome.found != 0 or outcome.reason:
            listener.say(f"audit, {code}: {outcome}")
    decisions += _accept(seen, recipe, decisions_path, contents=contents, root=cohort.root, listener=listener)
    decisions = tuple(settle_decisions(decisions).values())
    whole = sealing.cohort
    cohort = apply_decisions(whole, decisions, findings=seen.findings, bound=bound)
    return Ground(
        cohort, whole, decisions, seen, _list_standing(wrong, decisions), contents, sealing.seals, bound,
        known=decisions, cases=named,
    )  # fmt: skip


def _accept(
    seen: Audit, recipe: Recipe, path: Path, *, contents: Mapping[str, Content], root: Path, listener: Listener
) -> tuple[Decision, ...]:
    """What is decided by rule now; what a person decided while the audit ran goes before."""
    if not recipe.audit.accept:
        return ()
    with hold_decisions(path):
        accepted = accept_proposals(seen.findings, recipe.audit.accept, decided=read_decisions(path))
        if accepted := mark_decisions(accepted, contents, root=root):
            append_decisions(path, accepted)
            listener.say(f"{len(accepted)} proposal(s) accepted by rule, recorded in {path}")
    return accepted


def _read_folder(data: Path, recipe: Recipe, *, listener: Listener) -> tuple[Cohort | None, tuple[Problem, ...]]:
    columns = Columns(**recipe.data.model_dump(exclude={"licence"}))
    return inspect_folder(data, columns=columns, progress=listener.follow("read"))


def _list_standing(problems: Iterable[Problem], decisions: Iterable[Decision]) -> tuple[Problem, ...]:
    """What stands against a run: what is wrong with an image that is excluded already is no problem."""
    excluded = {image for image, d in settle_decisions(decisions).items() if d.action == "exclude"}
    return tuple(p for p in problems if not p.warning and not (p.images and set(p.images) <= excluded))


def _skip(standing: Iterable[Problem], decisions: Iterable[Decision], *, listener: Listener) -> tuple[Decision, ...]:
    """The decisions that leave out images with problems."""
    excluded = {image for image, d in settle_decisions(decisions).items() if d.action == "exclude"}
    reasons: dict[str, Problem] = {}
    for problem in standing:
        for image in set(problem.images) - excluded:
            reasons.setdefault(image, problem)
    if reasons:
        listener.say(f"{len(reasons)} image(s) with problems are left out, recorded as decisions")
    return tuple(
        Decision(image, "exclude", p.message, SKIPPED, now_text(), p.code) for image, p in sorted(reasons.items())
    )
