"""Paired comparison: the interval, the p-value, Holm, the luck of single trainings, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from smalti.errors import DataError, RecipeError
from smalti.evaluate import Pair, check_alike, compare_pairs
from smalti.stats import Pool, adjust_holm, score_pool
from smalti.stats.gap import Gap
from smalti.stats.intervals import count_degrees, find_levels, measure_spread
from smalti.stats.luck import Luck, measure_luck, measure_luck_of_difference

CLASSES = ("a", "b", "c", "d")
SHARES = (0.4, 0.3, 0.2, 0.1)


def draw_pool(
    images: int,
    rng: np.random.Generator,
    *,
    skill: float = 1.5,
    luck: float = 0.0,
    seeds: int = 1,
    like: Pool | None = None,
    per_case: int = 1,
) -> Pool:
    """Predictions of networks with a skill and a class bias per fold and seed; ``like`` gives labels, cases, folds."""
    if like is None:
        case = np.arange(images) // per_case
        y = rng.choice(4, p=SHARES, size=case.max() + 1)[case]
        fold = np.stack([rng.permutation(np.arange(case.max() + 1) % 5)[case] for _ in range(seeds)])
    else:
        y, case, fold = like.y_true, like.case, like.fold
    bias = rng.normal(0, luck, (len(fold), 5, 4))
    logits = skill * np.eye(4)[y] + rng.gumbel(0, 1, (len(fold), len(y), 4))
    logits += np.stack([b[f] for b, f in zip(bias, fold, strict=True)])
    scores = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    names = tuple(f"i{n:05d}" for n in range(len(y)))
    return Pool(CLASSES, names, y, case, fold, scores, tuple(f"c{n:05d}" for n in range(case.max() + 1)))


def compare(first: Pool, second: Pool) -> dict[str, Any]:
    pair = Pair("first", "second", *(score_pool(p) for p in (first, second)))
    return compare_pairs([pair])[0]


def keep_images(pool: Pool, images: Sequence[str]) -> Pool:
    """The pool of some of its images."""
    chosen = np.isin(pool.images, images)
    cases, case = np.unique(pool.case[chosen], return_inverse=True)
    return replace(
        pool, images=tuple(np.array(pool.images)[chosen]), y_true=pool.y_true[chosen], case=case,
        fold=pool.fold[:, chosen], scores=pool.scores[:, chosen], cases=tuple(pool.cases[i] for i in cases),
    )  # fmt: skip


def hits(pool: Pool) -> NDArray[np.float64]:
    return np.asarray((pool.scores[0].argmax(axis=1) == pool.y_true).astype(float))


# --- against other libraries and formulas --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).uniform(0, 0.2, 9) ** 2
    p[3] = p[4]
    np.testing.assert_allclose(adjust_holm(list(p)), multipletests(p, method="holm")[1], rtol=1e-12)


def test_holm_of_one_and_none_is_what_was_given() -> None:
    assert adjust_holm([0.3]) == [0.3]
    assert adjust_holm([]) == []
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]


def test_bca_levels_agree_with_scipy() -> None:
    """The same draws, the same acceleration, the normal critical value: scipy's own limits."""
    data = np.random.default_rng(0).exponential(size=60)
    reference = stats.bootstrap((data,), np.mean, n_resamples=5000, method="BCa", rng=1)
    left_out = (data.sum() - data) / 59
    spread = measure_spread(data.mean(), reference.bootstrap_distribution, left_out)
    levels = find_levels(spread.drawn, spread.value, spread.acceleration, z=stats.norm.ppf(0.975))
    found = np.quantile(reference.bootstrap_distribution, levels)
    expected = reference.confidence_interval
    np.testing.assert_allclose(found, [expected.low, expected.high], rtol=2e-3)


def test_jackknife_error_of_a_mean_is_the_textbook_error() -> None:
    data = np.random.default_rng(0).normal(size=40)
    left_out = (data.sum() - data) / 39
    spread = measure_spread(data.mean(), np.full(100, data.mean()), left_out)
    assert spread.error == pytest.approx(stats.sem(data), rel=1e-12)


def test_degrees_of_freedom_are_those_of_equal_and_of_few_influences() -> None:
    assert count_degrees(np.tile([1.0, -1.0], 50)) == 99  # all alike: as many as there are, less one
    few = np.zeros(100)
    few[:4] = [1, -1, 1, -1]
    assert 2 <= count_degrees(few) < 9


