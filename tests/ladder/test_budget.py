"""What a rung costs before it is run, and which rung inner images choose, against counts and choices by hand."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from drawn_records import settle_scores
from smalti import recipe
from smalti.evaluate import score_predictions
from smalti.ladder.budget import Budget
from smalti.ladder.definition import Ladder, Step, load_ladder, resolve_ladder
from smalti.ladder.pick import pick_on_inner
from smalti.ladder.scoring import ScoredRung
from smalti.metrics import macro_f1
from smalti.records import Influence
from smalti.stats import pool_predictions
from smalti.types import Cohort, Sample
from smalti.workflow.portfolio.work import Work, measure_work

CLASSES = ("a", "b")


# --- budget -------------------------------------------------------------------------------------------------------


def make_step(*settings: str) -> Step:
    rungs = [{"name": "base"}, {"name": "rung", "set": ["model.backbone=test_resnet", *settings]}]
    return resolve_ladder(Ladder.model_validate({"preset": "quick", "rungs": rungs}))[1]


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three images of 128 x 256 px, one of them without a label."""
    samples = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (256, 128)).save(path)
        samples.append(Sample(path.name, path, None, CLASSES[number % 2], path.name, path.name))
    return Cohort(tmp_path, "table", tuple(samples[:2]), (replace(samples[2], label=None),), CLASSES)


@pytest.mark.parametrize(
    ("settings", "tiles"),
    [
        (("tile.size_px=64",), 3 * 2 * 4),
        (("tile.size_px=64", "tile.overlap_frac=0.5"), 3 * 3 * 7),
        (("tile.size_px=64", "tile.max_tiles=5"), 3 * 5),
        (("tile.size_px=64", "tile.max_tiles=5", "tile.magnifications=[1, 2]"), 3 * 5 * 2),
        (("tile.size_px=64", "tile.source=whole"), 3),
        (("tile.size_px=64", "predict.views=4"), 3 * 8 * 4),
    ],
)
def test_frozen_work_is_the_pixels_of_the_tiles(cohort: Cohort, settings: tuple[str, ...], tiles: int) -> None:
    work = measure_work(make_step(*settings).recipe, cohort)
    assert (work.frozen_px, work.tuned_px) == (tiles * 64**2, 0)


def test_finetuning_counts_steps_of_every_fold_and_seed(cohort: Cohort) -> None:
    phase = ("train.finetune.epochs=7", "train.finetune.tiles_per_image=3", "split.folds=2", "split.seeds=[0, 1]")
    work = measure_work(make_step("tile.size_px=64", *phase).recipe, cohort)
    per_seed = 2 * 2 * 7 * 2 * 3 * 3 + 3 * 8  # passes, folds, epochs, images, tiles, forward and backward; prediction
    assert work.tuned_px == 2 * per_seed * 64**2


def test_features_are_paid_once(cohort: Cohort) -> None:
    one, two = (
        measure_work(make_step("tile.size_px=64", setting).recipe, cohort)
        for setting in ("model.dropout=0.1", "predict.decision=prior")
    )
    other = measure_work(make_step("tile.size_px=64", "tile.max_tiles=5").recipe, cohort)
    assert one.features == two.features != other.features
    budget = Budget(minutes=10)
    budget.learn(one, seconds=2000)
    assert budget.refuse(two) is None
    assert budget.refuse(other) is not None, "five eighths of 2,000 s"


def test_a_rung_goes_where_the_rate_so_far_says_that_it_fits() -> None:
    budget = Budget(minutes=10, started=time.monotonic() - 4 * 60)
    big = Work("big", 700.0, 0.0)
    assert budget.refuse(big) is None, "nothing is known yet"
    budget.learn(Work("first", 100.0, 0.0), seconds=60)  # a minute for each hundred
    assert "needs about 7.0 min; 6.0 of 10 min" in str(budget.refuse(big))
    assert budget.refuse(Work("fits", 500.0, 0.0)) is None
    assert Budget().refuse(big) is None


def test_the_ladder_of_tiles_changes_only_how_tiles_are_cut() -> None:
    steps = resolve_ladder(load_ladder("tiles"))
    plain = steps[0].recipe
    for step in steps:
        assert step.recipe.model_copy(update={"tile": plain.tile}) == plain
    assert len({step.recipe.tile for step in steps}) == len(steps)


