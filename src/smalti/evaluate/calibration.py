"""Calibration of the scores: of images scored 0.8, eight of ten should be right.

The expected calibration error of the predicted class: images are put into bins of equal width by the score of the
class that is predicted, and the distance between mean score and share of right predictions is averaged over images
(Naeini et al. 2015; Guo et al. 2017). It is not zero for a perfect model either: with few images a bin is off by luck.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..metrics import predict_classes
from ..records import Bin, Reliability

Floats = NDArray[np.float64]


def measure_calibration(y_true: ArrayLike, scores: ArrayLike, *, bins: int = 15) -> Reliability:
    """Return the calibration of the predicted classes of indices ``y_true`` (n,) and probabilities ``scores`` (n, C).

    Of K bins, bin k holds confidences (scores of the predicted class) above k/K, up to (k+1)/K, with the share of right
    predictions; an empty one has None.

    Raises:
        DataError: the two do not fit, there are no images, or no bins are asked for.
    """
    truth, probabilities = np.asarray(y_true, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1] or truth.size == 0 or bins < 1:
        raise DataError(
            f"true classes {truth.shape}, scores {probabilities.shape} and {bins} bins do not fit",
            fix="give (n,), (n, C) and at least 1 bin, n > 0",
        )
    top = probabilities.max(axis=1)
    right = predict_classes(probabilities) == truth
    position = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top, side="left")
    images = np.bincount(position, minlength=bins)

    def average(values: Floats) -> Floats:
        total = np.bincount(position, weights=values, minlength=bins)
        return np.divide(total, images, out=np.full(bins, np.nan), where=images > 0)

    confidence, accuracy = average(top), average(right.astype(np.float64))
    gaps = np.abs(confidence - accuracy)[images > 0]
    rows = zip(confidence.tolist(), accuracy.tolist(), images.tolist(), strict=True)
    found = tuple(Bin(confidence=mean, accuracy=share, images=count) for mean, share, count in rows)
    return Reliability(ece=float(gaps @ images[images > 0] / truth.size), bins=found)
