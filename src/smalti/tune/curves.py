"""Scores along one knob at a time, with the luck of seeds measured beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ..evaluate import adjust_holm
from ..recipe import Recipe
from ..store import read_table, reading, write_table
from ..workflow import Listener
from .space import Space
from .trial import UNFIT, Bench

Build = Callable[[Mapping[str, Any]], Recipe]
COLUMNS = ("knob", "value", "seed", "score")


def trace_curves(
    bench: Bench,
    build: Build,
    *,
    space: Space,
    around: Mapping[str, Any],
    seeds: int,
    listener: Listener,
    deadline: float,
) -> pd.DataFrame:
    """Macro-F1 with each knob at each of its values and all others as in ``around``: ``knob, value, seed, score``.

    A seed draws folds and weights anew, the same for all values; none is the one that the search has chosen by, whose
    luck the tuned recipe has already had. What was measured by an earlier call is taken from
    the search's folder. A value that does not fit beside the others, or learns nothing, has no score (NaN).

    Args:
        build: the recipe of knob values; its split says how a setting is scored.
        seeds: how many; all values have their first before any has its second.
        deadline: on the clock of `time.monotonic`; what is missing then is left to a later call.
    """
    path = bench.folder / "curves.csv"
    known = _read_known(path)
    first = bench.plan.split.seeds[0] + 1
    drawn = range(first, first + seeds)
    wanted = [(k.knob, value, seed) for seed in drawn for k in space.knobs for value in k.list_values()]
    rows: list[tuple[str, Any, int, float]] = []
    for number, (knob, value, seed) in enumerate(wanted):
        turned = {**around, knob: value}
        key = (_name_setting(turned), seed)
        measured = key not in known
        if measured:
            if time.monotonic() > deadline:
                continue
            known[key] = float(f"{_score(bench, build, turned, seed=seed):.9g}")  # as it is read back
        rows.append((knob, value, seed, known[key]))
        if measured:  # what an earlier call measured is in the file, and stays there whenever this one is killed
            table = pd.DataFrame(rows, columns=list(COLUMNS))
            write_table(path, table.assign(setting=[_name_setting({**around, k: v}) for k, v, _, _ in rows]))
        listener.tell("curves", number + 1, len(wanted))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure_noise(curves: pd.DataFrame) -> float | None:
    """Standard deviation of the score between seeds at the same setting, pooled over settings; None with one seed."""
    spread = curves.groupby(["knob", "value"])["score"].var(ddof=1).mean()
    return None if np.isnan(spread) else float(np.sqrt(spread))


def judge_flatness(curves: pd.DataFrame) -> dict[str, float]:
    """p-value of each knob's curve being flat: analysis of variance of its settings over seeds, corrected (Holm 1979).

    A knob needs two settings with two seeds each; others are left out. Seeds share folds between settings, which only
    makes this cautious.
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
            p_values[str(knob)] = _judge_without_luck(groups, measure_noise(curves) or 0.0)
        else:
            p_values[str(knob)] = float(stats.f_oneway(*groups).pvalue)
    return dict(zip(p_values, adjust_holm(list(p_values.values())), strict=True))


def _judge_without_luck(groups: list[NDArray[np.float64]], noise: float) -> float:
    """p-value where all seeds agree, as few images let them do by chance: against the luck of all other curves."""
    if noise < 1e-9:
        return 0.0  # no luck anywhere, and yet a difference
    means = [group.mean() for group in groups for _ in group]
    return float(stats.chi2.sf(np.var(means) * len(means) / noise**2, len(groups) - 1))


def find_idle(curves: pd.DataFrame) -> list[str]:
    """Knobs whose values gave the very same score with every seed: what they turn does nothing here."""
    idle = []
    for knob, rows in curves.dropna(subset=["score"]).groupby("knob", sort=False):
        several = [part["score"].to_numpy() for _, part in rows.groupby("seed") if len(part) > 1]
        if several and all(np.ptp(scores) == 0 for scores in several):
            idle.append(str(knob))
    return idle


def _score(bench: Bench, build: Build, values: Mapping[str, Any], *, seed: int) -> float:
    images = np.arange(len(bench.ground.cohort.labelled))
    try:
        recipe = build(values)
        split = recipe.split.model_copy(update={"seeds": (seed,)})
        *_, score = bench.try_recipe(recipe.model_copy(update={"split": split}), images, name="curve")
    except UNFIT:
        return float("nan")
    return score


def _name_setting(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}={values[name]!r}" for name in sorted(values))


def _read_known(path: Path) -> dict[tuple[str, int], float]:
    if not path.is_file():
        return {}
    with reading(path):
        table = read_table(path)
        keys = zip(table["setting"].astype(str), table["seed"].astype(int), strict=True)
        return dict(zip(keys, table["score"].astype(float), strict=True))
