"""The submission that is asked for: the sample to the letter but for its answers, or a question with its answers."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from smalti import cli
from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.cohort.forms.sample import is_sample_name, read_cell, split_lines
from smalti.cohort.tables.spelling import find_spelling, match_classes
from smalti.errors import Problem
from smalti.predict import calibrate_scores, write_submission
from smalti.recipe import load_recipe
from smalti.types import Cohort, Form, score_columns
from textures import FAST, draw_texture, write_lines

DRAWN = itertools.count()
GUESS = Columns()
WORDS = ("benign", "malignant")


def draw(path: Path) -> None:
    """A picture that no other equals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(next(DRAWN)).integers(90, 230, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def draw_challenge(root: Path, sample: str | bytes | None, *, labels: Sequence[str] = WORDS, name: str = "") -> Path:
    """Four labelled images, and the test images 0, 1 and 2, in the challenge layout."""
    for i in range(4):
        draw(root / "train_data" / f"img_{i:04d}.png")
    for i in range(3):
        draw(root / "test_data" / f"img_{i:04d}.png")
    rows = (f"{i:04d},{labels[i % len(labels)]}" for i in range(2 * len(labels)))
    for i in range(4, 2 * len(labels)):
        draw(root / "train_data" / f"img_{i:04d}.png")
    (root / "train_labels.csv").write_text("\n".join(["sample_index,label", *rows, ""]))
    if sample is not None:
        data = sample.encode() if isinstance(sample, str) else sample
        (root / (name or "sample_submission.csv")).write_bytes(data)
    return root


def predict(cohort: Cohort, *scores: Sequence[float]) -> pd.DataFrame:
    """Two folds whose mean is ``scores``, image by image in the order of their names."""
    images = sorted(s.image for s in cohort.unlabelled)
    shift = [0.05, -0.05, *([0.0] * (len(cohort.classes) - 2))]
    rows = [
        (image, *(np.array(row) + sign * np.array(shift)))
        for sign in (1, -1)
        for image, row in zip(images, scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=["image", *score_columns(cohort.classes)])


TWO = ((0.75, 0.25), (0.125, 0.875), (0.5625, 0.4375))  # test images 0, 1, 2
THREE = ((0.5, 0.25, 0.25), (0.125, 0.75, 0.125), (0.25, 0.25, 0.5))


@dataclass(frozen=True)
class Case:
    """A sample, and the file that is wanted."""

    name: str
    sample: str | bytes
    wanted: str | bytes
    labels: tuple[str, ...] = WORDS
    columns: Columns = GUESS


CASES = [
    Case("words, LF", "id,label\n0001,benign\n0000,benign\n0002,benign\n",
         "id,label\n0001,malignant\n0000,benign\n0002,benign\n"),
    Case("file names, CRLF, no line break at the end", "image,label\r\nimg_0002.png,benign\r\nimg_0000.png,benign\r\n"
         "img_0001.png,benign", "image,label\r\nimg_0002.png,benign\r\nimg_0000.png,benign\r\nimg_0001.png,malignant"),
    Case("byte order mark, all cells in quotes", '\ufeff"id","label"\n"0000","x"\n"0001","x"\n"0002","x"\n',
         '\ufeff"id","label"\n"0000","a, ""b"""\n"0001","c"\n"0002","a, ""b"""\n', labels=('"a, ""b"""', "c"),
         columns=Columns(written=('a, "b"=a, "b"', "c=c"))),
    Case("probabilities in its order, semicolons, decimal comma",
         "id;malignant;benign\n2;0,5;0,5\n1;0,5;0,5\n0;0,5;0,5\n",
         "id;malignant;benign\n2;0,437500000;0,562500000\n1;0,875000000;0,125000000\n0;0,250000000;0,750000000\n"),
    Case("tabs, extra columns before and behind, spaces", "Usage\tid\tlabel\tfold\nPublic\t0000\t benign\t1\n"
         "Private\t0001\t benign\t2\nPublic\t0002\t benign\t1\n", "Usage\tid\tlabel\tfold\nPublic\t0000\t benign\t1\n"
         "Private\t0001\t malignant\t2\nPublic\t0002\t benign\t1\n"),
    Case("floats in the labels, whole numbers in the sample", "id,label\n0000,0\n0001,0\n0002,0\n",
         "id,label\n0000,0\n0001,1\n0002,0\n", labels=("1.0", "0.0")),
    Case("whole numbers in the labels, floats in the sample", "id,label\n0000,0.0\n0001,1.0\n0002,2.0\n",
         "id,label\n0000,0.0\n0001,1.0\n0002,2.0\n", labels=("0", "1", "2")),
    Case("one probability of class 1, rows out of order", "id,target\n0002,0.5\n0000,0.5\n0001,0.5\n",
         "id,target\n0002,0.437500000\n0000,0.250000000\n0001,0.875000000\n", labels=("0", "1")),
    Case("one column, of the class in its name", "id,is_malignant\n0000,0.5\n0001,0.5\n0002,0.5\n",
         "id,is_malignant\n0000,0.250000000\n0001,0.875000000\n0002,0.437500000\n"),
    Case("empty cells, blank lines, no comma needed", "id,label\n\n0000,\n0001,\n0002,\n\n",
         "id,label\n\n0000,benign\n0001,malignant\n0002,benign\n\n"),
    Case("the probability of a class that a person names", "id,score\n0000,0.5\n0001,0.5\n0002,0.5\n",
         "id,score\n0000,0.750000000\n0001,0.125000000\n0002,0.562500000\n", columns=Columns(positive="benign")),
    Case("labels that a person gives other words", "id,label\n0000,0\n0001,0\n0002,0\n",
         "id,label\n0000,N\n0001,C\n0002,N\n", columns=Columns(written=("benign=N", "malignant=C"))),
    Case("capitals as in the sample", "id,label\n0000,BENIGN\n0001,BENIGN\n0002,BENIGN\n",
         "id,label\n0000,BENIGN\n0001,MALIGNANT\n0002,BENIGN\n"),
    Case("1 for the class and 0 for the others, on request", "id,prob_malignant,prob_benign\n0,0,1\n1,0,1\n2,0,1\n",
         "id,prob_malignant,prob_benign\n0,0,1\n1,1,0\n2,0,1\n", columns=Columns(answers="labels")),
    Case("three classes and the label beside them", "id,label,p_c,p_a,p_b\n0,a,0,0,0\n1,a,0,0,0\n2,a,0,0,0\n",
         "id,label,p_c,p_a,p_b\n0,a,0.250000000,0.500000000,0.250000000\n1,b,0.125000000,0.125000000,0.750000000\n"
         "2,c,0.500000000,0.250000000,0.250000000\n", labels=("a", "b", "c")),
    Case("spaces before quotes, and two samples of spelling", 'id, label ,note\n0, "Benign" ,"x, y"\n1, "Malignant",\n'
         '2, "Benign", z\n', 'id, label ,note\n0, "Benign" ,"x, y"\n1, "Malignant",\n2, "Benign", z\n'),
    Case("numbers of rows beside the names", ",image_name,label,Unnamed: 3\n0,img_0002.png,benign,\n"
         "1,img_0001.png,benign,\n2,img_0000.png,benign,\n", ",image_name,label,Unnamed: 3\n0,img_0002.png,benign,\n"
         "1,img_0001.png,malignant,\n2,img_0000.png,benign,\n"),
    Case("numbers of rows under a usual name", "id,tissue,label\n0,img_0001.png,benign\n1,img_0002.png,benign\n"
         "2,img_0000.png,benign\n", "id,tissue,label\n0,img_0001.png,malignant\n1,img_0002.png,benign\n"
         "2,img_0000.png,benign\n"),
    Case("lines above the header", "sep=;\r\n# of day 1\r\nid;label\r\n0;malignant\r\n1;malignant\r\n2;benign\r\n",
         "sep=;\r\n# of day 1\r\nid;label\r\n0;benign\r\n1;malignant\r\n2;benign\r\n"),
    Case("leading zeros in the labels", "id,label\r\n0,01\r\n1,01\r\n2,02\r\n", "id,label\r\n0,01\r\n1,02\r\n2,01\r\n",
         labels=("1", "2")),
    Case("only the column that a person names is filled", "id,a,b\n0000,benign,benign\n0001,benign,benign\n"
         "0002,benign,benign\n", "id,a,b\n0000,benign,benign\n0001,benign,malignant\n0002,benign,benign\n",
         columns=Columns(asked=("b",))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_written_file_is_the_wanted_one_to_the_byte(case: Case, tmp_path: Path) -> None:
    cohort = read_cohort(draw_challenge(tmp_path / "data", case.sample, labels=case.labels), columns=case.columns)
    path = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *(THREE if len(case.labels) > 2 else TWO)))
    assert path.read_bytes() == (case.wanted.encode() if isinstance(case.wanted, str) else case.wanted)


def test_without_a_sample_the_columns_are_those_of_the_labels_and_that_is_said(tmp_path: Path) -> None:
    cohort = read_cohort(draw_challenge(tmp_path / "data", None))
    path = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *TWO))
    assert path.read_text() == "sample_index,label\n0000,benign\n0001,malignant\n0002,benign\n"
    assert any("no sample submission is there" in note for note in cohort.notes)


