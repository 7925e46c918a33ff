"""Which images the rungs of a ladder are scored on: the same for all, and none that is in doubt.

A rung that leaves hard images out scores higher on what is left, whether or not it learned better. So an image counts
where every rung scored it, under the same label, and no decision speaks against it that only some rungs follow. What
each rung would score on its own images is kept beside that, to be told as what it is.

Decisions that may have been made with predictions in view (`smalti.workflow.decisions.influence`) are another
matter. Where a rung follows one, the whole case is set aside, and still the choice of what is left flatters: then no
score is trusted, each stands beside the one as given, and there is no verdict. Where no rung follows it, it is not
heard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..audit import read_decisions, settle_decisions
from ..audit.checks.registered import LABEL_CHECKS
from ..evaluate import Unit, average_cases, score_predictions, take_unit
from ..recipe import Evaluate
from ..records import RunFolder
from ..stats import Pool, pool_predictions
from ..store import read_json
from ..types import Decision
from ..workflow.decisions.influence import Influence, describe_given, read_influence
from ..workflow.prepare.units import read_unit

ASIDE = {"exclude": "excluded", "relabel": "relabelled", "repair": "repaired"}
MISSED = "not scored by every rung"
TOUCHED = "of a case that a decision changed with predictions in view"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a finished rung left behind.

    Attributes:
        scores: content of its ``scores.json``, on all images that it scored.
        pool: its out-of-fold predictions.
        acting: image -> the decision that the rung followed.
        influence: decisions that may have been made with predictions in view.
        unit: what its own scores count.
        cases: image -> the case that the data names; None where there are no answers by case.
    """

    table: pd.DataFrame
    evaluate: Evaluate
    scores: dict[str, Any]
    pool: Pool
    acting: Mapping[str, Decision]
    influence: Influence
    unit: Unit = "image"
    cases: Mapping[str, str] | None = None

    def tabulate(self, images: Collection[str], unit: Unit) -> pd.DataFrame:
        """Take the predictions of some images, or their means by case."""
        rows = self.table[self.table["image"].astype(str).isin(set(images))]
        return rows if unit == "image" else average_cases(rows, self.cases or {}, classes=self.pool.classes)

    def list_labels(self) -> dict[str, str]:
        """Image -> label that it was scored against."""
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


def read_outcome(run: Path) -> Outcome:
    """A finished run folder."""
    table = RunFolder(run).read_out_of_fold()
    scores = read_json(run / "scores.json", "classes", "metrics", "interval", "per_class", "n_images", "optimism")
    pool = pool_predictions(table, classes=tuple(scores["classes"]))
    acting = settle_decisions(read_decisions(run / "decisions.csv"))
    evaluate, (scoring, cases) = RunFolder(run).read_recipe().evaluate, read_unit(run)
    return Outcome(table, evaluate, scores, pool, acting, read_influence(run), scoring.unit, cases)


def settle_unit(outcomes: Collection[Outcome]) -> tuple[Unit, list[str]]:
    """What all rungs are scored by: cases where all of them are, else images; and what there is to say about that."""
    units = {outcome.unit for outcome in outcomes}
    if len(units) > 1:
        return "image", ["Some rungs are scored by case and some by image; here all are scored by image."]
    return next(iter(units), "image"), []


