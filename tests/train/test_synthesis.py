"""Drawn images: what paste keeps, and that each gate refuses the generator that is planted for it, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax

from smalti.errors import RecipeError
from smalti.predict import predict_outer
from smalti.recipe import Gate, load_recipe
from smalti.records import GateRecord
from smalti.records.layout import DRAWN_SHEET
from smalti.train import check_parts, train_folds
from smalti.train.gate import Inner, Turn, judge
from smalti.train.heads import HEADS, Linear
from smalti.train.synthesis import DrawnImages
from smalti.train.synthesis.paste import blend
from smalti.train.synthesis.teaching import Lesson, _score, examine
from smalti.types import Split
from smalti.workflow import run
from smalti.workflow.stages import reopen

N, D, TURNS = 80, 6, 5


def draw_real(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eighty images of forty cases, two classes that one of six numbers tells apart; each case has an offset."""
    rng = np.random.default_rng(seed)
    cases = np.repeat(np.arange(N // 2), 2)
    y = cases % 2
    x = rng.normal(size=(N, D)) + 0.7 * rng.normal(size=(N // 2, D))[cases]
    x[:, 0] += 3 * y
    return x, y, cases


def make_lesson(drawn: np.ndarray, targets: np.ndarray, sources: list[np.ndarray], weight: float = 0.5) -> Lesson:
    x, y, cases = draw_real()
    return Lesson(x, y, np.ones(N), cases, drawn, targets, tuple(sources), HEADS.build("logistic"), 0.01, weight)


def make_inner(lesson: Lesson) -> Inner:
    parts = [np.flatnonzero(lesson.cases % TURNS == turn) for turn in range(TURNS)]
    turns = tuple(Turn(0, number, np.setdiff1d(np.arange(N), part), part) for number, part in enumerate(parts))
    split = Split(0, 0, np.arange(N), np.empty(0, np.int64), np.empty(0, np.int64))
    return Inner(split, ("a", "b"), np.arange(N), lesson.y, lesson.cases, turns)


def pairs(rng: np.random.Generator, cases: np.ndarray) -> list[np.ndarray]:
    return [np.array([i, rng.choice(np.flatnonzero(cases != cases[i]))]) for i in range(N)]


def draw_well(seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The label's number from one image and the rest from another: new images of the same population."""
    rng = np.random.default_rng(seed)
    x, y, cases = draw_real()
    sources = pairs(rng, cases)
    drawn = np.stack([np.concatenate([x[i, :1], x[j, 1:]]) for i, j in sources]) + 0.3 * rng.normal(size=(N, D))
    return drawn, y, sources


def judge_drawn(drawn: np.ndarray, targets: np.ndarray, sources: list[np.ndarray]) -> str:
    lesson = make_lesson(drawn, targets, sources)
    return examine(lesson, make_inner(lesson))[0]


def test_a_generator_that_draws_the_class_passes():
    assert judge_drawn(*draw_well()) == ""


def test_a_generator_that_knows_no_class_is_refused_by_name():
    drawn, targets, sources = draw_well()
    for seed in range(5):
        blind = np.random.default_rng(seed).permutation(targets)
        assert "do not find the class" in judge_drawn(drawn, blind, sources)


def test_a_generator_that_memorises_is_refused_by_name():
    x, y, _ = draw_real()
    near = x + 0.01 * np.random.default_rng(0).normal(size=x.shape)
    # A network has seen everything, so that everything is a source.
    everything = [np.concatenate([[i], np.delete(np.arange(N), i)]) for i in range(N)]
    assert "memorised" in judge_drawn(near, y, everything)


def test_a_generator_that_is_seen_through_is_refused_by_name():
    drawn, targets, sources = draw_well()
    assert "tells them from real" in judge_drawn(drawn + np.eye(D)[3] * 4, targets, sources)


def test_what_comes_from_a_held_image_does_not_teach():
    drawn, targets, sources = draw_well()
    lesson = make_lesson(drawn, targets, sources)
    held = np.array([0, 1])
    learned = np.setdiff1d(np.arange(N), held)
    spoilt = drawn.copy()
    from_held = [i for i, found in enumerate(sources) if np.isin(found, held).any()]
    spoilt[from_held] += 1e3
    one, two = (make_lesson(d, targets, sources).solve(learned, beside=True) for d in (drawn, spoilt))
    assert np.array_equal(one.weight, two.weight)
    # And the others do.
    plain = lesson.solve(learned, beside=False)
    assert not np.allclose(one.weight, plain.weight)


def test_scores_of_held_images_do_not_depend_on_what_was_drawn_from_them():
    drawn, targets, sources = draw_well()
    lesson = make_lesson(drawn, targets, sources)
    inner = make_inner(lesson)
    held = inner.turns[0].held
    leaked = drawn.copy()
    mine = [i for i, found in enumerate(sources) if np.isin(found, held).any()]
    leaked[mine] = 100 * (2 * lesson.y[[sources[i][0] for i in mine]] - 1)[:, None]
    one = _score(lesson, inner, beside=True)[0] * _score(lesson, inner, beside=True)[1][0]
    other = make_lesson(leaked, targets, sources)
    two = _score(other, inner, beside=True)
    np.testing.assert_allclose((two[0] * two[1][0])[0, held], one[0, held], atol=1e-9)


Embed = Callable[..., Any]
WIDE, RIDGE = 40, HEADS.build("ridge")


def teach_noise(embed: Embed, seed: int) -> tuple[list[bool], float]:
    """Which folds keep copies of images whose labels mean nothing, and the share that is right on outer images."""
    rng = np.random.default_rng(seed)
    x, cases = rng.normal(size=(N, WIDE)), np.arange(N) // 2
    y = rng.permutation(np.arange(N // 2) % 2)[cases]
    copies = (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32)
    none = np.empty((0, 1, 1, 3), np.uint8)
    settings = ("model.head=ridge", "split.folds=3", "train.synthesis.method=paste", "train.gate.repeats=1")
    experiment = embed(x, y, *settings, cases=cases, name=f"noise{seed}")
    drawn = DrawnImages(copies, y, tuple(pairs(rng, cases)), none, none)
    experiment = replace(experiment, drawn=drawn)
    train_folds(experiment)
    table = predict_outer(experiment)
    right = (table["score_1"] > 0.5) == (table["label"].astype(int) == 1)
    return [verdict.kept for verdict in GateRecord.read(experiment.run.path).verdicts], float(right.mean())


def test_labels_that_mean_nothing_are_kept_rarely_and_the_outer_score_is_chance(embed: Embed) -> None:
    found = [teach_noise(embed, seed) for seed in range(3)]
    assert sum(kept for verdicts, _ in found for kept in verdicts) <= 1
    assert abs(np.mean([right for _, right in found]) - 0.5) < 2.6 * 0.5 / np.sqrt(3 * N / 2)


@pytest.mark.slow
def test_drawn_images_that_know_what_is_held_out_are_seen_to_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of images whose labels mean nothing gain nothing where only what may teach does, and else are kept."""

    def judge_copies(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        x, cases = rng.normal(size=(N, WIDE)), np.arange(N) // 2
        y = rng.permutation(np.arange(N // 2) % 2)[cases]
        sources = tuple(np.array([i]) for i in range(N))
        lesson = Lesson(x, y, np.ones(N), cases, x + 0.1 * rng.normal(size=x.shape), y, sources, RIDGE, 0.01, 1.0)
        inner = make_inner(lesson)
        scores = [softmax(_score(lesson, inner, beside=beside)[0], axis=2) for beside in (False, True)]
        return judge(inner, *scores, part="copies", gate=Gate()).kept

    honest, solve = [judge_copies(seed) for seed in range(4)], Lesson.solve

    def leak(self: Lesson, learned: np.ndarray, *, beside: bool) -> Linear:
        anybody = tuple(learned[:1] for _ in self.sources)  # every drawn image may teach in every turn
        return solve(replace(self, sources=anybody), learned, beside=beside)

    monkeypatch.setattr(Lesson, "solve", leak)
    assert not any(honest)
    assert sum(judge_copies(seed) for seed in range(4)) >= 3


def test_a_drawn_image_counts_its_share_of_a_real_one():
    x, y, _ = draw_real()
    sources = [np.array([i]) for i in range(N)]
    twice = make_lesson(x, y, sources, weight=1.0).solve(np.arange(N), beside=True)
    once = make_lesson(x, y, sources).solve(np.arange(N), beside=False)
    # Every image once more at full weight is the same mean loss.
    np.testing.assert_allclose(twice.weight, once.weight, atol=1e-3)


def test_paste_keeps_what_is_under_the_mask_and_shows_the_other_elsewhere():
    rng = np.random.default_rng(0)
    tiles, others = (rng.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8) for _ in range(2))
    masks, other_masks = np.zeros((2, 2, 32, 32), np.uint8)
    masks[:, 8:20, 8:20] = 1
    other_masks[:, 24:, :] = 1
    for edge in (0.0, 2.0):
        mixed = blend(tiles, masks, others, other_masks, edge_px=edge)
        assert np.array_equal(mixed[masks == 1], tiles[masks == 1])
        assert np.array_equal(mixed[other_masks == 1], tiles[other_masks == 1])  # no diseased surroundings
        assert np.array_equal(mixed[:, 0:2, 26:], others[:, 0:2, 26:])
    hard = blend(tiles, masks, others, other_masks, edge_px=0.0)
    rest = (masks | other_masks) == 0
    assert np.array_equal(hard[rest], others[rest])


def test_what_drawn_images_cannot_teach_beside_is_refused_at_once():
    settings = ["model.norm=live", "model.head=logistic", "train.synthesis.method=paste"]
    with pytest.raises(RecipeError, match=r"pseudo(.|\n)*stain|stain(.|\n)*pseudo"):
        check_parts(load_recipe("quick", settings=[*settings, "train.pseudo.rounds=1", "stain.normalise=macenko"]))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Twenty-four images of twelve cases, each with a mask: class b has a bright square in it."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    rows = ["image,mask,label,case"]
    for i in range(24):
        label = i // 2 % 2
        picture = rng.integers(60, 200, (48, 48, 3), dtype=np.uint8)
        mask = np.zeros((48, 48), np.uint8)
        mask[12:30, 12:30] = 255
        picture[12:30, 12:30] = 60 + 140 * label + rng.integers(0, 20, (18, 18, 3))
        cv2.imwrite(str(folder / "images" / f"i{i:02d}.png"), picture)
        cv2.imwrite(str(folder / "masks" / f"i{i:02d}.png"), mask)
        rows.append(f"images/i{i:02d}.png,masks/i{i:02d}.png,{'ab'[label]},c{i // 2}")
    (folder / "samples.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.slow
def test_a_run_judges_what_was_drawn_in_each_fold_and_marks_it(data, tmp_path):
    settings = [
        "audit.checks=[]", "train.watch=none", "evaluate.resamples=100", "split.folds=2", "tile.source=whole",
        "tile.size_px=48", "model.backbone=described:colour", "train.synthesis.method=paste", "train.gate.repeats=1",
    ]  # fmt: skip
    found = run(data, "quick", settings=settings, runs=tmp_path / "runs", name="drawn")
    verdicts = GateRecord.read(found.path).verdicts
    assert [v.part for v in verdicts] == ["synthesis by paste"] * 2
    assert all("drawn" in v.about for v in verdicts)
    experiment = reopen(found.path)
    assert experiment.drawn is not None
    cases = [s.case for s in experiment.cohort.labelled]
    assert len(experiment.drawn.targets) == len(cases)  # at most one drawn for one real
    for target, (i, j) in zip(experiment.drawn.targets, experiment.drawn.sources, strict=True):
        assert target == experiment.cohort.targets[i]
        assert cases[i] != cases[j]
    with Image.open(found.path / DRAWN_SHEET) as sheet:
        assert "DRAWN" in sheet.info["Description"]
    page = (found.path / "report.html").read_text()
    assert "synthesis by paste" in page
    assert "Images that were drawn" in page