def test_accuracy_difference_is_the_paired_t_test_where_there_is_no_luck_to_see() -> None:
    rng = np.random.default_rng(5)
    first = draw_pool(300, rng, skill=2.0)
    second = replace(draw_pool(300, rng, skill=1.6, like=first), fold=first.fold * 0)
    first = replace(first, fold=first.fold * 0)  # one network each, so that no luck can be estimated
    found = compare(first, second)["accuracy"]
    reference = stats.ttest_rel(hits(first), hits(second))
    interval = reference.confidence_interval(0.95)
    assert found.value == pytest.approx((hits(first) - hits(second)).mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(
        (interval.low, interval.high), abs=0.01 * (interval.high - found.low)
    )
    assert found.p == pytest.approx(reference.pvalue, rel=0.1)  # other degrees of freedom: those that influences leave


def test_macro_f1_difference_is_that_of_scikit_learn_averaged_over_seeds() -> None:
    rng = np.random.default_rng(2)
    first = draw_pool(120, rng, seeds=3, skill=2.5)
    second = draw_pool(120, rng, like=first)
    scores = [
        np.mean([f1_score(p.y_true, s.argmax(axis=1), average="macro") for s in p.scores]) for p in (first, second)
    ]
    assert compare(first, second)["macro_f1"].value == pytest.approx(scores[0] - scores[1], abs=1e-12)


@pytest.mark.parametrize(("n", "alpha"), [(5, 0.05), (20, 0.05), (20, 0.05 / 13), (300, 0.01)])
def test_smallest_detectable_difference_agrees_with_statsmodels(n: int, alpha: float) -> None:
    effect = TTestPower().solve_power(nobs=n, alpha=alpha, power=0.8)
    gap = Gap(0.0, 0.03**2, n - 1, Luck(0.0, 0.0, 0), np.empty((0, 2)))
    assert gap.find_smallest(alpha=alpha) == pytest.approx(0.03 * effect * np.sqrt(n), rel=2e-3)


@settings(deadline=None, max_examples=300)
@given(
    st.floats(-1, 1), st.floats(1e-6, 1), st.floats(1, 500), st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)  # fmt: skip
def test_interval_and_p_value_always_agree(value: float, error: float, degrees: float, confidence: float) -> None:
    gap = Gap(value, error**2, degrees, Luck(0.0, 0.0, 0), np.empty((0, 2)))
    low, high = gap.find_interval(confidence=confidence)
    if abs(gap.p - (1 - confidence)) > 1e-9:
        assert (gap.p < 1 - confidence) == (low > 0 or high < 0)


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_a_run_against_itself_cannot_be_told() -> None:
    pool = draw_pool(80, np.random.default_rng(0))
    for found in compare(pool, pool).values():
        assert (found.value, found.low, found.high, found.p, found.verdict) == (0, 0, 0, 1, "cannot tell")
        assert np.isnan(found.smallest_detectable)


def test_a_clear_gain_is_better_one_way_and_worse_the_other() -> None:
    rng = np.random.default_rng(1)
    weak = draw_pool(300, rng, skill=0.5)
    strong = draw_pool(300, rng, skill=4.0, like=weak)
    there, back = compare(strong, weak), compare(weak, strong)
    for metric in ("macro_f1", "accuracy", "auc", "log_loss"):
        assert there[metric].verdict == "better"
        assert back[metric].verdict == "worse"
        assert there[metric].value == pytest.approx(-back[metric].value)
    assert there["log_loss"].value < 0  # lower is better


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.8]), st.integers(1, 3), st.integers(1, 4))
def test_verdict_p_value_and_interval_agree_in_every_comparison(seed: int, luck: float, seeds: int, pairs: int) -> None:
    rng = np.random.default_rng(seed)
    base = draw_pool(60, rng, seeds=seeds, luck=luck)
    others = [draw_pool(60, rng, like=base, luck=luck, skill=float(rng.uniform(0.5, 4))) for _ in range(pairs)]
    first, *rest = (score_pool(p) for p in (base, *others))
    for row in compare_pairs([Pair(str(i), "base", one, first) for i, one in enumerate(rest)]):
        for found in row.values():
            assert (found.p <= 0.05) == (found.low > 0 or found.high < 0)
            assert (found.p_holm <= 0.05) == (found.verdict in ("better", "worse"))
            assert found.p <= found.p_holm
            assert found.why == ""


