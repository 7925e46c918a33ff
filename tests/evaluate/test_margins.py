"""Intervals of one run: what they hold, what they widen for, when they are trusted, which truth they claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from smalti.evaluate import measure_margins
from smalti.evaluate.margins import describe_cover, measure_class_margins
from smalti.metrics import METRICS
from smalti.stats import Pool
from smalti.stats.intervals import score_pool
from smalti.stats.luck import measure_luck

BOUNDED = ("macro_f1", "balanced_accuracy", "accuracy", "auc")


def make_pool(
    y: NDArray[np.int64],
    right: NDArray[np.bool_],
    *,
    case: NDArray[np.int64] | None = None,
    fold: NDArray[np.int64] | None = None,
    sure: float = 0.9,
) -> Pool:
    """Two classes; ``right`` (S, n) says which images each seed gets right."""
    case = np.arange(len(y)) if case is None else case
    fold = np.tile(case % 5, (len(right), 1)) if fold is None else fold
    of_one = np.where(right == (y == 1), sure, 1 - sure)
    scores = np.stack([1 - of_one, of_one], axis=2)
    names = tuple(f"i{n:05d}" for n in range(len(y)))
    return Pool(("a", "b"), names, y, case, fold, scores, tuple(f"c{n:05d}" for n in range(case.max() + 1)))


def draw_pool(rng: np.random.Generator, *, cases: int, per_case: int = 1, seeds: int = 1, share: float = 0.8) -> Pool:
    y = np.repeat(rng.permutation(np.arange(cases) % 2), per_case)
    case = np.repeat(np.arange(cases), per_case)
    return make_pool(y, rng.random((seeds, len(y))) < share, case=case)


def find_ends(pool: Pool, name: str = "accuracy", *, confidence: float = 0.95) -> tuple[float, float]:
    margin = measure_margins(pool, confidence=confidence)[name]
    return margin.low, margin.high


def without_folds(pool: Pool) -> Pool:
    return replace(pool, fold=pool.fold * 0)


# --- what every interval keeps to ----------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", range(8))
def test_an_interval_holds_its_score_and_stays_within_the_scale(draw: int) -> None:
    rng = np.random.default_rng(draw)
    pool = draw_pool(
        rng, cases=int(rng.integers(4, 40)), per_case=1 + draw % 3, seeds=1 + draw % 2, share=0.5 + draw / 14
    )
    found = [*measure_margins(pool, confidence=0.95).values(), *measure_class_margins(pool, confidence=0.95)]
    for margin in found:
        assert 0 <= margin.low <= margin.value <= margin.high
    assert all(margin.high <= 1 for margin in (*found[:4], *found[5:]))


def test_order_of_images_and_classes_plays_no_role() -> None:
    rng = np.random.default_rng(0)
    pool = draw_pool(rng, cases=40, per_case=2, seeds=2)
    order = rng.permutation(len(pool.y_true))
    _, case = np.unique(pool.case[order], return_inverse=True)
    shuffled = replace(
        pool, y_true=pool.y_true[order], case=case, fold=pool.fold[:, order], scores=pool.scores[:, order]
    )
    turned = replace(pool, classes=("b", "a"), y_true=1 - pool.y_true, scores=pool.scores[:, :, ::-1])
    for other in (shuffled, turned):
        for name in [entry.name for entry in METRICS]:
            np.testing.assert_allclose(find_ends(other, name), find_ends(pool, name), rtol=1e-9)


def test_more_confidence_is_wider() -> None:
    pool = draw_pool(np.random.default_rng(0), cases=60)
    for name in [entry.name for entry in METRICS]:
        (low, high), (lower, higher) = (find_ends(pool, name, confidence=c) for c in (0.9, 0.99))
        assert lower < low < high < higher


# --- few errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cases", [12, 30, 100])
def test_a_perfect_score_has_a_width_near_clopper_and_pearson(cases: int) -> None:
    """No failure in n trials: what cannot be ruled out is about 3 / n."""
    pool = make_pool(np.arange(cases) % 2, np.ones((1, cases), dtype=bool))
    exact = stats.binomtest(cases, cases).proportion_ci(method="exact").low
    low, high = find_ends(pool)
    assert high == 1
    assert 1 - low == pytest.approx(1 - exact, rel=0.3)
    for name in BOUNDED:
        low, high = find_ends(pool, name)
        assert high == 1
        assert low < 1 - 0.5 / cases
    assert not measure_margins(pool, confidence=0.95)["macro_f1"].trustworthy


def test_images_of_perfect_cases_add_nothing_that_cases_do_not() -> None:
    alone = make_pool(np.arange(30) % 2, np.ones((1, 30), dtype=bool))
    many = make_pool(np.repeat(np.arange(30) % 2, 20), np.ones((1, 600), dtype=bool), case=np.repeat(np.arange(30), 20))
    np.testing.assert_allclose(find_ends(many), find_ends(alone), rtol=1e-9)


def test_a_class_of_few_cases_keeps_macro_f1_unsure_where_all_of_them_are_right() -> None:
    y = (np.arange(120) < 6).astype(np.int64)
    pool = make_pool(y, np.ones((1, 120), dtype=bool))
    # Six of six right: the recall of the class may be as low as 0.54 (Clopper & Pearson), the mean of two 0.77.
    assert find_ends(pool, "balanced_accuracy")[0] < 0.85
    assert find_ends(pool, "macro_f1")[0] < 0.85
    assert find_ends(pool, "accuracy")[0] > 0.93


@pytest.mark.parametrize(("errors", "trusted"), [(0, False), (4, False), (5, True), (20, True)])
def test_five_cases_with_an_error_are_needed_for_trust(errors: int, trusted: bool) -> None:
    right = np.ones((1, 100), dtype=bool)
    right[0, :errors] = False
    for name, margin in measure_margins(make_pool(np.arange(100) % 2, right), confidence=0.95).items():
        assert margin.trustworthy == trusted, name
        assert f"{errors} cases" in margin.reason or trusted


def test_errors_of_one_case_are_one_error() -> None:
    right = np.ones((1, 400), dtype=bool)
    right[0, :8] = False  # two cases of four images
    pool = make_pool(np.repeat(np.arange(100) % 2, 4), right, case=np.repeat(np.arange(100), 4))
    assert "only 2 cases have an error" in measure_margins(pool, confidence=0.95)["accuracy"].reason


def test_trust_belongs_to_the_metric() -> None:
    """Three cases of a class: its recall says little, the share of right images is not about classes."""
    rng = np.random.default_rng(1)
    pool = make_pool((np.arange(200) < 3).astype(np.int64), rng.random((1, 200)) < 0.8)
    trusted = {name: margin.trustworthy for name, margin in measure_margins(pool, confidence=0.95).items()}
    assert trusted == {
        "macro_f1": False, "balanced_accuracy": False, "accuracy": True, "auc": False, "log_loss": True,
    }  # fmt: skip


@pytest.mark.parametrize(("cases", "share"), [(30, 0.9), (60, 0.97), (100, 0.97)])
def test_what_is_trusted_covers_also_where_only_unlucky_runs_are(cases: int, share: float) -> None:
    """Where few errors are to expect, five are bad luck; of such runs a plain interval covers 0.2 to 0.9."""
    rng = np.random.default_rng(3)
    inside, trusted = 0, 0
    while trusted < 60:
        right = rng.random((1, cases)) < share
        if (~right).sum() >= 5:
            pool = without_folds(make_pool(np.arange(cases) % 2, right))
            low, high = find_ends(pool)
            inside, trusted = inside + (low <= share <= high), trusted + 1
    assert inside >= 53  # of 60; fewer have a chance below 5 % where 0.93 are covered


# --- the luck of networks ------------------------------------------------------------------------------------------


def draw_lucky(rng: np.random.Generator, *, cases: int, luck: float, folds: int, seeds: int) -> Pool:
    """Each network has an accuracy of its own, 0.75 on average."""
    accuracy = rng.normal(0.75, luck, (seeds, folds))
    fold = np.stack([rng.permutation(np.arange(cases) % folds) for _ in range(seeds)])
    shares = np.take_along_axis(accuracy, fold, axis=1)
    return make_pool(np.arange(cases) % 2, rng.random((seeds, cases)) < shares, fold=fold)


@pytest.mark.slow
@pytest.mark.parametrize(("folds", "seeds"), [(5, 1), (3, 2), (5, 3)])
def test_the_interval_covers_another_training_on_other_cases(folds: int, seeds: int) -> None:
    """Accuracies of networks that spread by 0.1: without their luck the interval covers half of the truths."""
    rng = np.random.default_rng(5)
    inside, blind = 0, 0
    for _ in range(120):
        pool = draw_lucky(rng, cases=1000, luck=0.1, folds=folds, seeds=seeds)
        (low, high), (lower, higher) = find_ends(pool), find_ends(without_folds(pool))
        inside, blind = inside + (low <= 0.75 <= high), blind + (lower <= 0.75 <= higher)
    assert inside >= 107  # of 120; fewer have a chance of 5 % where 0.93 are covered
    assert blind < 80


@pytest.mark.slow
def test_luck_is_the_variance_between_networks_by_hand() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(200):
        pool = draw_lucky(rng, cases=500, luck=0.08, folds=5, seeds=2)
        left_out = score_pool(pool).left_out["accuracy"]
        hits = (pool.scores.argmax(axis=2) == pool.y_true).mean(axis=1)
        influence = (left_out.mean(axis=1, keepdims=True) - left_out + (hits - hits.mean())[:, None] / 500) / 2
        luck = measure_luck(influence, pool)
        found.append((luck.between - luck.within, luck.degrees))
    assert {degrees for _, degrees in found} == {9}
    assert np.mean([excess for excess, _ in found]) == pytest.approx(0.08**2 / 10, rel=0.15)


@pytest.mark.slow
def test_without_luck_many_networks_widen_the_interval_little() -> None:
    rng = np.random.default_rng(4)
    ratios = []
    for _ in range(40):
        pool = draw_lucky(rng, cases=300, luck=0.0, folds=5, seeds=3)
        (low, high), (lower, higher) = find_ends(pool), find_ends(without_folds(pool))
        ratios.append((high - low) / (higher - lower))
    assert min(ratios) == pytest.approx(1)
    assert np.mean(ratios) < 1.2


def test_what_is_covered_is_said() -> None:
    pool = draw_lucky(np.random.default_rng(0), cases=100, luck=0.1, folds=3, seeds=2)
    assert "another training of this recipe on other cases" in describe_cover(pool)
    four = draw_lucky(np.random.default_rng(0), cases=100, luck=0.1, folds=4, seeds=1)
    assert "these very networks" in describe_cover(four)
    assert "4 networks" in describe_cover(four)
    assert find_ends(four) == find_ends(without_folds(four))
    assert "1 network cannot" in describe_cover(without_folds(four))


# --- the parts against slow ways ------------------------------------------------------------------------------------


def test_leaving_cases_out_of_an_auc_equals_scoring_the_rest() -> None:
    """Ties, cases of both classes, cases of one image."""
    rng = np.random.default_rng(0)
    case = np.sort(rng.integers(0, 12, 60))
    _, case = np.unique(case, return_inverse=True)
    pool = make_pool(rng.integers(0, 2, 60), np.ones((1, 60), dtype=bool), case=case)
    of_one = rng.integers(0, 6, (1, 60)) / 5
    pool = replace(pool, scores=np.stack([1 - of_one, of_one], axis=2))
    found = score_pool(pool).left_out["auc"][0]
    for left, value in enumerate(found):
        kept = pool.case != left
        assert value == pytest.approx(METRICS.find("auc").build(pool.y_true[kept], pool.scores[0, kept]), rel=1e-12)
