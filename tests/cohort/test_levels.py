"""Which level of folders is the class and which the case: right by evidence, or asked."""

from __future__ import annotations

import unicodedata
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from smalti.cohort import Columns, inspect_folder
from smalti.cohort.layouts.levels import guess_levels
from smalti.cohort.layouts.parts import is_part, read_part
from smalti.errors import Problem
from smalti.recipe import Data
from smalti.types import Cohort

SUBTYPES = {
    "benign": ("adenosis", "fibroadenoma", "phyllodes_tumor"),
    "malignant": ("ductal_carcinoma", "lobular_carcinoma", "papillary_carcinoma"),
}


def draw(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (200, i % 256, 150)).save(root / name, "PNG")
    return root


def tree(*levels: tuple[str, ...], images: int = 2) -> list[str]:
    """Paths of images in the grid of all levels."""
    return ["/".join((*folders, f"{i}.png")) for folders in product(*levels) for i in range(images)]


def read(root: Path, levels: tuple[str, ...] | None = None) -> Cohort:
    cohort, problems = inspect_folder(root, columns=Columns(levels=levels))  # type: ignore[arg-type]
    assert not problems
    assert cohort is not None
    return cohort


def ask(root: Path) -> Problem:
    cohort, problems = inspect_folder(root)
    assert cohort is None
    assert [p.code for p in problems] == ["folder-levels"]
    return problems[0]


def cases_of(cohort: Cohort) -> dict[str, str]:
    return {s.image: s.case for s in cohort.samples}


# --- guessed ------------------------------------------------------------------------------------------------------