def test_rounded_probabilities_add_up_to_one_to_the_last_digit(tmp_path: Path) -> None:
    sample = "id,a,b,c\n0,0.1,0.1,0.1\n1,0.1,0.1,0.1\n2,0.1,0.1,0.1\n"
    cohort = read_cohort(draw_challenge(tmp_path / "data", sample, labels=("a", "b", "c")))
    third = 1 / 3
    table = predict(cohort, (third, third, third), (1 / 7, 2 / 7, 4 / 7), (0.2, 0.3, 0.5))
    lines = write_submission(tmp_path / "s.csv", cohort, table).read_text().splitlines()
    rows = list(csv.reader(lines))[1:]
    assert [sum(int(cell.replace(".", "")) for cell in row[1:]) for row in rows] == [10**9] * 3
    assert np.array(rows[1][1:], float) == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=2e-9)


# --- rows that are cases ------------------------------------------------------------------------------------------


def draw_patients(root: Path, sample: str) -> Path:
    """Two patients with two and three test images, named by test.csv; six labelled images of as many patients."""
    rows = []
    for i in range(6):
        draw(root / "train" / f"t{i}.png")
        rows.append(f"t{i},p{i},{WORDS[i % 2]}")
    (root / "train.csv").write_text("\n".join(["image_id,patient_id,label", *rows, ""]))
    tests = [("q0", "a"), ("q0", "b"), ("q1", "c"), ("q1", "d"), ("q1", "e")]
    for _, name in tests:
        draw(root / "test" / f"{name}.png")
    (root / "test.csv").write_text("".join(["image_id,patient_id\n", *(f"{n},{case}\n" for case, n in tests)]))
    (root / "sample_submission.csv").write_text(sample)
    return root


