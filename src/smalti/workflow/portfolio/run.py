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
from typing import Any

import pandas as pd

from ...audit import EMBEDDINGS_NAME
from ...errors import DivergenceError, PartError, RecipeError, RunError, WeightsError
from ...evaluate import score_units
from ...recipe import AUTO, Recipe, load_portfolio
from ...records import RunFolder, open_run
from ...store import CACHE, hash_text, read_json, write_json, write_table
from ...types import Cohort
from ..decisions.influence import read_influence, record_influence, tell_trust
from ..listening import Listener
from ..networks import predict, train_networks
from ..place import MEMBERS
from ..prepare.ground import Ground
from ..prepare.preparation import check_rules, identify, make_splits, name_run, record_plan, take_file
from ..prepare.units import read_unit, settle_unit
from ..staging import stage
from .blending import blend_members
from .candidates import Candidate
from .clock import Clock
from .planning import settle_plan

TABLE = "members.csv"
COLUMNS = ("member", "status", "reason", "forecast_s", "seconds", "weight", "macro_f1", "low", "high", "inner_macro_f1")
LATE = 1.5  # a member is begun while what it needs is at most so much more than what is left


def run_portfolio(
    ground: Ground, plan: Recipe, *, runs: Path, name: str | None, started: float, listener: Listener
) -> RunFolder:
    """Train the members that fit the data and the time, and write the predictions that they make together.

    Raises:
        RecipeError: as `settle_members`.
        RunError: the run folder holds another plan, or no member could be finished.
    """
    from ...models import find_weights

    check_rules(plan)
    if plan.model.backbone != AUTO:
        find_weights(plan.model)  # a slip in a name is told before a run is begun
    scoring = settle_unit(ground, plan)
    listener.say(f"scored by {scoring.unit}: {scoring.reason}")
    listed = load_portfolio(plan)
    recipes = hash_text(*(f"{member.name} {recipe.to_yaml()}" for member, recipe in listed))
    identity = identify(ground, cache=runs / CACHE) | {"members": recipes}
    run_folder = open_run(runs / (name or name_run(ground, plan)), recipe=plan, identity=identity)
    splits = make_splits(ground, plan, listener=listener)
    record_plan(run_folder, ground, splits, scoring=scoring)
    influence = record_influence(run_folder, ground, runs=runs, data=identity["data"])
    clock = Clock.open(run_folder.path, started=started)
    whole = (run_folder.path / "scores.json").is_file()  # what is only read again has taken its time
    with nullcontext(listener) if whole else clock.running(listener) as heard:
        members = settle_plan(run_folder, ground, plan, splits, cache=runs / CACHE, clock=clock, listener=heard)
        rows = _run_members(members, ground, run_folder, runs=runs, clock=clock, listener=heard)
        finished = [row["member"] for row in rows if row["status"] == "done"]
        folders = [run_folder.path / MEMBERS / member for member in finished]
        blend_members(run_folder, ground, plan, folders, influence=influence, listener=heard)
        _take_embeddings(run_folder, folders)
        _write_members(run_folder, rows, listener=listener)
    return run_folder


def _run_members(
    members: Sequence[Candidate],
    ground: Ground,
    run_folder: RunFolder,
    *,
    runs: Path,
    clock: Clock,
    listener: Listener,
) -> list[dict[str, Any]]:
    """Train the members in their order while there is time, the cheapest in any case; rows of the table.

    Raises:
        RunError: none could be finished.
    """
    said, rows = set[str](), list[dict[str, Any]]()
    for number, member in enumerate(members):
        done = any(row["status"] == "done" for row in rows)
        rest = [m.seconds for m in members[number:] if m.taken]
        # Where nothing is done yet, the cheapest of what is left has its turn whatever the time.
        late = done or member.seconds > min(rest, default=0.0)
        row = _run_member(member, ground, run_folder, runs=runs, clock=clock, listener=listener, said=said, late=late)
        rows.append(row)
    if not any(row["status"] == "done" for row in rows):
        reasons = "; ".join(f"{row['member']}: {row['reason']}" for row in rows)
        raise RunError(f"no member of the portfolio was finished ({reasons}). Fix: see there")
    return rows


