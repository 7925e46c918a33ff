"""Three layouts and their variants are read without being told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.cohort.folder import clean_path
from smalti.cohort.tables.names import Matcher, natural_key
from smalti.types import Cohort

DATA = Path(__file__).parents[3] / "shared" / "data"


def draw_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), (200, 100, 150)).save(path)


def draw_mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((7, 9), np.uint8)
    pixels[2:5, 3:6] = 255
    Image.fromarray(pixels).save(path)


def write(path: Path, *lines: str, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


def draw_challenge(root: Path, *, naming: str = "img_{:04d}.png", n: int = 4, tests: int = 3) -> Path:
    for part, count in (("train_data", n), ("test_data", tests)):
        for i in range(count):
            draw_image(root / part / f"img_{i:04d}.png")
            draw_mask(root / part / f"mask_{i:04d}.png")
    write(root / "train_labels.csv", "sample_index,label", *(f"{naming.format(i)},{'AB'[i % 2]}" for i in range(n)))
    return root


def draw_listing(root: Path, header: str, *rows: str, table: str = "samples.csv") -> Path:
    for name in "abcd":
        draw_image(root / "images" / f"{name}.png")
    write(root / table, header, *rows)
    return root


def labels_of(cohort: Cohort) -> dict[str, str | None]:
    return {sample.image: sample.label for sample in cohort.labelled}


# --- challenge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("naming", ["img_{:04d}.png", "img_{:04d}", "{:04d}", "{}"])
def test_challenge_names_images_in_any_way(tmp_path: Path, naming: str) -> None:
    cohort = read_cohort(draw_challenge(tmp_path, naming=naming))
    assert cohort.layout == "challenge"
    assert labels_of(cohort) == {f"train_data/img_{i:04d}.png": "AB"[i % 2] for i in range(4)}
    assert [s.index for s in cohort.labelled] == [naming.format(i) for i in range(4)]
    assert [s.index for s in cohort.unlabelled] == [naming.format(i) for i in range(3)]
    assert all(s.label is None for s in cohort.unlabelled)
    assert all(s.mask_path == s.path.with_name(s.path.name.replace("img", "mask")) for s in cohort.samples)
    assert all(s.case == s.image for s in cohort.samples)
    assert cohort.classes == ("A", "B")
    assert cohort.form is not None
    assert cohort.form.header == ("sample_index", "label")
    assert cohort.targets.tolist() == [0, 1, 0, 1]


def test_sample_submission_gives_order_names_and_columns(tmp_path: Path) -> None:
    draw_challenge(tmp_path)
    write(tmp_path / "sample_submission.csv", "id,target", "0002,A", "0000,A", "0001,A")
    cohort = read_cohort(tmp_path)
    assert [s.index for s in cohort.unlabelled] == ["0002", "0000", "0001"]
    assert [s.path.name for s in cohort.unlabelled] == ["img_0002.png", "img_0000.png", "img_0001.png"]
    assert cohort.form is not None
    assert cohort.form.header == ("id", "target")


def test_test_images_are_in_natural_order(tmp_path: Path) -> None:
    draw_challenge(tmp_path, tests=0)
    for i in (10, 9, 100, 2):
        draw_image(tmp_path / "test_data" / f"img_{i}.png")
        draw_mask(tmp_path / "test_data" / f"mask_{i}.png")
    assert [s.index for s in read_cohort(tmp_path).unlabelled] == [f"img_{i}.png" for i in (2, 9, 10, 100)]


def test_cases_file_and_a_note_on_cases_in_both_parts(tmp_path: Path) -> None:
    draw_challenge(tmp_path, n=6)
    write(
        tmp_path / "cases.csv", "sample_index,case", "img_0000.png,p1", "img_0002.png,p1", "test_data/img_0001.png,p1"
    )
    cohort = read_cohort(tmp_path)
    case = {s.image: s.case for s in cohort.samples}
    assert [case[f"train_data/img_000{i}.png"] for i in (0, 1, 2)] == ["p1", "train_data/img_0001.png", "p1"]
    assert case["test_data/img_0001.png"] == "p1"
    assert case["test_data/img_0000.png"] == "test_data/img_0000.png"
    assert any("1 case(s) are in the labelled and in the unlabelled part, such as p1" in n for n in cohort.notes)


def test_truth_is_never_opened(tmp_path: Path) -> None:
    draw_challenge(tmp_path)
    write(tmp_path / "truth" / "test_labels.csv", "sample_index,label", "img_0000.png,B")
    (tmp_path / "truth" / "img_0000.png").write_bytes(b"not an image")
    cohort, problems = inspect_folder(tmp_path)
    assert not problems
    assert cohort is not None
    assert {s.path.parent.name for s in cohort.samples} == {"train_data", "test_data"}
    assert {s.mask_path.parent.name for s in cohort.samples if s.mask_path} == {"train_data", "test_data"}


def test_litter_is_not_data(tmp_path: Path) -> None:
    draw_challenge(tmp_path)
    for name in ("train_data/._img_0000.png", "train_data/.ipynb_checkpoints/img_0000.png", "__MACOSX/img_0001.png"):
        draw_image(tmp_path / name)
    assert len(read_cohort(tmp_path).labelled) == 4


# --- table --------------------------------------------------------------------------------------------------------


ROWS = ("images/a.png,A", "images/b.png,B", "images/c.png,A", "images/d.png,B")
WANTED = {f"images/{name}.png": label for name, label in zip("abcd", "ABAB", strict=True)}


@pytest.mark.parametrize("image", ["image", "image_path", "Path", "file name", "filename", "img", "slide", "id"])
@pytest.mark.parametrize("label", ["label", "Class", "target", "diagnosis", "Molecular Subtype", "y"])
def test_common_column_names_are_guessed_and_noted(tmp_path: Path, image: str, label: str) -> None:
    cohort = read_cohort(draw_listing(tmp_path, f"{image},{label}", *ROWS))
    assert cohort.layout == "table"
    assert labels_of(cohort) == WANTED
    assert f"image column: {image}" in cohort.notes
    assert f"label column: {label}" in cohort.notes


@pytest.mark.parametrize("case", ["case", "case_id", "Patient", "patient ID", "subject", "donor", "slide"])
def test_case_columns(tmp_path: Path, case: str) -> None:
    rows = (f"{row},p{i % 4}" for i, row in enumerate(ROWS))
    cohort = read_cohort(draw_listing(tmp_path, f"image,label,{case}", *rows))
    assert [s.case for s in cohort.labelled] == ["p0", "p1", "p2", "p3"]
    assert f"case column: {case}" in cohort.notes


@pytest.mark.parametrize("form", ["{}.png", "{}", "images/{}.png", "./images/{}.png", "images\\{}.png"])
def test_images_are_found_by_what_tables_call_them(tmp_path: Path, form: str) -> None:
    rows = (f"{form.format(name)},{label}" for name, label in zip("abcd", "ABAB", strict=True))
    cohort = read_cohort(draw_listing(tmp_path, "image,label", *rows))
    assert labels_of(cohort) == WANTED
    assert [s.index for s in cohort.labelled] == [form.format(name) for name in "abcd"]


def test_images_deeper_down_and_absolute_paths_that_stay_inside(tmp_path: Path) -> None:
    for name in "abcd":
        draw_image(tmp_path / "deep" / "down" / f"{name}.png")
        draw_mask(tmp_path / "masks" / f"{name}.png")
    inside = tmp_path / "deep" / "down" / "a.png"
    write(tmp_path / "t.csv", "image,label", f"{inside},A", "b.png,B", "down/c.png,A", "d.png,B")
    cohort = read_cohort(tmp_path)
    assert [s.image for s in cohort.labelled] == [f"deep/down/{n}.png" for n in "abcd"]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_the_mask_column_finds_masks_of_the_same_name(tmp_path: Path, folder: str) -> None:
    for name in "abcd":
        draw_mask(tmp_path / "masks" / f"{name}.png")
    form = "masks/{}.png" if folder == "masks" else "{}.png"
    rows = (f"{row},{form.format(name)}" for row, name in zip(ROWS, "abcd", strict=True))
    cohort = read_cohort(draw_listing(tmp_path, "image,label,mask", *rows))
    assert [s.mask_path for s in cohort.labelled] == [tmp_path / "masks" / f"{n}.png" for n in "abcd"]


@pytest.mark.parametrize("pattern", ["images/{}_mask.png", "images/mask_{}.png", "masks/{}.png", "masks/images/{}.tif"])
def test_masks_without_a_column_are_found_by_name(tmp_path: Path, pattern: str) -> None:
    for name in "abcd":
        draw_mask(tmp_path / pattern.format(name))
    cohort = read_cohort(draw_listing(tmp_path, "image,label", *ROWS))
    assert [s.mask_path for s in cohort.labelled] == [tmp_path / pattern.format(n) for n in "abcd"]


@pytest.mark.parametrize(
    ("encoding", "delimiter"), [("utf-8", ","), ("utf-8-sig", ";"), ("utf-8", "\t"), ("utf-8", "|")]
)
def test_encodings_and_delimiters(tmp_path: Path, encoding: str, delimiter: str) -> None:
    draw_listing(tmp_path, "image,label", *ROWS)
    lines = [line.replace(",", delimiter).replace("A", '"Größe, A"') for line in ("image,label", *ROWS)]
    write(tmp_path / "samples.csv", *lines, "", encoding=encoding)
    cohort = read_cohort(tmp_path)
    assert cohort.classes == ("B", "Größe, A")
    assert any("separated by" in note for note in cohort.notes) == (delimiter != ",")


def test_rows_of_the_test_part_are_unlabelled(tmp_path: Path) -> None:
    rows = ("a,A,train", "b,B,val", "c,,test", "d,B,Test", "e,A,train", "f,B,train")
    for name in "ef":
        draw_image(tmp_path / "images" / f"{name}.png")
    cohort = read_cohort(draw_listing(tmp_path, "image,label,split", *rows))
    assert [s.index for s in cohort.labelled] == ["a", "b", "e", "f"]
    assert [(s.index, s.label) for s in cohort.unlabelled] == [("c", None), ("d", None)]
    assert "labels of 1 rows of the test part are not read" in cohort.notes


def test_a_second_table_holds_the_test_part(tmp_path: Path) -> None:
    draw_listing(tmp_path, "id,label", "a,A", "b,B", "c,A", "d,B", table="train.csv")
    for name in ("x9", "x10"):
        draw_image(tmp_path / "more" / f"{name}.png")
    write(tmp_path / "test.csv", "id", "x10", "x9")
    cohort = read_cohort(tmp_path)
    assert len(cohort.labelled) == 4
    assert [s.index for s in cohort.unlabelled] == ["x10", "x9"]
    write(tmp_path / "sample_submission.csv", "id,label", "x9,A", "x10,A")
    assert [s.index for s in read_cohort(tmp_path).unlabelled] == ["x9", "x10"]


def test_named_columns_and_table(tmp_path: Path) -> None:
    draw_listing(
        tmp_path, "image,scan,label,outcome,who", *(f"zzz,{n},q,{'AB'[i % 2]},p{i}" for i, n in enumerate("abcd"))
    )
    write(tmp_path / "other.csv", "image,label", "a,A")
    columns = Columns(table="samples.csv", image="scan", label="outcome", case="who")
    cohort = read_cohort(tmp_path, columns=columns)
    assert labels_of(cohort) == WANTED
    assert [s.case for s in cohort.labelled] == ["p0", "p1", "p2", "p3"]


# --- class folders ------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    for label in ("Luminal A", "HER2(+)"):
        for i in (1, 2, 10):
            draw_image(tmp_path / label / f"{i}.png")
            draw_mask(tmp_path / label / f"{i}_mask.png")
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "class-folders"
    assert cohort.classes == ("HER2(+)", "Luminal A")
    assert len(cohort.labelled) == 6
    assert all(s.index == s.image == s.case and s.image.split("/")[0] == s.label for s in cohort.labelled)
    assert all(s.mask_path is not None for s in cohort.labelled)


def test_class_folders_in_parts_and_by_case(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in "AB":
            for patient in ("p1", "p2"):
                draw_image(tmp_path / part / label / f"{label}{patient}" / "x.png")
    draw_image(tmp_path / "test" / "A" / "y.png")
    draw_image(tmp_path / "test" / "z.png")
    cohort = read_cohort(tmp_path)
    assert labels_of(cohort)["train/A/Ap1/x.png"] == "A"
    assert len(cohort.labelled) == 8
    assert {s.case for s in cohort.labelled} == {"Ap1", "Ap2", "Bp1", "Bp2"}
    assert [s.image for s in cohort.unlabelled] == ["test/A/y.png", "test/z.png"]
    assert any("not read as labels" in note for note in cohort.notes)


def test_a_table_of_something_else_does_not_hide_class_folders(tmp_path: Path) -> None:
    for label in "AB":
        for i in range(2):
            draw_image(tmp_path / label / f"{i}.png")
    write(tmp_path / "clinic.csv", "id,type", "17,x", "18,y")
    cohort = read_cohort(tmp_path)
    assert cohort.layout == "class-folders"
    assert any(note.startswith("clinic.csv is not used") for note in cohort.notes)


# --- parts --------------------------------------------------------------------------------------------------------


def test_natural_order_takes_any_name() -> None:
    names = ["a10", "a2", "a02", "b", "", "a", "9" * 5000, "²", "a2b10", "a2b9"]
    ordered = sorted(names, key=natural_key)
    assert ordered.index("a2") < ordered.index("a10")
    assert ordered.index("a2b9") < ordered.index("a2b10")
    names.reverse()
    assert sorted(names, key=natural_key) == ordered


def test_the_strictest_way_of_naming_wins() -> None:
    matcher = Matcher(["x/img_01.png", "x/img_1.png", "y/img_1.png"])
    assert list(matcher.match("y/img_1.png").names) == ["y/img_1.png"]
    assert list(matcher.match("img_01").names) == ["x/img_01.png"]
    assert list(matcher.match("img_1.png").names) == ["x/img_1.png", "y/img_1.png"]
    assert len(matcher.match("001").names) == 3
    assert matcher.match("2").names == matcher.match("").names == ()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a/b.png", "a/b.png"),
        (" ./a//b.png ", "a/b.png"),
        ("a\\b.png", "a/b.png"),
        ("a/../b.png", "b.png"),
        ("/data/set/a.png", "a.png"),
        ("../a.png", None),
        ("a/../../b.png", None),
        ("..\\a.png", None),
        ("/data/settle/a.png", None),
        ("/data/set/../a.png", None),
        ("C:\\a.png", None),
        ("C:a.png", None),
        ("\\\\server\\share\\a.png", None),
        ("\\a.png", None),
    ],
)
def test_paths_are_judged_as_text(text: str, cleaned: str | None) -> None:
    assert clean_path(text, Path("/data/set")) == cleaned


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    read_cohort(draw_challenge(tmp_path), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 7) for i in range(1, 8)]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "images", "cases", "classes", "masks"),
    [
        ("glas-a", 85, 7, ("benign", "malignant"), True),
        ("osteosarcoma60", 60, 4, ("Non-Tumor", "Non-Viable-Tumor", "Viable"), False),
    ],
)
def test_real_tables_are_read_without_being_told(
    name: str, images: int, cases: int, classes: tuple[str, ...], masks: bool
) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"not applicable: {DATA / name} is not there")
    cohort, problems = inspect_folder(DATA / name)
    # Some GlaS masks lie on pale lumina that reach the margin; glass does not speak for the others, so that is no news.
    assert not problems
    assert cohort is not None
    assert (len(cohort.labelled), len(cohort.unlabelled)) == (images, 0)
    assert len({s.case for s in cohort.labelled}) == cases
    assert cohort.classes == classes
    assert all((s.mask_path is not None) == masks for s in cohort.labelled)
    assert "case column: patient" in cohort.notes
