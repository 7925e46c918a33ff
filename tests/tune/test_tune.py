"""Search and sensitivity: nothing that chooses scores, noise is called noise, a killed search goes on."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState
from scipy import stats
from typer.testing import CliRunner

from smalti.cli import app
from smalti.errors import DivergenceError, RecipeError, RunError
from smalti.models import POOLERS, keeps_single
from smalti.recipe import list_documents, load_recipe
from smalti.records.studies.search import Effect
from smalti.tune import Search, Space, load_space, tune_recipe
from smalti.tune.idle import find_idle_knobs, find_idle_trials
from smalti.tune.search import Halving, Studies, tabulate_trials
from smalti.tune.sensitivity import LEVEL, encode_trials, level_scores, measure_effects, measure_interactions
from smalti.tune.sweeps import find_idle, judge_flatness, measure_noise, trace_curves
from smalti.tune.trial import TrialRunner
from smalti.tune.tuning import _choose, _judge
from smalti.workflow import SILENT, Project, inspect_ground

KNOBS = (
    {"knob": "train.transfer.lr", "low": 1e-4, "high": 1e-1, "log": True},
    {"knob": "model.dropout", "low": 0.0, "high": 0.5},
    {"knob": "train.transfer.weight_decay", "low": 1e-4, "high": 1.0, "log": True},
    {"knob": "train.transfer.epochs", "low": 5, "high": 60, "whole": True},
    {"knob": "train.transfer.loss", "choices": ["cross_entropy", "focal", "ldam"]},
    {"knob": "train.transfer.lookahead", "choices": [True, False]},
)
SPACE = Space.model_validate({"knobs": KNOBS})
SMALL = """
preset: quick
set:
  - model.backbone=test_resnet
  - model.pretrained=false
  - tile.size_px=64
  - train.transfer.epochs=6
  - audit.checks=[]
knobs:
  - {knob: train.transfer.lr, low: 1.0e-4, high: 1.0e-1, log: true, steps: 2}
  - {knob: model.dropout, choices: [0.0, 0.5]}
"""


def draw_trials(count: int, *, seed: int, noise: float = 0.02) -> pd.DataFrame:
    """Two knobs matter: the rate in the middle, and the loss; scores of four studies lie apart."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "train.transfer.lr": 10 ** rng.uniform(-4, -1, count),
            "model.dropout": rng.uniform(0, 0.5, count),
            "train.transfer.weight_decay": 10 ** rng.uniform(-4, 0, count),
            "train.transfer.epochs": rng.integers(5, 61, count),
            "train.transfer.loss": rng.choice(["cross_entropy", "focal", "ldam"], count),
            "train.transfer.lookahead": rng.choice([True, False], count),
        }
    )
    rate = np.log10(table["train.transfer.lr"])
    signal = -0.04 * (rate + 2.5) ** 2 + 0.06 * (table["train.transfer.loss"] == "focal")
    study = np.arange(count) % 4
    return table.assign(value=0.6 + signal + 0.1 * study + rng.normal(0, noise, count), study=study.astype(str))


# --- sensitivity --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_two_knobs_that_matter_come_first_and_alone_are_real() -> None:
    effects = measure_effects(draw_trials(80, seed=0), SPACE)  # twenty repeats: benchmarks/bench_sensitivity.py
    assert {e.knob for e in effects[:2]} == {"train.transfer.lr", "train.transfer.loss"}
    assert [e.knob for e in effects if e.p_value < LEVEL] == [e.knob for e in effects[:2]]
    assert sum(e.importance for e in effects) <= 1.0 + 1e-9
    assert all(e.reach > 0.02 for e in effects[:2])


@pytest.mark.slow
def test_scores_without_a_cause_make_no_knob_real() -> None:
    trials = draw_trials(60, seed=3)
    trials["value"] = np.random.default_rng(4).normal(0.5, 0.05, 60)
    assert not [e.knob for e in measure_effects(trials, SPACE) if e.p_value < LEVEL]


