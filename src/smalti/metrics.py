"""Metrics: pure NumPy functions of the true classes and the scores.

Everywhere: ``y_true`` (n,) class indices, ``scores`` (n, C) probabilities; the predicted class is the column with the
largest score (the first of equals). What happens to classes that do not occur:

* macro-F1 averages over the classes that occur in the truth *or* among the predictions (scikit-learn's default);
* balanced accuracy averages the recall over the classes that occur in the truth;
* AUC averages over the classes that have both an image of the class and one of another class;
* precision, recall or F1 of a class whose denominator is zero is 0; its AUC is NaN.

A metric that no class can be averaged for is NaN.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError
from .registry import Registry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

METRICS: Registry[float] = Registry("metric")
LOWER_IS_BETTER = frozenset({"log_loss"})
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)


@METRICS.register(
    "macro_f1",
    summary="mean F1 of the classes that occur in truth or prediction",
    reference="Opitz & Burst 2019 (the mean of F1 scores, not the F1 of means)",
)
def macro_f1(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Return the macro-averaged F1 of ``y_true`` (n,) and ``scores`` (n, C)."""
    return float(macro_f1_of_confusions(_confuse(y_true, scores)))


@METRICS.register(
    "balanced_accuracy",
    summary="mean recall of the classes that occur in the truth",
    reference="Brodersen et al. 2010",
)
def balanced_accuracy(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean recall of ``y_true`` (n,) and ``scores`` (n, C)."""
    return float(balanced_accuracy_of_confusions(_confuse(y_true, scores)))


@METRICS.register("accuracy", summary="share of the images whose class is predicted", reference="")
def accuracy(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Return the share of correct predictions of ``y_true`` (n,) and ``scores`` (n, C)."""
    return float(accuracy_of_confusions(_confuse(y_true, scores)))


@METRICS.register(
    "auc",
    summary="area under the ROC curve, each class against the rest, mean over classes",
    reference="Hanley & McNeil 1982; Provost & Domingos 2000 (one against the rest)",
)
def auc(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Return the macro one-against-rest AUC of ``y_true`` (n,) and ``scores`` (n, C); equal scores count one half."""
    values = auc_per_class(y_true, scores)
    return float(mean_present(values, ~np.isnan(values)))


@METRICS.register(
    "log_loss",
    summary="mean of -log of the score of the true class; lower is better",
    reference="Good 1952",
)
def log_loss(y_true: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean negative log-likelihood in nats of ``y_true`` (n,) and ``scores`` (n, C)."""
    return float(np.mean(image_losses(y_true, scores)))


def image_losses(y_true: ArrayLike, scores: ArrayLike) -> Floats:
    """Return -log of the score of the true class of each image in nats, (n,), clipped to [2.2e-16, 1 - 2.2e-16]."""
    truth, probabilities = _check(y_true, scores)
    of_truth = probabilities[np.arange(truth.size), truth]
    losses: Floats = -np.log(np.clip(of_truth, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))
    return losses


def predict_classes(scores: ArrayLike) -> Ints:
    """Return the column with the largest score, (..., C) -> (...); the first of equals."""
    return np.argmax(np.asarray(scores), axis=-1).astype(np.int64)


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, *, n_classes: int) -> Ints:
    """Return the counts (C, C): rows are true classes, columns predicted classes.

    Raises:
        DataError: the two differ in length, or a class is outside 0..C-1.
    """
    truth, predicted = np.asarray(y_true, dtype=np.int64), np.asarray(y_pred, dtype=np.int64)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise DataError(f"true classes {truth.shape} and predicted {predicted.shape} must be two vectors of one length")
    _check_range(truth, n_classes)
    _check_range(predicted, n_classes)
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def f1_of_confusions(counts: ArrayLike) -> Floats:
    """Return the F1 of each class, (..., C, C) -> (..., C); 0 for a class that occurs nowhere."""
    matrix = np.asarray(counts, dtype=np.float64)
    return _divide(2 * _diagonal(matrix), matrix.sum(-1) + matrix.sum(-2))


def macro_f1_of_confusions(counts: ArrayLike) -> Floats:
    """Return the macro-F1 of many confusion matrices at once, (..., C, C) -> (...); counts may be weighted."""
    matrix = np.asarray(counts, dtype=np.float64)
    return mean_present(f1_of_confusions(matrix), matrix.sum(-1) + matrix.sum(-2) > 0)


def balanced_accuracy_of_confusions(counts: ArrayLike) -> Floats:
    """Return the balanced accuracy of many confusion matrices at once, (..., C, C) -> (...)."""
    matrix = np.asarray(counts, dtype=np.float64)
    support = matrix.sum(-1)
    return mean_present(_divide(_diagonal(matrix), support), support > 0)


def accuracy_of_confusions(counts: ArrayLike) -> Floats:
    """Return the accuracy of many confusion matrices at once, (..., C, C) -> (...)."""
    matrix = np.asarray(counts, dtype=np.float64)
    return _diagonal(matrix).sum(-1) / matrix.sum((-1, -2))


def per_class(y_true: ArrayLike, scores: ArrayLike) -> dict[str, Floats]:
    """Return precision, recall, f1, auc and support of each class, each (C,), one class against the rest."""
    counts = _confuse(y_true, scores).astype(np.float64)
    hits = _diagonal(counts)
    return {
        "precision": _divide(hits, counts.sum(-2)),
        "recall": _divide(hits, counts.sum(-1)),
        "f1": f1_of_confusions(counts),
        "auc": auc_per_class(y_true, scores),
        "support": counts.sum(-1),
    }


def auc_per_class(y_true: ArrayLike, scores: ArrayLike) -> Floats:
    """Return the AUC of each class against the rest, (C,); NaN for a class without positives or without negatives."""
    truth, probabilities = _check(y_true, scores)
    values = np.full(probabilities.shape[1], np.nan)
    for label, column in enumerate(probabilities.T):
        positive = truth == label
        if 0 < positive.sum() < positive.size:
            pairs = positive.sum() * (~positive).sum()
            values[label] = _count_won(positive, column)[positive].sum() / pairs
    return values


def auc_without_each(positive: NDArray[np.bool_], score: Floats, *, group: Ints) -> Floats:
    """Return the AUC of one score without each group of images in turn, exactly; it sorts once, not for each group.

    Args:
        positive: (n,) whether the image is of the class.
        score: (n,) score of the class.
        group: (n,) group of the image, 0 to G - 1.

    Returns:
        (G,), NaN where no positive or no negative is left.
    """
    n_groups = int(group.max()) + 1
    lost = np.bincount(group, weights=_count_won(positive, score), minlength=n_groups)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n_groups + 1))
    mixed = [order[a:b] for a, b in pairwise(starts) if 0 < positive[order[a:b]].sum() < b - a]
    for members in mixed:  # pairs inside a group are lost once, not from both sides
        lost[group[members[0]]] -= _count_won(positive[members], score[members])[positive[members]].sum()
    won = _count_won(positive, score)[positive].sum() - lost
    of_positives = positive.sum() - np.bincount(group, weights=positive, minlength=n_groups)
    of_negatives = (~positive).sum() - np.bincount(group, weights=~positive, minlength=n_groups)
    pairs = of_positives * of_negatives
    return np.divide(won, pairs, out=np.full(n_groups, np.nan), where=pairs > 0)


