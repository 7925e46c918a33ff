"""Which knobs move the score by more than luck, from a table of trials.

Importance is the share of the variance that fANOVA gives to a knob (Hutter et al. 2014, as optuna computes it). Whether
it is real is tested by permutation of residuals (Freedman & Lane 1983): what least squares explains by the knob beyond
all others, with choices as steps and ranges as lines and parabolas. p-values are corrected for the number of knobs
(Holm 1979). A knob that acts only together with another is not found in that way; the curves show it.

Trials that ended early count with the score that they had plus what the others gained from there on. Without them,
trials would be selected by their scores, and a knob that ends its trials early would not be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor

from ..records.studies.search import Effect, Interaction, KnobValue
from ..stats import adjust_holm
from .space import Space

PERMUTATIONS = 1999  # the least p-value is 1/2000, which Holm's correction leaves below 0.025 for fifty knobs
LEAST_FREEDOM = 5  # trials beyond what is fitted
TREES = 50
LEVEL = 0.05  # how often a search in which no knob does anything may call one real
LEAST_SPREAD = 1e-9
LEAST_TRIALS = 20  # fewer say nothing about several knobs

Matrix = NDArray[np.float64]


def level_scores(trials: pd.DataFrame, *, steps: Sequence[str]) -> pd.DataFrame:
    """Return the trials with at least one score, with ``value`` as if each had been scored on all inner folds.

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
    """Return the effects of all knobs: smallest p-value first, then the largest effect.

    They are not sorted by importance: where trials crowd near the best one, luck has large shares of the variance.

    Args:
        trials: one row each: a column for every knob, ``value`` (larger is better), and ``study``: trials of
            different studies are compared with their own only.
        seed: of forests and permutations.
    """
    values = _center(trials)
    matrix, columns = encode_trials(trials, space)
    importances = _measure_importances(trials.assign(value=values), space, seed=seed)
    forest = _fit(matrix, values, seed=seed)
    reach = {}
    for name in space.names:  # of the partial dependence at the distinct settings of a knob (Friedman 2001)
        found = [_predict_with(forest, matrix, columns[name], x) for x in np.unique(matrix[:, columns[name]], axis=0)]
        reach[name] = float(np.ptp(np.array(found)))
    effects = [
        Effect(knob=name, importance=importances[name], reach=reach[name], p_value=float(p))
        for name, p in zip(space.names, find_p_values(trials, space, seed=seed), strict=True)
    ]
    return sorted(effects, key=lambda e: (e.p_value, -e.importance, e.knob))


def find_p_values(trials: pd.DataFrame, space: Space, *, seed: int = 0) -> list[float]:
    """Return the p-value of no effect of each knob of the space, corrected; arguments as in `measure_effects`."""
    matrix, columns = encode_trials(trials, space)
    curves = {name: _curve(matrix, columns[name]) for name in space.names}
    studies = np.unique(trials["study"].astype(str), return_inverse=True)[1].astype(np.int64)
    means = (studies[:, None] == np.unique(studies)).astype(float)
    values = _center(trials)
    p_values = []
    for number, name in enumerate(space.names):
        rest = np.concatenate([means, *(curve for other, curve in curves.items() if other != name)], axis=1)
        p_values.append(_test_knob(curves[name], rest, values, studies, seed=seed + number))
    return adjust_holm(p_values)


def measure_interactions(trials: pd.DataFrame, space: Space, *, seed: int = 0) -> list[Interaction]:
    """Return every pair of knobs, strongest first; arguments as in `measure_effects`.

    The strength is the numerator of H squared (Friedman & Popescu 2008) over the variance of all trials. Over what the
    pair explains, as in the paper, pairs without an effect would come first: noise is a large share of nothing.
    """
    matrix, columns = encode_trials(trials, space)
    values = _center(trials)
    forest = _fit(matrix, values, seed=seed)
    spread = float((values**2).sum())
    alone = {name: _predict_average(forest, matrix, columns[name]) for name in space.names}
    found = []
    for first, second in combinations(space.names, 2):
        both = _predict_average(forest, matrix, [*columns[first], *columns[second]])
        rest = float(((both - alone[first] - alone[second]) ** 2).sum())
        strength = min(1.0, rest / spread) if spread > 0 else 0.0
        found.append(Interaction(first=first, second=second, strength=strength))
    return sorted(found, key=lambda i: (-i.strength, i.first, i.second))