def test_no_verdict_where_one_network_scored_all_images_unless_it_is_asked_for() -> None:
    rng = np.random.default_rng(1)
    weak = draw_pool(300, rng, skill=0.5)
    strong = draw_pool(300, rng, skill=4.0, like=weak)
    bare = replace(strong, fold=strong.fold * 0)
    pair = Pair("strong", "weak", score_pool(bare), score_pool(weak))
    found = compare_pairs([pair])[0]["macro_f1"]
    assert found.verdict == "no verdict"
    assert "strong" in found.why
    assert "fold" in found.why
    asked = compare_pairs([pair], without_luck=True)[0]["macro_f1"]
    assert (asked.verdict, asked.why) == ("better", "")


def test_no_verdict_from_two_networks_and_none_where_one_is_withheld() -> None:
    rng = np.random.default_rng(1)
    weak = draw_pool(300, rng, skill=0.5)
    weak = replace(weak, fold=weak.fold % 2)
    strong = draw_pool(300, rng, skill=4.0, like=weak)
    first, second = (score_pool(p) for p in (strong, weak))
    two = compare_pairs([Pair("s", "w", first, second)])[0]["macro_f1"]
    assert two.verdict == "no verdict"
    assert "seeds" in two.why
    withheld = compare_pairs([Pair("s", "w", first, second, withheld="labels were changed")], without_luck=True)[0]
    assert {found.verdict for found in withheld.values()} == {"no verdict"}
    assert {found.why for found in withheld.values()} == {"labels were changed"}


def test_a_difference_that_does_not_vary_has_no_interval_and_no_verdict() -> None:
    """Every case gains the same: the jackknife sees no error at all, which is no certainty."""
    pool = draw_pool(40, np.random.default_rng(0))
    sure = np.where(np.eye(4)[pool.y_true][None] == 1, 0.7, 0.1)
    surer = np.where(np.eye(4)[pool.y_true][None] == 1, 0.85, 0.05)
    found = compare(replace(pool, scores=surer), replace(pool, scores=sure))["log_loss"]
    assert found.value < 0
    assert np.isnan(found.low)
    assert (found.p, found.verdict) == (1, "no verdict")


@pytest.mark.slow
def test_lucky_agreement_of_one_pair_among_many_is_not_believed() -> None:
    """Among many pairs some networks agree by chance: each pair has at least the mean luck of all."""
    rng = np.random.default_rng(3)
    base = draw_pool(400, rng, luck=1.0)
    runs = [score_pool(p) for p in (base, *(draw_pool(400, rng, luck=1.0, like=base) for _ in range(9)))]
    pairs = [Pair(str(i), str(i - 1), runs[i], runs[i - 1]) for i in range(1, len(runs))]
    together = [row["accuracy"] for row in compare_pairs(pairs)]
    alone = [compare_pairs([pair])[0]["accuracy"] for pair in pairs]
    widths = [(t.high - t.low, a.high - a.low) for t, a in zip(together, alone, strict=True)]
    lucks = [measure_luck_of_difference(p.first, p.second, "accuracy").exceeding for p in pairs]
    agreeing = int(np.argmin(lucks))
    assert widths[agreeing][0] > widths[agreeing][1]


def test_noise_of_luck_is_that_of_the_sum_between_networks() -> None:
    """Satterthwaite 1946: a squared sum of K normal networks has the variance 2 v^2 / (K - 1)."""
    pool = draw_pool(40, np.random.default_rng(0))
    pool = replace(pool, y_true=pool.y_true * 0, fold=np.repeat(np.arange(4), 10)[None])
    found = measure_luck(np.repeat([3.0, -1.0, -1.0, -1.0], 10)[None], pool)
    between = 4 / 3 * (30**2 + 3 * 10**2)
    assert found.exceeding == pytest.approx(between - 10 * (9 + 3))
    assert found.noise == pytest.approx(between**2 / 3)


def test_what_differs_between_classes_is_no_luck_of_networks() -> None:
    """Stratified folds hold the same classes, so the classes' mean influences cancel in every network."""
    pool = draw_pool(40, np.random.default_rng(0))
    pool = replace(pool, y_true=np.tile([0, 1], 20), fold=np.repeat(np.arange(4), 10)[None])
    found = measure_luck(np.tile([1.0, -1.0], 20)[None], pool)
    assert (found.between, found.within) == (0, 0)


def test_many_comparisons_need_more_than_one_does() -> None:
    rng = np.random.default_rng(8)
    base = draw_pool(200, rng, skill=1.0)
    slightly = score_pool(draw_pool(200, rng, skill=1.6, like=base))
    equal = [score_pool(draw_pool(200, rng, skill=1.0, like=base)) for _ in range(9)]
    against = score_pool(base)
    alone = compare_pairs([Pair("s", "b", slightly, against)])[0]["macro_f1"]
    among = compare_pairs([Pair("s", "b", slightly, against), *(Pair("e", "b", e, against) for e in equal)])[0][
        "macro_f1"
    ]
    assert among.p < among.p_holm <= 10 * among.p
    assert among.smallest_detectable > alone.smallest_detectable


