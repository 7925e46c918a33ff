"""Scores along one knob at a time, with the luck of seeds measured beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..evaluate import adjust_holm
from ..recipe import Recipe
from ..runs import read_table, write_table
from ..workflow import Listener
from .space import Space
from .trial import Bench

Build = Callable[[Mapping[str, Any]], Recipe]
COLUMNS = ("knob", "value", "seed", "score")


def trace_curves(
    bench: Bench, build: Build, *, space: Space, around: Mapping[str, Any], seeds: int, listener: Listener
) -> pd.DataFrame:
    """Macro-F1 with each knob at each of its values and all others as in ``around``: ``knob, value, seed, score``.

    A seed draws folds and weights anew, the same for all values. What was measured by an earlier call is taken from
    the search's folder.

    Args:
        build: the recipe of knob values; its split says how a setting is scored.
        seeds: how many.
    """
    path = bench.folder / "curves.csv"
    known = _read_known(path)
    wanted = [(k.knob, value, seed) for k in space.knobs for value in k.list_values() for seed in range(seeds)]
    rows: list[tuple[str, Any, int, float]] = []
    for number, (knob, value, seed) in enumerate(wanted):
        key = (_name_setting({**around, knob: value}), seed)
        if key not in known:
            known[key] = _score(bench, build({**around, knob: value}), seed=seed)
        rows.append((knob, value, seed, known[key]))
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        write_table(path, table.assign(setting=[_name_setting({**around, k: v}) for k, v, _, _ in rows]))
        listener.tell("curves", number + 1, len(wanted))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure_noise(curves: pd.DataFrame) -> float:
    """Standard deviation of the score between seeds at the same setting, pooled over settings; NaN with one seed."""
    spread = curves.groupby(["knob", "value"])["score"].var(ddof=1)
    return float(np.sqrt(spread.mean()))


def judge_flatness(curves: pd.DataFrame) -> dict[str, float]:
    """p-value of each knob's curve being flat: analysis of variance of its settings over seeds, corrected (Holm 1979).

    Needs two seeds. Seeds share folds between settings, which only makes this cautious.
    """
    p_values = {}
    for knob, rows in curves.groupby("knob", sort=False):
        groups = [part["score"].to_numpy() for _, part in rows.groupby("value", sort=False)]
        between = np.var([group.mean() for group in groups])
        if between < 1e-12:
            p_values[str(knob)] = 1.0
        elif all(np.ptp(group) < 1e-9 for group in groups):
            p_values[str(knob)] = 0.0  # no luck at all, and yet a difference
        else:
            p_values[str(knob)] = float(stats.f_oneway(*groups).pvalue)
    return dict(zip(p_values, adjust_holm(list(p_values.values())), strict=True))


def _score(bench: Bench, recipe: Recipe, *, seed: int) -> float:
    split = recipe.split.model_copy(update={"seeds": (seed,)})
    images = np.arange(len(bench.ground.cohort.labelled))
    *_, score = bench.try_recipe(recipe.model_copy(update={"split": split}), images, name="curve")
    return score


def _name_setting(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}={values[name]!r}" for name in sorted(values))


def _read_known(path: Path) -> dict[tuple[str, int], float]:
    if not path.is_file():
        return {}
    table = read_table(path)
    keys = zip(table["setting"].astype(str), table["seed"].astype(int), strict=True)
    return dict(zip(keys, table["score"].astype(float), strict=True))
