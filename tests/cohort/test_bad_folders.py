"""All that can be wrong with a data folder is said at once, with file and fix, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.errors import DataError, Problem

SIZE_PX = (9, 7)
TRAIN = 8


def draw_image(path: Path, *, size_px: tuple[int, int] = SIZE_PX) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (*size_px[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def draw_mask(path: Path, *, size_px: tuple[int, int] = SIZE_PX, high: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size_px[::-1], np.uint8)
    pixels[2:5, 3:6] = high
    Image.fromarray(pixels).save(path)


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def append(path: Path, *lines: str) -> None:
    write(path, path.read_text(encoding="utf-8").rstrip("\n"), *lines)


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Eight training images of two classes and three test images, all with masks; nothing wrong with it."""
    for part, count in (("train_data", TRAIN), ("test_data", 3)):
        for i in range(count):
            draw_image(tmp_path / part / f"img_{i:04d}.png")
            draw_mask(tmp_path / part / f"mask_{i:04d}.png")
    rows = (f"img_{i:04d}.png,{'AB'[i % 2]}" for i in range(TRAIN))
    write(tmp_path / "train_labels.csv", "sample_index,label", *rows)
    write(tmp_path / "sample_submission.csv", "sample_index,label", *(f"img_{i:04d}.png,A" for i in range(3)))
    return tmp_path


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """The table layout with masks, cases and parts; nothing wrong with it."""
    rows = []
    for i in range(TRAIN):
        draw_image(tmp_path / "images" / f"{i}.png")
        draw_mask(tmp_path / "masks" / f"{i}.png")
        rows.append(f"images/{i}.png,masks/{i}.png,{'AB'[i % 2]},p{i},{'train' if i < 6 else 'val'}")
    write(tmp_path / "samples.csv", "image,mask,label,case,part", *rows)
    return tmp_path


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@dataclass(frozen=True)
class Bad:
    """One way to spoil a good folder, and what must be said about it."""

    code: str
    spoil: Callable[[Path], object]
    file: str
    says: str
    skips: int | None = 1  # images left out to go on; None where that does not help
    warning: bool = False


LABELS, SUBMISSION, SAMPLES = "train_labels.csv", "sample_submission.csv", "samples.csv"
IMAGE, MASK = "train_data/img_0003.png", "train_data/mask_0003.png"
LABELS_ROW, ROW = "train_labels.csv line 5", "samples.csv line 5"


def rename(root: Path, name: str) -> None:
    swap(root / SAMPLES, "images/3.png", name)


