"""Folds against set identities: no case in two parts, every image scored once, every class in each training part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smalti import recipe
from smalti.errors import SplitError
from smalti.samples import count_folds, find_lacking, split_cases, tabulate_folds
from smalti.types import FOLD_COLUMNS, Cohort, Sample, Split


def make_cohort(rows: list[tuple[str, str]]) -> Cohort:
    """A cohort of (case, label) rows; there are no files."""
    samples = tuple(Sample(f"i{n}", Path(f"i{n}"), None, label, case, str(n)) for n, (case, label) in enumerate(rows))
    return Cohort(Path(), "table", samples, (), tuple(sorted({label for _, label in rows})))


def balanced_cohort(cases: int, *, images: int = 2, classes: str = "abc") -> Cohort:
    return make_cohort([(f"c{i}", classes[i % len(classes)]) for i in range(cases) for _ in range(images)])


def in_each_class(cohort: Cohort) -> int:
    """Number of cases of the class with fewest."""
    return min(len({s.case for s in cohort.labelled if s.label == name}) for name in cohort.classes)


# --- folds --------------------------------------------------------------------------------------------------------


def check_folds(cohort: Cohort, splits: tuple[Split, ...], *, seeds: tuple[int, ...]) -> None:
    everything = list(range(len(cohort.labelled)))
    for seed in seeds:
        of_seed = [s for s in splits if s.seed == seed]
        assert [s.fold for s in of_seed] == list(range(len(of_seed)))
        assert sorted(i for s in of_seed for i in s.outer.tolist()) == everything
    assert len(splits) % len(seeds) == 0
    for split in splits:
        assert sorted([*split.train, *split.inner, *split.outer]) == everything
        cases = [{cohort.labelled[i].case for i in part} for part in (split.train, split.inner, split.outer)]
        assert sum(map(len, cases)) == len(set.union(*cases)) == len({s.case for s in cohort.labelled})
        assert {cohort.labelled[i].label for i in split.train} == set(cohort.classes)
        assert len(split.outer) > 0


COHORTS = st.lists(st.tuples(st.integers(0, 9).map("c{}".format), st.sampled_from("abc")), min_size=2, max_size=40).map(
    make_cohort
)


@pytest.mark.slow
@given(cohort=COHORTS, folds=st.one_of(st.just("auto"), st.integers(2, 6)), inner=st.floats(0.05, 0.5))
@settings(deadline=None, max_examples=40)
def test_folds_of_any_cohort_keep_the_contract_or_are_refused(cohort: Cohort, folds: object, inner: float) -> None:
    def split(number: object) -> tuple[Split, ...] | str:
        try:
            return split_cases(
                cohort, recipe.Split.model_validate({"folds": number, "inner_frac": inner, "seeds": [0, 3]})
            )
        except SplitError as error:
            return str(error)

    answer = split(folds)
    if isinstance(answer, str):
        told = answer.partition("split.folds=")[2].split()
        assert bool(told) is (in_each_class(cohort) >= 2)
        assert told or "No number of folds works" in answer
        folds, answer = (int(told[0]), split(int(told[0]))) if told else (folds, ())
    assert not isinstance(answer, str)
    if answer:
        check_folds(cohort, answer, seeds=(0, 3))
        assert folds in ("auto", len(answer) // 2)


@pytest.mark.slow
@given(cases=st.integers(2, 12), data=st.data())
@settings(deadline=None, max_examples=15)
def test_one_label_per_case_and_two_cases_per_class_can_always_be_split(cases: int, data: st.DataObject) -> None:
    labels = ["a", "a", *data.draw(st.lists(st.sampled_from("ab"), min_size=cases, max_size=cases)), "b", "b"]
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=len(labels), max_size=len(labels)))
    rows = [(f"c{i}", label) for i, (label, size) in enumerate(zip(labels, sizes, strict=True)) for _ in range(size)]
    cohort = make_cohort(rows)
    splits = split_cases(cohort, recipe.Split())
    assert len(splits) >= 2
    check_folds(cohort, splits, seeds=(0,))


def test_auto_takes_five_folds_where_five_work() -> None:
    cohort = balanced_cohort(30)
    assert count_folds(cohort) == 5
    assert len(split_cases(cohort, recipe.Split())) == 5
    assert count_folds(balanced_cohort(4, classes="ab")) == 2  # of four, each outer part would hold one class
    assert count_folds(cohort, most=3) == 3


def can_be_dealt(cohort: Cohort, folds: int) -> bool:
    """Whether cases can be dealt to so many parts that each holds every class; all ways are tried."""
    held: dict[str, set[str]] = {}
    for sample in cohort.labelled:
        held.setdefault(sample.case, set()).add(str(sample.label))
    states = {(frozenset[str](),) * folds}
    for classes in held.values():
        states |= {
            tuple(sorted([*state[:i], state[i] | classes, *state[i + 1 :]], key=sorted))
            for state in states
            for i in range(folds)
        }
    return (frozenset(cohort.classes),) * folds in states


@pytest.mark.slow
@given(cohort=COHORTS, seeds=st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True))
@settings(deadline=None, max_examples=60)
def test_auto_takes_the_most_folds_whose_outer_parts_hold_every_class(cohort: Cohort, seeds: list[int]) -> None:
    assume(in_each_class(cohort) >= 2)
    split = recipe.Split.model_validate({"seeds": seeds, "inner_frac": 0.3})
    splits = split_cases(cohort, split)
    check_folds(cohort, splits, seeds=tuple(seeds))
    wanted = max((k for k in range(2, 6) if can_be_dealt(cohort, k)), default=None)
    if wanted is not None:
        assert len(splits) == wanted * len(seeds)
        assert not find_lacking(cohort, splits)
    else:
        assert find_lacking(cohort, splits)


@pytest.mark.slow
@given(
    counts=st.lists(st.integers(2, 9), min_size=2, max_size=4),
    data=st.data(),
    seeds=st.sets(st.integers(0, 999), min_size=4, max_size=4),
)
@settings(deadline=None, max_examples=12)
def test_where_each_case_has_one_class_the_rarest_says_how_many_folds(
    counts: list[int], data: st.DataObject, seeds: set[int]
) -> None:
    """Cases of very different size, in drawn order, and any seeds."""
    labels = [f"k{i}" for i, count in enumerate(counts) for _ in range(count)]
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 5, 40]), min_size=len(labels), max_size=len(labels)))
    order = data.draw(st.permutations(range(len(labels))))
    cohort = make_cohort([(f"c{i}", labels[i]) for i in order for _ in range(sizes[i])])
    splits = split_cases(cohort, recipe.Split(seeds=tuple(seeds)))
    assert len(splits) == min(5, *counts) * len(seeds)
    for one in splits:
        assert {cohort.labelled[i].label for i in one.outer} == set(cohort.classes)


def test_classes_that_some_outer_parts_lack_are_counted() -> None:
    cohort = make_cohort([(f"c{i}", "a") for i in range(8)] + [("x", "b"), ("y", "b"), ("y", "a"), ("x", "a")])
    assert find_lacking(cohort, split_cases(cohort, recipe.Split(folds=5))) == {"b": 3}
    assert find_lacking(cohort, split_cases(cohort, recipe.Split())) == {}


@pytest.mark.slow
def test_auto_agrees_with_the_explicit_number() -> None:
    cohort = balanced_cohort(15)
    auto, five = (split_cases(cohort, recipe.Split(folds=f)) for f in ("auto", 5))
    assert [[p.tolist() for p in (s.train, s.inner, s.outer)] for s in auto] == [
        [p.tolist() for p in (s.train, s.inner, s.outer)] for s in five
    ]


@pytest.mark.slow
def test_too_many_folds_name_the_largest_number_and_it_works() -> None:
    cohort = balanced_cohort(7)
    with pytest.raises(SplitError) as caught:
        split_cases(cohort, recipe.Split(folds=20))
    told = int(str(caught.value).partition("split.folds=")[2].split()[0])
    check_folds(cohort, split_cases(cohort, recipe.Split(folds=told)), seeds=(0,))
    assert told == 7  # leave one case out
    with pytest.raises(SplitError):
        split_cases(cohort, recipe.Split(folds=told + 1))


def test_where_two_folds_fail_but_three_work_the_message_says_three() -> None:
    # Each pair of the three cases is a class: two folds put both cases of some class together.
    cohort = make_cohort([("x", "a"), ("y", "a"), ("y", "b"), ("z", "b"), ("z", "c"), ("x", "c")])
    with pytest.raises(SplitError, match=r"split\.folds=3 "):
        split_cases(cohort, recipe.Split(folds=2))
    check_folds(cohort, split_cases(cohort, recipe.Split(folds=3)), seeds=(0,))
    assert len(split_cases(cohort, recipe.Split())) == 3


@pytest.mark.parametrize("folds", ["auto", 2, 5])
def test_a_class_in_a_single_case_is_refused_by_name(folds: object) -> None:
    rows = [(f"c{i}", "ab"[i % 2]) for i in range(10)] + [("lonely", "rare")] * 5
    with pytest.raises(SplitError, match=r"'rare' has 1 case\(s\): lonely.*No number of folds works.*Fix"):
        split_cases(make_cohort(rows), recipe.Split.model_validate({"folds": folds}))


def test_folds_depend_on_the_seed_and_on_nothing_else() -> None:
    cohort = balanced_cohort(30)

    def draw(*seeds: int) -> dict[int, list[list[int]]]:
        splits = split_cases(cohort, recipe.Split(seeds=seeds))
        return {seed: [s.outer.tolist() + s.inner.tolist() for s in splits if s.seed == seed] for seed in seeds}

    np.random.seed(1)
    first = draw(0, 1)
    np.random.seed(2)
    assert draw(1, 0) == first
    assert first[0] != first[1]
    assert draw(1_000_000)[1_000_000] not in first.values()


@pytest.mark.parametrize("frac", [0.1, 0.2, 0.34, 0.5])
def test_the_inner_part_has_about_the_share_asked_for(frac: float) -> None:
    for split in split_cases(balanced_cohort(60, images=1), recipe.Split(inner_frac=frac)):
        assert abs(len(split.inner) / (len(split.inner) + len(split.train)) - frac) < 0.05


def test_folds_are_stratified() -> None:
    cohort = make_cohort([(f"c{i}", "a" if i % 4 else "b") for i in range(80)])
    for split in split_cases(cohort, recipe.Split()):
        for part in (split.outer, split.inner):
            assert abs(np.mean(cohort.targets[part] == 1) - 0.25) < 0.1


def test_the_table_of_folds_says_the_same() -> None:
    cohort = balanced_cohort(12)
    splits = split_cases(cohort, recipe.Split(folds=3, seeds=(0, 5)))
    table = tabulate_folds(cohort, splits)
    assert tuple(table.columns) == FOLD_COLUMNS
    assert len(table) == 2 * 3 * len(cohort.labelled)
    assert (table.groupby(["seed", "fold", "case"])["role"].nunique() == 1).all()
    assert (pd.crosstab([table["seed"], table["image"]], table["role"])["outer"] == 1).all()
    by_name = {s.image: s for s in cohort.labelled}
    assert all((by_name[r.image].case, by_name[r.image].label) == (r.case, r.label) for r in table.itertuples())


def test_a_small_training_part_still_gets_an_inner_part() -> None:
    # 24 images in three classes: each training part has four of a class, fewer than the five folds of inner_frac=0.2.
    samples = tuple(
        Sample(f"i{i}.png", Path(f"i{i}.png"), None, "abc"[i % 3], f"case{i}", f"i{i}.png") for i in range(24)
    )
    cohort = Cohort(Path(), "table", samples, (), ("a", "b", "c"))
    splits = split_cases(cohort, recipe.Split(folds=2, inner_frac=0.2))
    assert all(len(split.inner) for split in splits)