PATIENTS = "patient_id,malignant,benign\nq1,0.5,0.5\nq0,0.5,0.5\n"
FIVE = ((0.5, 0.5), (0.25, 0.75), (0.125, 0.875), (1.0, 0.0), (0.75, 0.25))  # a, b of q0; c, d, e of q1


def test_rows_that_are_cases_get_the_mean_over_their_images(tmp_path: Path) -> None:
    cohort = read_cohort(draw_patients(tmp_path / "data", PATIENTS))
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *FIVE)).read_text()
    assert written == "patient_id,malignant,benign\nq1,0.375000000,0.625000000\nq0,0.625000000,0.375000000\n"
    labels = "patient_id,label\nq1,benign\nq0,benign\n"
    cohort = read_cohort(draw_patients(tmp_path / "labels", labels))
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *FIVE)).read_text()
    assert written == "patient_id,label\nq1,benign\nq0,malignant\n"


def test_a_case_is_answered_by_the_images_that_can_be_read(tmp_path: Path) -> None:
    root = draw_patients(tmp_path / "data", PATIENTS)
    for name in ("a", "b", "c"):
        (root / "test" / f"{name}.png").write_text("<html>")
    cohort = read_cohort(root, skip_problems=True)
    assert sorted(s.image for s in cohort.unlabelled) == ["test/d.png", "test/e.png"]
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *FIVE[3:])).read_text()
    assert written == "patient_id,malignant,benign\nq1,0.125000000,0.875000000\nq0,0.500000000,0.500000000\n"


