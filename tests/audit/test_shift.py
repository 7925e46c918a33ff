"""A part to predict that is drawn otherwise is said, and what moved; parts that are drawn alike are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

from smalti.audit.checks.registered import NotApplicable
from smalti.audit.checks.shift import _measure_gap, find_shift
from smalti.types import Finding
from summaries import sum_up

PARTS = ["a", "b", None] * 24


def find(*cohort: Any) -> list[Finding]:
    answer = find_shift(*cohort)
    assert not isinstance(answer, NotApplicable)
    return answer


def darken(i: int, facts: dict[str, Any]) -> None:
    facts["tint"] = facts["tint"] - 30 * (PARTS[i] is None)


def shrink(i: int, facts: dict[str, Any]) -> None:
    if PARTS[i] is None:
        facts["size_px"] = (512, 512)


def recode(i: int, facts: dict[str, Any]) -> None:
    if PARTS[i] is None:
        facts["format"] = "JPEG RGB"


@pytest.mark.parametrize(
    ("change", "moved"), [(darken, "mean red of the tissue"), (shrink, "width"), (recode, "format JPEG RGB")]
)
def test_what_moved_is_named(change: Any, moved: str) -> None:
    (finding,) = find(*sum_up(PARTS, change=change))
    assert (finding.code, finding.severity, finding.proposal) == ("shift", "warning", "keep")
    assert moved in finding.evidence["distances"]
    assert moved.split(" of ")[0].split()[-1] in finding.message
    assert finding.evidence["p"]["all together"] < 0.05
    for number in ("AUC ", "chance 0.", "p = 0.0", "48 labelled and 24 unlabelled images, 72 cases"):
        assert number in finding.message
    cohort, _ = sum_up(PARTS, change=change)
    assert set(finding.images) <= {s.image for s in cohort.unlabelled}


def test_what_only_a_backbone_sees_is_said() -> None:
    cohort, digest = sum_up(PARTS)
    inside = {s.image for s in cohort.unlabelled}
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (len(PARTS), 40)).astype(np.float16)
    digest.embeddings = points
    assert find(cohort, digest) == []
    digest.embeddings = points + 1.5 * np.array([[d.image in inside] for d in digest.images])
    (finding,) = find(cohort, digest)
    assert "by backbone features: AUC" in finding.message
    assert finding.evidence["p"]["backbone features"] < 0.05 < finding.evidence["p"]["all together"]
    assert finding.evidence["distances"] == {}


@pytest.mark.slow
def test_labels_have_no_say() -> None:
    others = [None if x is None else "ba"[i % 2] for i, x in enumerate(PARTS)]
    assert find(*sum_up(PARTS, change=darken)) == find(*sum_up(others, change=darken))


def test_a_few_foreign_images_are_no_shift() -> None:
    def plant(i: int, facts: dict[str, Any]) -> None:
        if i in (0, 3, 6):
            facts |= {"tint": np.array([30.0, 160.0, 40.0]), "size_px": (64, 4000), "format": "BMP RGB"}

    assert find(*sum_up(PARTS, change=plant)) == []


@pytest.mark.slow
@pytest.mark.parametrize("grouped", [False, True])
def test_parts_drawn_alike_are_left_alone(grouped: bool) -> None:
    """Of 40 random splits of one cohort, by images or by patients of three alike images, four may speak."""
    spoken = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        tints = rng.normal(0, 25, 24)

        def lean(i: int, facts: dict[str, Any], tints: Any = tints) -> None:
            facts["tint"] = facts["tint"] + tints[i // 3] * grouped

        order = rng.permutation(24) if grouped else rng.permutation(72)
        inside = set(order[: len(order) // 3].tolist())
        parts = [None if (i // 3 if grouped else i) in inside else "a" for i in range(72)]
        cases = [f"p{i // 3}" for i in range(72)] if grouped else None
        spoken += bool(find(*sum_up(parts, cases, seed=seed, change=lean)))
    assert spoken <= 4


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.integers(0, 12, 70).astype(float), (rng.random((5, 70)) < 0.4).astype(np.int64)
    expected = [ks_2samp(values[g == 1], values[g == 0]).statistic for g in groups]
    assert _measure_gap(groups, values=values) == pytest.approx(expected)


def test_where_nothing_can_be_compared_it_is_not_applicable() -> None:
    for parts, cases in ((["a"] * 30, None), (["a"] * 30 + [None] * 3, None), (PARTS, ["p"] * 72)):
        assert isinstance(find_shift(*sum_up(parts, cases)), NotApplicable)
