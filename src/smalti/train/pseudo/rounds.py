"""Rounds of labelling and learning: heads of other cases label the candidates, and a student learns from both.

In each round a few heads, each of which lacks some cases, label the candidates:

1. one temperature, fitted on the cases that each head lacks, makes their scores probabilities;
2. the shares of the classes among the candidates are estimated from these, and the scores follow them;
3. each class gets a quota by its share, filled with the surest images that the heads agree on;
4. the student learns from labelled images and from these, whose labels are sharpened (Berthelot et al. 2019) and
   stay soft. An unlabelled image counts half a
   labelled one at most, each class weighs among them what it weighs among the labelled, and a part of the embedding is
   blanked (noisy student, Xie et al. 2020).

A round is tried in turns on inner cases before it is kept; the next one begins with its student.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ... import recipe
from ...records import GateVerdict
from ...samples import deal_cases
from ..gate import Inner, hold_out, judge
from ..heads import Linear, Solved, Solver, fit_heat
from .eligible import Seen
from .prior import estimate_prior, shift_prior

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MEMBERS = 3  # heads that label, each of which lacks a third of the cases
LEAST_LABEL = 1e-3  # of the largest share of a soft label; smaller ones would only make rows
DOUBTED = 0.9  # a label that counts less than this share is said to
SET_ASIDE = 0.01  # what is left of a label that is set aside, so that no class is lost


@dataclass(frozen=True, slots=True)
class Accepted:
    """Candidates that teach.

    Attributes:
        rows: (k,) positions among the candidates.
        labels: (k, C) soft labels.
        agreement: (k,) share of the heads that give the same class.
        shares: (C,) of the classes among all candidates, as estimated.
    """

    rows: Ints
    labels: Floats
    agreement: Floats
    shares: Floats


@dataclass(frozen=True, slots=True)
class Lesson:
    """A head and what it has learned from.

    Attributes:
        learned: (m,) positions of labelled images.
        free: (u,) which candidates may teach it.
        accepted: those that do.
        labels: (m, C) what each class counts of a labelled image.
    """

    learned: Ints
    labels: Floats
    free: Bools
    accepted: Accepted
    head: Linear


@dataclass(frozen=True, slots=True)
class Round:
    """What was tried on all inner cases, and its verdict; the number of a round, 0 for what was done about labels."""

    number: int
    lesson: Lesson
    verdict: GateVerdict


@dataclass(frozen=True, slots=True)
class Taught:
    """A solved head after all rounds that were kept, and the rounds that were tried."""

    solved: Solved
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True, slots=True)
class Teacher:
    """How lessons are given: one kind of head, held back by one strength, in all turns and rounds."""

    solver: Solver
    seen: Seen
    strength: float
    pseudo: recipe.Pseudo
    noise: recipe.Noise = field(default_factory=recipe.Noise)

    def begin(self, learned: Ints, free: Bools) -> Lesson:
        """Return the lesson without any candidate."""
        classes = int(self.seen.y.max()) + 1
        none, labels = _accept_none(classes), np.eye(classes)[self.seen.y[learned]]
        return Lesson(learned, labels, free, none, self.solve(learned, labels, none))

    def give(self, lesson: Lesson, *, seed: int) -> Lesson:
        """Return the lesson after one more round."""
        accepted = self.accept(lesson, seed=seed)
        return replace(lesson, accepted=accepted, head=self.solve(lesson.learned, lesson.labels, accepted))

    def correct(self, lesson: Lesson, *, seed: int) -> Lesson:
        """Return the lesson with less trust in labels that heads of other cases find unlikely."""
        held, noise = self.label(lesson, np.empty(0, np.int64), seed=seed)[0], self.noise
        if not len(held):
            return lesson
        labels = lesson.labels.copy()
        if noise.method == "bootstrap":
            labels = noise.given_frac * labels + (1 - noise.given_frac) * held
        else:
            y = self.seen.y[lesson.learned]
            for number in range(labels.shape[1]):
                mine = np.flatnonzero(y == number)
                aside = np.argsort(held[mine, number], kind="stable")[: int(noise.aside_frac * len(mine))]
                labels[mine[aside]] *= SET_ASIDE
        return replace(lesson, labels=labels, head=self.solve(lesson.learned, labels, lesson.accepted))

    def solve(self, learned: Ints, labels: Floats, accepted: Accepted) -> Linear:
        """Solve the head on labelled images with ``labels`` (m, C), and on candidates.

        An image with a soft label is one row for each class, which counts as much as the label says; every loss here
        is linear in the label.
        """
        seen, weights, (views, _, size) = self.seen, self.seen.weights[learned], self.seen.x.shape
        more = weigh_labels(seen.y[learned], weights, accepted.labels, self.pseudo.weight)
        x, y, count = [], [], []
        for known, rows, shares in (
            (seen.x, learned, labels * weights[:, None]), (seen.noisy, accepted.rows, more),
        ):  # fmt: skip
            at, classes = np.nonzero(shares > LEAST_LABEL * shares.max(axis=1, keepdims=True, initial=0.0))
            x.append(known[:, rows[at]].reshape(-1, size))
            y.append(np.tile(classes, views))
            count.append(np.tile(shares[at, classes], views))
        return self.solver.open_path(np.concatenate(x), np.concatenate(y), np.concatenate(count))(self.strength)

    def accept(self, lesson: Lesson, *, seed: int) -> Accepted:
        """Choose among the candidates of a lesson by what heads say that each lack some of its cases."""
        pseudo, free, learned = self.pseudo, np.flatnonzero(lesson.free), lesson.learned
        weights, cases = self.seen.weights[learned], len(np.unique(self.seen.cases[learned]))
        prior = np.bincount(self.seen.y[learned], weights) / weights.sum()
        scores = self.label(lesson, free, seed=seed)[1]
        if not len(scores) or not len(free):
            return _accept_none(len(prior))
        mean, estimates = scores.mean(axis=0), pseudo.prior == "estimated"
        shares = estimate_prior(mean, prior, imagined=cases) if estimates else prior
        labels = shift_prior(mean, prior, shares) ** pseudo.sharpness
        labels /= labels.sum(axis=1, keepdims=True)
        named = labels.argmax(axis=1)
        agreement = (shift_prior(scores, prior, shares).argmax(axis=2) == named).mean(axis=0)
        chosen = []
        for number, quota in enumerate(np.round(pseudo.share_frac * len(free) * shares).astype(np.int64)):
            mine = np.flatnonzero((agreement >= pseudo.agreement_frac) & (named == number))
            chosen.append(mine[np.argsort(-labels[mine, number], kind="stable")[:quota]])
        rows = np.sort(np.concatenate(chosen))
        return Accepted(free[rows], labels[rows], agreement[rows], shares)

    def label(self, lesson: Lesson, free: Ints, *, seed: int) -> tuple[Floats, Floats]:
        """Return what M heads say that each lack some cases of a lesson, under the one temperature that fits what they
        say about these: scores of these (m, C), and of candidates (M, u, C). Nothing where a class has a single case.
        """
        seen, learned = self.seen, lesson.learned
        y, cases = seen.y[learned], np.unique(seen.cases[learned], return_inverse=True)[1]
        dealt = (deal_cases(y, cases, folds=folds, seed=seed) for folds in range(MEMBERS, 1, -1))
        parts: list[Ints] = next((parts for parts in dealt if parts is not None), [])
        heads, logits, known = [], np.empty((len(y), int(y.max()) + 1)), lesson.accepted
        for part in parts:
            rest, held = np.delete(learned, part), learned[part]
            may = seen.may_teach(rest, held)[known.rows]
            fewer = replace(known, rows=known.rows[may], labels=known.labels[may])
            heads.append(self.solve(rest, np.delete(lesson.labels, part, axis=0), fewer))
            logits[part] = heads[-1](seen.x[0, held])
        if not heads:
            return logits[:0], np.empty((0, len(free), logits.shape[1]))
        heat, _ = fit_heat(logits, y, seen.weights[learned], cases=int(cases.max()) + 1)
        said = np.stack([head(seen.free[0, free]) for head in heads])
        return softmax(logits / heat, axis=1), softmax(said / heat, axis=2)


def _accept_none(classes: int) -> Accepted:
    """Return no candidate."""
    return Accepted(np.empty(0, np.int64), np.empty((0, classes)), np.empty(0), np.empty(0))


def weigh_labels(y: Ints, weights: Floats, labels: Floats, most: float) -> Floats:
    """Return what each class of a soft label counts, (k, C): each class as much among soft ``labels`` (k, C) as among
    labelled images of classes ``y`` and ``weights`` (n,), so that the shares of the classes among unlabelled images do
    not move the head; no label more than ``most`` times a labelled image of its class.
    """
    mass, held = np.bincount(y, weights), labels.sum(axis=0)
    if not len(labels) or held.min() <= 0:
        return np.zeros_like(labels)
    reach = most * mass / np.bincount(y)  # of one label of each class
    scale = (reach * held / mass).min()
    return np.asarray(labels * scale * mass / held)


def teach_unlabelled(
    teacher: Teacher, inner: Inner, solved: Solved, *, gate: recipe.Gate, about: str = "",
    tell: Callable[[int, int], None] | None = None,
) -> Taught:  # fmt: skip
    """Try what is to be done about labels, then rounds until one is not kept; return the head after what was kept, and
    all that was tried.

    The strength is the one that was chosen without candidates, so that before and after differ in nothing else. Scores
    of inner images are those of heads that did not have their cases, with one temperature for each repeat and side.

    Args:
        teacher: its images are those of ``inner``.
        inner: what chooses.
        solved: the head without any candidate, returned as it is where no round is kept.
        gate: when a round is kept.
        about: what to say about the candidates.
        tell: hears of (turns done, turns to do).
    """
    seen, tried = teacher.seen, list[Round]()
    lessons = {t.seed: teacher.begin(t.learned, seen.may_teach(t.learned, t.held)) for t in inner.turns}
    whole = teacher.begin(np.arange(len(seen.y)), np.ones(len(seen.free_cases), np.bool_))
    before = _score(inner, teacher, lessons)
    numbers = [*([0] if teacher.noise.method != "none" else []), *range(1, teacher.pseudo.rounds + 1)]
    for place, number in enumerate(numbers):
        give = teacher.give if number else teacher.correct
        following = {}
        for done, (seed, lesson) in enumerate(lessons.items(), 1):
            following[seed] = give(lesson, seed=seed)
            if tell is not None:
                tell(place * len(lessons) + done, len(numbers) * len(lessons))
        after, next_whole = _score(inner, teacher, following), give(whole, seed=inner.split.seed)
        part = f"pseudo-labels, round {number}" if number else f"labels, {teacher.noise.method}"
        doubted = int((next_whole.labels[np.arange(len(seen.y)), seen.y] < DOUBTED).sum())
        said = about + _describe(next_whole, inner.classes)
        if not number:
            said = f"of {len(seen.y)} labels {doubted} count less than {DOUBTED:.0%}"
        scores = [None if logits is None else softmax(logits[0], axis=2) for logits in (before, after)]
        verdict = judge(inner, *scores, part=part, gate=gate, about=said)
        tried.append(Round(number, next_whole, verdict))
        if verdict.kept:
            lessons, whole, before = following, next_whole, after
        elif number:
            break
    if not any(one.verdict.kept for one in tried):
        return Taught(solved, tuple(tried))
    logits, heats = (np.empty((1, 0, len(inner.classes))), [1.0]) if before is None else before
    head = Linear(whole.head.weight / heats[0], whole.head.bias / heats[0])
    return Taught(replace(solved, head=head, logits=logits[0]), tuple(tried))


def _score(inner: Inner, teacher: Teacher, lessons: dict[int, Lesson]) -> tuple[Floats, list[float]] | None:
    """Return logits (R, n, C) of the inner images while they were held out, divided by a temperature for each repeat,
    and these; None where there are no turns."""
    if not inner.turns:
        return None
    seen = teacher.seen
    logits = hold_out(inner, lambda turn: lessons[turn.seed].head(seen.x[0, turn.held]))
    cases = len(np.unique(inner.cases))
    heats = [fit_heat(one, seen.y, seen.weights, cases=cases)[0] for one in logits]
    return logits / np.array(heats)[:, None, None], heats


def _describe(lesson: Lesson, classes: tuple[str, ...]) -> str:
    """Return how many candidates were accepted, and the share of each class among them."""
    accepted = lesson.accepted
    text = f"{len(accepted.rows)} of {len(lesson.free)} accepted"
    if not len(accepted.rows):
        return text
    named = np.bincount(accepted.labels.argmax(axis=1), minlength=len(classes)) / len(accepted.rows)
    took, estimated = (
        ", ".join(f"{name} {share:.0%}" for name, share in zip(classes, shares, strict=True))
        for shares in (named, accepted.shares)
    )
    return f"{text} ({took}); estimated shares of all: {estimated}"
