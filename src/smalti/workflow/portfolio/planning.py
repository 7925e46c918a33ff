"""The plan of a run: what the recipe became for this data and this machine, why, and what it will cost.

It is settled before anything long and written to ``plan.yaml``; a run that goes on reads it there, so that the speed of
the machine on another day changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from ... import images
from ...evaluate import foresee_reach
from ...project import RUNS, SILENT, Listener, Project
from ...recipe import NO_PIXELS, Recipe, check_portfolio, load_recipe, settle_choices, settle_given, settle_portfolio
from ...records import Cost, Expectation, Plan, PlanChoice, PlanData, RunFolder, log_stage
from ...types import FeatureSpec, Split
from ..prepare.ground import Ground
from ..prepare.preparation import inspect_ground
from ..prepare.splitting import make_splits
from .candidates import CLOSING_S, Candidate, cost_recipe, read_members, settle_members
from .clock import Clock
from .forecast import measure_resident

SOURCES = {"backbone": "decision 0036", "head": "decision 0036", "embedding": "decision 0044"}


def plan_data(
    data: str | Path,
    recipe: str | Path | Recipe = "auto",
    *,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> Plan:
    """Read and audit a data folder and say what a run would do and cost; nothing is trained and no run is begun.

    Arguments are those of `smalti.run`.

    Returns:
        What ``plan.yaml`` of the run would hold.

    Raises:
        SmaltiError: as the run would.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings=settings)
    check_portfolio(recipe)  # a slip is told before anything is read
    started, project = time.monotonic(), Project(Path(data), Path(runs), listener=listener)
    ground = inspect_ground(project, recipe, problems="skip" if skip_problems else "refuse")
    recipe = settle_portfolio(recipe, features=ground.cohort.features is not None)
    splits = make_splits(ground, recipe, listener=listener)

    def used() -> float:
        return time.monotonic() - started

    if recipe.portfolio.members is None:
        members = [cost_recipe(project, recipe, ground.cohort)]
    else:
        members = settle_members(project, recipe, ground.cohort, used=used)
    return describe_plan(ground, recipe, splits, members, used_s=used())


def settle_plan(
    project: Project, run_folder: RunFolder, ground: Ground, recipe: Recipe, splits: Sequence[Split], *, clock: Clock
) -> list[Candidate]:
    """Return the members of a portfolio, from ``plan.yaml`` or as they are settled now; what is left out is said.

    Raises:
        RecipeError, RunError: as `settle_members` and `read_members`.
    """
    if (known := Plan.find(run_folder.path)) is not None:
        return read_members(recipe, known.members, where=Plan.locate(run_folder.path))
    with log_stage(run_folder.path, "plan"):
        members = settle_members(project, recipe, ground.cohort, used=lambda: clock.used_s)
        content = describe_plan(ground, recipe, splits, members, used_s=clock.used_s)
        content.write(run_folder.path)
    for member in members:
        if not member.taken:
            project.listener.say(f"{member.name} is left out: {member.reason}")
    for line in describe_forecast(content):
        project.listener.say(line)
    return members


def describe_plan(
    ground: Ground, recipe: Recipe, splits: Sequence[Split], members: Sequence[Candidate], *, used_s: float
) -> Plan:
    """Describe a plan: plain values, each choice with its reason and where its rule comes from."""
    cohort, taken = ground.cohort, [member for member in members if member.taken]
    costs = [member.forecast for member in taken if member.forecast is not None]
    cases = len({s.case for s in cohort.labelled})
    reach = foresee_reach(len(cohort.labelled), cases, confidence=recipe.evaluate.confidence)
    sizes = [] if cohort.features is not None else sorted(images.read_size(s.path) for s in cohort.labelled)
    (alone, once), (small, large) = reach.width, reach.smallest
    return Plan(
        data=PlanData(
            labelled=len(cohort.labelled),
            cases=cases,
            unlabelled=len(cohort.unlabelled),
            masks=sum(s.mask_path is not None for s in cohort.labelled),
            middle_size_px=sizes[len(sizes) // 2] if sizes else (0, 0),
            classes=dict(sorted(Counter(str(s.label) for s in cohort.labelled).items())),
        ),
        expect=Expectation(
            interval_width=(round(alone, 3), round(once, 3)),
            smallest_difference=(round(small, 3), round(large, 3)),
            reason="from images that count alone to cases that count once; for a score of 0.8 and a fifth of the "
            "images told differently",
        ),
        choices=_list_choices(recipe, splits, cohort.features),
        forecast=Cost(
            minutes=recipe.portfolio.minutes if recipe.portfolio.members is not None else 0.0,
            seconds=round(used_s + CLOSING_S + sum(m.seconds for m in taken), 1),
            memory_gb=round(measure_resident() + max((c.memory_gb for c in costs), default=0.0), 2),
            disk_gb=round(sum(c.disk_gb for c in costs), 2),
        ),
        members=tuple(member.describe() for member in members),
    )


def _list_choices(recipe: Recipe, splits: Sequence[Split], features: FeatureSpec | None) -> tuple[PlanChoice, ...]:
    """List what was derived, why, and the source of the rule."""
    folds = len({split.fold for split in splits})
    why = "asked for" if recipe.split.folds != "auto" else "the most up to 5 whose outer parts hold every class"
    rows = [
        PlanChoice(what="split.folds", value=folds, reason=why, source="Forman & Scholz 2010: scores are pooled"),
        PlanChoice(what="split.seeds", value=recipe.split.seeds, reason="as the recipe says", source="decision 0026"),
    ]
    if features is not None:
        recipe = settle_given(recipe, features)
        why = f"{NO_PIXELS}: they are taken as they are"
        rows.append(
            PlanChoice(what="backbone", value=recipe.model.backbone, reason=why, source="features made elsewhere")
        )
    for note in settle_choices([recipe])[1]:  # "backbone NAME: why", "head NAME: why"
        said, _, reason = note.partition(": ")
        what, value = said.split()[:2]
        rows.append(PlanChoice(what=what, value=value, reason=reason, source=SOURCES[what]))
    cores = psutil.cpu_count(logical=True)
    return (*rows, PlanChoice(what="threads", value=cores, reason="cores of this machine", source="torch"))


def describe_forecast(plan: Plan) -> list[str]:
    """Say what a plan expects, in two sentences: of the data, and of the machine."""
    data, cost = plan.data, plan.forecast
    (alone, once), (small, large) = plan.expect.interval_width, plan.expect.smallest_difference
    taken = [member.name for member in plan.members if member.taken]
    limit = f" of {cost.minutes:g} min" if cost.minutes else ""
    if 0 < 60 * cost.minutes < cost.seconds and len(taken) == 1:
        limit = f", more than the {cost.minutes:g} min given: no member takes less, and one is trained anyway"
    return [
        f"{data.labelled} images of {data.cases} cases: expect an interval {alone:.2f} to {once:.2f} wide; a "
        f"difference below {small:.2f} to {large:.2f} will not be seen",
        f"{len(taken)} member(s): {', '.join(taken)}; about {cost.seconds / 60:.1f} min{limit}, "
        f"{cost.memory_gb:.1f} GB memory, {cost.disk_gb:.1f} GB disk",
    ]
