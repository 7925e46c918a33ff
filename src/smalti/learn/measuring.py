"""Measure the learning curve of a plain head on a data folder, extrapolate it, and say what would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import RecipeError, RunError
from ..evaluate import MARGIN, check_margin, forecast_growth, measure_margins, score_predictions
from ..evaluate.growth import LEAST_SIZES
from ..evaluate.margins import LEAST_NETWORKS
from ..metrics import macro_f1
from ..project import RUNS, SILENT, Listener, Project
from ..recipe import Recipe, load_recipe
from ..records import Environment, Influence
from ..records.layout import LEARN_TABLE, PARTS, PREPARED
from ..records.scored import HEADLINE
from ..records.studies.ladder import ChanceLevels
from ..records.studies.learning import Growth, LearningPoint, LearningResult
from ..stats import Pool, pool_predictions
from ..stats.luck import count_networks
from ..store import hash_text, write_table
from ..store.leftovers import remove_leftovers
from ..types import score_columns
from ..workflow import inspect_ground, prepare
from ..workflow.prepare.identity import identify
from ..workflow.prepare.settling import settle_recipe
from .answers import answer_backbone, answer_cases, answer_seeds
from .curve import Curve, trace_curve

if TYPE_CHECKING:
    from ..train import Experiment

DEFAULT = "quick"
HEAD = "logistic"  # of the recipe that is taken where none is named
ORDERS = 5
TIMES = (2.0, 4.0)


def learn_curve(
    data: str | Path,
    recipe: str | Path | None = None,
    *,
    settings: Iterable[str] = (),
    orders: int = ORDERS,
    margin: float = MARGIN,
    runs: str | Path = RUNS,
    skip_problems: bool = False,
    listener: Listener = SILENT,
) -> tuple[Path, LearningResult]:
    """Measure the score against the number of cases; an interrupted call continues where it was.

    Args:
        data: the data folder.
        recipe: preset or recipe file with a solved head; None takes ``quick`` with ``model.head=logistic``.
        settings: ``section.knob=value`` on top of it.
        orders: of the cases of each fold; each gives nested parts, and together they show the luck of the draw.
        margin: a gain that is surely less is practically none.
        runs: folder of all runs; the curve has its own folder in it.
        skip_problems: leave out images with problems.

    Returns:
        The folder of the curve and its result.

    Raises:
        RecipeError: the recipe has no solved head, or asks for what a curve cannot do; everything that is wrong.
        RunError: there is no such folder, or fewer than two orders.
    """
    project, settings = Project(Path(data), Path(runs), listener=listener), tuple(settings)
    check_margin(margin)
    if orders < 2:
        raise RunError(f"{orders} order of the cases does not show the luck of the draw", fix="--orders 2 or more")
    project.check_data()
    settings = settings if recipe is not None else (f"model.head={HEAD}", *settings)
    asked = load_recipe(DEFAULT if recipe is None else recipe, settings=settings)
    ground = inspect_ground(project, asked, problems="skip" if skip_problems else "refuse")
    check_recipe(settle_recipe(asked, ground.cohort.features, listener=SILENT))
    stands_on = [value for _, value in sorted(identify(project, ground).items())]
    name = f"{project.name}-learn-{hash_text(asked.to_yaml(), str(orders), *stands_on)[:6]}"
    folder = project.runs / name
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, deep=True)
    experiment = prepare(project, ground, asked, name=f"{name}/{PREPARED}")
    # A version that would solve differently has a folder of its own.
    parts = folder / PARTS / Environment.read(experiment.run.path).training[:8]
    curve = trace_curve(experiment, orders=orders, folder=parts, tell=listener.follow("curve"))
    changed = Influence.read(experiment.run.path).describe()
    result = _describe(
        experiment, curve, data=str(project.data.resolve()), orders=orders, margin=margin, changed=changed
    )
    result.write(folder)
    write_table(folder / LEARN_TABLE, tabulate_points(result))
    from ..report import write_learn_report  # matplotlib is slow to import

    write_learn_report(folder)
    return folder, result


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose curve would not be that of its run.

    Raises:
        RecipeError: what stands against it, all at once.
    """
    model, train = recipe.model, recipe.train
    faults = (
        (
            model.head == "steps",
            "its head learns in steps, whose epochs small parts cannot choose",
            "model.head=logistic",
        ),
        (train.finetune.epochs > 0, "it fine-tunes the backbone, once for every point", "train.finetune.epochs=0"),
        (
            recipe.train.pretrain.method is not None,
            "it pretrains the backbone, once for every point",
            "train.pretrain.method=null",
        ),
        (train.pseudo.rounds > 0, "unlabelled images teach its head", "train.pseudo.rounds=0"),
        (train.noise.method != "none", "its labels may be corrected", "train.noise.method=none"),
        (train.synthesis.method is not None, "drawn images teach its head", "train.synthesis.method=null"),
        (bool(recipe.ensemble.members), "it combines other runs instead of learning", "ensemble.members=[]"),
        (
            recipe.stain.normalise != "none",
            "its stain reference comes from all cases of a fold",
            "stain.normalise=none",
        ),
        (recipe.predict.calibration != "none", "its calibration is fitted to inner scores", "predict.calibration=none"),
        (recipe.predict.decision != "largest", "its decision is fitted to inner scores", "predict.decision=largest"),
    )
    wrong = [f"{what}. Fix: --set {fix}" for stands, what, fix in faults if stands]
    if wrong:
        raise RecipeError("\n".join(["no learning curve can be had of this recipe:", *wrong]))


