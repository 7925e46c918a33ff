"""The scores of a prediction table, each with its interval and its chance level, as ``scores.json`` holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics import METRICS, image_losses, per_class, predict_classes
from ..stats.chance import score_chance
from ..stats.intervals import count_confusions
from ..stats.pool import Pool, check_predictions, index_labels, pool_predictions
from ..types import score_columns
from .calibration import measure_calibration
from .margins import METHOD, describe_cover, measure_class_margins, measure_margins

HEADLINE = "macro_f1"


def score_predictions(
    out_of_fold: pd.DataFrame,
    *,
    classes: Sequence[str],
    inner: pd.DataFrame | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Score a table of out-of-fold predictions; also one that another tool made.

    The score is computed on the pooled predictions of a seed, then averaged over seeds; never as a mean over folds,
    which small folds bias (Forman & Scholz 2010).

    Args:
        out_of_fold: columns ``image, case, fold, seed, label, score_<class>...``; ``case`` (each image its own),
            ``fold`` and ``seed`` (0) may be missing.
        classes: class names in score order.
        inner: the predictions that chose the epochs, same columns; gives the optimism.
        confidence: confidence of the intervals.

    Returns:
        ``classes, n_images, n_units, n_cases, n_seeds, n_folds, metrics, per_class, confusion, calibration, inner,
        optimism, interval``; what cannot be computed (the AUC of a class without images) is None.

    Raises:
        DataError: the table cannot be scored; every problem at once, with lines and fixes.
    """
    pool = pool_predictions(out_of_fold, classes=tuple(classes))
    metrics = _score_metrics(pool, confidence)
    chosen = None if inner is None else _score_inner(inner, pool.classes)
    result = {
        "classes": list(pool.classes),
        "n_images": len(pool.images),
        "n_units": len(pool.images),
        "n_cases": pool.n_cases,
        "n_seeds": len(pool.scores),
        "n_folds": len(np.unique(pool.fold)),
        "metrics": metrics,
        "per_class": _score_classes(pool, confidence),
        "confusion": count_confusions(pool).sum(axis=1).mean(axis=0).tolist(),
        "calibration": _measure_calibration(pool),
        "inner": chosen,
        "optimism": None if chosen is None else chosen[HEADLINE] - metrics[HEADLINE]["value"],
        "interval": {
            "method": METHOD,
            "covers": describe_cover(pool),
            "confidence": confidence,
            "trustworthy": metrics[HEADLINE]["trustworthy"],
            "reason": metrics[HEADLINE]["reason"],
        },
    }
    return dict(replace_nan(result))


def highest_losses(out_of_fold: pd.DataFrame, *, classes: Sequence[str], count: int = 24) -> pd.DataFrame:
    """The images that the networks got most wrong: wrong labels, odd images, or plain errors.

    Args:
        out_of_fold: as in `score_predictions`.
        classes: class names in score order.
        count: number of images.

    Returns:
        ``image, case, folds, label, predicted, loss, score_<class>...``, highest loss first. Loss (nats) and scores are
        means over seeds, ``predicted`` the largest mean score, ``folds`` the fold of each seed.

    Raises:
        DataError: as `score_predictions`.
    """
    pool = pool_predictions(out_of_fold, classes=tuple(classes))
    losses = np.mean([image_losses(pool.y_true, scores) for scores in pool.scores], axis=0)
    mean = pool.scores.mean(axis=0)
    first = np.argsort(-losses, kind="stable")[:count]
    names = np.array(pool.classes, dtype=object)
    table = pd.DataFrame(
        {
            "image": [pool.images[i] for i in first],
            "case": [pool.cases[pool.case[i]] for i in first],
            "folds": [", ".join(str(fold) for fold in pool.fold[:, i]) for i in first],
            "label": names[pool.y_true[first]],
            "predicted": names[predict_classes(mean[first])],
            "loss": losses[first],
        }
    )
    table[score_columns(pool.classes)] = mean[first]
    return table


def _measure_calibration(pool: Pool) -> dict[str, Any]:
    """Of the predictions of all seeds together."""
    everything = pool.scores.reshape(-1, len(pool.classes))
    return measure_calibration(np.tile(pool.y_true, len(pool.scores)), everything).describe()


def _score_metrics(pool: Pool, confidence: float) -> dict[str, dict[str, Any]]:
    chance = score_chance(pool, confidence=confidence)
    margins = measure_margins(pool, confidence=confidence)
    metrics = {}
    for entry in METRICS:
        guess = chance[entry.name]
        metrics[entry.name] = {
            **asdict(margins[entry.name]),
            "per_seed": [entry.build(pool.y_true, scores) for scores in pool.scores],
            "chance_majority": guess.majority,
            "chance_prior": guess.prior,
            "chance_prior_low": guess.prior_low,
            "chance_prior_high": guess.prior_high,
        }
    return metrics


def _score_classes(pool: Pool, confidence: float) -> dict[str, dict[str, Any]]:
    by_seed = [per_class(pool.y_true, scores) for scores in pool.scores]
    values = {name: np.mean([seed[name] for seed in by_seed], axis=0) for name in by_seed[0]}
    margins = measure_class_margins(pool, confidence=confidence)
    return {
        name: {key: float(column[position]) for key, column in values.items()}
        | {f"f1_{key}": getattr(margins[position], key) for key in ("low", "high", "trustworthy", "reason")}
        for position, name in enumerate(pool.classes)
    }


def _score_inner(inner: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, float]:
    """Every metric of the inner predictions, pooled per seed, mean over seeds."""
    table = check_predictions(inner, classes=classes)
    pooled: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for _, rows in table.groupby("seed"):
        pooled.append((index_labels(rows, classes=classes), rows[score_columns(classes)].to_numpy(dtype=np.float64)))
    return {e.name: float(np.mean([e.build(truth, scores) for truth, scores in pooled])) for e in METRICS}


def replace_nan(value: Any) -> Any:
    """The same structure with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: replace_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
