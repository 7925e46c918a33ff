"""Fitted ensembles do not leak; stackers: inputs, regression, its strength, classes without inner images, trees."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight

from members import CLASSES, COLUMNS, FITTED, METHODS, draw_members, draw_scores, list_tables, tabulate
from smalti.errors import DataError, MissingExtraError
from smalti.evaluate import score_predictions
from smalti.predict import ENSEMBLES, Member, combine_members, make_design
from smalti.predict.ensembles.stacking import (
    FIXED_STRENGTH,
    STRENGTHS,
    choose_strength,
    learn_multinomial,
    learn_ovr,
    split_inner,
    weigh_rows,
)

SHARES = (0.4, 0.3, 0.2, 0.1)
STACKERS = [entry.name for entry in ENSEMBLES if entry.name.startswith("stack")]
LOGISTIC = {"stack_ovr": learn_ovr, "stack_multinomial": learn_multinomial}

Floats = NDArray[np.float64]


def score(table: pd.DataFrame) -> float:
    return float(score_predictions(table, classes=CLASSES).metrics["macro_f1"].value)


# --- nothing leaks ------------------------------------------------------------------------------------------------


def draw_shuffled(draw: int) -> list[Member]:
    """Twelve classifiers, over-fitted ones among them; features tell the cases apart, labels mean nothing."""
    rng = np.random.default_rng(100 + draw)
    centers = rng.normal(size=(60, 6))
    case = np.repeat(np.arange(60), 3)
    X = centers[case] + 0.3 * rng.normal(size=(180, 6))
    y = rng.choice(len(CLASSES), size=60, p=SHARES)[case]
    kinds: list[tuple[Any, slice]] = [
        (kind, columns)
        for columns in (slice(0, 2), slice(2, 4), slice(4, 6))
        for kind in (
            KNeighborsClassifier(1),
            DecisionTreeClassifier(max_depth=4, random_state=0),
            GaussianNB(var_smoothing=1e-2),
            LogisticRegression(C=10, max_iter=1000),
        )
    ]
    tables: list[dict[str, list[pd.DataFrame]]] = [{"inner": [], "outer": []} for _ in kinds]
    splitter = StratifiedGroupKFold(3, shuffle=True, random_state=draw)
    for fold, (rest, outer) in enumerate(splitter.split(X, y, case)):
        is_inner = np.isin(case[rest], rng.permutation(np.unique(case[rest]))[:12])
        train, inner = rest[~is_inner], rest[is_inner]
        for (kind, columns), member in zip(kinds, tables, strict=True):
            network = kind.fit(X[train, columns], y[train])
            for part, rows in (("inner", inner), ("outer", outer)):
                scores = np.zeros((rows.size, len(CLASSES)))
                scores[:, network.classes_] = network.predict_proba(X[rows, columns])
                member[part].append(tabulate(rows, y[rows], scores, fold=fold))
    return [
        Member(f"m{n}", pd.concat(member["inner"], ignore_index=True), pd.concat(member["outer"], ignore_index=True))
        for n, member in enumerate(tables)
    ]


@pytest.fixture(scope="module")
def shuffled() -> list[list[Member]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # StratifiedGroupKFold, about small classes
        return [draw_shuffled(draw) for draw in range(5)]


def measure_excess(tables: list[pd.DataFrame]) -> tuple[float, float]:
    """Means over draws: pooled macro-F1 above that of a label-prior guess, and above the range of such guesses."""
    scores = [score_predictions(table, classes=CLASSES).metrics["macro_f1"] for table in tables]
    mean, high = (np.mean([s.value - getattr(s, f"chance_{name}") for s in scores]) for name in ("prior", "prior_high"))
    return float(mean), float(high)


# Guesses by case of one draw spread by 0.05 (60 cases); the mean of five draws by 0.022. Two of that are allowed.
CHANCE = 0.045


@pytest.mark.parametrize("method", METHODS)
def test_labels_that_mean_nothing_are_predicted_at_chance(method: str, shuffled: list[list[Member]]) -> None:
    combined = [combine_members(members, classes=CLASSES, method=method) for members in shuffled]
    above_mean, above_range = measure_excess([one.outer for one in combined])
    assert above_mean < CHANCE
    assert above_range < 0


@pytest.mark.parametrize("method", FITTED)
def test_an_ensemble_fitted_on_outer_rows_is_seen_to_leak(method: str, shuffled: list[list[Member]]) -> None:
    """On the same problem, by the measure of the test above; and such members are refused.

    Shares that are held towards equal ones leak too little to be seen so; they are refused all the same.
    """
    draws = shuffled if method == "greedy" else shuffled[:3]  # few weights leak little: it takes more draws to see
    leaking = [[replace(member, inner=member.outer) for member in members] for members in draws]
    ensemble = ENSEMBLES.build(method)
    excess = measure_excess([ensemble(members, CLASSES, method).outer for members in leaking])[0]
    assert excess > (0 if method == "weighed" else CHANCE)
    with pytest.raises(DataError, match="both inner and outer"):
        combine_members(leaking[0], classes=CLASSES, method=method)


@pytest.mark.slow
def test_an_ensemble_fitted_on_the_out_of_fold_rows_of_other_folds_is_seen_to_leak() -> None:
    """Why only inner rows of the same fold choose.

    One case is left out at a time and the member says the shares of the classes in training. It scores the class of the
    left-out case a little lower, because that case is missing, and a stacker that sees other folds can tell.
    """
    rng = np.random.default_rng(0)
    y = np.repeat(rng.permutation(np.repeat(np.arange(4), (9, 7, 5, 3))), 3)
    case = np.repeat(np.arange(24), 3)
    inner, outer = [], []
    for fold in range(24):
        others = rng.permutation(np.setdiff1d(np.arange(24), fold))
        chosen = np.flatnonzero(np.isin(case, others[:8]))
        rest, held = np.flatnonzero(case != fold), np.flatnonzero(case == fold)
        shares = DummyClassifier(strategy="prior").fit(rest[:, None], y[rest])
        inner.append(tabulate(chosen, y[chosen], shares.predict_proba(chosen[:, None]), fold=fold))
        outer.append(tabulate(held, y[held], shares.predict_proba(held[:, None]), fold=fold))
    honest = Member("shares", pd.concat(inner, ignore_index=True), pd.concat(outer, ignore_index=True))
    elsewhere = [pd.concat(outer[:fold] + outer[fold + 1 :]).assign(fold=fold) for fold in range(24)]
    leaking = replace(honest, inner=pd.concat(elsewhere, ignore_index=True))
    scores = {}
    for name, member in (("honest", honest), ("leaking", leaking)):
        scores[name] = score(combine_members([member], classes=CLASSES, method="stack_multinomial").outer)
    assert scores["honest"] < 0.3
    assert scores["leaking"] > 0.9


# --- what stackers compute ---------------------------------------------------------------------------------------


def swap_classes(member: Member, *, first: str, second: str) -> Member:
    """Two score columns exchanged, in every table."""
    names = {first: second, second: first}
    return Member(member.name, **{part: t.rename(columns=names)[list(t)] for part, t in list_tables(member).items()})


def build_design(members: list[Member], part: str, rows: Any) -> Floats:
    """The inputs by their description: log scores, centred over the classes of each member."""
    columns = []
    for member in members:
        logs = np.log(np.maximum(list_tables(member)[part][COLUMNS].to_numpy()[rows], 1e-6))
        columns += [logs[:, c] - sum(logs[:, k] for k in range(4)) / 4 for c in range(4)]
    return np.stack(columns, axis=1)


def test_the_inputs_are_centred_logarithms_that_no_factor_of_the_scores_changes() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 10))
    design = make_design(scores)
    assert design.shape == (10, 12)
    assert design.reshape(10, 3, 4).sum(axis=2) == pytest.approx(np.zeros((10, 3)))
    assert make_design(scores / 2) == pytest.approx(design)
    assert np.isfinite(make_design(np.eye(4)[None])).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", STACKERS)
def test_stackers_recover_what_averaging_hides(method: str) -> None:
    """Two members agree but for the names of two classes: their mean cannot tell these apart."""
    members = draw_members(2.5, 2.5, cases=80)
    members[1] = swap_classes(members[1], first="score_A", second="score_B")
    average = combine_members(members, classes=CLASSES, method="average")
    stacked = combine_members(members, classes=CLASSES, method=method)
    assert score(stacked.outer) > score(average.outer) + 0.15


@pytest.mark.slow
@pytest.mark.parametrize("method", list(LOGISTIC))
def test_logistic_stackers_equal_scikit_learn_on_the_same_inputs(method: str) -> None:
    members = draw_members(1.0, 0.5, 1.5)
    combined = combine_members(members, classes=CLASSES, method=method)
    for row in combined.record:
        assert row.C in STRENGTHS
        rows = {
            part: ((t["seed"] == row.seed) & (t["fold"] == row.fold)).to_numpy()
            for part, t in list_tables(members[0]).items()
        }
        single = LogisticRegression(C=row.C, class_weight="balanced", max_iter=1000)
        model = make_pipeline(StandardScaler(), single if "multi" in method else OneVsRestClassifier(single))
        model.fit(build_design(members, "inner", rows["inner"]), members[0].inner["label"][rows["inner"]])
        for part, table in list_tables(combined).items():
            expected = model.predict_proba(build_design(members, part, rows[part]))
            assert table[COLUMNS].to_numpy()[rows[part]] == pytest.approx(expected, abs=1e-4)


def draw_inner(cases: int, *, quality: float, start: int = 0) -> tuple[Floats, Any, Any]:
    """Inputs of two members, classes and cases of three images each; imbalanced."""
    rng = np.random.default_rng(start)
    y = np.repeat(rng.choice(4, size=cases, p=(0.4, 0.3, 0.2, 0.1)), 3)
    y[:6] = np.repeat([3, 3], 3)  # at least two cases of the rarest
    scores = np.stack([draw_scores(y, quality, rng) for _ in range(2)])
    return make_design(scores), y, np.repeat(np.arange(cases), 3)


@pytest.mark.parametrize("name", list(LOGISTIC))
@pytest.mark.parametrize("quality", [0.0, 3.0])
def test_the_strength_chosen_has_the_lowest_log_loss_of_held_out_cases(name: str, quality: float) -> None:
    design, y, case = draw_inner(24, quality=quality)
    chosen = choose_strength(design, y, case, learn=LOGISTIC[name])
    folds = split_inner(y, case)
    assert folds is not None
    losses = []
    for strength in STRENGTHS:
        held_out = np.empty((y.size, 4))
        for train, held in folds:
            single = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
            model = make_pipeline(StandardScaler(), single if "multi" in name else OneVsRestClassifier(single))
            held_out[held] = model.fit(design[train], y[train]).predict_proba(design[held])
        losses.append(log_loss(y, held_out, sample_weight=compute_sample_weight("balanced", y)))
    assert chosen == STRENGTHS[int(np.argmin(losses))]
    assert (chosen == STRENGTHS[0]) == (quality == 0)


def test_inner_cases_are_held_out_whole_and_once_and_training_holds_every_class() -> None:
    for start in range(5):
        _, y, case = draw_inner(12, quality=1.0, start=start)
        folds = split_inner(y, case)
        assert folds is not None
        assert sorted(np.concatenate([held for _, held in folds])) == list(range(y.size))
        for train, held in folds:
            assert not set(case[train]) & set(case[held])
            assert set(y[train]) == set(y)


def test_class_weights_are_those_of_scikit_learn() -> None:
    y = np.array([0, 0, 0, 2, 2, 1])
    assert weigh_rows(y) == pytest.approx(compute_sample_weight("balanced", y))


@pytest.mark.parametrize("method", list(LOGISTIC))
def test_with_too_few_inner_cases_the_strength_is_fixed_and_the_record_says_so(method: str) -> None:
    """One inner case per class: none can be held out."""
    members = draw_members(1.0, 0.5, seeds=(0,))
    firsts = members[0].inner.drop_duplicates(["fold", "label"])
    keep = [
        (f, c) in set(zip(firsts["fold"], firsts["case"], strict=True))
        for f, c in members[0].inner[["fold", "case"]].to_numpy()
    ]
    combined = combine_members([replace(m, inner=m.inner[keep]) for m in members], classes=CLASSES, method=method)
    for row in combined.record:
        assert row.n_inner == 12
        assert row.C == FIXED_STRENGTH
        assert "too few inner cases" in row.note


@pytest.mark.slow
@pytest.mark.parametrize("method", STACKERS)
def test_a_class_without_inner_images_keeps_its_mean_score(method: str) -> None:
    """It can still be the answer, and the others share what is left."""
    members = draw_members(2.0, 1.5)
    without = [replace(m, inner=m.inner[m.inner["label"] != "D"]) for m in members]
    combined = combine_members(without, classes=CLASSES, method=method)
    for part, table in list_tables(combined).items():
        mean = np.mean([list_tables(m)[part][COLUMNS].to_numpy() for m in without], axis=0)
        scores = table[COLUMNS].to_numpy()
        assert scores[:, 3] == pytest.approx(mean[:, 3])
        assert scores.sum(axis=1) == pytest.approx(1, abs=1e-12)
    said = combined.outer[COLUMNS].to_numpy().argmax(axis=1)
    assert np.mean(said[combined.outer["label"] == "D"] == 3) > 0.5
    assert all("1 classes without inner images" in row.note for row in combined.record)


@pytest.mark.slow
@pytest.mark.parametrize("method", STACKERS)
def test_two_inner_classes_are_enough_and_no_class_becomes_impossible(method: str) -> None:
    """Members that are certain, and wrong about everything else: scores of exactly 0 and 1."""
    members = draw_members(1.0, 0.5)
    hard = []
    for member in members:
        tables = {part: t.copy() for part, t in list_tables(member).items()}
        for table in tables.values():
            table[COLUMNS] = np.eye(4)[table[COLUMNS].to_numpy().argmax(axis=1)]
        hard.append(Member(member.name, **tables))
    few = [replace(m, inner=m.inner[m.inner["label"].isin(["A", "B"])]) for m in hard]
    scores = combine_members(few, classes=CLASSES, method=method).outer[COLUMNS].to_numpy()
    assert (scores > 0).all()
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_an_input_that_never_varies_inside_does_not_explode_outside() -> None:
    """The inner scores of one member are all the same, its outer scores are not."""
    members = draw_members(2.0, 1.0)
    flat = members[1].inner.copy()
    flat[COLUMNS] = [0.1, 0.2, 0.3, 0.4]
    members[1] = replace(members[1], inner=flat)
    alone = combine_members(members[:1], classes=CLASSES, method="stack_multinomial")
    both = combine_members(members, classes=CLASSES, method="stack_multinomial")
    assert both.outer[COLUMNS].to_numpy() == pytest.approx(alone.outer[COLUMNS].to_numpy(), abs=1e-3)


def test_boosted_trees_are_those_of_xgboost_with_every_class_weighing_the_same() -> None:
    xgboost = pytest.importorskip("xgboost")
    members = draw_members(1.0, 0.5, seeds=(0,))
    combined = combine_members(members, classes=CLASSES, method="stack_xgboost")
    codes = pd.Categorical(members[0].inner["label"], categories=list(CLASSES)).codes
    for fold in range(3):
        inner, outer = (m["fold"].to_numpy() == fold for m in (members[0].inner, members[0].outer))
        data = xgboost.DMatrix(
            build_design(members, "inner", inner),
            label=codes[inner],
            weight=compute_sample_weight("balanced", codes[inner]),
        )
        settings = {"objective": "multi:softprob", "num_class": 4, "max_depth": 2, "eta": 0.1, "tree_method": "exact"}
        model = xgboost.train({**settings, "nthread": 1}, data, num_boost_round=50)
        expected = model.predict(xgboost.DMatrix(build_design(members, "outer", outer)))
        assert combined.outer[COLUMNS].to_numpy()[outer] == pytest.approx(expected, abs=1e-3)


def test_without_xgboost_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(MissingExtraError, match=r"stack_xgboost.*smalti\[xgboost\]"):
        combine_members(draw_members(1.0), classes=CLASSES, method="stack_xgboost")