BAD_CHALLENGES = [
    Bad("unreadable", lambda r: cut(r / IMAGE), IMAGE, "cannot be decoded"),
    Bad("unreadable", lambda r: (r / IMAGE).write_text("<html>"), IMAGE, "web page"),
    Bad("unreadable", lambda r: cut(r / "test_data/img_0001.png"), "test_data/img_0001.png", "cannot be decoded"),
    Bad("unsupported-pixels", lambda r: (
        (r / IMAGE).unlink(),
        Image.new("F", SIZE_PX).save(r / "train_data/img_0003.tif")), "train_data/img_0003.tif", "32-bit"),
    Bad("row-without-file", lambda r: ((r / IMAGE).unlink(), (r / MASK).unlink()),
        LABELS_ROW, "img_0003.png"),
    Bad("row-without-file", lambda r: append(r / SUBMISSION, "img_0009.png,A"),
        "sample_submission.csv line 5", "img_0009.png", 0),
    Bad("file-without-row", lambda r: swap(r / LABELS, "img_0003.png,B\n", ""), IMAGE,
        "no row in train_labels.csv", 1),
    Bad("file-without-row", lambda r: swap(r / SUBMISSION, "img_0001.png,A\n", ""), "test_data/img_0001.png",
        "not named in sample_submission.csv"),
    Bad("repeated-row", lambda r: append(r / LABELS, "img_0003.png,B"), "train_labels.csv line 10",
        "listed twice; the other is train_labels.csv line 5"),
    Bad("repeated-row", lambda r: append(r / LABELS, "3,A"), "train_labels.csv line 10",
        "contradicts train_labels.csv line 5: label 'A', not 'B'"),
    Bad("repeated-row", lambda r: append(r / SUBMISSION, "img_0000,A"), "sample_submission.csv line 5", "twice"),
    Bad("repeated-row", lambda r: write(r / "cases.csv", "sample_index,case", "img_0003.png,p", "img_0003.png,q"),
        "cases.csv line 3", "of case 'p' elsewhere"),
    Bad("ambiguous-row", lambda r: (
        draw_image(r / "train_data/img_3.png"), draw_mask(r / "train_data/mask_3.png"),
        swap(r / LABELS, "img_0003.png", "003")), LABELS_ROW,
        "may mean train_data/img_0003.png or train_data/img_3.png"),
    Bad("label-empty", lambda r: swap(r / LABELS, "img_0003.png,B", "img_0003.png,"), LABELS_ROW,
        IMAGE),
    Bad("label-empty", lambda r: swap(r / LABELS, "img_0003.png,B", "img_0003.png,NaN"),
        LABELS_ROW, IMAGE),
    Bad("no-labels", lambda r: write(r / LABELS, "sample_index,label", *(f"{i}," for i in range(TRAIN))),
        "the labels", "no image has a label", None),
    Bad("no-labels", lambda r: (r / LABELS).unlink(), LABELS, "does not exist beside train_data/", None),
    Bad("mask-missing", lambda r: (r / MASK).unlink(), IMAGE, "has no mask"),
    Bad("mask-size", lambda r: draw_mask(r / MASK, size_px=(9, 8)), MASK,
        "is 8 x 9 px, its image train_data/img_0003.png is 7 x 9 px"),
    Bad("mask-empty", lambda r: draw_mask(r / MASK, high=0), MASK, "marks nothing"),
    Bad("mask-unreadable", lambda r: cut(r / MASK), MASK, "cannot be decoded"),
    Bad("mask-grey", lambda r: Image.linear_gradient("L").resize(SIZE_PX).save(r / MASK),
        MASK, "grey levels", 0, True),
    Bad("mask-missing", lambda r: [p.unlink() for p in (r / "test_data").glob("mask_*")], "test_data/img_0000.png",
        "all others of the part to predict have no mask", 0, True),
    Bad("mask-without-image", lambda r: draw_mask(r / "train_data/mask_0077.png"), "train_data/mask_0077.png",
        "its image is not there", 0, True),
    Bad("one-class", lambda r: swap(r / LABELS, ",B", ",A"), "class 'A'", "is the only class", None),
    Bad("few-cases", lambda r: swap(r / LABELS, "img_0003.png,B", "img_0003.png,C"), "class 'C'", "1 case"),
    Bad("few-cases", lambda r: write(r / "cases.csv", "id,case", *(f"{i},p{i % 2 or i}" for i in range(TRAIN))),
        "class 'B'", "1 case", None),
    Bad("label-spelling", lambda r: swap(r / LABELS, "img_0003.png,B\n", "img_0003.png,b\n"),
        LABELS_ROW, "'B' (3) and 'b' (1)", 1, True),
    Bad("table-encoding", lambda r: (r / LABELS).write_bytes("sample_index,label\n0,Größe\n".encode("cp1252")),
        LABELS, "byte 0xf6 at position 23, line 2; probably WINDOWS-1252", None),
    Bad("table-encoding", lambda r: (r / LABELS).write_text("sample_index,label\n0,A\n", encoding="utf-16"),
        LABELS, "probably UTF-16", None),
    Bad("table-encoding", lambda r: (r / LABELS).write_text("sample_index,label\n0,A\n", encoding="utf-16-le"),
        LABELS, "byte 0x00 at position 1, line 1; probably UTF-16", None),
    Bad("table-encoding", lambda r: (r / LABELS).write_bytes(b"PK\x03\x04rest"), LABELS,
        "spreadsheet", None),
    Bad("table-damaged", lambda r: append(r / LABELS, '"img_0009.png,A'), "train_labels.csv line 10",
        "no well-formed CSV", None),
    Bad("table-empty", lambda r: (r / LABELS).write_text(""), LABELS, "has no rows", None),
    Bad("row-cells", lambda r: append(r / LABELS, "img_0009.png,A,B"), "train_labels.csv line 10",
        "has 3 cells, the header has 2", None),
    Bad("column-repeated", lambda r: swap(r / LABELS, "sample_index,label", "label,label"), LABELS,
        "more than one column called label", None),
    Bad("column-missing", lambda r: write(r / LABELS, "sample_index", "0", "1"), LABELS,
        "one column only (sample_index)", None),
    Bad("submission-columns", lambda r: write(r / SUBMISSION, "sample_index", "0"), SUBMISSION,
        "one column only (sample_index)", None),
    Bad("path-escape", lambda r: append(r / LABELS, "../../img_0003.png,A"), "train_labels.csv line 10",
        "leaves the data folder", 0),
    Bad("case-without-image", lambda r: write(r / "cases.csv", "sample_index,case", "0,p", "77,q"), "cases.csv line 3",
        "'77' names no image", 0, True),
]  # fmt: skip