@pytest.mark.slow
def test_an_interaction_is_what_neither_knob_does_alone() -> None:
    """A product of two centred knobs has no main effect; a sum has no interaction."""
    trials = draw_trials(80, seed=6).assign(study="one")
    space = Space.model_validate({"knobs": KNOBS[1:5]})  # the forest is asked about every pair
    first, second = trials["model.dropout"] / 0.25 - 1, np.log10(trials["train.transfer.weight_decay"]) / 2 + 1
    pair = ("model.dropout", "train.transfer.weight_decay")
    product = measure_interactions(trials.assign(value=first * second), space)
    total = measure_interactions(trials.assign(value=first + second), space)
    assert (product[0].first, product[0].second) == pair or product[0].strength >= 0.5
    strength = {(i.first, i.second): i.strength for i in product}[pair]
    plain = {(i.first, i.second): i.strength for i in total}[pair]
    assert strength > 0.3  # the forest finds a third of a product that has no main effect
    assert plain < 0.05


@pytest.mark.slow
def test_pairs_of_idle_knobs_do_not_come_first() -> None:
    """Of nothing any noise is a large share, so that strength is a share of what all trials vary by."""
    found = measure_interactions(draw_trials(80, seed=0), SPACE)
    idle = {"model.dropout", "train.transfer.weight_decay", "train.transfer.epochs", "train.transfer.lookahead"}
    assert not {found[0].first, found[0].second} <= idle
    assert all(pair.strength < 0.1 for pair in found if {pair.first, pair.second} <= idle)


class Drawn(TrialRunner):
    """A bench whose scores are a formula and luck: one choice costs 0.15."""

    def try_recipe(self, recipe: Any, images: Any, *, name: str) -> Any:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        scores = 0.7 + rng.normal(0, 0.05, recipe.split.folds) - 0.15 * (recipe.train.transfer.loss == "focal")
        yield from np.cumsum(scores) / np.arange(1, recipe.split.folds + 1)


def search_drawn(folder: Path, *, trials: int = 30, sampler: Any = "tpe") -> tuple[pd.DataFrame, Studies]:
    """Three studies of the real search, pruned as by default."""
    folder.mkdir(exist_ok=True)
    cohort = SimpleNamespace(labelled=range(9))
    bench = Drawn(Project(folder), SimpleNamespace(cohort=cohort), folder, load_recipe("quick"))  # type: ignore[arg-type]
    studies = Studies(SPACE, Search(sampler=sampler, trials=trials), bench, (), SILENT)
    splits = tuple(SimpleNamespace(name=f"fold{i}", train=np.arange(6), inner=np.arange(6, 8)) for i in range(2))
    found = studies.run(splits, images=9, deadline=float("inf"))  # type: ignore[arg-type]
    return tabulate_trials(found, SPACE.names, folds=3), studies


class CutError(BaseException):
    """Stands for the end of the process: no Exception."""


