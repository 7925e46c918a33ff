"""Portfolios: shares against another solver and simulations, what cases can show, members, plan, interruptions."""

from __future__ import annotations

import csv
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.optimize import minimize
from sklearn.metrics import f1_score
from statsmodels.stats.proportion import proportion_confint

from smalti import workflow
from smalti.errors import DivergenceError, RecipeError, RunError
from smalti.evaluate import foresee_reach
from smalti.predict import combine_members
from smalti.predict.ensembles.combining import mix_members
from smalti.predict.ensembles.members import Inner, Member
from smalti.predict.ensembles.weighing import PRIOR_CASES, find_shares, fit_shares
from smalti.project import Listener
from smalti.recipe import load_portfolio, load_recipe
from smalti.records import Done, Ensemble
from smalti.types import PREDICTION_COLUMNS
from smalti.workflow.decisions import influence
from smalti.workflow.place import locate_run
from smalti.workflow.portfolio import running as portfolio
from smalti.workflow.portfolio.clock import Clock
from textures import LABELLED, draw_challenge, name_label, write_lines

SETTINGS = ("split.folds=2", "train.device=cpu", "tile.size_px=64", "audit.checks=[]")
PAIR = """
members:
  - {name: colour, set: [tile.source=whole, "model.backbone=described:colour"]}
  - {name: texture, set: ["model.backbone=described:texture"]}
"""


# --- shares -------------------------------------------------------------------------------------------------------


def draw_inner(rng: np.random.Generator, *, cases: int, skills: tuple[float, ...]) -> Inner:
    """Members whose logits know the class so far; three images a case, two classes."""
    case = np.repeat(np.arange(cases), 3)
    y_true = (np.arange(cases) % 2)[case]
    logits = [skill * (2 * y_true - 1) + rng.normal(size=len(case)) for skill in skills]
    shares = [1 / (1 + np.exp(-value)) for value in logits]
    scores = np.stack([np.stack([1 - share, share], axis=1) for share in shares])
    return Inner(tuple(f"m{i}" for i in range(len(skills))), scores, y_true, case)


def test_shares_are_those_of_another_solver_on_the_simplex() -> None:
    inner = draw_inner(np.random.default_rng(0), cases=40, skills=(0.2, 1.0, 1.5))
    of_truth = inner.scores[:, np.arange(len(inner.y_true)), inner.y_true]
    weights = np.full(len(inner.y_true), 40 / len(inner.y_true))  # classes and cases are even

    def lose(shares: np.ndarray) -> float:
        return float(-(weights * np.log(shares @ of_truth)).sum() - PRIOR_CASES * np.log(shares).mean())

    simplex = {"type": "eq", "fun": lambda shares: shares.sum() - 1}
    wanted = minimize(lose, np.full(3, 1 / 3), bounds=[(1e-6, 1)] * 3, constraints=simplex, options={"ftol": 1e-12})
    np.testing.assert_allclose(find_shares(inner.scores, inner.y_true, inner.case), wanted.x, atol=2e-3)


def test_a_member_without_scores_of_an_image_has_no_say_in_it() -> None:
    inner = draw_inner(np.random.default_rng(5), cases=40, skills=(0.2, 1.0, 1.5))
    scores = inner.scores.copy()
    scores[2, :90] = np.nan
    of_truth = inner.scores[:, np.arange(len(inner.y_true)), inner.y_true]
    there = np.ones_like(of_truth)
    there[2, :90] = 0
    weights = np.full(len(inner.y_true), 40 / len(inner.y_true))

    def lose(shares: np.ndarray) -> float:
        mixed = (shares @ (of_truth * there)) / (shares @ there)
        return float(-(weights * np.log(mixed)).sum() - PRIOR_CASES * np.log(shares).mean())

    simplex = {"type": "eq", "fun": lambda shares: shares.sum() - 1}
    wanted = minimize(lose, np.full(3, 1 / 3), bounds=[(1e-6, 1)] * 3, constraints=simplex, options={"ftol": 1e-12})
    shares = find_shares(scores, inner.y_true, inner.case)
    np.testing.assert_allclose(shares, wanted.x, atol=2e-3)
    mixed = mix_members(shares, scores)
    np.testing.assert_allclose(mixed[:90], np.average(scores[:2, :90], axis=0, weights=shares[:2]))
    np.testing.assert_allclose(mixed[90:], np.average(scores[:, 90:], axis=0, weights=shares))


