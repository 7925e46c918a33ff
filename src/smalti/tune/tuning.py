"""Search, then say what it was worth and how sensitive the result is."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState

from ..engine import parse_place
from ..errors import RecipeError, RunError
from ..evaluate import score_units
from ..project import HERE, RUNS, SILENT, Listener, Project
from ..recipe import settle_choices
from ..records import Influence
from ..records.layout import RECIPE, TRIALS, name_prediction
from ..records.scored import HEADLINE
from ..records.studies.search import CurvePoint, Effect, IdleKnob, KnobRange, OuterScores, Search, SearchResult, Study
from ..stats import pool_predictions
from ..store import hash_text, now_text, write_atomic, write_table
from ..store.leftovers import remove_leftovers
from ..types import Split
from ..workflow import inspect_ground
from ..workflow.decisions.influence import describe_given
from ..workflow.paired import compare_pools
from ..workflow.prepare.identity import identify
from ..workflow.prepare.units import settle_unit
from .idle import find_idle_knobs, find_idle_trials, turn_knob
from .search import STUDIES_SHARE, WHOLE, Studies, name_steps, tabulate_trials
from .sensitivity import LEAST_TRIALS, LEVEL, level_scores, measure_effects, measure_interactions
from .space import Space, load_space
from .sweeps import find_idle, judge_flatness, measure_noise, trace_curves
from .trial import TrialRunner

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
    on: str = HERE,
    listener: Listener = SILENT,
) -> tuple[Path, SearchResult]:
    """Search a space on a data folder; an interrupted search continues where it was.

    Args:
        data: the data folder.
        space: name of a built-in space, or a space file.
        search: sampler and number of trials; by default 30 trials of TPE for each study.
        settings: ``section.knob=value`` for all trials, below the space's knobs.
        runs: folder of all runs; the search has its own folder in it.
        curve_seeds: trainings at each point of a curve; 0 draws none. A later call measures the points for which
            ``search.minutes`` left no time.
        skip_problems: skip images with problems.
        on: where the folds of a trial are trained. Trials come one after the other, so that each is proposed by what
            all before it have shown, however many workers there are.

    Returns:
        The folder of the search and its result; ``recipe.yaml`` there is the tuned recipe.

    Raises:
        RecipeError: the space does not fit together; before anything is run.
        SplitError: too few cases for folds inside of folds.
    """
    parse_place(on)
    project, settings = Project(Path(data), Path(runs), listener=listener, on=on), tuple(settings)
    search = search or Search()
    chosen = load_space(space)
    settings = _settle(chosen, settings, listener=listener)
    untuned = chosen.build_recipe({}, settings)
    project.check_data()
    ground = inspect_ground(project, untuned, problems="skip" if skip_problems else "refuse")
    asked = hash_text(chosen.model_dump_json(), untuned.to_yaml(), str(search.folds), search.sampler)
    stands_on = [value for _, value in sorted(identify(project, ground).items())]
    name = f"{project.name}-tune-{Path(space).stem}-{hash_text(asked, *stands_on)[:6]}"
    runner = TrialRunner(project, ground, project.runs / name, untuned)
    runner.folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(runner.folder, deep=True)
    splits = runner.prepare(untuned).splits
    choices = []
    for knob in chosen.knobs:
        for value in knob.choices:
            with suppress(RecipeError):  # choices that are only valid together with another knob are skipped
                choices.append(chosen.build_recipe({knob.knob: value}, settings))
    runner.check_choices(choices)
    chosen, idle = _remove_idle(chosen, runner, settings)
    studies = Studies(chosen, search, runner, settings, listener)
    started, seconds = time.monotonic(), float("inf") if search.minutes is None else 60 * search.minutes
    share = STUDIES_SHARE if curve_seeds > 0 else 1.0
    found = studies.run(splits, images=len(ground.cohort.labelled), deadline=started + share * seconds)
    result = _conclude(studies, found, idle, splits=splits, curve_seeds=curve_seeds, deadline=started + seconds)
    return runner.folder, result


def _settle(space: Space, settings: tuple[str, ...], *, listener: Listener) -> tuple[str, ...]:
    """Return the settings with a value for each ``auto``, the same for all trials; the values are said."""
    plain = space.build_recipe({}, settings)
    turned = [recipe for knob in space.knobs for recipe in turn_knob(space, knob, settings)]
    (settled, *_), notes = settle_choices([plain, *turned])
    for note in notes:
        listener.say(note)
    found = {name: (getattr(plain.model, name), getattr(settled.model, name)) for name in SETTLED}
    return (*settings, *(f"model.{name}={after}" for name, (before, after) in found.items() if after != before))


def _remove_idle(space: Space, runner: TrialRunner, settings: tuple[str, ...]) -> tuple[Space, dict[str, str]]:
    """Return the space without knobs that can do nothing on this data, and why; the reasons are said."""
    idle = find_idle_knobs(space, runner, settings)
    for name, reason in idle.items():
        runner.project.listener.say(
            f"{name} is left out of the search: {reason}, so that its values are one function here"
        )
    left = tuple(knob for knob in space.knobs if knob.knob not in idle)
    if not left:
        raise RecipeError(
            f"no knob of the space does anything on this data ({'; '.join(f'{k}: {r}' for k, r in idle.items())})",
            fix="another --space",
        )
    return space.model_copy(update={"knobs": left}), idle


def _conclude(
    studies: Studies,
    found: dict[str, optuna.Study],
    idle: dict[str, str],
    *,
    splits: tuple[Split, ...],
    curve_seeds: int,
    deadline: float,
) -> SearchResult:
    """Score the chosen recipes on the folds that did not choose, measure the knobs, write everything."""
    runner, space, steps = studies.runner, studies.space, name_steps(studies.search.folds)
    best = {name: _choose(name, study) for name, study in found.items()}
    outer = _score_outer(studies, best, splits=splits)
    trials = tabulate_trials(found, space.names, folds=studies.search.folds)
    write_table(runner.folder / TRIALS, trials)
    done = level_scores(trials, steps=steps)
    enough = len(done) >= LEAST_TRIALS
    final = best[WHOLE].params
    write_atomic(runner.folder / RECIPE, space.build_recipe(final, studies.settings).to_yaml())
    curves = None
    if curve_seeds > 0:
        curves = trace_curves(
            runner, studies.build_recipe, space=space, around=final, seeds=curve_seeds,
            listener=studies.listener, deadline=deadline,
        )  # fmt: skip
    flat = judge_flatness(curves) if curves is not None else {}
    same = [] if curves is None else find_idle(curves)
    same += find_idle_trials(done, space, steps=steps)
    idle = dict.fromkeys(same, "every value had the very same scores, all else equal") | idle
    inner = float(np.mean([best[split.name].value for split in splits]))
    result = SearchResult(
        about=space.about,
        finished=now_text(),
        search=studies.search,
        knobs=tuple(KnobRange(**knob.model_dump()) for knob in space.knobs),
        studies=tuple(
            Study(study=name, trials=int((trials["study"] == name).sum()), value=trial.value, params=trial.params)
            for name, trial in best.items()
        ),
        outer=outer,
        inner=inner,
        optimism=inner - (outer.rows[1].metrics[HEADLINE].value or 0.0),
        effects=tuple(_judge(measure_effects(done, space), flat, idle)) if enough else None,
        idle=tuple(IdleKnob(knob=name, reason=reason) for name, reason in idle.items()),
        n_trials=len(done),
        n_complete=int((trials["state"] == "complete").sum()),
        n_unscored=len(trials) - len(done),
        interactions=tuple(measure_interactions(done, space)) if enough else None,
        curves=None if curves is None else tuple(CurvePoint.model_validate(row) for row in curves.to_dict("records")),
        noise=None if curves is None else measure_noise(curves),
        curve_points=curve_seeds * sum(len(knob.list_values()) for knob in space.knobs),
        least_trials=LEAST_TRIALS,
    )
    result.write(runner.folder)
    from ..report import write_tune_report  # matplotlib is slow to import

    write_tune_report(runner.folder)
    return result


def _judge(effects: list[Effect], flat: dict[str, float], idle: Collection[str]) -> list[Effect]:
    """Return the effects of knobs that can have one, with the p-values of the curves.

    A knob is real where either test says so. Each is corrected for all knobs; with both, each gets half of `LEVEL`.
    """
    level = LEVEL / 2 if flat else LEVEL
    return [
        e.model_copy(update={"curve_p": flat.get(e.knob), "real": bool(min(e.p_value, flat.get(e.knob, 1.0)) < level)})
        for e in effects
        if e.knob not in idle
    ]


def _choose(name: str, study: optuna.Study) -> optuna.trial.FrozenTrial:
    """Return the trial with the best inner score, the first of equals."""
    complete = [t for t in study.get_trials(deepcopy=False) if t.state is TrialState.COMPLETE]
    if not complete:
        errors = [t.user_attrs["error"] for t in study.get_trials(deepcopy=False) if "error" in t.user_attrs]
        reason = f" (the first could not be scored: {errors[0]})" if errors else ""
        raise RunError(
            f"no trial of study {name} was finished{reason}", fix="more --minutes or --trials, or an easier space"
        )
    return max(complete, key=lambda t: (t.value, -t.number))


def _score_outer(
    studies: Studies, best: dict[str, optuna.trial.FrozenTrial], *, splits: tuple[Split, ...]
) -> OuterScores:
    """Score the untuned and the tuned recipe of each outer fold on it, and compare them."""
    runner, untuned = studies.runner, studies.runner.untuned
    tables: dict[str, list[pd.DataFrame]] = {UNTUNED: [], TUNED: []}
    for number, split in enumerate(splits):
        tuned = studies.space.build_recipe(best[split.name].params, studies.settings)
        for name, recipe in ((UNTUNED, untuned), (TUNED, tuned)):
            tables[name].append(runner.score_outer(recipe, split, name=name))
        studies.listener.tell("outer folds", number + 1, len(splits))
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for name, table in whole.items():
        write_table(runner.folder / name_prediction(name), table)
    classes, confidence = runner.ground.cohort.classes, untuned.evaluate.confidence
    pools = {name: pool_predictions(runner.count(table), classes=classes) for name, table in whole.items()}
    changed = Influence.read(runner.prepare(untuned).run.path).describe()
    given = dict.fromkeys(pools, describe_given(changed, None)) if changed else {}
    comparison = compare_pools(pools, confidence=confidence, given=given)
    scores = score_units(
        whole[TUNED], settle_unit(runner.ground, untuned), classes=classes, cases=runner.ground.cases,
        confidence=confidence,
    )  # fmt: skip
    about = {"unit": scores.unit, "unit_reason": scores.unit_reason, "n_images": scores.n_images}
    beside = {key: one.headline for key in ("by_image", "by_case") if (one := getattr(scores, key)) is not None}
    return OuterScores(
        **(dict(comparison) | about | beside), interval=scores.interval, chance=scores.headline.chance_prior
    )
