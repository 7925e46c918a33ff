"""Which knobs move the score by more than luck, from a table of trials.

Importance is the share of the variance that fANOVA gives to a knob (Hutter et al. 2014, as optuna computes it). Whether
it is real is asked by permutation: the knob's values are dealt out anew to the trials, and a forest that was fitted to
the true values must have used the knob more than nearly all that were fitted to dealt ones. p-values are corrected for
the number of knobs (Holm 1979).

Trials that a search ended early count, with the score that they had plus what trials that went on gained from there:
those that were finished alone were chosen by their scores, and a knob that ends its trials would not be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from ..evaluate import adjust_holm
from .space import Space

PERMUTATIONS = 199  # the least p-value is 1/200, which Holm's correction leaves below 0.05 for ten knobs
ENOUGH_AS_LARGE = 10  # of 199 is a p-value of 0.05 and more
TREES = 50
LEVEL = 0.05  # below which a corrected p-value is called real
LEAST_SPREAD = 1e-9
LEAST_TRIALS = 20  # fewer say nothing about several knobs

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effect:
    """What turning one knob does.

    Attributes:
        knob: its name.
        importance: share of the variance between trials, 0 to 1.
        reach: distance between the best and the worst mean score along it, all else as the trials had it.
        p_value: of no effect, corrected.
        real: whether that is below `LEVEL`.
    """

    knob: str
    importance: float
    reach: float
    p_value: float
    real: bool


@dataclass(frozen=True, slots=True)
class Interaction:
    """Share of the variance between trials that two knobs explain together and neither alone, 0 to 1.

    The numerator of H squared (Friedman & Popescu 2008) over the variance of all trials. Over what the pair explains,
    as in the paper, pairs that do nothing come first, since of nothing any noise is a large share.
    """

    first: str
    second: str
    strength: float


def level_scores(trials: pd.DataFrame, *, steps: Sequence[str]) -> pd.DataFrame:
    """Trials with at least one score, and ``value`` as if each had been scored on all inner folds.

    Args:
        trials: as `tabulate_trials` gives them.
        steps: columns of the score after each fold.
    """
    scores = trials.astype(dict.fromkeys(steps, float))
    begun = scores[scores[steps[0]].notna()]
    parts = []
    for _, rows in begun.groupby("study", sort=False):
        value = rows[steps[0]]
        for before, after in pairwise(steps):
            went_on = rows[after].notna()
            gain = float((rows[after] - rows[before])[went_on].mean()) if went_on.any() else 0.0
            value = rows[after].where(went_on, value + gain)
        parts.append(rows.assign(value=value))
    return pd.concat(parts).reset_index(drop=True) if parts else begun


def measure_effects(trials: pd.DataFrame, space: Space, *, seed: int = 0) -> list[Effect]:
    """The effects of all knobs, surest first, and of equally sure ones the largest.

    Where a search has drawn its trials near the best of them, shares of the variance put luck before real knobs.

    Args:
        trials: one row each: a column for every knob, ``value`` (larger is better), and ``study``: trials of
            different studies are compared with their own only.
        seed: of forests and permutations.
    """
    values = _center(trials)
    matrix, columns = encode_trials(trials, space)
    importances = _measure_importances(trials.assign(value=values), space, seed=seed)
    forest = _fit(matrix, values, seed=seed)
    reach = {name: float(np.ptp(_average_along(forest, matrix, columns[name])[1])) for name in space.names}
    p_values = [_permute(matrix, values, columns[name], seed=seed + i) for i, name in enumerate(space.names)]
    corrected = adjust_holm(p_values)
    effects = [
        Effect(name, importances[name], reach[name], float(p), bool(p < LEVEL))
        for name, p in zip(space.names, corrected, strict=True)
    ]
    return sorted(effects, key=lambda e: (e.p_value, -e.importance, e.knob))


def measure_interactions(trials: pd.DataFrame, space: Space, *, seed: int = 0) -> list[Interaction]:
    """Every pair of knobs, strongest first; arguments as in `measure_effects`."""
    matrix, columns = encode_trials(trials, space)
    values = _center(trials)
    forest = _fit(matrix, values, seed=seed)
    spread = float((values**2).sum())
    alone = {name: _predict_average(forest, matrix, columns[name]) for name in space.names}
    found = []
    for first, second in combinations(space.names, 2):
        both = _predict_average(forest, matrix, [*columns[first], *columns[second]])
        rest = float(((both - alone[first] - alone[second]) ** 2).sum())
        found.append(Interaction(first, second, min(1.0, rest / spread) if spread > 0 else 0.0))
    return sorted(found, key=lambda i: (-i.strength, i.first, i.second))


def encode_trials(trials: pd.DataFrame, space: Space) -> tuple[Matrix, dict[str, list[int]]]:
    """Trials as numbers (n, columns), and the columns of each knob: logarithms of rates, one column for each choice."""
    parts: list[Matrix] = []
    columns: dict[str, list[int]] = {}
    for knob in space.knobs:
        if knob.choices:
            texts = trials[knob.knob].astype(str).to_numpy()
            new = [(texts == str(choice)).astype(float) for choice in knob.choices]
        else:
            numbers = trials[knob.knob].astype(float).to_numpy()
            new = [np.log(numbers) if knob.log else numbers]
        columns[knob.knob] = list(range(len(parts), len(parts) + len(new)))
        parts += new
    return np.stack(parts, axis=1), columns


def _center(trials: pd.DataFrame) -> Matrix:
    """Scores less the mean of their study: one outer fold is harder than another whatever the knobs."""
    return np.asarray(trials["value"] - trials.groupby("study")["value"].transform("mean"), dtype=np.float64)


def _fit(matrix: Matrix, values: Matrix, *, seed: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed).fit(matrix, values)


def _measure_importances(trials: pd.DataFrame, space: Space, *, seed: int) -> dict[str, float]:
    if np.ptp(trials["value"]) < LEAST_SPREAD:
        return dict.fromkeys(space.names, 0.0)  # nothing varies that a knob could have a share of
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    distributions = space.describe_distributions()
    for row in trials.to_dict("records"):
        params: dict[str, Any] = {name: row[name] for name in space.names}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["value"]))
    found = optuna.importance.FanovaImportanceEvaluator(seed=seed).evaluate(study)
    return {name: float(found.get(name, 0.0)) for name in space.names}


def _permute(matrix: Matrix, values: Matrix, columns: list[int], *, seed: int) -> float:
    """Share of forests fitted to dealt-out values of a knob that use it as much as the one fitted to the true ones.

    Where so many do that the knob cannot be real any more the dealing ends (sequential p-value, Besag & Clifford 1991).
    """
    rng = np.random.default_rng(seed)
    true = _use(matrix, values, columns, seed=seed)
    as_large = 0
    for dealt_so_far in range(1, PERMUTATIONS + 1):
        dealt = matrix.copy()
        dealt[:, columns] = matrix[rng.permutation(len(matrix))][:, columns]
        as_large += _use(dealt, values, columns, seed=seed) >= true
        if as_large == ENOUGH_AS_LARGE:
            return as_large / dealt_so_far
    return (1 + as_large) / (1 + PERMUTATIONS)


def _use(matrix: Matrix, values: Matrix, columns: list[int], *, seed: int) -> float:
    return float(_fit(matrix, values, seed=seed).feature_importances_[columns].sum())


def _predict_average(forest: ExtraTreesRegressor, matrix: Matrix, columns: list[int]) -> Matrix:
    """For each trial, what the forest expects with these columns as it had them, averaged over all others; mean 0."""
    settings, where = np.unique(matrix[:, columns], axis=0, return_inverse=True)
    means = np.array([_predict_with(forest, matrix, columns, setting) for setting in settings])
    expected = means[where.reshape(-1)]
    return np.asarray(expected - expected.mean())


def _average_along(forest: ExtraTreesRegressor, matrix: Matrix, columns: list[int]) -> tuple[Matrix, Matrix]:
    """Distinct settings of a knob and the mean score that the forest expects of each (Friedman 2001)."""
    settings = np.unique(matrix[:, columns], axis=0)
    return settings, np.array([_predict_with(forest, matrix, columns, setting) for setting in settings])


def _predict_with(forest: ExtraTreesRegressor, matrix: Matrix, columns: list[int], setting: Matrix) -> float:
    changed = matrix.copy()
    changed[:, columns] = setting
    return float(forest.predict(changed).mean())
