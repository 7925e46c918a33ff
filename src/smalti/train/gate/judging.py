"""The verdict: without against with a part of training, paired on the inner cases.

Gain, interval and p-value are those of a comparison of two runs (`smalti.stats.gap`): the jackknife's error by case,
plus what single trainings add. A part is kept where the lower end of the interval is above 0. What it would cost to be
wrong is the mean of what the verdict loses, over Student's t around the gain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ... import recipe
from ...metrics import LOWER_IS_BETTER
from ...records import HEADLINE, GateVerdict
from ...stats import Pool, judge_trust, score_pool
from ...stats.gap import NO_ERROR, Gap, measure_gap
from .inner import Inner

Floats = NDArray[np.float64]

NOTHING = (float("nan"), float("nan"))
# Of any metric. Scores of labels that mean nothing are flattened by their temperature until hardly anything is left of
# them, and what is left may differ by as little, always in one direction.
LEAST_GAIN = 1e-3
LEAST_DEGREES = 2.0  # below them the mean of Student's t does not exist


@dataclass(frozen=True, slots=True)
class _Found:
    """What the inner cases say.

    Attributes:
        if_kept, if_dropped: chance that this verdict is wrong, and what it costs.
        headline: macro-F1 before and after.
        helps: whether they say that the part helps.
        Others: as in `GateVerdict`.
    """

    before: float = float("nan")
    after: float = float("nan")
    gain: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    if_kept: tuple[float, float] = NOTHING
    if_dropped: tuple[float, float] = NOTHING
    headline: tuple[float, float] = NOTHING
    helps: bool = False
    reason: str = ""


def judge(
    inner: Inner, before: Floats | None, after: Floats | None, *, part: str, gate: recipe.Gate, about: str = ""
) -> GateVerdict:
    """Return whether a part is kept in a fold, by scores of the inner images without and with it.

    Args:
        inner: the images, and the turns in which each was held out.
        before: (R, n, C) probabilities without the part, each by a training that did not have the case; None where
            there is no turn.
        after: (R, n, C) with the part, from the same turns.
        part: its name, for people.
        gate: ``always`` keeps it whatever is found.
        about: numbers of the part itself, in words.
    """
    found = _Found(reason="a class has a single case, so that no case can be held out")
    if before is not None and after is not None and inner.turns:
        found = _compare(inner, before, after, gate=gate)
    kept = found.helps or gate.keep == "always"
    reason = found.reason if found.helps or not kept else f"train.gate.keep=always, although {found.reason}"
    wrong, cost = found.if_kept if kept else found.if_dropped
    return GateVerdict(
        seed=inner.split.seed, fold=inner.split.fold, part=part, metric=gate.metric, n_images=len(inner.images),
        n_cases=len(np.unique(inner.cases)), n_trainings=len(inner.turns), before=found.before, after=found.after,
        gain=found.gain, low=found.low, high=found.high, confidence=gate.confidence,
        wrong=wrong, cost=cost,
        macro_f1_before=found.headline[0], macro_f1_after=found.headline[1], kept=kept, reason=reason, about=about,
    )  # fmt: skip


def _compare(inner: Inner, before: Floats, after: Floats, *, gate: recipe.Gate) -> _Found:
    """Compare both sides on one metric."""
    turn = np.zeros(before.shape[:2], dtype=np.int64)
    for number, one in enumerate(inner.turns):
        turn[one.repeat, one.held] = number
    names = tuple(str(i) for i in inner.images)
    cases = tuple(str(i) for i in np.unique(inner.cases))
    pools = [Pool(inner.classes, names, inner.targets, inner.cases, turn, scores, cases) for scores in (before, after)]
    first, second = (score_pool(pool) for pool in pools)
    sides = (first, second) if gate.metric in LOWER_IS_BETTER else (second, first)
    gap = measure_gap(*sides, gate.metric)
    low, high = gap.find_interval(confidence=gate.confidence)
    trusted, why = judge_trust(pools[0])
    if not trusted:
        reason = why
    elif np.isnan(low):
        reason = "the gain is the same without any of the cases, so nothing tells how sure it is"
    elif low > 0 and gap.value < LEAST_GAIN:
        reason = f"a gain below {LEAST_GAIN:g} changes nothing"
    elif low > 0:
        reason = "the lower end of the gain is above 0"
    else:
        reason = "the gain is not above 0 beyond noise"
    before_score, after_score, headline_before, headline_after = (
        float(side.score_seeds(metric).mean()) for metric in (gate.metric, HEADLINE) for side in (first, second)
    )
    return _Found(
        before_score, after_score, gap.value, low, high, if_kept=find_regret(gap, -1), if_dropped=find_regret(gap, 1),
        headline=(headline_before, headline_after), helps=bool(trusted and low > 0 and gap.value >= LEAST_GAIN),
        reason=reason,
    )  # fmt: skip


def find_regret(gap: Gap, sign: int) -> tuple[float, float]:
    """Find the chance that the true gain has this sign (1 or -1), and the mean of it where it has, else 0.

    The true gain is taken to be Student's t around what was found: for t with v degrees of freedom, density f and
    distribution F, E[max(0, m + s t)] = m F(m / s) + s (v + (m / s)^2) / (v - 1) f(m / s).
    """
    error, degrees = gap.find_error(gap.luck)
    if error <= NO_ERROR or not np.isfinite(gap.value):
        return float(sign * gap.value > NO_ERROR), max(0.0, sign * gap.value)
    shift, v = sign * gap.value / error, max(degrees, LEAST_DEGREES)
    mean = shift * stats.t.cdf(shift, v) + (v + shift**2) / (v - 1) * stats.t.pdf(shift, v)
    return float(stats.t.cdf(shift, v)), float(error * mean)
