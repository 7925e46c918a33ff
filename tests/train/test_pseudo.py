"""Pseudo-labels: prior and weights by their formulas, cases never straddle, what is not kept leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.metrics import f1_score

from smalti.errors import RecipeError
from smalti.recipe import Noise, Pseudo, load_recipe
from smalti.train import HEADS, check_parts, read_checkpoint, train_folds
from smalti.train.pseudo.eligible import Seen, find_unlike, list_candidates
from smalti.train.pseudo.prior import estimate_prior, shift_prior
from smalti.train.pseudo.rounds import Accepted, Teacher, weigh_labels
from smalti.types import Cohort, Sample, Split
from unlabelled import draw_classes, draw_looks, part_cohort, read_bytes

Embed = Callable[..., Any]
EVEN = (1 / 3, 1 / 3, 1 / 3)


# --- the prior -----------------------------------------------------------------------------------------------------


def draw_scored(shares: tuple[float, ...], number: int, *, prior: tuple[float, ...]) -> Any:
    """Exact scores under ``prior`` of images of a population with other shares."""
    rng = np.random.default_rng(0)
    x = np.eye(3)[rng.choice(3, number, p=shares)] * 2 + rng.normal(size=(number, 3))
    return softmax(2 * x + np.log(prior), axis=1)


@pytest.mark.parametrize("shares", [(0.8, 0.15, 0.05), EVEN, (0.02, 0.49, 0.49)])
def test_the_prior_is_found_whatever_the_classifier_learned_under(shares: tuple[float, ...]) -> None:
    prior = np.array([0.2, 0.3, 0.5])
    found = estimate_prior(draw_scored(shares, 4000, prior=tuple(prior)), prior)
    assert found == pytest.approx(shares, abs=0.025)


def test_the_prior_is_the_one_of_the_greatest_likelihood() -> None:
    prior = np.array([0.2, 0.3, 0.5])
    scores = draw_scored((0.7, 0.1, 0.2), 200, prior=tuple(prior))

    def lose(free: Any) -> float:
        return float(-np.log((scores / prior) @ softmax([*free, 0.0])).sum())

    best = softmax([*minimize(lose, [0.0, 0.0]).x, 0.0])
    assert estimate_prior(scores, prior) == pytest.approx(best, abs=1e-3)


def test_few_labels_draw_the_prior_to_that_of_the_labelled_images() -> None:
    prior = np.array([0.2, 0.3, 0.5])
    scores = draw_scored((0.8, 0.1, 0.1), 100, prior=tuple(prior))
    found = [np.abs(estimate_prior(scores, prior, imagined=n) - prior).max() for n in (0, 30, 300, 10**9)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-5
    assert (estimate_prior(scores[:0], prior) == prior).all()


def test_scores_under_another_prior_are_those_of_bayes() -> None:
    prior, shares = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(1)
    likelihood = rng.random((20, 3))
    scores, wanted = (likelihood * p / (likelihood * p).sum(axis=1, keepdims=True) for p in (prior, shares))
    assert shift_prior(scores, prior, shares) == pytest.approx(wanted)


# --- weights and soft labels ---------------------------------------------------------------------------------------


def test_classes_weigh_among_soft_labels_what_they_weigh_among_labelled_images() -> None:
    rng = np.random.default_rng(0)
    y, weights = rng.integers(0, 3, 50), rng.uniform(0.5, 2, 50)
    labels = rng.dirichlet((8, 1, 1), 200)
    counts = weigh_labels(y, weights, labels, 0.5)
    mass = np.bincount(y, weights)
    assert counts.sum(axis=0) / counts.sum() == pytest.approx(mass / mass.sum())
    most = (counts / labels).max(axis=0) / (mass / np.bincount(y))
    assert most.max() == pytest.approx(0.5)
    assert (weigh_labels(y, weights, labels * [1, 1, 0], 0.5) == 0).all()


def see(x: Any, y: Any, free: Any, *, cases: Any = None, free_cases: Any = None) -> Seen:
    cases = [f"c{i}" for i in range(len(x))] if cases is None else cases
    free_cases = [f"u{i}" for i in range(len(free))] if free_cases is None else free_cases
    none = [np.full(len(part), "") for part in (x, free)]
    return Seen(
        x[None], y, np.ones(len(y)), np.array(cases), none[0], free[None], free[None], np.array(free_cases), none[1]
    )


def test_a_soft_label_is_least_squares_on_shares() -> None:
    """Weighted ridge regression by hand, with shares of classes in the place of 0 and 1."""
    rng = np.random.default_rng(0)
    y = draw_classes(40, EVEN, rng)
    seen = see(draw_looks(y, rng, size=6), y, rng.normal(size=(30, 6)))
    labels = rng.dirichlet(np.ones(3), 30)
    accepted = Accepted(np.arange(30), labels, np.ones(30), np.ones(3) / 3)
    teacher = Teacher(HEADS.build("ridge"), seen, 0.3, Pseudo(rounds=1, weight=0.4))
    head = teacher.solve(np.arange(40), np.eye(3)[y], accepted)
    counts = weigh_labels(y, seen.weights, labels, 0.4)
    x, share = np.concatenate([seen.x[0], seen.free[0]]), np.concatenate([np.ones(40), counts.sum(axis=1)])
    aim = np.concatenate([np.eye(3)[y], counts / counts.sum(axis=1, keepdims=True)])
    share = share / share.sum()
    middle, level = share @ x, share @ aim
    gram = (x - middle).T @ (share[:, None] * (x - middle)) + 0.3 * np.eye(6)
    assert (
        pytest.approx(np.linalg.solve(gram, (x - middle).T @ (share[:, None] * (aim - level))), abs=1e-2)
        == head.weight.T
    )


# --- who may teach -------------------------------------------------------------------------------------------------


def test_cases_and_sites_that_are_held_out_and_unfit_images_do_not_teach() -> None:
    def make(name: str, case: str, site: str, label: str | None = "a") -> Sample:
        return Sample(name, Path(name), None, label, case, "", site=site)

    labelled = (make("l0", "c0", "s0"), make("l1", "c1", "s1"), make("l2", "c2", "s0"), make("l3", "c3", "s2"))
    free = tuple(
        make(name, case, site, None)
        for name, case, site in (
            ("inner case", "c0", "s0"), ("outer case", "c3", "s0"), ("sealed case", "c9", "s0"),
            ("outer site", "x0", "s2"), ("shared site", "x1", "s0"), ("new site", "x2", "s9"), ("photo", "x3", "s0"),
        )
    )  # fmt: skip
    cohort = Cohort(Path(), "table", labelled, free, ("a",), sealed=(make("z", "c9", "s0", None),))
    split = Split(0, 0, np.array([0]), np.array([1]), np.array([2, 3]))
    found = list_candidates(cohort, split, unfit={"photo": "foreign"})
    assert [s.image for s in found.samples] == ["inner case", "shared site", "new site"]
    assert dict(found.left_out) == {"case or site held out": 3, "foreign": 1}


def test_images_unlike_every_labelled_one_are_found_without_a_label() -> None:
    rng = np.random.default_rng(0)
    y = draw_classes(60, EVEN, rng)
    same, foreign = draw_looks(draw_classes(100, EVEN, rng), rng), 6 + draw_looks(draw_classes(50, EVEN, rng), rng)
    seen = see(draw_looks(y, rng), y, np.concatenate([same, foreign]))
    unlike = find_unlike(seen, unlike_frac=0.05)
    assert unlike[100:].all()
    assert unlike[:100].mean() < 0.15
    assert not find_unlike(seen, unlike_frac=0.0).any()
    assert (find_unlike(replace(seen, y=rng.permutation(y)), unlike_frac=0.05) == unlike).all()


# --- folds ---------------------------------------------------------------------------------------------------------


def draw_problem(seed: int = 0, *, number: int = 36, free: int = 150) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    y = draw_classes(number, EVEN, rng)
    return draw_looks(y, rng), y, draw_looks(draw_classes(free, EVEN, rng), rng)


FOLDS = ("split.folds=3", "model.head=ridge")  # ridge is the quickest
KEPT = (*FOLDS, "train.pseudo.rounds=1", "train.gate.keep=always", "train.gate.repeats=1")


def read_weights(experiment: Any) -> Any:
    """Weights of the head of the first fold."""
    content = read_checkpoint(experiment.run.checkpoints / f"{experiment.splits[0].name}.safetensors")
    return content["weights"]["head.linear.weight"].numpy()


def test_what_is_not_kept_leaves_the_head_as_it_is_without(embed: Embed) -> None:
    x, y, free = draw_problem()
    y = np.random.default_rng(5).permutation(y)
    found = {}
    for name, settings in (
        ("without", FOLDS), ("off", (*KEPT, "train.gate.keep=off")), ("dropped", (*KEPT, "train.gate.keep=if-better")),
        ("kept", KEPT),
    ):  # fmt: skip
        experiment = part_cohort(embed, x, y, free, *settings, name=name)
        train_folds(experiment)
        found[name] = (read_weights(experiment), read_bytes(experiment.run.path))
    assert found["off"][1] == found["without"][1]
    assert (found["dropped"][0] == found["without"][0]).all()
    assert found["dropped"][1]["inner.csv"] == found["without"][1]["inner.csv"]
    assert not np.allclose(found["kept"][0], found["without"][0])
    verdicts = json.loads(found["dropped"][1]["gate.json"])
    assert [v["kept"] for v in verdicts] == [False] * 3
    assert "gate.json" not in found["without"][1]


def test_images_of_an_outer_case_teach_no_head_of_that_fold_and_all_are_listed(embed: Embed) -> None:
    x, y, free = draw_problem(free=108)
    shared = [f"c{i % 36}" for i in range(108)]  # each unlabelled image is of a labelled case
    experiment = part_cohort(embed, x, y, free, *KEPT, free_cases=shared)
    train_folds(experiment)
    listed = pd.read_csv(experiment.run.path / "pseudo.csv")
    verdicts = json.loads((experiment.run.path / "gate.json").read_text(encoding="utf-8"))
    assert len(listed) > 60
    for split, verdict in zip(experiment.splits, verdicts, strict=True):
        mine = listed[listed["fold"] == split.fold]
        assert not {experiment.cohort.labelled[i].case for i in split.outer} & set(mine["case"])
        assert f"{3 * len(split.outer)} left out (case or site held out)" in verdict["about"]
        assert f"{len(mine)} of " in verdict["about"]
        assert verdict["part"] == "pseudo-labels, round 1"
    scores = listed[[f"score_{c}" for c in range(3)]].to_numpy()
    assert scores.sum(axis=1) == pytest.approx(1)
    assert (scores.argmax(axis=1) == listed["label"]).all()


@pytest.mark.parametrize("what", ["labels", "looks"])
def test_outer_images_change_no_verdict_and_nothing_that_is_trained(embed: Embed, what: str) -> None:
    x, y, free = draw_problem()
    found = {}
    for way in ("plain", "outer", "train"):
        experiment = part_cohort(embed, x, y, free, *KEPT, "train.pseudo.rounds=2", name=f"{what}-{way}")
        split = experiment.splits[0]
        rows = {"plain": split.outer[:0], "outer": split.outer, "train": split.train[:1]}[way]
        if what == "labels":
            labelled = list(experiment.cohort.labelled)
            for row in rows:
                labelled[row] = replace(labelled[row], label=str((int(labelled[row].label or 0) + 1) % 3))
            experiment = replace(experiment, cohort=replace(experiment.cohort, labelled=tuple(labelled)))
        else:
            embeddings = experiment.frozen[split.name].embeddings.clone()
            embeddings[:, rows] += 3
            seen = replace(experiment.frozen[split.name], embeddings=embeddings)
            experiment = replace(experiment, frozen=dict.fromkeys(experiment.frozen, seen))
        train_folds(replace(experiment, splits=(split,)))
        found[way] = read_bytes(experiment.run.path)
    assert {"gate.json", "pseudo.csv", "inner.csv"} < set(found["plain"])
    assert found["outer"] == found["plain"]
    assert found["train"]["gate.json"] != found["plain"]["gate.json"]


def test_labels_that_are_wrong_are_trusted_less(embed: Embed) -> None:
    """A fifth of the labels is flipped; heads of other cases find these unlikely."""
    rng = np.random.default_rng(0)
    y = draw_classes(120, EVEN, rng)
    x, wrong = draw_looks(y, rng, size=8, apart=5), rng.random(120) < 0.2
    given = np.where(wrong, (y + 1) % 3, y)
    nobody = np.empty((0, 8))
    for method in ("bootstrap", "small_loss"):
        noise = Noise(method=method, given_frac=0.6, aside_frac=0.2)
        teacher = Teacher(HEADS.build("ridge"), see(x, given, nobody), 0.3, Pseudo(), noise)
        lesson = teacher.begin(np.arange(120), np.empty(0, np.bool_))
        labels = teacher.correct(lesson, seed=0).labels
        trust = labels[np.arange(120), given] / labels.sum(axis=1) if method == "bootstrap" else labels.max(axis=1)
        assert trust[wrong].mean() < trust[~wrong].mean() - 0.1
        assert (np.bincount(given, trust > 0.5) > 0).all()
    assert int((labels.max(axis=1) < 0.5).sum()) == sum(int(0.2 * n) for n in np.bincount(given))
    experiment = part_cohort(embed, x, given, nobody, *FOLDS, "train.noise.method=small_loss")
    train_folds(experiment)
    verdicts = json.loads((experiment.run.path / "gate.json").read_text(encoding="utf-8"))
    assert [v["part"] for v in verdicts] == ["labels, small_loss"] * 3
    assert all(v["about"].endswith("count less than 90%") and "labels 0 " not in v["about"] for v in verdicts)
    assert not (experiment.run.path / "pseudo.csv").exists()


TURNED = (
    "train.pseudo.rounds=2", "train.pseudo.weight=0.1", "train.pseudo.share_frac=0.2", "train.pseudo.agreement_frac=0",
    "train.pseudo.prior=labelled", "train.pseudo.sharpness=1", "train.pseudo.dropout=0.5",
    "train.pseudo.unlike_frac=0.5", "train.gate.keep=off", "model.head=lda", "train.noise.method=bootstrap",
)  # fmt: skip


def test_every_knob_is_read(embed: Embed) -> None:
    x, y, free = draw_problem(free=80)
    weights = []
    for number, setting in enumerate(("train.pseudo.rounds=1", *TURNED)):
        experiment = part_cohort(embed, x, y, free, *KEPT, setting, name=f"turned{number}")
        train_folds(replace(experiment, splits=experiment.splits[:1]))
        weights.append(read_weights(experiment))
    same = [
        setting for setting, other in zip(TURNED, weights[1:], strict=True) if np.allclose(other, weights[0], atol=1e-9)
    ]
    assert same == []


def test_gate_knobs_are_read(embed: Embed) -> None:
    x, y, free = draw_problem(free=80)
    found = []
    for n, setting in enumerate(("train.gate.repeats=2", "train.gate.metric=accuracy", "train.gate.confidence=0.6")):
        experiment = part_cohort(embed, x, y, free, *KEPT, setting, name=f"g{n}")
        train_folds(replace(experiment, splits=experiment.splits[:1]))
        found.append(json.loads((experiment.run.path / "gate.json").read_text(encoding="utf-8"))[0])
    assert [v["n_trainings"] for v in found] == [10, 5, 5]
    assert [v["metric"] for v in found] == ["log_loss", "accuracy", "log_loss"]
    assert [v["confidence"] for v in found] == [0.9, 0.9, 0.6]


# --- planted truths ------------------------------------------------------------------------------------------------


def measure_gain(embed: Embed, seed: int, *settings: str, shuffled: bool = False) -> tuple[float, list[bool]]:
    """Macro-F1 on many new images, with less without pseudo-labels; and whether folds kept them."""
    x, y, free = draw_problem(seed, number=30, free=200)
    rng = np.random.default_rng(1000 + seed)
    new_y = draw_classes(1500, EVEN, rng)
    new = draw_looks(new_y, rng)
    y = rng.permutation(y) if shuffled else y
    scores = []
    for name, more in (("without", ()), ("with", ("train.pseudo.rounds=1", "train.gate.repeats=1", *settings))):
        experiment = part_cohort(embed, x, y, free, "split.folds=3", *more, name=f"{name}{seed}")
        experiment = replace(experiment, splits=experiment.splits[:1])
        train_folds(experiment)
        weights = read_checkpoint(experiment.run.checkpoints / "fold0-seed0.safetensors")["weights"]
        head = {key: value.double().numpy() for key, value in weights.items()}
        seen = (new - head["head.center"]) / head["head.scale"]
        logits = seen @ head["head.linear.weight"].T + head["head.linear.bias"]
        scores.append(float(f1_score(new_y, logits.argmax(axis=1), average="macro")))
    verdicts = json.loads((experiment.run.path / "gate.json").read_text(encoding="utf-8"))
    return scores[1] - scores[0], [v["kept"] for v in verdicts]


def test_few_labels_of_the_same_population_gain(embed: Embed) -> None:
    gains = [measure_gain(embed, seed, "train.gate.keep=always")[0] for seed in range(3)]
    assert np.mean(gains) > 0.005


def test_labels_that_mean_nothing_are_kept_rarely(embed: Embed) -> None:
    kept = [measure_gain(embed, seed, shuffled=True)[1][0] for seed in range(4)]
    assert sum(kept) <= 1


@pytest.mark.parametrize("setting", ["model.head=steps", "train.finetune.epochs=2"])
@pytest.mark.parametrize("asked", ["train.pseudo.rounds=1", "train.noise.method=bootstrap"])
def test_what_is_not_solved_takes_no_pseudo_labels(asked: str, setting: str) -> None:
    settings = ["model.head=logistic", "train.finetune.epochs=0", asked, setting]
    with pytest.raises(RecipeError, match=rf"{asked.partition('=')[0]} .* Fix: --set model\.head=logistic"):
        check_parts(load_recipe(settings=settings))
