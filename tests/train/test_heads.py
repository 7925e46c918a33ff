"""Plain heads: equal to their formulas and to scikit-learn, honest about cases, at chance where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.neighbors import NearestCentroid

from smalti.errors import PartError, RecipeError, RunError
from smalti.recipe import load_recipe
from smalti.store import write_table
from smalti.train import HEADS, check_parts, read_checkpoint, train_folds
from smalti.train.heads import fit_heat, solve_head
from smalti.workflow.portfolio.blending import _read_inner

NAMES = [entry.name for entry in HEADS]


def draw(n: int = 90, size: int = 12, *, classes: int = 3, seed: int = 0) -> tuple[Any, Any, Any]:
    """Embeddings of overlapping classes, uneven in number and scale, with weights of the images."""
    rng = np.random.default_rng(seed)
    y = np.sort(rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()))
    x = rng.normal(size=(n, size)) * rng.uniform(0.3, 2, size) + rng.normal(size=(classes, size))[y]
    return x, y.astype(np.int64), rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("strength", [3.0, 0.03])
def test_logistic_regression_has_no_slope_left(classes: int, strength: float) -> None:
    x, y, weights = draw(classes=classes)
    head = HEADS.build("logistic").open_path(x, y, weights)(strength)
    share = (weights / weights.sum())[:, None]
    error = share * (softmax(head(x), axis=1) - np.eye(classes)[y])
    held = head.weight if classes > 2 else head.weight - head.weight[::-1]  # of two classes their difference
    slope = error.T @ x + strength * held
    assert np.abs(slope).max() < 2e-3
    assert np.abs(error.sum(axis=0)).max() < 2e-3


@pytest.mark.parametrize("strength", [10.0, 0.1, 0.001])
def test_ridge_is_that_of_scikit_learn(strength: float) -> None:
    x, y, weights = draw()
    head = HEADS.build("ridge").open_path(x, y, weights)(strength)
    other = Ridge(alpha=strength).fit(x, np.eye(3)[y], sample_weight=weights / weights.sum())
    assert np.allclose(head.weight, other.coef_)
    assert np.allclose(head.bias, other.intercept_)


@pytest.mark.parametrize("strength", [1.0, 0.3, 0.01])
def test_linear_discriminants_are_those_of_scikit_learn(strength: float) -> None:
    x, y, _ = draw()
    head = HEADS.build("lda").open_path(x, y, np.ones(len(y)))(strength)
    other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=strength).fit(x, y)
    assert np.allclose(softmax(head(x), axis=1), other.predict_proba(x), atol=1e-9)


def test_the_nearest_mean_is_that_of_scikit_learn() -> None:
    x, y, _ = draw()
    head = HEADS.build("nearest_mean").open_path(x, y, np.ones(len(y)))(1.0)
    assert (head(x).argmax(axis=1) == NearestCentroid().fit(x, y).predict(x)).all()


@pytest.mark.parametrize("name", NAMES)
def test_weights_count_as_copies_do(name: str) -> None:
    x, y, _ = draw()
    times = np.random.default_rng(1).integers(1, 4, len(y))
    solver = HEADS.build(name)
    strength = solver.strengths[len(solver.strengths) // 2]
    weighted = solver.open_path(x, y, times.astype(float))(strength)
    copied = solver.open_path(np.repeat(x, times, axis=0), np.repeat(y, times), np.ones(times.sum()))(strength)
    assert np.allclose(weighted(x), copied(x), atol=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_more_dimensions_than_images_change_nothing(name: str) -> None:
    x, y, weights = draw(n=40, size=70)
    solver, cases = HEADS.build(name), np.arange(40)
    solved = solve_head(solver, x[None], y, weights, cases=cases, seed=0)
    direct = solver.open_path(x, y, weights)(solved.strength)(x)
    ratio = solved.head(x) / direct  # the temperature alone
    spread = direct - direct.mean(axis=1, keepdims=True)
    mine = solved.head(x) - solved.head(x).mean(axis=1, keepdims=True)
    heat = (spread * spread).sum() / (spread * mine).sum()
    assert np.isfinite(ratio).all()
    assert np.allclose(mine * heat, spread, atol=2e-2 * np.abs(spread).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_never_held_out_in_part(name: str) -> None:
    """Six images of a case are copies; labels of cases are drawn. Who had seen a copy would know the label."""
    rng = np.random.default_rng(0)
    cases = np.repeat(np.arange(60), 6)
    x = rng.normal(size=(60, 80))[cases] + rng.normal(size=(360, 80)) * 0.01
    y = np.repeat(rng.permutation(np.arange(60) % 2), 6)
    solved = solve_head(HEADS.build(name), x[None], y, np.ones(360), cases=cases, seed=0)
    assert solved.logits.shape == (360, 2)
    assert 0.3 < balanced_accuracy_score(y, solved.logits.argmax(axis=1)) < 0.7
    blind = solve_head(HEADS.build(name), x[None], y, np.ones(360), cases=np.arange(360), seed=0)
    assert balanced_accuracy_score(y, blind.logits.argmax(axis=1)) > 0.75


def test_the_strength_is_the_one_with_the_least_loss_of_held_out_cases() -> None:
    x, y, weights = draw(n=300, size=60)
    x += 3 * np.random.default_rng(9).normal(size=x.shape)
    solved = solve_head(HEADS.build("ridge"), x[None], y, weights, cases=np.arange(300), seed=3)
    assert solved.losses[solved.strength] == min(solved.losses.values())
    tried = HEADS.build("ridge").strengths[: len(solved.losses)]
    assert tuple(solved.losses) == tried
    known = log_loss(y, softmax(solved.logits, axis=1), sample_weight=weights)
    assert known == pytest.approx(solved.losses[solved.strength], abs=0.03)  # but for the share of Platt


def test_the_temperature_is_that_of_a_logistic_regression_on_one_number() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    logits = np.stack([np.zeros(4000), 4 * (rng.normal(size=4000) + y - 0.5)], axis=1)
    slope = LogisticRegression(C=np.inf, fit_intercept=False).fit(logits[:, 1:], y).coef_[0, 0]
    heat, _ = fit_heat(logits, y, np.ones(4000), cases=10**9)
    assert 1 / heat == pytest.approx(slope, rel=1e-3)
    right = np.eye(2)[y] * 1e-3  # all right, and by how much says nothing
    heat, loss = fit_heat(right, y, np.ones(4000), cases=20)
    assert softmax(right / heat, axis=1).max() == pytest.approx(21 / 22, abs=1e-3)
    assert np.isfinite(loss)


def test_labels_that_mean_nothing_stay_at_chance(embed: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(400, 300)), rng.permutation(np.array(["a", "b"] * 200))
    experiment = embed(x, labels, "model.head=logistic", name="chance")
    train_folds(experiment)
    inner = pd.read_csv(experiment.run.predictions / "inner.csv")
    said = np.where(inner["score_a"] > 0.5, "a", "b")
    assert abs((said == inner["label"]).mean() - 0.5) < 0.08


@pytest.mark.parametrize("name", NAMES)
def test_every_case_that_is_not_outer_chooses(embed: Callable[..., Any], name: str) -> None:
    x, y, _ = draw(n=120)
    cases = np.arange(120) // 2
    settings = (f"model.head={name}", "split.folds=3", "split.seeds=[0,1]")
    experiment = embed(x, y, *settings, cases=cases, name=name)
    splits = experiment.splits
    train_folds(experiment)
    inner = pd.read_csv(experiment.run.predictions / "inner.csv")
    for split in splits:
        mine = inner[(inner["seed"] == split.seed) & (inner["fold"] == split.fold)]
        outer = {experiment.cohort.labelled[i].case for i in split.outer}
        assert not outer & set(mine["case"].astype(str))
        assert len(mine) == 120 - len(split.outer)
    tried = pd.read_csv(experiment.run.path / "heads.csv")
    assert set(tried["head"]) == {name}
    assert len(tried.groupby(["seed", "fold"])) == len(splits)
    before = read_checkpoint(experiment.run.checkpoints / f"{splits[0].name}.safetensors")
    again = embed(x, y, *settings, cases=cases, name=f"{name}-again")
    train_folds(again)
    after = read_checkpoint(again.run.checkpoints / f"{splits[0].name}.safetensors")
    assert all((before["weights"][key] == after["weights"][key]).all() for key in before["weights"])


def test_views_teach_and_the_plain_one_is_scored() -> None:
    x, y, weights = draw(n=60)
    views = np.stack([x, x + 1000])  # were the second scored, nothing would be right
    solver = HEADS.build("nearest_mean")
    solved = solve_head(solver, views, y, weights, cases=np.arange(60), seed=0)
    both = solver.open_path(views.reshape(120, -1), np.tile(y, 2), np.tile(weights, 2))(1.0)
    assert (solved.head(x).argmax(axis=1) == both(x).argmax(axis=1)).all()
    assert solved.logits.shape == (60, 3)


@pytest.mark.parametrize("setting", ["model.pooler=attention", "model.fusion=concat", "train.transfer.epochs=0"])
def test_what_is_not_there_before_learning_cannot_be_solved_on(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"head 'ridge' .* Fix: .*model\.head=steps"):
        check_parts(load_recipe(settings=["model.head=ridge", setting]))


def test_an_unknown_head_names_the_nearest() -> None:
    with pytest.raises(PartError, match="Did you mean 'logistic'"):
        check_parts(load_recipe(settings=["model.head=logistics"]))


def test_an_inner_table_that_lacks_rows_is_refused(embed: Callable[..., Any]) -> None:
    from smalti.samples import tabulate_folds

    x, y, _ = draw(n=60)
    experiment = embed(x, y, "model.head=ridge", name="rows")
    splits = experiment.splits
    train_folds(experiment)
    write_table(experiment.run.path / "folds.csv", tabulate_folds(experiment.cohort, splits))
    table = experiment.run.read_inner()
    assert len(table) == sum(60 - len(split.outer) for split in splits)
    write_table(experiment.run.predictions / "inner.csv", table.iloc[:-1])
    with pytest.raises(RunError, match="not those that"):
        experiment.run.read_inner()


def test_a_fold_in_which_no_case_can_be_held_back_has_no_inner_rows(embed: Callable[..., Any]) -> None:
    """Of class b one fold learns from a single case, the other from two."""
    from smalti.samples import tabulate_folds

    x, labels = np.random.default_rng(0).normal(size=(33, 5)), np.array(["a"] * 30 + ["b"] * 3)
    experiment = embed(x, labels, "model.head=ridge", "split.folds=2", name="few")
    splits = experiment.splits
    train_folds(experiment)
    write_table(experiment.run.path / "folds.csv", tabulate_folds(experiment.cohort, splits))
    alone = [split for split in splits if (labels[np.setdiff1d(np.arange(33), split.outer)] == "b").sum() == 1]
    assert len(alone) == 1
    table = experiment.run.read_inner()
    assert set(table["fold"]) == {split.fold for split in splits} - {alone[0].fold}
    write_table(experiment.run.predictions / "inner.csv", table.iloc[1:])
    with pytest.raises(RunError, match="not those that"):
        experiment.run.read_inner()


def test_a_fold_that_could_hold_back_cases_must_have_inner_rows(embed: Callable[..., Any]) -> None:
    from smalti.samples import tabulate_folds

    x, y, _ = draw(n=60)
    experiment = embed(x, y, "model.head=ridge", "split.folds=2", name="whole")
    splits = experiment.splits
    train_folds(experiment)
    write_table(experiment.run.path / "folds.csv", tabulate_folds(experiment.cohort, splits))
    table = experiment.run.read_inner()
    write_table(experiment.run.predictions / "inner.csv", table[table["fold"] == 0])
    with pytest.raises(RunError, match="not those that"):
        experiment.run.read_inner()


def test_members_of_an_ensemble_are_weighed_on_the_rows_that_all_have(
    embed: Callable[..., Any], tmp_path: Path
) -> None:
    x, y, _ = draw(n=60)
    tables = []
    for head in ("ridge", "steps"):
        experiment = embed(x, y, f"model.head={head}", "train.transfer.epochs=2", name=f"member-{head}")
        train_folds(experiment)
        tables.append(experiment.run.predictions / "inner.csv")
    whole, fixed = (pd.read_csv(path) for path in tables)
    assert len(fixed) < len(whole)
    first, second = _read_inner(tables, partial=False)
    keys = ["seed", "fold", "image"]
    assert sorted(first[keys].itertuples(index=False)) == sorted(second[keys].itertuples(index=False))
    assert len(second) == len(fixed)
    first, second = _read_inner(tables, partial=True)
    assert len(first) == len(second) == len(whole)
    assert first["score_0"].notna().all()
    assert second.dropna().sort_values(keys)["score_0"].tolist() == fixed.sort_values(keys)["score_0"].tolist()
    write_table(tables[0], whole.iloc[:0])  # a head that could hold back no case in any fold
    first, second = _read_inner(tables, partial=True)
    assert first["score_0"].isna().all()
    assert second["score_0"].notna().all()
