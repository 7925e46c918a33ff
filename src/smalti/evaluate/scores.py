"""The scores of a prediction table, each with its interval and its chance level, as ``scores.json`` holds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..metrics import METRICS, image_losses, per_class, predict_classes
from ..records import HEADLINE, ClassScore, Cover, Score, UnitScores
from ..stats.chance import score_chance
from ..stats.intervals import count_confusions
from ..stats.pool import Pool, check_predictions, pool_predictions, score_by_seed
from ..types import score_columns
from .calibration import measure_calibration
from .margins import METHOD, describe_cover, measure_class_margins, measure_margins


def score_predictions(
    out_of_fold: pd.DataFrame,
    *,
    classes: Sequence[str],
    inner: pd.DataFrame | None = None,
    confidence: float = 0.95,
) -> UnitScores:
    """Score a table of out-of-fold predictions; also one that another tool made.

    The score is computed on the pooled predictions of a seed, then averaged over seeds; never as a mean over folds,
    which small folds bias (Forman & Scholz 2010).

    Args:
        out_of_fold: columns ``image, case, fold, seed, label, score_<class>...``; ``case`` (each image its own),
            ``fold`` and ``seed`` (0) may be missing.
        classes: class names in score order.
        inner: the predictions of the inner images, which made every choice; same columns; gives the optimism.
        confidence: confidence of the intervals.

    Raises:
        DataError: the table cannot be scored; every problem at once, with lines and fixes.
    """
    pool = pool_predictions(out_of_fold, classes=tuple(classes))
    metrics = _score_metrics(pool, confidence)
    headline, chosen = metrics[HEADLINE], None
    if inner is not None:
        table = check_predictions(inner, classes=pool.classes)
        chosen = {entry.name: score_by_seed(table, entry.name, classes=pool.classes) for entry in METRICS}
    everything = pool.scores.reshape(-1, len(pool.classes))  # of all seeds
    by_seed = [per_class(pool.y_true, scores) for scores in pool.scores]
    values = {name: np.mean([seed[name] for seed in by_seed], axis=0) for name in by_seed[0]}
    margins = measure_class_margins(pool, confidence=confidence)
    return UnitScores(
        classes=pool.classes,
        n_images=len(pool.images),
        n_units=len(pool.images),
        n_cases=pool.n_cases,
        n_seeds=len(pool.scores),
        n_folds=len(np.unique(pool.fold)),
        metrics=metrics,
        per_class={
            name: ClassScore(
                **{key: float(column[position]) for key, column in values.items()},
                **{f"f1_{key}": getattr(margin, key) for key in ("low", "high", "trustworthy", "reason")},
            )
            for position, (name, margin) in enumerate(zip(pool.classes, margins, strict=True))
        },
        confusion=count_confusions(pool).sum(axis=1).mean(axis=0).tolist(),
        calibration=measure_calibration(np.tile(pool.y_true, len(pool.scores)), everything),
        inner=chosen,
        optimism=None if chosen is None or headline.value is None else chosen[HEADLINE] - headline.value,
        interval=Cover(
            method=METHOD,
            covers=describe_cover(pool),
            confidence=confidence,
            trustworthy=headline.trustworthy,
            reason=headline.reason,
        ),
    )


def highest_losses(out_of_fold: pd.DataFrame, *, classes: Sequence[str], count: int = 24) -> pd.DataFrame:
    """Return the images with the highest loss: wrong labels, odd images, or plain errors.

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


def _score_metrics(pool: Pool, confidence: float) -> dict[str, Score]:
    chance = score_chance(pool, confidence=confidence)
    margins = measure_margins(pool, confidence=confidence)
    return {
        entry.name: Score(
            **margins[entry.name].model_dump(),
            per_seed=tuple(entry.call(pool.y_true, scores) for scores in pool.scores),
            chance_majority=chance[entry.name].majority,
            chance_prior=chance[entry.name].prior,
            chance_prior_low=chance[entry.name].prior_low,
            chance_prior_high=chance[entry.name].prior_high,
        )
        for entry in METRICS
    }
