"""The plan of a run: what the recipe became for this data and this machine, why, and what it will cost.

It is settled before anything long and written to ``plan.yaml``; a run that goes on reads it there, so that the speed of
the machine on another day changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from ... import images
from ...errors import RunError
from ...evaluate import foresee_reach
from ...logbook.seal import find_seal
from ...notation import read_yaml
from ...project import RUNS
from ...recipe import Recipe, check_portfolio, load_recipe, settle_choices
from ...records import RunFolder
from ...store import CACHE, hash_text, write_atomic
from ...types import Split
from ..decisions.belonging import find_decisions
from ..listening import SILENT, Listener
from ..prepare.ground import Ground, inspect_ground
from ..prepare.preparation import make_splits
from ..staging import stage
from .candidates import CLOSING_S, Candidate, cost_recipe, read_members, settle_members
from .clock import Clock
from .forecast import measure_resident

PLAN = "plan.yaml"
SOURCES = {"backbone": "decision 0036", "head": "decision 0036", "embedding": "decision 0044"}
SEAL = "hash"  # of all above it, in the last line


def plan_data(
    data: str | Path,
    recipe: str | Path | Recipe = "auto",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> dict[str, Any]:
    """Read and audit a data folder and say what a run would do and cost; nothing is trained and no run is begun.

    Arguments are those of `smalti.run`.

    Returns:
        What ``plan.yaml`` of the run would hold: ``data``, ``expect``, ``choices``, ``forecast``, ``members``.

    Raises:
        SmaltiError: as the run would.
    """
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    check_portfolio(plan)  # a slip is told before anything is read
    started, data, runs = time.monotonic(), Path(data), Path(runs)
    ground = inspect_ground(
        data, recipe=plan, decisions_path=find_decisions(data, runs=runs, listener=listener),
        seal_path=find_seal(data, runs=runs), cache=runs / CACHE,
        problems="skip" if skip_problems else "refuse", listener=listener,
    )  # fmt: skip
    splits = make_splits(ground, plan, listener=listener)

    def used() -> float:
        return time.monotonic() - started

    if plan.portfolio.members is None:
        members = [cost_recipe(plan, ground.cohort, cache=runs / CACHE, listener=listener)]
    else:
        members = settle_members(plan, ground.cohort, cache=runs / CACHE, used=used, listener=listener)
    return describe_plan(ground, plan, splits, members, used_s=used())


def settle_plan(
    run_folder: RunFolder,
    ground: Ground,
    plan: Recipe,
    splits: Sequence[Split],
    *,
    cache: Path,
    clock: Clock,
    listener: Listener,
) -> list[Candidate]:
    """The members of a portfolio, as ``plan.yaml`` has them or as they are settled now; what is left out is said.

    Raises:
        RecipeError, RunError: as `settle_members` and `read_members`.
    """
    path = run_folder.path / PLAN
    if path.is_file():
        content = read_yaml(path, kind="plan", fix="give this run another --name")
        if not isinstance(content, dict) or content.pop(SEAL, None) != hash_text(_spell(content)):
            raise RunError(
                f"{path} is not the plan that this run began with: what is chosen by hand after scores are known "
                "would be chosen by them. Fix: bring it back, or give this run another --name"
            )
        return read_members(plan, content.get("members"), where=path)
    with stage(run_folder, "plan"):
        members = settle_members(plan, ground.cohort, cache=cache, used=lambda: clock.used_s, listener=listener)
        content = describe_plan(ground, plan, splits, members, used_s=clock.used_s)
        text = _spell(content)
        write_atomic(path, text + f"{SEAL}: {hash_text(text)}\n")
    for member in members:
        if not member.taken:
            listener.say(f"{member.name} is left out: {member.reason}")
    for line in describe_forecast(content):
        listener.say(line)
    return members


def _spell(content: dict[str, Any]) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text


def describe_plan(
    ground: Ground, plan: Recipe, splits: Sequence[Split], members: Sequence[Candidate], *, used_s: float
) -> dict[str, Any]:
    """What ``plan.yaml`` holds: plain values, each choice with its reason and where its rule comes from."""
    cohort, taken = ground.cohort, [member for member in members if member.taken]
    costs = [member.forecast for member in taken if member.forecast is not None]
    cases = len({s.case for s in cohort.labelled})
    reach = foresee_reach(len(cohort.labelled), cases, confidence=plan.evaluate.confidence)
    sizes = sorted(images.read_size(s.path) for s in cohort.labelled)
    return {
        "data": {
            "labelled": len(cohort.labelled), "cases": cases, "unlabelled": len(cohort.unlabelled),
            "masks": sum(s.mask_path is not None for s in cohort.labelled),
            "middle_size_px": list(sizes[len(sizes) // 2]),
            "classes": dict(sorted(Counter(str(s.label) for s in cohort.labelled).items())),
        },
        "expect": {
            "interval_width": [round(w, 3) for w in reach.width],
            "smallest_difference": [round(d, 3) for d in reach.smallest],
            "reason": "from images that count alone to cases that count once; for a score of 0.8 and a fifth of the "
            "images told differently",
        },
        "choices": _list_choices(plan, splits),
        "forecast": {
            "minutes": plan.portfolio.minutes if plan.portfolio.members is not None else 0.0,
            "seconds": round(used_s + CLOSING_S + sum(m.seconds for m in taken), 1),
            "memory_gb": round(measure_resident() + max((c.memory_gb for c in costs), default=0.0), 2),
            "disk_gb": round(sum(c.disk_gb for c in costs), 2),
        },
        "members": [member.describe() for member in members],
    }  # fmt: skip


def _list_choices(plan: Recipe, splits: Sequence[Split]) -> list[dict[str, Any]]:
    """What was derived, why, and the source of the rule."""
    folds = len({split.fold for split in splits})
    asked = plan.split.folds != "auto"
    notes = [note.partition(": ") for note in settle_choices([plan])[1]]  # "backbone NAME: why", "head NAME: why"
    rows: list[tuple[str, Any, str, str]] = [
        (
            "split.folds", folds, "asked for" if asked else "the most up to 5 whose outer parts hold every class",
            "Forman & Scholz 2010: scores are pooled",
        ),
        ("split.seeds", list(plan.split.seeds), "as the recipe says", "decision 0026"),
        *((said.split()[0], said.split()[1], why, SOURCES[said.split()[0]]) for said, _, why in notes),
        ("threads", psutil.cpu_count(logical=True), "cores of this machine", "torch"),
    ]  # fmt: skip
    return [{"what": w, "value": v, "reason": r, "source": s} for w, v, r, s in rows]


def describe_forecast(content: dict[str, Any]) -> list[str]:
    """What a plan expects, in two sentences: of the data, and of the machine."""
    data, expect, cost = content["data"], content["expect"], content["forecast"]
    (alone, once), (small, large) = expect["interval_width"], expect["smallest_difference"]
    taken = [row["name"] for row in content["members"] if row["taken"]]
    limit = f" of {cost['minutes']:g} min" if cost["minutes"] else ""
    return [
        f"{data['labelled']} images of {data['cases']} cases: expect an interval {alone:.2f} to {once:.2f} wide; a "
        f"difference below {small:.2f} to {large:.2f} will not be seen",
        f"{len(taken)} member(s): {', '.join(taken)}; about {cost['seconds'] / 60:.1f} min{limit}, "
        f"{cost['memory_gb']:.1f} GB memory, {cost['disk_gb']:.1f} GB disk",
    ]