def test_few_cases_leave_shares_equal_and_many_do_not() -> None:
    rng = np.random.default_rng(1)
    few, many = (draw_inner(rng, cases=cases, skills=(0.0, 2.0)) for cases in (4, 400))
    assert np.ptp(find_shares(few.scores, few.y_true, few.case)) < 0.35
    assert find_shares(many.scores, many.y_true, many.case)[1] > 0.9


def test_copies_of_an_image_in_its_case_change_no_share() -> None:
    inner = draw_inner(np.random.default_rng(2), cases=20, skills=(0.5, 1.0))
    twice = np.concatenate([np.arange(len(inner.y_true))] * 2)
    np.testing.assert_allclose(
        find_shares(inner.scores[:, twice], inner.y_true[twice], inner.case[twice]),
        find_shares(inner.scores, inner.y_true, inner.case),
        atol=1e-6,
    )


@pytest.mark.slow
def test_members_of_no_worth_do_not_beat_chance_where_labels_mean_nothing() -> None:
    rng, gained = np.random.default_rng(3), []
    for _ in range(40):
        inner, fresh = (draw_inner(rng, cases=20, skills=(0.0,) * 4) for _ in range(2))
        said = fit_shares(inner).apply(fresh.scores).argmax(axis=1)
        gained.append(f1_score(fresh.y_true, said, average="macro") - 0.5)
    assert abs(np.mean(gained)) < 3 * np.std(gained) / math.sqrt(len(gained)) + 0.02


def test_the_method_is_registered_and_fitted_fold_by_fold() -> None:
    rng = np.random.default_rng(4)

    def table(skill: float, fold: int) -> pd.DataFrame:
        y = np.arange(30) % 2
        share = 1 / (1 + np.exp(-(skill * (2 * y - 1) + rng.normal(size=30))))
        rows = pd.DataFrame({"image": [f"{fold}-{i}" for i in range(30)], "fold": fold, "seed": 0})
        rows["case"], rows["label"] = rows["image"], np.array(["a", "b"])[y]
        rows = rows[list(PREDICTION_COLUMNS)]
        return rows.assign(score_a=1 - share, score_b=share)

    members = [
        Member(name, inner=pd.concat([table(s, 0), table(s, 1)]), outer=pd.concat([table(s, 0), table(s, 1)]))
        for name, s in (("good", 2.0), ("idle", 0.0))
    ]
    members = [
        Member(m.name, inner=m.inner, outer=m.outer.assign(image="o" + m.outer["image"], case="o" + m.outer["case"]))
        for m in members
    ]
    combined = combine_members(members, classes=("a", "b"), method="weighed")
    assert [row.weights["good"] > 0.5 for row in combined.record] == [True, True]
    assert all(math.isclose(sum(row.weights.values()), 1) for row in combined.record)


# --- what cases can show ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [20, 150, 4000])
def test_the_width_to_expect_is_that_of_wilsons_interval(count: int) -> None:
    low, high = proportion_confint(0.8 * count, count, method="wilson")
    assert foresee_reach(count, count).width == pytest.approx((high - low, high - low))


