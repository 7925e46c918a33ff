"""Rules: no outer label reaches one, chance stays chance, weights help where they can and do no harm where not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from smalti.errors import DataError, PartError
from smalti.evaluate import score_predictions
from smalti.metrics import macro_f1
from smalti.predict import CALIBRATIONS, DECISIONS, Rule, fit_rule, settle_tables
from smalti.predict.thresholds import LOG_WEIGHTS, score_draws, try_weights
from smalti.recipe import Predict

CLASSES = ("a", "b", "c", "d")
SCORES = [f"score_{name}" for name in CLASSES]
SHARES = np.array([0.45, 0.3, 0.15, 0.1])
RULES = list(itertools.product(("none", "temperature"), ("largest", "prior", "thresholds")))
PROBLEMS = 6

Drawn = tuple[NDArray[np.int64], NDArray[np.float64]]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def draw_scores(n: int, *, tilt: Any = 0.0, random: int = 0) -> Drawn:
    """Classes with ``SHARES`` and the true posteriors of Gaussian features, their logits shifted by ``tilt``."""
    generator = np.random.default_rng(random)
    y = generator.choice(4, size=n, p=SHARES)
    features = generator.normal(size=(n, 4))
    features[np.arange(n), y] += 1.3
    powers = SHARES * np.exp(1.3 * features + tilt)
    return y, powers / powers.sum(axis=1, keepdims=True)


def measure_gain(decision: str, n: int, *, tilt: Any, draws: int = 12) -> NDArray[np.float64]:
    """Macro-F1 on new images with weights fitted on n inner images, minus that of plain scores; one per draw."""
    gains = []
    for random in range(draws):
        rule = fit_rule(*draw_scores(n, tilt=tilt, random=random), calibration="none", decision=decision)
        y, scores = draw_scores(3000, tilt=tilt, random=1000 + random)
        gains.append(macro_f1(y, rule.apply(scores)) - macro_f1(y, scores))
    return np.array(gains)


def draw_chance(number: int, *, strength: float, folds: int = 10) -> Tables:
    """Inner and outer table of logistic regressions on features that know the case and nothing of its shuffled class.

    80 cases of 2 images. A strength of 0.01 hardly learns, one of 100 learns by heart.
    """
    generator = np.random.default_rng(number)
    of_case = generator.permutation(np.repeat(np.arange(4), (80 * SHARES).astype(int)))
    case = np.repeat(np.arange(80), 2)
    y, fold = of_case[case], case % folds
    features = generator.normal(size=(80, 15))[case] + 0.5 * generator.normal(size=(160, 15))
    inner, outer = [], []
    for held_out in range(folds):
        rest = np.unique(case[fold != held_out])
        choosing = np.isin(case, generator.permutation(rest)[: len(rest) // 4])
        learning = (fold != held_out) & ~choosing
        network = LogisticRegression(C=strength, class_weight="balanced", solver="newton-cholesky")
        network.fit(features[learning], y[learning])
        for rows, tables in ((choosing, inner), (fold == held_out, outer)):
            tables.append(make_table(y[rows], network.predict_proba(features[rows]), case[rows], fold=held_out))
            tables[-1]["image"] = [f"{i:03d}.png" for i in np.flatnonzero(rows)]
    return pd.concat(inner, ignore_index=True), pd.concat(outer, ignore_index=True)


def make_table(y: Any, scores: Any, case: Any, *, fold: int = 0, seed: int = 0) -> pd.DataFrame:
    table = pd.DataFrame({"image": [f"{i:03d}.png" for i in range(len(y))], "case": [f"p{c:02d}" for c in case]})
    table["fold"], table["seed"], table["label"] = fold, seed, np.array(CLASSES, dtype=object)[y]
    table[SCORES] = scores
    return table


def settle(inner: pd.DataFrame, outer: pd.DataFrame, calibration: str, decision: str) -> pd.DataFrame:
    section = Predict(calibration=calibration, decision=decision)
    return settle_tables(inner, {"outer": outer}, classes=CLASSES, predict=section)[1]["outer"]


# --- leaks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0.01, 100.0], ids=["weak", "by-heart"])
def problems(request: pytest.FixtureRequest) -> list[Tables]:
    return [draw_chance(number, strength=request.param) for number in range(PROBLEMS)]


def score_problems(problems: list[Tables], decide: Callable[[Tables], pd.DataFrame]) -> tuple[float, float, float]:
    """Mean macro-F1 over problems, the upper chance limit of such a mean, and log loss minus that of the shares."""
    rows = []
    for tables in problems:
        metrics = score_predictions(decide(tables), classes=CLASSES).metrics
        f1, loss = metrics["macro_f1"], metrics["log_loss"]
        rows.append((f1.value, f1.chance_prior, f1.chance_prior_high, loss.value - loss.chance_prior))
    value, chance, high, excess = np.mean(rows, axis=0)
    # The problems are drawn apart, so the range of their mean is narrower than that of one of them.
    return value, chance + (high - chance) / np.sqrt(len(problems)), excess


@pytest.mark.slow
@pytest.mark.parametrize(("calibration", "decision"), [("temperature", "prior"), ("temperature", "thresholds")])
def test_shuffled_labels_stay_at_chance(problems: list[Tables], calibration: str, decision: str) -> None:
    value, limit, excess = score_problems(problems, lambda t: settle(t[0], t[1], calibration, decision))
    assert value < limit
    assert excess > 0


@pytest.mark.slow
def test_the_same_rule_fitted_on_outer_rows_would_be_seen() -> None:
    """The test above has teeth: it fails for a rule that has seen what it is scored on."""
    problems = [draw_chance(number, strength=0.01) for number in range(PROBLEMS)]
    value, limit, _ = score_problems(problems, lambda t: settle(t[1], t[1], "temperature", "prior"))
    assert value > limit


@pytest.mark.slow
def test_thresholds_that_are_simply_the_best_on_outer_rows_would_be_seen() -> None:
    problems = [draw_chance(number, strength=0.01) for number in range(PROBLEMS)]
    candidates = np.exp(np.random.default_rng(0).normal(size=(200, 4)))

    def decide(tables: Tables) -> pd.DataFrame:
        outer = tables[1].copy()
        for _, rows in outer.groupby("fold"):
            y, scores = pd.Index(CLASSES).get_indexer(pd.Index(rows["label"])), rows[SCORES].to_numpy()
            best = max(candidates, key=lambda weights: macro_f1(y, scores * weights))
            outer.loc[rows.index, SCORES] = Rule(1.0, tuple(best)).apply(scores)
        return outer

    value, limit, _ = score_problems(problems, decide)
    assert value > limit


@pytest.mark.slow
def test_a_temperature_fitted_on_outer_rows_would_be_seen() -> None:
    problems = [draw_chance(number, strength=0.01) for number in range(PROBLEMS)]
    honest = score_problems(problems, lambda t: settle(t[0], t[1], "temperature", "largest"))
    leaking = score_problems(problems, lambda t: settle(t[1], t[1], "temperature", "largest"))
    assert leaking[2] < honest[2] - 0.02
    assert leaking[0] == honest[0]  # no class changes


@pytest.mark.slow
@pytest.mark.parametrize(("calibration", "decision"), RULES)
def test_outer_labels_change_no_rule(calibration: str, decision: str) -> None:
    inner, outer = draw_chance(0, strength=0.01)
    section = Predict(calibration=calibration, decision=decision)
    expected = settle_tables(inner, {"outer": outer}, classes=CLASSES, predict=section)
    for labels in (outer["label"].to_numpy()[::-1], np.nan, "nonsense"):
        found = settle_tables(inner, {"outer": outer.assign(label=labels)}, classes=CLASSES, predict=section)
        assert found[2] == expected[2]
        np.testing.assert_array_equal(found[1]["outer"][SCORES], expected[1]["outer"][SCORES])


def test_inner_rows_of_another_fold_change_no_rule() -> None:
    inner, outer = draw_chance(0, strength=0.01)
    section = Predict(calibration="temperature", decision="thresholds")
    expected = settle_tables(inner, {"outer": outer}, classes=CLASSES, predict=section)[2]
    others = inner["fold"] != 3
    changed = inner.assign(label=np.where(others, "a", inner["label"]))
    assert settle_tables(changed, {"outer": outer}, classes=CLASSES, predict=section)[2].rules[3] == expected.rules[3]


# --- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_thresholds_help_where_shares_were_learned_wrongly() -> None:
    for tilt in (np.log(SHARES), np.array([0.8, -0.8, 0.9, -0.9])):
        gains = measure_gain("thresholds", 150, tilt=tilt)
        assert gains.mean() > 0.05
        assert gains.min() > -0.01


@pytest.mark.slow
def test_a_power_of_the_shares_helps_where_rare_classes_were_kept_down() -> None:
    gains = measure_gain("prior", 150, tilt=np.log(SHARES))
    assert gains.mean() > 0.04
    assert gains.min() > -0.01


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["prior", "thresholds"])
def test_few_images_do_no_harm(decision: str) -> None:
    for tilt in (0.0, -np.log(SHARES)):
        gains = measure_gain(decision, 20, tilt=tilt, draws=40)
        assert gains.mean() > -0.01
        assert np.mean(gains == 0) > 0.6  # mostly they are left alone


def test_many_images_find_the_best_threshold_of_two_classes() -> None:
    y, four = draw_scores(4000, tilt=np.array([0, -2.0, 0, 0]))
    two, scores = (y == 1).astype(np.int64), np.stack([1 - four[:, 1], four[:, 1]], axis=1)
    rule = fit_rule(two, scores, calibration="none", decision="thresholds")
    best = max(f1_score(two, scores[:, 1] > threshold, average="macro") for threshold in np.linspace(0.01, 0.6, 100))
    assert macro_f1(two, scores) < best - 0.1
    assert macro_f1(two, rule.apply(scores)) > best - 0.005


def test_the_power_undoes_learned_shares() -> None:
    y, scores = draw_scores(3000, tilt=np.log(SHARES))
    weights = np.array(fit_rule(y, scores, calibration="none", decision="prior").weights)
    slope, _ = np.polyfit(np.log(np.bincount(y)), np.log(weights), 1)
    assert -1.5 < slope < -0.5


@pytest.mark.parametrize("decision", ["largest", "prior", "thresholds"])
def test_weights_have_a_geometric_mean_of_one_and_come_out_the_same_again(decision: str) -> None:
    y, scores = draw_scores(150, tilt=np.log(SHARES))
    fit = DECISIONS.build(decision)
    weights = fit(y, scores, None)
    assert np.log(weights).mean() == pytest.approx(0, abs=1e-12)
    assert (weights > 0).all()
    assert np.array_equal(weights, fit(y, scores, None))
    assert (weights == 1).all() == (decision == "largest")


def test_a_class_without_inner_images_keeps_its_weight() -> None:
    y, scores = draw_scores(150, tilt=np.array([0, -3, 0, 0.0]))
    present = y != 2
    weights = fit_rule(y[present], scores[present], calibration="none", decision="thresholds").weights
    assert weights[2] == 1
    assert weights[1] > 1.5


@pytest.mark.parametrize("decision", ["prior", "thresholds"])
def test_one_class_or_one_case_says_nothing_about_weights(decision: str) -> None:
    y, scores = draw_scores(100, tilt=np.log(SHARES))
    fit = DECISIONS.build(decision)
    assert (fit(np.full(100, 3), scores) == 1).all()
    assert (fit(y, scores, np.zeros(100, dtype=int)) == 1).all()


def test_images_of_few_cases_are_weaker_evidence_than_as_many_cases() -> None:
    changed = []
    for random in range(10):
        y, scores = draw_scores(12, tilt=np.log(SHARES), random=random)
        copies = np.repeat(np.arange(12), 10)
        fit = DECISIONS.build("thresholds")
        changed.append([(fit(y[copies], scores[copies], c) != 1).any() for c in (copies, None)])
    by_case, by_image = np.mean(changed, axis=0)
    assert by_case < by_image


def test_resamples_are_scored_as_scikit_learn_scores_repeated_images() -> None:
    y, scores = draw_scores(60)
    draws = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    predicted = scores.argmax(axis=1)
    expected = []
    for draw in draws.astype(int):
        expected.append(f1_score(np.repeat(y, draw), np.repeat(predicted, draw), average="macro"))
    np.testing.assert_allclose(score_draws(y, predicted, draws), expected)


def test_all_weights_of_a_class_are_tried_at_once_as_one_by_one() -> None:
    y, scores = draw_scores(50)
    draws = np.random.default_rng(0).multinomial(50, np.full(50, 1 / 50), size=3).astype(float)
    others = np.random.default_rng(1).normal(size=(3, 4))
    logs = np.log(scores)
    for position in range(4):
        found = try_weights(y, logs + others[:, None], draws, position, logs[:, position])
        for row, weight in itertools.product(range(3), range(0, LOG_WEIGHTS.size, 7)):
            tried = others[row].copy()
            tried[position] = LOG_WEIGHTS[weight]
            expected = score_draws(y, (logs + tried).argmax(axis=1), draws[row : row + 1])[0]
            assert found[row, weight] == pytest.approx(expected)


# --- rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calibration", "decision"), RULES)
@pytest.mark.parametrize("per_case", [None, 3])
def test_order_of_rows_and_classes_plays_no_role(calibration: str, decision: str, per_case: int | None) -> None:
    y, scores = draw_scores(120, tilt=np.array([0.8, -0.8, 0.9, -0.9]))
    cases = None if per_case is None else np.array([f"p{i // per_case}" for i in range(120)])
    rule = fit_rule(y, scores, calibration=calibration, decision=decision, cases=cases)
    rows, classes = np.random.default_rng(1).permutation(120), np.array([2, 0, 3, 1])
    other = fit_rule(
        np.argsort(classes)[y[rows]],
        scores[rows][:, classes],
        calibration=calibration,
        decision=decision,
        cases=None if cases is None else cases[rows],
    )
    assert other.temperature == pytest.approx(rule.temperature, rel=1e-9)
    np.testing.assert_allclose(other.weights, np.array(rule.weights)[classes], rtol=1e-9)


def test_a_rule_is_the_formula() -> None:
    _, scores = draw_scores(40)
    weights = np.array([2.0, 1.0, 0.5, 1.0])
    powers = scores ** (1 / 1.7) * weights
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Rule(1.7, tuple(weights)).apply(scores), expected, rtol=1e-12)


def test_weights_are_fitted_on_calibrated_scores() -> None:
    y, scores = draw_scores(150, tilt=np.log(SHARES))
    rule = fit_rule(y, scores, calibration="temperature", decision="thresholds")
    temperature = CALIBRATIONS.build("temperature")(y, scores)
    calibrated = Rule(temperature, (1.0,) * 4).apply(scores)
    assert rule == Rule(temperature, tuple(DECISIONS.build("thresholds")(y, calibrated)))


def test_the_plain_rule_changes_no_bit() -> None:
    y, scores = draw_scores(40)
    for rule in (fit_rule(y, scores, calibration="none", decision="largest"),
                 fit_rule(y[:0], scores[:0], calibration="temperature", decision="thresholds")):  # fmt: skip
        assert rule == Rule(1.0, (1.0,) * 4)
        np.testing.assert_array_equal(rule.apply(scores), scores)


def test_certain_scores_stay_finite() -> None:
    scores = np.array([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]])
    decided = Rule(3.0, (0.1, 1.0, 2.0, 5.0)).apply(scores)
    assert np.isfinite(decided).all()
    np.testing.assert_allclose(decided.sum(axis=1), 1)
    assert decided.argmax(axis=1).tolist() == [0, 2]


def test_names_that_are_not_registered_are_refused() -> None:
    y, scores = draw_scores(10)
    with pytest.raises(PartError, match="Did you mean 'temperature'"):
        fit_rule(y, scores, calibration="temprature", decision="largest")
    with pytest.raises(PartError, match="Did you mean 'thresholds'"):
        fit_rule(y[:0], scores[:0], calibration="none", decision="treshold")


# --- tables -------------------------------------------------------------------------------------------------------


def test_tables_keep_rows_order_and_all_but_the_scores() -> None:
    inner, outer = draw_chance(1, strength=100.0)
    test = outer.sample(frac=1, random_state=0).assign(label=np.nan)  # an index of its own, too
    before = inner.copy(), outer.copy()
    section = Predict(calibration="temperature", decision="prior")
    settled, others, _ = settle_tables(inner, {"outer": outer, "test": test}, classes=CLASSES, predict=section)
    pd.testing.assert_frame_equal(inner, before[0])
    pd.testing.assert_frame_equal(outer, before[1])
    for old, new in ((inner, settled), (outer, others["outer"]), (test, others["test"])):
        pd.testing.assert_frame_equal(old.drop(columns=SCORES), new.drop(columns=SCORES))
        assert list(old) == list(new)
        np.testing.assert_allclose(new[SCORES].sum(axis=1), 1)
        assert not np.allclose(old[SCORES], new[SCORES])


def test_each_seed_and_fold_has_its_own_rule_and_a_missing_inner_part_the_plain_one() -> None:
    tilt = np.array([0.8, -0.8, 0.9, -0.9])
    keys = [(0, 0), (0, 1), (7, 0)]  # seed, fold
    parts = [make_table(*draw_scores(90, tilt=tilt, random=i), np.arange(90), seed=s, fold=f)
             for i, (s, f) in enumerate(keys)]  # fmt: skip
    outer = pd.concat([*parts, parts[0].assign(seed=3, fold=4)], ignore_index=True).sample(frac=1, random_state=0)
    section = Predict(calibration="temperature", decision="thresholds")
    inner = pd.concat(parts[:2], ignore_index=True)
    _, others, record = settle_tables(inner, {"outer": outer}, classes=CLASSES, predict=section)
    assert [(r.seed, r.fold, r.n_inner) for r in record.rules] == [(0, 0, 90), (0, 1, 90), (3, 4, 0), (7, 0, 0)]
    assert record.rules[0].temperature != record.rules[1].temperature
    assert list(record.rules[0].weights) == list(CLASSES)
    for row in record.rules:
        rows = (outer["seed"] == row.seed) & (outer["fold"] == row.fold)
        rule = Rule(row.temperature, tuple(row.weights.values()))
        assert row.plain == (row.n_inner == 0)
        expected = rule.apply(outer.loc[rows, SCORES].to_numpy())
        np.testing.assert_array_equal(others["outer"].loc[rows, SCORES], expected)


def test_empty_tables_pass() -> None:
    _, outer = draw_chance(0, strength=0.01)
    section = Predict(calibration="temperature", decision="thresholds")
    none = outer.iloc[:0].astype(object)  # as a file with a header only is read
    inner, others, record = settle_tables(none, {"outer": outer, "test": none}, classes=CLASSES, predict=section)
    assert (len(inner), len(others["test"])) == (0, 0)
    pd.testing.assert_frame_equal(others["outer"], outer)
    assert len(record.rules) == 10


def test_inner_rows_without_a_known_label_are_refused() -> None:
    inner, outer = draw_chance(0, strength=0.01)
    inner.loc[4, "label"] = "z"
    with pytest.raises(DataError, match=rf"1 inner predictions .* {inner['image'][4]}.*Fix"):
        settle(inner, outer, "none", "largest")
