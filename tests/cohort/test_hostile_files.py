"""Files, names and tables of ill will: read to the letter or refused by name, without a hang or a traceback."""

from __future__ import annotations

import csv
import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti import images, records, store
from smalti.audit import read_decisions, write_decisions
from smalti.cli import console
from smalti.cohort import inspect_folder, read_cohort
from smalti.cohort.tables.encoding import guess_encoding
from smalti.errors import DataError, Problem, RecipeError, show_text
from smalti.recipe import load_recipe
from smalti.types import Cohort, Decision


def draw(path: Path, *, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path, "PNG")
    return path


def draw_classes(root: Path, labels: tuple[str, ...] = ("alpha", "beta")) -> Path:
    for label in labels:
        for i in range(4):
            draw(root / label / f"{i}.png", seed=i)
    return root


def draw_table(root: Path, *, names: tuple[str, ...] = tuple(f"{i}.png" for i in range(8)), more: str = "") -> Path:
    for i, name in enumerate(names):
        draw(root / "images" / name, seed=i)
    with (root / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", *(f"c{i}" for i in range(int(more or 0)))])
        writer.writerows([name, "ab"[i % 2], *[0] * int(more or 0)] for i, name in enumerate(names))
    return root


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_png(data: bytes, *, colour: int = 2, spoil: bool = False) -> bytes:
    """A PNG of 16 x 16 pixels with these rows."""
    body = chunk(b"IDAT", zlib.compress(data))
    body = body[:-4] + b"\0\0\0\0" if spoil else body
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def say(root: Path) -> dict[str, Problem]:
    """What is said about each file, the cohort without them being usable or not."""
    return {p.file: p for p in inspect_folder(root)[1]}


# --- what is no file ----------------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    place = Path.cwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(place)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is a named pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "folder": (Path.mkdir, "is a folder"),
    "ring": (lambda path: path.symlink_to(path.name), "is a link in a ring of links"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "is a link to 'nowhere', which does not exist"),
    "system": (lambda path: path.symlink_to("/proc/kmsg"), "no image that Pillow knows (the file is empty)"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="not applicable: no named pipes on this system")
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_named_and_can_be_left_out(tmp_path: Path, kind: str) -> None:
    make, said = SPECIAL[kind]
    root = draw_classes(tmp_path / "data")
    (root / "alpha/0.png").unlink()
    make(root / "alpha/0.png")
    assert said in say(root)["alpha/0.png"].message
    assert len(read_cohort(root, skip_problems=True).labelled) == 7
    table = draw_table(tmp_path / "table")
    (table / "samples.csv").unlink()
    make(table / "samples.csv")
    if kind != "system":
        assert said in say(table)["samples.csv"].message


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="not applicable: no sockets in folders on this system")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_socket_is_no_image(tmp_path: Path) -> None:
    make_socket(tmp_path / "s.png")
    with pytest.raises(DataError, match=r"is a socket, not a file.*Fix"):
        images.read_image(tmp_path / "s.png")


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_classes(tmp_path)
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "beta":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert say(root)["beta"].message == "cannot be listed: Permission denied; nothing in it is read."


# --- decoders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [AssertionError(), KeyError("x"), ZeroDivisionError("by 0"), SystemError("?"), MemoryError()]
)
def test_whatever_a_decoder_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = draw(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    for read in (images.read_image, images.read_mask, images.check_image):
        with pytest.raises(DataError, match=r"a\.png: .*Fix: "):
            read(path)


def test_rows_that_are_missing_and_wrong_checksums_are_damage(tmp_path: Path) -> None:
    row = b"\0" + b"\x80" * 48
    for name, content, said in (
        ("short", make_png(row * 4), "only 25% of its pixels are there"),
        ("sum", make_png(row * 16, spoil=True), "checksum of a chunk IDAT is wrong"),
        ("palette", make_png((b"\0" + b"\1" * 16) * 16, colour=3), "cannot be decoded"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said):
            images.check_image(tmp_path / name)
        with pytest.raises(DataError, match=said):
            images.read_mask(tmp_path / name)
    (tmp_path / "black.png").write_bytes(make_png((b"\0" * 49) * 16))
    assert images.check_image(tmp_path / "black.png") == (16, 16), "black rows that are there are no damage"


def test_a_tiff_with_too_few_strips_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((64, 40), 7, np.uint8)).save(path, tiffinfo={278: 16})
    assert images.check_image(path) == (64, 40)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        assert len(image.tag_v2[273]) == 4, "the fixture has four strips"
    entry = content.index(struct.pack("<HHI", 273, 4, 4))
    content[entry + 4 : entry + 8] = struct.pack("<I", 2)
    path.write_bytes(content)
    with pytest.raises(DataError, match="only 50% of its pixels are there"):
        images.read_mask(path)


def test_several_pictures_and_early_ends_are_doubts(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((64, 64, 3), shade, np.uint8)) for shade in (10, 200)]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("a.png", "a.gif", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match=r"holds 2 .*Fix: save the (picture|frame) that is meant"):
            images.read_size(tmp_path / name)
        (tmp_path / name).unlink()
    frames[0].save(tmp_path / "pair.jpg", "MPO", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "preview.jpg", "MPO", save_all=True, append_images=[frames[1].resize((16, 16))])
    buffer = BytesIO()
    noise.save(buffer, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2] + b"\xff\xd9")
    (tmp_path / "whole.jpg").write_bytes(buffer.getvalue())
    pyramid = tmp_path / "pyramid.tif"
    frames[0].save(pyramid, save_all=True, append_images=[frames[0].resize((32, 32))])
    doubts = {}
    for path in tmp_path.iterdir():
        found: list[Problem] = []
        images.check_image(path, doubts=found)
        doubts[path.name] = [p.code for p in found]
    said = {"pair.jpg": ["several-frames"], "preview.jpg": [], "pyramid.tif": []}
    assert doubts == said | {"cut.jpg": ["image-cut"], "whole.jpg": []}


