"""Search, then say what it was worth and how sensitive the result is."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from .. import workflow
from ..errors import RecipeError, RunError
from ..evaluate import score_units
from ..logbook.seal import find_seal
from ..project import RUNS
from ..recipe import Recipe, settle_choices
from ..stats import pool_predictions
from ..store import hash_text, now_text, write_atomic, write_json, write_table
from ..store.leftovers import remove_leftovers
from ..types import Split
from ..workflow import SILENT, Ground, Listener
from ..workflow.comparison import tabulate_comparison
from ..workflow.decisions.influence import describe_given, read_influence
from ..workflow.prepare.preparation import identify
from ..workflow.prepare.units import settle_unit
from .curves import COLUMNS, find_idle, judge_flatness, measure_noise, trace_curves
from .idle import find_idle_knobs, find_idle_trials, turn_knob
from .search import STUDIES_SHARE, WHOLE, Search, Studies, name_steps, tabulate_trials
from .sensitivity import LEAST_TRIALS, LEVEL, Effect, level_scores, measure_effects, measure_interactions
from .space import Space, load_space
from .trial import Bench

SETTLED = ("backbone", "head", "embedding")  # knobs of the model whose auto is settled for all trials
CURVE_SEEDS = 3
TUNED, UNTUNED = "tuned", "untuned"


def tune_recipe(
    data: str | Path,
    space: str | Path = "transfer",
    *,
    search: Search | None = None,
    settings: Iterable[str] = (),
    runs: str | Path = RUNS,
    curve_seeds: int = CURVE_SEEDS,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> tuple[Path, dict[str, Any]]:
    """Search a space on a data folder; an interrupted search goes on where it was.

    Args:
        data: the data folder.
        space: name of a built-in space, or a space file.
        search: how; by default 30 trials of TPE for each study.
        settings: ``section.knob=value`` for all trials, below the space's knobs.
        runs: folder of all runs; the search has its own folder in it.
        curve_seeds: trainings at each point of a curve; 0 draws none. Points for which ``search.minutes`` left no time
            are measured by a later call.
        skip_problems: leave out images with problems.

    Returns:
        The search's folder and the content of its ``tune.json``; ``recipe.yaml`` there is the tuned recipe.

    Raises:
        RecipeError: the space does not fit together; before anything is run.
        SplitError: too few cases for folds inside of folds.
    """
    data, runs, settings = Path(data), Path(runs), tuple(settings)
    search = search or Search()
    chosen = load_space(space)
    settings = _settle(chosen, settings, listener=listener)
    plan = chosen.build_recipe({}, settings)
    if not data.is_dir():
        raise RunError(f"no data folder at {data}. Fix: check the path, or 'smalti demo' to draw one")
    ground = workflow.inspect_ground(
        data, recipe=plan, decisions_path=workflow.find_decisions(data, runs=runs, listener=listener),
        seal_path=find_seal(data, runs=runs), cache=runs / "cache",
        problems="skip" if skip_problems else "refuse", listener=listener,
    )  # fmt: skip
    asked = hash_text(chosen.model_dump_json(), plan.to_yaml(), str(search.folds), search.sampler)
    name = f"{data.resolve().name}-tune-{Path(space).stem}-{hash_text(asked, *_identify(ground, runs))[:6]}"
    bench = Bench(ground, runs, runs / name, plan, listener)
    bench.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(bench.folder, deep=True)
    _, splits = bench.prepare(plan)
    bench.check_choices(_list_choices(chosen, settings))
    chosen, idle = _leave_out_idle(chosen, bench, settings)
    studies = Studies(chosen, search, bench, settings, listener)
    started, seconds = time.monotonic(), float("inf") if search.minutes is None else 60 * search.minutes
    share = STUDIES_SHARE if curve_seeds > 0 else 1.0
    found = studies.run(splits, images=len(ground.cohort.labelled), deadline=started + share * seconds)
    result = _conclude(
        studies, found, idle, splits=splits, plan=plan, curve_seeds=curve_seeds, deadline=started + seconds
    )
    return bench.folder, result


def _settle(space: Space, settings: tuple[str, ...], *, listener: Listener) -> tuple[str, ...]:
    """The settings with what ``auto`` stands for in all trials alike, which is said; the knobs lie above them."""
    plain = space.build_recipe({}, settings)
    turned = [recipe for knob in space.knobs for recipe in turn_knob(space, knob, settings)]
    (settled, *_), notes = settle_choices([plain, *turned])
    for note in notes:
        listener.say(note)
    found = {name: (getattr(plain.model, name), getattr(settled.model, name)) for name in SETTLED}
    return (*settings, *(f"model.{name}={after}" for name, (before, after) in found.items() if after != before))


def _leave_out_idle(space: Space, bench: Bench, settings: tuple[str, ...]) -> tuple[Space, dict[str, str]]:
    """The space without knobs that can do nothing on this data, and why, which is said."""
    idle = find_idle_knobs(space, bench, settings)
    for name, reason in idle.items():
        bench.listener.say(f"{name} is left out of the search: {reason}, so that its values are one function here")
    left = tuple(knob for knob in space.knobs if knob.knob not in idle)
    if not left:
        raise RecipeError(
            f"no knob of the space does anything on this data ({'; '.join(f'{k}: {r}' for k, r in idle.items())}). "
            "Fix: another --space"
        )
    return space.model_copy(update={"knobs": left}), idle


def _list_choices(space: Space, settings: tuple[str, ...]) -> Iterator[Recipe]:
    """The recipe with each choice of each knob, one at a time; such as need another knob's help are left out."""
    for knob in space.knobs:
        for value in knob.choices:
            with suppress(RecipeError):
                yield space.build_recipe({knob.knob: value}, settings)


