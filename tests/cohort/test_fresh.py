"""Folders of new images: any layout or none, masks, cases, and what is wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smalti.cohort import Columns, list_fresh
from smalti.errors import DataError
from textures import draw_mask, draw_texture, write_lines


def draw(folder: Path, *names: str, mask: bool = False) -> Path:
    """Textures by these names; with ``mask`` masks beside them."""
    rng = np.random.default_rng(len(names))
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = draw_texture("A", rng)
        Image.fromarray(pixels).save(path)
        if mask:
            Image.fromarray(draw_mask(pixels.shape[:2])).save(path.with_name(f"{path.stem}_mask.png"))
    return folder


def test_all_images_of_a_folder_without_labels_are_listed(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "deep/d.jpg", "deep/er/c.png"]
    fresh = list_fresh(draw(tmp_path, *names[::-1]))
    assert [sample.image for sample in fresh.samples] == names
    assert all(sample.case == sample.image for sample in fresh.samples)
    assert fresh.wrong == {}


def test_masks_are_no_images_and_are_given_to_them(tmp_path: Path) -> None:
    fresh = list_fresh(draw(tmp_path, "a.png", "b.png", mask=True))
    assert [sample.image for sample in fresh.samples] == ["a.png", "b.png"]
    assert [sample.mask_path for sample in fresh.samples] == [tmp_path / "a_mask.png", tmp_path / "b_mask.png"]


def test_a_mask_that_marks_nothing_is_told_of_its_image(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png", mask=True)
    with Image.open(tmp_path / "a_mask.png") as mask:
        Image.new("L", mask.size).save(tmp_path / "a_mask.png")
    fresh = list_fresh(tmp_path)
    assert list(fresh.wrong) == ["a.png"]
    assert "marks nothing" in fresh.wrong["a.png"]


def test_a_data_folder_keeps_its_labels_and_cases(challenge: Path) -> None:
    fresh = list_fresh(challenge)
    assert len(fresh.samples) == 30
    assert sum(sample.label is not None for sample in fresh.samples) == 24
    assert fresh.samples[0].case == fresh.samples[1].case == "p0"


def test_of_class_folders_no_image_is_forgotten(tmp_path: Path) -> None:
    names = [f"{label}/{n}.png" for label in ("tumour", "normal") for n in range(3)]
    fresh = list_fresh(draw(tmp_path, *names, "loose.png"))
    assert {sample.image: sample.label for sample in fresh.samples} == {name: name.split("/")[0] for name in names} | {
        "loose.png": None
    }


def test_a_table_of_images_and_cases_is_read(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png", "c.png")
    write_lines(tmp_path / "cases.csv", "image,case", "a.png,p", "b.png,p", "c.png,q")
    assert [sample.case for sample in list_fresh(tmp_path).samples] == ["p", "p", "q"]


def test_an_image_that_the_table_names_and_the_folder_lacks_is_told(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{n}.png" for n in range(4)))
    rows = [f"{n}.png,{'AB'[n % 2]}" for n in range(5)]
    write_lines(tmp_path / "labels.csv", "image,label", *rows)
    fresh = list_fresh(tmp_path)
    assert len(fresh.samples) == 4
    assert [image for image in fresh.wrong if image.startswith("4")]


def test_an_image_that_the_cases_name_and_the_folder_lacks_is_told(tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b.png")
    write_lines(tmp_path / "cases.csv", "image,case", "a.png,p", "b.png,p", "gone.png,q")
    assert list(list_fresh(tmp_path).wrong) == ["gone.png"]


def test_a_guess_of_sites_is_switched_off_and_no_measure_is_a_site(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{n}.png" for n in range(6)))
    for value in ("xy", ("0.5", "1.0")):
        rows = [f"{n}.png,{'AB'[n % 2]},p{n},{value[n % 2]}" for n in range(6)]
        write_lines(tmp_path / "labels.csv", "image,label,case,scanner", *rows)
        guessed = {sample.site for sample in list_fresh(tmp_path).samples}
        assert guessed == ({"x", "y"} if value == "xy" else {""})
        assert {sample.site for sample in list_fresh(tmp_path, columns=Columns(site="none")).samples} == {""}


def test_no_folder_no_image_and_an_open_question_are_errors(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=r"Fix: "):
            list_fresh(place)
    with pytest.raises(DataError, match=r"labels.csv"):
        list_fresh(draw(tmp_path, "a.png"), columns=Columns(table="labels.csv", label="grade"))


def test_nothing_is_decoded_where_there_are_no_masks(tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    assert list_fresh(tmp_path).wrong == {}
    assert len(list_fresh(tmp_path).samples) == 2
