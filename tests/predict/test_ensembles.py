"""Ensembles: what they compute, that outer labels choose nothing, and that members which do not fit are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from sklearn.metrics import f1_score, log_loss

from members import CLASSES, COLUMNS, FITTED, METHODS, PARTS, Floats, Ints, draw_members, draw_scores, list_tables
from smalti.errors import DataError, PartError
from smalti.evaluate import score_predictions
from smalti.predict import Member, combine_members
from smalti.predict.ensembles.greedy import select_members
from smalti.records import Ensemble

# Stackers fit a regression for each strength; `make check` leaves them to `make test`.
TRIED = [pytest.param(name, marks=pytest.mark.slow if name.startswith("stack") else ()) for name in METHODS]


# --- what every ensemble keeps ------------------------------------------------------------------------------------


def relabel(table: pd.DataFrame) -> pd.DataFrame:
    """Every second row gets the next class."""
    following = dict(zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True))
    return table.assign(label=table["label"].where(np.arange(len(table)) % 2 == 0, table["label"].map(following)))


@pytest.mark.parametrize("method", TRIED)
def test_outer_labels_change_no_score(method: str) -> None:
    """To the last bit; inner labels do, so that the comparison has teeth."""
    members = draw_members(1.0, 0.3, 1.5, seeds=(0,))
    plain = combine_members(members, classes=CLASSES, method=method)
    outer = combine_members([replace(m, outer=relabel(m.outer)) for m in members], classes=CLASSES, method=method)
    inner = combine_members([replace(m, inner=relabel(m.inner)) for m in members], classes=CLASSES, method=method)
    for part in PARTS:
        assert np.array_equal(list_tables(outer)[part][COLUMNS], list_tables(plain)[part][COLUMNS])
    assert outer.record == plain.record
    assert outer.outer["label"].tolist() != plain.outer["label"].tolist()
    assert np.array_equal(inner.outer[COLUMNS], plain.outer[COLUMNS]) == (method not in FITTED)


@pytest.mark.parametrize("method", TRIED)
def test_results_are_prediction_tables_with_a_record_that_json_holds(method: str) -> None:
    members = draw_members(1.0, 0.3)
    before = [list_tables(m)[part].copy() for m in members for part in PARTS]
    combined = combine_members(members, classes=CLASSES, method=method)
    for old, new in zip(before, (list_tables(m)[part] for m in members for part in PARTS), strict=True):
        assert_frame_equal(old, new)
    for table in list_tables(combined).values():
        assert list(table.columns) == ["image", "case", "fold", "seed", "label", *COLUMNS]
        scores = table[COLUMNS].to_numpy()
        assert scores.sum(axis=1) == pytest.approx(1, abs=1e-12)
        assert (scores > 0).all()
    score_predictions(combined.outer, classes=CLASSES, inner=combined.inner)
    assert Ensemble.model_validate_json(Ensemble(folds=combined.record).model_dump_json()).folds == combined.record
    seeds = [0] if method == "average_seeds" else [0, 1]
    assert [(row.seed, row.fold) for row in combined.record] == [(s, f) for s in seeds for f in range(3)]
    for row in combined.record:
        assert row.method == method
        here = (members[0].inner["seed"] == row.seed) & (members[0].inner["fold"] == row.fold)
        assert row.n_inner == here.sum()
        assert row.weights is None or sum(row.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("method", TRIED)
def test_neither_the_order_of_members_nor_of_rows_changes_a_score(method: str) -> None:
    members = draw_members(1.0, 0.3, 1.5, seeds=(0,) if method in FITTED else (0, 1))
    plain = combine_members(members, classes=CLASSES, method=method)
    turned = combine_members(members[::-1], classes=CLASSES, method=method)
    mixed = [
        Member(m.name, **{part: table.sample(frac=1, random_state=n) for part, table in list_tables(m).items()})
        for n, m in enumerate(members)
    ]
    shuffled = combine_members(mixed, classes=CLASSES, method=method)
    assert plain.record == turned.record == shuffled.record
    keys = ["seed", "fold", "image"]
    for part in PARTS:
        assert_frame_equal(list_tables(turned)[part], list_tables(plain)[part], check_exact=True)
        ordered = list_tables(shuffled)[part].sort_values(keys, ignore_index=True)
        assert_frame_equal(ordered, list_tables(plain)[part].sort_values(keys, ignore_index=True), check_exact=True)
        if method != "average_seeds":
            assert (
                list_tables(shuffled)[part][keys].to_numpy().tolist()
                == list_tables(mixed[0])[part][keys].to_numpy().tolist()
            )


@pytest.mark.parametrize("method", TRIED)
def test_unlabelled_and_sealed_tables_may_be_absent_and_empty_labels_missing_numbers(method: str) -> None:
    """As pandas reads an empty column."""
    members = draw_members(1.0, 0.3, seeds=(0,))
    members = [replace(m, test=m.test.assign(label=np.nan), sealed=None) for m in members if m.test is not None]
    combined = combine_members(members, classes=CLASSES, method=method)
    assert combined.test is not None
    assert combined.test["label"].isna().all()
    assert combined.sealed is None
    bare = combine_members([replace(m, test=None) for m in members], classes=CLASSES, method=method)
    assert bare.test is None
    assert_frame_equal(bare.outer, combined.outer, check_exact=True)


@pytest.mark.parametrize("method", FITTED)
@pytest.mark.parametrize("kept", ["none", "one class"])
def test_where_nothing_can_be_fitted_the_members_are_averaged_and_the_record_says_so(method: str, kept: str) -> None:
    """Only fold 0 is bare; the others are fitted."""
    members = draw_members(1.0, 0.3, seeds=(0,))
    here = members[0].inner["fold"] == 0
    keep = ~here | (members[0].inner["label"].eq("A") if kept == "one class" else False)
    combined = combine_members([replace(m, inner=m.inner[keep]) for m in members], classes=CLASSES, method=method)
    mean = np.mean([m.outer[COLUMNS].to_numpy() for m in members], axis=0)
    bare = combined.outer["fold"].to_numpy() == 0
    assert combined.outer[COLUMNS].to_numpy()[bare] == pytest.approx(mean[bare])
    assert combined.outer[COLUMNS].to_numpy()[~bare] != pytest.approx(mean[~bare], abs=1e-3)
    assert ("one class" if kept == "one class" else "no inner images") in combined.record[0].note
    assert not any("mean of the members" in row.note for row in combined.record[1:])


# --- averages -----------------------------------------------------------------------------------------------------


def test_average_is_the_mean_over_members() -> None:
    members = draw_members(1.0, 0.3, 1.5)
    combined = list_tables(combine_members(members, classes=CLASSES, method="average"))
    for part, table in combined.items():
        mean = np.mean([list_tables(m)[part][COLUMNS].to_numpy() for m in members], axis=0)
        assert table[COLUMNS].to_numpy() == pytest.approx(mean, abs=1e-15)
        head = [c for c in table if c not in COLUMNS]
        assert_frame_equal(table[head], list_tables(members[0])[part][head])


def test_average_seeds_has_one_row_per_image_with_the_mean_over_members_and_seeds() -> None:
    members = draw_members(1.0, 0.3, seeds=(4, 2, 7))
    combined = combine_members(members, classes=CLASSES, method="average_seeds")
    first = members[0].outer[members[0].outer["seed"] == 2]
    assert combined.outer["image"].tolist() == first["image"].tolist()
    assert combined.outer["fold"].tolist() == first["fold"].tolist()
    for part in ("outer", "test", "sealed"):
        table = list_tables(combined)[part]
        assert set(table["seed"]) == {0}
        assert table["image"].is_unique
        everything = pd.concat([list_tables(m)[part] for m in members])
        for row in table.itertuples():
            of_image = everything.loc[everything["image"] == row.image, COLUMNS].to_numpy()
            assert len(of_image) == (6 if part == "outer" else 18)
            assert [getattr(row, c) for c in COLUMNS] == pytest.approx(of_image.mean(axis=0))
    inner = [m.inner[m.inner["seed"] == 2] for m in members]
    assert combined.inner["image"].tolist() == inner[0]["image"].tolist()
    expected = np.mean([table[COLUMNS].to_numpy() for table in inner], axis=0)
    assert combined.inner[COLUMNS].to_numpy() == pytest.approx(expected)
    assert "mean over 3 seeds; inner scores: seed 2 alone" in combined.record[0].note


# --- greedy selection ---------------------------------------------------------------------------------------------


def select_plainly(scores: Floats, y: Ints, rounds: int) -> list[int]:
    """The loop of Caruana et al. 2004 with lists, scikit-learn's F1 and log loss."""

    def rate(chosen: list[int]) -> tuple[float, float]:
        mean = np.mean(scores[chosen], axis=0)
        f1 = f1_score(y, mean.argmax(axis=1), average="macro")
        return round(float(f1), 12), -round(float(log_loss(y, mean, labels=range(len(CLASSES)))), 12)

    members = range(len(scores))
    ranked = sorted(members, key=lambda m: rate([m]), reverse=True)
    starts = [ranked[: n + 1] for n in members]
    chosen = max(starts, key=rate)
    seen = [chosen]
    for _ in range(rounds):
        chosen = max(([*chosen, m] for m in members), key=rate)
        seen.append(chosen)
    best = max(seen, key=rate)
    return [best.count(m) for m in members]


