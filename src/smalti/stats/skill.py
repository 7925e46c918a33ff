"""Whether a witness tells the given labels better than a guess: balanced accuracy, and what chance makes of it by case.

Images of one case are alike, so that a witness which knows nothing about labels is right or wrong about whole cases.
Counted by image, such luck looks like skill.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHUFFLES = 399
DOUBT = 0.025  # share of witnesses that know nothing and are heard all the same


def measure_skill(
    scores: NDArray[np.float64], labels: NDArray[np.int64], cases: NDArray[np.str_] | None = None
) -> float:
    """How well scores (n, C) tell the labels: balanced accuracy from 0, a guess, to 1.

    0 where its lower bound does not beat a guess: where too many reassignments of what is said to other cases, whole
    cases at a time, agree with the labels as well (`count_lucky`).

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
    if above <= 0 or count_lucky(said, labels, cases) > DOUBT * (SHUFFLES + 1) - 1:
        return 0.0
    return above / (1 - guess)


def count_lucky(said: NDArray[np.int64], labels: NDArray[np.int64], cases: NDArray[np.str_] | None) -> int:
    """Of `SHUFFLES` reassignments of what is said (n,) to other cases, how many tell the labels no worse.

    Each case gets what was said about another one, in random order and over again where that one is smaller. What is
    said then has nothing to do with labels, and is as alike within a case as it was (a permutation test by blocks,
    Pitman 1937; Winkler et al. 2015).
    """
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
    return int(lucky)
