"""Drawn images in one fold: four gates, in this order, each of which may refuse them by name.

1. *class*: heads that know neither the drawn image nor what it was drawn from find the class that it is to show;
2. *memory*: it is no nearer to images that it was not drawn from than real images of different cases are;
3. *seen through*: a classifier of other cases hardly tells drawn from real;
4. *gain*: inner cases gain by it (`smalti.train.gate`).

What was drawn teaches only where every image that it was drawn from may teach.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from ...models import Head
from ...records import GateVerdict
from ...types import Split
from ..experiment import Experiment
from ..gate import Inner, Turn, hold_out, judge, open_inner
from ..heads import HEADS, Linear, Solved, Solver, fit_heat
from .looking import DrawnImages

SURE = 2.0  # standard errors
NEAR_FRAC = 0.25  # of real images are nearer to another case than what counts as near
MOST_AUC = 0.75  # above which drawn images are told from real ones
LEAST_DRAWN = 5
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TaughtDrawn:
    """A solved head after drawn images were tried, and the verdict."""

    solved: Solved
    verdict: GateVerdict


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a fold knows: its labelled images, and what may be drawn from them.

    Attributes:
        x: (n, D) standardised embeddings of the labelled images that are not outer.
        y, weights, cases: (n,) of them.
        drawn: (k, D) of what was drawn.
        targets: (k,) the classes that these are to show.
        sources: of each, positions among the labelled images of the fold.
        solver, strength: of the head.
        weight: what a drawn image counts beside 1 of a real one.
    """

    x: Floats
    y: Ints
    weights: Floats
    cases: Ints
    drawn: Floats
    targets: Ints
    sources: tuple[Ints, ...]
    solver: Solver
    strength: float
    weight: float

    def solve(self, learned: Ints, *, beside: bool) -> Linear:
        """Solve the head on some images, with what was drawn from these alone ``beside`` them."""
        x, y, weights = self.x[learned], self.y[learned], self.weights[learned]
        if beside:
            may = [i for i, found in enumerate(self.sources) if np.isin(found, learned).all()]
            of_class = np.bincount(y, weights) / np.maximum(np.bincount(y), 1)  # what an image of each class counts
            x = np.concatenate([x, self.drawn[may]])
            weights = np.concatenate([weights, self.weight * of_class[self.targets[may]]])
            y = np.concatenate([y, self.targets[may]])
        return self.solver.open_path(x, y, weights)(self.strength)


def teach_drawn(
    experiment: Experiment, split: Split, head: Head, solved: Solved, labelled: tuple[Floats, Ints, Floats],
    drawn: DrawnImages,
) -> TaughtDrawn:  # fmt: skip
    """Try drawn images in a fold; return the head with them where all gates let them pass.

    Args:
        experiment: the fold is of it.
        split: its training part is all that is not outer.
        head: whose centre and scale standardise embeddings.
        solved: the head without them.
        labelled: (views, n, D) standardised embeddings of the training part, classes and weights.
        drawn: of the whole cohort; only what comes from the training part is looked at.
    """
    x, y, weights = labelled
    train, cohort = experiment.recipe.train, experiment.cohort
    place = {int(image): i for i, image in enumerate(split.train)}
    mine = [i for i, found in enumerate(drawn.sources) if all(int(one) in place for one in found)]
    center, scale = (value.cpu().double().numpy() for value in (head.center, head.scale))
    cases = np.unique([cohort.labelled[i].case for i in split.train], return_inverse=True)[1].ravel()
    lesson = Lesson(
        x[0], y, weights, cases, (drawn.embeddings[mine] - center) / scale, drawn.targets[mine],
        tuple(np.array([place[int(one)] for one in drawn.sources[i]]) for i in mine),
        HEADS.build(experiment.recipe.model.head), solved.strength, train.synthesis.weight,
    )  # fmt: skip
    by_site = experiment.recipe.split.group == "site"
    inner = open_inner(cohort, split, repeats=train.gate.repeats, by_site=by_site)
    part = f"synthesis by {train.synthesis.method}"
    with threadpool_limits(1):
        refused, about = examine(lesson, inner)
        if refused:
            verdict = judge(replace(inner, turns=()), None, None, part=part, gate=train.gate, about=about)
            return TaughtDrawn(solved, verdict.model_copy(update={"kept": False, "reason": f"refused: {refused}"}))
        before, after = (_score(lesson, inner, beside=beside) for beside in (False, True))
        scores = [softmax(logits, axis=2) for logits, _ in (before, after)]
        verdict = judge(inner, *scores, part=part, gate=train.gate, about=about)
        if not verdict.kept:
            return TaughtDrawn(solved, verdict)
        logits, heats = after
        whole = lesson.solve(np.arange(len(y)), beside=True)
    taught = Linear(whole.weight / heats[0], whole.bias / heats[0])
    return TaughtDrawn(replace(solved, head=taught, logits=logits[0]), verdict)