class Cut(Drawn):
    """Scores depend on the recipe alone; the process ends in the folds that ``cuts`` names, counted over all trials."""

    cuts: ClassVar[set[int]] = set()
    count: ClassVar[int] = 0

    def try_recipe(self, recipe: Any, images: Any, *, name: str) -> Any:
        for score in super().try_recipe(recipe, images, name=recipe.to_yaml()):
            Cut.count += 1
            if Cut.count in Cut.cuts:
                raise CutError
            yield score


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_search_that_was_killed_goes_on_to_the_trials_that_it_would_have_had(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = Space.model_validate({"knobs": [{**KNOBS[0], "steps": 3}, {**KNOBS[1], "steps": 3}]})
    monkeypatch.setattr(sys.modules[__name__], "Drawn", Cut)
    monkeypatch.setattr(sys.modules[__name__], "SPACE", space)
    tables = []
    for way, cuts in (("whole", set()), ("cut", {2, 3, 9, 17, 18, 30, 41})):
        Cut.cuts, Cut.count = cuts, 0
        for _ in range(len(cuts)):
            with pytest.raises(CutError):
                search_drawn(tmp_path / way, trials=12, sampler=sampler)
        trials, _ = search_drawn(tmp_path / way, trials=12, sampler=sampler)
        tables.append(trials.drop(columns="seconds"))
    pd.testing.assert_frame_equal(*tables)
    assert (tables[0]["state"] == "pruned").any()


def test_halving_ends_the_trials_that_optuna_would_end() -> None:
    ends = []
    for pruner in (Halving(), optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)):
        study = optuna.create_study(direction="maximize", pruner=pruner)
        scores, steps = np.random.default_rng(1).normal(size=(60, 9)), []
        for row in scores:
            trial = study.ask()
            for step, score in enumerate(row):
                trial.report(score, step)
                if ended := trial.should_prune():
                    break
            study.tell(trial, None if ended else row[step], state=TrialState.PRUNED if ended else None)
            steps.append(step)
        ends.append(steps)
    assert ends[0] == ends[1]
    assert len(set(ends[0])) > 2


@pytest.mark.slow
def test_half_a_line_of_a_journal_is_taken_off_and_a_damaged_one_named(tmp_path: Path) -> None:
    trials, studies = search_drawn(tmp_path, trials=3)
    path = tmp_path / "trials.journal"
    content = path.read_bytes()
    path.write_bytes(content + b'{"op_code": 4, "worker')
    again, _ = search_drawn(tmp_path, trials=3)
    pd.testing.assert_frame_equal(again, trials)
    for damaged in (b"[]\n", b"{}\n", b"null\n", b"\x00\xff\n\n"):
        path.write_bytes(damaged + content)
        with pytest.raises(RunError, match=r"trials\.journal is damaged.*Fix"):
            studies._open("all")


@pytest.mark.slow
def test_a_choice_whose_trials_end_early_is_found_all_the_same(tmp_path: Path) -> None:
    """A search ends what is behind, and those that are left tell nothing of what put them there."""
    trials, _ = search_drawn(tmp_path)
    assert (trials["state"] == "pruned").sum() > 20
    assert trials.loc[trials["state"] == "pruned", "after_3"].isna().all()  # nothing is saved after the last fold
    levelled = level_scores(trials, steps=("after_1", "after_2", "after_3"))
    assert len(levelled) == len(trials)
    complete = levelled["state"] == "complete"
    assert (levelled["value"][complete] == trials["value"][complete]).all()
    effects = measure_effects(levelled, SPACE)
    assert [e.knob for e in effects if e.p_value < LEVEL] == ["train.transfer.loss"]
    assert effects[0].reach == pytest.approx(0.15, abs=0.04)


@pytest.mark.slow
def test_a_study_in_which_nothing_could_be_scored_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: TrialRunner, recipe: Any, images: Any, *, name: str) -> Any:
        raise DivergenceError("phase transfer diverged. Fix: a lower rate")
        yield

    monkeypatch.setattr(Drawn, "try_recipe", diverge)
    trials, studies = search_drawn(tmp_path, trials=2)
    assert set(trials["error"]) == {"phase transfer diverged. Fix: a lower rate"}
    assert level_scores(trials, steps=("after_1", "after_2", "after_3")).empty
    study = studies._open("all")
    with pytest.raises(RunError, match="could not be scored: phase transfer diverged"):
        _choose("all", study)


