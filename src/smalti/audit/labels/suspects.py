"""Label suspects: images whose label is contradicted by what was learned without it.

Witnesses give probabilities of the classes: the networks that did not learn from the case, and by embeddings the
nearest images and a regression on all others. They are averaged (linear opinion pool, Stone 1961), each weighted by how
much better than a guess it tells the given labels (`smalti.stats.skill`). All of them leave out the whole case: whoever
has seen one image of a patient knows the label of the others by the patient. Where a label belongs to the whole case,
so does a finding, on the mean over its images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...stats.skill import measure_skill
from ...types import Cohort, Finding
from ..bindings import find_bound_cases
from ..checks.registered import CHECKS, Digest, NotApplicable
from .criteria import CRITERIA, Measured, find_issues
from .dynamics import average_scores, track_losses
from .evidence import Evidence
from .neighbours import SHOWN
from .traces import Trace

SUSPECT = "label-suspect"
SUSPECTS_NAME = "suspects.json"  # in a run folder
LISTED = 12  # images of a case that a message names


@dataclass(frozen=True, slots=True, eq=False)
class Opinion:
    """What all witnesses together say about n images.

    Attributes:
        scores: (n, C) probabilities of the classes; of images that share a label by their case, the mean.
        weights: witness -> its weight; the weights sum to one.
    """

    scores: NDArray[np.float64]
    weights: dict[str, float]


@CHECKS.register(
    SUSPECT,
    summary="labels that a trained run contradicts, with the label to propose (smalti audit DATA --run RUN)",
    reference="cleanlab; Northcutt et al. 2021",
)
def find_label_suspects(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """Suspects among the labelled images of the cohort; labels are those that the run used."""
    if digest.evidence is None:
        return NotApplicable("no trained run is named (smalti audit DATA --run RUN)")
    evidence = digest.evidence.restrict({s.image for s in cohort.labelled})
    if evidence.label_by_case is None:
        evidence = replace(evidence, label_by_case=bool(find_bound_cases(cohort)))
    if not evidence.images:
        return NotApplicable("the run knows none of these images")
    findings, outcomes = find_suspects(evidence)
    reason = outcomes[SUSPECT].partition("not applicable: ")[2]
    return NotApplicable(reason) if reason else findings


def find_suspects(evidence: Evidence) -> tuple[list[Finding], dict[str, str]]:
    """One finding for each label that is suspected, the most suspicious first, and what each criterion said.

    Suspected is what confident learning finds in the pooled scores, where these also prefer another class. A label is
    that of an image, or of all images of a case where they share one.
    """
    outcomes: dict[str, str] = {}
    measured: dict[str, Measured] = {}
    for entry in CRITERIA:
        answer = CRITERIA.build(entry.name, evidence)
        if isinstance(answer, NotApplicable):
            outcomes[entry.name] = f"not applicable: {answer.reason}"
            continue
        measured[entry.name] = answer
        outcomes[entry.name] = f"{answer.named.sum()} found" if answer.named.any() else "nothing found"
    opinion = pool_opinions(evidence)
    if isinstance(opinion, NotApplicable):
        return [], outcomes | {SUSPECT: f"not applicable: {opinion.reason}"}
    units, first = np.unique(evidence.units, return_index=True)
    labels, scores = evidence.labels[first], opinion.scores[first]
    chosen = find_issues(labels, scores) & (scores.argmax(axis=1) != labels)
    suspicion = rank_labels(evidence, opinion)[first]
    order = sorted(np.flatnonzero(chosen), key=lambda i: -suspicion[i])
    findings = [_report_suspect(evidence, opinion, measured, np.flatnonzero(evidence.units == units[i])) for i in order]
    return findings, outcomes | {SUSPECT: f"{len(findings)} found" if findings else "nothing found"}


def pool_opinions(evidence: Evidence) -> Opinion | NotApplicable:
    """Probabilities of the classes from all witnesses that tell the given labels better than a guess."""
    if len(np.unique(evidence.labels)) < len(evidence.classes):
        return NotApplicable("a class has no image")
    networks = {"out-of-fold": evidence.mean_scores}
    if evidence.dynamics is not None:
        networks["epochs"] = average_scores(evidence.dynamics)
    # One witness, since they are the same networks: their last word, and what they said while they learned.
    witnesses = {"networks": _average(networks, evidence)[0]}
    if evidence.neighbours is not None:
        witnesses["neighbours"] = evidence.neighbours.shares
    if evidence.regressed is not None:
        witnesses["left-out"] = evidence.regressed
    pooled, weights = _average(witnesses, evidence)
    if not any(weights.values()):
        return NotApplicable(
            f"{', '.join(witnesses)}: none tells the labels better than a guess, so none questions them"
        )
    sums = np.stack([np.bincount(evidence.units, weights=column) for column in pooled.T], axis=1)
    means = sums / np.bincount(evidence.units)[:, None]
    return Opinion(means[evidence.units], weights)


def _average(
    witnesses: Mapping[str, NDArray[np.float64]], evidence: Evidence
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Mean of the scores (n, C), weighted by skill, and the weights; plain, with weights of 0, where nobody has any."""
    skills = {name: measure_skill(scores, evidence.labels, evidence.cases) for name, scores in witnesses.items()}
    total = sum(skills.values())
    if total == 0:
        return np.mean(list(witnesses.values()), axis=0), skills
    weights = {name: skill / total for name, skill in skills.items()}
    return np.asarray(sum(weight * witnesses[name] for name, weight in weights.items())), weights