@pytest.mark.parametrize("start", range(6))
def test_greedy_selection_is_the_loop_of_the_paper(start: int) -> None:
    """Weights of the images count as repetitions of them."""
    rng = np.random.default_rng(start)
    y = rng.integers(0, 4, 25)
    scores = np.stack([draw_scores(y, quality, rng) for quality in (0.2, 0.8, 0.5, 1.0)])
    repeats = np.stack([np.ones(25, dtype=int), rng.integers(0, 4, 25)])
    counts = select_members(scores, y, weights=repeats.astype(float), rounds=6)
    for of_bag, often in zip(counts, repeats, strict=True):
        rows = np.repeat(np.arange(25), often)
        assert of_bag.tolist() == select_plainly(scores[:, rows], y[rows], 6)


def test_greedy_takes_the_only_member_that_knows_something() -> None:
    combined = combine_members(draw_members(0, 0, 4.0, 0), classes=CLASSES, method="greedy")
    for row in combined.record:
        assert row.weights["m2"] > 0.9


def test_greedy_scores_are_the_weighted_mean_of_the_record() -> None:
    members = draw_members(0.5, 0.3, 1.0)
    combined = combine_members(members, classes=CLASSES, method="greedy")
    for part, table in list_tables(combined).items():
        for row in combined.record:
            here = ((table["seed"] == row.seed) & (table["fold"] == row.fold)).to_numpy()
            expected = sum(row.weights[m.name] * list_tables(m)[part][COLUMNS].to_numpy()[here] for m in members)
            assert table[COLUMNS].to_numpy()[here] == pytest.approx(expected)


