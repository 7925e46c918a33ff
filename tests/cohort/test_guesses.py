"""What is guessed of tables and folders is right where two readings stand against each other, or is said."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.cohort.result import format_setting
from smalti.predict.submission import write_submission
from smalti.recipe import load_recipe


def draw(root: Path, *names: str) -> Path:
    """Noise pictures of 9 x 7 px."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="PNG")
    return root


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def has_note(notes: tuple[str, ...], *texts: str) -> bool:
    return any(all(text in note for text in texts) for note in notes)


def test_a_number_of_the_row_that_names_another_image_is_asked_about(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{i}.png" for i in range(6)))
    write(tmp_path / "labels.csv", "id,scan,label", *(f"{i},{5 - i}.png,{'AB'[i % 2]}" for i in range(6)))
    _, (problem,) = inspect_folder(tmp_path)
    assert (problem.code, problem.file) == ("column-ambiguous", "labels.csv line 2")
    assert "--set data.image=id or --set data.image=scan" in problem.fix
    cohort = read_cohort(tmp_path, columns=Columns(image="scan"))
    assert {s.image: s.label for s in cohort.labelled} == {f"images/{5 - i}.png": "AB"[i % 2] for i in range(6)}


def test_a_number_that_repeats_is_no_name_of_an_image(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{i}.png" for i in range(6)))
    write(tmp_path / "labels.csv", "id,scan,label", *(f"{i // 2},{5 - i}.png,{'AB'[i % 2]}" for i in range(6)))
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"images/{5 - i}.png" for i in range(6)]
    assert has_note(cohort.notes, "image column: scan", "not 'id'")


def test_another_file_beside_an_image_that_is_named_as_one_is_no_rival(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{folder}{i}.png" for i in range(4) for folder in ("images/", "thumbs/t")))
    write(tmp_path / "labels.csv", "image_id,small,label", *(f"{i},thumbs/t{i}.png,{'AB'[i % 2]}" for i in range(4)))
    assert [s.image for s in read_cohort(tmp_path).labelled] == [f"images/{i}.png" for i in range(4)]


def test_a_number_that_agrees_with_the_file_stays_the_name(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{i}.png" for i in range(6)))
    write(tmp_path / "labels.csv", "image_id,scan,label", *(f"{i},{i}.png,{'AB'[i % 2]}" for i in range(6)))
    assert [s.index for s in read_cohort(tmp_path).labelled] == [str(i) for i in range(6)]


@pytest.mark.parametrize(
    ("head", "cells"), [("id,image,label", "{row},{file}.png,A"), ("id,image_id,label", "{row},{file},A")]
)
def test_a_number_of_the_row_of_a_sample_is_no_name_either(tmp_path: Path, head: str, cells: str) -> None:
    draw(tmp_path, *(f"train/a{i}.png" for i in range(4)), *(f"test/{i}.png" for i in range(3)))
    write(tmp_path / "train.csv", "image,label", *(f"a{i}.png,{'AB'[i % 2]}" for i in range(4)))
    write(tmp_path / "sample_submission.csv", head, *(cells.format(row=i, file=2 - i) for i in range(3)))
    cohort = read_cohort(tmp_path)
    said = {"test/0.png": "B", "test/1.png": "A", "test/2.png": "B"}
    rows = [(image, said[image] == "A", said[image] == "B") for image in said]
    table = pd.DataFrame(rows, columns=["image", "score_A", "score_B"]).astype({"score_A": float, "score_B": float})
    lines = write_submission(tmp_path / "out.csv", cohort, table).read_text().split()
    assert [line.rsplit(",", 1)[1] for line in lines[1:]] == [said[f"test/{2 - i}.png"] for i in range(3)]


@pytest.mark.parametrize("file", ["cases.csv", "clinical.csv"])
@pytest.mark.parametrize("levels", [None, ("class",)])
def test_cases_of_class_folders_may_stand_in_a_table(tmp_path: Path, file: str, levels: tuple[str, ...] | None) -> None:
    draw(tmp_path, *(f"{'AB'[i % 2]}/{i}.png" for i in range(9)))
    write(tmp_path / file, "image,patient,age", *(f"{i}.png,P{i // 4},5{i}" for i in range(8)))
    cohort = read_cohort(tmp_path, columns=Columns(levels=levels))  # type: ignore[arg-type]
    assert {s.image: s.case for s in cohort.labelled} == {
        f"{'AB'[i % 2]}/{i}.png": f"P{i // 4}" if i < 8 else "A/8.png" for i in range(9)
    }
    assert has_note(cohort.notes, f"cases of 8 images from {file}", "'patient'", "1 other image(s)")


def test_a_row_of_cases_that_may_mean_two_images_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{name}/{i}.png" for i in range(4) for name in "AB"))
    write(tmp_path / "cases.csv", "image,case", "0.png,P0", *(f"{n}/{i}.png,P{i}" for i in range(1, 4) for n in "AB"))
    _, (problem,) = inspect_folder(tmp_path)
    assert (problem.code, problem.file) == ("ambiguous-row", "cases.csv line 2")


def test_folders_that_say_cases_are_not_overruled_by_a_table(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{'AB'[i % 2]}/pat{i // 2}/{i}.png" for i in range(8)))
    write(tmp_path / "clinical.csv", "image,patient", *(f"{i}.png,P{i}" for i in range(8)))
    cohort = read_cohort(tmp_path)
    assert {s.case for s in cohort.labelled} == {f"pat{i}" for i in range(4)}
    assert has_note(cohort.notes, "clinical.csv is not used")


def test_a_named_column_of_cases_that_no_table_has_is_told(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{'AB'[i % 2]}/{i}.png" for i in range(4)))
    _, problems = inspect_folder(tmp_path, columns=Columns(levels=("class",), case="donor"))
    assert [p.code for p in problems] == ["column-missing"]


def test_folders_of_one_case_in_two_spellings_are_one_case(tmp_path: Path) -> None:
    draw(tmp_path, *(f"A/P{i}/a{i}.png" for i in range(4)), *(f"B/p{i}/b{i}.png" for i in range(4)))
    cohort = read_cohort(tmp_path, columns=Columns(levels=("class", "case")))
    cases = {s.image: s.case for s in cohort.labelled}
    assert all(cases[f"A/P{i}/a{i}.png"] == cases[f"B/p{i}/b{i}.png"] for i in range(4))
    assert has_note(cohort.notes, "written in several ways")


@pytest.mark.parametrize("text", ["unknown", "#N/A", "<NA>", "Not available", "missing"])
def test_a_label_that_says_nothing_is_no_class_unasked(tmp_path: Path, text: str) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(9)))
    write(tmp_path / "labels.csv", "image,label", *(f"{i}.png,{('A', 'B', text)[i % 3]}" for i in range(9)))
    _, (problem,) = inspect_folder(tmp_path)
    assert problem.code == "label-empty"
    (setting,) = [word for word in shlex.split(problem.fix.replace("'test'", "")) if word.startswith("data.")]
    columns = Columns(**load_recipe("quick", settings=[setting]).data.name_columns())
    assert read_cohort(tmp_path, columns=columns).classes.count(text) == 1


def test_of_several_sheets_the_one_with_images_and_labels_is_read(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(4)))
    book = openpyxl.Workbook()
    book.active.append(["remark"])
    book.active.append(["made in spring"])
    book.create_sheet("read me").append(["see the other sheet"])
    rows = [["image", "label"], *([f"{i}.png", "AB"[i % 2]] for i in range(4))]
    sheet = book.create_sheet("all labels")
    for row in rows:
        sheet.append(row)
    book.save(tmp_path / "data.xlsx")
    cohort = read_cohort(tmp_path)
    assert [s.label for s in cohort.labelled] == ["A", "B", "A", "B"]
    assert has_note(cohort.notes, "'all labels' is read", "not 'Sheet', 'read me'")


def test_a_cell_that_names_no_part_is_told(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(9)))
    parts = ("train", "holdout", "external")
    write(tmp_path / "labels.csv", "image,label,split", *(f"{i}.png,{'AB'[i % 2]},{parts[i % 3]}" for i in range(9)))
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.unlabelled] == ["1.png", "4.png", "7.png"]
    assert has_note(cohort.notes, "'split' says neither", "'external' (3)")


def test_of_two_columns_of_labels_the_other_is_named(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(4)))
    write(tmp_path / "labels.csv", "image,grade,diagnosis", *(f"{i}.png,{i // 2},{'AB'[i % 2]}" for i in range(4)))
    assert has_note(read_cohort(tmp_path).notes, "label column: diagnosis (not 'grade'", "data.label")