def test_the_smallest_difference_is_seen_four_times_in_five() -> None:
    """McNemar's test on drawn pairs of which a fifth differ."""
    rng, count = np.random.default_rng(5), 400
    smallest = foresee_reach(count, 50).smallest[0]
    better = rng.binomial(count, (0.2 + smallest) / 2, 4000)
    worse = rng.binomial(count, (0.2 - smallest) / 2, 4000)
    seen = np.abs(better - worse) / np.sqrt(np.maximum(better + worse, 1)) > 1.96
    assert 0.75 < seen.mean() < 0.86
    assert foresee_reach(count, 50).smallest[1] > smallest


# --- members ------------------------------------------------------------------------------------------------------


def test_members_are_the_recipe_with_settings_of_their_own() -> None:
    recipe = load_recipe("auto", settings=["split.seeds=[3]"])
    listed = load_portfolio(recipe)
    assert len(listed) > 5
    for member, recipe in listed:
        assert recipe.portfolio.members is None
        assert recipe.split.seeds == (3,)
        assert (recipe == listed[0][1]) == (not member.settings)


def test_all_that_is_wrong_with_a_portfolio_is_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("members: [{name: one, set: [tile.sice_px=3]}, {name: two, set: [train.transfer.epochs=-2]}]")
    with pytest.raises(RecipeError, match=r"(?s)'one'.*tile\.size_px.*'two'.*epochs"):
        load_portfolio(load_recipe("auto", settings=[f"portfolio.members={file}"]))
    file.write_text("members: [{name: A b}, {name: x, set: [split.folds=3]}, {name: x}]")
    with pytest.raises(RecipeError, match=r"(?s)'A b'.*'x' sets split\.folds=3.*'x' is there twice"):
        load_portfolio(load_recipe("auto", settings=[f"portfolio.members={file}"]))


def test_a_recipe_without_members_has_no_portfolio() -> None:
    with pytest.raises(RecipeError, match="--recipe auto"):
        load_portfolio(load_recipe("quick"))


def test_a_member_is_found_inside_its_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    (run / "members" / "tiles").mkdir(parents=True)
    (run / "recipe.yaml").touch()
    assert locate_run(run / "members" / "tiles") == (tmp_path / "runs", "one/members/tiles")
    assert locate_run(run) == (tmp_path / "runs", "one")


def test_a_clock_goes_on_where_it_was_and_forgives_a_damaged_record(tmp_path: Path) -> None:
    clock = Clock.open(tmp_path, started=time.monotonic() - 100)
    clock.tick(now=True)
    assert Clock.open(tmp_path, started=time.monotonic() - 5).used_s == pytest.approx(105, abs=1)
    (tmp_path / "clock.json").write_text("{")
    assert Clock.open(tmp_path, started=time.monotonic()).used_s < 1


# --- the whole way ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("members") / "pair.yaml"
    file.write_text(PAIR)
    return file