def test_whether_rows_are_images_or_cases_is_told_by_what_they_cover(tmp_path: Path) -> None:
    """Patients 0 and 1 have the images 0 to 3: two rows are patients, four are images."""
    for i in range(4):
        draw(tmp_path / "train" / f"t{i}.png")
        draw(tmp_path / "test" / f"{i}.png")
    rows = "".join(f"t{i},p{i},{WORDS[i % 2]}\n" for i in range(4))
    (tmp_path / "train.csv").write_text(f"image_id,patient,label\n{rows}")
    (tmp_path / "test.csv").write_text("image_id,patient\n0,0\n1,0\n2,1\n3,1\n")
    for count, images in ((2, 2), (4, 1)):
        sample = "".join(f"{i},benign\n" for i in range(count))
        (tmp_path / "sample_submission.csv").write_text(f"id,label\n{sample}")
        assert [len(row.images) for row in get_form(read_cohort(tmp_path)).rows] == [images] * count


def get_form(cohort: Cohort) -> Form:
    assert cohort.form is not None
    return cohort.form


# --- which images are meant ---------------------------------------------------------------------------------------


def test_the_sample_names_the_images_to_predict_where_nothing_else_does(tmp_path: Path) -> None:
    for i in range(6):
        draw(tmp_path / "images" / f"{i}.png")
    (tmp_path / "train.csv").write_text("id,label\n0,a\n1,b\n2,a\n3,b\n")
    (tmp_path / "sample_submission.csv").write_text("id,label\n5,a\n4,a\n")
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.unlabelled] == ["images/5.png", "images/4.png"]
    assert any("images to predict are the 2 that sample_submission.csv names" in note for note in cohort.notes)


def draw_parts(root: Path, *, train: str, rows: Sequence[str], sample: str) -> Path:
    """train/0.png to 5.png with train.csv, test/0.png and 1.png with test.csv: the same names in both parts."""
    for part, count in (("train", 6), ("test", 2)):
        for i in range(count):
            draw(root / part / f"{i}.png")
    write_lines(root / "train.csv", train, *rows)
    write_lines(root / "test.csv", "image_id", "0", "1")
    (root / "sample_submission.csv").write_bytes(sample.encode())
    return root


def test_rows_mean_the_test_part_where_both_parts_have_their_names(tmp_path: Path) -> None:
    rows = [f"{i},{WORDS[i % 2]}" for i in range(6)]
    sample = "image_id,label\r\n1,benign\r\n0,benign\r\n"
    root = draw_parts(tmp_path / "data", train="image_id,label", rows=rows, sample=sample)
    cohort = read_cohort(root)
    assert {s.image: s.label for s in cohort.labelled} == {f"train/{i}.png": WORDS[i % 2] for i in range(6)}
    assert [row.images for row in get_form(cohort).rows] == [("test/1.png",), ("test/0.png",)]
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *TWO[:2])).read_bytes()
    assert written == b"image_id,label\r\n1,malignant\r\n0,benign\r\n"


def test_labels_and_sample_with_a_column_per_class(tmp_path: Path) -> None:
    rows = [f"{i},{int(i % 2 == 0)},{i % 2}" for i in range(6)]
    sample = "image_id,malignant,benign\n0,0.5,0.5\n1,0.5,0.5\n"
    root = draw_parts(tmp_path / "data", train="image_id,benign,malignant", rows=rows, sample=sample)
    cohort = read_cohort(root)
    assert [s.label for s in cohort.labelled] == list(WORDS) * 3
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *TWO[:2])).read_text()
    assert written == "image_id,malignant,benign\n0,0.250000000,0.750000000\n1,0.875000000,0.125000000\n"