def _identify(ground: Ground, runs: Path) -> list[str]:
    return [value for _, value in sorted(identify(ground, cache=runs / "cache").items())]


def _conclude(
    studies: Studies,
    found: dict[str, optuna.Study],
    idle: dict[str, str],
    *,
    splits: tuple[Split, ...],
    plan: Recipe,
    curve_seeds: int,
    deadline: float,
) -> dict[str, Any]:
    """Score what was chosen on the folds that did not choose, measure the knobs, write it all down."""
    bench, space = studies.bench, studies.space
    best = {name: _choose(name, study) for name, study in found.items()}
    outer = _score_outer(studies, best, splits=splits, plan=plan)
    trials = tabulate_trials(found, space.names, folds=studies.search.folds)
    write_table(bench.folder / "trials.csv", trials)
    done = level_scores(trials, steps=name_steps(studies.search.folds))
    enough = len(done) >= LEAST_TRIALS
    final = best[WHOLE].params
    recipe = space.build_recipe(final, studies.settings)
    write_atomic(bench.folder / "recipe.yaml", recipe.to_yaml())
    curves = _trace(studies, final, seeds=curve_seeds, deadline=deadline)
    flat = judge_flatness(curves) if curves is not None else {}
    same = [] if curves is None else find_idle(curves)
    same += find_idle_trials(done, space, steps=name_steps(studies.search.folds))
    idle = dict.fromkeys(same, "every value had the very same scores, all else equal") | idle
    inner = float(np.mean([best[split.name].value for split in splits]))
    result = {
        "about": space.about,
        "finished": now_text(),
        "search": asdict(studies.search),
        "knobs": [knob.model_dump(mode="json") for knob in space.knobs],
        "studies": [
            {"study": name, "trials": int((trials["study"] == name).sum()), "value": t.value, "params": t.params}
            for name, t in best.items()
        ],
        "outer": outer,
        "inner": inner,
        "optimism": inner - outer["rows"][1]["metrics"]["macro_f1"]["value"],
        "effects": _judge(measure_effects(done, space), flat, idle) if enough else None,
        "idle": [{"knob": name, "reason": reason} for name, reason in idle.items()],
        "n_trials": len(done),
        "n_complete": int((trials["state"] == "complete").sum()),
        "n_unscored": len(trials) - len(done),
        "interactions": [asdict(i) for i in measure_interactions(done, space)] if enough else None,
        "curves": None if curves is None else _list_points(curves),
        "noise": None if curves is None else measure_noise(curves),
        "curve_points": curve_seeds * sum(len(knob.list_values()) for knob in space.knobs),
        "least_trials": LEAST_TRIALS,
    }
    write_json(bench.folder / "tune.json", result)
    from ..report import write_tune_report  # drawing is dear to import

    write_tune_report(bench.folder)
    return result


