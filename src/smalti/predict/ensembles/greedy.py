"""Greedy selection of members by macro-F1 of inner images."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...metrics import SMALLEST_PROBABILITY, macro_f1_of_confusions, predict_classes
from .combining import ENSEMBLES, Ensemble, combine_folds
from .members import Blend, Floats, Inner, Ints

BAGS = 20  # bootstrap draws of the inner cases
ROUNDS = 20  # members added after the start


@ENSEMBLES.register(
    "greedy", summary="forward selection of members by macro-F1 of inner images", reference="Caruana et al. 2004"
)
def build_greedy() -> Ensemble:
    """Return weights of the members, see `fit_greedy`."""
    return partial(combine_folds, fit=fit_greedy)


def fit_greedy(inner: Inner) -> Blend:
    """Return weights of the members by ensemble selection (Caruana, Niculescu-Mizil, Crew & Ksikes 2004).

    The paper lowers over-fitting by repeating the selection in random halves of a library of thousands of models. Half
    of a handful would mostly lack the best one, so here each repetition sees another bootstrap draw of the inner cases
    (Breiman 1996); the weights are the mean over the repetitions.
    """
    cases = int(inner.case.max()) + 1
    drawn = np.random.default_rng(0).multinomial(cases, np.full(cases, 1 / cases), size=BAGS)[:, inner.case]
    counts = select_members(inner.scores, inner.y_true, weights=drawn.astype(np.float64), rounds=ROUNDS)
    weights = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    by_member = dict(zip(inner.names, weights.tolist(), strict=True))
    return Blend(lambda scores: np.einsum("m,mnc->nc", weights, scores), weights=by_member)


def select_members(scores: Floats, y_true: Ints, *, weights: Floats, rounds: int) -> Floats:
    """Count how often forward selection with replacement takes each member, (B, M), for B weightings of the images.

    The members are sorted; the best 1, 2, ... of them together are tried and the best number starts. Then the member
    that helps most (or hurts least) is added ``rounds`` times, and the best ensemble met on the way is kept. Best is
    the highest macro-F1, of equals the lowest log loss, of equals the first.

    Args:
        scores: (M, n, C).
        y_true: (n,) class index.
        weights: (B, n) how often each image counts.
        rounds: members added after the start.
    """
    bags, members = np.arange(len(weights)), np.arange(len(scores))
    f1, loss = _rate_candidates(np.broadcast_to(scores, (len(weights), *scores.shape)), y_true, weights)
    ranked = np.lexsort((loss, -f1), axis=1)  # (B, M)
    totals = np.cumsum(scores[ranked], axis=1)  # (B, M, n, C)
    f1, loss = _rate_candidates(totals / (members[:, None, None] + 1), y_true, weights)
    start = _find_best(f1, loss)
    counts = np.zeros((bags.size, members.size))
    np.put_along_axis(counts, ranked, (members <= start[:, None]).astype(np.float64), axis=1)
    total, best = totals[bags, start], counts.copy()
    best_f1, best_loss = f1[bags, start], loss[bags, start]
    for _ in range(rounds):
        candidates = (total[:, None] + scores) / (counts.sum(axis=1) + 1)[:, None, None, None]
        f1, loss = _rate_candidates(candidates, y_true, weights)
        chosen = _find_best(f1, loss)
        counts[bags, chosen] += 1
        total = total + scores[chosen]
        f1, loss = f1[bags, chosen], loss[bags, chosen]
        better = (f1 > best_f1) | ((f1 == best_f1) & (loss < best_loss))
        best[better], best_f1[better], best_loss[better] = counts[better], f1[better], loss[better]
    return best


def _rate_candidates(scores: Floats, y_true: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Return macro-F1 and log loss (a sum), each (B, M), of scores (B, M, n, C) under weights (B, n)."""
    bags, members, images, classes = scores.shape
    cell = np.arange(bags * members).reshape(bags, members, 1) * classes + y_true
    cell = cell * classes + predict_classes(scores)
    repeated = np.broadcast_to(weights[:, None], (bags, members, images))
    counts = np.bincount(cell.ravel(), weights=repeated.ravel(), minlength=bags * members * classes**2)
    of_truth = np.clip(scores[..., np.arange(images), y_true], SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses: Floats = -(np.log(of_truth) * weights[:, None]).sum(axis=-1)
    return macro_f1_of_confusions(counts.reshape(bags, members, classes, classes)), losses


def _find_best(f1: Floats, loss: Floats) -> Ints:
    """Find in each row of (B, M) the highest F1, of equals the lowest loss, of equals the first; (B,)."""
    return np.where(f1 == f1.max(axis=1, keepdims=True), loss, np.inf).argmin(axis=1)