@pytest.mark.slow
def test_curves_pass_over_what_does_not_fit_and_end_when_time_is_up(tmp_path: Path) -> None:
    _, studies = search_drawn(tmp_path, trials=1)

    def build(values: Any) -> Any:
        if values["train.transfer.lookahead"] is True:
            raise RecipeError("does not fit beside the others")
        return studies.build_recipe(values)

    around = {"train.transfer.lr": 0.01, "model.dropout": 0.1, "train.transfer.weight_decay": 0.1}
    around |= {"train.transfer.epochs": 9, "train.transfer.loss": "focal", "train.transfer.lookahead": False}
    late = trace_curves(studies.runner, build, space=SPACE, around=around, seeds=2, listener=SILENT, deadline=0.0)
    assert late.empty
    whole = trace_curves(studies.runner, build, space=SPACE, around=around, seeds=2, listener=SILENT, deadline=1e99)
    assert len(whole) == 2 * (4 + 4 + 4 + 4 + 3 + 2)
    assert whole.loc[whole["score"].isna(), ["knob", "value"]].drop_duplicates().to_numpy().tolist() == [
        ["train.transfer.lookahead", True]
    ]
    again = trace_curves(studies.runner, build, space=SPACE, around=around, seeds=2, listener=SILENT, deadline=0.0)
    assert again["score"].tolist() == pytest.approx(whole["score"].tolist(), nan_ok=True)


def test_what_ended_early_gets_what_the_others_gained() -> None:
    rows = [("a", 0.5, 0.6, 0.8), ("a", 0.3, 0.5, 0.5), ("a", 0.2, 0.3, None), ("a", 0.1, None, None)]
    rows += [("b", 0.9, 0.9, 0.9), ("b", None, None, None)]
    trials = pd.DataFrame(rows, columns=["study", "one", "two", "three"])
    found = level_scores(trials, steps=("one", "two", "three"))
    # Gains in a: (0.1 + 0.2 + 0.1) / 3 to the second fold, (0.2 + 0.0) / 2 to the third.
    assert found["value"].tolist() == pytest.approx([0.8, 0.5, 0.4, 0.1 + 0.4 / 3 + 0.1, 0.9])


@pytest.mark.slow
def test_a_random_search_that_goes_on_draws_anew(tmp_path: Path) -> None:
    search_drawn(tmp_path, trials=4, sampler="random")
    trials, _ = search_drawn(tmp_path, trials=8, sampler="random")
    assert len(trials) == 24
    assert trials["train.transfer.lr"].is_unique


def test_equal_scores_leave_all_knobs_without_importance() -> None:
    effects = measure_effects(draw_trials(30, seed=0).assign(value=0.5), SPACE)
    assert {(e.importance, e.reach, e.p_value) for e in effects} == {(0.0, 0.0, 1.0)}


def test_rates_are_compared_by_factors_and_choices_have_no_order() -> None:
    matrix, columns = encode_trials(draw_trials(9, seed=0), SPACE)
    rates = draw_trials(9, seed=0)["train.transfer.lr"].to_numpy()
    assert matrix[:, columns["train.transfer.lr"][0]] == pytest.approx(np.log(rates))
    assert matrix[:, columns["train.transfer.loss"]].sum(axis=1).tolist() == [1.0] * 9


def test_noise_is_the_spread_between_seeds() -> None:
    curves = pd.DataFrame({"knob": "a", "value": [0, 0, 1, 1], "seed": [0, 1, 0, 1], "score": [0.5, 0.7, 0.1, 0.5]})
    assert measure_noise(curves) == pytest.approx(np.sqrt((0.02 + 0.08) / 2))


def test_a_curve_with_gaps_is_judged_by_what_is_there() -> None:
    """Time was up, or a value does not fit: a setting with one seed says nothing of luck."""
    rows = [("a", 0, 0, 0.5), ("a", 0, 1, 0.6), ("a", 1, 0, 0.7), ("a", 1, 1, 0.9), ("a", 2, 0, 0.1)]
    rows += [("b", 0, 0, 0.5), ("b", 1, 0, np.nan), ("b", 1, 1, 0.4)]
    found = judge_flatness(pd.DataFrame(rows, columns=["knob", "value", "seed", "score"]))
    assert found == {"a": pytest.approx(float(stats.f_oneway([0.5, 0.6], [0.7, 0.9]).pvalue))}
    assert measure_noise(pd.DataFrame(rows[-3:], columns=["knob", "value", "seed", "score"])) is None