@pytest.mark.slow
def test_two_equal_recipes_are_rarely_called_different_in_spite_of_lucky_networks() -> None:
    """Networks with a bias of their own: resampling cases alone would call far more than one in twenty different."""
    rng = np.random.default_rng(11)
    verdicts, narrow = 0, 0
    for _ in range(60):
        first = draw_pool(800, rng, luck=0.8)
        second = draw_pool(800, rng, luck=0.8, like=first)
        found = compare(first, second)["macro_f1"]
        verdicts += found.verdict != "cannot tell"
        blind = compare(*(replace(p, fold=p.fold * 0) for p in (first, second)))["macro_f1"]
        narrow += blind.p <= 0.05
    assert verdicts <= 7  # 5 % of 60 is 3; 8 or more has a chance of 2 % then
    assert narrow >= 2 * max(verdicts, 3)


@pytest.mark.slow
def test_luck_is_the_variance_between_networks() -> None:
    """Every network shifts the hits of its fold by a constant: the variance of the mean shift, by hand."""
    rng = np.random.default_rng(4)
    found, expected = [], []
    for _ in range(40):
        first = draw_pool(200, rng, luck=1.0, seeds=4)
        second = draw_pool(200, rng, luck=1.0, like=first)
        resampled = [score_pool(p) for p in (first, second)]
        found.append(measure_luck_of_difference(*resampled, "accuracy").exceeding)
        means = [
            np.mean((a.argmax(1) == first.y_true)[f == k].astype(float) - (b.argmax(1) == first.y_true)[f == k])
            for a, b, f in zip(first.scores, second.scores, first.fold, strict=True)
            for k in range(5)
        ]
        expected.append(np.var(means, ddof=1) / len(means))
    # The variance of the networks' means holds that of their cases too, which is not luck.
    assert 0 < np.mean(found) < np.mean(expected)
    assert np.mean(found) > 0.4 * np.mean(expected)


# --- what can be compared -------------------------------------------------------------------------------------------


def test_other_images_labels_cases_and_classes_are_refused_with_names() -> None:
    pool = draw_pool(40, np.random.default_rng(0))
    fewer = keep_images(pool, pool.images[:35])
    labels = replace(pool, y_true=np.where(np.arange(40) == 7, (pool.y_true + 1) % 4, pool.y_true))
    cases = replace(pool, case=np.where(np.arange(40) == 9, 3, pool.case))
    classes = replace(pool, classes=("a", "b", "c", "e"))
    with pytest.raises(DataError) as caught:
        check_alike({"base": pool, "fewer": fewer, "labels": labels, "cases": cases, "classes": classes})
    told = {p.file: f"{p.code} {p.message}" for p in caught.value.problems}
    assert "missing" in told["fewer"]
    assert pool.images[36] in told["fewer"]
    assert pool.images[7] in told["labels"]
    assert pool.images[9] in told["cases"]
    assert "e" in told["classes"]
    with pytest.raises(DataError, match="--common"):
        compare(fewer, pool)


def test_common_images_are_compared_as_if_the_others_had_never_been() -> None:
    rng = np.random.default_rng(6)
    first = draw_pool(60, rng, per_case=3)
    second = keep_images(draw_pool(60, rng, like=first), first.images[9:])
    kept = keep_images(first, first.images[9:])
    assert kept.n_cases == first.n_cases - 3
    assert kept.cases == first.cases[3:]
    np.testing.assert_array_equal(kept.scores, first.scores[:, 9:])
    assert compare(kept, second)["macro_f1"].value == pytest.approx(
        f1_score(first.y_true[9:], first.scores[0, 9:].argmax(1), average="macro")
        - f1_score(second.y_true, second.scores[0].argmax(1), average="macro")
    )


# --- practically equal ----------------------------------------------------------------------------------------------


