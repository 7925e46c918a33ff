"""Measure the learning curve of a plain head on a data folder, extrapolate it, and say what would help."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import workflow
from ..errors import RecipeError, RunError
from ..evaluate import MARGIN, check_margin, forecast_growth, measure_margins, score_predictions
from ..evaluate.growth import LEAST_SIZES
from ..evaluate.margins import LEAST_NETWORKS
from ..logbook.seal import find_seal
from ..metrics import macro_f1
from ..project import RUNS
from ..recipe import Recipe, load_recipe
from ..stats import Pool, pool_predictions
from ..stats.luck import count_networks
from ..store import hash_text, read_json, write_json, write_table
from ..store.leftovers import remove_leftovers
from ..types import score_columns
from ..workflow import SILENT, Listener
from ..workflow.decisions.influence import read_influence
from ..workflow.prepare.preparation import identify, resolve_plan
from .answers import Answer, answer_backbone, answer_cases, answer_seeds
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
) -> tuple[Path, dict[str, Any]]:
    """Measure the score against the number of cases; an interrupted call goes on where it was.

    Args:
        data: the data folder.
        recipe: preset or recipe file with a solved head; None takes ``quick`` with ``model.head=logistic``.
        settings: ``section.knob=value`` on top of it.
        orders: of the cases of each fold; each gives nested parts, and together they show the luck of the draw.
        margin: a gain that is surely less is practically none.
        runs: folder of all runs; the curve has its own folder in it.
        skip_problems: leave out images with problems.

    Returns:
        The curve's folder and the content of its ``learn.json``.

    Raises:
        RecipeError: the recipe has no solved head, or something that the curve cannot follow; all that is wrong.
        RunError: there is no such folder, or fewer than two orders.
    """
    data, runs, settings = Path(data), Path(runs), tuple(settings)
    check_margin(margin)
    if orders < 2:
        raise RunError(f"{orders} order of the cases does not show the luck of the draw. Fix: --orders 2 or more")
    if not data.is_dir():
        raise RunError(f"no data folder at {data}. Fix: check the path, or 'smalti demo' to draw one")
    asked = settings if recipe is not None else (f"model.head={HEAD}", *settings)
    plan = load_recipe(DEFAULT if recipe is None else recipe, settings=asked)
    check_plan(resolve_plan(plan, listener=SILENT))
    ground = workflow.inspect_ground(
        data, recipe=plan, decisions_path=workflow.find_decisions(data, runs=runs, listener=listener),
        seal_path=find_seal(data, runs=runs), cache=runs / "cache",
        problems="skip" if skip_problems else "refuse", listener=listener,
    )  # fmt: skip
    stands_on = [value for _, value in sorted(identify(ground, cache=runs / "cache").items())]
    name = f"{data.resolve().name}-learn-{hash_text(plan.to_yaml(), str(orders), *stands_on)[:6]}"
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, deep=True)
    experiment, splits = workflow.prepare(ground, plan, runs=runs, name=f"{name}/prepared", listener=listener)
    # What another version would solve otherwise is solved anew.
    parts = folder / "parts" / read_json(experiment.run.path / "environment.json", "training")["training"][:8]
    curve = trace_curve(experiment, splits, orders=orders, folder=parts, tell=listener.follow("curve"))
    result = _describe(experiment, curve, margin=margin, changed=read_influence(experiment.run.path).describe())
    result = {"data": str(data.resolve()), "orders": orders, **result}
    write_json(folder / "learn.json", result)
    write_table(folder / "learn.csv", tabulate_points(result))
    from ..report import write_learn_report  # drawing is dear to import

    write_learn_report(folder)
    return folder, result


def check_plan(plan: Recipe) -> None:
    """Refuse a recipe whose curve would not be that of its run.

    Raises:
        RecipeError: what stands against it, all at once.
    """
    model, train = plan.model, plan.train
    faults = (
        (
            model.head == "steps",
            "its head learns in steps, whose epochs small parts cannot choose",
            "model.head=logistic",
        ),
        (train.finetune.epochs > 0, "it fine-tunes the backbone, once for every point", "train.finetune.epochs=0"),
        (bool(plan.ensemble.members), "it combines other runs instead of learning", "ensemble.members=[]"),
        (plan.stain.normalise != "none", "its stain reference comes from all cases of a fold", "stain.normalise=none"),
        (plan.predict.calibration != "none", "its calibration is fitted to inner scores", "predict.calibration=none"),
        (plan.predict.decision != "largest", "its decision is fitted to inner scores", "predict.decision=largest"),
    )
    wrong = [f"{what}. Fix: --set {fix}" for stands, what, fix in faults if stands]
    if wrong:
        raise RecipeError("\n".join(["no learning curve can be had of this recipe:", *wrong]))


def _describe(experiment: Experiment, curve: Curve, *, margin: float, changed: str) -> dict[str, Any]:
    """The content of ``learn.json`` but for where it is from."""
    recipe, classes = experiment.recipe, experiment.cohort.classes
    confidence = recipe.evaluate.confidence
    points = []
    for number, pools in enumerate(curve.pools):
        table = _join(pools)
        own = measure_margins(pool_predictions(table, classes=classes), confidence=confidence)["macro_f1"]
        points.append(
            {
                "share": curve.shares[number], "cases": curve.cases[number], "images": curve.images[number],
                "networks": sum(count_networks(pool) for pool in pools), "taught": curve.taught[number],
                "single": [macro_f1(p.y_true, scores) for p in pools for scores in p.scores], **asdict(own),
            }
        )  # fmt: skip
    scores = score_predictions(table, classes=classes, confidence=confidence)  # of all cases
    last, chance = curve.pools[-1][0], scores["metrics"]["macro_f1"]
    why = _find_doubt(points, chance, changed=changed)
    growth = [] if why else forecast_growth(curve.cases, curve.pools, times=TIMES, confidence=confidence)
    cases = answer_cases(growth, why=why, margin=margin, confidence=confidence)
    answers = (
        cases,
        _answer_seeds(last, points[-1], confidence=confidence),
        answer_backbone(cases, taught=points[-1]["taught"], outer=points[-1]["value"], margin=margin),
    )
    return {
        "head": recipe.model.head, "backbone": recipe.model.backbone, "preset": recipe.preset,
        "classes": list(classes), "n_images": len(last.images), "n_cases": last.n_cases, "n_seeds": len(last.scores),
        "n_folds": len(np.unique(last.fold)), "confidence": confidence, "margin": margin,
        "covers": scores["interval"]["covers"],
        "chance": {key: chance[f"chance_{key}"] for key in ("prior", "prior_low", "prior_high", "majority")},
        "trustworthy": bool(points[-1]["trustworthy"]) and not changed,
        "reason": changed or points[-1]["reason"], "points": points,
        "growth": [asdict(one) for one in growth], "answers": [asdict(one) for one in answers],
    }  # fmt: skip


def _join(pools: tuple[Pool, ...]) -> pd.DataFrame:
    """Predictions of all orders as one table, each order and seed as a seed of its own."""
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


def _find_doubt(points: list[dict[str, Any]], chance: dict[str, Any], *, changed: str) -> str:
    """Why nothing can be extrapolated; empty where something can."""
    last = points[-1]
    if changed:
        return f"the scores are not to be trusted: {changed}"
    if len(points) < LEAST_SIZES:
        return f"so few cases make {len(points)} sizes of a part, and a curve needs {LEAST_SIZES}"
    if not last["trustworthy"]:
        return f"the score is not to be trusted: {last['reason']}"
    if last["low"] <= chance["chance_prior_high"]:
        return (
            f"with all cases the score, {last['value']:.3f} ({last['low']:.3f} to {last['high']:.3f}), is not told "
            f"from chance, {chance['chance_prior']:.3f} (up to {chance['chance_prior_high']:.3f}); a curve that has "
            "not begun to rise says nothing about where it goes"
        )
    return ""


def _answer_seeds(pool: Pool, point: dict[str, Any], *, confidence: float) -> Answer:
    """From the interval at all cases, and from the same without the luck of networks."""
    bare = measure_margins(replace(pool, fold=np.zeros_like(pool.fold)), confidence=confidence)["macro_f1"]
    values = point["single"]
    return answer_seeds(
        width=point["high"] - point["low"], by_cases=bare.high - bare.low, networks=count_networks(pool),
        least=LEAST_NETWORKS, spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )  # fmt: skip


def tabulate_points(result: dict[str, Any]) -> pd.DataFrame:
    """One row for each size that was measured, and each that was extrapolated."""
    columns = ["kind", "cases", "images", "macro_f1", "low", "high", "taught", "gain", "gain_low", "gain_high"]
    last = result["points"][-1]
    rows = [
        ("measured", p["cases"], p["images"], p["value"], p["low"], p["high"], p["taught"], None, None, None)
        for p in result["points"]
    ]
    rows += [
        ("extrapolated", g["times"] * last["cases"], None, g["value"], g["low"], g["high"], None, g["gain"],
         g["gain_low"], g["gain_high"])
        for g in result["growth"]
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def describe_curve(result: dict[str, Any]) -> list[str]:
    """The curve in sentences; no naked number."""
    first, last = result["points"][0], result["points"][-1]
    head = (
        f"{result['n_images']} images, {result['n_cases']} cases; {result['confidence']:.0%} intervals by case; chance "
        f"{result['chance']['prior']:.3f}; {result['backbone']}, head {result['head']}"
    )
    ends = (
        f"{p['value']:.3f} ({p['low']:.3f} to {p['high']:.3f}; {p['cases']:.0f} cases taught)" for p in (first, last)
    )
    return [
        head,
        f"macro-F1 from {' to '.join(ends)}",
        *([] if result["trustworthy"] else [f"not to be trusted: {result['reason']}"]),
        *(f"{answer['what']}: {answer['word']}; {answer['words']}" for answer in result["answers"]),
    ]
