"""How the masks of a cohort are meant is read right, or asked: values, polarity, EXIF, sizes, files not used."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from smalti import images
from smalti.cohort import Columns, inspect_folder
from smalti.cohort.masks.contrast import is_clear
from smalti.errors import Problem
from smalti.recipe import load_recipe
from smalti.tile.repair import read_sample_mask
from smalti.types import Cohort

Plane = NDArray[np.uint8]
N = 8
Write = Callable[[Path, Plane], None]


def draw(seed: int, *, height: int = 96, width: int = 96, glass: bool = True) -> tuple[Plane, Plane]:
    """Tissue with glass at its right, and a plane that numbers its glands 1, 2, 3."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), (224, 170, 200), float)
    glands = np.zeros((height, width), np.uint8)
    for number in (1, 2, 3):
        at = (int(rng.uniform(0.1, 0.7) * width), int(rng.uniform(0.1, 0.9) * height))
        cv2.circle(glands, at, int(rng.integers(8, 14)), number, -1)
    image[glands > 0] = (142, 84, 158)
    if glass:
        edge = int(width * rng.uniform(0.8, 0.86))
        image[:, edge:], glands[:, edge:] = (244, 243, 245), 0
    return (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8), glands


def draw_cohort(
    root: Path,
    write: Write,
    *,
    name: str = "masks/{}.png",
    glass: bool = True,
    n: int = N,
    exif: int = 1,
    width: int = 96,
) -> Path:
    """A table, images, and masks as ``write`` writes them; the truth is what `draw` numbers."""
    note = Image.Exif()
    note[0x0112] = exif
    (root / "images").mkdir(parents=True)
    rows = ["image,label"]
    for i in range(n):
        pixels, glands = draw(i, glass=glass, width=width)
        how = {} if exif == 1 else {"exif": note.tobytes()}
        Image.fromarray(pixels).save(root / f"images/s{i}.png", **how)
        path = root / name.format(f"s{i}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, glands)
        rows.append(f"images/s{i}.png,{'AB'[i % 2]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def check_masks(cohort: Cohort | None, *, turn: int = 1, glass: bool = True, width: int = 96) -> None:
    """Every mask is the truth, through the reader that tiles are cut with."""
    assert cohort is not None
    for i, sample in enumerate(sorted(cohort.labelled, key=lambda s: s.image)):
        wanted = images.turn_plane(draw(i, glass=glass, width=width)[1], turn) > 0
        found = read_sample_mask(sample, images.read_size(sample.path))
        np.testing.assert_array_equal(found, wanted, err_msg=sample.image)


def the_question(root: Path, code: str, **wishes: object) -> Problem:
    cohort, problems = inspect_folder(root, columns=Columns(**wishes))  # type: ignore[arg-type]  # each of its kind
    assert [p.code for p in problems if not p.warning] == [code]
    assert cohort is None, "nothing is learnt from before it is answered"
    return next(p for p in problems if p.code == code)


def read(root: Path, **wishes: object) -> tuple[Cohort, str]:
    """The cohort of a folder without problems, and its notes."""
    cohort, problems = inspect_folder(root, columns=Columns(**wishes))  # type: ignore[arg-type]  # each of its kind
    assert [p for p in problems if not p.warning] == []
    assert cohort is not None
    return cohort, "\n".join(cohort.notes)


# --- writers ------------------------------------------------------------------------------------------------------


def write_0_255(path: Path, glands: Plane) -> None:
    Image.fromarray((glands > 0).astype(np.uint8) * 255).save(path)


def write_numbers(path: Path, glands: Plane) -> None:
    Image.fromarray(glands).save(path)


def write_jpeg_2000(path: Path, glands: Plane) -> None:
    """Numbers, without loss."""
    tifffile.imwrite(path.with_suffix(".tif"), glands, compression="jpeg2000")


def write_red(path: Path, glands: Plane) -> None:
    Image.fromarray(np.dstack([glands > 0, glands * 0, glands * 0]).astype(np.uint8)).save(path)


def write_qupath(path: Path, glands: Plane) -> None:
    """Value 1 is mask; 0 is shown white."""
    image = Image.fromarray((glands > 0).astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 200, 0, 0] + [0] * 762)
    image.save(path)


def write_adaptive(path: Path, glands: Plane) -> None:
    """Value 0 is mask, and shown white; 1 is shown black."""
    image = Image.fromarray((glands == 0).astype(np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    image.save(path)


def write_imagej(path: Path, glands: Plane) -> None:
    tifffile.imwrite(path, (glands > 0).astype(np.uint8) * 255, photometric="miniswhite")


def write_wide_imagej(path: Path, glands: Plane) -> None:
    tifffile.imwrite(path, (glands > 0).astype(np.uint16) * 65535, photometric="miniswhite")


def write_fax(path: Path, glands: Plane) -> None:
    """One bit; white is zero, and what is shown white is mask."""
    tifffile.imwrite(path, glands == 0, photometric="miniswhite")


def write_black(path: Path, glands: Plane) -> None:
    """Black on white."""
    Image.fromarray((glands == 0).astype(np.uint8) * 255).save(path)


def write_classes(path: Path, glands: Plane) -> None:
    """1 and 2; no 0."""
    Image.fromarray((glands > 0).astype(np.uint8) + 1).save(path)


def write_colours(path: Path, glands: Plane) -> None:
    """Red on white."""
    Image.fromarray(np.where(glands[..., None] > 0, (255, 0, 0), (255, 255, 255)).astype(np.uint8)).save(path)


def keep_with_loss(path: Path, pixels: Plane, kind: str, **how: object) -> None:
    """Write a PNG of what is left of the pixels in a lossy format."""
    store = io.BytesIO()
    Image.fromarray(pixels).save(store, kind, **how)
    Image.open(store).save(path)


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "how"),
    [("WEBP", {"quality": 60}), ("JPEG2000", {"irreversible": True, "quality_mode": "rates", "quality_layers": [30]})],
)
def test_what_lossy_formats_leave_of_two_values_is_cut_between_them(
    tmp_path: Path, kind: str, how: dict[str, object]
) -> None:
    def write(path: Path, glands: Plane) -> None:
        keep_with_loss(path, np.repeat((glands > 0).astype(np.uint8)[..., None] * 255, 3, axis=2), kind, **how)

    cohort, _ = read(draw_cohort(tmp_path, write, width=192), mask_inverted=False)
    for i, sample in enumerate(sorted(cohort.labelled, key=lambda s: s.image)):
        wanted, found = draw(i, width=192)[1] > 0, read_sample_mask(sample, (96, 192)) > 0
        assert (wanted & found).sum() > 0.98 * (wanted | found).sum()


def test_many_numbers_and_a_255_are_no_levels(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        cells = np.kron(np.arange(1, 49, dtype=np.uint8).reshape(6, 8), np.ones((6, 6), np.uint8))
        Image.fromarray(np.pad(cells, ((0, 60), (0, 48))) + np.uint8(255) * np.eye(96, k=60, dtype=np.uint8)).save(path)

    cohort, _ = read(draw_cohort(tmp_path, write))
    assert (read_sample_mask(cohort.labelled[0], (96, 96)) > 0)[:36, :48].all()


@pytest.mark.slow
def test_a_map_of_as_many_values_as_pixels_is_cut_at_its_middle(tmp_path: Path) -> None:
    """Work that grew by the square of the number of values would take minutes."""

    def write(path: Path, glands: Plane) -> None:
        wide = np.kron(glands > 0, np.ones((3, 3)))
        noise = np.random.default_rng(0).uniform(-0.2, 0.2, wide.shape)
        tifffile.imwrite(path.with_suffix(".tif"), (0.25 + 0.5 * wide + noise).astype(np.float32))

    cohort, _ = read(draw_cohort(tmp_path, write, n=4), mask_fit="stretch")
    for i, sample in enumerate(sorted(cohort.labelled, key=lambda s: s.image)):
        np.testing.assert_array_equal(read_sample_mask(sample, (96, 96)) > 0, draw(i)[1] > 0)


def test_grey_paper_is_no_mask(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        Image.fromarray(np.where(glands > 0, 250, 90).astype(np.uint8)).save(path.with_suffix(".jpg"), quality=80)

    cohort, _ = read(draw_cohort(tmp_path, write))
    for i, sample in enumerate(sorted(cohort.labelled, key=lambda s: s.image)):
        np.testing.assert_array_equal(read_sample_mask(sample, (96, 96)) > 0, draw(i)[1] > 0)


@pytest.mark.parametrize(("ink", "paper"), [((255, 0, 0), (255,) * 3), ((0, 0, 200), (128,) * 3),
                                            ((253, 231, 37), (68, 1, 84))])  # fmt: skip
def test_colours_on_paper_that_jpeg_blurred_are_asked_about(
    tmp_path: Path, ink: tuple[int, ...], paper: tuple[int, ...]
) -> None:
    def write(path: Path, glands: Plane) -> None:
        pixels = np.where(glands[..., None] > 0, ink, paper).astype(np.uint8)
        Image.fromarray(pixels).save(path.with_suffix(".jpg"), quality=85)

    question = the_question(draw_cohort(tmp_path, write), "mask-values")
    assert f"and {N - 1} other masks hold no black" in question.message
    assert "export them as PNG" in question.fix


def test_a_second_value_a_pixel_is_refused(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        values = np.dstack([glands * 0, glands])
        tifffile.imwrite(path.with_suffix(".tif"), values, photometric="minisblack", planarconfig="contig")

    _, problems = inspect_folder(draw_cohort(tmp_path, write))
    assert sum("masks/s" in p.file and "holds 2 values a pixel" in p.message for p in problems) == N


@pytest.mark.parametrize("write", [write_0_255, write_numbers, write_red, write_jpeg_2000])
@pytest.mark.parametrize("glass", [True, False])
def test_all_but_0_is_mask(tmp_path: Path, write: Write, *, glass: bool) -> None:
    cohort, notes = read(draw_cohort(tmp_path, write, glass=glass))
    check_masks(cohort, glass=glass)
    assert ("masks hold the values 0, 1, 2, 3: all but 0 are mask (data.mask_values chooses)" in notes) == (
        write in {write_numbers, write_jpeg_2000}
    )
    assert "masks: masks/ (8)" in notes


def test_values_without_a_0_are_asked_for(tmp_path: Path) -> None:
    question = the_question(draw_cohort(tmp_path / "1", write_classes), "mask-values")
    assert "no 0, which is what is not marked, but 1, 2" in question.message
    assert "data.mask_values=[2]" in question.fix
    check_masks(read(tmp_path / "1", mask_values=(2,))[0])
    question = the_question(draw_cohort(tmp_path / "2", write_colours), "mask-values")
    assert """--set 'data.mask_values=["#ff0000"]'""" in question.fix
    check_masks(read(tmp_path / "2", mask_values=("#ff0000",))[0])
    said = load_recipe(settings=['data.mask_values=["#FF0000", 7]', "data.mask_inverted=false"]).data
    assert (said.mask_values, said.mask_inverted) == (("#ff0000", 7), False)
    question = the_question(tmp_path / "1", "mask-values", mask_values=(9,))
    assert "hold none of the values [9], but 1, 2" in question.message


def test_255_beside_classes_is_asked_about(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        classes = np.minimum(glands, 2)
        classes[:4] = 255
        Image.fromarray(classes).save(path)

    question = the_question(draw_cohort(tmp_path, write), "mask-values")
    assert "data.mask_values=[1,2] or --set data.mask_values=[1,2,255]" in question.fix
    cohort, _ = read(tmp_path, mask_values=(1, 2))
    first = read_sample_mask(cohort.labelled[0], (96, 96))
    assert not first[:4].any()
    np.testing.assert_array_equal(first[4:], draw(0)[1][4:] > 0)


def test_numbers_that_jpeg_blurred_are_asked_about(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        Image.fromarray(glands * 3).save(path, quality=60)

    assert "lossy" in the_question(draw_cohort(tmp_path, write, name="masks/{}.jpg"), "mask-values").message


# --- polarity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("write", "name", "shown"),
    [
        (write_qupath, "masks/{}.png", False),
        (write_imagej, "masks/{}.tif", False),
        (write_wide_imagej, "masks/{}.tif", False),
        (write_adaptive, "masks/{}.png", True),
        (write_fax, "masks/{}.tif", True),
    ],
)
def test_where_values_and_colours_disagree_glass_decides_or_it_is_asked(
    tmp_path: Path, write: Write, name: str, *, shown: bool
) -> None:
    cohort, notes = read(draw_cohort(tmp_path / "glass", write, name=name))
    check_masks(cohort)
    assert f"(data.mask_inverted={str(shown).lower()})" in notes
    question = the_question(draw_cohort(tmp_path / "none", write, name=name, glass=False), "mask-inverted")
    assert "mask_inverted=true" in question.fix
    assert "mask_inverted=false" in question.fix
    check_masks(read(tmp_path / "none", mask_inverted=shown)[0], glass=False)


@pytest.mark.parametrize("glass", [True, False])
def test_black_on_white_is_asked_about(tmp_path: Path, *, glass: bool) -> None:
    def write(path: Path, glands: Plane) -> None:
        write_black(path, np.pad(glands[8:-8, 8:-8], 8))  # whole glands

    question = the_question(draw_cohort(tmp_path, write, glass=glass), "mask-inverted")
    assert "mask_inverted=true" in question.fix
    assert "mask_inverted=false" in question.fix
    cohort, _ = read(tmp_path, mask_inverted=True)
    wanted = np.pad(draw(0, glass=glass)[1][8:-8, 8:-8], 8) > 0
    np.testing.assert_array_equal(read_sample_mask(cohort.labelled[0], (96, 96)), wanted)
    cohort, _ = read(tmp_path, mask_inverted=False)
    np.testing.assert_array_equal(read_sample_mask(cohort.labelled[0], (96, 96)), ~wanted)


def test_masks_of_tissue_or_of_everything_raise_no_question(tmp_path: Path) -> None:
    def write_tissue(path: Path, glands: Plane) -> None:
        pixels = np.asarray(Image.open(path.parent.parent / "images" / path.name))
        Image.fromarray((pixels.min(axis=2) < 220).astype(np.uint8) * 255).save(path)

    def write_around_lumina(path: Path, glands: Plane) -> None:
        image = path.parent.parent / "images" / path.name
        Image.fromarray(np.where(glands[..., None] > 0, 244, np.asarray(Image.open(image))).astype(np.uint8)).save(
            image
        )
        write_black(path, glands)

    read(draw_cohort(tmp_path / "tissue", write_tissue))
    read(draw_cohort(tmp_path / "lumina", write_around_lumina, glass=False))
    cohort, notes = read(draw_cohort(tmp_path / "all", lambda path, glands: write_0_255(path, glands | 1)))
    assert f"{N} masks such as masks/s0.png: all of the image is marked" in notes
    assert read_sample_mask(cohort.labelled[0], (96, 96)).all()
    read(draw_cohort(tmp_path / "mixed", lambda path, glands: (write_0_255, write_red)["1" in path.name](path, glands)))


@pytest.mark.parametrize("odd", [1, 4])
def test_a_few_inverted_masks_among_others_are_named(tmp_path: Path, odd: int) -> None:
    names = {f"s{i}.png" for i in range(odd)}
    draw_cohort(tmp_path, lambda path, glands: (write_black if path.name in names else write_0_255)(path, glands))
    _, problems = inspect_folder(tmp_path)
    assert {(p.code, p.file, p.warning) for p in problems} == {
        ("mask-inverted", f"masks/{name}", odd == 1) for name in names
    }


@pytest.mark.parametrize("with_glass", [2, 5])
def test_a_single_mask_on_glass_is_odd_only_where_others_lie_beside_it(tmp_path: Path, with_glass: int) -> None:
    draw_cohort(tmp_path, write_0_255, glass=False)
    for i in range(with_glass):
        pixels, glands = draw(i)
        Image.fromarray(pixels).save(tmp_path / f"images/s{i}.png")
        write_0_255(tmp_path / f"masks/s{i}.png", glands)
    pixels, glands = draw(N - 1, glass=False)
    pixels[:, :30], glands[:, :30] = 244, 9  # a wide lumen that reaches the margin, drawn as a part of its gland
    Image.fromarray(pixels).save(tmp_path / f"images/s{N - 1}.png")
    write_0_255(tmp_path / f"masks/s{N - 1}.png", glands)
    _, problems = inspect_folder(tmp_path)
    assert [(p.code, p.file) for p in problems] == [("mask-inverted", f"masks/s{N - 1}.png")] * (with_glass > 2)


def test_an_inverted_cohort_of_an_empty_drawing_is_empty(tmp_path: Path) -> None:
    draw_cohort(tmp_path, lambda path, glands: write_black(path, glands * ("s3" not in path.name)))
    _, problems = inspect_folder(tmp_path, columns=Columns(mask_inverted=True))
    assert [(p.code, p.file) for p in problems] == [("mask-empty", "masks/s3.png")]


# --- EXIF ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exif", [2, 3, 6, 8])
def test_exif_of_square_images_is_settled_by_the_tissue(tmp_path: Path, exif: int) -> None:
    cohort, notes = read(draw_cohort(tmp_path / "stored", write_0_255, exif=exif))
    check_masks(cohort, turn=exif)
    assert "EXIF orientation: 8 masks" in notes
    assert "data.mask_exif=stored" in notes
    turned = draw_cohort(
        tmp_path / "turned", lambda path, glands: write_0_255(path, images.turn_plane(glands, exif)), exif=exif
    )
    cohort, notes = read(turned)
    check_masks(cohort, turn=exif)
    assert "data.mask_exif=turned" in notes


def test_exif_of_square_images_is_asked_about_where_the_tissue_does_not_tell(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        rng = np.random.default_rng(int(path.stem[1:]))  # has nothing to do with the tissue
        Image.fromarray((cv2.blur(rng.random(glands.shape), (9, 9)) > 0.5).astype(np.uint8)).save(path)

    question = the_question(draw_cohort(tmp_path, write, exif=6, glass=False), "mask-exif")
    assert "EXIF" in question.message
    assert "mask_exif=stored" in question.fix
    assert "mask_exif=turned" in question.fix
    few = draw_cohort(tmp_path / "few", write_0_255, exif=6, n=4)
    the_question(few, "mask-exif")
    check_masks(read(few, mask_exif="stored")[0], turn=6)
    assert [n for n in range(1, 9) if is_clear(n, n)] == [7, 8]


def test_exif_of_oblong_images_is_settled_by_size(tmp_path: Path) -> None:
    cohort, notes = read(draw_cohort(tmp_path, write_0_255, exif=6, width=140))
    check_masks(cohort, turn=6, width=140)
    assert "EXIF orientation: 8 masks" in notes
    _, problems = inspect_folder(tmp_path, columns=Columns(mask_exif="turned"))
    sizes = [p for p in problems if p.code == "mask-size"]
    assert len(sizes) == N
    assert all("EXIF orientation 6" in p.message for p in sizes)


# --- size ---------------------------------------------------------------------------------------------------------


def test_masks_that_are_all_one_pixel_short_are_one_question(tmp_path: Path) -> None:
    question = the_question(
        draw_cohort(tmp_path, lambda path, glands: write_0_255(path, glands[:-1, :-1])), "mask-size"
    )
    assert (
        "is 95 x 95 px, its image images/s0.png is 96 x 96 px; the 7 other masks differ by the same" in question.message
    )
    assert "mask_fit=pad" in question.fix
    assert "mask_fit=stretch" in question.fix
    cohort, notes = read(tmp_path, mask_fit="pad")
    assert "8 masks such as masks/s0.png" in notes
    for i, sample in enumerate(cohort.labelled):
        wanted = np.pad(draw(i)[1][:-1, :-1], ((0, 1), (0, 1))) > 0
        np.testing.assert_array_equal(read_sample_mask(sample, (96, 96)), wanted)


def test_masks_of_half_the_size_may_be_stretched_and_others_not(tmp_path: Path) -> None:
    draw_cohort(tmp_path, lambda path, glands: write_0_255(path, glands[::2, ::2]))
    _, problems = inspect_folder(tmp_path)
    assert {p.code for p in problems if not p.warning} >= {"mask-size"}
    assert "mask_fit=stretch" in problems[0].fix
    cohort, _ = read(tmp_path, mask_fit="stretch")
    wanted = np.repeat(np.repeat(draw(0)[1][::2, ::2] > 0, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(read_sample_mask(cohort.labelled[0], (96, 96)), wanted)
    _, problems = inspect_folder(tmp_path, columns=Columns(mask_fit="pad"))
    assert {p.code for p in problems if not p.warning} >= {"mask-size"}


# --- which masks are used -----------------------------------------------------------------------------------------


def test_masks_elsewhere_are_found_and_what_is_not_used_is_said(tmp_path: Path) -> None:
    draw_cohort(tmp_path / "a", write_0_255, name="train_label_masks/{}_mask.png")
    (tmp_path / "a" / "images").rename(tmp_path / "a" / "train_images")
    table = tmp_path / "a" / "labels.csv"
    table.write_text(table.read_text().replace("images/", ""))
    cohort, notes = read(tmp_path / "a")
    check_masks(cohort)
    assert "masks: train_label_masks/ (8)" in notes
    draw_cohort(tmp_path / "b", write_0_255, name="masks/x{}.png")
    cohort, problems = inspect_folder(tmp_path / "b")
    assert cohort is not None
    assert all(s.mask_path is None for s in cohort.labelled)
    assert [(p.code, p.file, p.warning) for p in problems] == [("mask-without-image", "masks/xs0.png", True)]
    assert "7 more in masks/" in problems[0].message


@pytest.mark.parametrize("layout", ["table", "class-folders", "column"])
def test_several_masks_of_an_image_are_united(tmp_path: Path, layout: str) -> None:
    def write(path: Path, glands: Plane) -> None:
        for number in (1, 2, 3):
            name = path.parent / f"{path.stem}_mask_{number}.png"
            Image.fromarray((glands == number).astype(np.uint8) * 255).save(name)

    draw_cohort(tmp_path, write)
    if layout == "class-folders":
        (tmp_path / "labels.csv").unlink()
        for i in range(N):
            for old in (tmp_path / f"images/s{i}.png", *(tmp_path / "masks").glob(f"s{i}_*")):
                new = tmp_path / "AB"[i % 2] / old.name
                new.parent.mkdir(exist_ok=True)
                old.rename(new)
    elif layout == "column":
        rows = [f"images/s{i}.png,{'AB'[i % 2]},{';'.join(f's{i}_mask_{n}.png' for n in (1, 2, 3))}" for i in range(N)]
        (tmp_path / "labels.csv").write_text("\n".join(["image,label,mask", *rows]) + "\n")
    cohort, notes = read(tmp_path)
    assert cohort.layout == ("class-folders" if layout == "class-folders" else "table")
    assert all(len(s.mask_files) == 3 for s in cohort.labelled)
    assert "several masks are united for 8 images, such as 3 for" in notes
    for sample in cohort.labelled:
        wanted = draw(int(Path(sample.image).stem[1:]))[1] > 0
        np.testing.assert_array_equal(read_sample_mask(sample, (96, 96)), wanted)


def test_a_damaged_file_of_several_is_named(tmp_path: Path) -> None:
    def write(path: Path, glands: Plane) -> None:
        for number in (1, 2):
            write_0_255(path.parent / f"{path.stem}_mask_{number}.png", (glands == number).astype(np.uint8))

    draw_cohort(tmp_path, write)
    broken = tmp_path / "masks/s2_mask_2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    _, problems = inspect_folder(tmp_path)
    assert [(p.code, p.file, p.images) for p in problems] == [
        ("mask-unreadable", "masks/s2_mask_2.png", ("images/s2.png",))
    ]