PATIENTS = tuple(str(n) for n in range(8863, 8871))
PLAIN = {  # folders above each image: the levels that they say
    "classes": ([("benign",), ("malignant",)], ["class"]),
    "classes of numbers": ([("0",), ("1",), ("2",)], ["class"]),
    "classes with digits": ([("HER2+",), ("HER2-low",), ("LumA1",)], ["class"]),
    "numbered classes": ([(f"{i:02d}_KIND{'abcdefgh'[i - 1]}",) for i in range(1, 9)], ["class"]),
    "Gleason": ([("3+3",), ("3+4",), ("4+3",)], ["class"]),
    "patient, class": (list(product(PATIENTS, "01")), ["case", "class"]),
    "patient, class, some without one": ([*product(PATIENTS, "0"), *product(PATIENTS[:3], "1")], ["case", "class"]),
    "each patient of one class": ([(p, "01"[i % 2]) for i, p in enumerate(PATIENTS)], ["case", "class"]),
    "patient, words": (list(product(("P1", "P2", "P3"), ("TUM", "NORM"))), ["case", "class"]),
    "short patient numbers, words that say classes": (
        list(product("12345678", ("benign", "malignant"))), ["case", "class"]),
    "class, patient": ([(c, f"pat{i}{c}") for c in "01" for i in range(6)], ["class", "case"]),
    "class, patients of both": (list(product(("TUM", "NORM"), ("P1", "P2", "P3", "P4"))), ["class", "case"]),
    "class, some patients of both": (
        [("x", f"P{i}") for i in range(6)] + [("y", f"P{i}") for i in range(4, 12)], ["class", "case"]),
    "class, patients counted through": (
        [("NORM", str(i)) for i in range(1, 9)] + [("TUM", str(i)) for i in range(9, 17)], ["class", "case"]),
    "class, patients called by it": (
        [(c, f"{c}_{i}") for c in ("benign", "tumour") for i in range(4)], ["class", "case"]),
    "class, slides called by it": (
        [(c, f"{c}_0{i}7") for c in ("normal", "tumor") for i in range(4)], ["class", "case"]),
    "class, TCGA": (
        [(c, f"TCGA-{i}5-42{i}4-01Z") for i, c in enumerate(("LUAD", "LUSC") * 3)], ["class", "case"]),
    "class, patients of letters": (list(product(("TUM", "NORM"), ("patient_a", "patient_b"))), ["class", "case"]),
    "class, patient, slide": (
        [(c, f"{c}-1{i}7", f"slide{j}") for c in ("TUM", "NORM") for i in range(5) for j in range(2)],
        ["class", "case"]),
    "patient, class, slide": (
        [(p, c, f"{p}_{j}") for p in PATIENTS for c in "01" for j in range(2)], ["case", "class"]),
    "site, class, patient": (
        list(product(("site_A", "site_B"), ("benign", "malignant"), ("P1", "P2"))), ["site", "class", "case"]),
    "hospital, class": (list(product(("hospital 1", "hospital 2"), ("TUM", "NORM", "STR"))), ["site", "class"]),
    "magnification below": (list(product(("TUM", "NORM"), ("40X", "100X"))), ["class"]),
    "folds above": (list(product(("fold1", "fold2"), ("TUM", "NORM"))), ["ignore", "class"]),
    "one folder above": ([("archive", "set", "TUM"), ("archive", "set", "NORM")], ["ignore", "ignore", "class"]),
    "images below": (list(product(("TUM", "NORM"), ("images",))), ["class"]),
    "one class": ([("TUM",)], ["class"]),
    "a few deeper": ([*[("TUM",), ("NORM",)] * 9, ("TUM", "old"), ("TUM", "new")], ["class", "case"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_plain_levels_are_guessed(name: str) -> None:
    folders, levels = PLAIN[name]
    guess = guess_levels(folders)
    assert list(guess.levels) == levels, guess.choices


UNCLEAR = {  # folders above each image: choices that must be among those offered
    "short numbers both": (list(product("12345678", "01")), [["case", "class"], ["class", "case"]]),
    "short numbers, one class each": ([(str(i), "01"[i % 2]) for i in range(1, 9)], [["case", "class"]]),
    "short numbers and slides": (
        [(p, c, f"{p}_{c}_1{j}7") for p in "12345678" for c in "01" for j in range(3)], [["case", "class"]]),
    "words both": (list(product(("TUM", "NORM"), ("left", "right"))), [["class"], ["ignore", "class"]]),
    "names and classes": (list(product(("smith", "jones", "ito"), ("benign", "tumour"))), [["case", "class"]]),
    "coarse and fine classes": (
        [(c, "SOB", s, f"{s}-{i}4{i}9AB", "40X") for c, found in SUBTYPES.items() for s in found for i in range(2)],
        [["class", "ignore", "ignore", "case"], ["ignore", "ignore", "class", "case"]]),
    "organ and class": ([("lung", "lung_n"), ("lung", "lung_aca"), ("colon", "colon_n")], [["ignore", "class"]]),
    "patients alone": ([(f"patient {i}",) for i in range(6)], [["class"]]),
    "numbers alone": ([(p,) for p in PATIENTS], [["class"]]),
    "more folders than classes": ([(f"{a}{b}",) for a in "abcdef" for b in "uvwxyz"], [["class"]]),
    "one class and its patients": ([("tumour", f"P{i}") for i in range(4)], [["class", "case"], ["ignore", "class"]]),
    "sites and patients": (list(product(("center_0", "center_1"), ("P1", "P2", "P3"))), [["class", "case"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNCLEAR)
def test_unclear_levels_are_asked_for(name: str) -> None:
    folders, wanted = UNCLEAR[name]
    guess = guess_levels(folders)
    assert guess.levels == ()
    offered = [list(levels) for levels, _ in guess.choices]
    assert all(levels in offered for levels in wanted), offered


WORDS = st.sampled_from(("benign", "malignant", "normal", "in situ", "invasive"))
IDS = st.one_of(
    st.integers(1000, 99999).map(str),
    st.integers(0, 500).map(lambda n: f"patient_{n}"),
    st.integers(0, 99).map("P{}".format),
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.lists(WORDS, min_size=2, max_size=5, unique=True),
    st.lists(IDS, min_size=4, max_size=30, unique=True),
    st.data(),
)
def test_patients_are_never_taken_for_classes(classes: list[str], patients: list[str], data: st.DataObject) -> None:
    pairs = {(data.draw(st.sampled_from(classes)), patient) for patient in patients}
    pairs |= {(label, data.draw(st.sampled_from(patients))) for label in classes for _ in range(3)}
    above = guess_levels(sorted(pairs))
    below = guess_levels(sorted((patient, label) for label, patient in pairs))
    for guess, at in ((above, 0), (below, 1)):
        if guess.levels:
            assert guess.levels.index("class") == at
        else:
            assert any(levels.index("class") == at for levels, _ in guess.choices)


# --- whole folders ------------------------------------------------------------------------------------------------


def test_patients_above_their_classes_are_cases(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(PATIENTS[:4], ("0", "1"))))
    assert cohort.classes == ("0", "1")
    assert cases_of(cohort)["8864/1/0.png"] == "8864"
    assert {s.case for s in cohort.labelled} == set(PATIENTS[:4])
    said = "folders are guessed to be data.levels=[case,class] (level 1: 8863, 8864, 8865, 8866; level 2: 0, 1)"
    assert said in cohort.notes


def test_a_loose_image_leaves_the_others_grouped(tmp_path: Path) -> None:
    paths = [f"{label}/pat{i}{label}/{j}.png" for label in "AB" for i in range(3) for j in range(2)]
    cohort = read(draw(tmp_path, *paths, "A/loose.png"))
    cases = cases_of(cohort)
    assert cases["A/loose.png"] == "A/loose.png"
    assert cases["A/pat1A/0.png"] == cases["A/pat1A/1.png"] == "pat1A"
    assert len(set(cases.values())) == 7
    assert "1 image(s) lie in no folder of a case, such as A/loose.png: each is its own case" in cohort.notes


def test_an_unclear_folder_is_a_question_that_names_each_answer(tmp_path: Path) -> None:
    problem = ask(draw(tmp_path, *tree(tuple("12345678"), ("0", "1"))))
    assert "several levels of folders may be the class (level 1: 1, 2, 3, 4, ... (8); level 2: 0, 1)" in problem.message
    assert "--set data.levels=[case,class] (classes: 0, 1; cases: 1, 2, 3, 4, ... (8))" in problem.fix
    cohort = read(tmp_path, ("case", "class"))
    assert cohort.classes == ("0", "1")
    assert {s.case for s in cohort.labelled} == set("12345678")
    assert len(read(tmp_path, ("class",)).classes) == 8
    assert "or add a table" in ask(draw(tmp_path / "other", *tree(PATIENTS))).fix


def test_levels_of_several_classes_magnifications_and_parts(tmp_path: Path) -> None:
    paths = [
        f"{part}/{label}/SOB/{kind}/SOB_B-14-{i}254{i}AB/{times}X/{i}.png"
        for part in ("Training", "Test-set") for label, kinds in SUBTYPES.items() for kind in kinds[:2]
        for i in range(2) for times in (40, 100)
    ]  # fmt: skip
    ask(draw(tmp_path, *paths))
    cohort = read(tmp_path, ("ignore", "ignore", "class", "case"))
    assert cohort.classes == ("adenosis", "ductal_carcinoma", "fibroadenoma", "lobular_carcinoma")
    assert len(cohort.labelled) == len(cohort.unlabelled) == 16
    assert {s.case for s in cohort.samples} == {"SOB_B-14-02540AB", "SOB_B-14-12541AB"}
    counted = read(tmp_path, ("part", "class"))
    assert counted.classes == ("benign", "malignant")
    assert len(counted.unlabelled) == 16


def test_sites_tell_cases_of_one_name_apart(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("site1", "site2"), ("benign", "tumour"), ("P1", "P2"))))
    assert {s.case for s in cohort.labelled} == {"site1/P1", "site1/P2", "site2/P1", "site2/P2"}
    merged = read(tmp_path, ("ignore", "class", "case"))
    assert {s.case for s in merged.labelled} == {"P1", "P2"}


def test_case_folders_below_several_classes_are_one_case_each_and_said(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("A", "B"), ("p1", "p2", "p3"))))
    assert {s.case for s in cohort.labelled} == {"p1", "p2", "p3"}
    assert any(
        note.startswith("3 of 3 case folders lie below more than one class, such as p1") for note in cohort.notes
    )


def test_one_folder_spelt_in_two_ways_is_one(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Müller_17") for form in ("NFC", "NFD")]
    draw(
        tmp_path, *(f"{label}/{name}/{label}.png" for label in ("TUM", "NORM") for name in (*names, "Öz_18", "Abel_20"))
    )
    cohort = read(tmp_path, ("class", "case"))
    assert len(cohort.labelled) == 8
    assert {s.case for s in cohort.labelled} == {names[0], "Öz_18", "Abel_20"}


def test_the_part_to_predict_says_its_cases(tmp_path: Path) -> None:
    paths = [f"train/{label}/pat{i}{label}/{j}.png" for label in "AB" for i in range(2) for j in range(2)]
    draw(tmp_path, *paths, "test/pat9/0.png", "test/pat9/1.png", "test/A/pat8/0.png", "test/z.png")
    cases = cases_of(read(tmp_path))
    assert cases["test/pat9/0.png"] == cases["test/pat9/1.png"] == "pat9"
    assert cases["test/A/pat8/0.png"] == "pat8"
    assert cases["test/z.png"] == "test/z.png"


def test_parts_below_their_class(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("A", "B"), ("train", "test"))))
    assert [s.image for s in cohort.labelled] == ["A/train/0.png", "A/train/1.png", "B/train/0.png", "B/train/1.png"]
    assert len(cohort.unlabelled) == 4


