"""Submissions: the order and words of the competition, averages by hand, and each fault named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smalti.cohort import read_cohort
from smalti.errors import SubmissionError
from smalti.predict import average_scores, check_submission, find_unreadable, write_submission
from smalti.types import Cohort, Sample
from textures import CLASSES

SCORES = [f"score_{c}" for c in CLASSES]
NAMES = ("7", "3", "5")  # the order of the competition, not of the files


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three images to predict, a fourth that could not be read; B is the most frequent class."""
    labelled = tuple(Sample(f"t{i}", Path(f"t{i}"), None, label, f"t{i}", str(i)) for i, label in enumerate("ABBC"))
    unlabelled = tuple(Sample(f"x{n}.png", Path(f"x{n}"), None, None, f"x{n}", n) for n in ("3", "5", "7"))
    return Cohort(tmp_path, "challenge", labelled, unlabelled, CLASSES, (), ("id", "subtype"), NAMES)


def tabulate(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", *SCORES])


PREDICTIONS = tabulate(
    ("x3.png", 0.8, 0.1, 0.1),
    ("x5.png", 0.4, 0.35, 0.25),
    ("x7.png", 0.1, 0.2, 0.7),
    ("x3.png", 0.1, 0.6, 0.3),
    ("x5.png", 0.1, 0.5, 0.4),
    ("x7.png", 0.3, 0.3, 0.4),
)


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# --- averages and order -------------------------------------------------------------------------------------------


def test_rows_of_folds_and_seeds_count_alike(cohort: Cohort) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"x{n}.png", *rng.dirichlet([1, 1, 1])) for n in (5, 3, 7) for _ in range(6)]
    table = tabulate(*[rows[i] for i in rng.permutation(len(rows))])
    means = average_scores(table, classes=CLASSES)
    assert means["image"].tolist() == list(dict.fromkeys(table["image"]))
    for image in means["image"]:
        by_hand = np.mean([row[1:] for row in rows if row[0] == image], axis=0)
        assert means.loc[means["image"] == image, SCORES].to_numpy()[0] == pytest.approx(by_hand)


def test_a_submission_has_the_words_and_the_order_of_the_competition(cohort: Cohort, tmp_path: Path) -> None:
    """x3: A 0.45 before B 0.35; x5: B 0.425; x7: C. The order of the predictions plays no part."""
    for way, table in (("a", PREDICTIONS), ("b", PREDICTIONS.iloc[::-1])):
        path = write_submission(tmp_path / f"{way}.csv", cohort, table)
        assert read_lines(path) == ["id,subtype", "7,C", "3,A", "5,B"]


def test_a_tie_goes_to_the_first_class(cohort: Cohort, tmp_path: Path) -> None:
    third = 1 / 3
    table = tabulate(("x3.png", third, third, third), ("x5.png", 0.2, 0.4, 0.4), ("x7.png", 0.5, 0, 0.5))
    assert read_lines(write_submission(tmp_path / "s.csv", cohort, table))[1:] == ["7,A", "3,A", "5,B"]


def test_an_image_that_could_not_be_read_gets_the_most_frequent_class(cohort: Cohort, tmp_path: Path) -> None:
    object.__setattr__(cohort, "submission_rows", ("9", *NAMES))
    assert find_unreadable(cohort) == ("9",)
    path = write_submission(tmp_path / "s.csv", cohort, PREDICTIONS)
    assert read_lines(path) == ["id,subtype", "9,B", "7,C", "3,A", "5,B"]


def test_a_missing_prediction_writes_nothing(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=r"no prediction for 1 of 3 images \(x7.png\).*Fix"):
        write_submission(tmp_path / "s.csv", cohort, PREDICTIONS[PREDICTIONS["image"] != "x7.png"])
    assert not list(tmp_path.iterdir())


def test_the_finished_run_submits_what_its_tables_say(finished: Any, challenge: Path) -> None:
    """Four networks (two folds, two seeds) average to the class that was submitted, in the order of the sample file."""
    scores = pd.read_csv(finished.path / "predictions" / "test.csv")
    assert (scores.groupby("image").size() == 4).all()
    assert not scores.duplicated(["image", "fold", "seed"]).any()
    assert np.allclose(scores[SCORES].sum(axis=1), 1)
    best = scores.groupby("image")[SCORES].sum().idxmax(axis=1).str.removeprefix("score_")
    written = pd.read_csv(finished.path / "submission.csv")
    sample = pd.read_csv(challenge / "sample_submission.csv")
    assert list(written.columns) == list(sample.columns)
    assert written["sample_index"].tolist() == sample["sample_index"].tolist() == [5, 4, 3, 2, 1, 0]
    names = [f"test_data/img_{i:04d}.png" for i in written["sample_index"]]
    assert written["label"].tolist() == best[names].tolist()
    check_submission(written, read_cohort(challenge))


# --- faults -------------------------------------------------------------------------------------------------------

GOOD = (("7", "C"), ("3", "A"), ("5", "B"))


def make_table(*rows: tuple[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "subtype"])


def test_a_good_table_passes_with_numbers_as_names(cohort: Cohort) -> None:
    check_submission(make_table(*GOOD), cohort)
    check_submission(make_table(*((int(name), label) for name, label in GOOD)), cohort)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD[:2], r"2 rows where 3 are expected.*1 names without a row \(5\)"),
        ((*GOOD, ("5", "B")), "4 rows where 3.*1 repeated names"),
        ((*GOOD[:2], ("8", "B")), r"1 unknown names \(8\).*1 names without a row \(5\)"),
        ((GOOD[1], GOOD[0], GOOD[2]), "not in the expected order"),
        ((*GOOD[:2], ("5", "")), "1 blank labels"),
        ((*GOOD[:2], ("5", "  ")), "1 blank labels"),
        ((*GOOD[:2], ("5", None)), "1 blank labels"),
        ((*GOOD[:2], ("5", "b")), r"unknown classes \(b\); known: A, B, C"),
        ((), "0 rows where 3"),
        ((("8", "?"), ("3", None), ("3", "A")), "unknown names.*without a row.*repeated.*blank.*unknown classes"),
    ],
)
def test_each_fault_is_named(rows: tuple[tuple[Any, Any], ...], message: str, cohort: Cohort) -> None:
    with pytest.raises(SubmissionError, match=f"{message}.*Fix") as caught:
        check_submission(make_table(*rows), cohort)
    if rows and rows[-1] == ("5", "  "):
        assert "unknown classes" not in str(caught.value)


@pytest.mark.parametrize("columns", [["subtype", "id"], ["id", "label"], ["id", "subtype", "score"], ["id"]])
def test_other_columns_are_refused(columns: list[str], cohort: Cohort) -> None:
    table = pd.DataFrame([["7"] * len(columns)], columns=columns)
    with pytest.raises(SubmissionError, match=r"columns are .*expected id, subtype.*Fix"):
        check_submission(table, cohort)