BAD_LISTINGS = [
    Bad("row-without-file", lambda r: (r / "images/3.png").unlink(), ROW, "image 'images/3.png' is not in"),
    Bad("row-without-file", lambda r: rename(r, ""), ROW, "names no image"),
    Bad("file-without-row", lambda r: draw_image(r / "images/99.png"), "images/99.png", "no row in the table", 0),
    Bad("mask-missing", lambda r: (r / "masks/3.png").unlink(), ROW, "mask 'masks/3.png' is not in"),
    Bad("mask-missing", lambda r: swap(r / SAMPLES, "masks/3.png", ""), "images/3.png", "has no mask"),
    Bad("path-escape", lambda r: rename(r, "/etc/passwd"), ROW, "'/etc/passwd'"),
    Bad("path-escape", lambda r: rename(r, "images/../../x.png"), ROW, "leaves"),
    Bad("path-escape", lambda r: rename(r, "C:\\x\\3.png"), ROW, "leaves"),
    Bad("path-escape", lambda r: swap(r / SAMPLES, "masks/3.png", "../3.png"), ROW, "'../3.png'"),
    Bad("repeated-row", lambda r: append(r / SAMPLES, "images/3.png,masks/3.png,B,p9,train"), "samples.csv line 10",
        "contradicts samples.csv line 5: case 'p9', not 'p3'"),
    Bad("label-part", lambda r: (swap(r / SAMPLES, ",A,p6", ",,p6"), swap(r / SAMPLES, ",B,p7", ",,p7")),
        "samples.csv line 8 and 1 more", "no row of part 'val' has a label", 2),
    Bad("no-labels", lambda r: swap(r / SAMPLES, "image,mask,label", "image,mask,colour"), SAMPLES,
        "no column of images and column of labels", None),
    Bad("several-tables", lambda r: (r / "more.csv").write_bytes((r / SAMPLES).read_bytes()),
        "more.csv and samples.csv", "each have", None),
    Bad("ambiguous-row", lambda r: (draw_image(r / "a/k.png"), draw_image(r / "b/k.png"),
        rename(r, "k.png")), ROW, "may mean a/k.png or b/k.png", 1),
    Bad("table-encoding", lambda r: (r / "notes.csv").write_bytes(b"\xe4"), "notes.csv",
        "byte 0xe4 at position 0", 0, True),
]  # fmt: skip