def test_a_compressed_tiff_mask_above_pillows_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.full((60, 50), 255, np.uint8)).save(tmp_path / "m.tif", compression="tiff_adobe_deflate")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert images.read_mask(tmp_path / "m.tif")[0].all()
    assert Image.MAX_IMAGE_PIXELS == 100, "given back"


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"Pr\xe4parat.png", r"Pr\xe4parat.png"),
        (b"a\nb.png", r"a\nb.png"),
        (b"a\rb.png", r"a\rb.png"),
        (b"a\tb.png", r"a\tb.png"),
        (b"a\x1b[31mb.png", r"a\x1b[31mb.png"),
        ("a\u2028b.png".encode(), r"a\u2028b.png"),
    ],
)
def test_names_that_no_table_can_hold_are_refused_in_a_form_that_prints(
    tmp_path: Path, name: bytes, shown: str
) -> None:
    root = draw_classes(tmp_path)
    try:
        (root / "alpha/0.png").rename(root / "alpha" / os.fsdecode(name))
    except OSError:
        pytest.skip("not applicable: this file system has no such names")
    problem = say(root)[f"alpha/{shown}"]
    assert (problem.code, problem.fix, problem.images) == ("name", "rename it", (f"alpha/{shown}",))
    str(problem).encode("utf-8")
    assert len(read_cohort(root, skip_problems=True).labelled) == 7
    assert show_text(os.fsdecode(name)) == shown


def test_spaces_belong_to_names_and_not_to_labels(tmp_path: Path) -> None:
    root = draw_classes(tmp_path / "data", (" alpha", "beta "))
    cohort = read_cohort(root)
    assert cohort.classes == ("alpha", "beta")
    assert "class folder ' alpha': its label is read without the spaces around it, 'alpha'" in cohort.notes
    image = " alpha/0.png"
    path = write_decisions(tmp_path / "d.csv", [Decision(image, "keep", "", "me", "")])
    assert read_decisions(path)[0].image == image == cohort.labelled[0].image
    store.write_table(tmp_path / "samples.csv", records.tabulate_samples(cohort))
    assert list(store.read_table(tmp_path / "samples.csv").image) == [s.image for s in cohort.samples]
    draw(root / "alpha/9.png")
    assert [p.code for p in inspect_folder(root)[1]] == ["ambiguous-class"]


def test_a_table_names_files_to_the_letter(tmp_path: Path) -> None:
    names = (" 0.png", "1 .png", *(f"{i}.png" for i in range(2, 8)))
    cohort = read_cohort(draw_table(tmp_path, names=names))
    assert {Path(s.image).name for s in cohort.samples} == set(names)
    assert cohort.labelled[0].index == " 0.png"


@pytest.mark.parametrize(
    ("label", "heard"), [("=1+1", True), ("@x", True), ("-2+3", True), ("-1", False), ("b-", False)]
)
def test_what_a_spreadsheet_would_execute_is_a_warning(tmp_path: Path, label: str, heard: bool) -> None:
    root = draw_table(tmp_path)
    table = root / "samples.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",b", f",{label}"), encoding="utf-8")
    found = [p for p in inspect_folder(root)[1] if p.code == "formula"]
    assert [p.warning for p in found] == [True] * heard


