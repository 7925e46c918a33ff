"""The learning curve: nested parts, an end that is the ordinary run, widths that hold, and words that follow rules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from smalti.cli import app
from smalti.errors import RecipeError, RunError
from smalti.evaluate import Growth, forecast_growth
from smalti.evaluate.growth import EXPONENTS, _bend, _fit_forms
from smalti.learn import choose_shares, learn_curve, order_cases, take_cases
from smalti.learn.answers import answer_backbone, answer_cases, answer_seeds
from smalti.learn.curve import trace_curve
from smalti.learn.measuring import _describe, check_recipe
from smalti.predict import predict_outer
from smalti.recipe import load_recipe
from smalti.train import train_folds
from smalti.types import score_columns
from textures import FAST

SHARE = np.geomspace(1 / 16, 1, 7)
SOLVED = [*FAST, "model.head=ridge", "train.finetune.epochs=0", "audit.checks=[]"]


def draw(cases: int, size: int, *, apart: float, seed: int = 0, images: int = 2) -> tuple[Any, list[str], list[str]]:
    """Embeddings of two Gaussian classes, with a look that the images of a case share; labels and cases."""
    rng = np.random.default_rng(seed)
    label = np.arange(cases) % 2
    case = np.repeat(np.arange(cases), images)
    x = rng.normal(0, 0.7, (cases, size))[case] + rng.normal(0, 0.7, (len(case), size))
    x[:, 0] += apart * label[case]
    return x, ["ab"[i] for i in label[case]], [f"c{i:03d}" for i in case]


def trace(build: Callable[..., Any], folder: Path, data: Any, *, orders: int = 2, head: str = "nearest_mean") -> Any:
    x, labels, cases = data
    settings = (f"model.head={head}", "split.folds=3")
    experiment = build(x, labels, *settings, cases=cases, name=f"run{len(list(folder.iterdir()))}")
    splits = experiment.splits
    parts = folder / f"parts{len(list(folder.iterdir()))}"
    return experiment, splits, trace_curve(experiment, orders=orders, folder=parts, tell=lambda *_: None)


# --- parts --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(6, 60), st.integers(2, 5))
def test_parts_are_nested_whole_in_cases_and_hold_the_classes_by_their_shares(seed: int, n: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    label = np.concatenate(
        [np.arange(classes), rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))]
    )
    case = np.repeat(np.arange(len(label)), rng.integers(1, 5, len(label)))
    targets = label[case]
    order = order_cases(targets, case, seed=seed)
    assert sorted(order.cases) == list(range(len(label)))
    before: set[int] = set()
    for share in choose_shares([order]):
        taken = take_cases(order, case, share=share)
        inside = set(case[taken])
        assert set(taken) == set(np.flatnonzero(np.isin(case, list(inside))))  # no case in part
        assert before <= set(taken)
        assert set(targets[taken]) == set(range(classes))
        held = np.bincount(label[sorted(inside)], minlength=classes)
        assert (held >= np.minimum(np.bincount(label), 2)).all()
        # Two of each class come first; what follows goes by the shares.
        assert (np.abs(held - np.bincount(label) * len(inside) / len(label)) <= 3.5).all()
        before = set(taken)
    assert len(before) == len(case)


def test_a_class_that_lives_only_beside_another_one_is_in_every_part() -> None:
    targets, cases = np.array([0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), np.arange(12) // 3
    order = order_cases(targets, cases, seed=0)
    for share in choose_shares([order]):
        assert set(targets[take_cases(order, cases, share=share)]) == {0, 1}


# --- the fit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_each_form_is_the_weighted_line_of_numpy(exponent: float) -> None:
    scores = 0.8 - 0.1 * SHARE**-0.4 + np.random.default_rng(0).normal(0, 0.01, len(SHARE))
    fits, _ = _fit_forms(SHARE, scores[None])
    slope, start = np.polyfit(_bend(SHARE, exponent), scores, 1, w=np.sqrt(SHARE))
    np.testing.assert_allclose(fits[0, EXPONENTS.index(exponent)], [start, slope], rtol=1e-9)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_curve_of_one_form_is_known_by_it_and_goes_on_as_it(exponent: float) -> None:
    curve = 0.7 + 0.05 * _bend(SHARE, exponent)
    fits, chances = _fit_forms(SHARE, curve[None])
    assert chances[0, EXPONENTS.index(exponent)] > 0.999
    ahead = chances[0] @ (fits[0, :, 0] + fits[0, :, 1] * [float(_bend(4.0, c)) for c in EXPONENTS])
    assert ahead == pytest.approx(0.7 + 0.05 * float(_bend(4.0, exponent)), abs=1e-6)


@pytest.mark.slow
def test_the_interval_holds_what_was_measured_with_twice_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """From curves up to half the cases; 9 in 10 at least, and of 12 no more than 3 are missed by luck (2 %)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import bench_learning
    from smalti.metrics import macro_f1

    problem = bench_learning.Problem(80, dimensions=20)
    missed = 0
    for seed in range(12):
        sizes, pools = bench_learning.trace(problem, np.random.default_rng(seed))
        last = max(i for i, size in enumerate(sizes) if size <= sizes[-1] / 2 + 1) + 1
        times = sizes[-1] / sizes[last - 1]
        (found,) = forecast_growth(sizes[:last], pools[:last], times=(times,), confidence=0.95)
        measured = macro_f1(pools[-1][0].y_true, pools[-1][0].scores[0])
        missed += not found.low <= measured <= found.high
        assert found.low <= found.value <= found.high
        assert found.gain_low <= found.gain <= found.gain_high
    assert missed <= 3


