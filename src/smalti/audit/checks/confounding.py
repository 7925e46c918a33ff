"""Shortcuts: whether the label can be predicted from anything but tissue (Geirhos et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...stats.permutation import (
    FEWEST,
    Codes,
    Neighbours,
    Outcome,
    adjust_holm,
    code_groups,
    draw_rows,
    measure_accuracy,
    measure_chance,
)
from ...types import Cohort, Finding, Sample
from ..measure.traits import Trait, tabulate_names
from .concentration import CONCENTRATED, Concentration, measure_concentration
from .registered import CHECKS, Digest, NotApplicable, Partial

KINDS_ALPHA, CASE_ALPHA = 0.01, 0.01  # chance of any false alarm; strict, since a finding costs people much work
MOST_IMAGES = 2000  # drawn from larger cohorts: time grows with the square, and the verdict does not change
MOST_SHOWN = 12  # images of a finding; a shortcut concerns all of a class
WEAK = 0.2  # of the way from chance to certainty; less is reported, without a warning
PLAIN = 0.8  # disease alone seldom shows so plainly in a mean colour or an area


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of shortcut: its name in a sentence, whether disease may cause it, and what to do about it.

    Attributes:
        doubt: ``no``: never the disease; ``maybe``: it may be; ``unseen``: no network sees it.
    """

    words: str
    doubt: Literal["no", "maybe", "unseen"]
    advice: str


RESAMPLE = "bring all classes to one size and scale, or check the score on images that are alike in this"
REENCODE = "export all classes in the same way from the originals"
STAIN = "disease can colour tissue, and so can stain and scanner: compare classes within one stain batch and scanner"
GLASS = "glass shows the scanner, unless pale tissue was taken for it: add images of each class from each scanner"
KINDS = {
    "size": Kind("the size of the image", "no", RESAMPLE),
    "scale": Kind("the resolution", "no", RESAMPLE),
    "file": Kind("the file format", "no", REENCODE),
    "bytes": Kind("the length of the file", "unseen", f"busy tissue needs more bytes; if it is not that, {REENCODE}"),
    "glass": Kind("the colour of the empty glass", "maybe", GLASS),
    "colour": Kind("the mean colour", "maybe", STAIN),
    "mask presence": Kind("whether there is a mask", "no", "mask all classes or none"),
    "mask shape": Kind("the extent of the mask", "maybe", "see whether all masks were drawn by the same rules"),
    "tiles": Kind(
        "the number of tiles", "maybe", "large tumours have more; if it is not that, see how slides were cut"
    ),
    "extraction": Kind("how features were made", "no", "extract all classes with the same tool, encoder and tile size"),
    "site": Kind(
        "the site", "no", "score with whole sites left out (split.group=site), or add sites that have all classes"
    ),
    "naming": Kind("the file name", "unseen", "no network sees it; ask whether classes came from different sources"),
}