def encode_trials(trials: pd.DataFrame, space: Space) -> tuple[Matrix, dict[str, list[int]]]:
    """Return trials as numbers (n, columns), and the columns of each knob: logs of rates, one for each choice."""
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
    """Return scores less the mean of their study: outer folds differ in difficulty."""
    return np.asarray(trials["value"] - trials.groupby("study")["value"].transform("mean"), dtype=np.float64)


def _fit(matrix: Matrix, values: Matrix, *, seed: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=seed).fit(matrix, values)


def _measure_importances(trials: pd.DataFrame, space: Space, *, seed: int) -> dict[str, float]:
    if np.ptp(trials["value"]) < LEAST_SPREAD:
        return dict.fromkeys(space.names, 0.0)  # nothing varies that a knob could have a share of
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    distributions = space.describe_distributions()
    for row in trials.to_dict("records"):
        params: dict[str, KnobValue] = {name: row[name] for name in space.names}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=row["value"]))
    found = optuna.importance.FanovaImportanceEvaluator(seed=seed).evaluate(study)
    return {name: float(found.get(name, 0.0)) for name in space.names}


def _test_knob(own: Matrix, rest: Matrix, values: Matrix, studies: NDArray[np.int64], *, seed: int) -> float:
    """Return the p-value of no effect of a knob, given what the others and the studies explain.

    Partial F of least squares; its distribution comes from residuals permuted inside each study.

    Args:
        own: columns of the knob, of which ``rest`` may explain a part.
        rest: columns of all else.
        studies: which study each trial is of, as numbers.
    """
    known = _span(rest)
    extra = _span(own - known @ (known.T @ own))
    freedom = len(values) - known.shape[1] - extra.shape[1]
    residuals = values - known @ (known.T @ values)
    spread = float((residuals**2).sum())
    if not extra.shape[1] or freedom < LEAST_FREEDOM or spread < LEAST_SPREAD**2:
        return 1.0  # it moves only with others, there are too few trials, or nothing varies
    rng = np.random.default_rng(seed)
    dealt = np.repeat(residuals[:, None], PERMUTATIONS, axis=1)
    for study in np.unique(studies):
        dealt[studies == study] = rng.permuted(dealt[studies == study], axis=0)
    dealt -= known @ (known.T @ dealt)
    explained = ((extra.T @ dealt) ** 2).sum(axis=0) / (dealt**2).sum(axis=0)  # rises and falls with F
    true = float(((extra.T @ residuals) ** 2).sum()) / spread
    return float((1 + (explained >= true - LEAST_SPREAD).sum()) / (1 + PERMUTATIONS))


def _span(columns: Matrix) -> Matrix:
    """Return an orthonormal basis (n, rank) of the span of columns."""
    scale = np.linalg.norm(columns, axis=0)
    basis, strength, _ = np.linalg.svd(columns / np.where(scale > LEAST_SPREAD, scale, np.inf), full_matrices=False)
    return np.asarray(basis[:, strength > 1e-6])


def _curve(matrix: Matrix, columns: Sequence[int]) -> Matrix:
    """Return the columns of a knob for least squares: choices as they are, a range as its rank and that squared."""
    if len(columns) > 1:
        return matrix[:, list(columns)]
    ranks = stats.rankdata(matrix[:, columns[0]])
    straight = ranks / len(ranks) - 0.5 if np.ptp(ranks) else np.zeros(len(ranks))
    return np.stack([straight, straight**2], axis=1)


def _predict_average(forest: ExtraTreesRegressor, matrix: Matrix, columns: list[int]) -> Matrix:
    """Return the partial dependence (Friedman 2001) of each trial on these columns, less its mean."""
    settings, where = np.unique(matrix[:, columns], axis=0, return_inverse=True)
    means = np.array([_predict_with(forest, matrix, columns, setting) for setting in settings])
    expected = means[where.reshape(-1)]
    return np.asarray(expected - expected.mean())


def _predict_with(forest: ExtraTreesRegressor, matrix: Matrix, columns: list[int], setting: Matrix) -> float:
    changed = matrix.copy()
    changed[:, columns] = setting
    return float(forest.predict(changed).mean())