def examine(lesson: Lesson, inner: Inner) -> tuple[str, str]:
    """Return why drawn images are refused, empty where they pass the first three gates; and what was measured."""
    count = len(lesson.targets)
    if count < LEAST_DRAWN or not inner.turns:
        why = (
            "no case can be held out"
            if not inner.turns
            else f"fewer than {LEAST_DRAWN} come from what the fold may know"
        )
        return why, f"{count} drawn"
    found, luck, error = find_class(lesson, inner)
    near, most = find_memory(lesson)
    auc, auc_error = see_through(lesson, inner)
    about = (
        f"{count} drawn; class found in {found:.0%} (by chance {luck:.0%}); {near:.0%} nearer to an image that they do "
        f"not come from than {1 - NEAR_FRAC:.0%} of real ones are; told from real with AUC {auc:.2f}"
    )
    if found < luck + SURE * error:
        return "heads of other cases do not find the class that was to be drawn", about
    if near > most:
        return "they are nearer to real images than those of different cases are: images were memorised", about
    if auc - SURE * auc_error > MOST_AUC:
        return "a classifier of other cases tells them from real images", about
    return "", about


def find_class(lesson: Lesson, inner: Inner) -> tuple[float, float, float]:
    """Return the share of drawn images whose class is found by heads that know none of their sources, the share that
    would be found by chance, and its standard error where classes are dealt to drawn images blindly."""
    said = np.full(len(lesson.targets), -1)
    for turn in inner.turns:
        if turn.repeat:
            continue
        unknown = [i for i, found in enumerate(lesson.sources) if not np.isin(found, turn.learned).any()]
        # Where a drawn image comes from many, the one that gave its class must be unknown at least.
        unknown += [
            i for i, found in enumerate(lesson.sources)
            if said[i] < 0 and found[0] in turn.held and i not in unknown
        ]  # fmt: skip
        if unknown:
            said[unknown] = lesson.solve(turn.learned, beside=False)(lesson.drawn[unknown]).argmax(axis=1)
    asked = said >= 0
    if not asked.any():
        return 0.0, 1.0, 0.0
    right, wanted, named = (said == lesson.targets)[asked], lesson.targets[asked], said[asked]
    classes = int(max(wanted.max(), named.max())) + 1
    shares = (np.bincount(part, minlength=classes) / len(part) for part in (wanted, named))
    luck = float(np.prod(list(shares), axis=0).sum())
    return float(right.mean()), luck, float(np.sqrt(luck * (1 - luck) / len(right)))


def find_memory(lesson: Lesson) -> tuple[float, float]:
    """Return the share of drawn images that lie nearer to an image of a case they do not come from than all but
    `NEAR_FRAC` of real images do to another case; and the most that is let pass.

    Where everything that is known is a source, as of a network that has drawn them, none is left out.
    """
    apart = cdist(lesson.x, lesson.x)
    apart[lesson.cases[:, None] == lesson.cases] = np.inf
    usual = np.quantile(apart.min(axis=1), NEAR_FRAC)
    distances = cdist(lesson.drawn, lesson.x)
    for i, found in enumerate(lesson.sources):
        own = np.isin(lesson.cases, lesson.cases[found])
        if not own.all():
            distances[i, own] = np.inf
    near = float((distances.min(axis=1) < usual).mean())
    error = np.sqrt(NEAR_FRAC * (1 - NEAR_FRAC) * (1 / len(distances) + 1 / len(apart)))  # the quantile has one, too
    return near, NEAR_FRAC + SURE * float(error)


def see_through(lesson: Lesson, inner: Inner) -> tuple[float, float]:
    """Return the AUC with which heads tell drawn from real images of cases that they do not know, and its error
    (Hanley & McNeil 1982, by the number of cases)."""
    owners = np.array([lesson.cases[found[0]] for found in lesson.sources])
    both = np.concatenate([lesson.x, lesson.drawn])
    drawn = np.repeat([0, 1], [len(lesson.x), len(lesson.drawn)])
    cases = np.concatenate([lesson.cases, owners])
    score = np.full(len(both), np.nan)
    for turn in (turn for turn in inner.turns if not turn.repeat):
        held = np.isin(cases, lesson.cases[turn.held])
        if len(np.unique(drawn[~held])) < 2:
            continue
        counts = np.bincount(drawn[~held])
        weights = (len(counts) / 2 / counts)[drawn[~held]]
        logits = lesson.solver.open_path(both[~held], drawn[~held], weights)(lesson.strength)(both[held])
        score[held] = logits[:, 1] - logits[:, 0]
    known = ~np.isnan(score)
    if len(np.unique(drawn[known])) < 2:
        return 0.5, 0.5
    auc = float(roc_auc_score(drawn[known], score[known]))
    n = len(np.unique(cases[known]))
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (n - 1) * (first - auc**2) + (n - 1) * (second - auc**2)
    return auc, float(np.sqrt(max(spread, 0)) / n)


def _score(lesson: Lesson, inner: Inner, *, beside: bool) -> tuple[Floats, list[float]]:
    """Return logits (R, n, C) of the inner images while they were held out, divided by a temperature for each repeat,
    and these."""

    def learn(turn: Turn) -> Floats:
        return lesson.solve(turn.learned, beside=beside)(lesson.x[turn.held])

    logits = hold_out(inner, learn)
    fit = partial(fit_heat, y=lesson.y, weights=lesson.weights, cases=len(np.unique(inner.cases)))
    heats = [fit(one)[0] for one in logits]
    return logits / np.array(heats)[:, None, None], heats
