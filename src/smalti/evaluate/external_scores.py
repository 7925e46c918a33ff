"""The scores of a model on new images that have labels: an external cohort.

Its cases are not those of the promise, so that nothing is paired. The interval of the difference comes from the two
intervals (MOVER: Newcombe 1998, method 10; Zou & Donner 2008). What the promise says about as many new cases is a
prediction interval (`smalti.evaluate.foresee_score`). Calibration has three levels: in the large (mean score against
frequency), the slope of a recalibration (Cox 1958; for several classes Van Hoorde et al. 2014), and the curve.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ..errors import DataError
from ..metrics import SMALLEST_PROBABILITY
from ..records import HEADLINE, OTHER, Interval, Margin, ModelRecord, Scores, Scoring, UnitScores
from ..records.studies.comparison import Verdict
from ..records.studies.external import Compared, ExternalRecord, Large, Promised, Refused
from ..records.studies.sites import Subgroup
from ..stats.gap import POWER
from ..stats.intervals import LEAST_CASES, measure_error
from ..stats.pool import Pool, pool_predictions
from ..types import score_columns
from .cases import average_cases, choose_unit, score_units
from .growth import foresee_score
from .margins import measure_present
from .subgroups import measure_subgroups

Floats = NDArray[np.float64]

CONFIDENCE = 0.95  # where the model says none
COVERS = "other cases of this population, answered by this very model"
NO_ANSWER = " refused"  # a class beside those of the model; labels have no space in front
STEEPEST = 100.0  # a larger slope is that of scores which separate the classes
STEPS = 100  # of Newton's method


def score_external(
    answers: pd.DataFrame,
    labels: Mapping[str, str],
    model: ModelRecord,
    *,
    root: str,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> ExternalRecord:
    """Score the answers of a model for images that have labels.

    Args:
        answers: columns ``image, case, refused, score_<class>...``, one row an image.
        labels: image -> label, where there is one.
        model: what answered; its scores are the promise.
        root: the folder of the images, for people.
        groups: column -> image -> value, of the columns whose values are scored one by one.

    Raises:
        DataError: no answered image has a label that the model knows.
    """
    classes, confidence = model.classes, CONFIDENCE if model.scores is None else model.scores.interval.confidence
    rows = answers.assign(label=answers["image"].map(labels), fold=0, seed=0)
    known = rows[rows["label"].isin(classes)]
    unknown = Counter(map(str, rows["label"].dropna())) - Counter(map(str, known["label"]))
    answered = known[known["refused"] == ""]
    if answered.empty:
        shown = ", ".join(list(unknown)[:5])
        why = "all of them are refused" if len(known) else f"their labels ({shown}) are none of its classes"
        raise DataError(
            f"{len(rows['label'].dropna())} images have labels, and the model answers for none of them: {why}",
            fix=f"the classes are {', '.join(classes)}",
        )
    cases = dict(zip(known["image"], known["case"], strict=True))
    scoring = choose_unit(dict(zip(known["image"], known["label"], strict=True)), cases)
    if scoring.by_case:
        scoring = Scoring(model.unit, by_case=True, reason="as the score of the model")
    average = partial(average_cases, cases=cases, classes=classes)
    pools = {"image": pool_predictions(answered, classes=classes)}
    if scoring.by_case:
        pools["case"] = pool_predictions(average(answered), classes=classes)
    scores = score_units(answered, scoring, classes=classes, cases=cases, confidence=confidence)
    present = set(answered["label"])
    absent = tuple(name for name in classes if name not in present)
    scores = _say_cover(scores, pools, confidence, absent=bool(absent))
    pool = pools[scoring.unit]
    slope, slope_why = fit_slope(pool, confidence=confidence)
    named = np.array(classes, dtype=object)[answered[score_columns(classes)].to_numpy(dtype=float).argmax(axis=1)]
    return ExternalRecord(
        population="external", model=model.name, root=root, n_images=len(rows), n_labelled=len(known),
        unknown=dict(unknown), absent=absent, predicted_absent=int(np.isin(named, absent).sum()), scores=scores,
        refused=_count_refused(known, scoring, cases, classes, confidence), promised=_compare(scores, model, absent),
        large=measure_large(pool, confidence=confidence), slope=slope, slope_why=slope_why,
        subgroups=_score_groups(pool, cases, scoring, groups or {}, confidence),
    )  # fmt: skip


def _say_cover(scores: Scores, pools: Mapping[str, Pool], confidence: float, *, absent: bool) -> Scores:
    """Return scores that say what they cover; with ``absent`` classes macro-F1 is the mean over the others."""

    def change(part: UnitScores, pool: Pool) -> dict[str, object]:
        if not absent:
            return {"interval": part.interval.model_copy(update={"covers": COVERS})}
        margin = measure_present(pool, confidence=confidence)
        headline = part.headline.model_copy(update=margin.model_dump() | {"per_seed": (margin.value,)})
        cover = {"covers": COVERS, "trustworthy": margin.trustworthy, "reason": margin.reason}
        return {
            "metrics": part.metrics | {HEADLINE: headline}, "interval": part.interval.model_copy(update=cover)
        }  # fmt: skip

    update = change(scores, pools[scores.unit])
    other = OTHER[scores.unit]
    if (beside := scores.take(other)) is not None:
        update[f"by_{other}"] = beside.model_copy(update=change(beside, pools[other]))
    return scores.model_copy(update=update)


def _count_refused(
    known: pd.DataFrame, scoring: Scoring, cases: Mapping[str, str], classes: tuple[str, ...], confidence: float
) -> Refused:
    """Return what was refused and why, and the score in which a refusal is an answer that is never right."""
    wide, out = (*classes, NO_ANSWER), known["refused"] != ""
    columns = score_columns(classes)
    table = known.assign(**{column: known[column].where(~out, 0.0) for column in columns})
    table[score_columns(wide)[-1]] = out.astype(float)
    by_image = measure_present(pool_predictions(table, classes=wide), confidence=confidence)
    answered = set(known["case"][~out])
    by_case = None
    if scoring.by_case:
        kept = table[~out | ~known["case"].isin(answered)]  # a case is answered by the images that are
        by_case = measure_present(
            pool_predictions(average_cases(kept, cases, classes=wide), classes=wide), confidence=confidence
        )
    # A reason may begin with its code, and go on with what is true of one image alone.
    codes = [re.match(r"[a-z-]+(?=: )|.*", reason, re.DOTALL) for reason in known["refused"][out]]
    reasons = Counter(code[0] for code in codes if code is not None)
    return Refused(
        n_images=int(out.sum()), n_cases=known["case"].nunique() - len(answered), reasons=dict(reasons.most_common()),
        by_image=by_image, by_case=by_case,
    )  # fmt: skip


def _compare(scores: Scores, model: ModelRecord, absent: tuple[str, ...]) -> Promised | None:
    """Return the promise of a model beside what it holds."""
    promise = None if model.scores is None else model.scores.take(scores.unit)
    if promise is None:
        return None
    one, other = scores.headline, promise.headline
    numbers = [x for part in (one, other) for x in (part.value, part.low, part.high) if x is not None]
    compared, why = None, ""
    if absent:
        why = f"the external score is over other classes, because no answered image is {' or '.join(absent)}"
    elif len(numbers) < 6:
        why = "an interval is missing"
    else:
        a, a_low, a_high, b, b_low, b_high = numbers
        low = a - b - float(np.hypot(a - a_low, b_high - b))
        high = a - b + float(np.hypot(a_high - a, b - b_low))
        z = float(stats.norm.ppf(0.5 + promise.interval.confidence / 2))
        verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
        if not (one.trustworthy and other.trustworthy):
            verdict = "no verdict"
        foreseen = foresee_score(b, b_low, b_high, cases=promise.n_cases, new_cases=scores.n_cases)
        compared = Compared(
            difference=Interval(value=a - b, low=low, high=high),
            smallest_detectable=(high - low) / 2 * (z + float(stats.norm.ppf(POWER))) / z, verdict=verdict,
            foreseen=foreseen, inside=foreseen[0] <= a <= foreseen[1],
        )  # fmt: skip
    return Promised(
        population=model.population, n_images=promise.n_images, n_cases=promise.n_cases,
        score=Margin(**{key: getattr(other, key) for key in Margin.model_fields}),
        f1={k: Interval(value=c.f1, low=c.f1_low, high=c.f1_high) for k, c in promise.per_class.items()},
        compared=compared, why=why,
    )  # fmt: skip


def measure_large(pool: Pool, *, confidence: float) -> dict[str, Large]:
    """Measure the calibration in the large of each class: mean score less frequency, with the jackknife by case."""
    excess = pool.scores.mean(axis=0) - np.eye(len(pool.classes))[pool.y_true]  # (n, C)
    sums = np.zeros((pool.n_cases, len(pool.classes)))
    np.add.at(sums, pool.case, excess)
    left = len(excess) - np.bincount(pool.case, minlength=pool.n_cases)[:, None]
    without = np.divide(excess.sum(axis=0) - sums, left, out=np.full(sums.shape, np.nan), where=left > 0)
    found = {}
    for label, name in enumerate(pool.classes):
        value, frequency = float(excess[:, label].mean()), float((pool.y_true == label).mean())
        error, degrees = measure_error(without[:, label])
        half = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * error if pool.n_cases > 2 else float("nan")
        interval = Interval(value=value, low=value - half, high=value + half)
        found[name] = Large(mean_score=value + frequency, frequency=frequency, difference=interval)
    return found


def fit_slope(pool: Pool, *, confidence: float) -> tuple[Interval | None, str]:
    """Fit the calibration slope: of softmax(a_c + b log p_c) over the classes that occur, with the error by case.

    With two classes it is the slope of Cox's logistic recalibration. The error is the sandwich over cases (Liang &
    Zeger 1986), the interval Student's t.

    Returns:
        The slope b; or None and why there is none.
    """
    present, label = np.unique(pool.y_true, return_inverse=True)
    count = len(present)
    if count < 2:
        return None, "all labels are of one class"
    if pool.n_cases < max(LEAST_CASES, 2 * count):
        return None, f"there are only {pool.n_cases} cases (at least {max(LEAST_CASES, 2 * count)} are needed)"
    logs = np.log(np.clip(pool.scores.mean(axis=0)[:, present], SMALLEST_PROBABILITY, 1))
    shifts = np.broadcast_to(np.eye(count)[:, 1:], (len(logs), count, count - 1))
    design = np.concatenate([shifts, logs[:, :, None]], axis=2)  # (n, C, C): C - 1 shifts, then the slope
    truth, weights = np.eye(count)[label], np.append(np.zeros(count - 1), 1.0)

    def look(at: Floats) -> tuple[float, Floats]:
        logits = design @ at
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return float(np.log(np.maximum((shares * truth).sum(axis=1), 1e-300)).sum()), shares

    value, shares = look(weights)
    for _ in range(STEPS):
        slopes = np.einsum("ncp,nc->np", design, truth - shares)
        spread = np.einsum("ncp,nc,ncq->pq", design, shares, design)
        mean = np.einsum("ncp,nc->np", design, shares)
        bend = spread - mean.T @ mean
        try:
            step = np.linalg.solve(bend, slopes.sum(axis=0))
        except np.linalg.LinAlgError:
            break
        size = 1.0
        while size > 1e-6 and look(weights + size * step)[0] < value - 1e-12:
            size /= 2
        weights = weights + size * step
        value, shares = look(weights)
        if np.abs(size * step).max() < 1e-9 and abs(weights[-1]) < STEEPEST:
            by_case = np.zeros((pool.n_cases, count))
            np.add.at(by_case, pool.case, slopes)
            back = np.linalg.inv(bend)
            variance = (back @ (by_case.T @ by_case) @ back)[-1, -1] * pool.n_cases / (pool.n_cases - 1)
            half = float(stats.t.ppf(0.5 + confidence / 2, pool.n_cases - 1) * np.sqrt(variance))
            slope = float(weights[-1])
            return Interval(value=slope, low=slope - half, high=slope + half), ""
    return None, "the scores separate the classes, so that no slope is the best"


def _score_groups(
    pool: Pool, cases: Mapping[str, str], scoring: Scoring, groups: Mapping[str, Mapping[str, str]], confidence: float
) -> tuple[Subgroup, ...]:
    """Return the scores of subgroups; a case whose images have several values belongs to none."""
    columns = {}
    for column, value_of in groups.items():
        seen: dict[str, set[str]] = {}
        for image, case in cases.items():
            seen.setdefault(case if scoring.unit == "case" else image, set()).add(value_of.get(image, ""))
        columns[column] = [next(iter(seen[unit])) if len(seen[unit]) == 1 else "" for unit in pool.images]
    return measure_subgroups(pool, columns, confidence=confidence) if columns else ()
