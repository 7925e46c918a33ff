"""What a guess that never looks at an image would score: no number without it.

*Majority*: every image gets the most frequent class, with the shares of the classes as probabilities (scikit-learn's
``DummyClassifier(strategy="prior")``).

*Prior*: every case gets a class drawn with the shares of the classes. All images of a case get the same guess, because
a network that recognises a patient but no disease would do just that; where each image is its own case this is the
plain label-prior guess. AUC ranks random probabilities instead (one vector per case, uniform on the simplex). The log
loss of a class drawn at random is unbounded, so the best constant guess, the shares themselves, stands for it; its
range is a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metrics import METRICS, log_loss, mean_present
from .intervals import CONFUSION_METRICS, find_range
from .pool import Pool

Floats = NDArray[np.float64]

AUC_NUMBERS = 20_000_000  # most random numbers for the AUC of a guess; large tables get fewer, still >= 100, guesses


@dataclass(frozen=True, slots=True)
class Chance:
    """Chance levels of one metric: the majority guess; mean and range of the prior guess."""

    majority: float
    prior: float
    prior_low: float
    prior_high: float


def score_chance(pool: Pool, *, guesses: int = 2000, confidence: float = 0.95, seed: int = 0) -> dict[str, Chance]:
    """Chance levels of every registered metric on the labels and cases of the pool."""
    shares = pool.count_labels().sum(axis=0) / pool.y_true.size
    constant = np.broadcast_to(shares, (pool.y_true.size, shares.size))
    generator = np.random.default_rng(seed)
    confusions = _guess_confusions(pool, shares, guesses, generator)
    guessed = {name: score(confusions) for name, score in CONFUSION_METRICS.items()}
    guessed["auc"] = _guess_auc(pool, guesses, generator)
    guessed["log_loss"] = np.array([log_loss(pool.y_true, constant)])
    chance = {}
    for entry in METRICS:
        values = guessed[entry.name]
        low, high = find_range(values, confidence=confidence)
        mean = mean_present(values, ~np.isnan(values))
        chance[entry.name] = Chance(entry.build(pool.y_true, constant), float(mean), low, high)
    return chance


def _guess_confusions(pool: Pool, shares: Floats, guesses: int, generator: np.random.Generator) -> Floats:
    """Confusion counts of label-prior guesses, (R, C, C).

    Cases with the same images per class are alike, so the number of them that is guessed as each class is one
    multinomial draw: the cost does not grow with the number of cases.
    """
    kinds, number = np.unique(pool.count_labels(), axis=0, return_counts=True)  # (K, C), (K,)
    confusions = np.zeros((guesses, shares.size, shares.size))
    for images, cases in zip(kinds, number, strict=True):
        guessed = generator.multinomial(cases, shares, size=guesses)  # (R, C)
        confusions += images[None, :, None] * guessed[:, None, :]
    return confusions


def _guess_auc(pool: Pool, guesses: int, generator: np.random.Generator) -> Floats:
    """Macro AUC of random probabilities per case, (R,)."""
    labels = pool.count_labels()  # (cases, C)
    draws = int(np.clip(AUC_NUMBERS // labels.size, min(100, guesses), guesses))
    values = np.empty((draws, labels.shape[1]))
    for row in values:
        scores = generator.standard_exponential(labels.shape)
        order = np.argsort(scores / scores.sum(axis=1, keepdims=True), axis=0)
        positive = np.take_along_axis(labels, order, axis=0)
        negative = labels.sum(axis=1)[order] - positive
        # Images of one case tie, so they count one half against each other.
        won = (positive * (np.cumsum(negative, axis=0) - negative / 2)).sum(axis=0)
        pairs = positive.sum(axis=0) * negative.sum(axis=0)
        row[:] = np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0)
    return mean_present(values, ~np.isnan(values))
