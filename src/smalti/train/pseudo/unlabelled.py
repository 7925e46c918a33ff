"""Pseudo-labels, and labels that may be wrong, in one fold of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ...models import Head
from ...records import GateVerdict
from ...types import SCORE_PREFIX, Sample, Split
from ..experiment import Experiment
from ..gate import open_inner
from ..heads import HEADS, Linear, Solved
from .eligible import Candidates, Seen, find_unlike, list_candidates
from .rounds import Round, Teacher, teach_unlabelled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TaughtFold:
    """A fold after what was tried beside its labels.

    Attributes:
        solved: the head, which is the one before where nothing was kept.
        verdicts: one for each part that was tried.
        rows: of ``pseudo.csv``.
    """

    solved: Solved
    verdicts: tuple[GateVerdict, ...] = ()
    rows: tuple[dict[str, object], ...] = ()


def teach_fold(
    experiment: Experiment, split: Split, head: Head, solved: Solved, labelled: tuple[Floats, Ints, Floats],
    *, tell: Callable[[int, int], None] | None = None,
) -> TaughtFold:  # fmt: skip
    """Trust labels less and let unlabelled images teach a solved head, where the recipe asks for it and the inner cases
    say that it helps.

    Args:
        experiment: its audit says which unlabelled images are unfit.
        split: whose training part holds all images that are not outer.
        head: whose centre and scale make embeddings standardised.
        solved: the head without unlabelled images.
        labelled: embeddings (views, n, D) of the training part, classes (n,) and weights (n,).
        tell: hears of (turns done, turns to do).
    """
    train = experiment.recipe.train
    found = list_candidates(experiment.cohort, split, unfit=experiment.unfit)
    asked = (train.pseudo.rounds and experiment.cohort.unlabelled) or train.noise.method != "none"
    if not asked or train.gate.keep == "off":
        return TaughtFold(solved)
    by_site = experiment.recipe.split.group == "site"
    inner = open_inner(experiment.cohort, split, repeats=train.gate.repeats, by_site=by_site)
    with threadpool_limits(1):
        seen = _look(experiment, split, head, found, labelled)
        unlike = find_unlike(seen, unlike_frac=train.pseudo.unlike_frac)
        seen, axes = _span(seen.take(~unlike))
        teacher = Teacher(HEADS.build(experiment.recipe.model.head), seen, solved.strength, train.pseudo, train.noise)
        left = {**found.left_out, "unlike every labelled image": int(unlike.sum())}
        about = "".join(f"{number} left out ({why}); " for why, number in sorted(left.items()) if number)
        taught = teach_unlabelled(teacher, inner, solved, gate=train.gate, about=about, tell=tell)
    after = taught.solved
    if axes is not None and after is not solved:
        after = replace(after, head=Linear(after.head.weight @ axes, after.head.bias))
    samples = [sample for sample, apart in zip(found.samples, unlike, strict=True) if not apart]
    rows = [row for one in taught.rounds for row in _list_accepted(one, samples, split, experiment.cohort.classes)]
    return TaughtFold(after, tuple(one.verdict for one in taught.rounds), tuple(rows))


def _look(
    experiment: Experiment, split: Split, head: Head, found: Candidates, labelled: tuple[Floats, Ints, Floats]
) -> Seen:
    """Return what a head sees of labelled images and candidates; what is blanked is drawn once for the fold."""
    x, y, weights = labelled
    embeddings = experiment.frozen[split.name].embeddings
    if embeddings is None:
        raise TypeError("a solved head needs embeddings of images")
    bags = np.array([experiment.store.position(s.image) for s in found.samples], dtype=np.int64)
    with torch.no_grad():
        free = ((embeddings[: len(x), bags] - head.center.cpu()) / head.scale.cpu()).double().numpy()
    dropout = experiment.recipe.train.pseudo.dropout
    # Of standardised numbers 0 is the mean of the labelled images.
    kept = np.random.default_rng([split.seed, split.fold]).random(free.shape) >= dropout
    images = [experiment.cohort.labelled[i] for i in split.train]
    return Seen(
        x, y, weights, _name(images, "case"), _name(images, "site"), free, free * kept / (1 - dropout),
        _name(found.samples, "case"), _name(found.samples, "site"),
    )  # fmt: skip


def _name(samples: tuple[Sample, ...] | list[Sample], what: str) -> NDArray[np.str_]:
    return np.array([getattr(s, what) for s in samples], dtype=np.str_)


def _span(seen: Seen) -> tuple[Seen, Floats | None]:
    """Return the same in orthonormal axes (k, D) of the space that all embeddings span, and these; None where they span
    all of it. No solver here tells one rotation from another."""
    parts = (seen.x, seen.free, seen.noisy)
    flat = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
    if len(flat) >= flat.shape[1]:
        return seen, None
    axes = np.linalg.qr(flat.T)[0].T
    return replace(seen, x=seen.x @ axes.T, free=seen.free @ axes.T, noisy=seen.noisy @ axes.T), axes


def _list_accepted(
    one: Round, samples: list[Sample], split: Split, classes: tuple[str, ...]
) -> list[dict[str, object]]:
    """Return rows of ``pseudo.csv``: the candidates of a round; none of what was done about labels."""
    accepted = one.lesson.accepted
    if not one.number:
        return []
    return [
        {
            "seed": split.seed, "fold": split.fold, "round": one.number, "kept": one.verdict.kept,
            "image": samples[row].image, "case": samples[row].case, "label": classes[int(label.argmax())],
            "agreement": float(agreement),
            **{f"{SCORE_PREFIX}{name}": float(share) for name, share in zip(classes, label, strict=True)},
        }
        for row, label, agreement in zip(accepted.rows, accepted.labels, accepted.agreement, strict=True)
    ]  # fmt: skip