def _trace(studies: Studies, final: dict[str, Any], *, seeds: int, deadline: float) -> pd.DataFrame | None:
    """The curve of each knob about the final recipe; None where none is asked for."""
    if seeds <= 0:
        return None
    return trace_curves(
        studies.bench, studies.build_recipe, space=studies.space, around=final, seeds=seeds,
        listener=studies.listener, deadline=deadline,
    )  # fmt: skip


def _list_points(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: nothing in the place of what is no number."""
    scores = [None if np.isnan(score) else score for score in curves["score"]]
    values = zip(curves["knob"], curves["value"], curves["seed"], scores, strict=True)
    return [dict(zip(COLUMNS, row, strict=True)) for row in values]


def _judge(effects: list[Effect], flat: dict[str, float], idle: Collection[str]) -> list[dict[str, Any]]:
    """Effects of knobs that can have one, with what the curves say: real where either test says so.

    Each is corrected for all knobs; where both are asked each gets half of `LEVEL`.
    """
    level = LEVEL / 2 if flat else LEVEL
    return [
        asdict(e) | {"curve_p": flat.get(e.knob), "real": min(e.p_value, flat.get(e.knob, 1.0)) < level}
        for e in effects
        if e.knob not in idle
    ]


def _choose(name: str, study: optuna.Study) -> optuna.trial.FrozenTrial:
    """The trial with the best inner score; of equals the first."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    if not complete:
        errors = [t.user_attrs["error"] for t in study.get_trials(deepcopy=False) if "error" in t.user_attrs]
        reason = f" (the first could not be scored: {errors[0]})" if errors else ""
        raise RunError(
            f"no trial of study {name} was finished{reason}. Fix: more --minutes or --trials, or an easier space"
        )
    return max(complete, key=lambda t: (t.value, -t.number))


def _score_outer(
    studies: Studies, best: dict[str, optuna.trial.FrozenTrial], *, splits: tuple[Split, ...], plan: Recipe
) -> dict[str, Any]:
    """Untuned and tuned recipes on the outer folds, as `tabulate_comparison` gives it; the chance level with it."""
    tables: dict[str, list[pd.DataFrame]] = {UNTUNED: [], TUNED: []}
    for number, split in enumerate(splits):
        tuned = studies.space.build_recipe(best[split.name].params, studies.settings)
        for name, recipe in ((UNTUNED, plan), (TUNED, tuned)):
            tables[name].append(studies.bench.score_outer(recipe, split, name=name))
        studies.listener.tell("outer folds", number + 1, len(splits))
    bench, whole = studies.bench, {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for name, table in whole.items():
        write_table(bench.folder / "predictions" / f"{name}.csv", table)
    classes, scoring = bench.ground.cohort.classes, settle_unit(bench.ground, plan)
    counted = {name: bench.count(table) for name, table in whole.items()}
    pools = {name: pool_predictions(table, classes=classes) for name, table in counted.items()}
    changed = read_influence(bench.prepare(plan)[0].run.path).describe()
    given = dict.fromkeys(pools, describe_given(changed, None)) if changed else {}
    comparison = tabulate_comparison(pools, confidence=plan.evaluate.confidence, given=given)
    scores = score_units(
        whole[TUNED], scoring, classes=classes, cases=bench.ground.cases, confidence=plan.evaluate.confidence
    )
    counts = {key: scores[key] for key in ("unit", "unit_reason", "n_images", "interval")}
    beside = {key: scores[key]["metrics"]["macro_f1"] for key in ("by_image", "by_case") if key in scores}
    return comparison | counts | beside | {"chance": scores["metrics"]["macro_f1"]["chance_prior"]}