def find_trusted(outcomes: Sequence[Outcome], *, decisions: Mapping[str, Decision]) -> Trusted:
    """Images that all rungs scored under one label and that no decision speaks against.

    Args:
        outcomes: of the finished rungs.
        decisions: image -> the decision about it, also where no rung followed it. One that all rungs followed is no
            matter of dispute; ``keep`` says that the image is right.
    """
    doubted = {d.image for outcome in outcomes for d in outcome.influence.decisions}
    influenced = {d.image for outcome in outcomes for d in outcome.influence.followed}
    known = {image: decision for image, decision in decisions.items() if image in influenced or image not in doubted}
    for outcome in outcomes:
        known |= outcome.acting
    touched = _find_cases(outcomes, influenced)
    labels = [outcome.list_labels() for outcome in outcomes]
    aside: dict[str, str] = {}
    for image in dict.fromkeys(image for given in labels for image in given):
        decision = known.get(image)
        followed = {str(o.acting[image].action) if image in o.acting else "keep" for o in outcomes}
        if decision is not None and decision.action != "keep" and followed != {decision.action}:
            aside[image] = ASIDE[decision.action]
        elif any(image not in given for given in labels):
            aside[image] = MISSED
        elif touched.get(image, False):
            aside[image] = TOUCHED
        elif len({given[image] for given in labels}) > 1:
            aside[image] = ASIDE["relabel"]
    images = tuple(sorted({image for given in labels for image in given} - set(aside)))
    by_label = sum(image in known and known[image].finding in LABEL_CHECKS for image in aside)
    counts = Counter(aside.values())
    reasons = (*ASIDE.values(), MISSED, TOUCHED)
    return Trusted(images, {r: counts[r] for r in reasons if counts[r]}, by_label, len(influenced))


def _find_cases(outcomes: Sequence[Outcome], images: Collection[str]) -> dict[str, bool]:
    """Image -> whether some image of its case is among these."""
    case_of = {
        image: outcome.pool.cases[case]
        for outcome in outcomes
        for image, case in zip(outcome.pool.images, outcome.pool.case, strict=True)
    }
    cases = {case_of[image] for image in images if image in case_of}
    return {image: case in cases for image, case in case_of.items()}


def tell_given(outcome: Outcome, trusted: Trusted, unit: Unit) -> dict[str, Any] | None:
    """What a rung scores as given, where scores of this ladder are not trusted; None where they are."""
    if not trusted.influenced:
        return None
    scores = take_unit(outcome.scores, unit) or outcome.scores
    if scores.get("as_given") is not None:
        return dict(scores["as_given"])
    changed = f"{trusted.influenced} images are set aside or changed by decisions made with predictions in view"
    return describe_given(changed, scores)


def score_on(outcome: Outcome, images: Sequence[str], unit: Unit) -> dict[str, Any]:
    """Scores on some of its images, as in ``scores.json``; but for the optimism, which is that of all of them."""
    own = take_unit(outcome.scores, unit) or outcome.scores
    if set(images) == set(outcome.pool.images):
        return own
    table, classes = outcome.tabulate(images, unit), outcome.pool.classes
    scores = score_predictions(table, classes=classes, confidence=outcome.evaluate.confidence)
    return scores | {"optimism": own["optimism"], "n_images": len(images)}


def describe_scoring(rows: Sequence[Mapping[str, Any]], trusted: Trusted) -> list[str]:
    """In words: what all rungs are scored on, and what each on its own images would have shown."""
    scored = {row["name"]: row for row in rows if row["metrics"]}
    if not scored or not trusted.set_aside:
        return []
    any_row = next(iter(scored.values()))
    reasons = ", ".join(f"{number} {reason}" for reason, number in trusted.set_aside.items())
    words = [
        f"All rungs are scored on the same {any_row['n_images']} images of {any_row['n_cases']} cases; "
        f"{sum(trusted.set_aside.values())} were set aside from scoring: {reasons}."
    ]
    for name, row in scored.items():
        base = scored.get(row["on"])
        if base is None or row["difference"] is None or row["own"] == base["own"]:
            continue
        own, its = row["own"], base["own"]
        words.append(
            f"Each on its own images and labels, '{name}' would have {_say(own)} and '{base['name']}' {_say(its)}: "
            f"{own['value'] - its['value']:+.3f}, where the same images say "
            f"{row['difference']['macro_f1']['value']:+.3f}."
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


def _say(own: Mapping[str, Any]) -> str:
    return f"{own['value']:.3f} ({own['n_images']} images)"