def test_a_row_without_its_image_stays_in_the_file(tmp_path: Path) -> None:
    sample = "id,label\n0002,benign\n0009,benign\n0001,benign\n0000,benign\n"
    root = draw_challenge(tmp_path / "data", sample, labels=("malignant", "benign", "malignant"))
    cohort, problems = inspect_folder(root)
    assert [p.code for p in problems] == ["row-without-file"]
    assert cohort is not None
    written = write_submission(tmp_path / "s.csv", cohort, predict(cohort, *TWO)).read_text()
    assert written == "id,label\n0002,benign\n0009,malignant\n0001,malignant\n0000,benign\n"


# --- questions and refusals ---------------------------------------------------------------------------------------


def ask(root: Path, columns: Columns = GUESS) -> Problem:
    """The one problem of a folder that cannot go on."""
    cohort, problems = inspect_folder(root, columns=columns)
    severe = [p for p in problems if not p.warning]
    assert cohort is None
    assert len(severe) == 1
    assert "data.submission=none" in severe[0].fix
    assert read_cohort(root, columns=Columns(submission="none")).form is None
    return severe[0]


ROWS = "0,{0}\n1,{0}\n2,{0}\n"


@pytest.mark.parametrize(
    ("sample", "labels", "says", "fix"),
    [
        ("id,score\n" + ROWS.format("0.5"), WORDS, "'0.5': the probability of which class ('benign', 'malignant')",
         "data.positive=malignant"),
        ("id,label\n" + ROWS.format("0"), WORDS, "holds '0', and the classes are 'benign', 'malignant': labels, or",
         "'data.written=[benign=0, malignant=1]'; or whose probability is asked for: --set data.positive=malignant"),
        ("id,label\n" + ROWS.format("0.0"), ("0", "1"), "labels, or the probability of a class?", "data.positive=1"),
        ("id,label\n" + ROWS.format("tumour"), WORDS, "holds 'tumour', and the classes are 'benign', 'malignant'.",
         "data.written=[benign=benign, malignant=malignant]"),
        ("id,is_malignant\n" + ROWS.format("0"), WORDS, "holds '0'", "data.positive=malignant"),
        ("id,is_malignant\n" + ROWS.format(""), WORDS, "is empty: labels, or the probability of malignant?", "written"),
        ("id,benign,malignant,other\n" + ROWS.format("0.3,0.3,0.4"), WORDS,
         "the column 'other' is called after no class", "data.asked=[benign, malignant]"),
        ("id,a,b\n" + ROWS.format("0.3,0.3"), ("a", "b", "c"), "the class 'c' has no column", "data.written"),
        ("id,a,d\n" + ROWS.format("0.3,0.3"), ("a", "b"), "which of its columns 'a', 'd' are to be filled", "asked"),
        ("id,x,y\n" + ROWS.format("0.5,0.5"), WORDS, "which of its columns 'x', 'y' are to be filled", "data.asked"),
        ("id,benign,malignant\n0,0,1\n1,1,0\n2,1,0\n", WORDS, "are these labels, or do probabilities", "data.answers"),
        ("id,benign,malignant\n" + ROWS.format("50.0,50.0"), WORDS, "probabilities are from 0 to 1", "data.answers"),
        ("id,benign,malignant\n" + ROWS.format("low,low"), WORDS, "holds 'low' where probabilities", "numbers"),
        ("0000,benign\n0001,benign\n0002,benign\n", WORDS, "has no header", "put the header above it"),
        ("id,label\nx0,benign\nx1,benign\nx2,malignant\n", WORDS, "no column names test images, their cases",
         "data.case"),
        ('id,label\n0,"benign\n', WORDS, "a quotation mark that nothing closes", "close it"),
        ("id,label,label\n0,benign,benign\n", WORDS, "more than one column called label", "rename"),
        ("id\n0\n1\n", WORDS, "one column only", "give it two"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_asked(
    tmp_path: Path, sample: str, labels: tuple[str, ...], says: str, fix: str
) -> None:
    problem = ask(draw_challenge(tmp_path, sample, labels=labels))
    assert problem.file.startswith("sample_submission.csv")
    assert says in problem.message
    assert fix in problem.fix


def test_the_proposed_answer_can_be_given_as_it_stands(tmp_path: Path) -> None:
    labels = ("A, #1", "HER2+ & <50%")
    root = draw_challenge(tmp_path, "id,label\n" + ROWS.format("0"), labels=('"A, #1"', labels[1]))
    proposed = re.findall(r"--set (\S+=.*?)(?=; )", ask(root).fix)
    forms = [
        get_form(read_cohort(root, columns=Columns(**load_recipe(settings=shlex.split(text)).data.name_columns())))
        for text in proposed
    ]
    assert [form.labels for form in forms] == [{1: dict(zip(labels, "01", strict=True))}, {}]
    assert [form.scores for form in forms] == [{}, {1: labels[1]}]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (Columns(positive="tumour"), "data.positive=tumour is no class; known: 'benign', 'malignant'"),
        (Columns(written=("benign=0",)), "give each class a text of its own"),
        (Columns(written=("benign=0", "malignant=0")), "give each class a text of its own"),
        (Columns(asked=("other",)), "has no column 'other' to fill, but 'id', 'label'"),
        (Columns(submission="other.csv"), "is not in the data folder"),
    ],
)
def test_a_wrong_answer_is_told(tmp_path: Path, columns: Columns, says: str) -> None:
    root = draw_challenge(tmp_path, "id,label\n" + ROWS.format("benign"))
    assert says in ask(root, columns).message


def test_several_samples_are_asked_about_and_packed_ones_refused(tmp_path: Path) -> None:
    root = draw_challenge(tmp_path, "id,label\n" + ROWS.format("benign"), name="sampleSubmission.csv")
    (root / "submission_format.csv").write_text("id,malignant,benign\n" + ROWS.format("0.5,0.5"))
    problem = ask(root)
    assert "sampleSubmission.csv" in problem.file
    assert "submission_format.csv" in problem.file
    assert "data.submission=sampleSubmission.csv" in problem.fix
    form = get_form(read_cohort(root, columns=Columns(submission="submission_format.csv")))
    assert form.scores == {1: "malignant", 2: "benign"}
    (root / "submission_format.csv").unlink()
    (root / "sampleSubmission.csv").rename(root / "sampleSubmission.csv.zip")
    assert "is packed" in ask(root).message


@pytest.mark.parametrize(
    "name",
    ["SampleSubmission.csv", "sample-submission.csv", "submission_format.csv", "stage1_sample_submission.csv",
     "sample_submission_v2.tsv", "sample_sub.csv", "example_submission.txt", "sample_submission.csv.gz",
     "sample_submission.xlsx"],
)  # fmt: skip
def test_names_of_samples(name: str) -> None:
    assert is_sample_name(name)
    assert is_sample_name(f"info/{name}")


@pytest.mark.parametrize("name", ["submission.csv", "samples.csv", "train_labels.csv", "my_submission.csv",
                                  "sample_submission.png", "subsample.csv", "sample_submission"])  # fmt: skip
def test_names_of_other_files(name: str) -> None:
    assert not is_sample_name(name)


# --- names of classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "classes", "wanted"),
    [
        (("b", "a"), ("a", "b"), {"b": "b", "a": "a"}),
        (("Luminal_A", "HER2+", "x"), ("luminal a", "her2+"), {"Luminal_A": "luminal a", "HER2+": "her2+"}),
        (("is_benign", "is_malignant"), WORDS, {"is_benign": "benign", "is_malignant": "malignant"}),
        (("class0", "class1", "class2"), ("0.0", "1.0", "2.0"), {"class0": "0.0", "class1": "1.0", "class2": "2.0"}),
        (("benignProb", "malignantProb"), WORDS, {"benignProb": "benign", "malignantProb": "malignant"}),
        (("isMalignant",), WORDS, {"isMalignant": "malignant"}),
        (("malignant_count",), WORDS, {}),
        (("HER2+", "other"), ("HER2-", "other"), {"other": "other"}),
        (("HER2",), ("HER2+", "HER2-"), {}),
        (("carcinoma_in_situ", "carcinoma"), ("carcinoma", "carcinoma in situ"),
         {"carcinoma_in_situ": "carcinoma in situ", "carcinoma": "carcinoma"}),
        (("p_1", "p_10"), ("1", "10"), {"p_1": "1", "p_10": "10"}),
    ],
)  # fmt: skip
def test_columns_are_matched_with_classes(columns: tuple[str, ...], classes: tuple[str, ...], wanted: object) -> None:
    assert match_classes(columns, classes) == wanted
    assert match_classes(columns[::-1], classes[::-1]) == wanted