# --- the curve ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["ridge", "logistic", "lda"])
def test_the_end_of_the_curve_is_the_ordinary_run(embed: Callable[..., Any], tmp_path: Path, head: str) -> None:
    experiment, splits, curve = trace(embed, tmp_path, draw(40, 5, apart=1.5), head=head)
    train_folds(experiment)
    table = predict_outer(experiment).sort_values("image")
    (last,) = curve.pools[-1]
    assert list(table["image"]) == list(last.images)
    np.testing.assert_array_equal(table[score_columns(experiment.cohort.classes)], last.scores[0])
    assert curve.shares[-1] == 1
    assert curve.cases[-1] == np.mean(
        [len({experiment.cohort.labelled[i].case for i in (*s.train, *s.inner)}) for s in splits]
    )


def test_outer_cases_teach_no_part(embed: Callable[..., Any], tmp_path: Path) -> None:
    """Labels of outer images do not change their own scores, at any size."""
    x, labels, cases = draw(40, 5, apart=1.5)
    experiment, splits, curve = trace(embed, tmp_path, (x, labels, cases))
    outer = splits[0].outer
    labelled = list(experiment.cohort.labelled)
    from dataclasses import replace

    for i in outer:
        labelled[i] = replace(labelled[i], label="b" if labelled[i].label == "a" else "a")
    other = replace(experiment, cohort=replace(experiment.cohort, labelled=tuple(labelled)))
    again = trace_curve(replace(other, splits=splits[:1]), orders=2, folder=tmp_path / "flipped", tell=lambda *_: None)
    names = [experiment.cohort.labelled[i].image for i in outer]
    for mine, theirs in zip(curve.pools, again.pools, strict=True):
        rows = [mine[0].images.index(name) for name in sorted(names)]
        np.testing.assert_array_equal(mine[0].scores[0, rows], theirs[0].scores[0])


def describe(experiment: Any, curve: Any, *, changed: str = "") -> Any:
    return _describe(experiment, curve, data="data", orders=2, margin=0.02, changed=changed).dump()


def test_more_cases_help_where_they_do_and_not_where_the_curve_has_ended(
    embed: Callable[..., Any], tmp_path: Path
) -> None:
    rising = trace(embed, tmp_path, draw(160, 60, apart=2.2, images=1))
    ended = trace(embed, tmp_path, draw(400, 1, apart=2.2, images=1))
    up, flat = (describe(e, curve) for e, _, curve in (rising, ended))
    assert up["answers"][0]["word"] == "yes"
    assert up["growth"][0]["gain_low"] > 0
    assert up["growth"][1]["gain"] > up["growth"][0]["gain"]
    assert flat["answers"][0]["word"] == "no"
    assert flat["answers"][2]["word"] == "yes"  # one number that classes share cannot tell them further apart
    # One dimension, two means 2.2 apart with variance 0.98: what the best rule reaches.
    assert flat["growth"][1]["low"] <= 0.867 <= flat["growth"][1]["high"]


def test_shuffled_labels_are_flat_at_chance_and_nothing_is_promised(embed: Callable[..., Any], tmp_path: Path) -> None:
    x, labels, cases = draw(100, 20, apart=2.0, images=1)
    shuffled = list(np.random.default_rng(3).permutation(labels))
    experiment, _, curve = trace(embed, tmp_path, (x, shuffled, cases))
    result = describe(experiment, curve)
    for point in result["points"]:
        assert point["low"] <= result["chance"]["prior_high"]
    assert not result["growth"]
    assert result["answers"][0]["word"] == "cannot tell"
    assert "chance" in result["answers"][0]["words"]


