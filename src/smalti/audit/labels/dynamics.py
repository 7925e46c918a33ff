"""Training dynamics of images that the network did not learn from: written while a fold learns, read by the audit.

Both measures are known for training images (Toneva et al. 2019; Pleiss et al. 2020). Here no label of the image was in
the training, so that a wrong label cannot have been memorised, and any other label can be asked about as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...records import Dynamics


def measure_margin_areas(dynamics: Dynamics, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area under the margin of each image: the logit of its label less the largest other, mean over epochs
    and seeds.

    Negative where another class led most of the time (Pleiss et al. 2020). They measure training images and need a
    made-up class to see how far memorising lifts a wrong label; held out nothing is memorised, so that zero divides.

    Args:
        dynamics: at least one row for each image.
        labels: (n,) class of each of ``dynamics.names``.
    """
    margins = _measure_margins(dynamics, labels)
    counts = np.bincount(dynamics.image, minlength=len(labels))
    return np.bincount(dynamics.image, weights=margins, minlength=len(labels)) / counts


def average_scores(dynamics: Dynamics) -> NDArray[np.float64]:
    """Return (n, C) probabilities, mean over epochs and seeds (confidence of Swayamdipta et al. 2020, by class)."""
    scores = np.exp(dynamics.logits - dynamics.logits.max(axis=1, keepdims=True)).astype(np.float64)
    scores /= scores.sum(axis=1, keepdims=True)
    count = len(dynamics.names)
    sums = [np.bincount(dynamics.image, weights=column, minlength=count) for column in scores.T]
    return np.asarray(np.stack(sums, axis=1) / np.bincount(dynamics.image, minlength=count)[:, None])


def count_forgettings(dynamics: Dynamics, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how often each image went from right to wrong between two epochs, mean over seeds.

    Infinite for an image that was never right in any seed, as Toneva et al. (2019) rank them. Arguments as above.
    """
    order = np.lexsort((dynamics.epoch, dynamics.seed, dynamics.image))
    right = (_measure_margins(dynamics, labels) > 0)[order]
    image, seed = dynamics.image[order], dynamics.seed[order]
    follows = (image[1:] == image[:-1]) & (seed[1:] == seed[:-1])
    forgotten = follows & right[:-1] & ~right[1:]
    events = np.bincount(image[1:], weights=forgotten, minlength=len(labels)) / len(np.unique(seed))
    events[np.bincount(image, weights=right, minlength=len(labels)) == 0] = np.inf
    return events


def track_losses(dynamics: Dynamics, labels: NDArray[np.int64]) -> list[tuple[tuple[int, float], ...]]:
    """Return (epoch, loss of the label) of each image, mean over the seeds still learning; arguments as above."""
    logits = dynamics.logits.astype(np.float64)
    highest = logits.max(axis=1, keepdims=True)
    totals = highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1))
    losses = totals - logits[np.arange(len(logits)), labels[dynamics.image]]
    epochs = int(dynamics.epoch.max()) + 1
    cells = dynamics.image * epochs + dynamics.epoch
    counts = np.bincount(cells, minlength=len(labels) * epochs).reshape(-1, epochs)
    sums = np.bincount(cells, weights=losses, minlength=len(labels) * epochs).reshape(-1, epochs)
    return [
        tuple((int(e), float(total[e] / count[e])) for e in np.flatnonzero(count))
        for total, count in zip(sums, counts, strict=True)
    ]


def _measure_margins(dynamics: Dynamics, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (R,) the logit of the label less the largest other."""
    rows, given = np.arange(len(dynamics.logits)), labels[dynamics.image]
    others = dynamics.logits.astype(np.float64)
    own = others[rows, given]
    others[rows, given] = -np.inf
    return np.asarray(own - others.max(axis=1))