@pytest.mark.parametrize(
    ("seen", "classes", "wanted"),
    [
        ({"b"}, ("a", "b"), {"a": "a", "b": "b"}),
        (set(), ("a", "b"), {"a": "a", "b": "b"}),
        ({"B"}, ("a", "b"), {"a": "A", "b": "B"}),
        ({"2"}, ("1.0", "2.0"), {"1.0": "1", "2.0": "2"}),
        ({"2.0"}, ("1", "2"), {"1": "1.0", "2": "2.0"}),
        ({"002"}, ("1", "2"), {"1": "001", "2": "002"}),
        ({"3"}, ("1", "2"), {}),
        ({"lum_a", "HER2+"}, ("her2-", "lum a"), {}),
        ({"lum_a", "Her-2"}, ("her 2", "lum a"), {"lum a": "lum_a", "her 2": "Her-2"}),
        ({"lum_a"}, ("her 2", "lum a"), {}),
    ],
)
def test_labels_are_spelt_as_the_sample_does(seen: set[str], classes: tuple[str, ...], wanted: object) -> None:
    assert find_spelling(seen, classes) == wanted


@pytest.mark.parametrize("text", ['a,b\n1,"x, ""y"" \n"\n\n2,\r\n,', "", "\n", 'a, "b,c" ,d', "é,f\r1,2\r", 'a"b,c'])
def test_lines_are_taken_apart_without_losing_a_sign(text: str) -> None:
    lines = list(split_lines(text, ","))
    assert "".join(",".join(cells) + end for cells, end in lines) == text
    parsed = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True))
    assert [[read_cell(cell) for cell in cells] for cells, _ in lines] == [
        [cell.strip() for cell in row] or [""] for row in parsed
    ]


