"""From scores to decided scores: a calibration, then weights of the classes, one rule per fold and seed.

A rule is fitted on the inner images of a fold and seed and applied to whatever the network of that fold and seed has
scored. It never sees an outer label. The out-of-fold predictions of *other* folds would be no substitute: the
networks that made them have learned from the labels of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import recipe
from ..errors import DataError
from ..records import FoldRule, Rules
from ..types import score_columns
from .calibrations import CALIBRATIONS, log_scores
from .thresholds import DECISIONS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Key = tuple[int, int]  # seed, fold


@dataclass(frozen=True, slots=True)
class Rule:
    """A temperature and the weights of the classes."""

    temperature: float
    weights: tuple[float, ...]

    def apply(self, scores: Floats) -> Floats:
        """Return scores (n, C) ** (1/temperature) * weights, divided by their sum: the largest one *is* the
        decision."""
        if self.temperature == 1 and all(weight == 1 for weight in self.weights):
            return scores.copy()
        logs = log_scores(scores) / self.temperature + np.log(self.weights)
        decided = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares: Floats = decided / decided.sum(axis=1, keepdims=True)
        return shares


def fit_rule(
    y: Ints, scores: Floats, *, calibration: str, decision: str, cases: NDArray[np.generic] | None = None
) -> Rule:
    """Fit a calibration, then a decision on the calibrated scores.

    Args:
        y: (n,) class indices of inner images; none gives the plain rule.
        scores: (n, C) their scores.
        calibration: name of one of ``CALIBRATIONS``.
        decision: name of one of ``DECISIONS``.
        cases: (n,) their cases, which are resampled as a whole; None: each image is its own.

    Raises:
        PartError: a name is not registered.
    """
    fit_temperature, fit_weights = CALIBRATIONS.build(calibration), DECISIONS.build(decision)
    ones = (1.0,) * scores.shape[1]
    if not len(y):
        return Rule(1.0, ones)
    temperature = fit_temperature(y, scores, cases)
    weights = fit_weights(y, Rule(temperature, ones).apply(scores), cases)
    return Rule(temperature, tuple(float(weight) for weight in weights))


def settle_tables(
    inner: pd.DataFrame, others: Mapping[str, pd.DataFrame], *, classes: tuple[str, ...], predict: recipe.Predict
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], Rules]:
    """Fit a rule on the inner rows of each seed and fold and apply it to all rows of that seed and fold.

    Args:
        inner: prediction table of the inner images; the only labels that are read.
        others: prediction tables by name (outer, test, sealed).
        classes: class names in score order.
        predict: names of calibration and decision.

    Returns:
        The inner table and the others with decided scores, rows and all else as before; and the rules, which are plain
        where there are no inner rows.

    Raises:
        DataError: an inner row has no known label.
        PartError: no such calibration or decision.
    """
    unknown = inner[~inner["label"].isin(classes)]
    if len(unknown):
        raise DataError(
            f"{len(unknown)} inner predictions have none of the labels {', '.join(classes)}, first that of "
            f"{unknown['image'].iloc[0]}",
            fix="run 'smalti predict' again",
        )
    rows = _find_rows(inner)
    y = pd.Index(classes).get_indexer(pd.Index(inner["label"])).astype(np.int64)
    cases = inner["case"].to_numpy(dtype=str)
    scores = inner[score_columns(classes)].to_numpy(dtype=np.float64)
    keys = sorted(set(rows).union(*(_find_rows(table) for table in others.values())))
    rules: dict[Key, Rule] = {}
    for key in keys:
        chosen = rows.get(key, np.empty(0, dtype=np.int64))
        rules[key] = fit_rule(
            y[chosen],
            scores[chosen],
            calibration=predict.calibration,
            decision=predict.decision,
            cases=cases[chosen],
        )
    settled = {name: _apply_rules(table, rules, classes) for name, table in others.items()}
    fitted = [
        FoldRule(
            seed=seed,
            fold=fold,
            temperature=rules[seed, fold].temperature,
            weights=dict(zip(classes, rules[seed, fold].weights, strict=True)),
            n_inner=len(rows.get((seed, fold), ())),
        )
        for seed, fold in keys
    ]
    return _apply_rules(inner, rules, classes), settled, Rules(rules=tuple(fitted))


def _find_rows(table: pd.DataFrame) -> dict[Key, Ints]:
    """Return positions of the rows of each seed and fold."""
    numbers = table[["seed", "fold"]].to_numpy(dtype=np.int64)
    keys, group = np.unique(numbers, axis=0, return_inverse=True)
    return {(int(seed), int(fold)): np.flatnonzero(group.ravel() == i) for i, (seed, fold) in enumerate(keys)}


def _apply_rules(table: pd.DataFrame, rules: Mapping[Key, Rule], classes: tuple[str, ...]) -> pd.DataFrame:
    scores = table[score_columns(classes)].to_numpy(dtype=np.float64).copy()
    for key, chosen in _find_rows(table).items():
        scores[chosen] = rules[key].apply(scores[chosen])
    settled = table.copy()
    settled[score_columns(classes)] = scores
    return settled