# --- members that do not fit --------------------------------------------------------------------------------------


def change(part: str, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Callable[[list[Member]], list[Member]]:
    """Edit one table of the second of two members."""
    return lambda members: [members[0], replace(members[1], **{part: edit(list_tables(members[1])[part].copy())})]


def list_faults() -> Iterator[Any]:
    def put(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
        return lambda table: table.assign(**{column: table[column].where(np.arange(len(table)) > 0, value)})

    faults: dict[str, tuple[Callable[[list[Member]], list[Member]], str]] = {
        "no-members": (lambda members: [], "names no run"),
        "repeated-member": (lambda members: [members[0], members[0]], "'m0' is named twice"),
        "other-images": (change("outer", lambda t: t[t["image"] != "i007"]), "it lacks 1: 'image i007'"),
        "other-seeds": (change("outer", lambda t: t[t["seed"] == 0]), "it lacks 1: 'seed 1'"),
        "other-folds": (
            change("outer", lambda t: t.assign(fold=(t["fold"] + 1) % 3)),
            "and 237 more, and has in addition 240: 'seed 0 fold 0 image i",
        ),
        "other-cases": (change("outer", put("case", "strange")), "1 images have another case than in 'm0': 'i"),
        "other-labels": (change("inner", lambda t: relabel(t)), "images have another label than in 'm0'"),
        "missing-column": (change("test", lambda t: t.drop(columns="score_B")), "no column 'score_B'"),
        "unknown-label": (change("inner", put("label", "E")), "none of the classes. It concerns '"),
        "repeated-row": (change("test", lambda t: pd.concat([t, t[:1]])), "occur twice in one place: 'test000'"),
        "missing-score": (change("outer", put("score_A", np.nan)), "a score is empty or no number. It concerns 'i"),
        "missing-table": (change("sealed", lambda t: None), "there is no table here, unlike in 'm0'"),
    }
    for code, (spoil, words) in faults.items():
        yield pytest.param(spoil, code, words, id=code)
    bare = change("inner", lambda t: t[(t["seed"] == 0) | (t["fold"] > 0)])
    yield pytest.param(bare, "other-folds", "inner.csv: its folds are not those of 'm0'; it lacks", id="inner-rows")
    other = change("outer", lambda t: t.assign(score_E=0.0))
    yield pytest.param(other, "unknown-class", "scores of other classes: 'score_E'", id="other-class")
    unseen = change("test", put("image", "strange"))
    yield pytest.param(unseen, "other-images", "it has in addition 1: 'image strange'", id="unlabelled")


@pytest.mark.parametrize(("spoil", "code", "words"), list(list_faults()))
def test_members_that_do_not_fit_together_are_refused(
    spoil: Callable[[list[Member]], list[Member]], code: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        combine_members(spoil(draw_members(1.0, 0.3)), classes=CLASSES, method="average")
    assert code in {problem.code for problem in caught.value.problems}
    assert words in str(caught.value)
    assert all(problem.fix for problem in caught.value.problems)


def test_all_problems_are_said_at_once() -> None:
    members = draw_members(1.0, 0.3, 0.5)
    members[1] = replace(members[1], outer=members[1].outer[members[1].outer["seed"] == 0], sealed=None)
    members[2] = replace(members[2], name="m0", test=members[2].test.assign(score_A=2.0))  # type: ignore[union-attr]
    with pytest.raises(DataError) as caught:
        combine_members(members, classes=CLASSES, method="greedy")
    found = {(problem.code, problem.file) for problem in caught.value.problems}
    assert found == {
        ("repeated-member", "ensemble.members"),
        ("other-seeds", "m1/predictions/out_of_fold.csv"),
        ("missing-table", "m1/predictions/sealed.csv"),
        ("score-range", "m0/predictions/test.csv"),
    }


def test_an_unknown_ensemble_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PartError, match="Did you mean 'greedy'"):
        combine_members(draw_members(1.0), classes=CLASSES, method="greed")
