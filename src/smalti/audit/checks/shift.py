"""Whether the unlabelled part has the same distribution as the labelled part; labels are not used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ...stats.permutation import (
    Codes,
    Floats,
    Neighbours,
    Outcome,
    adjust_holm,
    code_groups,
    draw_rows,
    measure_auc,
    measure_chance,
)
from ...types import Cohort, Finding
from ..measure.traits import Trait
from .registered import CHECKS, Digest, NotApplicable

SHIFT_ALPHA = 0.05  # chance of any false alarm
ALL, FEATURES = "all together", "backbone features"  # told apart with an AUC; other statistics have a distance
FEWEST_PART = 8  # images of a part; fewer have no distribution to speak of
MOST_PART = 1000  # drawn from larger parts: time grows with the square
MOST_SHOWN = 12
PLAIN_AUC = 0.7  # two images, one of each part: the right one is picked seven times of ten
PLAIN_DISTANCE = 0.3  # at least so large a share of one part lies where the other has nothing to match it


@CHECKS.register(
    "shift",
    summary="an unlabelled part that is not drawn like the labelled part: size, file, colour, mask",
    reference="classifier two-sample test, Lopez-Paz & Oquab 2017; Kolmogorov-Smirnov by permutation of cases",
)
def find_shift(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """Return one finding where the parts can be told apart, with the statistics that differ.

    Ranks are compared, so a few planted or foreign images change nothing; other checks find those.
    """
    parts_of_cohort = ((*cohort.labelled, *cohort.sealed), cohort.unlabelled)
    labelled, unlabelled = ([p[i].image for i in draw_rows(len(p), most=MOST_PART)] for p in parts_of_cohort)
    if not unlabelled:
        return NotApplicable("there is no unlabelled part")
    if min(len(labelled), len(unlabelled)) < FEWEST_PART:
        return NotApplicable(f"needs {FEWEST_PART} images in each part")
    names = [*labelled, *unlabelled]
    parts = np.repeat([0, 1], [len(labelled), len(unlabelled)]).astype(np.int64)
    cases = code_groups([digest.joined_cases[name] for name in names])
    if cases.max() < 1:
        return NotApplicable("all images are of one case")
    # Where a trait is unknown for an image, the median takes its place.
    traits = [
        Trait(t.name, np.where(np.isfinite(t.values), t.values, np.nanmedian(t.values)), t.unit, t.flag)
        for kind in digest.tabulate(names).values()
        for t in kind
    ]
    tests: dict[str, Outcome] = {}
    if traits:
        neighbours = Neighbours(np.stack([t.values for t in traits], axis=1), cases)
        measure = partial(neighbours.measure, by=measure_auc, count=2)
        tests[ALL] = measure_chance(parts, cases, measure=measure)
    if digest.embeddings is not None:
        points = np.asarray(digest.embeddings, dtype=np.float64)[digest.find_rows(names)]
        features = Neighbours(points, cases)
        neighbours = neighbours if tests else features
        measure = partial(features.measure, by=measure_auc, count=2)
        tests[FEATURES] = measure_chance(parts, cases, measure=measure)
    tests |= {t.name: measure_chance(parts, cases, measure=partial(_measure_gap, values=t.values)) for t in traits}
    if not tests:
        return []
    p = dict(zip(tests, adjust_holm([test.p for test in tests.values()]), strict=True))
    if min(p.values()) > SHIFT_ALPHA:
        return []
    scores = neighbours.score(parts[None], 2)[0, :, 1]
    typical = [names[i] for i in np.argsort(-scores, kind="stable") if parts[i] == 1][:MOST_SHOWN]
    moved = sorted((t for t in traits if p[t.name] <= SHIFT_ALPHA), key=lambda t: -tests[t.name].value)
    about = f"{len(labelled)} labelled and {len(unlabelled)} unlabelled images, {cases.max() + 1} cases"
    words = []
    for t in moved:
        here, there = (t.values[parts == part] for part in (1, 0))
        if t.flag:
            said = f"{here.mean():.0%} of the unlabelled, {there.mean():.0%} of the labelled ("
        else:
            unit = f" {t.unit}" if t.unit else ""
            said = f"median {np.median(here):.4g}{unit}, labelled {np.median(there):.4g}{unit} (distance "
            said += f"{tests[t.name].value:.2f}, "
        words.append(f"{t.name}: {said}p = {p[t.name]:.3f}).")
    return [_report(typical, words, about=about, tests=tests, p=p, given=cohort.features is not None)]


def _measure_gap(groups: Codes, *, values: Floats) -> Floats:
    """Return the two-sample Kolmogorov-Smirnov statistic (P,) of the values (n,) for groups 0 and 1, (P, n)."""
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # of equal values only the last closes a step
    ones = groups[:, order].astype(np.float64)
    one, zero = (
        np.cumsum(part, axis=1)[:, last] / np.maximum(part.sum(axis=1, keepdims=True), 1) for part in (ones, 1 - ones)
    )
    return np.asarray(np.abs(one - zero).max(axis=1))


def _report(
    typical: Sequence[str],
    words: Sequence[str],
    *,
    about: str,
    tests: dict[str, Outcome],
    p: dict[str, float],
    given: bool,
) -> Finding:
    """Return the finding; its message names the three statistics that moved most, its evidence holds all."""
    apart = {name: tests[name] for name in (ALL, FEATURES) if name in tests}
    moved = {name: round(test.value, 4) for name, test in tests.items() if name not in apart and p[name] <= SHIFT_ALPHA}
    told = {ALL: "sizes, files, colours and masks"}
    advice = "normalise stain and size, or add labelled images like these"
    if given:
        told = {ALL: "number of tiles, tool and site", FEATURES: "their features"}
        advice = "extract both parts with the same tool, encoder and tile size, or add labelled slides like these"
    listed = "; ".join(
        f"by {told.get(name, name)}: AUC {test.value:.2f}, chance {test.chance:.2f}, p = {p[name]:.3f}"
        for name, test in apart.items()
    )
    auc = max((test.value for name, test in apart.items() if p[name] <= SHIFT_ALPHA), default=0.5)
    plain = auc >= PLAIN_AUC or max(moved.values(), default=0) >= PLAIN_DISTANCE
    return Finding(
        code="shift",
        severity="warning" if plain else "info",
        images=tuple(typical),
        score=round(max(2 * auc - 1, *moved.values(), 0), 4),
        message=(
            f"the unlabelled part is not drawn like the labelled part ({listed}; {about}). {' '.join(words[:3])} "
            f"Scores on labelled images may not hold there. What to do: {advice}."
        ),
        evidence={
            "auc": {name: round(test.value, 4) for name, test in apart.items()},
            "p": {name: round(p[name], 4) for name in apart}, "distances": moved, "images": about,
        },
    )  # fmt: skip
