"""Predictions become answers: averages by hand, rows without images, and each fault of a submission named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smalti.cohort import read_cohort
from smalti.errors import SubmissionError
from smalti.predict import average_scores, check_submission, find_unreadable, write_submission
from smalti.types import Cohort, Form, FormRow, Sample
from textures import CLASSES

SCORES = [f"score_{c}" for c in CLASSES]
NAMES = ("7", "3", "5")  # the order of the competition, not of the files


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three images to predict, a fourth that could not be read; B is the most frequent class."""
    labelled = tuple(Sample(f"t{i}", Path(f"t{i}"), None, label, f"t{i}", str(i)) for i, label in enumerate("ABBC"))
    unlabelled = tuple(Sample(f"x{n}.png", Path(f"x{n}"), None, None, f"x{n}", n) for n in ("3", "5", "7"))
    return Cohort(tmp_path, "challenge", labelled, unlabelled, CLASSES, (), make_form(*NAMES))


def make_form(*names: str) -> Form:
    """Two columns; nothing is filled in yet."""
    rows = tuple(FormRow((name, ""), "\n", (f"x{name}.png",)) for name in names)
    return Form("sample.csv", "id,subtype\n", ("id", "subtype"), rows, labels={1: {c: c for c in CLASSES}})


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
    cohort = replace(cohort, form=make_form("9", *NAMES))
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
    form = read_cohort(challenge).form
    assert form is not None
    check_submission((finished.path / "submission.csv").read_text(encoding="utf-8"), form)


# --- faults -------------------------------------------------------------------------------------------------------

GOOD = ("id,subtype", "7,C", "3,A", "5,B")


def test_a_good_text_passes() -> None:
    check_submission("\n".join(GOOD) + "\n", make_form(*NAMES))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (GOOD[:3], "2 rows where 3 are expected"),
        ((*GOOD, "5,B"), "4 rows where 3"),
        ((*GOOD[:3], "8,B"), r"row 3 \(5\) has '8' for '5' in column id"),
        ((GOOD[0], GOOD[2], GOOD[1], GOOD[3]), "has '3' for '7'.*has '7' for '3'"),
        ((*GOOD[:3], "5,"), "'' in column subtype is no label; known: A, B, C"),
        ((*GOOD[:3], "5,b"), "'b' in column subtype is no label"),
        ((*GOOD[:3], "5,B,B"), r"row 3 \(5\) has 3 cells where 2"),
        (("subtype,id", *GOOD[1:]), "columns are subtype, id; expected id, subtype"),
        (("id,label", "8,?", "3,"), "columns are.*2 rows where 3.*has '8' for '7'.*'\\?' in column.*'' in column"),
        ((), "columns are none.*0 rows where 3"),
    ],
)
def test_each_fault_is_named(lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(SubmissionError, match=f"{message}.*Fix"):
        check_submission("".join(f"{line}\n" for line in lines), make_form(*NAMES))


@pytest.mark.parametrize(
    ("row", "message"),
    [("0.5,0.2,0.2", "add up to 0.9"), ("1.5,0.2,0.2", "'1.5' in column A"), ("nan,0,1", "'nan'"), ("x,0,1", "'x'")],
)
def test_what_is_no_probability_is_named(row: str, message: str) -> None:
    rows = (FormRow(("7", "", "", ""), "\n", ("x7.png",)),)
    form = Form("s.csv", "id,A,B,C\n", ("id", *CLASSES), rows, scores={1: "A", 2: "B", 3: "C"})
    check_submission("id,A,B,C\n7,0.5,0.25,0.25\n", form)
    with pytest.raises(SubmissionError, match=f"{message}.*Fix"):
        check_submission(f"id,A,B,C\n7,{row}\n", form)


def test_a_cohort_without_a_form_writes_nothing(cohort: Cohort, tmp_path: Path) -> None:
    cohort = replace(cohort, form=None, no_submission="nobody asks")
    with pytest.raises(SubmissionError, match="nobody asks"):
        write_submission(tmp_path / "s.csv", cohort, PREDICTIONS)
    assert not list(tmp_path.iterdir())
