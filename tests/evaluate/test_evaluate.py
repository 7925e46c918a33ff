"""Scores of prediction tables: intervals against slow loops and SciPy, chance against formulas, errors of tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference
from sklearn.dummy import DummyClassifier

from smalti.errors import DataError
from smalti.evaluate import highest_losses, score_predictions
from smalti.metrics import METRICS
from smalti.records import UnitScores
from smalti.stats import pool_predictions
from smalti.stats.chance import score_chance
from smalti.stats.intervals import draw_weights, judge_trust, measure_error, score_pool

CLASSES = ("a", "b", "c")
SCORES = ["score_a", "score_b", "score_c"]


def draw_table(
    n: int = 120, *, per_case: int = 1, seeds: int = 2, skill: float = 1.2, random: int = 0, folds: int = 5
) -> pd.DataFrame:
    generator = np.random.default_rng(random)
    case = np.arange(n) // per_case
    of_case = generator.choice(3, size=case.max() + 1, p=(0.5, 0.3, 0.2))
    label = of_case[case]
    tables = []
    for seed in range(seeds):
        logits = generator.normal(size=(n, 3))
        logits[np.arange(n), label] += skill
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = pd.DataFrame({"image": [f"{i:04d}.png" for i in range(n)], "case": [f"p{c:03d}" for c in case]})
        table["fold"], table["seed"], table["label"] = (
            (case + seed) % folds,
            seed,
            np.array(CLASSES, dtype=object)[label],
        )
        table[SCORES] = scores
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def score_with_scikit_learn(table: pd.DataFrame) -> dict[str, float]:
    """Pooled per seed, mean over seeds, by another library."""
    rows = []
    for _, seed in table.groupby("seed"):
        truth = seed["label"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
        scores = seed[SCORES].to_numpy()
        predicted = scores.argmax(axis=1)
        rows.append(
            {
                "macro_f1": reference.f1_score(truth, predicted, average="macro"),
                "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
                "accuracy": reference.accuracy_score(truth, predicted),
                "auc": reference.roc_auc_score(truth, scores / scores.sum(1, keepdims=True), multi_class="ovr"),
                "log_loss": reference.log_loss(truth, scores, labels=[0, 1, 2]),
            }
        )
    return {str(name): float(value) for name, value in pd.DataFrame(rows).mean().items()}


def test_score_is_pooled_per_seed_and_averaged_over_seeds() -> None:
    table = draw_table()
    result = score_predictions(table, classes=CLASSES)
    assert {name: m.value for name, m in result.metrics.items()} == pytest.approx(score_with_scikit_learn(table))
    per_fold = table.groupby(["seed", "fold"]).apply(
        lambda rows: reference.f1_score(
            rows["label"], np.array(CLASSES)[rows[SCORES].to_numpy().argmax(1)], average="macro"
        )
    )
    assert abs(result.metrics["macro_f1"].value - per_fold.mean()) > 1e-3


def test_the_result_holds_what_the_report_reads() -> None:
    result = score_predictions(draw_table(per_case=2), classes=CLASSES, inner=draw_table(skill=2))
    names = ("classes", "n_images", "n_units", "n_cases", "n_seeds", "n_folds", "metrics", "per_class", "confusion",
             "calibration", "inner", "optimism", "interval")  # fmt: skip
    assert tuple(result.model_dump()) == names
    assert (result.n_images, result.n_cases, result.n_seeds, result.n_folds) == (120, 60, 2, 5)
    assert list(result.metrics) == [entry.name for entry in METRICS]
    for metric in result.metrics.values():
        assert metric.low <= metric.value <= metric.high
        assert metric.chance_prior_low <= metric.chance_prior <= metric.chance_prior_high
        assert np.mean(metric.per_seed) == pytest.approx(metric.value)
    for values in result.per_class.values():
        assert values.f1_low <= values.f1 <= values.f1_high
    assert np.sum(result.confusion) == pytest.approx(120)
    assert UnitScores.model_validate_json(json.dumps(result.model_dump(), allow_nan=False)) == result


def test_optimism_is_the_inner_score_minus_the_outer() -> None:
    outer, inner = draw_table(skill=0.8), draw_table(skill=2.0, random=1)
    # Inner parts of different folds overlap: an image may come twice in a seed.
    inner = pd.concat([inner, inner.iloc[:30].assign(fold=9)])
    result = score_predictions(outer, classes=CLASSES, inner=inner)
    expected = score_with_scikit_learn(inner)
    assert result.inner == pytest.approx(expected)
    assert result.optimism == pytest.approx(expected["macro_f1"] - score_with_scikit_learn(outer)["macro_f1"])
    assert score_predictions(outer, classes=CLASSES).optimism is None


@pytest.mark.parametrize("per_case", [1, 3])
def test_scores_without_each_case_equal_those_of_scikit_learn_on_what_is_left(per_case: int) -> None:
    table = draw_table(60, per_case=per_case)
    pool = pool_predictions(table, classes=CLASSES)
    scored = score_pool(pool)
    by_case = dict(list(table.groupby("case")))
    for number in range(12):
        alone = pd.concat([rows for case, rows in by_case.items() if case != pool.cases[number]])
        found = {name: values[:, number].mean() for name, values in scored.left_out.items()}
        assert found == pytest.approx(score_with_scikit_learn(alone), abs=1e-12)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(draw_weights(37, resamples=50, seed=3)))
    monkeypatch.setattr("smalti.stats.intervals.CHUNK_NUMBERS", 37 * 7)
    blocks = list(draw_weights(37, resamples=50, seed=3))
    assert len(blocks) == 8
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.slow
def test_interval_agrees_with_scipy_where_each_image_is_a_case() -> None:
    """One network and many images: Wilson's interval of a share, and a mean's on the scale of its logarithm."""
    table = draw_table(1500, seeds=1).drop(columns=["fold", "case"])
    metrics = score_predictions(table, classes=CLASSES).metrics
    scores = table[SCORES].to_numpy()
    truth = table["label"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    wilson = stats.binomtest(int((scores.argmax(1) == truth).sum()), 1500).proportion_ci(method="wilson")
    found = metrics["accuracy"]
    np.testing.assert_allclose((found.low, found.high), (wilson.low, wilson.high), atol=2e-4)
    losses = -np.log(scores[np.arange(1500), truth])
    expected = stats.bootstrap((losses,), np.mean, n_resamples=6000, method="BCa", rng=1).confidence_interval
    tolerance = 0.06 * (expected.high - expected.low)
    assert metrics["log_loss"].low == pytest.approx(expected.low, abs=tolerance)
    assert metrics["log_loss"].high == pytest.approx(expected.high, abs=tolerance)


def test_images_of_a_case_do_not_count_as_independent() -> None:
    table = draw_table(120, per_case=10, skill=0.0)
    pool = pool_predictions(table, classes=CLASSES)
    alone = pool_predictions(table.drop(columns="case"), classes=CLASSES)
    # All images of a case have one label, so few cases make the class shares, and with them the score, unsure.
    assert alone.n_cases == 120
    repeated = pool_predictions(repeat_rows(table), classes=CLASSES)
    spread = [measure_error(score_pool(p).left_out["log_loss"].mean(axis=0))[0] for p in (repeated, alone)]
    assert spread[0] > 1.5 * spread[1]
    assert pool.n_cases == 12


def repeat_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Each case gets the scores of its first image: ten copies hold no more than one."""
    first = table.groupby(["seed", "case"])[SCORES].transform("first")
    return table.assign(**{name: first[name] for name in SCORES})


