"""A portfolio: many members in one run, each trained in the same folds, weighed on inner cases, scored together.

Every member is a run folder of its own inside the run. What is chosen, which members count how much, is chosen on the
cases of each fold that do not score; the score is that of the whole procedure on the cases that had no say.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ...errors import DivergenceError, PartError, RecipeError, RunError, WeightsError
from ...evaluate import score_units
from ...project import Listener, Project
from ...recipe import AUTO, Recipe, load_portfolio
from ...records import (
    HEADLINE,
    CohortRecord,
    Done,
    Ensemble,
    Influence,
    MemberRow,
    RunFolder,
    Scores,
    log_event,
    log_stage,
    write_members,
)
from ...records.layout import EMBEDDINGS, INNER, MEMBER_RUNS, MODEL, OUT_OF_FOLD, SEALED, TEST
from ...store import hash_text
from ...types import Cohort
from ..decisions.influence import tell_trust
from ..handing import hand_on
from ..networks import predict, train_networks
from ..prepare.adoption import take_file
from ..prepare.ground import Ground
from ..prepare.preparation import begin_combined
from ..prepare.units import read_unit
from ..units.ahead import predict_ahead
from .blending import blend_members
from .candidates import Candidate
from .clock import Clock
from .planning import settle_plan

LATE = 1.5  # a member is begun while what it needs is at most so much more than what is left


def run_portfolio(
    project: Project, ground: Ground, recipe: Recipe, *, name: str | None = None, started: float
) -> RunFolder:
    """Train the members that fit the data and the time, and write the predictions that they make together.

    Raises:
        RecipeError: as `settle_members`.
        RunError: the run folder holds another recipe, or no member could be finished.
    """
    from ...models import find_weights

    if recipe.model.backbone != AUTO:
        find_weights(recipe.model)  # a slip in a name is told before a run is begun
    recipes = hash_text(*(f"{member.name} {own.to_yaml()}" for member, own in load_portfolio(recipe)))
    run_folder, splits, influence = begin_combined(project, ground, recipe, name=name, stands_on=recipes)
    listener = project.listener
    clock = Clock.open(run_folder.path, started=started)
    whole = Scores.locate(run_folder.path).is_file()  # what is only read again has taken its time
    with nullcontext(listener) if whole else clock.running(listener) as heard:
        timed = replace(project, listener=heard)
        members = settle_plan(timed, run_folder, ground, recipe, splits, clock=clock)
        rows = _run_members(timed, members, ground, run_folder, clock=clock)
        finished = [row.member for row in rows if row.status == "done"]
        folders = [run_folder.path / MEMBER_RUNS / member for member in finished]
        blend_members(run_folder, ground, recipe, folders, influence=influence, listener=heard)
        # The embeddings of the first member that has some, to compare images by.
        source = next((folder for folder in folders if (folder / EMBEDDINGS).is_file()), None)
        if source is not None and not (run_folder.path / EMBEDDINGS).is_file():
            take_file(EMBEDDINGS, RunFolder(source), run_folder)
        _write_members(run_folder, rows, listener=listener)
    return run_folder


def _run_members(
    project: Project, members: Sequence[Candidate], ground: Ground, run_folder: RunFolder, *, clock: Clock
) -> list[MemberRow]:
    """Train the members in their order while there is time, the cheapest in any case; rows of the table.

    Raises:
        RunError: none could be finished.
    """
    said, rows = set[str](), list[MemberRow]()
    for number, member in enumerate(members):
        done = any(row.status == "done" for row in rows)
        rest = [m.seconds for m in members[number:] if m.taken]
        # Where nothing is done yet, the cheapest of what is left has its turn whatever the time.
        late = done or member.seconds > min(rest, default=0.0)
        rows.append(_run_member(project, member, ground, run_folder, clock=clock, said=said, late=late))
    if not any(row.status == "done" for row in rows):
        reasons = "; ".join(f"{row.member}: {row.reason}" for row in rows)
        raise RunError(f"no member of the portfolio was finished ({reasons})", fix="see there")
    return rows


def _run_member(
    project: Project,
    member: Candidate,
    ground: Ground,
    run_folder: RunFolder,
    *,
    clock: Clock,
    said: set[str],
    late: bool,
) -> MemberRow:
    """Train and score one member, or pass it over; its row of the table. What several members say is passed on once.

    With ``late`` it is passed over where what is left of the time is too short for it; without, it is trained even so.
    """
    from ...model import find_obstacle

    listener = project.listener
    row = MemberRow(member=member.name, reason=member.reason, forecast_s=round(member.seconds, 1))
    if not member.taken:
        return row
    folder, minutes = run_folder.path / MEMBER_RUNS / member.name, run_folder.read_recipe().portfolio.minutes
    known = _read_done(folder, ground.cohort)
    if known is not None and ((folder / MODEL).is_dir() or find_obstacle(member.recipe)):
        return row.model_copy(update={"status": "done", "reason": "", "seconds": known})
    left = 60 * minutes - clock.used_s
    # A member that was finished before models were written gets its model now; nothing of it is trained again.
    if known is None and minutes and member.seconds > LATE * left:
        reason = f"about {member.seconds:.0f} s, {max(0.0, left):.0f} s were left when its turn came"
        if late:
            listener.say(f"{member.name} is left out: {reason}")
            return row.model_copy(update={"reason": reason})
        listener.say(f"{member.name} is trained all the same ({reason}): no member is done, and none left is cheaper")
    began = time.monotonic()

    def say(text: str) -> None:
        log_event(run_folder.path, "said", member=member.name, text=text)
        if text not in said and not text.startswith("scored by "):
            said.add(text)
            listener.say(f"{member.name}: {text}")

    quiet = replace(listener, say=say)
    try:
        with log_stage(run_folder.path, f"member {member.name}"):
            name = folder.relative_to(project.runs).as_posix()
            experiment = train_networks(replace(project, listener=quiet), ground, member.recipe, name=name)
            predict_ahead(replace(project, listener=quiet), experiment)
            predict(experiment, listener=quiet)
            hand_on(experiment.run, experiment, None, runs=project.runs, listener=quiet)
    except (DivergenceError, PartError, RecipeError, WeightsError) as error:  # of this member alone
        listener.say(f"{member.name} failed and is left out: {error}")
        return row.model_copy(update={"status": "failed", "reason": str(error)})
    seconds = known or round(time.monotonic() - began, 1)
    Done(seconds=seconds).write(folder)
    return row.model_copy(update={"status": "done", "reason": "", "seconds": seconds})


def _read_done(folder: Path, cohort: Cohort) -> float | None:
    """Seconds that a finished member took; None where it is not finished, or a table of it is gone."""
    tables = [OUT_OF_FOLD, INNER, *([TEST] if cohort.unlabelled else []), *([SEALED] if cohort.sealed else [])]
    if not all((folder / table).is_file() for table in tables):
        return None
    with suppress(RunError):
        done = Done.find(folder)
        return None if done is None else done.seconds
    return None


def _write_members(run_folder: RunFolder, rows: list[MemberRow], *, listener: Listener) -> None:
    """Write ``members.csv``: how much each member counts, and what it scores alone."""
    classes, recipe = CohortRecord.read(run_folder.path).classes, run_folder.read_recipe()
    scoring, cases = read_unit(run_folder.path)
    record = Ensemble.read(run_folder.path).folds
    weights = pd.DataFrame([row.weights or {} for row in record]).mean()
    for number, row in enumerate(rows):
        if row.status != "done":
            continue
        member = RunFolder(run_folder.path / MEMBER_RUNS / row.member)
        scores = score_units(
            member.read_out_of_fold(), scoring, classes=classes, cases=cases, inner=member.read_inner(),
            confidence=recipe.evaluate.confidence,
        )  # fmt: skip
        scores = tell_trust(scores, Influence.read(member.path), None)
        scores.write(member.path)
        score, inner = scores.headline, scores.inner
        found = {"weight": weights.get(row.member), "macro_f1": score.value, "low": score.low, "high": score.high}
        rows[number] = row.model_copy(update=found | {"inner_macro_f1": inner and inner[HEADLINE]})
    write_members(run_folder.path, rows)
    if len(weights):
        shares = ", ".join(f"{row.member} {row.weight:.2f}" for row in rows if row.status == "done")
        notes = "; ".join(dict.fromkeys(row.note for row in record if row.note))
        listener.say(
            f"shares of the members, by inner cases ({recipe.ensemble.method}{notes and '; ' + notes}): {shares}"
        )