def _describe(
    experiment: Experiment, curve: Curve, *, data: str, orders: int, margin: float, changed: str
) -> LearningResult:
    """Score the points of a curve, extrapolate it where that can be done, and answer the three questions."""
    recipe, classes = experiment.recipe, experiment.cohort.classes
    confidence = recipe.evaluate.confidence
    points = []
    for number, pools in enumerate(curve.pools):
        table = _join(pools)
        own = measure_margins(pool_predictions(table, classes=classes), confidence=confidence)[HEADLINE]
        points.append(
            LearningPoint(
                share=curve.shares[number], cases=curve.cases[number], images=curve.images[number],
                networks=sum(count_networks(pool) for pool in pools), taught=curve.taught[number],
                single=tuple(macro_f1(p.y_true, scores) for p in pools for scores in p.scores), **own.model_dump(),
            )
        )  # fmt: skip
    scores = score_predictions(table, classes=classes, confidence=confidence)  # of all cases
    chance = ChanceLevels.of(scores)
    end, last = points[-1], curve.pools[-1][0]
    why = _find_doubt(points, chance, changed=changed)
    growth = [] if why else forecast_growth(curve.cases, curve.pools, times=TIMES, confidence=confidence)
    cases = answer_cases(growth, why=why, margin=margin, confidence=confidence)
    # The same interval without the luck of networks.
    bare = measure_margins(replace(last, fold=np.zeros_like(last.fold)), confidence=confidence)[HEADLINE]
    width, by_cases = ((one.high or 0.0) - (one.low or 0.0) for one in (end, bare))
    seeds = answer_seeds(
        width=width, by_cases=by_cases, networks=count_networks(last),
        least=LEAST_NETWORKS, spread=float(np.std(end.single, ddof=1)) if len(end.single) > 1 else None,
    )  # fmt: skip
    backbone = answer_backbone(cases, taught=end.taught or 0.0, outer=end.value or 0.0, margin=margin)
    return LearningResult(
        data=data, orders=orders, head=recipe.model.head, backbone=recipe.model.backbone, preset=recipe.preset,
        classes=classes, n_images=len(last.images), n_cases=last.n_cases, n_seeds=len(last.scores),
        n_folds=len(np.unique(last.fold)), confidence=confidence, margin=margin, covers=scores.interval.covers,
        chance=chance, trustworthy=end.trustworthy and not changed, reason=changed or end.reason,
        points=tuple(points), growth=tuple(Growth(**asdict(one)) for one in growth), answers=(cases, seeds, backbone),
    )  # fmt: skip


def _join(pools: tuple[Pool, ...]) -> pd.DataFrame:
    """Return predictions of all orders as one table, each order and seed as a seed of its own."""
    tables, seed = [], 0
    for pool in pools:
        for fold, scores in zip(pool.fold, pool.scores, strict=True):
            labels = [pool.classes[i] for i in pool.y_true]
            table = pd.DataFrame({"image": pool.images, "case": [pool.cases[i] for i in pool.case], "label": labels})
            table[["fold", "seed"]] = np.column_stack([fold, np.full(len(fold), seed)])
            table[score_columns(pool.classes)] = scores
            tables.append(table)
            seed += 1
    return pd.concat(tables, ignore_index=True)


def _find_doubt(points: list[LearningPoint], chance: ChanceLevels, *, changed: str) -> str:
    """Return why nothing can be extrapolated; empty where it can."""
    last = points[-1]
    if changed:
        return f"the scores are not to be trusted: {changed}"
    if len(points) < LEAST_SIZES:
        return f"so few cases make {len(points)} sizes of a part, and a curve needs {LEAST_SIZES}"
    if not last.trustworthy:
        return f"the score is not to be trusted: {last.reason}"
    if last.low is None or chance.prior_high is None or last.low <= chance.prior_high:
        return (
            f"with all cases the score, {last.say()}, is not told from chance, {chance.prior:.3f} (up to "
            f"{chance.prior_high:.3f}); a curve that has not begun to rise says nothing about where it goes"
        )
    return ""


def tabulate_points(result: LearningResult) -> pd.DataFrame:
    """Return one row for each measured size and one for each extrapolated size."""
    columns = ["kind", "cases", "images", "macro_f1", "low", "high", "taught", "gain", "gain_low", "gain_high"]
    rows: list[tuple[object, ...]] = [
        ("measured", p.cases, p.images, p.value, p.low, p.high, p.taught, None, None, None) for p in result.points
    ]
    rows += [
        ("extrapolated", g.times * result.points[-1].cases, None, g.value, g.low, g.high, None, g.gain, g.gain_low,
         g.gain_high)
        for g in result.growth
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def describe_curve(result: LearningResult) -> list[str]:
    """Return the curve in sentences."""
    first, last = result.points[0], result.points[-1]
    ends = (f"{point.say()} with {point.cases:.0f} training cases" for point in (first, last))
    return [
        f"{result.n_images} images, {result.n_cases} cases; {result.confidence:.0%} intervals by case; chance "
        f"{result.chance.prior:.3f}; {result.backbone}, head {result.head}",
        f"macro-F1 from {' to '.join(ends)}",
        *([] if result.trustworthy else [f"not to be trusted: {result.reason}"]),
        *(f"{answer.what}: {answer.word}; {answer.words}" for answer in result.answers),
    ]
