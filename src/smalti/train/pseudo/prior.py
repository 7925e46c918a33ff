"""The shares of the classes in a population without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_STEPS = 1000
TOLERANCE = 1e-8  # of a share, from one step to the next


def estimate_prior(scores: Floats, prior: Floats, *, imagined: float = 0.0) -> Floats:
    """Estimate the shares of the classes (C,) among images with scores (n, C) of a classifier that learned under
    ``prior`` (C,), by expectation maximisation (Saerens, Latinne & Decaestecker 2002, eq. 2.9).

    What tells the classes apart is taken to be the same in both populations. The result is only as good as the
    calibration of the scores (Alexandari, Kundaje & Shrikumar 2020), which few labels leave uncertain: ``imagined``
    images with the shares of ``prior`` draw it there (a Dirichlet prior). Without images it is ``prior``.
    """
    shares = prior
    for _ in range(MOST_STEPS if len(scores) else 0):
        found = shift_prior(scores, prior, shares).sum(axis=0)
        new = (found + imagined * prior) / (len(scores) + imagined)
        done = np.abs(new - shares).max() < TOLERANCE
        shares = new
        if done:
            break
    return np.asarray(shares, dtype=np.float64)


def shift_prior(scores: Floats, prior: Floats, shares: Floats) -> Floats:
    """Return the scores (..., C) that a classifier would give had it learned under ``shares`` in place of ``prior``
    (Saerens et al. 2002, eq. 2.4)."""
    shifted = scores * (shares / prior)
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