def test_row_order_plays_no_role() -> None:
    table = draw_table(per_case=2)
    shuffled = table.sample(frac=1, random_state=5)
    first = score_predictions(table, classes=CLASSES, inner=table)
    second = score_predictions(shuffled, classes=CLASSES, inner=table)
    assert first == second
    pd.testing.assert_frame_equal(highest_losses(table, classes=CLASSES), highest_losses(shuffled, classes=CLASSES))


def test_majority_guess_agrees_with_scikit_learn() -> None:
    table = draw_table(seeds=1)
    truth = table["label"].map({"a": 0, "b": 1, "c": 2}).to_numpy()
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((120, 1)), truth)
    guessed = table.copy()
    guessed[SCORES] = dummy.predict_proba(np.zeros((120, 1)))
    chance = score_chance(pool_predictions(table, classes=CLASSES))
    expected = score_with_scikit_learn(guessed)
    assert {name: level.majority for name, level in chance.items()} == pytest.approx(expected)


@pytest.mark.slow
def test_prior_guess_agrees_with_formulas() -> None:
    n = 400
    pool = pool_predictions(draw_table(n, seeds=1), classes=CLASSES)
    shares = np.bincount(pool.y_true) / n
    chance = score_chance(pool, guesses=20_000)
    hit = (shares**2).sum()
    accuracy = chance["accuracy"]
    assert accuracy.prior == pytest.approx(hit, abs=0.001)
    # Guesses are independent draws: image i is hit with the share of its class.
    spread = np.sqrt((shares * shares * (1 - shares)).sum() / n)
    assert accuracy.prior_low == pytest.approx(hit - 1.96 * spread, abs=0.004)
    assert accuracy.prior_high == pytest.approx(hit + 1.96 * spread, abs=0.004)
    assert chance["balanced_accuracy"].prior == pytest.approx(1 / 3, abs=0.001)
    assert chance["auc"].prior == pytest.approx(0.5, abs=0.003)
    assert chance["log_loss"].prior == pytest.approx(stats.entropy(shares))


