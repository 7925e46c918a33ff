"""Which images the rungs of a ladder are scored on: the same for all, and none that is in doubt.

A rung that leaves hard images out scores higher on the others, whether or not it learned better. So an image counts
where every rung scored it under the same label and no decision speaks against it that only some rungs follow. The score
of each rung on its own images is kept beside that.

Decisions that may have been made with predictions in view (`smalti.workflow.decisions.influence`) are treated
differently. Where a rung follows one, the whole case is set aside; because the choice of the other images still
flatters, no score is trusted, each stands beside the score as given, and there is no verdict. Where no rung follows it,
it is ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..audit import read_decisions, settle_decisions
from ..audit.checks.registered import LABEL_CHECKS
from ..evaluate import average_cases, score_predictions
from ..recipe import Evaluate
from ..records import AsGiven, Influence, RunFolder, Scores, Unit, UnitScores
from ..records.layout import DECISIONS
from ..records.studies.ladder import Rung
from ..stats import Pool, pool_predictions
from ..types import Decision
from ..workflow.decisions.influence import describe_given
from ..workflow.prepare.units import read_unit

ASIDE = {"exclude": "excluded", "relabel": "relabelled", "repair": "repaired"}
MISSED = "not scored by every rung"
TOUCHED = "of a case that a decision changed with predictions in view"


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRung:
    """The scores and predictions of a finished rung.

    Attributes:
        table: its out-of-fold predictions.
        scores: on all images that it predicted.
        pool: the out-of-fold predictions, pooled.
        acting: image -> the decision that the rung followed.
        influence: decisions that may have been made with predictions in view.
        unit: what its first score counts.
        cases: image -> the case that the data names; None where there are no answers by case.
    """

    table: pd.DataFrame
    evaluate: Evaluate
    scores: Scores
    pool: Pool
    acting: Mapping[str, Decision]
    influence: Influence
    unit: Unit = "image"
    cases: Mapping[str, str] | None = None

    def take_scores(self, unit: Unit) -> UnitScores:
        """Return the scores by this unit; by the other where there are none."""
        return self.scores.take(unit) or self.scores

    def tabulate(self, images: Collection[str], unit: Unit) -> pd.DataFrame:
        """Return the predictions of some images, or their means by case."""
        rows = self.table[self.table["image"].astype(str).isin(set(images))]
        return rows if unit == "image" else average_cases(rows, self.cases or {}, classes=self.pool.classes)

    def list_labels(self) -> dict[str, str]:
        """Return image -> label that it was scored against."""
        names = (self.pool.classes[i] for i in self.pool.y_true)
        return dict(zip(self.pool.images, names, strict=True))


@dataclass(frozen=True, slots=True)
class Trusted:
    """Images that score every rung.

    Attributes:
        set_aside: reason -> how many images do not score.
        by_label: how many of these for a finding that comes from labels, which are what scores.
        influenced: how many images some rung left out, relabelled or repaired by a decision that may have been made
            with predictions in view.
    """

    images: tuple[str, ...]
    set_aside: Mapping[str, int]
    by_label: int
    influenced: int = 0


def read_scored(run: Path) -> ScoredRung:
    """Read a finished run folder.

    Raises:
        RunError: a file is missing or damaged.
    """
    table, scores = RunFolder(run).read_out_of_fold(), Scores.read(run)
    pool = pool_predictions(table, classes=scores.classes)
    acting = settle_decisions(read_decisions(run / DECISIONS))
    evaluate, (scoring, cases) = RunFolder(run).read_recipe().evaluate, read_unit(run)
    return ScoredRung(table, evaluate, scores, pool, acting, Influence.read(run), scoring.unit, cases)


def settle_unit(scored: Collection[ScoredRung]) -> tuple[Unit, list[str]]:
    """Return what all rungs are scored by, and a sentence where they differ: cases where all are, else images."""
    units = {rung.unit for rung in scored}
    if len(units) > 1:
        return "image", ["Some rungs are scored by case and some by image; here all are scored by image."]
    return next(iter(units), "image"), []


def find_trusted(scored: Sequence[ScoredRung], *, decisions: Mapping[str, Decision]) -> Trusted:
    """Return the images that all rungs scored under one label and that no decision speaks against.

    Args:
        scored: the finished rungs.
        decisions: image -> the decision about it, also where no rung followed it. A decision that all rungs followed
            is not in dispute; ``keep`` says that the image is right.
    """
    doubted = {d.image for rung in scored for d in rung.influence.decisions}
    influenced = {d.image for rung in scored for d in rung.influence.followed}
    known = {image: decision for image, decision in decisions.items() if image in influenced or image not in doubted}
    case_of: dict[str, str] = {}
    for rung in scored:
        known |= rung.acting
        cases = (rung.pool.cases[case] for case in rung.pool.case)
        case_of |= dict(zip(rung.pool.images, cases, strict=True))
    touched = {case_of[image] for image in influenced if image in case_of}
    labels = [rung.list_labels() for rung in scored]
    aside: dict[str, str] = {}
    for image in dict.fromkeys(image for given in labels for image in given):
        decision = known.get(image)
        followed = {str(o.acting[image].action) if image in o.acting else "keep" for o in scored}
        if decision is not None and decision.action != "keep" and followed != {decision.action}:
            aside[image] = ASIDE[decision.action]
        elif any(image not in given for given in labels):
            aside[image] = MISSED
        elif case_of.get(image) in touched:
            aside[image] = TOUCHED
        elif len({given[image] for given in labels}) > 1:
            aside[image] = ASIDE["relabel"]
    images = tuple(sorted({image for given in labels for image in given} - set(aside)))
    by_label = sum(image in known and known[image].finding in LABEL_CHECKS for image in aside)
    counts = Counter(aside.values())
    reasons = (*ASIDE.values(), MISSED, TOUCHED)
    return Trusted(images, {r: counts[r] for r in reasons if counts[r]}, by_label, len(influenced))


def tell_given(rung: ScoredRung, trusted: Trusted, unit: Unit) -> AsGiven | None:
    """Return the scores of a rung as given, where scores of this ladder are not trusted; None where they are."""
    if not trusted.influenced:
        return None
    scores = rung.take_scores(unit)
    if scores.as_given is not None:
        return scores.as_given
    changed = f"{trusted.influenced} images are set aside or changed by decisions made with predictions in view"
    return describe_given(changed, scores)


def score_on(rung: ScoredRung, images: Sequence[str], unit: Unit) -> UnitScores:
    """Return scores on some images of a rung; the optimism is that of all its images."""
    own = rung.take_scores(unit)
    if set(images) == set(rung.pool.images):
        return own
    table = rung.tabulate(images, unit)
    scores = score_predictions(table, classes=rung.pool.classes, confidence=rung.evaluate.confidence)
    return scores.model_copy(update={"optimism": own.optimism, "n_images": len(images)})


def describe_scoring(rungs: Sequence[Rung], trusted: Trusted) -> list[str]:
    """Return sentences: which images score all rungs, and what the own images of each would have shown."""
    scored = {rung.name: rung for rung in rungs if rung.metrics}
    if not scored or not trusted.set_aside:
        return []
    any_rung = next(iter(scored.values()))
    reasons = ", ".join(f"{number} {reason}" for reason, number in trusted.set_aside.items())
    words = [
        f"All rungs are scored on the same {any_rung.n_images} images of {any_rung.n_cases} cases; "
        f"{sum(trusted.set_aside.values())} were set aside from scoring: {reasons}."
    ]
    for name, rung in scored.items():
        base = scored.get(rung.on or "")
        if base is None or rung.gap is None or rung.own is None or base.own is None or rung.own == base.own:
            continue
        own, its = rung.own, base.own
        words.append(
            f"Each on its own images and labels, '{name}' would have {own.value:.3f} ({own.n_images} images) and "
            f"'{base.name}' {its.value:.3f} ({its.n_images} images): {(own.value or 0) - (its.value or 0):+.3f}, where "
            f"the same images say {rung.gap.value:+.3f}."
        )
    if trusted.by_label:
        words.append(
            f"{trusted.by_label} of these decisions answer findings that come from labels. Whoever chose by them has "
            "seen the labels that score here, and hard images that leave for that reason can raise this score a "
            "little by themselves; only sealed cases are free of it ('smalti compare --open-seal')."
        )
    words.append(
        "What was set aside is no random choice: these scores tell rungs apart, they do not say how well images will "
        "be classified as they come."
    )
    return words
