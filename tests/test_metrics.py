"""Metrics against scikit-learn, and the stated rules for classes that do not occur."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from smalti import metrics
from smalti.errors import DataError
from smalti.metrics import METRICS

EXACT = 1e-12


@st.composite
def predictions(draw: st.DrawFn, *, complete: bool = False, least_classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """True classes and probabilities; coarse ones often, so that scores tie."""
    n_classes = draw(st.integers(least_classes, 5))
    n = draw(st.integers(n_classes, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y_true = generator.integers(0, n_classes, size=n)
    if complete:
        y_true[:n_classes] = np.arange(n_classes)
    raw = (
        generator.integers(1, 5, size=(n, n_classes))
        if draw(st.booleans())
        else generator.gamma(1, size=(n, n_classes))
    )
    return y_true, raw / raw.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_confusion_metrics_agree_with_scikit_learn_also_when_classes_are_absent(data) -> None:
    y_true, scores = data
    y_pred, n_classes = scores.argmax(axis=1), scores.shape[1]
    expected = reference.confusion_matrix(y_true, y_pred, labels=range(n_classes))
    np.testing.assert_array_equal(metrics.confusion_matrix(y_true, y_pred, n_classes=n_classes), expected)
    macro = reference.f1_score(y_true, y_pred, average="macro", zero_division=0)
    assert metrics.macro_f1(y_true, scores) == pytest.approx(macro, abs=EXACT)
    assert metrics.accuracy(y_true, scores) == pytest.approx(reference.accuracy_score(y_true, y_pred), abs=EXACT)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scikit-learn warns about predicted classes that do not occur, then does the same
        balanced = reference.balanced_accuracy_score(y_true, y_pred)
    assert metrics.balanced_accuracy(y_true, scores) == pytest.approx(balanced, abs=EXACT)


@settings(deadline=None, max_examples=60)
@given(predictions())
def test_log_loss_agrees_with_scikit_learn(data) -> None:
    y_true, scores = data
    expected = reference.log_loss(y_true, scores, labels=range(scores.shape[1]))
    assert metrics.log_loss(y_true, scores) == pytest.approx(expected, abs=EXACT)


@settings(deadline=None, max_examples=60)
@given(predictions(complete=True, least_classes=3))
def test_auc_agrees_with_scikit_learn(data) -> None:
    y_true, scores = data
    expected = reference.roc_auc_score(y_true, scores, multi_class="ovr", average="macro")
    assert metrics.auc(y_true, scores) == pytest.approx(expected, abs=EXACT)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(predictions(complete=True))
def test_per_class_agrees_with_scikit_learn(data) -> None:
    y_true, scores = data
    found = metrics.per_class(y_true, scores)
    labels = range(scores.shape[1])
    expected = reference.precision_recall_fscore_support(y_true, scores.argmax(1), labels=labels, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found[name], values, atol=EXACT)
    areas = [reference.roc_auc_score(y_true == c, scores[:, c]) for c in labels]
    np.testing.assert_allclose(found["auc"], areas, atol=EXACT)


@settings(deadline=None, max_examples=30)
@given(predictions())
def test_every_metric_ignores_the_order_of_images_and_of_classes(data) -> None:
    y_true, scores = data
    rows = np.random.default_rng(0).permutation(y_true.size)
    columns = np.random.default_rng(1).permutation(scores.shape[1])
    scores = scores + np.random.default_rng(2).uniform(0, 1e-6, scores.shape)  # ties are decided by the class order
    for entry in METRICS:
        value = entry.call(y_true, scores)
        assert isinstance(value, float)
        assert entry.call(y_true[rows], scores[rows]) == pytest.approx(value, abs=EXACT, nan_ok=True)
        swapped = entry.call(np.argsort(columns)[y_true], scores[:, columns])
        assert swapped == pytest.approx(value, abs=EXACT, nan_ok=True)


def test_many_confusions_at_once_equal_one_by_one() -> None:
    counts = np.random.default_rng(3).integers(0, 3, size=(4, 7, 3, 3))
    found = metrics.macro_f1_of_confusions(counts)
    assert found.shape == (4, 7)
    for index in np.ndindex(4, 7):
        truth, predicted = np.nonzero(np.ones((3, 3)))
        repeats = counts[index].ravel()
        truth, predicted = np.repeat(truth, repeats), np.repeat(predicted, repeats)
        assert found[index] == pytest.approx(reference.f1_score(truth, predicted, average="macro"), abs=EXACT)


def test_perfect_scores_and_the_registry() -> None:
    y_true = np.array([0, 1, 2, 2])
    perfect = {"macro_f1": 1.0, "balanced_accuracy": 1.0, "accuracy": 1.0, "auc": 1.0, "log_loss": 0.0}
    assert next(entry.name for entry in METRICS) == "macro_f1"
    assert {entry.name: entry.call(y_true, np.eye(3)[y_true]) for entry in METRICS} == pytest.approx(perfect)
    assert {e.name for e in METRICS} >= metrics.LOWER_IS_BETTER
    assert all(entry.summary for entry in METRICS)


def test_what_no_class_can_be_averaged_for_is_nan() -> None:
    scores = np.array([[0.7, 0.3], [0.6, 0.4]])
    assert np.isnan(metrics.auc([0, 0], scores))
    assert np.isnan(metrics.macro_f1_of_confusions(np.zeros((2, 2))))
    assert metrics.macro_f1([0, 0], scores) == 1.0


@pytest.mark.parametrize(
    ("y_true", "scores"),
    [([0, 1], [[0.5, 0.5]]), ([0], [0.5]), ([2], [[0.5, 0.5]]), ([-1], [[0.5, 0.5]]), ([], np.empty((0, 2)))],
)
def test_input_that_does_not_fit_is_refused(y_true: list[int], scores: object) -> None:
    for entry in METRICS:
        with pytest.raises(DataError, match="Fix"):
            entry.call(y_true, scores)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(4, 60), st.integers(2, 12))
def test_auc_without_each_group_agrees_with_scikit_learn_on_what_is_left(seed: int, n: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    positive, score = rng.random(n) < 0.4, rng.integers(0, 6, n) / 6
    group = np.unique(rng.integers(0, groups, n), return_inverse=True)[1]
    found = metrics.auc_without_each(positive, score, group=group)
    for one, value in enumerate(found):
        left = group != one
        if len(set(positive[left])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(reference.roc_auc_score(positive[left], score[left]), abs=EXACT)
