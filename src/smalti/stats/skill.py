"""Skill of a witness: balanced accuracy on the given labels, where it is beyond chance by case.

Images of one case are alike, so that a witness which knows nothing about labels is right or wrong about whole cases.
Counted by image, such luck looks like skill.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHUFFLES = 399
DOUBT = 0.025  # share of witnesses without skill that are counted as skilled


def measure_skill(
    scores: NDArray[np.float64], labels: NDArray[np.int64], cases: NDArray[np.str_] | None = None
) -> float:
    """Return how well scores (n, C) predict the labels: balanced accuracy from 0, a guess, to 1.

    It is 0 where it may be chance: where too many of `SHUFFLES` reassignments of predictions to other cases agree with
    the labels as well. Each case gets the predictions of another one, in random order and repeated where that one is
    smaller. They are then independent of labels and as alike within a case as before (a permutation test by blocks,
    Pitman 1937; Winkler et al. 2015).

    Args:
        scores: (n, C) probabilities of the classes.
        labels: (n,) class given to each image.
        cases: (n,) case of each image; None: each image is its own.
    """
    said = scores.argmax(axis=1)
    counts = np.bincount(labels, minlength=scores.shape[1])
    right = np.bincount(labels, weights=said == labels, minlength=scores.shape[1])
    guess = 1 / scores.shape[1]
    above = float((right / counts).mean()) - guess
    if above <= 0:
        return 0.0
    case = np.arange(len(said)) if cases is None else np.unique(cases, return_inverse=True)[1].ravel()
    order = np.argsort(case, kind="stable")
    said, labels, case = said[order], labels[order], case[order]
    sizes = np.bincount(case)
    starts = np.cumsum(sizes) - sizes
    within = np.arange(len(case)) - starts[case]
    weights = 1 / np.bincount(labels)[labels]  # recalls of all classes count alike
    reached = weights[said == labels].sum() - 1e-9
    rng = np.random.default_rng(0)
    lucky = 0
    for _ in range(SHUFFLES):
        source = rng.permutation(len(sizes))[case]
        inside = np.argsort(case + rng.random(len(case))) if sizes.max() > 1 else np.arange(len(case))
        moved = said[inside[starts[source] + within % sizes[source]]]
        lucky += weights[moved == labels].sum() >= reached
    return 0.0 if lucky > DOUBT * (SHUFFLES + 1) - 1 else above / (1 - guess)