@pytest.mark.parametrize("names", [("female", "male"), ("sex_f", "sex_m"), ("is_train", "is_test")])
def test_columns_of_0_and_1_about_something_else_are_no_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    draw(tmp_path, *(f"{i}.png" for i in range(8)))
    rows = [f"{i}.png,{i % 3 % 2},{1 - i % 3 % 2}" for i in range(8)]
    write(
        tmp_path / "labels.csv",
        f"image,{','.join(names)},A,B",
        *(f"{r},{i % 2},{1 - i % 2}" for i, r in enumerate(rows)),
    )
    assert [s.label for s in read_cohort(tmp_path).labelled] == list("BABABABA")
    write(tmp_path / "labels.csv", f"image,{','.join(names)}", *rows)
    assert [p.code for p in inspect_folder(tmp_path)[1]] == ["no-labels"]


TEXTS = [
    "NA",
    "null",
    "~",
    "1",
    "1.0",
    "01",
    "no",
    "true",
    "2020-01-01",
    "a b",
    "a\tb",
    "it's",
    "#N/A",
    "?",
    "$HOME",
    "1:30",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_question_proposes_is_read_as_it_was_meant(text: str) -> None:
    _, one = shlex.split(format_setting("positive", text))
    _, several = shlex.split(format_setting("real_labels", [text, "B, C"]))
    data = load_recipe("quick", settings=[one, several]).data
    assert (data.positive, data.real_labels) == (text, (text, "B, C"))