def test_parts_whose_names_hold_the_word(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("CRC_DX_TRAIN", "CRC_DX_TEST"), ("MSS", "MSI"))))
    assert (cohort.classes, len(cohort.labelled), len(cohort.unlabelled)) == (("MSI", "MSS"), 4, 4)
    draw(tmp_path, *tree(("more",), ("MSS", "MSI")))
    _, problems = inspect_folder(tmp_path, columns=Columns(levels=("part", "class")))
    assert [(p.code, p.file) for p in problems] == [("folder-levels", "more")]


def test_classes_beside_a_part_of_them_are_not_lost(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("A", "B")), *tree(("val",), ("A", "B"))))
    assert len(cohort.labelled) == 8
    more = read(draw(tmp_path / "more", *tree(("train",), ("A", "B")), "figures/f.png"))
    assert len(more.labelled) == 4
    said = "files that are not used (1): pictures outside the folders of the parts 1 (figures/f.png)"
    assert said in more.notes


def test_a_folder_that_is_no_class_by_its_name_is_named(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("A", "B", "images"))))
    assert cohort.classes == ("A", "B")
    assert any("pictures below images/, no class by its name" in note for note in cohort.notes)
    assert read(tmp_path, ("class",)).classes == ("A", "B", "images")


def test_images_below_one_folder_or_in_folders_of_their_own(tmp_path: Path) -> None:
    assert read(draw(tmp_path / "a", *tree(("images",), ("A", "B")))).classes == ("A", "B")
    below = read(draw(tmp_path / "b", *tree(("A", "B"), ("images",))))
    assert all(s.case == s.image for s in below.labelled)