def test_a_curve_is_flat_where_luck_explains_it() -> None:
    """Against the textbook's F; identical scores are flat, equal seeds with other means are not."""
    rng = np.random.default_rng(0)
    scores = {"a": rng.normal(0.5, 0.05, (3, 4)), "b": rng.normal([[0.5], [0.6], [0.7]], 0.01, (3, 4))}
    scores |= {"c": np.full((3, 4), 0.5), "d": np.repeat([[0.1], [0.2], [0.3]], 4, axis=1)}
    rows = [(k, v, s, x[v, s]) for k, x in scores.items() for v in range(3) for s in range(4)]
    found = judge_flatness(pd.DataFrame(rows, columns=["knob", "value", "seed", "score"]))
    within = scores["a"].var(axis=1, ddof=1).mean()
    plain = 1 - stats.f.cdf(4 * scores["a"].mean(axis=1).var(ddof=1) / within, 2, 9)
    assert found["a"] == pytest.approx(min(1.0, 2 * plain))  # third of four in Holm's order
    assert found["a"] > 0.05 > found["b"]
    assert found["c"] == 1.0
    assert found["d"] < 0.001  # against the luck of the other curves
    alone = pd.DataFrame([r for r in rows if r[0] == "d"], columns=["knob", "value", "seed", "score"])
    assert judge_flatness(alone) == {"d": 0.0}


def test_seeds_that_agree_by_chance_make_no_knob_real() -> None:
    """Few images have few scores: two seeds are equal now and then, where all other settings have luck."""
    rng = np.random.default_rng(1)
    rows = [("a", v, s, x) for v, x in ((0, 0.5), (1, 0.52)) for s in range(2)]
    rows += [("b", v, s, rng.normal(0.5, 0.05)) for v in range(3) for s in range(2)]
    assert judge_flatness(pd.DataFrame(rows, columns=["knob", "value", "seed", "score"]))["a"] > 0.5


# --- knobs that can do nothing ---------------------------------------------------------------------------------


def list_idle(bench: Any, *knobs: dict[str, Any], settings: tuple[str, ...] = ()) -> dict[str, str]:
    space = Space.model_validate({"preset": "quick", "set": ["model.head=steps"], "knobs": knobs})
    bench.untuned = space.build_recipe({}, settings)
    return find_idle_knobs(space, bench, settings)


class Counted(TrialRunner):
    """A bench that knows the tiles of each image, and no pixels."""

    counts: Any = (1, 1, 1)

    def prepare(self, recipe: Any) -> Any:
        grid = recipe.tile.source == "tiles"
        starts = np.concatenate([[0], np.cumsum(self.counts if grid else np.ones(3, int))])
        knobs = (recipe.tile.overlap_frac, recipe.tile.max_tiles) if grid else ()
        store = SimpleNamespace(
            starts=starts, positions=np.zeros((starts[-1], 2)), key=str((recipe.tile.source, knobs))
        )
        return SimpleNamespace(store=store, backbone=SimpleNamespace(norm="batch"))


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    ground: Any = SimpleNamespace(cohort=SimpleNamespace(samples=[SimpleNamespace(mask_path=None)] * 3, features=None))
    return Counted(Project(tmp_path), ground, tmp_path, load_recipe("quick", settings=["model.head=steps"]))


POOLER = {"knob": "model.pooler", "choices": ["mean", "max", "topk"]}
RATE = {"knob": "train.transfer.lr", "low": 1e-4, "high": 1e-1, "log": True}