def draw_alike(
    cases: int, rng: np.random.Generator, *, differing: float, gain: float, per_case: int = 1, alike: float = 0.5
) -> Pair:
    """Two runs that differ by ``gain`` in accuracy in truth; besides, a share ``differing`` is right in one of them."""
    case = np.repeat(np.arange(cases), per_case)
    y = (case % 2).astype(np.int64)
    place, both = (
        np.where(rng.random(len(y)) < alike, rng.random(cases)[case], rng.random(len(y))),
        rng.random(len(y)) < 0.8,
    )
    right = (np.where(place > 1 - differing, False, (place < differing + gain) | both),
             np.where(place > 1 - differing, True, (place >= differing + gain) & both))  # fmt: skip
    fold = (rng.permutation(cases) % 5)[case][None]
    names = tuple(f"i{n:05d}" for n in range(len(y))), tuple(f"c{n:05d}" for n in range(cases))
    scores = [np.where(r, y, 1 - y)[:, None] == np.arange(2) for r in right]
    pools = [Pool(("a", "b"), names[0], y, case, fold, 0.8 * s[None] + 0.1, names[1]) for s in scores]
    return Pair("first", "second", *(score_pool(pool) for pool in pools))


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "differing"), [(200, 0.0), (600, 0.0), (600, 0.01)])
@pytest.mark.parametrize("per_case", [1, 5])
def test_what_differs_by_the_margin_is_rarely_called_practically_equal(
    cases: int, differing: float, per_case: int
) -> None:
    """At most 5 % of pairs whose true difference is the margin; of 60, 8 and more have a chance of 2 % then."""
    rng = np.random.default_rng(5)
    found = [
        compare_pairs([draw_alike(cases, rng, differing=differing, gain=0.02, per_case=per_case)])[0] for _ in range(60)
    ]
    for metric in ("macro_f1", "accuracy", "balanced_accuracy"):
        assert sum(row[metric].verdict == "practically equal" for row in found) <= 7


def test_what_hardly_differs_is_practically_equal_with_enough_cases_and_not_told_with_few() -> None:
    rng = np.random.default_rng(6)
    many = compare_pairs([draw_alike(1500, rng, differing=0.005, gain=0.0)])[0]
    few = compare_pairs([draw_alike(60, rng, differing=0.0, gain=0.0)])[0]
    for metric in ("macro_f1", "accuracy", "balanced_accuracy"):
        assert many[metric].verdict == "practically equal"
        assert max(abs(many[metric].low), abs(many[metric].high)) < many[metric].margin == 0.02
        assert few[metric].verdict == "cannot tell"  # sixty cases that agree do not rule out one in fifty
        assert (few[metric].low, few[metric].high) == (0, 0)
    assert many["log_loss"].verdict != "practically equal"  # it has no bounds
    assert many["log_loss"].margin == 0


def test_equality_has_the_p_value_of_two_one_sided_tests() -> None:
    """Without luck and with enough that differs, TOST by statsmodels on the differences of the single images."""
    pair = draw_alike(1500, np.random.default_rng(6), differing=0.03, gain=0.005)
    first, second = (hits(run.pool) for run in (pair.first, pair.second))
    gap = Gap(
        float(first.mean() - second.mean()), float(stats.sem(first - second) ** 2), 1499, Luck(0, 0, 0),
        np.empty((0, 2)), unit=1 / 1500,
    )  # fmt: skip
    assert gap.find_equal_p(0.02) == pytest.approx(ttost_paired(first, second, -0.02, 0.02)[0], rel=1e-9)
    assert gap.find_equal_p(0) == 1


def test_a_real_difference_within_the_margin_is_practically_equal_and_says_its_p() -> None:
    pair = draw_alike(4000, np.random.default_rng(1), differing=0.0, gain=0.006)
    found, unasked = (compare_pairs([pair], margin=margin)[0]["accuracy"] for margin in (0.02, 0.0))
    assert (found.verdict, unasked.verdict) == ("practically equal", "better")
    assert found.p == unasked.p < 0.05


@pytest.mark.slow
def test_equality_is_corrected_for_the_number_of_pairs() -> None:
    rng = np.random.default_rng(2)
    pairs = [draw_alike(900, rng, differing=0.01, gain=0.0) for _ in range(12)]
    together = [row["accuracy"] for row in compare_pairs(pairs)]
    alone = [compare_pairs([pair])[0]["accuracy"] for pair in pairs]
    assert all(t.p_equal >= a.p_equal for t, a in zip(together, alone, strict=True))
    assert max(t.p_equal for t in together) > max(a.p_equal for a in alone) or together[0].p_equal > alone[0].p_equal
    for one in together:
        assert (one.verdict == "practically equal") <= (one.p_equal <= 0.025)


@pytest.mark.parametrize("margin", [-0.01, 1.0, float("nan"), float("inf")])
def test_a_margin_that_can_be_none_is_refused(margin: float) -> None:
    with pytest.raises(RecipeError, match="margin"):
        compare_pairs([], margin=margin)
