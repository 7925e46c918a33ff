"""Shares of the members of an ensemble: few cases leave them equal, many let the better ones count more.

The log loss of the mixed inner scores, each case counted once and the classes alike, plus a Dirichlet prior on the
shares. The prior weighs as much as a fixed number of cases, so that differences that so few cases cannot show have no
effect. On few cases, a search for the members that score highest (greedy selection) takes luck for skill; measured side
by side in docs/log/2026-11.md, "Members and their shares".
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from ...metrics import SMALLEST_PROBABILITY
from ...train import fit_heat
from .combining import ENSEMBLES, Ensemble, combine_folds, mix_members
from .members import Blend, Inner

Floats = NDArray[np.float64]

PRIOR_CASES = 10.0  # how many cases the belief in equal shares is worth


@ENSEMBLES.register(
    "weighed",
    summary="shares that lower the inner log loss, held towards equal ones as by ten cases",
    reference="Breiman 1996; Yao et al. 2018",
)
def build_weighed() -> Ensemble:
    """Fit the shares for each seed and fold on its inner rows."""
    return partial(combine_folds, fit=fit_shares)


def fit_shares(inner: Inner) -> Blend:
    """Return the shares of the members, and the temperature of their mixture, from their scores of inner images.

    A mean of members that are each as sure as they should be is less sure than it should be.
    """
    shares = find_shares(inner.scores, inner.y_true, inner.case)

    def mix(scores: Floats) -> Floats:
        return np.log(np.clip(mix_members(shares, scores), SMALLEST_PROBABILITY, 1))

    weights = weigh_images(inner.y_true, inner.case, classes=inner.scores.shape[2])
    heat, _ = fit_heat(mix(inner.scores), inner.y_true, weights, cases=len(np.unique(inner.case)))
    by_member = dict(zip(inner.names, shares.tolist(), strict=True))
    return Blend(lambda scores: softmax(mix(scores) / heat, axis=1), weights=by_member, temperature=heat)


def find_shares(scores: Floats, y_true: NDArray[np.int64], case: NDArray[np.int64]) -> Floats:
    """Minimise the log loss of the mixture and the prior; (M,) shares that add up to 1.

    Where all members have scores of all images, the problem is convex in the shares. A member without scores of an
    image (a head that learns in steps keeps fewer images back than one that is solved) has no say in it, and the
    shares of the others are taken as parts of their sum.

    Args:
        scores: (M, n, C); NaN in rows that a member has not scored.
        y_true: (n,) class index.
        case: (n,) case index; all images of a case count as one.
    """
    members, images = len(scores), len(y_true)
    of_truth = scores[:, np.arange(images), y_true]  # (M, n)
    there = ~np.isnan(of_truth)
    of_truth = np.where(there, np.clip(of_truth, SMALLEST_PROBABILITY, 1), 0)
    weights = weigh_images(y_true, case, classes=scores.shape[2])

    def lose(free: Floats) -> tuple[float, Floats]:
        shares = softmax(free)
        mixed, present = shares @ of_truth, shares @ there
        loss = -(weights * np.log(mixed / present)).sum() - PRIOR_CASES * np.log(shares).mean()
        slope = (weights * (there / present - of_truth / mixed)).sum(axis=1) - PRIOR_CASES / members / shares
        return float(loss), shares * (slope - (shares * slope).sum())

    found: Floats = softmax(minimize(lose, np.zeros(members), jac=True, method="L-BFGS-B").x)
    return found


def weigh_images(y_true: NDArray[np.int64], case: NDArray[np.int64], *, classes: int) -> Floats:
    """Return weights (n,) under which cases count alike inside a class, and classes alike; as many in sum as cases."""
    weights = 1 / np.bincount(case)[case]
    weights = weights / np.bincount(y_true, weights, minlength=classes)[y_true]
    return np.asarray(weights * len(np.unique(case)) / weights.sum(), dtype=np.float64)