def test_poolers_of_single_tiles_are_one_function(counted: Counted) -> None:
    assert list(list_idle(counted, POOLER, RATE)) == ["model.pooler"]
    learned = {"knob": "model.pooler", "choices": ["mean", "attention"]}
    assert not list_idle(counted, learned, RATE)  # one of them learns
    counted.counts = (1, 1, 2)
    assert not list_idle(counted, POOLER, RATE)
    assert list(list_idle(counted, POOLER, RATE, settings=("tile.source=whole",))) == ["model.pooler"]
    both = {"knob": "tile.source", "choices": ["whole", "tiles"]}
    assert not list_idle(counted, POOLER, both)  # the search may turn to bags


def test_knobs_of_what_is_not_done_are_left_out(counted: Counted) -> None:
    counted.counts = (3, 1, 2)
    knobs = {
        "tile.overlap_frac": [0.0, 0.5], "tile.max_tiles": [4, 8], "train.finetune.lr": [1e-3, 1e-2],
        "tile.outside": ["keep", "blank"], "predict.decision": ["largest", "prior"], "evaluate.resamples": [100, 200],
        "train.transfer.average_decay": [0.9, 0.99], "train.transfer.bag_mixing": [0.1, 0.4],
    }  # fmt: skip
    asked = [{"knob": name, "choices": values} for name, values in knobs.items()]
    phase = {"knob": "train.finetune.epochs", "choices": [0, 2]}
    several = set(list_idle(counted, *asked, RATE))
    assert several == set(knobs) - {"tile.overlap_frac", "tile.max_tiles"}
    assert set(list_idle(counted, *asked, phase)) == several - {"train.finetune.lr"}
    assert list(list_idle(counted, asked[0], RATE, settings=("tile.source=whole",))) == ["tile.overlap_frac"]


def test_knobs_of_steps_mean_nothing_to_a_head_that_is_solved(counted: Counted) -> None:
    counted.counts = (3, 1, 2)
    dropout = {"knob": "model.dropout", "choices": [0.1, 0.5]}
    weights = {"knob": "train.transfer.class_weights", "choices": ["balanced", "none"]}
    assert set(list_idle(counted, RATE, dropout, weights, settings=("model.head=ridge",))) == {
        "train.transfer.lr", "model.dropout",
    }  # fmt: skip
    assert not list_idle(counted, RATE, dropout, {"knob": "model.head", "choices": ["steps", "ridge"]})


@pytest.mark.parametrize("name", ["mean", "max", "topk", "logsumexp"])
def test_poolers_that_learn_nothing_keep_a_single_tile(name: str) -> None:
    assert keeps_single(POOLERS.build(name, 8, 2), features=8)
    for other in ("attention", "mean_spread", "covariance"):  # the last two have more dimensions than a tile
        assert not keeps_single(POOLERS.build(other, 8, 2), features=8)


def test_a_knob_that_never_tells_scores_apart_is_found_in_trials_and_curves() -> None:
    space = Space.model_validate({"knobs": [POOLER, {"knob": "model.dropout", "choices": [0.0, 0.2, 0.4, 0.5]}]})
    rows = [("one", p, d, 0.5 + d, 0.6 + d) for p in ("mean", "max", "topk") for d in (0.0, 0.2, 0.4, 0.5)]
    trials = pd.DataFrame(rows, columns=["study", "model.pooler", "model.dropout", "after_1", "after_2"])
    assert find_idle_trials(trials, space, steps=("after_1", "after_2")) == ["model.pooler"]
    trials.loc[3, "after_2"] += 0.01
    assert find_idle_trials(trials, space, steps=("after_1", "after_2")) == []
    curves = pd.DataFrame([("p", v, s, 0.5 + s) for v in range(3) for s in range(2)]
                          + [("q", v, s, 0.5 + v) for v in range(3) for s in range(2)],
                          columns=["knob", "value", "seed", "score"])  # fmt: skip
    assert find_idle(curves) == ["p"]


