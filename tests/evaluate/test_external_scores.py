"""Scores of a model on an external cohort, against scikit-learn, statsmodels and drawn truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from smalti.errors import DataError
from smalti.evaluate import Scoring, foresee_score, score_external, score_units
from smalti.evaluate.external_scores import fit_slope, measure_large
from smalti.records import ModelRecord, Scores
from smalti.records.studies.external import ExternalRecord
from smalti.stats import pool_predictions

CLASSES = ("A", "B", "C")


def draw_answers(cases: int, *, images: int = 2, skill: float = 2.0, random: int = 0,
                 classes: tuple[str, ...] = CLASSES) -> pd.DataFrame:  # fmt: skip
    """Answers with columns image, case, label, refused and scores; images of a case share label and luck."""
    rng = np.random.default_rng(random)
    truth = rng.permutation(np.arange(cases) % len(classes)).repeat(images)
    luck = rng.normal(0, 1, (cases, len(classes))).repeat(images, axis=0)
    logits = skill * np.eye(len(classes))[truth] + luck + rng.normal(0, 0.7, (len(truth), len(classes)))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({
        "image": [f"{i}.png" for i in range(len(truth))], "case": [f"c{i // images}" for i in range(len(truth))],
        "label": np.array(classes)[truth], "refused": "",
    })  # fmt: skip
    table[[f"score_{name}" for name in classes]] = shares
    return table


def describe_model(scores: Scores | None = None, *, unit: Any = "image",
                   classes: tuple[str, ...] = CLASSES) -> ModelRecord:  # fmt: skip
    return ModelRecord(
        name="run", classes=classes, unit=unit, members=(), bits=None, mpp=None, population="out-of-fold",
        scores=scores, device={}, libraries={}, files={},
    )  # fmt: skip


def promise(table: pd.DataFrame, *, unit: Any = "image") -> Scores:
    cases = dict(zip(table["image"], table["case"], strict=True))
    number = table["case"].str[1:].astype(int) % 5
    return score_units(table.assign(fold=number), Scoring(unit, by_case=True), classes=CLASSES, cases=cases)


def judge(table: pd.DataFrame, model: ModelRecord | None = None, **arguments: Any) -> ExternalRecord:
    labels = {i: label for i, label in zip(table["image"], table["label"], strict=True) if label}
    return score_external(table.drop(columns="label"), labels, model or describe_model(), root="new", **arguments)


def name_predicted(table: pd.DataFrame) -> NDArray[Any]:
    return np.array(CLASSES)[table[[f"score_{name}" for name in CLASSES]].to_numpy().argmax(axis=1)]


def test_macro_f1_is_that_of_scikit_learn_by_image_and_by_case() -> None:
    table = draw_answers(60, images=3)
    record = judge(table)
    assert record.population == "external"
    assert record.scores.unit == "image"
    assert record.scores.headline.value == pytest.approx(
        f1_score(table["label"], name_predicted(table), average="macro")
    )
    means = table.groupby("case", sort=False).agg({"label": "first"} | {f"score_{c}": "mean" for c in CLASSES})
    by_case = record.scores.take("case")
    assert by_case is not None
    assert "this very model" in by_case.interval.covers
    assert by_case.headline.value == pytest.approx(f1_score(means["label"], name_predicted(means), average="macro"))
    assert (record.n_images, record.n_labelled, by_case.n_cases) == (180, 180, 60)
    assert judge(table, describe_model(unit="case")).scores.unit == "case"


def test_a_refused_image_counts_as_wrong_beside_the_answered_ones() -> None:
    table = draw_answers(60, images=2)
    out = np.random.default_rng(3).random(len(table)) < 0.3
    table.loc[out, "refused"] = ["blank: all of it", "foreign: no tissue"] * (out.sum() // 2) + ["blank: none"] * (
        out.sum() % 2
    )
    table.loc[out, [f"score_{name}" for name in CLASSES]] = np.nan
    record = judge(table)
    answered = table[~out]
    assert record.scores.headline.value == pytest.approx(
        f1_score(answered["label"], name_predicted(answered), average="macro")
    )
    said = np.where(out, "refused", np.concatenate([name_predicted(table.fillna(0))]))
    wanted = f1_score(table["label"], said, labels=list(CLASSES), average="macro")
    assert record.refused.by_image.value == pytest.approx(wanted)
    assert record.refused.by_image.value < record.scores.headline.value  # type: ignore[operator]
    assert (record.refused.n_images, record.scores.n_images) == (out.sum(), (~out).sum())
    assert record.refused.reasons == {"blank": -(-out.sum() // 2), "foreign": out.sum() // 2}
    whole = table.assign(out=out).groupby("case")["out"].all()
    assert record.refused.n_cases == whole.sum() > 0
    means = table.groupby("case", sort=False).agg({"label": "first"} | {f"score_{c}": "mean" for c in CLASSES})
    said = np.where(whole[means.index], "refused", name_predicted(means.fillna(0)))
    assert record.refused.by_case is not None
    wanted = f1_score(means["label"], said, labels=list(CLASSES), average="macro")
    assert record.refused.by_case.value == pytest.approx(wanted)


def test_absent_classes_and_unknown_labels_are_said_and_not_averaged() -> None:
    table = draw_answers(90, skill=1.0, images=1)
    table = table[table["label"] != "C"].reset_index(drop=True)
    table.loc[:3, "label"] = "D"
    table.loc[4:6, "label"] = ""
    record = judge(table, describe_model(promise(draw_answers(60))))
    kept = table[table["label"].isin(CLASSES)]
    said = name_predicted(kept)
    assert (said == "C").sum() == record.predicted_absent > 0
    assert record.scores.headline.value == pytest.approx(
        f1_score(kept["label"], said, labels=["A", "B"], average="macro")
    )
    assert record.scores.headline.low < record.scores.headline.value < record.scores.headline.high  # type: ignore[operator]
    assert record.scores.headline.trustworthy
    assert (record.absent, record.unknown, record.n_labelled) == (("C",), {"D": 4}, len(kept))
    assert record.promised is not None
    assert record.promised.compared is None
    assert "no answered image is C" in record.promised.why
    assert set(record.promised.f1) == set(CLASSES)


@pytest.mark.parametrize("change", [{"label": "D"}, {"refused": "blank"}])
def test_nothing_to_score_is_one_error(change: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"answers for none of them.*the classes are A, B, C"):
        judge(draw_answers(6).assign(**change))


def test_the_promise_stands_beside_the_score_and_is_not_paired() -> None:
    stated = promise(draw_answers(60, skill=3.0, random=1))
    record = judge(draw_answers(200, skill=0.5, random=2), describe_model(stated))
    assert record.promised is not None
    found = record.promised.compared
    assert found is not None
    assert (record.promised.population, record.promised.n_cases) == ("out-of-fold", 60)
    assert record.promised.score.value == stated.headline.value
    gap, score = found.difference, record.scores.headline
    assert gap.value == pytest.approx(score.value - stated.headline.value)  # type: ignore[operator]
    assert found.verdict == "worse"
    assert not found.inside
    assert None not in (score.low, score.high, gap.low, gap.high, stated.headline.low, stated.headline.high)
    # Both ways round the interval is the same but for its sign (Newcombe 1998, method 10).
    one, other = score, stated.headline
    assert gap.low == pytest.approx(gap.value - np.hypot(one.value - one.low, other.high - other.value))  # type: ignore[operator]
    assert gap.high == pytest.approx(gap.value + np.hypot(one.high - one.value, other.value - other.low))  # type: ignore[operator]
    assert found.foreseen == foresee_score(other.value, other.low, other.high, cases=60, new_cases=200)  # type: ignore[arg-type]


def test_a_promise_of_another_unit_is_none() -> None:
    stated = score_units(draw_answers(60, images=1).assign(fold=0), Scoring(), classes=CLASSES, cases=None)
    assert judge(draw_answers(30), describe_model(stated, unit="case")).promised is None
    assert judge(draw_answers(30)).promised is None


@pytest.mark.slow
def test_the_interval_of_the_difference_holds_the_truth() -> None:
    """Equal skill: the difference is nothing, in 19 of 20 cohorts within the interval."""
    inside = foreseen = 0
    for random in range(60):
        stated = promise(draw_answers(60, skill=1.5, random=1000 + random))
        found = judge(draw_answers(45, skill=1.5, random=random), describe_model(stated)).promised
        assert found is not None
        assert found.compared is not None
        inside += found.compared.difference.low <= 0 <= found.compared.difference.high  # type: ignore[operator]
        foreseen += found.compared.inside
    assert inside >= 54
    assert foreseen >= 54


def test_the_slope_is_that_of_a_logistic_recalibration() -> None:
    """Two classes: scikit-learn's slope without penalty, statsmodels' error by case."""
    table = draw_answers(80, classes=("A", "B"), skill=1.5).assign(fold=0, seed=0)
    pool = pool_predictions(table, classes=("A", "B"))
    found, why = fit_slope(pool, confidence=0.95)
    assert found is not None
    assert not why
    logit = np.log(pool.scores[0, :, 1] / pool.scores[0, :, 0])
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], pool.y_true)
    assert found.value == pytest.approx(theirs.coef_.item(), rel=1e-5)
    fitted = sm.Logit(pool.y_true, sm.add_constant(logit)).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": pool.case, "use_correction": False}, use_t=True
    )
    half = (found.high - found.low) / 2  # type: ignore[operator]
    wide = fitted.bse[1] * np.sqrt(80 / 79)
    assert half == pytest.approx(float(stats.t.ppf(0.975, 79)) * wide, rel=1e-4)


@pytest.mark.parametrize("sureness", [0.5, 1.0, 2.0])
def test_the_slope_undoes_what_made_scores_sure(sureness: float) -> None:
    """Three classes drawn from their own scores, which are then raised to a power."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1.5, (3000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random((3000, 1)) > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
    told = shares**sureness / (shares**sureness).sum(axis=1, keepdims=True)
    table = pd.DataFrame(told, columns=[f"score_{name}" for name in CLASSES])
    pool = pool_predictions(
        table.assign(image=[f"{i:04d}" for i in range(3000)], label=np.array(CLASSES)[y]), classes=CLASSES
    )
    found, _ = fit_slope(pool, confidence=0.99)
    assert found is not None
    assert found.low <= 1 / sureness <= found.high  # type: ignore[operator]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (draw_answers(30, skill=60.0), "separate the classes"),
        (draw_answers(9), "only 9 cases"),
        (draw_answers(90).query("label == 'A'"), "one class"),
    ],
)
def test_a_slope_that_cannot_be_fitted_says_why(table: pd.DataFrame, why: str) -> None:
    found, told = fit_slope(pool_predictions(table.assign(fold=0, seed=0), classes=CLASSES), confidence=0.95)
    assert found is None
    assert why in told