def check_bad(root: Path, bad: Bad) -> None:
    images = len(read_cohort(root).samples)
    bad.spoil(root)
    before = snapshot(root)
    cohort, problems = inspect_folder(root)
    found = [p for p in problems if p.code == bad.code and p.file == bad.file]
    assert found, problems
    assert bad.says in found[0].message
    assert len(found[0].fix) > 10
    assert found[0].warning == bad.warning
    assert (cohort is None) == (bad.skips is None)
    if any(not p.warning for p in problems):
        with pytest.raises(DataError) as caught:
            read_cohort(root)
        assert caught.value.problems == problems
        assert f"{bad.file}: {found[0].message} Fix: {found[0].fix}" in str(caught.value)
    if bad.skips is None:
        with pytest.raises(DataError):
            read_cohort(root, skip_problems=True)
    else:
        rest = read_cohort(root, skip_problems=True)
        assert len(rest.samples) == images - bad.skips
        assert not {s.image for s in rest.samples} & {n for p in problems if not p.warning for n in p.images}
    assert snapshot(root) == before


@pytest.mark.parametrize("bad", BAD_CHALLENGES, ids=lambda bad: f"{bad.code}-{bad.file}")
def test_bad_challenge(challenge: Path, bad: Bad) -> None:
    check_bad(challenge, bad)


@pytest.mark.parametrize("bad", BAD_LISTINGS, ids=lambda bad: f"{bad.code}-{bad.file}")
def test_bad_listing(listing: Path, bad: Bad) -> None:
    check_bad(listing, bad)


# --- folders that are none ----------------------------------------------------------------------------------------


def the_problem(root: Path, columns: Columns | None = None) -> Problem:
    cohort, problems = inspect_folder(root, columns=columns or Columns())
    assert cohort is None
    assert len(problems) == 1, problems
    with pytest.raises(DataError, match=re.escape(problems[0].message)):
        read_cohort(root, columns=columns or Columns())
    return problems[0]


def test_root_that_is_missing_a_file_or_empty(tmp_path: Path) -> None:
    missing = the_problem(tmp_path / "nowhere")
    assert (missing.code, missing.file) == ("root-missing", str(tmp_path / "nowhere"))
    write(tmp_path / "a.csv", "image,label")
    assert "is a file, not a folder" in the_problem(tmp_path / "a.csv").message
    assert the_problem(tmp_path).code == "no-images"


def test_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    draw_image(tmp_path / "images" / "a.png")
    problem = the_problem(tmp_path)
    assert problem.code == "unknown-layout"
    for looked_for in ("train_data/", "train_labels.csv", "CSV", "one folder of images per class", "found images"):
        assert looked_for in problem.message


def test_columns_and_table_that_are_not_there(listing: Path) -> None:
    missing = the_problem(listing, Columns(label="subtype"))
    assert missing.code == "column-missing"
    assert "no column 'subtype' (label), but 'image', 'mask', 'label'" in missing.message
    assert "--set data.label=" in missing.fix
    for table in ("none.csv", "../samples.csv", "/etc/passwd"):
        assert the_problem(listing, Columns(table=table)).code == "table-missing"


def test_loose_images_beside_class_folders(tmp_path: Path) -> None:
    for name in ("A/1.png", "A/2.png", "B/1.png", "B/2.png", "loose.png"):
        draw_image(tmp_path / name)
    cohort, problems = inspect_folder(tmp_path)
    assert [(p.code, p.file, p.images) for p in problems] == [("file-without-row", "loose.png", ("loose.png",))]
    assert cohort is not None
    assert len(cohort.labelled) == 4