def test_where_trials_and_curves_are_asked_each_gets_half_of_the_level() -> None:
    p_values = {"a": 0.03, "b": 0.02, "c": 0.5}
    effects = [Effect(knob=k, importance=0.5, reach=0.1, p_value=p) for k, p in p_values.items()]
    assert [e.knob for e in _judge(effects, {}, ()) if e.real] == ["a", "b"]
    both = _judge(effects, {"a": 0.9, "c": 0.01}, ("b",))
    assert [(e.knob, e.real) for e in both] == [("a", False), ("c", True)]


@pytest.mark.slow
def test_p_values_are_those_of_least_squares() -> None:
    """Against F of the textbook, where errors are normal; a knob that stands in for a real one is not real."""
    trials = draw_trials(80, seed=2, noise=0.05)
    follows = trials.assign(**{"model.dropout": 0.25 + 0.08 * (np.log10(trials["train.transfer.lr"]) + 2.5)})
    effects = {e.knob: e.p_value for e in measure_effects(follows, SPACE)}
    assert effects["model.dropout"] == 1.0  # nothing that the rate does not say
    one = Space.model_validate({"knobs": [KNOBS[4]]})
    found = measure_effects(trials, one)[0].p_value
    centred = trials["value"] - trials.groupby("study")["value"].transform("mean")
    x = pd.get_dummies(trials[["train.transfer.loss", "study"]]).to_numpy(float)
    rest = pd.get_dummies(trials["study"]).to_numpy(float)
    errors = [centred - m @ np.linalg.lstsq(m, centred, rcond=None)[0] for m in (x, rest)]
    sums = [float((e**2).sum()) for e in errors]
    plain = stats.f.sf((sums[1] - sums[0]) / 2 / (sums[0] / (80 - 6)), 2, 80 - 6)
    assert found == pytest.approx(plain, abs=3 * np.sqrt(plain / 2000) + 1 / 2000)