def test_auc_range_of_two_classes_is_the_null_distribution_of_mann_whitney() -> None:
    table = draw_table(90, seeds=1)
    two = table.assign(label=table["label"].replace("c", "b"), score_b=table["score_b"] + table["score_c"])
    pool = pool_predictions(two, classes=("a", "b"))
    first, second = np.bincount(pool.y_true)
    spread = np.sqrt((first + second + 1) / (12 * first * second))
    auc = score_chance(pool, guesses=8000)["auc"]
    assert auc.prior_high - 0.5 == pytest.approx(1.96 * spread, rel=0.08)
    assert 0.5 - auc.prior_low == pytest.approx(1.96 * spread, rel=0.08)


def test_guesses_of_few_cases_range_wider() -> None:
    grouped = draw_table(120, per_case=10, seeds=1)
    by_case = score_chance(pool_predictions(grouped, classes=CLASSES))["accuracy"]
    by_image = score_chance(pool_predictions(grouped.drop(columns="case"), classes=CLASSES))["accuracy"]
    assert by_case.prior == pytest.approx(by_image.prior, abs=0.02)
    assert by_case.prior_high - by_case.prior_low > 2 * (by_image.prior_high - by_image.prior_low)


@pytest.mark.slow
def test_scores_without_skill_fall_inside_the_chance_range() -> None:
    inside = {"macro_f1": 0, "balanced_accuracy": 0, "accuracy": 0, "auc": 0}
    for number in range(20):
        table = draw_table(150, seeds=1, skill=2.0, random=number)
        generator = np.random.default_rng(100 + number)
        table["label"] = generator.permutation(table["label"].to_numpy())
        # The scores of a network that learned the shares of the classes and nothing else.
        table[SCORES] = table[SCORES].to_numpy()[generator.permutation(150)]
        metrics = score_predictions(table, classes=CLASSES).metrics
        for name in inside:
            inside[name] += metrics[name].chance_prior_low <= metrics[name].value <= metrics[name].chance_prior_high
    assert min(inside.values()) >= 15, inside


@pytest.mark.parametrize(
    ("n", "per_case", "words"),
    [(18, 1, "only 18 cases"), (60, 5, "only 12 cases"), (24, 1, "classes with fewer than 5 cases: c (")],
)
def test_too_few_cases_are_not_trusted(n: int, per_case: int, words: str) -> None:
    table = draw_table(n, per_case=per_case, random=2)
    if n == 24:
        rare = table["image"].isin(["0000.png", "0001.png", "0002.png"])
        table["label"] = np.where(rare, "c", np.where(table["label"] == "c", "a", table["label"]))
    interval = score_predictions(table, classes=CLASSES).interval
    assert not interval.trustworthy
    assert words in interval.reason


def test_enough_cases_are_trusted() -> None:
    assert judge_trust(pool_predictions(draw_table(), classes=CLASSES))[0]


