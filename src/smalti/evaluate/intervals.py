"""How sure a score is: bootstrap of the cases.

Cases, not images, are drawn with replacement: images of one patient are alike, and treating them as independent gives
intervals that are too short (Efron & Tibshirani 1993, ch. 8; Davison & Hinkley 1997, ch. 3.8). All seeds see the same
draw, and the score of a draw is the mean over seeds, as the reported score is. The interval is the percentile interval.
What it covers: another sample of cases scored by the *same* folds and networks; it does not refit them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics import (
    METRICS,
    accuracy_of_confusions,
    balanced_accuracy_of_confusions,
    f1_of_confusions,
    image_losses,
    macro_f1_of_confusions,
    mean_present,
    predict_classes,
    weighted_auc,
)
from .pool import Pool

Floats = NDArray[np.float64]

METHOD = "percentile bootstrap, cases drawn with replacement, the same draw for all seeds"
LEAST_CASES = 20
LEAST_CASES_OF_CLASS = 5
CHUNK_NUMBERS = 8_000_000  # numbers per block of weights: about 64 MB, whatever the number of cases
CONFUSION_METRICS: dict[str, Callable[[Floats], Floats]] = {
    "macro_f1": macro_f1_of_confusions,
    "balanced_accuracy": balanced_accuracy_of_confusions,
    "accuracy": accuracy_of_confusions,
}


@dataclass(frozen=True, slots=True)
class Replicates:
    """Scores of every resample.

    Attributes:
        metrics: name of the metric -> (R,), mean over seeds.
        f1: (R, C) F1 of each class, mean over seeds.
    """

    metrics: dict[str, Floats]
    f1: Floats


def draw_weights(n_cases: int, *, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """How often each case was drawn, in blocks (r, n_cases) that sum to ``resamples`` rows.

    The draws depend on the three numbers only, so two prediction tables of the same cases can be compared on them.
    """
    generator = np.random.default_rng(seed)
    block = int(np.clip(CHUNK_NUMBERS // n_cases, 1, resamples))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, n_cases, size=(size, n_cases)) + n_cases * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_cases).reshape(size, n_cases).astype(np.float64)


def count_confusions(pool: Pool) -> Floats:
    """Confusion counts of each case and seed, (S, n_cases, C, C)."""
    n_classes = len(pool.classes)
    predicted = predict_classes(pool.scores)  # (S, n)
    cell = (pool.case * n_classes + pool.y_true) * n_classes + predicted  # (S, n)
    length = pool.n_cases * n_classes**2
    counts = [np.bincount(row, minlength=length) for row in cell]
    return np.array(counts, dtype=np.float64).reshape(-1, pool.n_cases, n_classes, n_classes)


def resample_cases(pool: Pool, *, resamples: int, seed: int = 0) -> Replicates:
    """Every registered metric, and the F1 of each class, under each resample of the cases."""
    counts = count_confusions(pool)
    n_seeds, n_cases, n_classes, _ = counts.shape
    flat = counts.reshape(n_seeds, n_cases, -1)
    number, loss = _sum_losses(pool)
    blocks: dict[str, list[Floats]] = {entry.name: [] for entry in METRICS}
    f1 = []
    for weights in draw_weights(n_cases, resamples=resamples, seed=seed):
        drawn = (weights @ flat).reshape(n_seeds, len(weights), n_classes, n_classes)
        for name, score in CONFUSION_METRICS.items():
            blocks[name].append(score(drawn).mean(axis=0))
        blocks["auc"].append(_score_auc(pool, weights))
        blocks["log_loss"].append((weights @ loss) / (weights @ number))
        f1.append(f1_of_confusions(drawn).mean(axis=0))
    return Replicates({name: np.concatenate(values) for name, values in blocks.items()}, np.concatenate(f1))


def find_interval(replicates: Floats, *, confidence: float) -> tuple[Floats, Floats]:
    """Percentile interval along the first axis, (R, ...) -> low (...), high (...); NaN replicates are left out."""
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    columns = replicates.reshape(len(replicates), -1)
    limits = np.full((2, columns.shape[1]), np.nan)
    for column, values in enumerate(columns.T):
        present = values[~np.isnan(values)]
        if present.size:
            limits[:, column] = np.percentile(present, tails)
    low, high = limits.reshape(2, *replicates.shape[1:])
    return low, high


def judge_trust(pool: Pool) -> tuple[bool, str]:
    """Whether there are cases enough for a bootstrap interval, and the reason in words.

    With few cases the percentile interval is too short: a resample cannot show what was never seen.
    """
    with_class = (pool.count_labels() > 0).sum(axis=0)
    few = [f"{name} ({n})" for name, n in zip(pool.classes, with_class, strict=True) if n < LEAST_CASES_OF_CLASS]
    reasons = []
    if pool.n_cases < LEAST_CASES:
        reasons.append(f"there are only {pool.n_cases} cases (at least {LEAST_CASES} are needed)")
    if few:
        reasons.append(f"classes with fewer than {LEAST_CASES_OF_CLASS} cases: {', '.join(few)}")
    if reasons:
        return False, "; ".join(reasons)
    return True, f"{pool.n_cases} cases, every class in {with_class.min()} cases or more"


def _sum_losses(pool: Pool) -> tuple[Floats, Floats]:
    """Images of each case, and their summed log loss, mean over seeds; each (n_cases,)."""
    losses = np.mean([image_losses(pool.y_true, scores) for scores in pool.scores], axis=0)
    number = np.bincount(pool.case, minlength=pool.n_cases).astype(np.float64)
    return number, np.bincount(pool.case, weights=losses, minlength=pool.n_cases).astype(np.float64)


def _score_auc(pool: Pool, weights: Floats) -> Floats:
    """Macro AUC under weights (R, n_cases), mean over seeds, (R,)."""
    of_images = np.ascontiguousarray(weights.T)[pool.case]  # (n, R)
    by_seed = []
    for scores in pool.scores:
        values = np.array(
            [weighted_auc(pool.y_true == c, scores[:, c], weights=of_images) for c in range(len(pool.classes))]
        )
        by_seed.append(mean_present(values.T, ~np.isnan(values.T)))
    return np.mean(by_seed, axis=0)