# --- spaces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_documents("space"))
def test_built_in_spaces_fit_the_recipe(name: str) -> None:
    assert load_space(name).about


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("knobs: [{knob: train.transfer.lr, low: 2, high: 1}]", "low below high"),
        ("knobs: [{knob: train.transfer.lr, low: 0, high: 1, log: true}]", "above 0"),
        ("knobs: [{knob: train.transfer.lr, choices: [1]}]", "nothing to choose"),
        ("knobs: [{knob: train.transfer.rate, choices: [1, 2]}]", "no such knob"),
        ("knobs: [{knob: model.dropout, low: 0, high: 2}]", "model.dropout"),
        ("knobs: [{knob: model.dropout, low: 0, high: 0.5}, {knob: model.dropout, choices: [0, 1]}]", "twice"),
        ("knobs: []", "knobs"),
        ("knobs: [", "not valid YAML"),
    ],
)
def test_a_space_that_does_not_fit_says_why(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_space(tmp_path / "s.yaml")
    with pytest.raises(RecipeError, match="transfer"):
        load_space("tranfer")


# --- search -------------------------------------------------------------------------------------------------------


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_search_scores_outside_what_it_chose_inside(
    challenge: Path, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial sees only the cases that its outer fold leaves; the table holds every image once."""
    seen: dict[str, set[str]] = {}
    plain = TrialRunner.try_recipe

    def spy(self: TrialRunner, recipe: Any, images: Any, *, name: str) -> Any:
        labelled = self.ground.cohort.labelled
        seen.setdefault(name.rsplit("-", 1)[0], set()).update(labelled[i].case for i in images)
        return plain(self, recipe, images, name=name)

    monkeypatch.setattr(TrialRunner, "try_recipe", spy)
    settings = ["split.folds=2"]
    options: dict[str, Any] = {"search": Search(trials=2, folds=2), "settings": settings, "curve_seeds": 0}
    folder, found = tune_recipe(challenge, space, runs=tmp_path / "runs", **options)
    result = found.dump()
    table = pd.read_csv(folder / "predictions" / "tuned.csv")
    assert table["image"].is_unique
    assert len(table) == result["outer"]["n_images"]
    for fold, part in table.groupby("fold"):
        assert not set(part["case"].astype(str)) & seen[f"fold{fold}-seed0"]
    assert len(seen["all"]) > len(seen["fold0-seed0"])
    assert not list((folder / "trials").iterdir())
    recorded = load_recipe(folder / "recipe.yaml")
    assert recorded.train.transfer.lr == result["studies"][-1]["params"]["train.transfer.lr"]
    assert result["optimism"] == pytest.approx(
        result["inner"] - result["outer"]["rows"][1]["metrics"]["macro_f1"]["value"]
    )
    assert result["effects"] is None  # six trials say nothing about single knobs

    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("What tuning is worth", "say nothing about single knobs", "no curves were asked for", "fold1-seed0"):
        assert words in page

    monkeypatch.setattr(TrialRunner, "try_recipe", lambda *_, **__: pytest.fail("a finished search tries no more"))
    again = tune_recipe(challenge, space, runs=tmp_path / "runs", **options)[1].dump()
    assert again["studies"] == result["studies"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_search_that_was_cut_goes_on(
    challenge: Path, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    plain = TrialRunner.try_recipe

    def cut(self: TrialRunner, recipe: Any, images: Any, *, name: str) -> Any:
        tried.append(name)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return plain(self, recipe, images, name=name)

    monkeypatch.setattr(TrialRunner, "try_recipe", cut)
    options: dict[str, Any] = {
        "search": Search(sampler="grid", folds=2),
        "settings": ["split.folds=2"],
        "curve_seeds": 2,
    }
    with pytest.raises(KeyboardInterrupt):
        tune_recipe(challenge, space, runs=tmp_path / "runs", **options)
    folder, found = tune_recipe(challenge, space, runs=tmp_path / "runs", **options)
    result = found.dump()
    trials = pd.read_csv(folder / "trials.csv")
    done = trials[trials["state"] != "fail"]
    assert done.groupby("study").size().tolist() == [4, 4, 4]  # the whole grid of 2 by 2, in each study
    curves = pd.read_csv(folder / "curves.csv")
    assert len(curves) == (2 + 2) * 2
    assert result["noise"] >= 0
    assert json.loads((folder / "tune.json").read_text(encoding="utf-8"))["search"]["sampler"] == "grid"


@pytest.mark.slow
def test_another_choice_is_scored_anew(challenge: Path, space: Path, tmp_path: Path) -> None:
    """More trials may choose another recipe for a fold; the score of the old one must not stand for it."""
    chosen = load_space(space)
    first, second = (chosen.build_recipe({"train.transfer.lr": lr}, ("split.folds=2",)) for lr in (1e-4, 1e-1))
    project = Project(challenge, tmp_path)
    bench = TrialRunner(project, inspect_ground(project, first), tmp_path / "search", first)
    splits = bench.prepare(first).splits
    old, new, again = (bench.score_outer(r, splits[0], name="tuned") for r in (first, second, first))
    assert old.equals(again)
    assert not old.equals(new)
    assert len(bench.prepared) == 1  # both share tiles and features


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_the_command_says_what_was_found(challenge: Path, space: Path, tmp_path: Path, invoke_app: Any) -> None:
    result = invoke_app(
        "tune", str(challenge), "--space", str(space), "--trials", "1", "--folds", "2", "--curves", "0",
        "--set", "split.folds=2", "--runs", str(tmp_path / "runs"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for words in ("outer folds that chose nothing", "untuned", "optimism", "chance", "say nothing about single knobs"):
        assert words in result.output.replace("\n", " ")
    assert yaml.safe_load(next((tmp_path / "runs").glob("*-tune-*/recipe.yaml")).read_text(encoding="utf-8"))


@pytest.fixture
def invoke_app() -> Callable[..., Any]:
    return lambda *words: CliRunner().invoke(app, list(words))
