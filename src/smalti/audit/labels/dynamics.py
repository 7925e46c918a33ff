"""Training dynamics of images that the network did not learn from: written while a fold learns, read by the audit.

Both measures are known for training images (Toneva et al. 2019; Pleiss et al. 2020). Here no label of the image was in
the training, so that a wrong label cannot have been memorised, and any other label can be asked about as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ... import store

DYNAMICS_NAME = "dynamics.npz"  # in the folder of the prediction tables
NUMBERS = ("image", "seed", "epoch", "logits")


@dataclass(frozen=True, slots=True, eq=False)
class Dynamics:
    """Held-out logits of images, one row for each image, seed and epoch; rows of an image and seed in epoch order.

    Attributes:
        names: images.
        classes: in the order of the logits.
        image: (R,) position in ``names``.
        seed, epoch: (R,) which training, and how far it was; epochs count on from phase to phase.
        logits: (R, C).
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    image: NDArray[np.int64]
    seed: NDArray[np.int64]
    epoch: NDArray[np.int64]
    logits: NDArray[np.float32]


def write_dynamics(path: Path, dynamics: Dynamics) -> Path:
    """Write an ``.npz`` atomically; equal dynamics give equal bytes."""
    texts = {key: np.array(getattr(dynamics, key), dtype=np.str_) for key in ("names", "classes")}
    return store.write_arrays(path, texts | {key: getattr(dynamics, key) for key in NUMBERS})


def read_dynamics(path: Path) -> Dynamics:
    """Read what `write_dynamics` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    arrays = store.read_arrays(path, ("names", "classes", *NUMBERS))
    names, classes = (tuple(str(text) for text in arrays.pop(key)) for key in ("names", "classes"))
    return Dynamics(names, classes, **arrays)


def join_dynamics(parts: Sequence[Path], path: Path) -> Path:
    """Write the dynamics of several folds and seeds as one file."""
    read = [read_dynamics(part) for part in parts]
    names = tuple(dict.fromkeys(name for one in read for name in one.names))
    position = {name: i for i, name in enumerate(names)}
    moved = [np.array([position[name] for name in one.names], dtype=np.int64)[one.image] for one in read]
    whole = Dynamics(
        names=names,
        classes=read[0].classes,
        image=np.concatenate(moved),
        seed=np.concatenate([one.seed for one in read]),
        epoch=np.concatenate([one.epoch for one in read]),
        logits=np.concatenate([one.logits for one in read]),
    )
    return write_dynamics(path, whole)


def measure_margin_areas(dynamics: Dynamics, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Area under the margin of each image: mean over epochs and seeds of its label's logit less the largest other.

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
    """(n, C) probabilities, mean over epochs and seeds (the confidence of Swayamdipta et al. 2020, for every class)."""
    scores = np.exp(dynamics.logits - dynamics.logits.max(axis=1, keepdims=True)).astype(np.float64)
    scores /= scores.sum(axis=1, keepdims=True)
    count = len(dynamics.names)
    sums = [np.bincount(dynamics.image, weights=column, minlength=count) for column in scores.T]
    return np.asarray(np.stack(sums, axis=1) / np.bincount(dynamics.image, minlength=count)[:, None])


def count_forgettings(dynamics: Dynamics, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """How often each image went from right to wrong between two epochs, mean over seeds.

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
    """(epoch, cross-entropy of the label) of each image, mean over the seeds still learning; arguments as above."""
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
    """(R,) logit of the label less the largest other."""
    rows, given = np.arange(len(dynamics.logits)), labels[dynamics.image]
    others = dynamics.logits.astype(np.float64)
    own = others[rows, given]
    others[rows, given] = -np.inf
    return np.asarray(own - others.max(axis=1))
