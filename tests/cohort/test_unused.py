"""Every file of a data folder is a sample, a mask, a table, in a problem, or counted in one note."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from smalti.cohort import inspect_folder, read_cohort
from smalti.cohort.folder import MOST_LITTER, Folder
from smalti.cohort.result import Candidate, LayoutResult
from smalti.cohort.unused import list_unused
from smalti.errors import Problem, show_text
from smalti.types import Cohort, Sample


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 100, 150)).save(buffer, kind)
    return buffer.getvalue()


CONTENTS = {"png": encode("PNG"), "jpeg": encode("JPEG"), "tiff": encode("TIFF"), "text": b"a,b\n1,2\n", "nothing": b""}


def put(root: Path, name: str, content: str = "png") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(CONTENTS[content])


def lay_out(root: Path, layout: str) -> Path:
    """Eight images of two classes, in one of the layouts."""
    rows = []
    for i in range(8):
        label = "AB"[i % 2]
        part = {"table": "images", "challenge": "train_data", "class-folders": label}[layout]
        put(root, f"{part}/img_{i}.png")
        rows.append(f"{part}/img_{i}.png,{label}")
    if layout != "class-folders":
        name = "samples.csv" if layout == "table" else "train_labels.csv"
        (root / name).write_text("\n".join(("image,label", *rows)) + "\n")
    if layout == "challenge":
        put(root, "test_data/img_0.png")
    return root


def list_files(root: Path) -> set[str]:
    return {(Path(at) / file).relative_to(root).as_posix() for at, _, files in os.walk(root) for file in files}


def the_note(cohort: Cohort) -> tuple[int, dict[str, int]]:
    """How many files the note says in all, and by kind."""
    found = [note for note in cohort.notes if note.startswith("files that are not used")]
    if not found:
        return 0, {}
    assert len(found) == 1
    total = re.match(r"files that are not used \((\d+)\): ", found[0])
    assert total is not None
    kinds = re.findall(r"(?:^|; )([^;]*?) (\d+) \(", found[0][total.end() :])
    assert len(kinds) == len(dict(kinds))
    return int(total[1]), {kind: int(count) for kind, count in kinds}


def list_told(cohort: Cohort, problems: tuple[Problem, ...]) -> set[str]:
    """Samples, their masks, the tables that are said to be read or not, and what problems name."""
    told = {s.image for s in cohort.samples}
    told |= {path.relative_to(cohort.root).as_posix() for s in cohort.samples for path in s.files}
    # Masks of no image are counted in the note; a problem names the first of a folder beside it.
    told |= {name for p in problems if p.code != "mask-without-image" for name in (p.file, *p.images)}
    told |= {note.removeprefix("table: ") for note in cohort.notes if note.startswith("table: ")}
    told |= {note.split(" is not used: ")[0] for note in cohort.notes if " is not used: " in note}
    return told | ({"train_labels.csv", "cases.csv"} if cohort.layout == "challenge" else set())


# --- the property -------------------------------------------------------------------------------------------------

PLACES = (
    "", "", "images", "A", "B", "A/p1", "C", "train_data", "test_data", "test", "truth", "runs", "masks", "masks/A",
    "docs", "deep/er/still", "A/@eaDir/img_0.png", "#recycle", ".git/objects", "__MACOSX/A", "notes.zip", "40X",
)  # fmt: skip
STEMS = (
    "img_0", "img_1", "mask_0", "img_1_mask", "x", "Übersicht 1", "a b", "~$x", "._img_0", "Thumbs", "README", "case.1",
    "y\nz", "labels", "e\u0301",
)  # fmt: skip
SUFFIXES = (
    ".png", ".PNG", ".jpg", ".tif", ".jfif", ".heic", ".nef", ".czi", ".pdf", ".docx", ".zip", ".csv", ".xlsx",
    ".ipynb", ".xml", ".geojson", ".h5", ".npz", ".txt", ".xyz", ".tmp", ".part", ".db", "", ".1", ".svg", ".PNG~",
)  # fmt: skip
FILES = st.tuples(st.sampled_from(PLACES), st.sampled_from(STEMS), st.sampled_from(SUFFIXES),
                  st.sampled_from(tuple(CONTENTS)))  # fmt: skip


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.sampled_from(("table", "challenge", "class-folders")), st.lists(FILES, max_size=12))
def test_every_file_of_any_folder_is_told_once(layout: str, files: list[tuple[str, str, str, str]]) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        lay_out(root, layout)
        for place, stem, suffix, content in files:
            name = "/".join(filter(None, (place, stem + suffix)))
            assume(not any((root / part).is_file() for part in Path(name).parents) and not (root / name).is_dir())
            put(root, name, content)
        cohort, problems = inspect_folder(root)
        if cohort is None:
            event("refused")
            assert any(not p.warning and not p.images for p in problems)
            return
        event(cohort.layout)
        everything = {show_text(name) for name in list_files(root)}
        told = list_told(cohort, problems) & everything
        total, kinds = the_note(cohort)
        assert total == sum(kinds.values())
        assert len(everything) == len(told) + total
    finally:
        shutil.rmtree(root)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(FILES, max_size=20, unique_by=lambda f: f[:3]), st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19))
)
def test_no_file_is_of_two_kinds(files: list[tuple[str, str, str, str]], samples: set[int], tables: set[int]) -> None:
    names = [f"{place}/{stem}{suffix}".strip("/") for place, stem, suffix, _ in files]
    root = Path("/data")
    folder = Folder(root, {name: root / name for name in names})
    result = LayoutResult("table")
    for i, name in enumerate(names):
        if i in samples:
            result.candidates.append(Candidate(Sample(name, root / name, None, "A", name, name), name))
        elif i in tables:
            result.tables.add(name)
    counts = Counter(name for found in list_unused(folder, result).values() for name in found)
    assert set(counts) == set(names) - {d.sample.image for d in result.candidates} - result.tables
    assert set(counts.values()) <= {1}


# --- kinds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["table", "challenge", "class-folders"])
def test_what_is_not_used_is_named_by_kind(tmp_path: Path, layout: str) -> None:
    lay_out(tmp_path, layout)
    for name in ("a.pdf", "b.docx", "data.zip", "try.ipynb", "extra.parquet", "A/outline.geojson", "f.h5", "x.qqq",
                 "LICENSE", "truth/answers.txt"):  # fmt: skip
        put(tmp_path, name, "text")
    cohort = read_cohort(tmp_path)
    total, kinds = the_note(cohort)
    below = "documents" if layout == "table" else "files below truth/, never looked into"
    wanted = Counter({"documents": 2, "archives": 1, "notebooks and code": 1, "tables that are not read": 1,
                      "outlines and annotations": 1, "features, arrays and weights": 1, "files .qqq": 1,
                      "files without a suffix": 1})  # fmt: skip
    wanted[below] += 1
    assert kinds == wanted
    assert total == 10
    assert "archives 1 (data.zip)" in next(note for note in cohort.notes if note.startswith("files that are not"))


def test_pictures_without_a_row_in_other_folders_are_counted(tmp_path: Path) -> None:
    lay_out(tmp_path, "table")
    for i in range(5):
        put(tmp_path, f"more/{i}.png")
    put(tmp_path, "masks/nothing.png")
    cohort = read_cohort(tmp_path)
    assert the_note(cohort)[1] == {"pictures without a row in a table": 5, "masks of no image": 1}
    assert any("(more/0.png, more/1.png, more/2.png, ...)" in note for note in cohort.notes)


def test_previews_of_a_file_server_are_no_images(tmp_path: Path) -> None:
    lay_out(tmp_path, "class-folders")
    for i in range(8):
        put(tmp_path, f"{'AB'[i % 2]}/@eaDir/img_{i}.png/SYNOPHOTO_THUMB_M.jpg", "jpeg")
    litter = ("Thumbs.db", "desktop.ini", ".DS_Store", "A/._img_0.png", "A/.ipynb_checkpoints/1.png", "__MACOSX/1.png",
              "$RECYCLE.BIN/1.png", ".snapshot/1/A/1.png", "lost+found/1.png", "#recycle/2.png", "A/img_9.png.part",
              "B/x.crdownload", "~$labels.xlsx", "A/img_1.png~")  # fmt: skip
    for name in litter:
        put(tmp_path, name)
    cohort = read_cohort(tmp_path)
    assert len(cohort.labelled) == 8
    assert all(s.case == s.image for s in cohort.labelled)
    assert the_note(cohort) == (8 + len(litter), {"hidden files and litter of systems": 8 + len(litter)})


def test_litter_is_counted_to_a_limit(tmp_path: Path) -> None:
    lay_out(tmp_path, "class-folders")
    for i in range(MOST_LITTER // 50 + 1):
        for j in range(50):
            put(tmp_path, f".snapshot/{i}/{j}.png", "nothing")
    assert any(f"litter of systems {MOST_LITTER} or more (" in note for note in read_cohort(tmp_path).notes)


# --- pictures that are not read -----------------------------------------------------------------------------------


def test_pictures_under_other_suffixes_are_read_or_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "class-folders")
    for i, suffix in enumerate((".jfif", ".jpe", ".heic", ".blob", "", ".heic")):
        put(tmp_path, f"{'AB'[i % 2]}/s{i}{suffix}", "jpeg")
    put(tmp_path, "A/real.heic", "text")
    put(tmp_path, "A/raw.nef", "tiff")
    cohort, problems = inspect_folder(tmp_path)
    assert cohort is not None
    named = {name: p for p in problems for name in p.images}
    read = {s.image for s in cohort.labelled}
    assert read | set(named) == list_files(tmp_path)
    assert {"A/s0.jfif", "B/s1.jpe"} <= read
    assert named["A/s2.heic"].message.startswith("is a JPEG by its content, and no image is looked for under '.heic'")
    assert "rename it to .jpg" in named["B/s3.blob"].fix
    assert named["A/real.heic"].code == named["A/raw.nef"].code == "picture-kind"
    assert len(read_cohort(tmp_path, skip_problems=True).labelled) == 10


def test_suffixes_of_one_kind_are_read_alike(tmp_path: Path) -> None:
    kinds = {"JPEG": (".jpg", ".jpe", ".jfif"), "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
             "PPM": (".ppm", ".pnm")}  # fmt: skip
    for label, (kind, suffixes) in zip("ABC", kinds.items(), strict=True):
        for suffix in suffixes:
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / f"x{suffix}").write_bytes(encode(kind))
    cohort = read_cohort(tmp_path)
    assert {s.image for s in cohort.labelled} == list_files(tmp_path)


def test_a_class_of_pictures_that_are_not_read_does_not_vanish(tmp_path: Path) -> None:
    lay_out(tmp_path, "class-folders")
    for i in range(3):
        put(tmp_path, f"C/{i}.czi", "text")
    _, problems = inspect_folder(tmp_path)
    assert [(p.code, p.images) for p in problems] == [("picture-kind", (f"C/{i}.czi",)) for i in range(3)]


def test_another_form_of_a_sample_is_only_told(tmp_path: Path) -> None:
    lay_out(tmp_path, "class-folders")
    put(tmp_path, "A/img_0.czi", "text")
    assert the_note(read_cohort(tmp_path))[1] == {"slides of a kind that is not opened": 1}


def test_pictures_beside_the_samples_of_a_table_are_problems_and_others_told(tmp_path: Path) -> None:
    lay_out(tmp_path, "table")
    put(tmp_path, "images/extra.heic", "jpeg")
    put(tmp_path, "photos/extra.heic", "jpeg")
    cohort, problems = inspect_folder(tmp_path)
    assert cohort is not None
    assert [p.images for p in problems] == [("images/extra.heic",)]
    assert the_note(cohort)[1] == {"pictures of a kind that is not opened": 1}


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path, f"A/{i}.heic", "text")
    _, problems = inspect_folder(tmp_path)
    assert [p.code for p in problems] == ["no-images"]
    assert "pictures of a kind that is not opened 4 (A/0.heic, A/1.heic, A/2.heic, ...)" in problems[0].message