def _run_member(
    member: Candidate,
    ground: Ground,
    run_folder: RunFolder,
    *,
    runs: Path,
    clock: Clock,
    listener: Listener,
    said: set[str],
    late: bool,
) -> dict[str, Any]:
    """Train and score one member, or pass it over; its row of the table. What several members say is passed on once.

    With ``late`` it is passed over where what is left of the time is too short for it; without, it is trained even so.
    """
    row: dict[str, Any] = {"member": member.name, "status": "left out", "reason": member.reason}
    row |= {"forecast_s": round(member.seconds, 1), "seconds": None}
    if not member.taken:
        return row
    folder, minutes = run_folder.path / MEMBERS / member.name, run_folder.read_recipe().portfolio.minutes
    if (known := _read_done(folder, ground.cohort)) is not None:
        return row | {"status": "done", "reason": "", "seconds": known}
    left = 60 * minutes - clock.used_s
    if minutes and member.seconds > LATE * left:
        reason = f"about {member.seconds:.0f} s, {max(0.0, left):.0f} s were left when its turn came"
        if late:
            listener.say(f"{member.name} is left out: {reason}")
            return row | {"reason": reason}
        listener.say(f"{member.name} is trained all the same ({reason}): no member is done, and none left is cheaper")
    began = time.monotonic()

    def say(text: str) -> None:
        run_folder.log("said", member=member.name, text=text)
        if text not in said and not text.startswith("scored by "):
            said.add(text)
            listener.say(f"{member.name}: {text}")

    quiet = replace(listener, say=say)
    try:
        with stage(run_folder, f"member {member.name}"):
            name = folder.relative_to(runs).as_posix()
            experiment, splits = train_networks(ground, member.recipe, runs=runs, name=name, listener=quiet)
            predict(experiment, splits, listener=quiet)
    except (DivergenceError, PartError, RecipeError, WeightsError) as error:  # of this member alone
        listener.say(f"{member.name} failed and is left out: {error}")
        return row | {"status": "failed", "reason": str(error)}
    seconds = round(time.monotonic() - began, 1)
    write_json(folder / "done.json", {"seconds": seconds})
    return row | {"status": "done", "reason": "", "seconds": seconds}


def _read_done(folder: Path, cohort: Cohort) -> float | None:
    """Seconds that a finished member took; None where it is not finished, or a table of it is gone."""
    tables = ["out_of_fold", "inner", *(["test"] if cohort.unlabelled else []), *(["sealed"] if cohort.sealed else [])]
    files = [folder / "done.json", *(folder / "predictions" / f"{table}.csv" for table in tables)]
    if not all(file.is_file() for file in files):
        return None
    with suppress(RunError, TypeError, ValueError):
        return float(read_json(folder / "done.json", "seconds")["seconds"])
    return None


def _take_embeddings(run_folder: RunFolder, folders: Sequence[Path]) -> None:
    """The embeddings of the first member that has some, to compare images by."""
    target = run_folder.predictions / EMBEDDINGS_NAME
    source = next((p for f in folders if (p := f / "predictions" / EMBEDDINGS_NAME).is_file()), None)
    if source is not None and not target.is_file():
        take_file(source, target)


def _write_members(run_folder: RunFolder, rows: list[dict[str, Any]], *, listener: Listener) -> None:
    """Write ``members.csv``: how much each member counts, and what it scores alone."""
    classes, plan = run_folder.read_classes(), run_folder.read_recipe()
    scoring, cases = read_unit(run_folder.path)
    record = read_json(run_folder.predictions / "ensemble.json")
    weights = pd.DataFrame([row["weights"] or {} for row in record]).mean()
    for row in rows:
        if row["status"] != "done":
            continue
        member = RunFolder(run_folder.path / MEMBERS / row["member"])
        scores = score_units(
            member.read_out_of_fold(), scoring, classes=classes, cases=cases, inner=member.read_inner(),
            confidence=plan.evaluate.confidence,
        )  # fmt: skip
        scores = tell_trust(scores, read_influence(member.path), None)
        write_json(member.path / "scores.json", scores)
        metric, inner = scores["metrics"]["macro_f1"], scores["inner"]
        row |= {"weight": weights.get(row["member"]), "macro_f1": metric["value"]}
        row |= {"low": metric["low"], "high": metric["high"], "inner_macro_f1": inner and inner["macro_f1"]}
    write_table(run_folder.path / TABLE, pd.DataFrame(rows, columns=list(COLUMNS)))
    if len(weights):
        shares = ", ".join(f"{row['member']} {row['weight']:.2f}" for row in rows if row["status"] == "done")
        notes = "; ".join(dict.fromkeys(row["note"] for row in record if row["note"]))
        listener.say(
            f"shares of the members, by inner cases ({plan.ensemble.method}{notes and '; ' + notes}): {shares}"
        )