# --- tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.encode("utf-16"), "probably UTF-16"),
        (lambda text: text.encode("utf-16-le"), "probably UTF-16LE"),
        (lambda text: text.encode("utf-32"), "probably UTF-32"),
        (lambda text: text.replace("a", "a\0").encode(), "is no text: byte 0x00"),
        (lambda text: b"\x1f\x8b" + text.encode(), "is compressed with gzip"),
        (lambda text: b"\x89PNG" + text.encode(), "is a picture"),
        (lambda text: text.encode() + b"x" * 9_000_000, "8 MB in a line"),
        (lambda text: text.encode() + b'"', "is no well-formed CSV"),
        (lambda text: text.replace(",b", ',"b\rc"').encode(), r"label 'b\rc' holds control signs"),
        (lambda text: b"image,label" + b"," * 300_000 + b"\n", "has 300002 columns"),
    ],
)
def test_tables_of_other_kinds_are_refused_by_name(tmp_path: Path, spoil: Callable[[str], bytes], said: str) -> None:
    table = draw_table(tmp_path) / "samples.csv"
    table.write_bytes(spoil(table.read_text(encoding="utf-8")))
    problems = inspect_folder(tmp_path)[1]
    assert any(said in p.message and p.file.startswith("samples.csv") and p.fix for p in problems), problems


def test_text_without_a_mark_is_told_from_data_that_are_none() -> None:
    assert guess_encoding("image,label\n".encode("utf-16-be")) == "UTF-16BE"
    assert guess_encoding(bytes(range(256)) * 9) == ""
    assert guess_encoding("Präparat".encode()) is None


def test_thousands_of_columns_are_counted_once_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smalti.cohort.tables import table as tables

    kept: list[int] = []
    read = tables._read_rows

    def listen(*args: object, **kwargs: list[int]) -> object:
        kept.extend(kwargs["kept"])
        return read(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tables, "_read_rows", listen)
    assert len(read_cohort(draw_table(tmp_path, more="20000")).labelled) == 8
    assert kept == [0, 1, 20001]


def test_rows_of_one_meaningless_name_are_one_problem(tmp_path: Path) -> None:
    names = tuple(f"p{i}/0.png" for i in range(30))
    table = draw_table(tmp_path, names=names) / "samples.csv"
    table.write_text("image,label\n" + "0.png,a\n0.png,b\n" * 15, encoding="utf-8")
    (problem,) = (p for p in inspect_folder(tmp_path)[1] if p.code == "ambiguous-row")
    assert "as in 29 more rows" in problem.message
    assert len(problem.images) == 30


# --- recipes, and what is printed ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "evaluate.resamples=1000000000",
        "split.folds=100000",
        f"split.seeds={list(range(500))}",
        "tile.size_px=1000000",
        "tile.mpp=.inf",
        "tile.magnifications=[1, 1.0e+300]",
        "train.finetune.epochs=1000000000",
        "train.transfer.lr=.nan",
    ],
)
def test_bounds_that_no_study_reaches(setting: str) -> None:
    with pytest.raises(RecipeError, match=setting.split("=")[0].rsplit(".", 1)[-1]):
        load_recipe(settings=[setting])


def test_many_problems_are_counted_and_kept_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = [Problem("code", f"{i}.png", "is wrong.", "mend it", (f"{i}.png",)) for i in range(20_000)]

    def fail(**_: Path) -> None:
        raise DataError("all wrong", problems)

    with pytest.raises(console.typer.Exit):
        console.guard(fail)(data=tmp_path / "set", runs=tmp_path / "runs")
    said = capsys.readouterr().err
    assert said.count(".png") <= 2 * console.SHOWN
    assert "and 19950 more; all 20000 are in" in said
    with (tmp_path / "runs/set.problems.csv").open(encoding="utf-8") as file:
        assert [row["file"] for row in csv.DictReader(file)] == [p.file for p in problems]


def test_the_terminal_gets_no_signs_that_act_on_it() -> None:
    assert console.clean("a\x1b[31m\nb\udce4[red]") == "a\\x1b[31m\nb\\xe4\\[red]"


def test_cohorts_keep_no_name_that_cannot_be_written(tmp_path: Path) -> None:
    cohort = read_cohort(draw_classes(tmp_path))
    assert isinstance(cohort, Cohort)
    store.write_json(tmp_path / "a.json", {"command": ["Pr\udce4parat"]})
    assert store.read_json(tmp_path / "a.json") == {"command": ["Pr\udce4parat"]}
