"""Criteria for a wrong label, after training: each reads scores that were made without the label of the image.

All give the same kind of answer: the suspicion of each image, and whether the criterion alone would name it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...registry import Registry
from ..checks.registered import NotApplicable
from .dynamics import count_forgettings, measure_margin_areas
from .evidence import LEAST_SCORE, Evidence

UNWATCHED = (
    "no dynamics were recorded (a solved head, which has no epochs, train.watch=none, an ensemble, or a run of an "
    "earlier version)"
)

UNEMBEDDED = "the run has no embeddings (an ensemble, a run without phase transfer, or of an earlier version)"


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The answer of a criterion for n images.

    Attributes:
        values: (n,) larger is more suspicious.
        named: (n,) whether the criterion alone would name the image.
    """

    values: NDArray[np.float64]
    named: NDArray[np.bool_]


CRITERIA: Registry[Measured | NotApplicable] = Registry("criterion")


@CRITERIA.register("high-loss", summary="out-of-fold loss of the given label, mean over seeds")
def measure_loss(evidence: Evidence) -> Measured | NotApplicable:
    """Name images whose label the networks find less likely than a guess among the classes would."""
    return Measured(evidence.losses, evidence.losses > np.log(len(evidence.classes)))


@CRITERIA.register(
    "label-error",
    summary="confident learning on the out-of-fold scores",
    reference="cleanlab; Northcutt et al. 2021",
)
def measure_label_errors(evidence: Evidence) -> Measured | NotApplicable:
    """Return one minus cleanlab's label quality, scores adjusted by the confident threshold of each class."""
    from cleanlab.rank import get_label_quality_scores  # seconds of imports that few commands need

    if len(np.unique(evidence.labels)) < len(evidence.classes):
        return NotApplicable("a class has no image")
    quality = get_label_quality_scores(evidence.labels, evidence.mean_scores, adjust_pred_probs=True)
    return Measured(1 - quality, find_issues(evidence.labels, evidence.mean_scores))


@CRITERIA.register(
    "margin-area",
    summary="area under the margin of held-out images while networks learned",
    reference="Pleiss et al. 2020",
)
def measure_areas(evidence: Evidence) -> Measured | NotApplicable:
    """Name images for which another class led on average over the epochs."""
    if evidence.dynamics is None:
        return NotApplicable(UNWATCHED)
    areas = measure_margin_areas(evidence.dynamics, evidence.labels)
    return Measured(-areas, areas < 0)


@CRITERIA.register(
    "forgotten",
    summary="how often held-out images went from right to wrong while networks learned",
    reference="Toneva et al. 2019",
)
def measure_forgetting(evidence: Evidence) -> Measured | NotApplicable:
    """Name images that were never right; those that come and go are hard more often than wrong."""
    if evidence.dynamics is None:
        return NotApplicable(UNWATCHED)
    events = count_forgettings(evidence.dynamics, evidence.labels)
    return Measured(events, np.isinf(events))


@CRITERIA.register(
    "seeds-disagree",
    summary="divergence between the scores of the seeds: hard images rather than wrong labels",
    reference="generalised Jensen-Shannon divergence, Lin 1991",
)
def measure_disagreement(evidence: Evidence) -> Measured | NotApplicable:
    """Name images to which the seeds give different classes."""
    if len(evidence.scores) < 2:
        return NotApplicable("the run has one seed; --set split.seeds=[0,1,2] gives it three")
    pooled, single = (
        -(scores * np.log(np.maximum(scores, LEAST_SCORE))).sum(axis=-1)
        for scores in (evidence.mean_scores, evidence.scores)
    )
    said = evidence.scores.argmax(axis=2)
    return Measured(pooled - single.mean(axis=0), (said != said[0]).any(axis=0))


@CRITERIA.register(
    "neighbours", summary="share of the nearest images of other cases, by frozen embeddings, with another label"
)
def measure_neighbours(evidence: Evidence) -> Measured | NotApplicable:
    """Name images whose look-alikes of other cases mostly have one other label."""
    if evidence.neighbours is None:
        return NotApplicable(UNEMBEDDED)
    shares = evidence.neighbours.shares
    own = shares[np.arange(len(shares)), evidence.labels]
    return Measured(1 - own, shares.argmax(axis=1) != evidence.labels)


@CRITERIA.register(
    "left-out",
    summary="ridge regression on frozen embeddings that leaves each case out in turn",
    reference="PRESS, Allen 1974",
)
def measure_left_out(evidence: Evidence) -> Measured | NotApplicable:
    """Name images for which the regression on all other cases prefers another label."""
    if evidence.regressed is None:
        return NotApplicable(UNEMBEDDED)
    own = evidence.regressed[np.arange(len(evidence.labels)), evidence.labels]
    return Measured(1 - own, evidence.regressed.argmax(axis=1) != evidence.labels)


def find_issues(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the label issues (n,) by cleanlab's confident learning: as many per pair of classes as it estimates."""
    from cleanlab.filter import find_label_issues  # seconds of imports that few commands need

    with warnings.catch_warnings():
        # It names no image of a class that has one image only, and warns that it does not.
        warnings.filterwarnings("ignore", message="May not flag all label issues", category=UserWarning)
        # One process: the work is small, and a pool of processes would import everything again.
        return np.asarray(find_label_issues(labels, scores, n_jobs=1), dtype=bool)
