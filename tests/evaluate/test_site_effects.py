"""The site is told where it is planted and seldom else; subgroups are compared like with like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from smalti.evaluate.site_effects import ALPHA, Sited, judge_sites, measure_association, tell_sites
from smalti.evaluate.subgroups import measure_subgroups
from smalti.records import Scoring
from smalti.stats import pool_predictions
from smalti.stats.permutation import join_groups


def draw(seed: int, *, shift: float, tied: bool = False, sites: int = 4, cases: int = 60) -> Sited:
    """Two images of each case; ``shift`` of the embeddings by site; with ``tied`` the class goes with the site."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(cases) % sites, 2)
    label = np.repeat(np.arange(cases) % sites % 2 if tied else rng.integers(0, 2, cases), 2)
    points = rng.standard_normal((2 * cases, 10)) + np.repeat(rng.standard_normal((cases, 10)), 2, axis=0)
    points += shift * rng.standard_normal((sites, 10))[site]
    names = [f"p{i // 2}" for i in range(2 * cases)]
    where = [f"s{i}" for i in site]
    groups = tuple(str(code) for code in join_groups(where, names))
    images = tuple(f"i{i:03d}" for i in range(2 * cases))
    return Sited(images, tuple(names), tuple("ab"[i] for i in label), tuple(where), groups, {}, points)


def predict(sited: Sited, *, right: float, folds: list[int], seed: int = 0) -> pd.DataFrame:
    """Predictions that are right for this share of the cases."""
    rng = np.random.default_rng(seed)
    hits = {case: rng.random() < right for case in dict.fromkeys(sited.cases)}
    said = [
        label if hits[case] else "ba"["ab".index(label)] for label, case in zip(sited.labels, sited.cases, strict=True)
    ]
    table = pd.DataFrame({"image": sited.images, "case": sited.cases, "fold": folds, "seed": 0, "label": sited.labels})
    return table.assign(
        score_a=[0.9 if s == "a" else 0.1 for s in said], score_b=[0.1 if s == "a" else 0.9 for s in said]
    )


def judge(sited: Sited, *, own: float, held: float | None, why: str = "", by_site: bool = False):
    rows = [int(name[1:]) for name in sited.cases]
    parts = [int(name[1:]) for name in sited.sites]
    return judge_sites(
        sited, predict(sited, right=own, folds=[i % 5 for i in rows]),
        None if held is None else predict(sited, right=held, folds=parts, seed=1),
        why=why, scoring=Scoring(), classes=("a", "b"), cases=None, confidence=0.95, by_site=by_site,
    )  # fmt: skip


def test_a_scanner_is_told_and_a_cohort_without_one_is_not() -> None:
    told, _ = tell_sites(draw(0, shift=1.5))
    assert told is not None
    assert (told.p, told.n_sites, told.n_classes, told.n_cases) == (0.001, 4, 2, 60)
    assert told.effect > 0.5
    drawn = [tell_sites(draw(seed, shift=0), permutations=199)[0] for seed in range(30)]
    assert sum(one is not None and one.p <= 0.05 for one in drawn) <= 4  # binomial: more in 1.6 % of all such tests


def test_class_and_site_that_are_one_cannot_be_asked() -> None:
    sited = draw(0, shift=1, tied=True, sites=2)
    assert tell_sites(sited)[0] is None
    assert measure_association(sited) == pytest.approx(1, abs=0.02)
    record = judge(sited, own=0.9, held=None, why="class 'a' lies in one of them alone")
    assert record.alarm
    assert record.sentence.startswith("Class and site go together")


def test_the_sentence_says_why() -> None:
    leans = judge(draw(0, shift=1.5, tied=True), own=0.95, held=0.5)
    assert leans.alarm
    assert "leans on the site" in leans.sentence
    assert "can be told from the embeddings" in leans.sentence
    assert "class goes with site" in leans.sentence
    assert leans.site_out is not None
    assert leans.site_out.gap.verdict == "better"
    assert (leans.site_out.n_sites, leans.site_out.n_groups, leans.site_out.n_cases) == (4, 4, 60)
    assert not leans.site_out.by_site.trustworthy  # four sites
    holds = judge(draw(0, shift=1.5), own=0.9, held=0.9)
    assert not holds.alarm
    assert "yet the score holds" in holds.sentence
    quiet = judge(draw(0, shift=0), own=0.9, held=0.9)
    assert not quiet.alarm
    assert quiet.told is not None
    assert quiet.told.p > ALPHA
    assert "Nothing shows that the score leans on the site" in quiet.sentence
    assert "could have been seen" in quiet.sentence


def test_folds_of_sites_and_a_column_that_says_the_sites_again() -> None:
    sited = draw(0, shift=0)
    twice = replace(sited, subgroups={"hospital": tuple(site.upper() for site in sited.sites)})
    record, once = (judge(one, own=0.9, held=None, by_site=True) for one in (twice, sited))
    assert record.sentence.startswith("The scores of this run are on sites that no network had seen.")
    assert record.subgroups == once.subgroups


def test_subgroups_differ_in_recall_and_not_in_their_classes() -> None:
    rng = np.random.default_rng(0)
    n = 400
    group = np.array(["x", "y"])[(np.arange(n) < 200).astype(int)]
    label = np.where(rng.random(n) < np.where(group == "x", 0.9, 0.1), "a", "b")  # very different shares
    names = [f"c{i:03d}" for i in range(n)]

    def table(rates: np.ndarray) -> pd.DataFrame:
        hit = rng.random(n) < rates
        score = np.where((label == "a") == hit, 0.9, 0.1)
        return pd.DataFrame({"image": names, "case": names, "label": label, "score_a": score, "score_b": 1 - score})

    # Class b is found worse than a, alike in both groups: accuracy differs, recall does not.
    even = pool_predictions(table(np.where(label == "a", 0.95, 0.6)), classes=("a", "b"))
    rows = measure_subgroups(even, {"sex": list(group)})
    assert [(r.value, r.n_images) for r in rows] == [("x", 200), ("y", 200)]
    assert all(r.difference is not None and r.difference.verdict == "cannot tell" for r in rows)
    assert all(r.difference is not None and 0 < (r.difference.smallest_detectable or 0) < 1 for r in rows)
    worse = pool_predictions(table(np.where(group == "x", 0.55, 0.95)), classes=("a", "b"))
    first, second = (r.difference for r in measure_subgroups(worse, {"sex": list(group)}))
    assert first is not None
    assert second is not None
    assert (first.verdict, second.verdict) == ("worse", "better")
    assert first.value == pytest.approx(-(second.value or 0))
    assert (first.p_holm or 1) >= (first.p or 1)
    few = measure_subgroups(worse, {"sex": ["z", "z", *group[2:]]})[2]
    assert (few.value, few.score, few.difference) == ("z", None, None)
    assert "only 2 case(s)" in few.why