# --- probabilities ------------------------------------------------------------------------------------------------


def test_probabilities_are_calibrated_on_inner_images_and_free_of_the_weights_of_a_decision() -> None:
    """Networks that are right in four of five and say 0.99: 0.8 is what they should have said."""
    n = 400
    truth = np.arange(n) % 2
    said = np.where(np.arange(n) % 5 == 0, 1 - truth, truth)
    scores = np.where(said[:, None] == np.arange(2), 0.99, 0.01)
    inner = pd.DataFrame({"image": [f"i{i}" for i in range(n)], "case": [f"i{i}" for i in range(n)], "fold": 0,
                          "seed": 0, "label": np.array(["a", "b"])[truth], "score_a": scores[:, 0],
                          "score_b": scores[:, 1]})  # fmt: skip
    test = inner.iloc[:10].assign(label="")
    found = calibrate_scores(inner, test, classes=("a", "b"), calibration="temperature")
    shares = found[["score_a", "score_b"]].to_numpy()
    assert shares.sum(axis=1) == pytest.approx(np.ones(10))
    assert shares.max(axis=1) == pytest.approx(np.full(10, 0.8), abs=0.01)
    assert (shares.argmax(axis=1) == scores[:10].argmax(axis=1)).all()


# --- through the command ------------------------------------------------------------------------------------------