def test_train_data_without_a_table_may_hold_class_folders(tmp_path: Path) -> None:
    cohort = read(draw(tmp_path, *tree(("train_data",), ("A", "B")), "test_data/x.png"))
    assert cohort.layout == "class-folders"
    assert (cohort.classes, len(cohort.unlabelled)) == (("A", "B"), 1)


def test_images_above_the_class_have_no_label(tmp_path: Path) -> None:
    draw(tmp_path, *tree(PATIENTS[:4], ("0", "1")), "8863/loose.png")
    cohort, problems = inspect_folder(tmp_path)
    assert cohort is not None
    assert [(p.code, p.images) for p in problems] == [("file-without-row", ("8863/loose.png",))]


def test_levels_that_are_not_there(tmp_path: Path) -> None:
    draw(tmp_path, *tree(("A", "B")))
    cohort, problems = inspect_folder(tmp_path, columns=Columns(levels=("ignore", "ignore", "class")))
    assert cohort is None
    assert "has no image below a folder of level 3" in problems[0].message


@pytest.mark.parametrize(
    "levels", [(), ("case",), ("class", "class"), ("class", "case", "case"), ("class", "part", "part"), ("klass",)]
)
def test_levels_hold_one_class(levels: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        Data(levels=levels)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="levels are of class folders, and table is of a table"):
        Data(levels=("class",), table="labels.csv")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("Training", "train"), ("train_data", "train"), ("TrainSet", "train"), ("val", "val"),
        ("validation set", "val"), ("train-images", "train"), ("train1", "train"), ("Test-set", "test"),
        ("testing_data", "test"), ("TEST", "test"), ("unlabelled", "test"), ("unlabeled images", "test"),
        ("trainee", None), ("tested", None), ("attest", None), ("tumour", None), ("data", None), ("", None),
        ("test tube", None), ("submission", None),
    ],
)  # fmt: skip
def test_folders_that_are_parts_and_nothing_else(name: str, part: str | None) -> None:
    assert is_part(name) == (part is not None)
    assert part is None or read_part(name) == part
