"""Shortcuts that were planted are named, with their numbers; labels that nothing tells are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import GroupKFold, permutation_test_score
from sklearn.neighbors import KNeighborsClassifier

from smalti.audit import audit_cohort
from smalti.audit.checks.concentration import measure_concentration
from smalti.audit.checks.confounding import find_confounding
from smalti.audit.checks.registered import NotApplicable, Partial
from smalti.stats.permutation import (
    Neighbours,
    code_groups,
    measure_accuracy,
    measure_auc,
    measure_chance,
    permute_by_case,
)
from smalti.types import Cohort, Finding, Sample
from summaries import sum_up
from textures import draw_texture

AB = ["a", "b"] * 30
TWOS = [f"p{i // 4}" for i in range(60)]  # four images of a patient, two of each class


def find(cohort: Cohort, digest: Any) -> dict[str, Finding]:
    answer = find_confounding(cohort, digest)
    assert not isinstance(answer, NotApplicable)
    found = answer.findings if isinstance(answer, Partial) else answer
    assert all(f.images and f.proposal == "keep" and f.code == "confounding" for f in found)
    return {f.evidence["kind"]: f for f in found}


# --- what tells the label -----------------------------------------------------------------------------------------


def plant_size(i: int, facts: dict[str, Any]) -> None:
    facts["size_px"] = (700, 1024 if AB[i] == "a" else 768)


def plant_jpeg(i: int, facts: dict[str, Any]) -> None:
    if AB[i] == "b":
        facts |= {"format": "JPEG RGB", "jpeg_step": 12.0}


def plant_glass(i: int, facts: dict[str, Any]) -> None:
    facts["glass"] = facts["glass"] - (0, 0, 22 * (AB[i] == "a"))


def plant_colour(i: int, facts: dict[str, Any]) -> None:
    facts["tint"] = facts["tint"] - 50 * (AB[i] == "a")


def plant_scale(i: int, facts: dict[str, Any]) -> None:
    facts["mpp"] = 0.25 if AB[i] == "a" else 0.5


def plant_bare(i: int, facts: dict[str, Any]) -> None:
    if AB[i] == "a":
        facts |= {"mask_frac": None, "mask_pieces": None}


@pytest.mark.parametrize(
    ("kind", "change", "severity", "words"),
    [
        ("size", plant_size, "warning", "30 of 30 images of 'a' have width = 1024 px, 0 of 30 others"),
        ("file", plant_jpeg, "warning", "30 of 30 images of 'b' have format JPEG RGB, 0 of 30 others"),
        ("glass", plant_glass, "warning", "blue of the glass"),
        ("colour", plant_colour, "warning", "of the tissue"),
        ("scale", plant_scale, "warning", "microns per pixel"),
        ("mask presence", plant_bare, "warning", "30 of 30 images of 'a' have no mask, 0 of 30 others"),
    ],
)
def test_a_planted_shortcut_is_named_and_no_other(kind: str, change: Any, severity: str, words: str) -> None:
    found = find(*sum_up(AB, TWOS, change=change))
    assert set(found) == {kind}
    finding = found[kind]
    assert (finding.severity, finding.evidence["images"], finding.evidence["cases"]) == (severity, 60, 15)
    assert words in finding.message
    assert finding.evidence["balanced_accuracy"] >= 0.9
    assert abs(finding.evidence["chance"] - 0.5) < 0.05
    assert finding.evidence["p"] <= 0.01
    for number in ("balanced accuracy", "chance 0.5", "p = 0.00", "60 images, 15 cases"):
        assert number in finding.message


@pytest.mark.parametrize("way", ["order", "prefix"])
def test_names_that_tell_the_label_are_named(way: str) -> None:
    order = {label: iter(range(30 * (label == "b"), 60)) for label in "ab"}
    names = [f"img_{next(order[x]):03d}.png" if way == "order" else f"{'x' if x == 'a' else 'yy'}_{i % 7}.{i}.png"
             for i, x in enumerate(AB)]  # fmt: skip
    found = find(*sum_up(AB, TWOS, names=names))
    assert set(found) == {"naming"}
    assert found["naming"].severity == "info"
    assert ("last number in the name" if way == "order" else "'x' in the name") in found["naming"].message


def test_a_name_that_says_its_class_says_nothing_new() -> None:
    numbers = {label: iter(range(60)) for label in "ab"}
    labels = ["tumour" if x == "a" else "stroma" for x in AB]
    names = [f"{y}/{y}_{next(numbers[x]):03d}.png" for x, y in zip(AB, labels, strict=True)]
    assert find(*sum_up(labels, TWOS, names=names)) == {}


def test_a_shortcut_within_each_patient_alone_does_not_reach_other_patients() -> None:
    """Each case has sizes of its own: who has seen it knows them, who has not does not."""
    rng = np.random.default_rng(3)
    sides = {case: rng.permutation([600, 1200]).tolist() for case in sorted(set(TWOS))}

    def plant(i: int, facts: dict[str, Any]) -> None:
        facts["size_px"] = (700, sides[TWOS[i]][int(AB[i] == "a")])

    assert find(*sum_up(AB, TWOS, change=plant)) == {}


@pytest.mark.slow
def test_a_scanner_is_found_in_the_files_themselves(tmp_path: Path) -> None:
    """The same textures, of one class through a yellowed scanner and saved as JPEG."""
    rng, samples = np.random.default_rng(0), []
    for i in range(32):
        label, yellow = "ab"[i % 2], (1, 1, 0.7) if i % 2 else (1, 1, 1)
        name = f"{i * 7 % 32:02d}.{'jpg' if i % 2 else 'png'}"
        pixels = (draw_texture("B", rng) * yellow).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
        samples.append(Sample(name, tmp_path / name, None, label, f"p{i // 4}", name))
    audit = audit_cohort(Cohort(tmp_path, "table", tuple(samples), (), ("a", "b")), checks=("confounding",))
    kinds = {f.evidence["kind"]: f for f in audit.findings}
    assert {"file", "colour"} <= set(kinds)
    assert "size" not in kinds
    assert "scanner" in kinds["colour"].message
    assert str(audit.outcomes["confounding"]) == f"{len(audit.findings)} found"


# --- class against case -------------------------------------------------------------------------------------------


def spread(**cases: dict[str, int]) -> tuple[list[str], list[str]]:
    """Labels and cases from class -> case -> number of images."""
    rows = [(label, case) for label, counts in cases.items() for case, n in counts.items() for _ in range(n)]
    return [r[0] for r in rows], [r[1] for r in rows]


@pytest.mark.parametrize(
    ("cases", "severity"),
    [
        ({"a": {"p": 14, "q": 6}, "b": {"q": 6, "r": 14}, "c": {"p": 5, "q": 3, "r": 4, "s": 8}}, "warning"),
        ({"a": {"p": 20}, "b": {f"q{i}": 4 for i in range(5)}}, "warning"),
        ({"a": {"p": 30, **{f"o{i}": 1 for i in range(8)}}, "b": {f"q{i}": 4 for i in range(10)}}, "warning"),
        ({"a": {f"p{i}": 8 for i in range(3)}, "b": {f"q{i}": 8 for i in range(3)}}, "info"),
    ],
)
def test_classes_of_very_few_cases_are_reported(cases: dict[str, dict[str, int]], severity: str) -> None:
    found = find(*sum_up(*spread(**cases)))
    assert set(found) == {"case"}
    assert found["case"].severity == severity
    assert found["case"].score > 0.3
    assert set(found["case"].evidence["classes"]) >= {"a"}


@pytest.mark.parametrize(
    "cases",
    [
        {x: {f"{x}{i}": 4 for i in range(12)} for x in "ab"},  # each patient has one label, each class many patients
        {x: {f"{x}{i}": 1 for i in range(20)} for x in "ab"},  # one image of each patient
        {x: {f"p{i}": 5 for i in range(4)} for x in "abc"},  # few patients, all with all classes
        {"a": {"p": 2, "q": 1}, "b": {f"r{i}": 5 for i in range(10)}},  # a rare class of few images: no wonder
    ],
)
def test_a_healthy_cohort_is_not_accused(cases: dict[str, dict[str, int]]) -> None:
    assert find(*sum_up(*spread(**cases))) == {}


def test_the_effective_number_of_cases_follows_its_formula() -> None:
    cohort, _ = sum_up(*spread(a={"p": 14, "q": 6}, b={"q": 6, "r": 14}))
    one, two = measure_concentration(cohort.labelled, cohort.classes)
    assert one.effective == two.effective == pytest.approx(1 / (0.7**2 + 0.3**2))
    assert (one.case, one.largest, one.cases, two.case) == ("p", 14, 2, "r")
    assert one.mixed
    shuffled = []
    rng = np.random.default_rng(5)
    for _ in range(300):
        labels = rng.permutation([s.label for s in cohort.labelled])
        mixed = [replace(s, label=str(x)) for s, x in zip(cohort.labelled, labels, strict=True)]
        counts = np.unique([s.case for s in mixed if s.label == "a"], return_counts=True)[1]
        shuffled.append(20**2 / (counts**2).sum())
    assert one.expected == pytest.approx(np.mean(shuffled), rel=0.05)


def test_without_known_cases_that_part_is_not_applicable() -> None:
    answer = find_confounding(*sum_up(AB))
    assert isinstance(answer, Partial)
    assert answer.findings == []
    assert "each image is its own" in answer.reason
    assert isinstance(find_confounding(*sum_up(["a"] * 30)), NotApplicable)
    assert isinstance(find_confounding(*sum_up(["a", "b"] * 4)), NotApplicable)
    assert isinstance(find_confounding(*sum_up(AB, ["p"] * 60)), NotApplicable)


# --- how often it cries for nothing -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("whole_cases", [False, True])
def test_shuffled_labels_are_left_alone(whole_cases: bool) -> None:
    """Of 40 shuffles two may speak: 5 %."""
    spoken = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = list(np.repeat(rng.permutation(["a", "b"] * 8), 3)) if whole_cases else list(rng.permutation(AB[:48]))
        spoken += bool(find(*sum_up(labels, [f"p{i // 3}" for i in range(48)], seed=seed)))
    assert spoken <= 2


def test_whole_cases_are_permuted_where_a_case_has_one_label() -> None:
    cases = np.repeat(np.arange(9), 4)
    labels = np.repeat(np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), 4)
    drawn = permute_by_case(labels, cases, times=50, rng=np.random.default_rng(0))
    blocks = drawn.reshape(50, 9, 4)
    assert (blocks == blocks[..., :1]).all()
    assert (np.sort(drawn, axis=1) == np.sort(labels)).all()
    assert len({tuple(row) for row in drawn}) > 40
    mixed = permute_by_case(np.arange(36), cases, times=50, rng=np.random.default_rng(0))
    assert (np.sort(mixed, axis=1) == np.arange(36)).all()
    assert (np.sort(mixed.reshape(50, 9, 4), axis=2) % 4 == np.arange(4)).all()  # cases stay together


# --- against others -----------------------------------------------------------------------------------------------


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.integers(0, 3, 60), rng.random((1, 60, 3)).astype(np.float32)
    expected = balanced_accuracy_score(truth, scores[0].argmax(axis=1))
    assert measure_accuracy(scores, truth[None])[0] == pytest.approx(expected)
    assert measure_auc(scores[..., :2], (truth[None] > 0).astype(int))[0] == pytest.approx(
        roc_auc_score(truth > 0, scores[0, :, 1])
    )


def test_neighbours_say_what_a_leave_one_case_out_vote_says() -> None:
    """Few distinct places, so that both take all at distance 0; classes equally frequent, so that shares are votes."""
    place = np.repeat(np.arange(3.0), 20)
    labels = np.tile([0, 1], 30) ^ (np.random.default_rng(2).random(60) < 0.2)
    cases = np.arange(60)
    shares = Neighbours(place[:, None], cases).score(labels[None], 2)[0]
    for i in range(60):
        same = (place == place[i]) & (cases != i)
        others = cases != i
        lift = [(labels[same] == c).mean() / (labels[others] == c).mean() for c in (0, 1)]
        assert shares[i] == pytest.approx(np.array(lift) / sum(lift), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("telling", [False, True])
def test_the_p_value_agrees_with_the_permutation_test_of_scikit_learn(telling: bool) -> None:
    rng = np.random.default_rng(4)
    labels = np.tile([0, 1], 30)
    values = rng.normal(0, 1, (60, 2)) + 1.2 * telling * labels[:, None]
    cases = np.arange(60) // 2
    neighbours = Neighbours(values, np.arange(60))
    ours = measure_chance(labels, np.arange(60), measure=lambda g: measure_accuracy(neighbours.score(g, 2), g))
    model = KNeighborsClassifier(8, weights="distance")
    theirs = permutation_test_score(
        model, values, labels, cv=GroupKFold(6), groups=cases, n_permutations=60, scoring="accuracy",
        random_state=0,
    )  # fmt: skip
    assert (ours.p < 0.02) == (theirs[2] < 0.02) == telling
    assert ours.value == pytest.approx(theirs[0], abs=0.12)


def test_groups_are_coded_in_alphabetical_order() -> None:
    assert code_groups(["q", "p", "q"]).tolist() == [1, 0, 1]