def test_one_class_folder_is_one_class(tmp_path: Path) -> None:
    draw_image(tmp_path / "A" / "1.png")
    draw_image(tmp_path / "A" / "2.png")
    assert the_problem(tmp_path).code == "one-class"


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png", "https://host/a.png", "~/a.png", "-", '"', "💥.png"])
def test_hostile_names_are_rows_without_a_file(listing: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    swap(listing / "samples.csv", "images/3.png", quoted)
    if "\0" in name:
        swap(listing / "samples.csv", "\0", "\x01")
    cohort, problems = inspect_folder(listing)
    assert {p.code for p in problems} == {"row-without-file", "file-without-row"}
    assert cohort is not None


def test_links_may_point_outside_and_in_circles(challenge: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.png"
    draw_image(elsewhere)
    image = challenge / "train_data" / "img_0003.png"
    image.unlink()
    image.symlink_to(elsewhere)
    (challenge / "loop").symlink_to(challenge, target_is_directory=True)
    assert len(read_cohort(challenge).labelled) == TRAIN
    elsewhere.unlink()
    _, problems = inspect_folder(challenge)
    assert [(p.code, p.file) for p in problems] == [("missing-file", "train_data/img_0003.png")]


# --- several at once, exclusion, what remains ---------------------------------------------------------------------


def spoil_much(root: Path) -> None:
    cut(root / "train_data/img_0000.png")
    draw_mask(root / "train_data/mask_0001.png", size_px=(5, 5))
    draw_mask(root / "train_data/mask_0001.png", size_px=(5, 5), high=0)
    swap(root / "train_labels.csv", "img_0002.png,A", "img_0002.png,")
    append(root / "train_labels.csv", "img_0042.png,A")
    cut(root / "test_data/img_0002.png")


def test_all_problems_are_reported_at_once(challenge: Path) -> None:
    spoil_much(challenge)
    with pytest.raises(DataError) as caught:
        read_cohort(challenge)
    assert {p.code for p in caught.value.problems} == {
        "unreadable", "mask-size", "mask-empty", "label-empty", "row-without-file"
    }  # fmt: skip
    assert len(caught.value.problems) == 6
    assert "6 problem(s)" in caught.value.headline


def test_what_is_excluded_already_is_no_problem(challenge: Path) -> None:
    spoil_much(challenge)
    _, problems = inspect_folder(challenge)
    names = {name for problem in problems for name in problem.images}
    cohort, rest = inspect_folder(challenge, exclude=names)
    assert rest == ()
    assert cohort == read_cohort(challenge, exclude=sorted(names))
    skipped = read_cohort(challenge, skip_problems=True)
    assert (skipped.labelled, skipped.unlabelled) == (cohort.labelled, cohort.unlabelled)
    assert f"left out because of problems: {len(names)} image(s)" in skipped.notes
    some = names - {"train_data/img_0000.png"}
    assert [p.file for p in inspect_folder(challenge, exclude=some)[1]] == ["train_data/img_0000.png"]


def test_classes_are_checked_again_after_leaving_out(challenge: Path) -> None:
    swap(challenge / "train_labels.csv", "img_0002.png,A", "img_0002.png,C")
    swap(challenge / "train_labels.csv", "img_0003.png,B", "img_0003.png,C")
    assert read_cohort(challenge).classes == ("A", "B", "C")
    cut(challenge / "train_data/img_0003.png")
    cohort, problems = inspect_folder(challenge)
    assert [(p.code, p.images) for p in problems] == [
        ("unreadable", ("train_data/img_0003.png",)),
        ("few-cases", ("train_data/img_0002.png",)),
    ]
    assert "once the 1 images above are left out" in problems[1].message
    assert cohort is not None
    assert cohort.classes == ("A", "B")
    assert len(cohort.labelled) == TRAIN - 2


def test_too_many_damaged_images_leave_no_cohort(challenge: Path) -> None:
    for i in (1, 3, 5):
        cut(challenge / "train_data" / f"img_000{i}.png")
    cohort, problems = inspect_folder(challenge)
    assert cohort is None
    assert [p.code for p in problems] == ["unreadable"] * 3 + ["few-cases", "one-class"]


def test_min_cases_is_the_callers(challenge: Path) -> None:
    assert read_cohort(challenge, min_cases=4).classes == ("A", "B")
    with pytest.raises(DataError, match="has 4 case"):
        read_cohort(challenge, min_cases=5)
    swap(challenge / "train_labels.csv", "img_0003.png,B", "img_0003.png,C")
    assert read_cohort(challenge, min_cases=1).classes == ("A", "B", "C")