@pytest.fixture(scope="module")
def together(challenge: Path, pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two described members; read only."""
    settings = [*SETTINGS, f"portfolio.members={pair}"]
    return workflow.run(challenge, "auto", settings=settings, runs=tmp_path_factory.mktemp("runs"), name="both").path


def test_the_run_is_scored_as_a_whole_and_says_what_each_member_counts(together: Path) -> None:
    table = pd.read_csv(together / "members.csv")
    assert list(table["member"]) == ["colour", "texture"]
    assert table["weight"].sum() == pytest.approx(1)
    outer = pd.read_csv(together / "predictions" / "out_of_fold.csv")
    assert len(outer) == LABELLED
    parts = [pd.read_csv(together / "members" / m / "predictions" / "out_of_fold.csv") for m in table["member"]]
    columns = ["score_A", "score_B", "score_C"]
    for fold, row in enumerate(Ensemble.read(together).folds):
        rows = outer["fold"] == fold
        shares = [row.weights[member] for member in table["member"]]
        mixed = sum(share * part.loc[rows, columns] for share, part in zip(shares, parts, strict=True))
        warmed = mixed ** (1 / row.temperature)
        wanted = warmed.div(warmed.sum(axis=1), axis=0)
        np.testing.assert_allclose(outer.loc[rows, columns], wanted, rtol=1e-5)
    assert (together / "submission.csv").is_file()
    page = (together / "report.html").read_text()
    assert "this run is one recipe" not in page
    assert "Derived from the data and the machine" in page


def test_the_plan_holds_reasons_and_a_forecast(together: Path) -> None:
    plan = yaml.safe_load((together / "plan.yaml").read_text())
    assert all(row["reason"] and row["source"] for row in plan["choices"])
    assert [row["taken"] for row in plan["members"]] == [True, True]
    assert plan["forecast"]["seconds"] > 0
    assert plan["data"]["cases"] == 18


def test_no_weight_is_chosen_by_the_cases_that_it_scores(together: Path) -> None:
    folds = pd.read_csv(together / "folds.csv", dtype=str)
    for member in ("colour", "texture"):
        inner = pd.read_csv(together / "members" / member / "predictions" / "inner.csv", dtype=str)
        for fold, rows in inner.groupby("fold"):
            outer = folds[(folds["fold"] == fold) & (folds["role"] == "outer")]
            assert not set(rows["case"]) & set(outer["case"])


@pytest.mark.usefixtures("no_pages")
def test_what_was_cut_short_goes_on_with_the_same_bytes(
    challenge: Path, pair: Path, together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*SETTINGS, f"portfolio.members={pair}"]
    train = portfolio.train_networks

    def stop(*args: object, **kwargs: object) -> object:
        if str(kwargs["name"]).endswith("texture"):
            raise KeyboardInterrupt
        return train(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(portfolio, "train_networks", stop)
    with pytest.raises(KeyboardInterrupt):
        workflow.run(challenge, "auto", settings=settings, runs=tmp_path, name="both")
    assert not (tmp_path / "both" / "scores.json").exists()
    plan = (tmp_path / "both" / "plan.yaml").read_bytes()
    monkeypatch.setattr(portfolio, "train_networks", train)
    run = workflow.run(challenge, "auto", settings=settings, runs=tmp_path, name="both").path
    assert (run / "plan.yaml").read_bytes() == plan
    for table in ("out_of_fold", "inner", "test"):
        name = Path("predictions") / f"{table}.csv"
        assert (run / name).read_bytes() == (together / name).read_bytes()


@pytest.mark.usefixtures("no_pages")
def test_a_plan_or_a_list_that_was_changed_is_refused(
    challenge: Path, pair: Path, together: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(together.parent, tmp_path / "runs"))
    members = tmp_path / "pair.yaml"
    members.write_text(PAIR.replace("described:texture", "described:nuclei"))
    with pytest.raises(RunError, match="another experiment"):
        workflow.run(
            challenge, "auto", settings=[*SETTINGS, f"portfolio.members={members}"], runs=runs, name="both"
        )  # fmt: skip
    plan = runs / "both" / "plan.yaml"
    plan.write_text(plan.read_text().replace("taken: true", "taken: false", 1))
    settings = [*SETTINGS, f"portfolio.members={pair}"]
    with pytest.raises(RunError, match="not the plan that this run began with"):
        workflow.run(challenge, "auto", settings=settings, runs=runs, name="both")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_member_that_is_done_gets_a_model_that_is_gone_though_the_time_is_up(
    challenge: Path, pair: Path, together: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Path(shutil.copytree(together.parent, tmp_path / "runs"))
    run = runs / "both"
    before = pd.read_csv(run / "members.csv")
    done = (run / "members" / "colour" / Done.FILE).read_bytes()
    for folder in (run / "model", run / "members" / "colour" / "model"):
        assert (folder / "model.json").is_file()
        shutil.rmtree(folder)
    monkeypatch.setattr(Clock, "used_s", property(lambda clock: 1e9))
    said: list[str] = []
    settings = [*SETTINGS, f"portfolio.members={pair}"]
    workflow.run(challenge, "auto", settings=settings, runs=runs, name="both", listener=Listener(say=said.append))
    assert not any("no model folder is written" in text or "left out" in text for text in said)
    for folder in (Path("model"), Path("members/colour/model")):
        assert (run / folder / "model.json").read_bytes() == (together / folder / "model.json").read_bytes()
    assert (run / "members" / "colour" / Done.FILE).read_bytes() == done
    pd.testing.assert_frame_equal(pd.read_csv(run / "members.csv"), before)


@pytest.mark.usefixtures("no_pages")
def test_a_table_of_a_member_that_is_gone_is_made_again(
    challenge: Path, pair: Path, together: Path, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(together.parent, tmp_path / "runs"))
    for name in ("members/colour/predictions/inner.csv", "predictions/test.csv", "submission.csv"):
        (runs / "both" / name).unlink()
    settings = [*SETTINGS, f"portfolio.members={pair}"]
    again = workflow.run(challenge, "auto", settings=settings, runs=runs, name="both").path
    for name in ("predictions/test.csv", "submission.csv", "predictions/out_of_fold.csv"):
        assert (again / name).read_bytes() == (together / name).read_bytes()


def test_networks_of_an_unfinished_portfolio_have_spoken(together: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(together, tmp_path / "cut"))
    for path in (*run.glob("*.json"), *run.glob("*.html")):
        path.unlink()
    shutil.rmtree(run / "predictions")
    assert influence._has_learned(run)
    shutil.rmtree(run / "members")
    assert not influence._has_learned(run)


def test_rules_fitted_on_the_rows_of_the_shares_are_refused(challenge: Path, pair: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, f"portfolio.members={pair}", "predict.decision=prior"]
    with pytest.raises(RecipeError, match="fitted on the inner images"):
        workflow.run(challenge, "auto", settings=settings, runs=tmp_path)


@pytest.mark.slow
def test_members_without_weights_or_masks_are_left_out_by_name(challenge: Path, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text(
        """
members:
  - {name: hand, set: ["model.backbone=described:colour"]}
  - {name: again, set: ["model.backbone=described:colour"]}
  - {name: file, set: [model.backbone=resnet18, model.weights=nowhere.safetensors]}
  - {name: deep, set: [tile.max_tiles=2], needs: [many_tiles]}
  - {name: tuned, set: [train.device=cpu, train.finetune.epochs=2], needs: [accelerator]}
"""
    )
    settings = [*SETTINGS, f"portfolio.members={tmp_path / 'some.yaml'}"]
    content = workflow.plan_data(challenge, "auto", settings=settings, runs=tmp_path / "runs")
    reasons = {row.name: row.reason for row in content.members if not row.taken}
    assert "the same as hand" in reasons["again"]
    assert "nowhere.safetensors" in reasons["file"]
    assert "fewer than 8" in reasons["deep"]
    assert "no accelerator" in reasons["tuned"]
    assert not list((tmp_path / "runs").glob("*/recipe.yaml")), "a plan begins no run"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_with_no_time_for_any_member_the_cheapest_is_trained_and_that_is_said(
    challenge: Path, pair: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = [*SETTINGS, f"portfolio.members={pair}", "portfolio.minutes=0.001"]
    listener = Listener(say=said.append)
    result = workflow.run(challenge, "auto", settings=settings, runs=tmp_path, listener=listener)
    table = pd.read_csv(result.path / "members.csv")
    assert (table["status"] == "done").sum() == 1
    assert sum("trained all the same" in text for text in said) == 1
    name = table.loc[table["status"] == "done", "member"].item()
    assert not any(f"{name} is left out" in text for text in said)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_where_the_cheapest_fails_the_next_has_its_turn_though_the_time_is_up(
    challenge: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, failed = portfolio.train_networks, list[str]()

    def train(*given: Any, **others: Any) -> Any:
        if not failed:
            failed.append(others["name"].rpartition("/")[2])
            raise DivergenceError("weights that are no numbers")
        return whole(*given, **others)

    monkeypatch.setattr(portfolio, "train_networks", train)
    plan = portfolio.settle_plan

    def settle(*given: Any, clock: Clock, **others: Any) -> Any:
        members = plan(*given, clock=clock, **others)
        clock.before_s += 3600  # the plan has taken all the time
        return members

    monkeypatch.setattr(portfolio, "settle_plan", settle)
    result = workflow.run(challenge, "auto", settings=[*SETTINGS, f"portfolio.members={pair}"], runs=tmp_path)
    table = pd.read_csv(result.path / "members.csv").set_index("member")
    assert table.loc[failed[0], "status"] == "failed"
    assert (table["status"] == "done").sum() == 1


def test_a_recipe_of_a_member_can_be_run_alone(challenge: Path, together: Path, tmp_path: Path) -> None:
    recipe = load_recipe(together / "members" / "colour" / "recipe.yaml")
    assert recipe.portfolio == load_recipe("quick").portfolio


def test_minutes_of_a_recipe_that_is_alone_are_refused(challenge: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--recipe auto"):
        workflow.run(challenge, "quick", settings=["portfolio.minutes=3"], runs=tmp_path)
    assert not (tmp_path / "cache").exists(), "nothing was read"


def test_explain_and_train_name_the_way(challenge: Path, together: Path) -> None:
    with pytest.raises(RunError, match=r"members/colour"):
        workflow.explain_run(together)
    with pytest.raises(RecipeError, match="smalti run"):
        workflow.train_run(challenge, "auto", runs=together.parent, name="other")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_a_fold_in_which_no_case_can_be_held_back_is_blended_and_read_again(pair: Path, tmp_path: Path) -> None:
    """Three cases of a class in two folds: one fold learns from a single one of them."""
    data = draw_challenge(tmp_path / "data", unlabelled=0)
    (data / "cases.csv").unlink()
    labels = ["few" if i < 3 else "many" for i in range(LABELLED)]
    write_lines(data / "train_labels.csv", "sample_index,label", *(f"{i},{x}" for i, x in enumerate(labels)))
    settings = [s for s in SETTINGS if not s.startswith("split.folds")]
    settings += ["split.folds=2", f"portfolio.members={pair}"]
    first = workflow.run(data, "auto", settings=settings, runs=tmp_path / "runs")
    inner = pd.read_csv(first.path / "predictions" / "inner.csv")
    assert inner["fold"].nunique() == 1
    again = workflow.run(data, "auto", settings=settings, runs=tmp_path / "runs")
    assert again.scores == first.scores


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
def test_shuffled_labels_stay_at_chance(pair: Path, tmp_path: Path) -> None:
    """The whole procedure on labels that mean nothing, three shuffles pooled: inside what guessing gives."""
    data = draw_challenge(tmp_path / "data", unlabelled=0)
    (data / "cases.csv").unlink()
    rng, truth, said = np.random.default_rng(0), list[str](), list[str]()
    for number in range(3):
        labels = rng.permutation([name_label(i) for i in range(LABELLED)])
        write_lines(data / "train_labels.csv", "sample_index,label", *(f"{i},{x}" for i, x in enumerate(labels)))
        settings = [*SETTINGS, f"portfolio.members={pair}"]
        run = workflow.run(data, "auto", settings=settings, runs=tmp_path / "runs", name=f"shuffle{number}").path
        with (run / "predictions" / "out_of_fold.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                truth.append(row["label"])
                said.append(max("ABC", key=lambda name, row=row: float(row[f"score_{name}"])))  # type: ignore[misc]
    chance = [f1_score(rng.permutation(truth), said, average="macro") for _ in range(500)]
    assert np.quantile(chance, 0.005) <= f1_score(truth, said, average="macro") <= np.quantile(chance, 0.995)