def test_calibration_in_the_large_is_mean_score_less_frequency() -> None:
    table = draw_answers(50)
    pool = pool_predictions(table.assign(fold=0, seed=0), classes=CLASSES)
    for name, found in measure_large(pool, confidence=0.95).items():
        assert found.mean_score == pytest.approx(table[f"score_{name}"].mean())
        assert found.frequency == pytest.approx((table["label"] == name).mean())
        by_case = (table[f"score_{name}"] - (table["label"] == name)).groupby(table["case"]).mean()
        error = by_case.std(ddof=1) / np.sqrt(50)  # cases of equal size: the error of a mean
        half = (found.difference.high - found.difference.low) / 2  # type: ignore[operator]
        assert 1.9 * error < half < 2.4 * error
    few = pool_predictions(draw_answers(2).assign(fold=0, seed=0), classes=CLASSES)
    assert all(found.difference.low is None for found in measure_large(few, confidence=0.95).values())


def test_a_planted_subgroup_is_found_and_a_mixed_case_belongs_to_none() -> None:
    good, bad = draw_answers(60, skill=4.0), draw_answers(60, skill=0.0, random=1)
    bad = bad.assign(image="b" + bad["image"], case="b" + bad["case"])
    table = pd.concat([good, bad], ignore_index=True)
    scanner = {image: "old" if image.startswith("b") else "new" for image in table["image"]} | {"0.png": "old"}
    for unit in ("image", "case"):
        record = judge(table, describe_model(unit=unit), groups={"scanner": scanner})
        rows = {row.value: row for row in record.subgroups}
        assert set(rows) == {"new", "old"}
        assert rows["old"].difference is not None
        assert rows["old"].difference.verdict == "worse"
        assert rows["new"].n_images + rows["old"].n_images == (240 if unit == "image" else 119)
