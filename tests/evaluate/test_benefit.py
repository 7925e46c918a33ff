"""Decision curves and operating points against loops, scikit-learn and the closed form; what chooses never scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from smalti.evaluate import measure_operating
from smalti.evaluate.benefit import choose_threshold, fit_line
from two_classes import CLASSES, draw_tables


def measure(outer: pd.DataFrame, inner: pd.DataFrame | None, **more: Any) -> Any:
    return measure_operating(outer, inner, classes=CLASSES, resamples=more.pop("resamples", 200), **more)


def test_net_benefit_is_the_loop_over_images() -> None:
    outer, inner = draw_tables(seeds=2)
    found = measure(outer, inner)
    expected = np.zeros(len(found.curve))
    for _, rows in outer.groupby("seed"):
        probability = np.empty(len(rows))
        for fold, held in rows.groupby("fold"):
            taught = inner[(inner["seed"] == held["seed"].iloc[0]) & (inner["fold"] == fold)]
            ill = (taught["label"] == "malignant").to_numpy()
            line = fit_line(ill, taught["score_malignant"].to_numpy(), taught["case"].to_numpy())
            place = rows.index.get_indexer(held.index)
            probability[place] = line.apply(held["score_malignant"].to_numpy())
        for i, point in enumerate(found.curve):
            t, benefit = point.threshold, 0.0
            for p, label in zip(probability, rows["label"], strict=True):
                if p >= t:
                    benefit += 1 if label == "malignant" else -t / (1 - t)
            expected[i] += benefit / len(rows) / 2
    assert [point.net_benefit.value for point in found.curve] == pytest.approx(expected, abs=1e-12)


def test_treating_all_has_its_closed_form_and_a_perfect_model_finds_the_prevalence() -> None:
    outer, inner = draw_tables(skill=40.0)
    found = measure(outer, inner)
    for point in found.curve:
        odds = point.threshold / (1 - point.threshold)
        assert point.treat_all == pytest.approx(found.prevalence - (1 - found.prevalence) * odds)
        assert point.net_benefit.value <= found.prevalence + 1e-12
        assert point.net_benefit.value >= 0.8 * found.prevalence
    middle = found.curve[49]
    assert middle.net_benefit.low < middle.net_benefit.value < middle.net_benefit.high
    low, high = found.find_useful()
    assert low < 0.5 < high


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 1.0])
def test_a_threshold_is_the_best_of_the_roc_curve(target: float) -> None:
    generator = np.random.default_rng(3)
    truth = generator.random(80) < 0.4
    score = np.round(np.where(truth, 0.6, 0.4) + generator.normal(0, 0.2, 80), 2).clip(0, 1)
    false_alarms, found, thresholds = roc_curve(truth, score, drop_intermediate=False)
    for asked in ("specificity", "sensitivity"):
        threshold, reached = choose_threshold(truth, score, asked, target)
        called = score >= threshold
        sensitivity, specificity = called[truth].mean(), (~called)[~truth].mean()
        assert reached == pytest.approx(specificity if asked == "specificity" else sensitivity)
        if asked == "specificity":
            best = found[1 - false_alarms >= target - 1e-12].max()
            assert sensitivity == pytest.approx(best)
        else:
            best = (1 - false_alarms)[found >= target - 1e-12].max()
            assert specificity == pytest.approx(best)
        assert reached >= target - 1e-12
    assert len(thresholds)


def test_sensitivity_and_specificity_are_counted_on_outer_images_at_inner_thresholds() -> None:
    outer, inner = draw_tables(seeds=2, random=5)
    found = measure(outer, inner)
    point = next(p for p in found.points if p.asked == "specificity" and p.target == 0.9)
    hits, passed = [], []
    for (seed, fold), held in outer.groupby(["seed", "fold"]):
        taught = inner[(inner["seed"] == seed) & (inner["fold"] == fold)]
        # A rising line changes no order, so the thresholds of the scores themselves call the same images.
        threshold, _ = choose_threshold(
            (taught["label"] == "malignant").to_numpy(), taught["score_malignant"].to_numpy(), "specificity", 0.9
        )
        called = held["score_malignant"] >= threshold
        hits += list(called[held["label"] == "malignant"])
        passed += list(~called[held["label"] == "benign"])
    assert point.sensitivity.value == pytest.approx(np.mean(hits))
    assert point.specificity.value == pytest.approx(np.mean(passed))


def test_labels_of_outer_images_choose_nothing() -> None:
    outer, inner = draw_tables()
    turned = outer.assign(label=outer["label"].map(dict(zip(CLASSES, CLASSES[::-1], strict=True))))
    ours, theirs = measure(outer, inner), measure(turned, inner)
    for a, b in zip(ours.points, theirs.points, strict=True):
        assert (a.lowest, a.highest, a.inner) == (b.lowest, b.highest, b.inner)


def test_classes_change_places() -> None:
    outer, inner = draw_tables()
    ours = measure(outer, inner)
    theirs = measure(outer, inner, positive="benign")
    assert (theirs.positive, theirs.negative, theirs.n_positive) == (
        "benign",
        "malignant",
        ours.n_units - ours.n_positive,
    )
    one = next(p for p in ours.points if p.asked == "specificity" and p.target == 0.8)
    other = next(p for p in theirs.points if p.asked == "sensitivity" and p.target == 0.8)
    assert one.specificity.value == pytest.approx(other.sensitivity.value)
    assert one.sensitivity.value == pytest.approx(other.specificity.value, abs=0.05)  # ties fall to the other side


def test_the_line_is_the_maximum_likelihood_of_scikit_learn_with_many_cases() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, 4000)
    truth = generator.random(4000) < 1 / (1 + np.exp(-(0.5 * logits - 0.7)))
    line = fit_line(truth, 1 / (1 + np.exp(-logits)), np.arange(4000))
    theirs = LogisticRegression(C=np.inf).fit(logits[:, None], truth)
    assert line.slope == pytest.approx(theirs.coef_[0, 0], abs=0.01)
    assert line.intercept == pytest.approx(theirs.intercept_[0], abs=0.01)


def test_a_shift_by_class_weights_is_taken_back() -> None:
    plain, moved = (measure(*draw_tables(n_cases=400, shift=shift)) for shift in (0.0, 2.0))
    gaps = [a.net_benefit.value - b.net_benefit.value for a, b in zip(plain.curve, moved.curve, strict=True)]
    assert np.abs(gaps[:80]).max() < 0.01  # beyond, a single false alarm weighs more


def test_what_cannot_be_chosen_is_said() -> None:
    outer, inner = draw_tables()
    assert measure(outer, None).missing.startswith("there are no inner predictions")
    one = measure(outer, inner[(inner["fold"] != 2) | (inner["label"] == "benign")])
    assert "fold 2 of seed 0 has no inner images of both classes" in one.missing
    assert not one.points


def test_without_an_error_the_interval_has_a_width_and_is_not_trusted() -> None:
    outer, inner = draw_tables(skill=60.0)
    for point in measure(outer, inner).points:
        assert point.sensitivity.value == 1.0
        assert point.sensitivity.low < 0.95
        assert not point.sensitivity.trustworthy
        assert "cases with an error" in point.sensitivity.reason


@pytest.mark.slow
def test_intervals_by_case_cover_the_population() -> None:
    """The thresholds are the same each time, so that the truth is the mean over many cohorts."""
    _, inner = draw_tables(n_cases=300, skill=1.0, random=1000)
    found = []
    for random in range(60):
        outer, _ = draw_tables(n_cases=80, skill=1.0, random=random)
        measured = measure(outer, inner, resamples=300)
        gains = [measured.curve[i].gain for i in (9, 19, 29, 49, 69)]
        found.append([p.sensitivity for p in measured.points] + [p.specificity for p in measured.points] + gains)
    truth = np.mean([[number.value for number in row] for row in found], axis=0)
    held = [[number.low <= true <= number.high for number, true in zip(row, truth, strict=True)] for row in found]
    assert np.mean(held) > 0.93
    assert np.mean(held, axis=0).min() > 0.85  # without imagined errors 0.77 where hardly a case is missed
