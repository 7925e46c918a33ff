"""A portfolio: many members in one run, each trained in the same folds, weighed on inner cases, scored together.

Every member is a run folder of its own inside the run. What is chosen, which members count how much, is chosen on the
cases of each fold that do not score; the score is that of the whole procedure on the cases that had no say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ..audit import EMBEDDINGS_NAME
from ..errors import DivergenceError, RunError
from ..evaluate import score_predictions
from ..notation import read_yaml
from ..recipe import Recipe
from ..runs import CACHE, RunFolder, open_run, read_json, write_atomic, write_json, write_table
from .blending import blend_members
from .candidates import Candidate, read_members, settle_members
from .clock import Clock
from .forecast import measure_resident
from .ground import Ground
from .influence import record_influence
from .listening import Listener
from .networks import predict, train_networks
from .preparation import check_rules, identify, make_splits, name_run, record_plan
from .staging import stage

PLAN = "plan.yaml"
MEMBERS = "members"  # folder of the members inside the run
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
    check_rules(plan)
    identity = identify(ground, cache=runs / CACHE)
    run_folder = open_run(runs / (name or name_run(ground, plan)), recipe=plan, identity=identity)
    record_plan(run_folder, ground, make_splits(ground, plan, listener=listener))
    influence = record_influence(run_folder, ground, runs=runs, data=identity["data"])
    clock = Clock.open(run_folder.path, started=started)
    with clock.running(listener) as heard:
        members = _settle_plan(run_folder, ground, plan, cache=runs / CACHE, clock=clock, listener=heard)
        rows = [
            _run_member(member, ground, run_folder, runs=runs, clock=clock, listener=heard)
            for member in members
        ]  # fmt: skip
        finished = [row["member"] for row in rows if row["status"] == "done"]
        if not finished:
            reasons = "; ".join(f"{row['member']}: {row['reason']}" for row in rows)
            raise RunError(f"no member of the portfolio was finished ({reasons}). Fix: more --minutes")
        folders = [run_folder.path / MEMBERS / member for member in finished]
        blend_members(run_folder, ground, plan, folders, influence=influence, listener=heard)
        _take_embeddings(run_folder, folders)
        _write_members(run_folder, rows, listener=listener)
    return run_folder


def _settle_plan(
    run_folder: RunFolder, ground: Ground, plan: Recipe, *, cache: Path, clock: Clock, listener: Listener
) -> list[Candidate]:
    """The members, as ``plan.yaml`` has them or as they are settled now; what it says is said."""
    path = run_folder.path / PLAN
    if path.is_file():
        content = read_yaml(path, kind="plan", fix="give this run another --name")
        rows = content.get("members") if isinstance(content, dict) else None
        return read_members(plan, rows, where=path)
    with stage(run_folder, "plan"):
        members = settle_members(plan, ground.cohort, cache=cache, used_s=clock.used_s, listener=listener)
        write_atomic(path, yaml.safe_dump(_describe_plan(members, plan, clock), sort_keys=False, allow_unicode=True))
    for member in members:
        if not member.taken:
            listener.say(f"{member.name}: {member.reason}")
    return members


def _run_member(
    member: Candidate, ground: Ground, run_folder: RunFolder, *, runs: Path, clock: Clock, listener: Listener
) -> dict[str, Any]:
    """Train and score one member, or pass it over; its row of the table."""
    row: dict[str, Any] = {"member": member.name, "status": "left out", "reason": member.reason}
    row |= {"forecast_s": round(member.seconds, 1), "seconds": None}
    if not member.taken:
        return row
    folder, minutes = run_folder.path / MEMBERS / member.name, member.recipe.portfolio.minutes
    if (known := _read_done(folder)) is not None:
        return row | {"status": "done", "reason": "", "seconds": known}
    left = 60 * minutes - clock.used_s
    if minutes and member.seconds > LATE * left:
        reason = f"left out: about {member.seconds:.0f} s, {max(0.0, left):.0f} s were left when its turn came"
        listener.say(f"{member.name}: {reason}")
        return row | {"reason": reason}
    began = time.monotonic()
    quiet = replace(listener, say=lambda text: run_folder.log("said", member=member.name, text=text))
    try:
        with stage(run_folder, f"member {member.name}"):
            name = folder.relative_to(runs).as_posix()
            experiment, splits = train_networks(ground, member.recipe, runs=runs, name=name, listener=quiet)
            predict(experiment, splits, listener=quiet)
    except DivergenceError as error:
        listener.say(f"{member.name} is left out: {error}")
        return row | {"status": "failed", "reason": str(error)}
    seconds = round(time.monotonic() - began, 1)
    write_json(folder / "done.json", {"seconds": seconds})
    return row | {"status": "done", "reason": "", "seconds": seconds}


def _read_done(folder: Path) -> float | None:
    """Seconds that a finished member took; None where it is not finished."""
    if not (folder / "done.json").is_file() or not (folder / "predictions" / "out_of_fold.csv").is_file():
        return None
    with suppress(RunError, TypeError, ValueError):
        return float(read_json(folder / "done.json", "seconds")["seconds"])
    return None


def _take_embeddings(run_folder: RunFolder, folders: Sequence[Path]) -> None:
    """The embeddings of the first member that has some, to compare images by."""
    target = run_folder.predictions / EMBEDDINGS_NAME
    source = next((p for f in folders if (p := f / "predictions" / EMBEDDINGS_NAME).is_file()), None)
    if source is not None and not target.is_file():
        os.link(source, target)


def _write_members(run_folder: RunFolder, rows: list[dict[str, Any]], *, listener: Listener) -> None:
    """Write ``members.csv``: how much each member counts, and what it scores alone."""
    classes, plan = run_folder.read_classes(), run_folder.read_recipe()
    weights = pd.DataFrame([row["weights"] for row in read_json(run_folder.predictions / "ensemble.json")]).mean()
    for row in rows:
        if row["status"] != "done":
            continue
        member = RunFolder(run_folder.path / MEMBERS / row["member"])
        scores = score_predictions(
            member.read_out_of_fold(), classes=classes, inner=member.read_inner(), confidence=plan.evaluate.confidence
        )
        write_json(member.path / "scores.json", scores)
        metric, inner = scores["metrics"]["macro_f1"], scores["inner"]
        row |= {"weight": float(weights[row["member"]]), "macro_f1": metric["value"]}
        row |= {"low": metric["low"], "high": metric["high"], "inner_macro_f1": inner and inner["macro_f1"]}
    write_table(run_folder.path / TABLE, pd.DataFrame(rows, columns=list(COLUMNS)))
    said = ", ".join(f"{row['member']} {row['weight']:.2f}" for row in rows if row["status"] == "done")
    listener.say(f"weights of the members, chosen on inner cases: {said}")


def _describe_plan(members: Sequence[Candidate], plan: Recipe, clock: Clock) -> dict[str, Any]:
    """What ``plan.yaml`` holds."""
    taken = [member for member in members if member.taken]
    memory = max((m.forecast.memory_gb for m in taken if m.forecast is not None), default=0.0)
    return {
        "minutes": plan.portfolio.minutes,
        "forecast": {
            "seconds": round(clock.used_s + sum(m.seconds for m in taken), 1),
            "memory_gb": round(measure_resident() + memory, 2),
            "disk_gb": round(sum(m.forecast.disk_gb for m in taken if m.forecast is not None), 2),
        },
        "members": [member.describe() for member in members],
    }
