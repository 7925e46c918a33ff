"""Plain heads: linear classifiers of image embeddings that are solved, not learned in steps.

On few images the last layer is a small convex problem. It has one solution, which takes seconds and needs no epochs to
be chosen; what is chosen is how strongly it is held back. For that every case that is not outer is held out once, in
turns (inner folds), where a head that learns in steps has one fixed inner part. The logits of these turns are the inner
scores that calibration, decisions and ensembles are fitted on, and one temperature is fitted to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ..registry import Registry
from ..samples import deal_cases

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_TURNS = 5
WORSE_STEPS = 2  # the path ends after this many strengths in a row that are worse than the best
MOST_STEPS = 500  # of the solver of logistic regression, at one strength
HEAT_BOUNDS = (-12.0, 12.0)  # of the logarithm of a temperature


@dataclass(frozen=True, slots=True)
class Linear:
    """Logits (n, C) of embeddings (n, D): ``x @ weight.T + bias``; weight (C, D), bias (C,)."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        """Return logits (n, C)."""
        return x @ self.weight.T + self.bias


# From one strength to its solution, on the images that the path was made of.
Path = Callable[[float], Linear]


@dataclass(frozen=True, slots=True)
class Solver:
    """One kind of plain head.

    Attributes:
        open_path: from standardised embeddings (n, D), classes (n,) from 0 to C - 1, each of which is there, and
            weights (n,) of the images to the solution at each strength.
        strengths: how strongly a head may be held back, the strongest first.
    """

    open_path: Callable[[Floats, Ints, Floats], Path]
    strengths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """A head that was solved.

    Attributes:
        head: of all images that it was given.
        strength: the one that was chosen.
        losses: strength -> log loss of the images while they were held out (see `fit_heat`), for the strengths that
            were tried; empty where no turn could be made.
        logits: (n, C) of the images while they were held out; no rows where no turn could be made.
    """

    head: Linear
    strength: float
    losses: dict[float, float]
    logits: Floats


HEADS: Registry[Solver] = Registry("head")


def open_logistic(x: Floats, y: Ints, weights: Floats) -> Path:
    """Open mean log loss plus strength / 2 times the squared weights, by L-BFGS, each strength begun at the last."""
    share = weights / weights.sum()
    model = LogisticRegression(warm_start=True, max_iter=MOST_STEPS)

    def solve(strength: float) -> Linear:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what is not quite there is judged as it is
            model.set_params(C=1 / strength).fit(x, y, sample_weight=share)
        weight, bias = model.coef_, model.intercept_
        if len(bias) == 1:  # of two classes, the second against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return Linear(weight.copy(), bias.copy())

    return solve


def open_ridge(x: Floats, y: Ints, weights: Floats) -> Path:
    """Open weighted ridge regression on classes as 0 and 1, all strengths from one eigendecomposition."""
    share = (weights / weights.sum())[:, None]
    hot = np.eye(y.max() + 1)[y]
    middle, level = (share * x).sum(axis=0), (share * hot).sum(axis=0)
    values, vectors = np.linalg.eigh((x - middle).T @ (share * (x - middle)))
    aim = vectors.T @ ((x - middle).T @ (share * (hot - level)))

    def solve(strength: float) -> Linear:
        weight = (vectors @ (aim / (np.maximum(values, 0) + strength)[:, None])).T
        return Linear(weight, level - weight @ middle)

    return solve


def open_lda(x: Floats, y: Ints, weights: Floats) -> Path:
    """Open the covariance within classes, shrunk towards its mean variance, from one eigendecomposition."""
    share = weights / weights.sum()
    priors = np.bincount(y, share)
    means = np.stack([np.average(x[y == c], axis=0, weights=share[y == c]) for c in range(len(priors))])
    rest = x - means[y]
    values, vectors = np.linalg.eigh(rest.T @ (share[:, None] * rest))
    level = float(np.mean(np.maximum(values, 0)))

    def solve(strength: float) -> Linear:
        spread = (1 - strength) * np.maximum(values, 0) + strength * level + np.finfo(float).eps
        weight = (vectors @ ((vectors.T @ means.T) / spread[:, None])).T
        return Linear(weight, np.log(priors) - (weight * means).sum(axis=1) / 2)

    return solve


def open_nearest_mean(x: Floats, y: Ints, weights: Floats) -> Path:
    """Open the squared distance to the mean of each class, without the common part; there is nothing to choose."""
    means = np.stack([np.average(x[y == c], axis=0, weights=weights[y == c]) for c in range(y.max() + 1)])
    return lambda strength: Linear(means / strength, -(means**2).sum(axis=1) / (2 * strength))


HEADS.add(
    "logistic",
    Solver(open_logistic, tuple(float(s) for s in np.geomspace(30, 1e-3, 10))),
    summary="multinomial logistic regression, its L2 chosen by turns",
    reference="scikit-learn",
)
HEADS.add(
    "ridge",
    Solver(open_ridge, tuple(float(s) for s in np.geomspace(100, 1e-3, 11))),
    summary="least squares of the classes as 0 and 1 with L2, chosen by turns",
    reference="scikit-learn",
)
HEADS.add(
    "lda",
    Solver(open_lda, (1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)),
    summary="linear discriminant analysis, its shrinkage chosen by turns",
    reference="Friedman 1989; scikit-learn",
)
HEADS.add(
    "nearest_mean",
    Solver(open_nearest_mean, (1.0,)),
    summary="the class whose mean embedding is nearest",
    reference="Snell et al. 2017",
)


def solve_head(
    solver: Solver, x: Floats, y: Ints, weights: Floats, *, cases: Ints, seed: int, sites: Ints | None = None
) -> Solved:
    """Choose a strength by turns over cases, then solve on all images; one thread, so that bytes repeat.

    Args:
        x: (views, n, D) standardised embeddings; all views teach, the first is scored.
        y: (n,) their classes, 0 to C - 1; each has an image.
        weights: (n,) what each image counts.
        cases: (n,) number of the case of each image; a case is held out as a whole.
        seed: of the turns.
        sites: (n,) number of the site of each image, where whole sites are held out in turns; else None.
    """
    with threadpool_limits(1):
        flat, axes = x.reshape(-1, x.shape[-1]), None
        if len(flat) < flat.shape[1]:
            # Orthonormal axes (n, D) of the space that fewer images than dimensions span. No solver here tells one
            # rotation from another, so that nothing is lost, and n squared is less than D squared.
            axes = np.linalg.qr(flat.T)[0].T
            x = x @ axes.T
        # Parts to hold out in turns, whose complements hold every class; none if a class has a single case.
        held = [cases] if sites is None else [sites, cases]
        dealt = (deal_cases(y, by, folds=folds, seed=seed) for by in held for folds in range(MOST_TURNS, 1, -1))
        turns = next((parts for parts in dealt if parts is not None), [])
        held_out, heat = np.empty((0, int(y.max()) + 1)), 1.0
        losses: dict[float, float] = {}
        rest = [np.setdiff1d(np.arange(len(y)), part) for part in turns]
        paths = [_open_path(solver, x[:, part], y[part], weights[part]) for part in rest]
        for strength in solver.strengths if turns else ():
            logits = np.empty((len(y), int(y.max()) + 1))
            for part, path in zip(turns, paths, strict=True):
                logits[part] = path(strength)(x[0, part])
            temperature, loss = fit_heat(logits, y, weights, cases=len(np.unique(cases)))
            if loss < min(losses.values(), default=np.inf):
                held_out, heat = logits / temperature, temperature
            losses[strength] = loss
            if len(losses) > WORSE_STEPS and min(list(losses.values())[-WORSE_STEPS:]) > min(losses.values()):
                break
        middle = solver.strengths[len(solver.strengths) // 2]
        strength = min(losses, key=lambda s: losses[s]) if losses else middle
        head = _open_path(solver, x, y, weights)(strength)
        weight = head.weight if axes is None else head.weight @ axes
    return Solved(Linear(weight / heat, head.bias / heat), strength, losses, held_out)


def _open_path(solver: Solver, x: Floats, y: Ints, weights: Floats) -> Path:
    """Return the path of images of which there are several views, (views, n, D)."""
    return solver.open_path(x.reshape(-1, x.shape[-1]), np.tile(y, len(x)), np.tile(weights, len(x)))


def fit_heat(logits: Floats, y: Ints, weights: Floats, *, cases: int) -> tuple[float, float]:
    """Return the temperature (Guo et al. 2017) under which logits (n, C) have the least weighted log loss, and that
    loss.

    A few images can be all right by luck, and would ask for endless logits. So each counts as its class but for a
    share that falls with the number of cases (Platt 1999).
    """
    classes = logits.shape[1]
    wanted = np.full(logits.shape, 1 / (cases + classes))
    wanted[np.arange(len(y)), y] = (cases + 1) / (cases + classes)
    wanted *= (weights / weights.sum())[:, None]

    def lose(log_heat: float) -> float:
        return float(-(wanted * log_softmax(logits / np.exp(log_heat), axis=1)).sum())

    found = minimize_scalar(lose, bounds=HEAT_BOUNDS, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)), float(found.fun)