def _count_won(positive: NDArray[np.bool_], score: Floats) -> Floats:
    """Return the pairs of each image in the right order, those of equal score by half, (n,) (DeLong et al. 1988)."""
    won = np.empty(len(score))
    for mine, sign in ((positive, 1.0), (~positive, -1.0)):
        others = np.sort(sign * score[~mine])
        own = sign * score[mine]
        won[mine] = (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / 2
    return won


def mean_present(values: Floats, present: NDArray[np.bool_]) -> Floats:
    """Return the mean along the last axis over the entries that are present; NaN where none is."""
    number = present.sum(-1)
    total = np.where(present, values, 0.0).sum(-1)
    return np.divide(total, number, out=np.full(np.shape(total), np.nan), where=number > 0)


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=below > 0)


def _confuse(y_true: ArrayLike, scores: ArrayLike) -> Ints:
    truth, probabilities = _check(y_true, scores)
    return confusion_matrix(truth, predict_classes(probabilities), n_classes=probabilities.shape[1])


def _check(y_true: ArrayLike, scores: ArrayLike) -> tuple[Ints, Floats]:
    truth, probabilities = np.asarray(y_true, dtype=np.int64), np.asarray(scores, dtype=np.float64)
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1] or truth.size == 0:
        raise DataError(
            f"true classes {truth.shape} and scores {probabilities.shape} do not fit", fix="give (n,) and (n, C), n > 0"
        )
    _check_range(truth, probabilities.shape[1])
    return truth, probabilities


def _check_range(classes: Ints, n_classes: int) -> None:
    if classes.size and (classes.min() < 0 or classes.max() >= n_classes):
        raise DataError(
            f"classes run from {classes.min()} to {classes.max()}, but there are {n_classes}", fix="number them from 0"
        )
