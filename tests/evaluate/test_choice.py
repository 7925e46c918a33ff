"""The best of many runs: what choosing is worth on cases that had no say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from smalti.evaluate import correct_choice
from smalti.stats import Pool, score_pool
from smalti.stats.chance import score_chance

pytestmark = pytest.mark.slow

CLASSES = ("a", "b", "c", "d")
SHARES = (0.4, 0.3, 0.2, 0.1)


def draw_pools(
    runs: int, rng: np.random.Generator, *, images: int = 150, skills: float | list[float] = 0.0
) -> dict[str, Pool]:
    """Runs on the same images, cases of three, each with its own noise and its own skill."""
    case = np.arange(images) // 3
    y = rng.choice(4, p=SHARES, size=case.max() + 1)[case]
    names = tuple(f"i{n:04d}" for n in range(images))
    cases = tuple(f"c{n:04d}" for n in range(case.max() + 1))
    each = skills if isinstance(skills, list) else [skills] * runs
    pools = {}
    for number, skill in enumerate(each):
        logits = skill * np.eye(4)[y] + rng.gumbel(0, 1, (case.max() + 1, 4))[case]
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        pools[f"r{number}"] = Pool(CLASSES, names, y, case, (case % 5)[None], scores[None], cases)
    return pools


def macro_f1(pool: Pool) -> float:
    return float(f1_score(pool.y_true, pool.scores[0].argmax(1), average="macro"))


def test_tuning_on_labels_that_mean_nothing_scores_at_chance() -> None:
    """Forty recipes without skill: the best of them beats chance by luck, what choosing it is worth does not."""
    rng = np.random.default_rng(0)
    naive, corrected, above = [], [], 0
    for _ in range(12):
        pools = draw_pools(40, rng)
        choice = correct_choice(pools, resamples=400)
        chance = score_chance(next(iter(pools.values())), guesses=1000)["macro_f1"]
        naive.append(choice.score - chance.prior)
        corrected.append(choice.corrected - chance.prior)
        above += choice.corrected > chance.prior_high
    assert np.mean(naive) > 0.05  # the leak that is corrected
    assert above == 0
    # Guesses have the shares of the labels, these runs have equal shares, which score a little less.
    assert -0.06 < np.mean(corrected) < 0.02


def test_the_corrected_score_is_that_of_new_cases() -> None:
    """Ten equal recipes with skill: the mean over draws is their true score; the best as it stands is above it."""
    rng = np.random.default_rng(1)
    truth = macro_f1(draw_pools(1, rng, images=60_000, skills=1.5)["r0"])
    choices = [correct_choice(draw_pools(10, rng, skills=1.5), resamples=300) for _ in range(40)]
    small = np.mean([macro_f1(draw_pools(1, rng, skills=1.5)["r0"]) for _ in range(200)])
    assert abs(truth - small) < 0.03  # macro-F1 is a little lower on few images
    assert np.mean([c.score for c in choices]) > small + 0.03
    assert np.mean([c.corrected for c in choices]) == pytest.approx(small, abs=0.015)


def test_a_run_that_is_far_better_keeps_its_score() -> None:
    rng = np.random.default_rng(2)
    pools = draw_pools(4, rng, skills=[0.2, 0.4, 0.3, 4.0])
    choice = correct_choice(pools)
    assert choice.best == "r3"
    assert choice.score == pytest.approx(macro_f1(pools["r3"]))
    assert choice.optimism < 0.03
    assert choice.runs == 4


def test_one_run_and_copies_of_one_run_need_no_correction() -> None:
    pool = draw_pools(1, np.random.default_rng(3), skills=1.0)["r0"]
    alone = correct_choice({"a": pool})
    assert alone.score == alone.corrected == pytest.approx(macro_f1(pool))
    copies = correct_choice({"a": pool, "b": replace(pool), "c": replace(pool)})
    assert copies.optimism == pytest.approx(0, abs=1e-12)
    assert score_pool(pool).score_seeds("macro_f1").mean() == pytest.approx(alone.score)