# --- choosing on inner images -------------------------------------------------------------------------------------


def draw_run(folder: Path, rng: np.random.Generator, *, skill: tuple[float, ...], truth: np.ndarray) -> ScoredRung:
    """A run of two folds of 20 images; ``skill`` is how far its scores know the label, in each fold."""

    def draw(images: np.ndarray, fold: int) -> pd.DataFrame:
        right = np.where(truth[images] == 1, 1, -1) * skill[fold] + rng.normal(0, 1, len(images))
        score = 1 / (1 + np.exp(-right))
        names = [f"i{i}" for i in images]
        return pd.DataFrame(
            {"image": names, "case": names, "fold": fold, "seed": 0, "label": [CLASSES[t] for t in truth[images]],
             "score_a": 1 - score, "score_b": score}
        )  # fmt: skip

    halves = np.arange(20), np.arange(20, 40)
    outer = pd.concat([draw(halves[0], 0), draw(halves[1], 1)])
    inner = pd.concat([draw(halves[1][:10], 0), draw(halves[0][:10], 1)])
    (folder / "predictions").mkdir(parents=True)
    inner.to_csv(folder / "predictions" / "inner.csv", index=False)
    evaluate = recipe.Evaluate(resamples=100)
    scores = settle_scores(score_predictions(outer, classes=CLASSES))
    return ScoredRung(outer, evaluate, scores, pool_predictions(outer, classes=CLASSES), {}, Influence())


def draw_rungs(
    root: Path, *skills: tuple[float, float], seed: int = 0
) -> tuple[dict[str, Path], dict[str, ScoredRung]]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(40) % 2)
    runs = {f"r{i}": root / f"r{i}" for i in range(len(skills))}
    return runs, {name: draw_run(runs[name], rng, skill=s, truth=truth) for name, s in zip(runs, skills, strict=True)}


def test_each_fold_is_predicted_by_the_rung_that_its_inner_images_prefer(tmp_path: Path) -> None:
    runs, outcomes = draw_rungs(tmp_path, (4.0, 0.0), (0.0, 4.0))
    pick = pick_on_inner(runs, outcomes, outcomes["r0"].pool.images, "image")
    assert pick.score is not None
    assert pick.picks == {"r0": 1, "r1": 1}
    by_hand = pd.concat([outcomes["r0"].table.query("fold == 0"), outcomes["r1"].table.query("fold == 1")])
    truth = (by_hand["label"] == "b").astype(int)
    assert pick.score.value == pytest.approx(macro_f1(truth, by_hand[["score_a", "score_b"]].to_numpy()))
    assert "r0 1, r1 1" in pick.words


@pytest.mark.slow
def test_choosing_among_rungs_that_know_nothing_scores_chance(tmp_path: Path) -> None:
    """The highest of twelve equal rungs looks better than it is; picked on inner images they do not."""
    highest, picked = [], []
    for seed in range(12):
        runs, outcomes = draw_rungs(tmp_path / str(seed), *[(0.0, 0.0)] * 12, seed=seed)
        highest.append(max(macro_f1(o.pool.y_true, o.pool.scores[0]) for o in outcomes.values()))
        picked.append(pick_on_inner(runs, outcomes, outcomes["r0"].pool.images, "image").score.value)
    assert np.mean(highest) > 0.58
    assert abs(np.mean(picked) - 0.49) < 0.05  # three standard errors of a mean of 12 with 40 images


def test_without_inner_scores_or_with_other_folds_nothing_is_picked(tmp_path: Path) -> None:
    runs, outcomes = draw_rungs(tmp_path, (1.0, 1.0), (1.0, 1.0))
    images = outcomes["r0"].pool.images
    moved = outcomes["r1"].table.assign(fold=1 - outcomes["r1"].table["fold"])
    other = outcomes | {"r1": replace(outcomes["r1"], table=moved)}
    assert "folds" in pick_on_inner(runs, other, images, "image").reason
    (runs["r1"] / "predictions" / "inner.csv").unlink()
    assert "fewer than two" in pick_on_inner(runs, outcomes, images, "image").reason