def test_few_cases_make_no_forecast_and_changed_labels_neither(embed: Callable[..., Any], tmp_path: Path) -> None:
    experiment, _, curve = trace(embed, tmp_path, draw(12, 3, apart=3.0))
    few = describe(experiment, curve)
    assert (len(few["growth"]), few["answers"][0]["word"]) == (0, "cannot tell")
    changed = describe(experiment, curve, changed="3 labels were changed")
    assert not changed["trustworthy"]
    assert "3 labels" in changed["answers"][0]["words"]


# --- words --------------------------------------------------------------------------------------------------------


def grow(low: float, value: float, high: float) -> list[Growth]:
    return [Growth(2.0, 0.7 + value, 0.6, 0.8, value, low, high)]


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ((0.01, 0.03, 0.05), "yes"),
        ((-0.01, 0.0, 0.01), "no"),
        ((0.002, 0.01, 0.019), "no"),
        ((-0.02, 0.01, 0.04), "cannot tell"),
    ],
)
def test_more_cases_are_judged_by_the_interval_of_the_gain(found: tuple[float, float, float], word: str) -> None:
    answer = answer_cases(grow(*found), why="", margin=0.02, confidence=0.95)
    assert answer.word == word
    for number in found:
        assert f"{number:+.3f}" in answer.words


def test_seeds_and_backbone_are_judged_by_printed_numbers() -> None:
    seeds = answer_seeds(width=0.10, by_cases=0.07, networks=15, least=5, spread=0.01)
    assert (seeds.word, "30%" in seeds.words, "0.010" in seeds.words) == ("yes", True, True)
    assert answer_seeds(width=0.10, by_cases=0.099, networks=15, least=5, spread=None).word == "no"
    assert answer_seeds(width=0.10, by_cases=0.07, networks=3, least=5, spread=None).word == "cannot tell"
    rising, flat, unsure = (
        answer_cases(grow(*found), why="", margin=0.02, confidence=0.95)
        for found in ((0.01, 0.03, 0.05), (-0.01, 0.0, 0.01), (-0.02, 0.01, 0.04))
    )
    words = [answer_backbone(one, taught=0.95, outer=0.7, margin=0.02).word for one in (rising, flat, unsure)]
    assert words == ["first more cases", "yes", "cannot tell"]
    assert answer_backbone(rising, taught=0.71, outer=0.70, margin=0.02).word == "yes"
    assert answer_backbone(flat, taught=1.0, outer=0.99, margin=0.02).word == "no"


def test_what_the_curve_cannot_follow_is_refused_at_once_with_every_fix() -> None:
    recipe = load_recipe("default", settings=["stain.normalise=reinhard", "predict.calibration=temperature"])
    with pytest.raises(RecipeError) as error:
        check_recipe(recipe)
    for fix in ("model.head=logistic", "train.finetune.epochs=0", "stain.normalise=none", "predict.calibration=none"):
        assert f"--set {fix}" in str(error.value)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_says_where_and_what_next_and_goes_on_with_the_same_bytes(challenge: Path, tmp_path: Path) -> None:
    words = [word for setting in SOLVED for word in ("--set", setting)]
    command = ["learn", str(challenge), "--runs", str(tmp_path), "--orders", "2", *words]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    assert "more cases: cannot tell" in first.output
    assert "next:   smalti" in first.output
    (folder,) = tmp_path.glob("*-learn-*")
    kept = {name: (folder / name).read_bytes() for name in ("learn.json", "learn.csv")}
    result = json.loads(kept["learn.json"])
    assert result["points"][-1]["share"] == 1
    page = (folder / "report.html").read_text(encoding="utf-8")
    for answer in result["answers"]:
        assert answer["word"] in page
    (folder / "learn.json").unlink()
    shutil.rmtree(next((folder / "parts").glob("*/fold1*")))
    again, _ = learn_curve(challenge, settings=SOLVED, orders=2, runs=tmp_path)
    assert again == folder
    assert {name: (folder / name).read_bytes() for name in kept} == kept


@pytest.mark.slow
def test_a_part_that_lost_rows_is_named(challenge: Path, tmp_path: Path) -> None:
    folder, _ = learn_curve(challenge, settings=SOLVED, orders=2, runs=tmp_path)
    path = next((folder / "parts").glob("*/*/scores.csv"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="delete"):
        learn_curve(challenge, settings=SOLVED, orders=2, runs=tmp_path)


def test_a_head_that_learns_in_steps_and_a_single_order_are_refused(challenge: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.head=logistic"):
        learn_curve(challenge, settings=[*SOLVED, "model.head=steps"], runs=tmp_path)
    with pytest.raises(RunError, match="--orders"):
        learn_curve(challenge, settings=SOLVED, orders=1, runs=tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]