def draw_large(path: Path, kind: int) -> None:
    """A picture of one of two textures, large enough for tiles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_texture("AB"[kind], np.random.default_rng(next(DRAWN)))).save(path)


@pytest.mark.slow
def test_a_run_fills_the_sample_with_calibrated_means_of_its_cases(tmp_path: Path) -> None:
    """The recipe calibrates nothing and moves decisions; the submission has the raw scores at a fitted temperature."""
    root = tmp_path / "data"
    rows = [f"t{i},p{i // 2},{WORDS[i // 2 % 2]}" for i in range(24)]
    for i in range(24):
        draw_large(root / "train" / f"t{i}.png", i // 2 % 2)
    for i in range(4):
        draw_large(root / "test" / f"{i}.png", i % 2)
    write_lines(root / "train.csv", "image_id,patient_id,label", *rows)
    write_lines(root / "test.csv", "image_id,patient_id", "0,q0", "1,q1", "2,q0", "3,q1")
    (root / "sample_submission.csv").write_bytes(b'"patient_id","malignant","benign"\r\n"q1",0.5,0.5\r\n"q0",0.5,0.5')
    settings = [*FAST, "train.finetune.epochs=0", "predict.decision=prior"]
    words = [word for setting in settings for word in ("--set", setting)]
    command = ["run", str(root), "--runs", str(tmp_path / "runs"), "--name", "r", "--recipe", "default", *words]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert "probabilities, calibration 'temperature'" in " ".join(result.output.split())
    run = tmp_path / "runs" / "r"
    raw = pd.concat(pd.read_csv(p) for p in sorted((run / "predictions" / "folds").glob("test-*.csv")))
    inner = pd.read_csv(run / "predictions" / "inner.csv")
    assert json.loads((run / "predictions" / "rules.json").read_text())[0]["temperature"] == 1
    weights = pd.DataFrame([rule["weights"] for rule in json.loads((run / "predictions" / "rules.json").read_text())])
    for name in WORDS:  # what the decision did to the inner scores is taken back
        inner[f"score_{name}"] /= weights[name].to_numpy()[inner["fold"]]
    inner[score_columns(WORDS)] /= inner[score_columns(WORDS)].sum(axis=1).to_numpy()[:, None]
    fitted = calibrate_scores(inner, raw, classes=WORDS, calibration="temperature")
    means = fitted.groupby("image")[score_columns(WORDS)].mean()
    by_case = means.groupby(["q0", "q1", "q0", "q1"]).mean()
    written = (run / "submission.csv").read_bytes().decode()
    rows = written.split("\r\n")
    assert rows[0] == '"patient_id","malignant","benign"'
    assert len(rows) == 3
    for row, case in zip(rows[1:], ("q1", "q0"), strict=True):
        name, *shares = row.split(",")
        assert name == f'"{case}"'
        wanted = by_case.loc[case, ["score_malignant", "score_benign"]]
        assert np.array(shares, float) == pytest.approx(wanted.to_numpy(), abs=1e-6)
        assert sum(int(share.replace(".", "")) for share in shares) == 10**9
    assert "submission.csv has 2 rows" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_command_that_ends_without_a_submission_says_so_before_it_is_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("out", "err"):
        monkeypatch.setattr(cli.console, stream, Console(stderr=stream == "err", highlight=False, width=300))
    root = draw_challenge(tmp_path / "data", "id,score\n" + ROWS.format("0.5"))
    audit = ["audit", str(root), "--runs", str(tmp_path / "runs")]
    asked = CliRunner().invoke(cli.app, audit)
    assert asked.exit_code == 2
    assert "--set data.positive=malignant" in asked.output
    answered = CliRunner().invoke(cli.app, [*audit, "--set", "data.positive=malignant"]).output.splitlines()
    assert answered[-1].endswith("--set data.positive=malignant")
    assert not any("no submission" in line for line in answered)
    said = CliRunner().invoke(cli.app, [*audit, "--set", "data.submission=none"]).output.splitlines()
    assert "no submission will be written: data.submission is 'none'" in said[-3]
    for file in (root / "test_data").iterdir():
        file.unlink()
    said = CliRunner().invoke(cli.app, audit).output.splitlines()
    assert "no submission will be written: no image of a test part is there for sample_submission.csv" in said[-3]
    (root / "sample_submission.csv").unlink()
    said = CliRunner().invoke(cli.app, audit).output.splitlines()
    assert "no submission will be written: no image of a part to predict is there" in said[-3]
