"""A mask is where something is marked: values as stored, levels, several files, turned and fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from smalti import images
from smalti.cohort.masks.pairing import is_mask_folder, pair_masks
from smalti.errors import DataError
from smalti.records import identify_mask
from smalti.types import MaskReading, Sample

Plane = NDArray[np.uint8]
H, W = 60, 80


def draw_labels(count: int = 6, *, height: int = H, width: int = W, radius: int = 7) -> Plane:
    """Discs numbered 1, 2, ... on 0."""
    rng = np.random.default_rng(3)
    plane = np.zeros((height, width), np.uint8)
    for number in range(1, count + 1):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(plane, at, radius, number, -1)
    return plane


def measure_iou(found: Plane, wanted: NDArray[np.bool_]) -> float:
    return float((found.astype(bool) & wanted).sum() / (found.astype(bool) | wanted).sum())


def save(path: Path, plane: NDArray[np.generic], **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(plane).save(path, **how)  # type: ignore[arg-type]  # options of any format
    return path


# --- values -------------------------------------------------------------------------------------------------------


def write_plain(path: Path, labels: Plane) -> None:
    save(path.with_suffix(".png"), labels)


def write_red(path: Path, labels: Plane) -> None:
    save(path.with_suffix(".png"), np.dstack([labels > 0, labels * 0, labels * 0]).astype(np.uint8))


def write_colours(path: Path, labels: Plane) -> None:
    colours = np.array([(0, 0, 0), (0, 0, 9), (0, 80, 0), (200, 0, 0), (1, 0, 0), (9, 9, 9), (0, 0, 255)], np.uint8)
    save(path.with_suffix(".png"), colours[labels])


def write_palette(path: Path, labels: Plane) -> None:
    image = Image.fromarray(labels, mode="P")
    image.putpalette([255, 255, 255, 200, 0, 0, 0, 0, 0] + [0] * 759)
    image.save(path.with_suffix(".png"))


def write_palette_tiff(path: Path, labels: Plane) -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 0] = 65535
    tifffile.imwrite(path.with_suffix(".tif"), labels, photometric="palette", colormap=colours)


def write_white_is_zero(path: Path, labels: Plane) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), (labels > 0).astype(np.uint8) * 255, photometric="miniswhite")


def write_wide_white_is_zero(path: Path, labels: Plane) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), labels.astype(np.uint16) * 500, photometric="miniswhite")


def write_bits(path: Path, labels: Plane) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), labels > 0, photometric="miniswhite")


def write_wide(path: Path, labels: Plane) -> None:
    save(path.with_suffix(".png"), np.where(labels > 0, labels.astype(np.uint16) + 3000, 0).astype(np.uint16))


def write_integers(path: Path, labels: Plane) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), labels.astype(np.int32) * 70000)


def write_floats(path: Path, labels: Plane) -> None:
    tifffile.imwrite(path.with_suffix(".tif"), labels.astype(np.float32) / 6)


def write_opacity(path: Path, labels: Plane) -> None:
    save(path.with_suffix(".png"), np.dstack([labels * 0] * 3 + [(labels > 0).astype(np.uint8) * 255]))


def write_planes(path: Path, labels: Plane) -> None:
    colour = np.stack([labels * 0, labels, labels * 0])
    tifffile.imwrite(path.with_suffix(".tif"), colour, photometric="rgb", planarconfig="separate")


@pytest.mark.parametrize(
    "write",
    [write_plain, write_red, write_colours, write_palette, write_palette_tiff, write_white_is_zero,
     write_wide_white_is_zero, write_bits, write_wide, write_integers, write_floats, write_opacity, write_planes],
)  # fmt: skip
def test_every_value_but_0_is_mask(tmp_path: Path, write: object) -> None:
    labels = draw_labels()
    write(tmp_path / "m", labels)  # type: ignore[operator]  # one of the writers
    (path,) = tmp_path.iterdir()
    mask, grey = images.read_mask(path)
    np.testing.assert_array_equal(mask, labels > 0)
    assert not grey
    thinned, _ = images.read_mask(path, most_px=H * W // 4)
    np.testing.assert_array_equal(thinned, labels[::2, ::2] > 0)


@pytest.mark.parametrize("radius", [2, 3, 12])
def test_many_small_instances_are_labels_and_no_levels(tmp_path: Path, radius: int) -> None:
    labels = draw_labels(200, height=400, width=400, radius=radius)
    mask, grey = images.read_mask(save(tmp_path / "m.png", labels))
    np.testing.assert_array_equal(mask, labels > 0)
    assert not grey


def test_noise_of_compression_and_soft_edges_are_no_mask(tmp_path: Path) -> None:
    wanted = draw_labels(radius=30, height=300, width=400) > 0
    plane = wanted.astype(np.uint8) * 255
    save(tmp_path / "q50.jpg", plane, quality=50)
    save(tmp_path / "q95.jpg", np.dstack([plane, plane * 0, plane * 0]), quality=95)
    save(tmp_path / "again.png", np.asarray(Image.open(tmp_path / "q50.jpg")))
    save(tmp_path / "soft.png", cv2.GaussianBlur(plane, (0, 0), 2))
    save(tmp_path / "drawn.png", cv2.resize(cv2.resize(plane, (1600, 1200)), (400, 300), interpolation=cv2.INTER_AREA))
    save(tmp_path / "maybe.png", (255 - cv2.GaussianBlur(255 - plane, (0, 0), 40) // 2 * 2).astype(np.uint8))
    for path in sorted(tmp_path.iterdir()):
        mask, grey = images.read_mask(path)
        assert grey, path.name
        if path.name != "maybe.png":  # a map so smooth has no edge
            assert measure_iou(mask, wanted) > 0.96, path.name
        else:
            levels = np.asarray(Image.open(path))
            np.testing.assert_array_equal(mask, levels >= (int(levels.min()) + int(levels.max())) / 2)


def test_classes_in_a_jpeg_are_above_its_noise(tmp_path: Path) -> None:
    plane = np.zeros((300, 400), np.uint8)
    plane[40:160, 50:200], plane[100:260, 220:380] = 127, 254
    mask, grey = images.read_mask(save(tmp_path / "m.jpg", plane, quality=75))
    assert grey
    assert measure_iou(mask, plane > 0) > 0.99


def test_a_recipe_names_values_or_colours(tmp_path: Path) -> None:
    labels = draw_labels()
    write_plain(tmp_path / "plain", labels)
    write_palette(tmp_path / "palette", labels)
    write_colours(tmp_path / "colours", labels)

    def read(name: str, *values: int | str, **how: object) -> Plane:
        reading = MaskReading(values=values, **how)  # type: ignore[arg-type]  # each of its kind
        return images.read_mask(tmp_path / f"{name}.png", reading=reading)[0]

    np.testing.assert_array_equal(read("plain", 2, 5), np.isin(labels, (2, 5)))
    np.testing.assert_array_equal(read("plain", 2, 5, inverted=True), ~np.isin(labels, (2, 5)))
    np.testing.assert_array_equal(read("palette", 1), labels == 1)
    np.testing.assert_array_equal(read("palette", "#c80000"), labels == 1)
    np.testing.assert_array_equal(read("colours", "#c80000", "#0000ff"), np.isin(labels, (3, 6)))
    np.testing.assert_array_equal(read("colours", 80), labels == 2)


# --- several files, turns, sizes ----------------------------------------------------------------------------------


def test_several_files_are_one_mask(tmp_path: Path) -> None:
    labels = draw_labels()
    paths = [save(tmp_path / f"{n}.png", (labels == n).astype(np.uint8)) for n in range(1, 7)]
    reading = MaskReading(more=tuple(paths[1:]))
    np.testing.assert_array_equal(images.read_mask(paths[0], reading=reading)[0], labels > 0)
    facts = images.survey_mask(paths[0], reading=reading)
    assert facts.marked_frac == (labels > 0).mean()
    sample = Sample("a", paths[0], paths[0], "x", "a", "a", mask_reading=reading)
    assert sample.mask_files == tuple(paths)
    hashes = {path: path.name for path in paths}
    before = identify_mask(sample, hashes)
    assert identify_mask(sample, hashes | {paths[3]: "other"}) != before
    assert identify_mask(replace(sample, mask_reading=replace(reading, inverted=True)), hashes) != before
    save(paths[2], labels[:-1])
    with pytest.raises(DataError, match=r"3\.png: is 59 x 80 px, and 1\.png, of the same mask, 60 x 80 px"):
        images.read_mask(paths[0], reading=reading)


@settings(max_examples=16, deadline=None)
@given(orientation=st.integers(1, 8), suffix=st.sampled_from(["png", "tif"]))
def test_a_mask_is_turned_as_its_image_is(
    tmp_path_factory: pytest.TempPathFactory, orientation: int, suffix: str
) -> None:
    labels = draw_labels()
    note = Image.Exif()
    note[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(_give_note(labels, note)))
    path = save(tmp_path_factory.mktemp("m") / f"m.{suffix}", labels)
    reading = MaskReading(orientation=orientation)
    np.testing.assert_array_equal(images.read_mask(path, reading=reading)[0], turned > 0)
    np.testing.assert_array_equal(images.turn_plane(labels, orientation), turned)
    assert images.read_mask_size(path, reading=reading) == turned.shape


def _give_note(labels: Plane, note: Image.Exif) -> Image.Image:
    image = Image.fromarray(labels)
    image.getexif().update(dict(note))
    return image


@pytest.mark.parametrize("most_px", [None, 5 * H * W // 16])
def test_a_mask_is_brought_to_the_size_of_its_image(tmp_path: Path, most_px: int | None) -> None:
    labels = draw_labels()
    step = 1 if most_px is None else 2
    short = save(tmp_path / "short.png", labels[:-1, :-1].copy())
    long = save(tmp_path / "long.png", np.pad(labels, ((0, 1), (0, 2)), constant_values=1))
    half = save(tmp_path / "half.png", labels[::2, ::2].copy())
    wanted = (labels > 0).copy()
    fitted = MaskReading(fit="pad", size_px=(H, W))
    np.testing.assert_array_equal(images.read_mask(long, reading=fitted, most_px=most_px)[0], wanted[::step, ::step])
    wanted[-1], wanted[:, -1] = False, False
    np.testing.assert_array_equal(images.read_mask(short, reading=fitted, most_px=most_px)[0], wanted[::step, ::step])
    stretched = MaskReading(fit="stretch", size_px=(H, W))
    found, _ = images.read_mask(half, reading=stretched, most_px=most_px)
    assert found.shape == (H // step, W // step)
    assert measure_iou(found, np.repeat(np.repeat(labels[::2, ::2] > 0, 2, 0), 2, 1)[::step, ::step]) == 1
    assert images.read_mask_size(half, reading=stretched) == (H, W)


# --- which mask belongs to which image ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("images/a.png", ["masks/a.png"]),
        ("train_images/a.png", ["train_label_masks/a_mask.png"]),
        ("img/a.png", ["gt/a.png"]),
        ("Images/a.jpg", ["Labels/a.tif"]),
        ("Images/a.jpg", ["Ground Truth/a_gt.png"]),
        ("Images/a.jpg", ["GroundTruth/a.png"]),
        ("train/images/a.png", ["train/masks/a.png"]),
        ("images/train/a.png", ["annotations/train/a.png"]),
        ("benign/a.png", ["segmentation/benign/a_seg.png"]),
        ("testA_1.bmp", ["testA_1_anno.bmp"]),
        ("b [x=1,y=2,w=3,h=4].png", ["b [x=1,y=2,w=3,h=4]-labelled.png"]),
        ("benign/benign (1).png", ["benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"]),
        ("images/a.png", ["masks/a/1.png", "masks/a/2.png"]),
        ("stage1/q/images/q.png", ["stage1/q/masks/5.png", "stage1/q/masks/6.png"]),
        ("img_0001.png", ["mask_0001.png"]),
        ("image_1.png", ["label_1.png"]),
        ("1_image.png", ["1_mask.png"]),
        ("slides/x/a.png", ["masks/a.png"]),
        ("imagesTr/a.png", ["labelsTr/a.png"]),
        ("JPEGImages/a.jpg", ["SegmentationClass/a.png"]),
        ("images/a.jpg", ["mask_images/a.png"]),
        ("images/a.ome.tif", ["masks/a.png"]),
        ("images/a.ome.tif", ["masks/a_mask.ome.tif"]),
        ("images/a.png", ["masks/a.ome.tiff"]),
        ("a.ome.tif", ["a_seg.png"]),
        ("images/a.jpg", ["masks/a.jpg.png"]),
        ("images/a.png", ["masks/a.png.mask.png"]),
        ("slides/x/a.ome.tif", ["masks/a.png"]),
    ],
)
def test_masks_are_found_under_usual_names(image: str, masks: list[str]) -> None:
    pairs = pair_masks([image, *masks])
    assert pairs.of == {image: tuple(masks)}
    assert pairs.names == set(masks)


def test_what_is_no_mask_and_whose_it_is_not() -> None:
    names = [
        "train/0.png",
        "test_masks/0.png",
        "masked/1.png",
        "mask free/3.png",
        "labels of day 1/2.png",
        "a_label.png",
        "b/masks/9.png",
    ]
    pairs = pair_masks(names)
    assert pairs.of == {}
    assert pairs.names == {"test_masks/0.png", "b/masks/9.png"}
    both = pair_masks(["images/a.png", "annotations/a.png", "masks/a.png"])
    assert both.of == {"images/a.png": ("masks/a.png",)}
    assert both.names == {"annotations/a.png", "masks/a.png"}
    assert not any(map(is_mask_folder, ("benign", "images", "train", "truth", "unmasked", "malignant")))