def test_a_table_of_another_tool_needs_only_images_labels_and_scores() -> None:
    table = draw_table(seeds=1)
    full = score_predictions(table, classes=CLASSES)
    plain = score_predictions(table[["label", *SCORES, "image"]], classes=CLASSES)
    assert (plain.n_cases, plain.n_folds, plain.n_seeds) == (120, 1, 1)
    assert plain.metrics["macro_f1"].value == full.metrics["macro_f1"].value


def test_a_class_without_images_has_no_auc() -> None:
    table = draw_table()
    table["label"] = table["label"].replace("c", "a")
    result = score_predictions(table, classes=CLASSES)
    assert result.per_class["c"].auc is None
    assert result.metrics["auc"].value is not None


def spoil(table: pd.DataFrame) -> pd.DataFrame:
    """One of each problem, in rows of their own."""
    table.loc[3, "label"] = "d"
    table.loc[5, "score_b"] = np.nan
    table.loc[7, "score_a"] = 3.0
    table.loc[9, SCORES] = 0.1
    table.loc[11, "image"] = "0012.png"
    table.loc[13, "case"] = "p040"
    table.loc[17, "label"] = "b" if table.loc[17, "label"] == "a" else "a"
    return table.drop(index=15)


def test_every_problem_of_a_table_is_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        score_predictions(spoil(draw_table()), classes=CLASSES)
    problems = {problem.code: problem for problem in caught.value.problems}
    assert set(problems) == {"unknown-label", "missing-score", "score-range", "score-sum", "repeated-image",
                             "image-misses", "two-labels", "two-cases", "leak"}  # fmt: skip
    assert "line 5 (0003.png)" in problems["unknown-label"].file
    assert "line 7 (0005.png)" in problems["missing-score"].file
    assert "line 9 (0007.png)" in problems["score-range"].file
    assert "line 11 (0009.png)" in problems["score-sum"].file
    assert "0012.png" in problems["repeated-image"].file
    assert "0015.png" in problems["image-misses"].file
    assert "0013.png" in problems["two-cases"].file
    assert all(problem.fix for problem in problems.values())


@pytest.mark.parametrize("column", ["image", "label", "score_b"])
def test_missing_columns_are_named(column: str) -> None:
    with pytest.raises(DataError, match=f"there is no column '{column}'"):
        score_predictions(draw_table().drop(columns=column), classes=CLASSES)


def test_missing_columns_do_not_hide_other_problems() -> None:
    table = draw_table(seeds=1).drop(columns="score_b")
    table.loc[3, "label"] = "d"
    with pytest.raises(DataError) as caught:
        score_predictions(table, classes=CLASSES)
    assert [p.code for p in caught.value.problems] == ["missing-column", "unknown-label"]


def test_empty_tables_odd_folds_and_leaks_are_refused() -> None:
    table = draw_table(per_case=2)
    with pytest.raises(DataError, match="no rows"):
        score_predictions(table.iloc[:0], classes=CLASSES)
    with pytest.raises(DataError, match="no whole number"):
        score_predictions(table.assign(fold="first"), classes=CLASSES)
    leaking = table.assign(fold=np.arange(len(table)) % 5)
    with pytest.raises(DataError, match="had seen the case"):
        score_predictions(leaking, classes=CLASSES)
    with pytest.raises(DataError, match="inner predictions"):
        score_predictions(table, classes=CLASSES, inner=table.assign(label="z"))


def test_highest_losses_are_the_least_likely_labels() -> None:
    table = draw_table(per_case=2)
    worst = highest_losses(table, classes=CLASSES, count=10)
    of_label = [row[f"score_{row['label']}"] for _, row in table.iterrows()]
    losses = (-np.log(table.assign(p=of_label).set_index("image")["p"])).groupby("image").mean()
    expected = losses.sort_values(ascending=False).head(10)
    assert list(worst["image"]) == list(expected.index)
    np.testing.assert_allclose(worst["loss"], expected)
    mean = table.groupby("image")[SCORES].mean().loc[worst["image"]]
    np.testing.assert_allclose(worst[SCORES], mean)
    assert list(worst["predicted"]) == [CLASSES[i] for i in mean.to_numpy().argmax(axis=1)]
    assert set(worst.columns) == {"image", "case", "folds", "label", "predicted", "loss", *SCORES}