@CHECKS.register(
    "confounding",
    summary="labels that can be told from case, size, file, colour, mask or name instead of tissue",
    reference="neighbours in other cases; permutation of whole cases, Winkler et al. 2015; Holm 1979",
)
def find_confounding(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """Return a finding for each kind of shortcut that predicts labels of other cases better than chance."""
    samples = [cohort.labelled[i] for i in draw_rows(len(cohort.labelled), most=MOST_IMAGES)]
    cases = [digest.joined_cases[s.image] for s in samples]
    if len({s.label for s in samples}) < 2 or len(samples) < FEWEST:
        return NotApplicable(f"needs {FEWEST} labelled images of two classes")
    if len(set(cases)) < 2:
        return NotApplicable("all labelled images are of one case")
    # Each kind of trait is tested where enough images of several classes and cases have it.
    kinds = digest.tabulate([s.image for s in samples])
    kinds["naming"] = tabulate_names(samples, cohort.classes, layout=cohort.layout)
    tests: dict[str, Trial] = {}
    for kind, traits in kinds.items():
        known = np.all([np.isfinite(t.values) for t in traits], axis=0) if traits else np.zeros(0, bool)
        rows = np.flatnonzero(known)
        labels = code_groups([str(samples[i].label) for i in rows])
        groups = code_groups([cases[i] for i in rows])
        if len(rows) < FEWEST or labels.max() < 1 or groups.max() < 1:
            continue
        neighbours = Neighbours(np.stack([t.values[rows] for t in traits], axis=1), groups)
        count = int(labels.max()) + 1
        own = neighbours.score(labels[None], count)[0, np.arange(len(rows)), labels]
        measure = partial(neighbours.measure, by=measure_accuracy, count=count)
        tests[kind] = Trial(kind, rows, traits, own, measure_chance(labels, groups, measure=measure))
    p = dict(zip(tests, adjust_holm([test.outcome.p for test in tests.values()]), strict=True))
    findings = [_report_kind(t, samples, cases, p=p[t.kind], tried=len(p)) for t in tests.values()
                if p[t.kind] <= KINDS_ALPHA]  # fmt: skip
    if all(s.case == s.image for s in cohort.labelled):
        return Partial(findings, "case: none is known, each image is its own")
    tied = [c for c in measure_concentration(cohort.labelled, cohort.classes) if c.tied and c.p <= CASE_ALPHA]
    return [*([_report_cases(tied, cohort.labelled)] if tied else []), *findings]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One kind of shortcut that was tested: positions of samples, their traits, and the result."""

    kind: str
    rows: Codes
    traits: list[Trait]
    scores: NDArray[np.float32]
    outcome: Outcome


# --- in words -----------------------------------------------------------------------------------------------------


def _report_kind(test: Trial, samples: list[Sample], cases: list[str], *, p: float, tried: int) -> Finding:
    kind, outcome = KINDS[test.kind], test.outcome
    effect = (outcome.value - outcome.chance) / (1 - outcome.chance)
    floor = {"no": WEAK, "maybe": PLAIN, "unseen": np.inf}[kind.doubt]
    labels = [str(samples[i].label) for i in test.rows]
    # For each class the condition on one trait that predicts it best, where Youden's index is above a half; at least
    # the best of all conditions (Youden 1950).
    named, best = np.array(labels), []
    for name in sorted(set(labels)):
        found = [_find_rule(t, t.values[test.rows], named == name) for t in test.traits]
        gain, words, inside, outside = max(found, key=lambda rule: rule[0])
        sizes = int((named == name).sum()), int((named != name).sum())
        best.append((gain, f"{inside} of {sizes[0]} images of '{name}' have {words}, {outside} of {sizes[1]} others."))
    best.sort(key=lambda rule: -rule[0])
    rules = [words for i, (gain, words) in enumerate(best) if i == 0 or gain > 0.5]
    typical = [samples[test.rows[i]].image for i in np.argsort(-test.scores, kind="stable")[:MOST_SHOWN]]
    count = len({cases[i] for i in test.rows})
    numbers = (
        f"balanced accuracy {outcome.value:.2f} on images of other cases, chance {outcome.chance:.2f}, "
        f"p = {p:.3f} of {tried} kinds tried; {len(labels)} images, {count} cases"
    )
    return Finding(
        code="confounding",
        severity="warning" if effect >= floor else "info",
        images=tuple(typical),
        score=round(effect, 4),
        message=f"{kind.words} tells the label ({numbers}). {' '.join(rules)} What to do: {kind.advice}.",
        evidence={
            "kind": test.kind,
            "balanced_accuracy": round(outcome.value, 4),
            "chance": round(outcome.chance, 4),
            "p": round(p, 4),
            "kinds_tried": tried,
            "images": len(labels),
            "cases": count,
            "rules": rules,
        },
    )


def _find_rule(trait: Trait, values: NDArray[np.float64], member: NDArray[np.bool_]) -> tuple[float, str, int, int]:
    """Return (difference of shares, words, images inside, images outside) of the best of =, <=, >= for a class."""
    levels = np.unique(values)
    shown = [f"{level:,.4g}".replace(",", "") if level < 1e4 else f"{level:.0f}" for level in levels]
    unit = f" {trait.unit}" if trait.unit else ""
    rules = []
    for sign, compare in (("=", np.equal), ("<=", np.less_equal), (">=", np.greater_equal)):
        true = compare(values[None], levels[:, None])
        inside, outside = true[:, member].sum(axis=1), true[:, ~member].sum(axis=1)
        gains = inside / member.sum() - outside / (~member).sum()
        at = int(gains.argmax())
        words = f"{trait.name} {sign} {shown[at]}{unit}"
        if trait.flag and sign == "=":
            words = trait.name if levels[at] else f"no {trait.name.removeprefix('a ')}"
        rules.append((float(gains[at]), words, int(inside[at]), int(outside[at])))
    return max(rules, key=lambda rule: rule[0])  # of equals the first, which is the simplest


def _report_cases(tied: Sequence[Concentration], samples: Sequence[Sample]) -> Finding:
    worst = min(tied, key=lambda c: c.effective)
    severe = worst.effective < CONCENTRATED
    listed = " ".join(
        f"'{c.label}': {c.images} images from {c.cases} case(s), {c.largest} of them from {c.case}; that counts like "
        f"{c.effective:.1f} cases, chance {c.expected:.1f}, p = {c.p:.3f}."
        for c in tied
    )
    first = sorted(
        (s for s in samples if s.label == worst.label), key=lambda s: s.case != worst.case
    )  # the largest case first
    return Finding(
        code="confounding",
        severity="warning" if severe else "info",
        images=tuple(s.image for s in first[:MOST_SHOWN]),
        score=round(1 / worst.effective, 4),
        message=(
            f"class and case can hardly be told apart for {len(tied)} of {len({s.label for s in samples})} classes, "
            f"{len({s.case for s in samples})} cases in all. {listed} A score may speak of these cases rather than of "
            f"the class. What to do: add cases of these classes, or merge classes; read intervals by case."
        ),
        evidence={
            "kind": "case",
            "classes": {
                c.label: {
                    "images": c.images, "cases": c.cases, "largest_case": c.largest, "p": round(c.p, 4),
                    "effective_cases": round(c.effective, 2), "expected_cases": round(c.expected, 2),
                }
                for c in tied
            },
        },
    )  # fmt: skip
