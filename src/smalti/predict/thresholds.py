"""Which class is said: weights of the classes, chosen for macro-F1 on inner images.

The class with the largest weight times score is said; a weight is the reciprocal of a threshold. Macro-F1 of the 15 to
150 images of an inner part is a step function that hangs on a few images, and its highest step is mostly luck. So

1. weights are chosen on each of many resamples of the inner cases, the smallest change among equals, and their
   geometric mean is taken (bagging; Breiman 1996);
2. each inner image is decided with the mean over those resamples that did not draw its case (out-of-bag); where that
   does not beat plain scores by one standard error of the paired difference, all weights stay 1 (the rule of one
   standard error, Breiman et al. 1984).

Scores should be calibrated first: the search is over weights of up to 20.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..metrics import mean_present
from ..registry import Registry
from .calibrations import log_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 100
LEAST_GAIN = 1.0  # standard errors that the out-of-bag gain must exceed
LOG_WEIGHTS = np.arange(-24, 25) / 8
POWERS = np.arange(-15, 16) / 10
SWEEPS = 3  # times that the search goes through all classes
CHUNK_NUMBERS = 4_000_000  # numbers per block of resamples: about 32 MB, whatever the number of images


class FitWeights(Protocol):
    """Find the weights (C,) of the classes from ``scores`` (n, C), classes ``y`` (n,) and ``cases`` (n,)."""

    def __call__(self, y: Ints, scores: Floats, cases: NDArray[np.generic] | None = None) -> Floats:
        """Weights with a geometric mean of 1; where there are no cases, each image is its own."""


DECISIONS: Registry[FitWeights] = Registry("decision")


@DECISIONS.register("largest", summary="the class with the largest score")
def build_largest() -> FitWeights:
    """All weights are 1."""
    return lambda y, scores, cases=None: np.ones(scores.shape[1])


@DECISIONS.register(
    "prior",
    summary="scores times a power of the shares of the classes; the power by macro-F1",
    reference="Saerens et al. 2002; Menon et al. 2021 (logit adjustment)",
)
def build_prior() -> FitWeights:
    """One number is chosen: weights are shares**power, from -1.5 to 1.5; the shares are those of the inner images.

    A power of -1 undoes the shares that a network has learned; a positive one returns those that a balanced loss took.
    """

    def fit(y: Ints, scores: Floats, cases: NDArray[np.generic] | None = None) -> Floats:
        logs = log_scores(scores)
        number = np.bincount(y, minlength=scores.shape[1]) + 1  # a class may have no inner image
        direction = np.log(number / number.sum())
        direction -= direction.mean()
        draws = _draw_cases(y, scores, cases)
        predicted = (logs + POWERS[:, None, None] * direction).argmax(axis=-1)  # (powers, n)
        values = np.stack([score_draws(y, row, draws) for row in predicted], axis=1)
        return _join(y, logs, draws, POWERS[_choose(values, np.abs(POWERS))][:, None] * direction)

    return fit


@DECISIONS.register(
    "thresholds",
    summary="scores divided by a threshold of each class; the thresholds by macro-F1",
    reference="Lipton et al. 2014; Narasimhan et al. 2015",
)
def build_thresholds() -> FitWeights:
    """One weight per class, by coordinate search, the rarest class first; a class without inner images keeps 1."""

    def fit(y: Ints, scores: Floats, cases: NDArray[np.generic] | None = None) -> Floats:
        logs, number = log_scores(scores), np.bincount(y, minlength=scores.shape[1])
        draws = _draw_cases(y, scores, cases)
        # By their numbers of images, not by their names: a class must not gain by its place in the alphabet.
        order = [c for c in np.lexsort((scores.mean(axis=0), number)) if number[c]]
        blocks = np.array_split(draws, min(RESAMPLES, 1 + draws.size * number.size // CHUNK_NUMBERS))
        found = np.concatenate([_search_weights(y, logs, block, order) for block in blocks])
        found[:, order] -= found[:, order].mean(axis=1, keepdims=True)
        return _join(y, logs, draws, found)

    return fit


def _draw_cases(y: Ints, scores: Floats, cases: NDArray[np.generic] | None) -> Floats:
    """How often each image was drawn, (R, n), cases with replacement; the order of rows and classes plays no role."""
    if cases is None:
        own = scores[np.arange(y.size), y]
        order = np.lexsort((*scores.T, y, *np.sort(scores, axis=1).T, own))
        numbers = np.empty(y.size, dtype=np.int64)
        numbers[order] = np.arange(y.size)
    else:
        numbers = np.unique(cases, return_inverse=True)[1]
    n_cases = int(numbers.max()) + 1
    drawn = np.random.default_rng(0).integers(0, n_cases, size=(RESAMPLES, n_cases))
    counts = np.stack([np.bincount(row, minlength=n_cases) for row in drawn])
    return counts[:, numbers].astype(np.float64)


def _join(y: Ints, logs: Floats, draws: Floats, log_weights: Floats) -> Floats:
    """Weights (C,) from the log weights (R, C) of the resamples; ones unless they gain out-of-bag."""
    absent = (draws == 0).astype(np.float64)
    # An image that every resample drew is decided by plain scores.
    out_of_bag = absent.T @ log_weights / np.maximum(absent.sum(axis=0), 1)[:, None]  # (n, C)
    if np.unique(y).size < 2:
        return np.ones(logs.shape[1])  # any weights that say nothing but this class would seem to gain
    gains = score_draws(y, (logs + out_of_bag).argmax(axis=1), draws) - score_draws(y, logs.argmax(axis=1), draws)
    if gains.mean() <= LEAST_GAIN * gains.std():
        return np.ones(logs.shape[1])
    weights: Floats = np.exp(log_weights.mean(axis=0))
    return weights


def score_draws(y: Ints, predicted: Ints, draws: Floats) -> Floats:
    """Macro-F1 of predictions (n,) under each resample, (R,)."""
    n_classes = int(max(y.max(), predicted.max())) + 1
    rows = np.arange(n_classes)
    truth, said = y[:, None] == rows, predicted[:, None] == rows
    return _mean_f1(draws @ (truth & said), draws @ truth, draws @ said)


def _mean_f1(hits: Floats, truth: Floats, said: Floats) -> Floats:
    """Macro-F1 from counts (..., C), over classes that occur in truth or prediction, as `smalti.metrics`."""
    both = truth + said
    return mean_present(np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0), both > 0)


def _choose(values: Floats, change: Floats) -> Ints:
    """Of candidates (R, K) the best in each row; the smallest change (K,) among equals."""
    best = values >= values.max(axis=1, keepdims=True) - 1e-9
    return np.where(best, change, np.inf).argmin(axis=1)


def _search_weights(y: Ints, logs: Floats, draws: Floats, order: list[int]) -> Floats:
    """Log weights of each resample, (R, C): one class after the other is set to its best, until none moves."""
    log_weights = np.zeros((len(draws), logs.shape[1]))
    for _ in range(SWEEPS):
        before = log_weights.copy()
        for position in order:
            values = try_weights(y, logs + log_weights[:, None], draws, position, logs[:, position])
            log_weights[:, position] = LOG_WEIGHTS[_choose(values, np.abs(LOG_WEIGHTS))]
        if np.array_equal(before, log_weights):
            break
    return log_weights


def try_weights(y: Ints, weighted: Floats, draws: Floats, position: int, logs: Floats) -> Floats:
    """Macro-F1 of each resample for every log weight of one class, (R, K).

    Args:
        y: (n,) true classes.
        weighted: (R, n, C) log scores plus log weights; changed.
        draws: (R, n).
        position: the class whose weight is tried.
        logs: (n,) its log scores.
    """
    weighted[:, :, position] = -np.inf
    rival = weighted.argmax(axis=-1)  # (R, n)
    # The image goes to the class from that weight on which makes up for its distance to the rival.
    needed = np.take_along_axis(weighted, rival[..., None], axis=-1)[..., 0] - logs
    steps = LOG_WEIGHTS.size + 1
    cell = np.searchsorted(LOG_WEIGHTS, needed, side="right") + steps * np.arange(len(draws))[:, None]

    def count_taken(images: Floats) -> Floats:
        """Images (R, n) that went to the class at each weight, (R, K)."""
        taken = np.bincount(cell.ravel(), weights=images.ravel(), minlength=steps * len(draws))
        return taken.reshape(-1, steps).cumsum(axis=1)[:, :-1]

    hits, said = np.empty((2, len(draws), LOG_WEIGHTS.size, weighted.shape[2]))
    truth = np.stack([draws @ (y == c) for c in range(weighted.shape[2])], axis=-1)[:, None]  # (R, 1, C)
    for c in range(weighted.shape[2]):
        images = draws if c == position else draws * (rival == c)
        right = images * (y == c)
        said[..., c], hits[..., c] = count_taken(images), count_taken(right)
        if c != position:
            said[..., c] = images.sum(axis=1, keepdims=True) - said[..., c]
            hits[..., c] = right.sum(axis=1, keepdims=True) - hits[..., c]
    return _mean_f1(hits, np.broadcast_to(truth, hits.shape), said)