def rank_labels(evidence: Evidence, opinion: Opinion) -> NDArray[np.float64]:
    """Suspicion of each label, (n,): how far the likeliest other class is ahead of it, -1 to 1.

    An image that is like none of any class (foreign, blank) has low scores throughout and stays behind wrong labels.
    """
    rows = np.arange(len(evidence.labels))
    others = opinion.scores.copy()
    others[rows, evidence.labels] = -np.inf
    return np.asarray(others.max(axis=1) - opinion.scores[rows, evidence.labels])


def trace_images(evidence: Evidence) -> list[Trace]:
    """What the run knows about each of its labelled images."""
    histories: list[tuple[tuple[int, float], ...]] = [()] * len(evidence.images)
    if evidence.dynamics is not None:
        histories = track_losses(evidence.dynamics, evidence.labels)
    near = evidence.neighbours
    traces = []
    for i, image in enumerate(evidence.images):
        label = int(evidence.labels[i])
        alike = near.list_of(i, label) if near else []
        unlike = near.list_unlike(i, label) if near else []
        traces.append(
            Trace(
                image=image,
                loss=round(float(evidence.losses[i]), 4),
                scores=_name_scores(evidence, evidence.mean_scores[i]),
                history=tuple((epoch, round(loss, 4)) for epoch, loss in histories[i]),
                alike=tuple(evidence.images[j] for j in alike),
                unlike=tuple(evidence.images[j] for j in unlike),
            )
        )
    return traces


def _report_suspect(
    evidence: Evidence, opinion: Opinion, measured: Mapping[str, Measured], members: NDArray[np.int64]
) -> Finding:
    """The finding about the label of these images: one image, or all of a case that share it."""
    i = members[0]
    given, proposed = int(evidence.labels[i]), int(opinion.scores[i].argmax())
    label, other = evidence.classes[given], evidence.classes[proposed]
    # A criterion names a case where it names more than half of its images.
    named = [name for name, one in measured.items() if one.named[members].mean() > 0.5]
    values = {name: float(one.values[members].mean()) for name, one in measured.items()}
    near = evidence.neighbours
    lists = {
        key: [evidence.images[j] for j in near.list_of(int(i), of)[:SHOWN]] if near else []
        for key, of in (("nearest_given", given), ("nearest_proposed", proposed))
    }
    share = opinion.scores[i, proposed]
    agreed = f"{len(named)} of {len(measured)} criteria agree" + (f" ({', '.join(named)})" if named else "")
    names = tuple(evidence.images[j] for j in members)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    what = names[0] if len(names) == 1 else f"case {evidence.cases[i]} ({', '.join(names[:LISTED])}{more})"
    return Finding(
        code=SUSPECT,
        severity="warning",
        images=names,
        score=round(float(share - opinion.scores[i, given]), 4),
        message=f"{what} is labelled {label}, but networks and look-alikes that did not see this label say {other} "
        f"({share:.0%} to {opinion.scores[i, given]:.0%}); {agreed}.",
        proposal="relabel",
        evidence={
            "label": other,
            "given": label,
            "pooled": _name_scores(evidence, opinion.scores[i]),
            "weights": {name: round(weight, 3) for name, weight in opinion.weights.items()},
            "criteria": {name: round(v, 4) if math.isfinite(v) else "never right" for name, v in values.items()},
            "named_by": named,
            **lists,
        },
    )


def _name_scores(evidence: Evidence, scores: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(score), 4) for name, score in zip(evidence.classes, scores, strict=True)}
