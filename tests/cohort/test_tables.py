"""Tables as people have them: each row finds the file that it means, or says that it does not; the columns likewise."""

from __future__ import annotations

import datetime
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.cohort.layouts.parts import part_of_path, part_of_table, read_part
from smalti.cohort.tables.names import Matcher, NameIndex
from smalti.errors import DataError, Problem
from smalti.types import Cohort


def draw(root: Path, *names: str) -> Path:
    """Noise pictures of 9 x 7 px."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format="PNG")
    return root


def write(path: Path, rows: Iterable[Iterable[object]], *, sep: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(sep.join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def labels_of(cohort: Cohort) -> dict[str, str | None]:
    return {sample.image: sample.label for sample in cohort.labelled}


def cases_of(cohort: Cohort) -> list[str]:
    return [sample.case for sample in cohort.labelled]


def has_note(cohort: Cohort, *texts: str) -> bool:
    return any(all(text in note for text in texts) for note in cohort.notes)


def problems_of(root: Path, columns: Columns | None = None) -> list[Problem]:
    return [p for p in inspect_folder(root, columns=columns or Columns())[1] if not p.warning]


FILES = [f"images/s{i}.png" for i in range(4)]
TRUTH = {name: "AB"[i % 2] for i, name in enumerate(FILES)}


def draw_listing(root: Path, texts: Iterable[str], files: Iterable[str] = FILES) -> Path:
    """Four pictures, and a table that calls them something."""
    draw(root, *files)
    write(root / "labels.csv", [("image", "label"), *((text, "AB"[i % 2]) for i, text in enumerate(texts))])
    return root


# --- how a row finds its file ---------------------------------------------------------------------------------------


WAYS = {
    "capitals": ("images/S{}.PNG", "4 file(s) are found where only capital letters differ"),
    "suffix": ("images/s{}.tif", "where only the suffix differs"),
    "suffix of a scanner": ("s{}.czi", "where only the suffix differs"),
    "two suffixes": ("images/s{}.ome.tif", "where only the suffix differs"),
    "capital suffix": ("s{}.TIFF", "where only the suffix differs"),
    "notebook": ("/content/drive/MyDrive/tissue/images/s{}.png", "by the end of a longer path"),
    "windows": ("C:\\Users\\lab\\images\\s{}.png", "by the end of a longer path"),
    "share": ("\\\\nas\\group\\images\\s{}", "by the end of a longer path"),
    "address": ("s3://bucket/images/s{}.png", "by the end of a longer path"),
    "parent": ("tissue/images/s{}.png", "by the end of a longer path"),
    "from notebooks": ("../data/images/s{}.png", "by the end of a longer path"),
    "other folder": ("/home/me/pictures/s{}.png", "by the file name alone"),
    "windows capitals": ("D:\\Images\\S{}.TIF", "where only the suffix differs"),
}


@pytest.mark.parametrize("way", WAYS)
def test_names_that_are_written_otherwise_are_found_and_it_is_said(tmp_path: Path, way: str) -> None:
    form, said = WAYS[way]
    cohort = read_cohort(draw_listing(tmp_path, [form.format(i) for i in range(4)]))
    assert labels_of(cohort) == TRUTH
    assert has_note(cohort, said, "4 file(s)", form.format(0))
    assert [s.index for s in cohort.labelled] == [form.format(i) for i in range(4)]


def test_numbers_that_lost_their_zeros(tmp_path: Path) -> None:
    cohort = read_cohort(draw_listing(tmp_path, ["0", "1", "2.0", "3"], [f"images/{i:04d}.png" for i in range(4)]))
    assert list(labels_of(cohort).values()) == ["A", "B", "A", "B"]
    assert has_note(cohort, "4 file(s) are found by their number")


@pytest.mark.parametrize(("disk", "table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_composed_and_decomposed_letters_are_the_same(tmp_path: Path, disk: str, table: str) -> None:
    names = [f"Müller_é/Präparat {i}.png" for i in range(4)]
    files = [unicodedata.normalize(disk, name) for name in names]  # type: ignore[arg-type]
    texts = [unicodedata.normalize(table, name) for name in names]  # type: ignore[arg-type]
    cohort = read_cohort(draw_listing(tmp_path, texts, files))
    assert labels_of(cohort) == {name: "AB"[i % 2] for i, name in enumerate(files)}
    assert has_note(cohort, "4 file(s) are found as the same letters, composed otherwise")


def test_what_is_found_to_the_letter_needs_no_note(tmp_path: Path) -> None:
    cohort = read_cohort(draw_listing(tmp_path, FILES))
    assert not has_note(cohort, "are found")


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (("images/s0.png", "images/s0.tif"), "s0.jpg"),
        (("images/s0.png", "images/S0.png"), "images/S0.PNG"),
        (("images/s0.png", "other/s0.png"), "/content/x/s0.png"),
        (("images/1.png", "images/001.png"), "01"),
    ],
)
def test_two_candidates_are_a_question(tmp_path: Path, files: tuple[str, str], text: str) -> None:
    draw_listing(tmp_path, [text, *FILES[1:]], [*files, *FILES[1:]])
    found = [p for p in problems_of(tmp_path) if p.code == "ambiguous-row"]
    assert [set(p.images) for p in found] == [set(files)]


def test_the_longest_tail_wins_over_the_name_alone(tmp_path: Path) -> None:
    """Folders number their images alike; every row means the file of its own folder."""
    files = [f"{site}/{i}.png" for site in ("basel", "bern") for i in range(2)]
    cohort = read_cohort(draw_listing(tmp_path, [f"/mnt/data/{name}" for name in files], files))
    assert list(labels_of(cohort)) == files
    assert not has_note(cohort, "alone")


def test_a_row_does_not_take_the_file_of_another_row(tmp_path: Path) -> None:
    """Of /x/bern/ only basel's images are here: bern's rows have no file, though the names are the same."""
    files = [f"basel/{i}.png" for i in range(4)]
    draw(tmp_path, *files)
    rows = [(f"/mnt/{site}/{i}.png", "AB"[i % 2]) for i in range(4) for site in ("bern", "basel")]
    write(tmp_path / "labels.csv", [("image", "label"), *rows])
    cohort, problems = inspect_folder(tmp_path)
    assert cohort is not None
    assert labels_of(cohort) == {name: "AB"[i % 2] for i, name in enumerate(files)}
    assert Counter(p.code for p in problems) == {"path-escape": 4}
    assert "basel/0.png is named better by another row" in problems[0].message


def test_one_foreign_path_of_another_folder_is_refused(tmp_path: Path) -> None:
    draw_listing(tmp_path, ["/elsewhere/s0.png", *FILES[1:]])
    (problem, *_) = problems_of(tmp_path)
    assert problem.code == "path-escape"
    assert "images/s0.png has its name, but lies in another folder" in problem.message


def test_a_column_of_images_that_are_not_here_is_told(tmp_path: Path) -> None:
    draw_listing(tmp_path, [f"scan {i}" for i in range(4)])
    (problem,) = problems_of(tmp_path)
    assert problem.code == "no-labels"
    assert "'image' names no image that is here, such as 'scan 0'; labels: 'label'" in problem.message


def test_relative_paths_of_another_folder_are_not_guessed(tmp_path: Path) -> None:
    draw_listing(tmp_path, [f"benign/s{i}.png" for i in range(4)])
    assert {p.code for p in problems_of(tmp_path)} == {"row-without-file"}


def test_masks_are_found_in_the_same_ways(tmp_path: Path) -> None:
    draw(tmp_path, *FILES)
    (tmp_path / "masks").mkdir()
    for i in range(4):
        Image.fromarray(np.eye(7, 9, dtype=np.uint8)).save(tmp_path / f"masks/s{i}.png")
    rows = [(f"images/s{i}.png", f"D:\\lab\\masks\\S{i}.PNG", "AB"[i % 2]) for i in range(4)]
    write(tmp_path / "labels.csv", [("image", "mask", "label"), *rows])
    cohort, problems = inspect_folder(tmp_path)
    assert not [p for p in problems if p.code in {"path-escape", "mask-missing", "ambiguous-row"}]
    assert cohort is not None
    assert all(s.mask_path == tmp_path / "masks" / s.path.name for s in cohort.labelled)


NAME = st.text("abAB01ä\u0308_", min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAME, NAME), min_size=1, max_size=8, unique=True), st.data())
def test_a_name_to_the_letter_always_finds_its_file(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    """Whatever else is there: the path, and the path of another machine, find the file or name it as a candidate."""
    names = sorted({f"{folder}/{file}.png" for folder, file in pairs})
    name = data.draw(st.sampled_from(names))
    index = NameIndex(names)
    assert index.find(name).names == (name,)
    assert index.find(f"/content/x/{name}").names == (name,)
    assert name in index.find(name.split("/")[1]).names
    assert name in Matcher(names).match(name.split("/")[1].removesuffix(".png")).names
    assert set(index.find(name.upper()).names) <= set(names)


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [("train", "train"), ("Training set", "train"), ("val", "val"), ("VALIDATION", "val"), ("test_data", "test"),
     ("TestImages", "test"), ("latest_labels", ""), ("testis", ""), ("train_test_split", ""), ("labels", ""), ("", "")],
)  # fmt: skip
def test_parts_are_read_by_whole_words(text: str, part: str) -> None:
    assert read_part(text) == part


def test_parts_of_tables_and_paths() -> None:
    assert (part_of_table("labels_val.csv"), part_of_table("test/labels.csv"), part_of_table("all.csv")) == (
        "val", "test", "",
    )  # fmt: skip
    assert (part_of_path("train/a/1.png"), part_of_path("images/1.png"), part_of_path("test.png")) == ("train", "", "")


def draw_parts(root: Path, *, headers: str = "{}.csv", images: str = "images/") -> Path:
    for k, part in enumerate(("train", "val", "test")):
        names = [f"{part}{i}.png" for i in range(4)]
        draw(root, *(images.format(part=part) + name for name in names))
        rows = [(name, "AB"[i % 2], f"p{k}{i}") for i, name in enumerate(names)]
        write(root / headers.format(part), [("image", "label", "patient"), *rows])
    return root


@pytest.mark.parametrize("headers", ["{}.csv", "{}_labels.csv", "{}/labels.csv", "tables/{}.csv"])
def test_tables_of_the_parts_are_read_together(tmp_path: Path, headers: str) -> None:
    cohort = read_cohort(draw_parts(tmp_path, headers=headers))
    assert {name.split("/")[1][:-5] for name in labels_of(cohort)} == {"train", "val"}
    assert len(cohort.labelled) == 8
    assert [s.image for s in cohort.unlabelled] == [f"images/test{i}.png" for i in range(4)]
    assert all(s.label is None for s in cohort.unlabelled)
    assert has_note(cohort, "val", "its rows join the part to learn from")
    assert has_note(cohort, "labels of 4 rows of the test part are not read")


def test_the_table_s_part_decides_between_folders_that_number_alike(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        draw(tmp_path, *(f"{part}/{i}.png" for i in range(4)))
        write(tmp_path / f"{part}.csv", [("image_id", "label"), *((i, "AB"[i % 2]) for i in range(4))])
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"{part}/{i}.png" for part in ("train", "val") for i in range(4)]
    assert [s.image for s in cohort.unlabelled] == [f"test/{i}.png" for i in range(4)]
    assert has_note(cohort, "train.csv", "in the folder of the table's part")


def test_a_part_column_decides_too(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{part}/{i}.png" for part in ("train", "test") for i in range(4)))
    rows = [(i, "AB"[i % 2], part) for part in ("Train", "Test set") for i in range(4)]
    write(tmp_path / "labels.csv", [("image_id", "label", "Dataset split"), *rows])
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"train/{i}.png" for i in range(4)]
    assert [s.image for s in cohort.unlabelled] == [f"test/{i}.png" for i in range(4)]


def test_a_training_row_never_takes_an_image_of_the_test_folder(tmp_path: Path) -> None:
    draw(tmp_path, *(f"train/{i}.png" for i in range(5)), *(f"test/{i}.png" for i in range(6)))
    write(tmp_path / "train.csv", [("image_id", "label"), *((i, "AB"[i % 2]) for i in range(6))])
    cohort, problems = inspect_folder(tmp_path)
    assert [(p.code, p.file) for p in problems] == [("row-without-file", "train.csv line 7")]
    assert "test/5.png is of another part than train" in problems[0].message
    assert cohort is not None
    assert [s.image for s in cohort.unlabelled] == [f"test/{i}.png" for i in range(6)]
    assert has_note(cohort, "6 image(s) of test/ are the part to predict: no table lists them")


def test_tables_that_are_no_parts_stay_a_question(tmp_path: Path) -> None:
    draw_listing(tmp_path, FILES)
    for name in ("reader1.csv", "train.csv"):
        (tmp_path / name).write_bytes((tmp_path / "labels.csv").read_bytes())
    (problem,) = problems_of(tmp_path)
    assert problem.code == "several-tables"
    assert "--set data.table=labels.csv" in problem.fix
    assert len(read_cohort(tmp_path, columns=Columns(table="reader1.csv")).labelled) == 4


def test_columns_that_are_named_need_not_be_in_the_table_to_predict(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 6)
    write(
        tmp_path / "train.csv", [("image", "outcome", "who"), *((n, "AB"[i % 2], i) for i, n in enumerate(names[:4]))]
    )
    write(tmp_path / "test.csv", [("image",), *((n,) for n in names[4:])])
    cohort = read_cohort(tmp_path, columns=Columns(label="outcome", case="who"))
    assert (len(cohort.labelled), len(cohort.unlabelled)) == (4, 2)


@pytest.mark.parametrize("place", ["data/labels.csv", "a/b/labels.csv", "truth/labels.csv"])
def test_tables_below_are_looked_for_but_never_in_truth(tmp_path: Path, place: str) -> None:
    draw_listing(tmp_path, FILES)
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / "labels.csv").rename(tmp_path / place)
    if place.startswith("truth/"):
        assert {p.code for p in problems_of(tmp_path)} <= {"unknown-layout", "few-cases", "one-class"}
    else:
        assert labels_of(read_cohort(tmp_path)) == TRUTH


@pytest.mark.parametrize("header", [("image", "old", "young"), ("image", "age", "staining class")])
def test_labels_that_are_guessed_do_not_outdo_class_folders(tmp_path: Path, header: tuple[str, ...]) -> None:
    files = [f"{label}/{i}.png" for label in ("benign", "malignant") for i in range(4)]
    draw(tmp_path, *files)
    write(tmp_path / "meta.csv", [header, *((name, i % 2, 1 - i % 2) for i, name in enumerate(files))])
    (problem,) = problems_of(tmp_path)
    assert problem.code == "several-labels"
    assert "the folders of images may be the classes" in problem.message
    cohort = read_cohort(tmp_path, columns=Columns(label=header[-1]))
    assert cohort.classes == ("0", "1")


# --- cases ----------------------------------------------------------------------------------------------------------


MISSING = ["", "NA", "n/a", "Unknown", "NONE", "null", "-", "?", "nan", "missing", "Not available"]


def draw_cases(root: Path, cases: Iterable[str], *, header: str = "patient") -> Path:
    cases = list(cases)
    names = draw_names(root, len(cases))
    write(root / "labels.csv", [("image", "label", header), *((n, "AB"[i % 2], cases[i]) for i, n in enumerate(names))])
    return root


def draw_names(root: Path, n: int) -> list[str]:
    names = [f"s{i}.png" for i in range(n)]
    draw(root, *(f"images/{name}" for name in names))
    return names


def test_missing_patients_are_own_cases(tmp_path: Path) -> None:
    cohort = read_cohort(draw_cases(tmp_path, [*MISSING, "p1", "p1", "p2"]))
    assert len(set(cases_of(cohort))) == len(MISSING) + 2
    assert has_note(cohort, "11 row(s) have no case (empty, 'NA', 'n/a', 'Unknown')")


def test_missing_patients_of_the_challenge_are_own_cases(tmp_path: Path) -> None:
    names = [f"img_{i}.png" for i in range(6)]
    draw(tmp_path, *(f"train_data/{name}" for name in names))
    rows = [(name, "AB"[i % 2], ("unknown", "P1", "p1 ")[i // 2]) for i, name in enumerate(names)]
    write(tmp_path / "train_labels.csv", [("sample_index", "label", "patient"), *rows])
    assert len(set(cases_of(read_cohort(tmp_path)))) == 3
    write(tmp_path / "cases.csv", [("sample_index", "case"), *((n, "NA" if i else "x") for i, n in enumerate(names))])
    cohort = read_cohort(tmp_path)
    assert cases_of(cohort)[0] == "x"
    assert has_note(cohort, "5 row(s) have no case ('NA')")


@pytest.mark.parametrize("pair", [("P1", "p1 "), ("012", "12"), ("12.0", "12"), ("P_1", "P 1"), ("Ａ1", "A1")])
def test_one_case_in_two_spellings_is_one_case_and_it_is_said(tmp_path: Path, pair: tuple[str, str]) -> None:
    cohort = read_cohort(draw_cases(tmp_path, [pair[0], pair[1], pair[0], pair[1], "x", "y", "z"]))
    assert len(set(cases_of(cohort))) == 4
    assert has_note(cohort, "1 case(s) are written in several ways and taken as one each", pair[0].strip())


def test_cases_that_only_look_alike_stay_apart(tmp_path: Path) -> None:
    cohort = read_cohort(draw_cases(tmp_path, ["1.10", "1.1", "1", "10", "1-1", "p10", "p1"]))
    assert len(set(cases_of(cohort))) == 7
    assert not has_note(cohort, "written in several ways")


@pytest.mark.parametrize("order", [("slide_id", "patient"), ("patient", "slide_id"), ("case_id", "Patient Number")])
def test_of_two_columns_of_cases_the_coarser_one_counts(tmp_path: Path, order: tuple[str, str]) -> None:
    names = draw_names(tmp_path, 8)
    coarse = next(column for column in order if column.lower().startswith("patient"))
    ids = {column: (lambda i: i // 4) if column == coarse else (lambda i: i // 2) for column in order}
    rows = [(name, "AB"[i % 2], *(f"x{ids[column](i)}" for column in order)) for i, name in enumerate(names)]
    write(tmp_path / "labels.csv", [("image", "label", *order), *rows])
    cohort = read_cohort(tmp_path)
    assert cases_of(cohort) == [f"x{i // 4}" for i in range(8)]
    assert has_note(cohort, f"case column: {coarse} (not '{next(c for c in order if c != coarse)}'")


def test_columns_of_cases_that_cross_are_said(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 8)
    rows = [(name, "AB"[i % 2], f"p{i % 4}", f"d{i // 4}") for i, name in enumerate(names)]
    write(tmp_path / "labels.csv", [("image", "label", "patient", "donor"), *rows])
    cohort = read_cohort(tmp_path)
    assert has_note(cohort, "case column: patient (not 'donor', which has its cases in several of these")


def test_columns_about_patients_are_no_columns_of_cases(tmp_path: Path) -> None:
    for header in ("patient age", "Patient sex", "case notes"):
        cohort = read_cohort(draw_cases(tmp_path, ["7", "8"] * 4, header=header))
        assert has_note(cohort, "each image is its own case")


# --- columns --------------------------------------------------------------------------------------------------------


def test_long_headers_are_read_by_the_words_in_them(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 8)
    header = ("Image Name", "Majority Vote Label", "Number of Annotators who Selected SSA (Out of 7)", "Partition")
    rows = [(n, ("HP", "SSA")[i % 2], i, "train" if i < 6 else "test") for i, n in enumerate(names)]
    write(tmp_path / "annotations.csv", [header, *rows])
    cohort = read_cohort(tmp_path)
    assert cohort.classes == ("HP", "SSA")
    assert (len(cohort.labelled), len(cohort.unlabelled)) == (6, 2)
    assert has_note(cohort, "label column: Majority Vote Label (its name ends with 'label')")


@pytest.mark.parametrize(
    ("header", "image", "label"),
    [
        ("Name of scan,Tumour subtype,age", "Name of scan", "Tumour subtype"),
        ("tile,gold_label,remark", "tile", "gold_label"),
        (",Picture,Class (WHO)", "Picture", "Class (WHO)"),
        ("Unnamed: 0,wholeSlideFile,finalDiagnosis", "wholeSlideFile", "finalDiagnosis"),
    ],
)
def test_columns_are_found_by_words_and_by_what_they_hold(tmp_path: Path, header: str, image: str, label: str) -> None:
    names = draw_names(tmp_path, 6)
    columns = header.split(",")
    cells = [{image: n, label: "AB"[i % 2]} for i, n in enumerate(names)]
    rows = [[row.get(column, str(i)) for column in columns] for i, row in enumerate(cells)]
    write(tmp_path / "t.csv", [columns, *rows])
    cohort = read_cohort(tmp_path)
    assert labels_of(cohort) == {f"images/s{i}.png": "AB"[i % 2] for i in range(6)}
    assert has_note(cohort, f"image column: {image} (")
    assert has_note(cohort, f"label column: {label} (")


def test_an_index_column_is_no_image_column(tmp_path: Path) -> None:
    """pandas writes row numbers; images are numbered too, but otherwise."""
    files = [f"images/img_{i:03d}.png" for i in range(6)]
    draw(tmp_path, *files)
    rows = [(i, f"img_{5 - i:03d}.png", "AB"[i % 2]) for i in range(6)]
    for first in ("", "Unnamed: 0", "id"):
        write(tmp_path / "t.csv", [(first, "scan", "label"), *rows])
        assert labels_of(read_cohort(tmp_path)) == {f"images/img_{5 - i:03d}.png": "AB"[i % 2] for i in range(6)}


def test_two_columns_that_may_be_the_label_are_a_question(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 4)
    write(tmp_path / "t.csv", [("image", "first label", "second label"), *((n, "A", "B") for n in names)])
    (problem,) = problems_of(tmp_path)
    assert problem.code == "no-labels"
    assert "t.csv has 'image', 'first label', 'second label'" in problem.message
    assert "--set data.label=COLUMN" in problem.fix


def test_a_long_list_of_columns_is_cut(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 4)
    header = [f"m{i}" for i in range(300)]
    write(tmp_path / "t.csv", [("image", *header), *((n, *header) for n in names)])
    (problem,) = problems_of(tmp_path)
    assert "'m10' and 289 more" in problem.message


def test_a_missing_column_is_told_with_the_nearest_names_and_all_at_once(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 4)
    write(tmp_path / "t.csv", [("image", "Subtype", "Patient"), *((n, "A", "B") for n in names)])
    found = problems_of(tmp_path, Columns(label="subtypes", case="patient"))
    assert [p.code for p in found] == ["column-missing"] * 2
    assert all("'image', 'Subtype', 'Patient'" in p.message for p in found)
    assert ["--set data.label=Subtype" in found[0].fix, "--set data.case=Patient" in found[1].fix] == [True, True]


def test_a_table_without_a_header_is_told(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 4)
    write(tmp_path / "t.csv", [(n, "AB"[i % 2]) for i, n in enumerate(names)])
    (problem,) = problems_of(tmp_path)
    assert "its first line seems to be a row" in problem.message


@pytest.mark.parametrize(
    "above",
    [
        "# exported 2024\n# by the scanner\n",
        "Cohort of 2024\n\n",
        "sep={sep}\n",
        "# a, comment, with, commas; and more\n",
    ],
)
@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_lines_above_the_header_are_not_read(tmp_path: Path, above: str, sep: str) -> None:
    path = draw_listing(tmp_path, FILES) / "labels.csv"
    text = above.format(sep=sep) + path.read_text(encoding="utf-8").replace(",", sep)
    path.write_text(text, encoding="utf-8")
    assert labels_of(read_cohort(tmp_path)) == TRUTH
    path.write_text(text + f"images/s9.png{sep}A\n", encoding="utf-8")
    assert problems_of(tmp_path)[0].file == f"labels.csv line {text.count(chr(10)) + 1}"


def test_a_header_written_as_a_comment_is_one(tmp_path: Path) -> None:
    path = draw_listing(tmp_path, FILES) / "labels.csv"
    path.write_text("# " + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert labels_of(read_cohort(tmp_path)) == TRUTH


# --- labels ---------------------------------------------------------------------------------------------------------


def draw_classes(root: Path, rows: Iterable[tuple[object, ...]], header: tuple[str, ...], *, sep: str = ",") -> Path:
    rows = list(rows)
    names = draw_names(root, len(rows))
    write(root / "train.csv", [header, *((n, *row) for n, row in zip(names, rows, strict=True))], sep=sep)
    return root


ONE_HOT = [(1, 0, 0), (0, 1, 0), (0, 0, 1)] * 2


@pytest.mark.parametrize("form", [str, lambda n: f"{n}.0", lambda n: str(bool(n)), lambda n: f"{n},0"])
def test_the_class_is_the_column_with_the_one(tmp_path: Path, form: object) -> None:
    assert callable(form)
    rows = [(40 + i, *map(form, row)) for i, row in enumerate(ONE_HOT)]
    cohort = read_cohort(draw_classes(tmp_path, rows, ("image_id", "age", "HER2", "LumA", "TNBC"), sep=";"))
    assert list(labels_of(cohort).values()) == ["HER2", "LumA", "TNBC"] * 2
    assert has_note(cohort, "label: the name of the column with the 1, of 'HER2', 'LumA', 'TNBC'")


def test_rows_with_no_one_or_two_are_problems(tmp_path: Path) -> None:
    rows = [*ONE_HOT * 5, (1, 1, 0), (0, 0, 0), ("", "", "")]
    draw_classes(tmp_path, rows, ("image", "a", "b", "c"))
    found = problems_of(tmp_path, Columns(class_columns=("a", "b", "c")))
    assert [(p.code, p.file) for p in found] == [
        ("label-columns", "train.csv line 32"), ("label-columns", "train.csv line 33"),
        ("label-empty", "train.csv line 34"),
    ]  # fmt: skip
    assert "(a 1, b 1, c 0)" in found[0].message


def test_one_column_per_class_in_the_challenge_layout(tmp_path: Path) -> None:
    names = [f"img_{i:04d}.png" for i in range(6)]
    draw(tmp_path, *(f"train_data/{name}" for name in names))
    rows = [(name, *ONE_HOT[i]) for i, name in enumerate(names)]
    write(tmp_path / "train_labels.csv", [("sample_index", "a", "b", "c"), *rows])
    assert list(labels_of(read_cohort(tmp_path)).values()) == ["a", "b", "c"] * 2
    write(tmp_path / "train_labels.csv", [("sample_index", "a", "b", "c"), *((n, 0.2, 0.5, 0.3) for n in names)])
    (problem,) = problems_of(tmp_path)
    assert "hold shares or votes per class (each row sums to 1)" in problem.message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0.3, 0.7), (0.6, 0.4), (1.0, 0.0), (0.5, 0.5)], "hold shares or votes per class (each row sums to 1)"),
        ([(3, 4), (7, 0), (1, 6), (2, 5)], "hold shares or votes per class (each row sums to 7)"),
        ([(1, 1), (0, 1), (1, 1), (0, 0)], "hold 0 and 1, but 3 row(s) have none or several 1"),
    ],
)
def test_soft_labels_and_several_labels_are_asked_about(
    tmp_path: Path, rows: list[tuple[object, ...]], said: str
) -> None:
    draw_classes(tmp_path, rows, ("image", "benign", "malignant"))
    (problem,) = problems_of(tmp_path)
    assert problem.code == "no-labels"
    assert said in problem.message
    assert "data.class_columns" in problem.fix


def test_two_sets_of_columns_that_may_be_the_classes_are_a_question(tmp_path: Path) -> None:
    rows = [(a, 1 - a, b, 1 - b) for a in (0, 1) for b in (0, 1)] * 2
    draw_classes(tmp_path, rows, ("image", "old", "young", "sick", "well"))
    assert problems_of(tmp_path)[0].code == "no-labels"
    cohort = read_cohort(tmp_path, columns=Columns(class_columns=("sick", "well")))
    assert cohort.classes == ("sick", "well")


def test_a_class_called_na_on_request(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 9)
    rows = [(n, ("NA", "T", "DCIS")[i % 3], f"P{i}") for i, n in enumerate(names)]
    write(tmp_path / "labels.csv", [("image", "label", "patient"), *rows])
    (problem,) = problems_of(tmp_path)
    assert problem.code == "label-empty"
    assert "'NA' is read as none" in problem.message
    assert "--set 'data.real_labels=[NA]'" in problem.fix
    cohort = read_cohort(tmp_path, columns=Columns(real_labels=("NA",)))
    assert cohort.classes == ("DCIS", "NA", "T")
    assert len(cohort.labelled) == 9


def test_few_images_of_a_class_name_it_and_the_choices(tmp_path: Path) -> None:
    names = draw_names(tmp_path, 10)
    rows = [(n, "AB"[i % 2] if i < 8 else "rare", f"P{i}" if i < 8 else "P99") for i, n in enumerate(names)]
    write(tmp_path / "labels.csv", [("image", "label", "patient"), *rows])
    cohort, (problem,) = inspect_folder(tmp_path)
    assert (problem.code, problem.file) == ("few-cases", "class 'rare'")
    assert problem.images == ("images/s8.png", "images/s9.png")
    assert "merge" in problem.fix
    assert cohort is not None
    assert cohort.classes == ("A", "B")


def test_odd_names_and_classes_are_read_to_the_letter(tmp_path: Path) -> None:
    texts = ("a b", '"c,d"', "e'f", '"g""h"', "50%", "#1", "i&j", "<k>", "l~m", "Zürich", "🔬", "n" * 180)
    bare = [text.strip('"').replace('""', '"') for text in texts]
    files = [f"images of day 1/{text}.png" for text in bare]
    draw(tmp_path, *files)
    classes = ("HER2+ & <50%", "Luminal A/B_#1")
    rows = [
        (f'"images of day 1/{text.replace(chr(34), chr(34) * 2)}.png"', classes[i % 2], f'"pat,{i}"')
        for i, text in enumerate(bare)
    ]
    write(tmp_path / "labels.csv", [("image", "label", "patient"), *rows])
    cohort = read_cohort(tmp_path)
    assert labels_of(cohort) == {file: classes[i % 2] for i, file in enumerate(files)}
    assert cases_of(cohort) == [f"pat,{i}" for i in range(12)]


def test_rows_with_image_and_patient(tmp_path: Path) -> None:
    """The table side of a submission by patient: train.csv and test.csv name image and patient."""
    for part in ("train", "test"):
        draw(tmp_path, *(f"{part}/{part[0]}{i}.png" for i in range(4)))
        rows = [(f"{part[0]}{i}", f"{part}{i // 2}", *(["AB"[i // 2]] if part == "train" else [])) for i in range(4)]
        header = ("image_id", "patient_id", *(["label"] if part == "train" else []))
        write(tmp_path / f"{part}.csv", [header, *rows])
    cohort = read_cohort(tmp_path, min_cases=1)
    assert cases_of(cohort) == ["train0", "train0", "train1", "train1"]
    assert [s.case for s in cohort.unlabelled] == ["test0", "test0", "test1", "test1"]


# --- spreadsheets ---------------------------------------------------------------------------------------------------


def write_book(path: Path, sheets: dict[str, list[list[object]]], *, forms: dict[str, str] | None = None) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="not applicable: the extra xlsx is not installed")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        for cell, form in (forms or {}).items():
            sheet[cell].number_format = form
    book.save(path)


def test_a_spreadsheet_is_read_as_it_is_displayed(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{name}.png" for name in ("0007", "8", "2024-01-09", "0010")))
    rows = [
        ["image", "label", "patient"],
        ["0007", 1.0, "01"],  # text keeps its zeros, a whole number is written without a point
        [8.0, 0, 12.0],
        [datetime.datetime(2024, 1, 9), 1, "01"],
        [10, 0, 3.5],
    ]
    write_book(tmp_path / "labels.xlsx", {"Sheet1": rows, "Sheet2": []}, forms={"A5": "0000"})
    cohort = read_cohort(tmp_path, min_cases=1)
    assert labels_of(cohort) == {
        "images/0007.png": "1", "images/8.png": "0", "images/2024-01-09.png": "1", "images/0010.png": "0",
    }  # fmt: skip
    assert cases_of(cohort) == ["01", "12", "01", "3.5"]
    assert has_note(cohort, "labels.xlsx: sheet 'Sheet1' is read")
    assert not has_note(cohort, "are found")


def test_of_several_sheets_one_is_asked_for(tmp_path: Path) -> None:
    rows: list[list[object]] = [["image", "label"], *([f"images/s{i}.png", "AB"[i % 2]] for i in range(4))]
    draw(tmp_path, *FILES)
    write_book(tmp_path / "labels.xlsx", {"old": [["image", "label"], ["x", "y"]], "new": rows})
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.file) == ("table-sheets", "labels.xlsx")
    assert "'old', 'new'" in problem.message
    assert "--set data.sheet=old or --set data.sheet=new, with --set data.table=labels.xlsx" in problem.fix
    assert labels_of(read_cohort(tmp_path, columns=Columns(table="labels.xlsx", sheet="new"))) == TRUTH
    (problem,) = problems_of(tmp_path, Columns(sheet="newer"))
    assert "has no sheet 'newer'" in problem.message


def test_a_csv_goes_before_a_spreadsheet(tmp_path: Path) -> None:
    draw_listing(tmp_path, FILES)
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04 something else")
    assert labels_of(read_cohort(tmp_path)) == TRUTH


def test_a_spreadsheet_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl", reason="not applicable: the extra xlsx is not installed")
    draw(tmp_path, *FILES)
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04 cut off")
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.file) == ("table-damaged", "labels.xlsx")
    assert "save the sheet as 'CSV UTF-8'" in problem.fix


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, *FILES)
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (problem,) = problems_of(tmp_path)
    assert (problem.code, problem.file) == ("table-extra", "labels.xlsx")
    assert "pip install 'smalti[xlsx]'" in problem.fix


def test_a_spreadsheet_of_something_else_does_not_hide_class_folders(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{label}/{i}.png" for label in "AB" for i in range(2)))
    (tmp_path / "clinic.xlsx").write_bytes(b"PK\x03\x04 cut off")
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "class-folders"
    assert has_note(cohort, "clinic.xlsx")


@pytest.mark.parametrize("name", ["labels.xls", "labels.ods", "labels.parquet", "labels.json", "labels.txt"])
def test_tables_of_other_kinds_are_named_as_not_read(tmp_path: Path, name: str) -> None:
    draw(tmp_path, *FILES)
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=f"not read as tables: {name}.*save"):
        read_cohort(tmp_path)
    (problem,) = problems_of(tmp_path, Columns(table=name))
    assert (problem.code, problem.file) == ("table-kind", name)
