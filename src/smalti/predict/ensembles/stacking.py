"""Ensembles that learn how to weigh members and classes: stacked generalisation (Wolpert 1992; Ting & Witten 1999).

The inputs are the logarithms of the members' scores, centred over the classes of each member (the logits, up to what
softmax forgets) and standardised by the inner rows. Inner rows are few, so the learners are strongly regularised.
Classes count alike, whatever their frequency, since macro-F1 is the headline.

A class without inner images cannot be learned. It keeps the mean of the members' scores, which have learned it, and the
stacker shares out what is left among the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier

from ...errors import MissingExtraError
from ...train import weigh_classes
from .combining import ENSEMBLES, Ensemble, combine_folds
from .members import Blend, Floats, Inner, Ints

SMALLEST_SCORE = 1e-6  # smaller scores count as this, so that one confident error does not outweigh all other images
STRENGTHS = (0.01, 0.03, 0.1, 0.3)  # C of the logistic regression, the inverse of its L2 penalty
FIXED_STRENGTH = 0.03  # where the inner cases are too few to choose
MOST_FOLDS = 3  # inner rows are few, and the best C depends little on how it is found
LEAST_SPREAD = 1e-9  # inputs that vary less do not vary: they are only centred
TREES = 50
DEPTH = 2
RATE = 0.1

Learner = Callable[[Floats, Ints], Any]  # (n, D) inputs and (n,) classes 0..K-1 -> something with predict_proba


@ENSEMBLES.register(
    "stack_ovr",
    summary="logistic regression on log scores, each class against the rest, C chosen by grouped cross-validation",
    reference="Wolpert 1992; Ting & Witten 1999; scikit-learn",
)
def build_stack_ovr() -> Ensemble:
    """One logistic regression per class; their probabilities are divided by their sum."""
    return partial(combine_folds, fit=partial(fit_logistic, learn=learn_ovr))


@ENSEMBLES.register(
    "stack_multinomial",
    summary="multinomial logistic regression on log scores, C chosen by grouped cross-validation",
    reference="Wolpert 1992; Ting & Witten 1999; scikit-learn",
)
def build_stack_multinomial() -> Ensemble:
    """One softmax over all classes."""
    return partial(combine_folds, fit=partial(fit_logistic, learn=learn_multinomial))


@ENSEMBLES.register(
    "stack_xgboost",
    summary=f"{TREES} boosted trees of depth {DEPTH} on log scores (pip install 'smalti[xgboost]')",
    reference="Wolpert 1992; Chen & Guestrin 2016",
)
def build_stack_xgboost() -> Ensemble:
    """Boosted trees.

    Raises:
        MissingExtraError: xgboost is not installed.
    """
    try:
        import xgboost
    except ImportError:
        raise MissingExtraError("the ensemble 'stack_xgboost'", "xgboost") from None
    trees = partial(
        xgboost.XGBClassifier,
        max_depth=DEPTH,
        n_estimators=TREES,
        learning_rate=RATE,
        tree_method="exact",  # few rows: no binning needed
        n_jobs=1,
        random_state=0,
    )
    return partial(combine_folds, fit=partial(fit_trees, build=trees))


def make_design(scores: Floats) -> Floats:
    """Return scores of the members (M, n, C) as inputs (n, M * C): logarithms, centred over the classes of each
    member."""
    logs = np.log(np.clip(scores, SMALLEST_SCORE, 1))
    centred: Floats = logs - logs.mean(axis=2, keepdims=True)
    return np.concatenate(list(centred), axis=1)


def learn_multinomial(design: Floats, classes: Ints, *, strength: float) -> Any:
    """Fit one softmax over all classes, each class of equal weight."""
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000).fit(design, classes)


def learn_ovr(design: Floats, classes: Ints, *, strength: float) -> Any:
    """Fit a regression for each class against the rest, both sides of equal weight."""
    single = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    return OneVsRestClassifier(single).fit(design, classes)


def fit_logistic(inner: Inner, *, learn: Callable[..., Any]) -> Blend:
    """Fit a logistic regression on the inner rows, its strength chosen among ``STRENGTHS`` by cross-validation in
    them."""
    present, classes = np.unique(inner.y_true, return_inverse=True)
    design = make_design(inner.scores)
    strength = choose_strength(design, classes, inner.case, learn=learn)
    note = ""
    if strength is None:
        strength, note = FIXED_STRENGTH, "too few inner cases to choose C: fixed"
    apply = _fit_scaled(design, classes, partial(learn, strength=strength))
    note = "; ".join(text for text in (note, _describe_missing(inner, present)) if text)
    return Blend(partial(_apply_stacker, apply=apply, present=present), C=strength, note=note)


def fit_trees(inner: Inner, *, build: Callable[[], Any]) -> Blend:
    """Fit boosted trees on the inner rows; their few small trees are the regularisation."""
    present, classes = np.unique(inner.y_true, return_inverse=True)
    weights = weigh_rows(classes)
    design = make_design(inner.scores)
    apply = _fit_scaled(design, classes, lambda scaled, known: build().fit(scaled, known, sample_weight=weights))
    return Blend(partial(_apply_stacker, apply=apply, present=present), note=_describe_missing(inner, present))


def choose_strength(design: Floats, classes: Ints, case: Ints, *, learn: Callable[..., Any]) -> float | None:
    """Return the C with the lowest log loss (each class of equal weight) of held-out cases; None where they are too
    few.

    The predictions of all held-out parts are pooled; of equals, the smaller C.

    Args:
        design: (n, D) inputs, not yet standardised.
        classes: (n,) classes 0..K-1.
        case: (n,) case index; a case is held out as a whole.
        learn: makes the classifier from inputs, classes and ``strength``.
    """
    folds = split_inner(classes, case)
    if folds is None:
        return None
    losses = []
    for strength in STRENGTHS:
        of_truth = np.empty(classes.size)
        for train, held in folds:
            apply = _fit_scaled(design[train], classes[train], partial(learn, strength=strength))
            of_truth[held] = apply(design[held])[np.arange(held.size), classes[held]]
        losses.append(-np.log(np.clip(of_truth, SMALLEST_SCORE, 1)) @ weigh_rows(classes))
    return STRENGTHS[int(np.argmin(losses))]


def split_inner(classes: Ints, case: Ints) -> list[tuple[Ints, Ints]] | None:
    """Return training and held-out rows of up to ``MOST_FOLDS`` parts by case; None where training would lack a
    class."""
    present = np.unique(classes).size
    largest = int(np.bincount(classes).max())  # scikit-learn refuses more folds than the largest class has rows
    for folds in range(min(MOST_FOLDS, np.unique(case).size, largest), 1, -1):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
        with warnings.catch_warnings():
            # It warns about classes smaller than the number of folds; the check below decides instead.
            warnings.simplefilter("ignore", UserWarning)
            parts = [(train, held) for train, held in splitter.split(classes[:, None], classes, case)]
        if all(held.size and np.unique(classes[train]).size == present for train, held in parts):
            return parts
    return None


def weigh_rows(classes: Ints) -> Floats:
    """Return the weight of each row (n,), mean 1, under which every class weighs the same."""
    return weigh_classes(np.bincount(classes), kind="balanced").double().numpy()[classes]


def _fit_scaled(design: Floats, classes: Ints, learn: Learner) -> Callable[[Floats], Floats]:
    """Standardise and learn; what is returned maps inputs (n, D) to probabilities (n, K)."""
    center, spread = design.mean(axis=0), design.std(axis=0)
    scale = np.where(spread > LEAST_SPREAD, spread, 1.0)
    learned = learn((design - center) / scale, classes)
    return lambda rows: np.asarray(learned.predict_proba((rows - center) / scale), dtype=np.float64)


def _apply_stacker(scores: Floats, *, apply: Callable[[Floats], Floats], present: Ints) -> Floats:
    """Return probabilities (n, C): absent classes keep the mean of the members, the stacker shares out the rest."""
    result = np.clip(scores.mean(axis=0), SMALLEST_SCORE, None)
    result /= result.sum(axis=1, keepdims=True)
    share = result[:, present].sum(axis=1, keepdims=True)
    result[:, present] = share * np.clip(apply(make_design(scores)), SMALLEST_SCORE, None)
    result[:, present] *= share / result[:, present].sum(axis=1, keepdims=True)
    return result


def _describe_missing(inner: Inner, present: Ints) -> str:
    missing = inner.scores.shape[2] - present.size
    return f"{missing} classes without inner images: mean of the members" if missing else ""
