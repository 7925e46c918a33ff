"""Chance level: the score of a guess that never looks at an image.

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
from .intervals import CONFUSION_METRICS
from .pool import Pool

Floats = NDArray[np.float64]

AUC_NUMBERS = 20_000_000  # maximum of random numbers for the AUC of a guess; large tables get fewer guesses, >= 100
AUC_AT_ONCE = 2**17  # random numbers that are sorted together


@dataclass(frozen=True, slots=True)
class Chance:
    """Chance levels of one metric: the majority guess; mean and range of the prior guess."""

    majority: float
    prior: float
    prior_low: float
    prior_high: float


def score_chance(pool: Pool, *, guesses: int = 2000, confidence: float = 0.95, seed: int = 0) -> dict[str, Chance]:
    """Return chance levels of every registered metric on the labels and cases of the pool."""
    shares = pool.count_labels().sum(axis=0) / pool.y_true.size
    constant = np.broadcast_to(shares, (pool.y_true.size, shares.size))
    generator = np.random.default_rng(seed)
    # Cases with the same images per class are alike, so the number of them that is guessed as each class is one
    # multinomial draw: the cost does not grow with the number of cases.
    kinds, number = np.unique(pool.count_labels(), axis=0, return_counts=True)  # (K, C), (K,)
    confusions = np.zeros((guesses, shares.size, shares.size))
    for images, cases in zip(kinds, number, strict=True):
        drawn = generator.multinomial(cases, shares, size=guesses)  # (R, C)
        confusions += images[None, :, None] * drawn[:, None, :]
    guessed = {name: score(confusions) for name, score in CONFUSION_METRICS.items()}
    # The AUC of random probabilities: the same vector for all images of a case.
    labels = pool.count_labels().T  # (C, cases)
    sizes = labels.sum(axis=0)
    draws = int(np.clip(AUC_NUMBERS // labels.size, min(100, guesses), guesses))
    step = max(1, AUC_AT_ONCE // labels.size)
    aucs = []
    for start in range(0, draws, step):
        random = generator.standard_exponential((min(step, draws - start), *labels.T.shape))
        scores = random / random.sum(axis=2, keepdims=True)
        order = np.argsort(scores.transpose(0, 2, 1), axis=2)  # (R, C, cases)
        positive = np.take_along_axis(labels[None], order, axis=2)
        negative = sizes[order] - positive
        # Images of one case tie, so they count one half against each other.
        won = (positive * (np.cumsum(negative, axis=2) - negative / 2)).sum(axis=2)
        pairs = positive.sum(axis=2) * negative.sum(axis=2)
        aucs.append(np.divide(won, pairs, out=np.full(won.shape, np.nan), where=pairs > 0))
    of_classes = np.concatenate(aucs)  # (R, C)
    guessed["auc"] = mean_present(of_classes, ~np.isnan(of_classes))
    guessed["log_loss"] = np.array([log_loss(pool.y_true, constant)])
    chance = {}
    for entry in METRICS:
        values = guessed[entry.name]
        present = values[~np.isnan(values)]
        ends = [50 * (1 - confidence), 50 * (1 + confidence)]
        low, high = np.percentile(present, ends) if present.size else (np.nan, np.nan)
        mean = mean_present(values, ~np.isnan(values))
        chance[entry.name] = Chance(entry.call(pool.y_true, constant), float(mean), float(low), float(high))
    return chance
