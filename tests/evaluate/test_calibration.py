"""Calibration against torchmetrics, scikit-learn and torch's LBFGS; temperatures that stay sane on few images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from smalti.errors import DataError
from smalti.evaluate import measure_calibration
from smalti.metrics import log_loss
from smalti.predict import CALIBRATIONS, Rule

Drawn = tuple[NDArray[np.int64], NDArray[np.float64]]


def draw_scores(n: int, *, classes: int = 4, sureness: float = 1.0, spread: float = 1.5, random: int = 0) -> Drawn:
    """Classes drawn from the softmax of logits; the scores belong to the logits times ``sureness``."""
    generator = np.random.default_rng(random)
    logits = generator.normal(size=(n, classes), scale=spread)
    y = (generator.random((n, 1)) > soften(logits).cumsum(axis=1)[:, :-1]).sum(axis=1)
    return y, soften(logits * sureness)


def soften(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit(y: Any, scores: Any, **arguments: Any) -> float:
    return CALIBRATIONS.build("temperature", **arguments)(y, scores)


def cool(scores: Any, temperature: float) -> Any:
    return Rule(temperature, (1.0,) * scores.shape[1]).apply(scores)


# --- the error ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "classes", "bins"), [(7, 2, 15), (200, 4, 15), (1000, 3, 10), (500, 5, 1)])
def test_the_error_is_that_of_torchmetrics(n: int, classes: int, bins: int) -> None:
    for random, sureness in enumerate((0.5, 1.0, 4.0)):
        y, scores = draw_scores(n, classes=classes, sureness=sureness, random=random)
        theirs = multiclass_calibration_error(torch.from_numpy(scores), torch.from_numpy(y), classes, bins)
        assert measure_calibration(y, scores, bins=bins).ece == pytest.approx(float(theirs), abs=1e-6)


def test_the_bins_are_those_of_scikit_learn() -> None:
    y, scores = draw_scores(300, sureness=2.0)
    found = measure_calibration(y, scores).bins
    accuracy, confidence = calibration_curve(scores.argmax(axis=1) == y, scores.max(axis=1), n_bins=15)
    kept = [row for row in found if row.images]
    assert 0 < len(kept) < len(found) == 15
    np.testing.assert_allclose([row.accuracy for row in kept], accuracy)
    np.testing.assert_allclose([row.confidence for row in kept], confidence)
    assert all(row.accuracy is None for row in found if not row.images)
    assert sum(row.images for row in found) == 300


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    scores = [[0.75, 0.25], [0.76, 0.24], [1.0, 0.0], [0.5, 0.5]]
    assert [row.images for row in measure_calibration([0, 0, 0, 0], scores, bins=4).bins] == [0, 1, 1, 2]


def test_honest_scores_have_a_small_error_and_boasting_ones_a_large_one() -> None:
    assert measure_calibration(*draw_scores(20_000)).ece < 0.015
    assert measure_calibration(*draw_scores(20_000, sureness=4.0)).ece > 0.1


def test_the_record_survives_json_with_none_in_empty_bins() -> None:
    described = measure_calibration([0, 1], [[0.9, 0.1], [0.95, 0.05]]).model_dump(mode="json")
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["ece"] == pytest.approx((abs(0.9 - 1) + abs(0.95 - 0)) / 2)
    assert described["bins"][0] == {"confidence": None, "accuracy": None, "images": 0}
    assert described["bins"][13] == {"confidence": pytest.approx(0.9), "accuracy": 1.0, "images": 1}
    assert len(described["bins"]) == 15


@pytest.mark.parametrize(("y", "scores", "bins"), [([], np.empty((0, 2)), 15), ([0], [0.5], 15), ([0], [[1, 0]], 0)])
def test_what_cannot_be_measured_is_refused(y: Any, scores: Any, bins: int) -> None:
    with pytest.raises(DataError, match="Fix"):
        measure_calibration(y, scores, bins=bins)


# --- the temperature ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sureness", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_lbfgs(sureness: float) -> None:
    y, scores = draw_scores(200, sureness=sureness, random=3)
    logits, truth = torch.from_numpy(np.log(scores)), torch.from_numpy(y)
    rate = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [rate], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> float:
        search.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits / rate.exp(), truth)
        loss.backward()
        return float(loss.detach())

    search.step(step)
    assert fit(y, scores, imagined_cases=0) == pytest.approx(float(rate.detach().exp()), rel=1e-6)


def test_imagined_cases_are_images_with_soft_labels() -> None:
    """The same optimum where their cross-entropy is written out and minimised by another method."""
    y, scores = draw_scores(40, sureness=3.0)
    cases = np.arange(40) // 4

    def loss(log_temperature: float) -> float:
        logs = np.log(soften(np.log(scores) / np.exp(log_temperature)))
        return float(-logs[np.arange(40), y].sum() - 2 * 4 * (scores * logs).sum(axis=1).mean())

    best = optimize.minimize_scalar(loss, bounds=(-2, 2), method="bounded", options={"xatol": 1e-10})
    found = CALIBRATIONS.build("temperature", imagined_cases=2)(y, scores, cases)
    assert found == pytest.approx(np.exp(best.x), rel=1e-6)


@pytest.mark.parametrize("sureness", [0.4, 1.0, 3.0])
def test_logits_that_were_multiplied_give_the_factor_back(sureness: float) -> None:
    assert fit(*draw_scores(5000, sureness=sureness)) == pytest.approx(sureness, rel=0.06)


def test_no_temperature_changes_a_class() -> None:
    _, scores = draw_scores(2000, classes=5)
    for temperature in (0.1, 0.7, 1.0, 3.0, 10.0):
        np.testing.assert_array_equal(cool(scores, temperature).argmax(axis=1), scores.argmax(axis=1))


def test_held_out_scores_of_a_boasting_network_come_nearer_to_the_truth() -> None:
    for random in range(5):
        temperature = fit(*draw_scores(60, sureness=3.0, random=random))
        y, scores = draw_scores(2000, sureness=3.0, random=100 + random)
        cooled = cool(scores, temperature)
        assert measure_calibration(y, cooled).ece < measure_calibration(y, scores).ece / 2
        assert log_loss(y, cooled) < log_loss(y, scores)


def test_few_images_that_are_all_right_do_not_ask_for_certainty() -> None:
    _, scores = draw_scores(15)
    y = scores.argmax(axis=1)
    assert fit(y, scores, imagined_cases=0) == pytest.approx(0.1)
    assert 0.3 < fit(y, scores) < 1


def test_the_temperature_stays_in_its_bounds() -> None:
    y, scores = draw_scores(400, sureness=30.0)
    assert fit(y, scores) == 10.0
    assert fit(y, np.eye(4)[y]) == 1.0


def test_without_images_or_with_one_class_the_temperature_is_one() -> None:
    y, scores = draw_scores(30, sureness=3.0)
    assert fit(y[:0], scores[:0]) == 1.0
    assert fit(np.full(30, 2), scores) == 1.0
    assert CALIBRATIONS.build("none")(y, scores, None) == 1.0


def test_copies_of_a_case_are_no_new_evidence() -> None:
    y, scores = draw_scores(12, sureness=3.0)
    copies, case = np.repeat(np.arange(12), 8), np.repeat(np.arange(12), 8)
    found = CALIBRATIONS.build("temperature")(y[copies], scores[copies], case)
    assert found == pytest.approx(fit(y, scores))


def test_order_of_rows_and_classes_plays_no_role() -> None:
    y, scores = draw_scores(50, sureness=2.0)
    rows, classes = np.random.default_rng(1).permutation(50), np.array([2, 0, 3, 1])
    assert fit(y[rows], scores[rows]) == pytest.approx(fit(y, scores), rel=1e-9)
    assert fit(np.argsort(classes)[y], scores[:, classes]) == pytest.approx(fit(y, scores), rel=1e-9)
