"""Folds of whole sites: no site and no case on two sides, every class taught, or a refusal with a fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smalti import recipe
from smalti.errors import SplitError
from smalti.samples import split_cases, split_sites
from smalti.types import Cohort, Sample

BY_SITE = recipe.Split(group="site")


def make_cohort(rows: list[tuple[str, str, str]]) -> Cohort:
    """A cohort of (case, label, site) rows without files."""
    samples = tuple(
        Sample(f"i{n}", Path(f"i{n}"), None, lb, case, str(n), site=s) for n, (case, lb, s) in enumerate(rows)
    )
    return Cohort(Path(), "table", samples, (), tuple(sorted({lb for _, lb, _ in rows})))


def many(sites: int, *, cases: int = 8) -> Cohort:
    return make_cohort([
        (f"s{s}c{c}", "ab"[c % 2], f"s{s}") for s in range(sites) for c in range(cases) for _ in range(2)
    ])  # fmt: skip


def sites_of(cohort: Cohort, rows: np.ndarray) -> set[str]:
    return {cohort.labelled[i].site for i in rows}


@pytest.mark.parametrize("sites", [2, 3, 5, 14])
def test_each_site_is_held_out_once_and_whole(sites: int) -> None:
    cohort = many(sites)
    splits = split_cases(cohort, BY_SITE)
    assert len(splits) == min(sites, 10)
    assert sorted(i for s in splits for i in s.outer) == list(range(len(cohort.labelled)))
    for split in splits:
        held = sites_of(cohort, split.outer)
        taught = sites_of(cohort, np.union1d(split.train, split.inner))
        assert not held & taught
        assert held | taught == {f"s{i}" for i in range(sites)}
        # What chooses is of whole sites too, where enough sites teach.
        apart = not sites_of(cohort, split.train) & sites_of(cohort, split.inner)
        assert apart == (len(taught) >= 3)


def test_beside_out_of_fold_scores_cases_choose() -> None:
    cohort = many(5)
    for split in split_sites(cohort, recipe.Split(), inner="case"):
        assert sites_of(cohort, split.train) & sites_of(cohort, split.inner)


def test_a_case_in_two_sites_joins_them_and_images_without_a_site_are_one() -> None:
    rows = [(f"s{s}c{c}", "ab"[c % 2], f"s{s}") for s in range(4) for c in range(6)]
    rows += [("s0c0", "a", "s1"), ("x", "a", ""), ("y", "b", "")]
    splits = split_cases(make_cohort(rows), BY_SITE)
    held = {frozenset(sites_of(make_cohort(rows), s.outer)) for s in splits}
    assert held == {frozenset({"s0", "s1"}), frozenset({"s2"}), frozenset({"s3"}), frozenset({""})}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(f"c{i}", "ab"[i % 2], "") for i in range(8)], "names no sites.*data.site"),
        ([(f"c{i}", "ab"[i % 2], "x") for i in range(8)], "names one site, x"),
        ([(f"c{i // 2}", "ab"[i // 2 % 2], "xy"[i % 2]) for i in range(8)], "cases lie in several of the 2 sites"),
        ([(f"c{i}", "ab"[i % 2], "xy"[i % 2]) for i in range(8)], "class 'a' lies in one of them alone.*Fix"),
    ],
)
def test_what_cannot_be_held_out_is_refused_with_the_fix(rows: list[tuple[str, str, str]], why: str) -> None:
    with pytest.raises(SplitError, match=why):
        split_cases(make_cohort(rows), BY_SITE)
