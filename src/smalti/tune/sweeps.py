"""Scores along one knob at a time, with the luck of seeds measured beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..recipe import Recipe
from ..records.layout import CURVES
from ..stats import adjust_holm
from ..store import read_table, reading, write_table
from ..workflow import Listener
from .space import Space
from .trial import UNFIT, TrialRunner

Build = Callable[[Mapping[str, Any]], Recipe]
COLUMNS = ("knob", "value", "seed", "score")


def trace_curves(
    runner: TrialRunner,
    build: Build,
    *,
    space: Space,
    around: Mapping[str, Any],
    seeds: int,
    listener: Listener,
    deadline: float,
) -> pd.DataFrame:
    """Return macro-F1 with each knob at each of its values, the others as in ``around``: ``knob, value, seed, score``.

    Each seed draws folds and weights anew, the same for all values. The seed of the search is not used: the tuned
    recipe was chosen by its luck. Points of an earlier call are read from the folder of the search. A value that does
    not fit beside the others, or learns nothing, has the score NaN.

    Args:
        build: makes the recipe of knob values; its split says how a setting is scored.
        seeds: how many; all values are trained with the first seed before any is with the second.
        deadline: on the clock of `time.monotonic`; a later call measures the points that are missing then.
    """
    path = runner.folder / CURVES
    known: dict[tuple[str, int], float] = {}  # what an earlier call has measured
    if path.is_file():
        with reading(path):
            table = read_table(path)
            keys = zip(table["setting"].astype(str), table["seed"].astype(int), strict=True)
            known = dict(zip(keys, table["score"].astype(float), strict=True))
    first = runner.untuned.split.seeds[0] + 1
    drawn = range(first, first + seeds)
    wanted = [(k.knob, value, seed) for seed in drawn for k in space.knobs for value in k.list_values()]
    images = np.arange(len(runner.ground.cohort.labelled))
    rows: list[tuple[str, Any, int, float]] = []
    for number, (knob, value, seed) in enumerate(wanted):
        turned = {**around, knob: value}
        key = (_name_setting(turned), seed)
        measured = key not in known
        if measured:
            if time.monotonic() > deadline:
                continue
            score = float("nan")
            with suppress(*UNFIT):
                recipe = build(turned)
                split = recipe.split.model_copy(update={"seeds": (seed,)})
                *_, score = runner.try_recipe(recipe.model_copy(update={"split": split}), images, name="curve")
            known[key] = float(f"{score:.9g}")  # as it is read back
        rows.append((knob, value, seed, known[key]))
        if measured:  # so that no point is lost when this call is killed
            table = pd.DataFrame(rows, columns=list(COLUMNS))
            write_table(path, table.assign(setting=[_name_setting({**around, k: v}) for k, v, _, _ in rows]))
        listener.tell("curves", number + 1, len(wanted))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure_noise(curves: pd.DataFrame) -> float | None:
    """Return the standard deviation of the score between seeds, pooled over settings; None with one seed."""
    spread = curves.groupby(["knob", "value"])["score"].var(ddof=1).mean()
    return None if np.isnan(spread) else float(np.sqrt(spread))


def judge_flatness(curves: pd.DataFrame) -> dict[str, float]:
    """Return the p-value of each flat curve: analysis of variance of its settings over seeds, corrected (Holm 1979).

    A knob needs two settings with two seeds each; others are skipped. All settings share the folds of a seed, which
    makes the test cautious.
    """
    p_values = {}
    for knob, rows in curves.dropna(subset=["score"]).groupby("knob", sort=False):
        groups = [part["score"].to_numpy() for _, part in rows.groupby("value", sort=False) if len(part) > 1]
        if len(groups) < 2:
            continue
        between = np.var([group.mean() for group in groups])
        if between < 1e-12:
            p_values[str(knob)] = 1.0
        elif all(np.ptp(group) < 1e-9 for group in groups):
            # All seeds agree, as few images let them do by chance: the noise of all other curves is the measure.
            noise = measure_noise(curves) or 0.0
            means = [group.mean() for group in groups for _ in group]
            p_values[str(knob)] = (
                float(stats.chi2.sf(np.var(means) * len(means) / noise**2, len(groups) - 1)) if noise >= 1e-9 else 0.0
            )
        else:
            p_values[str(knob)] = float(stats.f_oneway(*groups).pvalue)
    return dict(zip(p_values, adjust_holm(list(p_values.values())), strict=True))


def find_idle(curves: pd.DataFrame) -> list[str]:
    """Return the knobs whose values gave the same score with every seed."""
    idle = []
    for knob, rows in curves.dropna(subset=["score"]).groupby("knob", sort=False):
        several = [part["score"].to_numpy() for _, part in rows.groupby("seed") if len(part) > 1]
        if several and all(np.ptp(scores) == 0 for scores in several):
            idle.append(str(knob))
    return idle


def _name_setting(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}={values[name]!r}" for name in sorted(values))
