"""One picture written in every way, and what is right about each: pages, planes, bits, opacity, microns, levels."""

from __future__ import annotations

import csv
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from smalti import images
from smalti.audit import audit_cohort
from smalti.cohort import Columns, inspect_folder, read_cohort
from smalti.errors import DataError
from smalti.images import slides
from smalti.recipe import Tile
from smalti.review.serving import Pictures
from smalti.types import Cohort, Sample
from smalti.workflow.prepare.settling import refuse_unscaled

H, W = 96, 112
RGB, GREY = {"photometric": "rgb"}, {"photometric": "minisblack"}
Pixels = NDArray[np.uint8]


def draw(seed: int = 0, *, height: int = H, width: int = W) -> Pixels:
    """Smooth colours with grain; channels differ, so that a swapped or shifted one shows."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 5).astype(float)
    tinted = (smooth - smooth.min()) / np.ptp(smooth) * [120, 60, 90] + [120, 40, 130] + rng.normal(0, 3, smooth.shape)
    return np.clip(tinted, 0, 255).astype(np.uint8)


TRUTH = draw()
TWELVE = (TRUTH.astype(np.uint16) << 4) | 7
WIDE = (TRUTH.astype(np.uint16) << 8) | np.random.default_rng(1).integers(0, 256, TRUTH.shape).astype(np.uint16)
FULL = np.full((H, W, 1), 255, np.uint8)


def planes(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(pixels, 2, 0)


def write_pages(path: Path, *pages: tuple[NDArray[Any], dict[str, Any]]) -> None:
    with tifffile.TiffWriter(path) as writer:
        for pixels, how in pages:
            writer.write(pixels, **how)


SEPARATE = {**RGB, "planarconfig": "separate"}
OTHER_PAGE = {**RGB, "metadata": None}
TAGGED = [{**GREY, "metadata": None, "extratags": [(285, "s", 0, name, True)]} for name in ("Blue", "Green", "Red")]
TIFFS: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "chunky": (TRUTH, RGB),
    "tiles, BigTIFF": (TRUTH, {**RGB, "tile": (32, 48), "bigtiff": True}),
    "planes": (planes(TRUTH), SEPARATE),
    "planes in strips": (planes(TRUTH), {**SEPARATE, "rowsperstrip": 7}),
    "planes in tiles, LZW": (planes(TRUTH), {**SEPARATE, "tile": (32, 32), "compression": "lzw", "predictor": True}),
    "16 bits": (WIDE, RGB),
    "16 bits, big-endian": (WIDE, {**RGB, "byteorder": ">"}),
    "16 bits, planes": (planes(WIDE), SEPARATE),
    "16 bits, planes, big-endian, LZW": (planes(WIDE), {**SEPARATE, "byteorder": ">", "compression": "lzw"}),
    "16 bits, deflate": (WIDE, {**RGB, "compression": "zlib", "predictor": True}),
    "12 bits in 16": (TWELVE, RGB),
    "12 bits in 16, planes in tiles": (planes(TWELVE), {**SEPARATE, "tile": (32, 32), "compression": "zlib"}),
    "12 bits packed": (TWELVE, {**RGB, "bitspersample": 12}),
    "10 bits in 16": (TRUTH.astype(np.uint16) << 2, RGB),
    "opacity": (np.dstack([TRUTH, FULL]), {**RGB, "extrasamples": ["unassalpha"]}),
    "opacity never filled": (np.dstack([TRUTH, FULL * 0]), {**RGB, "extrasamples": ["unassalpha"]}),
    "a sample of unknown kind": (np.dstack([TRUTH, FULL // 3]), {**RGB, "extrasamples": ["unspecified"]}),
    "five samples": (np.dstack([TRUTH, FULL // 3, FULL // 2]), RGB),
    "channels of OME": (planes(TRUTH), {**GREY, "metadata": {"axes": "CYX"}, "ome": True}),
    "named channels": (
        planes(TRUTH)[::-1],
        {**GREY, "ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": ["Blue", "G", "red"]}}},
    ),
    "counted channels": (
        planes(TRUTH),
        {**GREY, "ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": ["Channel 1", "Channel 2", "C:2"]}}},
    ),
    "values that are called grey": (TRUTH, {**GREY, "planarconfig": "contig", "metadata": None}),
    "planes that are called grey": (planes(WIDE), {**GREY, "planarconfig": "separate", "metadata": None}),
    "channels of ImageJ": (planes(TRUTH), {"imagej": True, "metadata": {"axes": "CYX", "mode": "composite"}}),
    **{
        name: (TRUTH, {**RGB, "compression": name, "compressionargs": how})
        for name, how in {
            "zstd": {}, "lzma": {}, "lerc": {}, "packbits": {}, "png": {}, "jpegxl": {},
            "jpeg2000": {}, "webp": {"lossless": True},
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("way", TIFFS)
def test_every_way_to_write_a_picture_is_read_exactly(tmp_path: Path, way: str) -> None:
    pixels, how = TIFFS[way]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, **how)
    np.testing.assert_array_equal(images.read_image(path), TRUTH)
    assert images.read_size(path) == images.check_image(path) == (H, W)
    part = images.read_region(path, 20, 33, height_px=50, width_px=61)
    np.testing.assert_array_equal(part, TRUTH[20:70, 33:94])


def test_pages_of_one_colour_each_are_put_together_by_their_names(tmp_path: Path) -> None:
    write_pages(tmp_path / "a.tif", *zip(planes(TRUTH)[::-1].copy(), TAGGED, strict=True))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), TRUTH)


def test_wide_png_keeps_what_lies_below_the_high_byte(tmp_path: Path) -> None:
    for name, pixels, wanted in (
        ("wide", WIDE, TRUTH),
        ("twelve", TWELVE, TRUTH),
        ("grey", TWELVE[..., 0], np.repeat(TRUTH[..., :1], 3, axis=2)),
        ("unfilled", np.dstack([WIDE, 0 * WIDE[..., :1]]), TRUTH),
    ):
        bgr = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        cv2.imwrite(str(tmp_path / f"{name}.png"), bgr)
        np.testing.assert_array_equal(images.read_image(tmp_path / f"{name}.png"), wanted, err_msg=name)
    whole = (tmp_path / "wide.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.png.*Fix: "):
        images.check_image(tmp_path / "cut.png")


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
def test_wide_jpeg_2000_is_read_by_its_bits(tmp_path: Path, suffix: str) -> None:
    """White is 255: Pillow rounds 65535 up to 65536, which is black."""
    path = tmp_path / f"a.{suffix}"
    for pixels, bits, wanted in (
        (WIDE, 16, TRUTH),
        (TWELVE, 12, TRUTH),
        (np.full_like(WIDE, 65535), 16, np.full_like(TRUTH, 255)),
        (np.dstack([WIDE, np.full_like(WIDE[..., :1], 65535)]), 16, TRUTH),
        (TRUTH, 8, TRUTH),
    ):
        path.write_bytes(imagecodecs.jpeg2k_encode(pixels, bitspersample=bits, reversible=True, codecformat=suffix))
        largest: dict[Path, int] = {}
        np.testing.assert_array_equal(images.read_image(path), wanted, err_msg=str(bits))
        assert images.check_image(path, largest=largest) == (H, W)
        assert bool(largest) == (bits == 16)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"a\.{suffix}.*Fix: "):
        images.check_image(path)


def test_jpeg_in_tiff_equals_another_decoder(tmp_path: Path) -> None:
    """libtiff in Pillow, and libjpeg-turbo in OpenCV, on subsampled YCbCr in tiles and strips."""
    how = {**RGB, "compression": "jpeg", "compressionargs": {"level": 95}}
    for name, more in (("22", {"subsampling": (2, 2), "tile": (32, 32)}), ("21", {"subsampling": (2, 1)})):
        tifffile.imwrite(tmp_path / f"{name}.tif", TRUTH, **how, **more)
    Image.fromarray(TRUTH).save(tmp_path / "pillow.tif", compression="jpeg", quality=90)
    for path in tmp_path.iterdir():
        ours = images.read_image(path).astype(int)
        with Image.open(path) as image:
            assert np.abs(ours - np.asarray(image.convert("RGB"))).max() <= 1, path
        assert np.abs(ours - cv2.imread(str(path))[..., ::-1]).max() <= 1, path
        assert np.abs(ours - TRUTH).mean() < 4, path


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr"])
def test_kinds_of_colour_are_those_of_pillow(tmp_path: Path, mode: str) -> None:
    Image.fromarray(TRUTH).convert(mode).save(tmp_path / "a.tif", **({"compression": "group4"} if mode == "1" else {}))
    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), np.asarray(image.convert("RGB")))


def test_white_is_zero_alike_for_8_and_16_bits_and_opacity_by_its_kind(tmp_path: Path) -> None:
    grey, wide = TRUTH[..., 1], WIDE[..., 1]
    for name, values in (("8", 255 - grey), ("16", 65535 - wide)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="miniswhite")
        np.testing.assert_array_equal(images.read_image(tmp_path / f"{name}.tif")[..., 2], grey)
    half = np.full((H, W, 1), 128, np.uint8)
    over = TRUTH * (128 / 255) + 127
    for kind, pixels in (("unassalpha", TRUTH), ("assocalpha", np.round(TRUTH * (128 / 255)).astype(np.uint8))):
        tifffile.imwrite(tmp_path / "a.tif", np.dstack([pixels, half]), **RGB, extrasamples=[kind])
        np.testing.assert_allclose(images.read_image(tmp_path / "a.tif"), over, atol=1.01, err_msg=kind)


REDUCED = {**OTHER_PAGE, "subfiletype": 1}
SMALL, CROP = TRUTH[::4, ::4].copy(), TRUTH[:80, :80].copy()
STACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "focal planes": (
        lambda p: tifffile.imwrite(p, np.stack([TRUTH] * 3), imagej=True, metadata={"axes": "ZYXS"}),
        "3 focal planes",
    ),
    "time": (
        lambda p: tifffile.imwrite(p, np.stack([TRUTH] * 2), imagej=True, metadata={"axes": "TYXS"}),
        "2 points in time",
    ),
    "colour pages": (lambda p: tifffile.imwrite(p, np.stack([TRUTH] * 3), **RGB), "3 pictures of one size: pages 1 to"),
    "grey pages": (lambda p: tifffile.imwrite(p, planes(TRUTH), **GREY), "nothing calls red, green and blue: pages 1"),
    "fluorescence": (
        lambda p: tifffile.imwrite(
            p, planes(TRUTH), **GREY, ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}
        ),
        r"channels \(DAPI, FITC, Cy5\)",
    ),
    "four values a pixel": (
        lambda p: tifffile.imwrite(p, np.dstack([TRUTH, FULL // 3]), **GREY, planarconfig="contig"),
        "4 values a pixel",
    ),
    "colours whose white is zero": (
        lambda p: tifffile.imwrite(p, TRUTH, photometric="miniswhite", planarconfig="contig"), "3 values a pixel"
    ),
    "four channels": (
        lambda p: tifffile.imwrite(p, np.stack([TRUTH[..., 0]] * 4), **GREY, ome=True, metadata={"axes": "CYX"}),
        "4 channels",
    ),
    "two pictures": (
        lambda p: write_pages(p, (TRUTH, OTHER_PAGE), (CROP, OTHER_PAGE)), r"page 1 \(96 x 112 px\) and page 2"
    ),
    "only reduced": (lambda p: write_pages(p, (SMALL, REDUCED), (SMALL[:9].copy(), REDUCED)), "only thumbnails"),
    "32 bits": (lambda p: tifffile.imwrite(p, TRUTH.astype(np.uint32) << 24, **RGB), "'uint32' .*range is not known"),
    "float": (lambda p: tifffile.imwrite(p, TRUTH.astype(np.float32) / 255, **RGB), "'float32' .*range is not known"),
    "signed": (lambda p: tifffile.imwrite(p, TRUTH.astype(np.int16), **RGB), "'int16' .*range is not known"),
    "Lab": (lambda p: Image.fromarray(TRUTH).convert("LAB").save(p), "colours of kind CIELAB"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STACKS)
def test_what_cannot_be_told_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    write, said = STACKS[kind]
    write(tmp_path / "a.tif")
    for read in (images.read_image, images.check_image):
        with pytest.raises(DataError, match=rf"a\.tif: .*{said}.*Fix: (save|export)"):
            read(tmp_path / "a.tif")


def test_the_main_picture_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    mask = TRUTH[..., 0] > 128
    write_pages(tmp_path / "reduced.tif", (SMALL, {**RGB, "subfiletype": 1}), (TRUTH, RGB))
    write_pages(tmp_path / "smaller.tif", (SMALL, OTHER_PAGE), (TRUTH, OTHER_PAGE))
    write_pages(
        tmp_path / "mask.tif",
        (TRUTH, OTHER_PAGE),
        (mask, {"photometric": "mask", "subfiletype": 4, "metadata": None}),
    )
    names = ("label image", "the slide", "macro image")
    how = [{**RGB, "metadata": {"axes": "YXS", "Name": name}} for name in names]
    write_pages(tmp_path / "multi.ome.tif", (CROP, how[0]), (TRUTH, how[1]), (CROP[:40].copy(), how[2]))
    for path in sorted(tmp_path.iterdir()):
        found: list[Any] = []
        assert images.check_image(path, doubts=found) == (H, W)
        np.testing.assert_array_equal(images.read_image(path), TRUTH, err_msg=path.name)
        assert [p.code for p in found] == ["page-chosen"], path
        assert "passed over: page" in found[0].message


def test_a_part_of_a_set_of_files_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", planes(TRUTH), **GREY, metadata={"axes": "CYX"})
    content = (tmp_path / "a.ome.tif").read_bytes()
    other = content.replace(b'<TiffData IFD="0" PlaneCount="3"/>', b'<TiffData IFD="7" PlaneCount="3"/>')
    assert other != content, "the fixture names its pages so"
    (tmp_path / "a.ome.tif").write_bytes(other)
    with pytest.raises(DataError, match=r"a\.ome\.tif: .*Fix: "):
        images.read_image(tmp_path / "a.ome.tif")


# --- regions, levels, held bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_of_a_turned_tiled_tiff_are_those_of_the_whole(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.tif"
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(path, TRUTH, **RGB, tile=(32, 32), extratags=tag)
    with Image.open(path) as image:
        image.load()  # Pillow turns it
        wanted = np.asarray(image)
    np.testing.assert_array_equal(images.read_image(path), wanted)
    with images.open_regions(path) as regions:
        assert regions.size_px == wanted.shape[:2]
        for row, col in ((0, 0), (13, 40), (50, 60)):
            part = regions.read(row, col, height_px=36, width_px=30)
            np.testing.assert_array_equal(part, wanted[row : row + 36, col : col + 30])


def test_a_large_picture_is_shrunk_from_its_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = draw(height=512, width=640)
    levels = [cv2.resize(large, (640 // n, 512 // n), interpolation=cv2.INTER_AREA) for n in (1, 2, 4)]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(large, **RGB, tile=(64, 64), subifds=2, metadata={"axes": "YXS"})
        for level in levels[1:]:
            writer.write(level, **RGB, tile=(64, 64), subfiletype=1)
    with images.open_stored(tmp_path / "a.ome.tif") as stored:
        assert stored is not None
        assert [level.size_px for level in stored.levels] == [(512, 640), (256, 320), (128, 160)]
    monkeypatch.setattr("smalti.images.regions.BAND_PX", 1000)
    reads: list[int] = []
    inner = images.stored.picture.Stored.read
    monkeypatch.setattr(
        images.stored.picture.Stored, "read", lambda s, box, level=0: reads.append(level) or inner(s, box, level=level)
    )
    small = images.read_thumbnail(tmp_path / "a.ome.tif", longest_px=160)
    assert reads == [2], "the smallest level that is fine enough"
    assert np.abs(small.astype(int) - levels[2]).max() <= 1
    part = images.read_region(tmp_path / "a.ome.tif", 128, 256, height_px=256, width_px=320, longest_px=80)
    assert part.shape == (64, 80, 3)
    assert np.abs(part.astype(int) - levels[2][32:96, 64:144]).max() <= 1


def test_held_bytes_are_what_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, planes(WIDE), **SEPARATE)
    with images.hold_files([path]):
        tifffile.imwrite(path, 0 * planes(WIDE), **SEPARATE)
        os.utime(path)
        np.testing.assert_array_equal(images.read_image(path), TRUTH)
    assert not images.read_image(path).any()


@pytest.mark.parametrize(("compression", "mark", "at"), [("jpeg", b"\xff\xc0", 5), ("jpeg2000", b"\xff\x51", 6)])
def test_a_strip_that_calls_itself_larger_is_not_decoded(
    tmp_path: Path, compression: str, mark: bytes, at: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TRUTH, **RGB, compression=compression)
    content = bytearray(path.read_bytes())
    place = content.index(mark) + at
    size = struct.pack(">HH", 60000, 60000) if compression == "jpeg" else struct.pack(">II", 60000, 60000)
    content[place : place + len(size)] = size
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: is damaged: .*60000.*Fix: "):
        images.read_image(path)


def test_decoders_say_nothing_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    buffer = BytesIO()
    tifffile.imwrite(buffer, planes(TRUTH), **GREY, ome=True, metadata={"axes": "CYX"}, compression="lzw")
    content = buffer.getvalue()
    rng = np.random.default_rng(0)
    for _ in range(80):
        spoilt = bytearray(content)
        for at in rng.integers(8, len(content), 5):
            spoilt[at] = rng.integers(0, 256)
        for at in rng.integers(len(content) - 1200, len(content), 5):
            spoilt[at] = rng.integers(0, 256)
        (tmp_path / "a.tif").write_bytes(spoilt)
        with suppress(DataError):
            assert images.read_image(tmp_path / "a.tif").ndim == 3
    assert capfd.readouterr() == ("", "")


# --- the bits of a cohort -----------------------------------------------------------------------------------------


def write_cohort(root: Path, pixels: list[NDArray[Any]], **how: Any) -> Path:
    root.mkdir(parents=True)
    rows = [("image", "label", "patient")]
    for i, values in enumerate(pixels):
        tifffile.imwrite(root / f"{i}.tif", values, **{**RGB, **how})
        rows.append((f"{i}.tif", "ab"[i % 2], f"P{i}"))
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def test_a_cohort_of_12_bits_is_read_by_them_and_says_so(tmp_path: Path) -> None:
    drawn = [draw(i) for i in range(4)]
    dark = drawn[3] // 3 + 70  # its own values need no more than 12 bits either
    drawn[3] = dark
    cohort = read_cohort(write_cohort(tmp_path / "d", [p.astype(np.uint16) * 16 for p in drawn]))
    assert {s.bits for s in cohort.samples} == {12}
    assert any("no value above 4095 in any of 4 images" in note for note in cohort.notes)
    for sample, wanted in zip(cohort.samples, drawn, strict=True):
        np.testing.assert_array_equal(images.read_image(sample.path, bits=sample.bits), wanted)
    full = read_cohort(write_cohort(tmp_path / "e", [p.astype(np.uint16) * 257 for p in drawn]))
    assert {s.bits for s in full.samples} == {16}
    assert not any("16-bit values" in note for note in full.notes)


def test_depths_that_differ_are_a_question_that_a_knob_answers(tmp_path: Path) -> None:
    drawn = [draw(i) for i in range(6)]
    mixed = [p.astype(np.uint16) * (16 if i < 2 else 257) for i, p in enumerate(drawn)]
    root = write_cohort(tmp_path / "d", mixed)
    _, problems = inspect_folder(root)
    (asked,) = (p for p in problems if p.code == "bits-mixed")
    assert not asked.warning
    assert asked.file == "0.tif"
    assert "data.bits=16" in asked.fix
    assert "data.bits=each" in asked.fix
    each = read_cohort(root, columns=Columns(bits="each"))
    assert [s.bits for s in each.samples] == [12, 12, 16, 16, 16, 16]
    assert {s.bits for s in read_cohort(root, columns=Columns(bits=16)).samples} == {16}
    found = [p for p in inspect_folder(root, columns=Columns(bits=12))[1] if p.code == "bits-exceeded"]
    assert [p.images for p in found] == [(f"{i}.tif",) for i in range(2, 6)]


def test_a_dark_image_is_dark_wherever_its_cohort_is_read(tmp_path: Path) -> None:
    """Alone it would be brightened; audit and review read it by the bits of the cohort."""
    drawn = [draw(i).astype(np.uint16) * 257 for i in range(4)]
    drawn[0] = drawn[0] // 32
    cohort = read_cohort(write_cohort(tmp_path / "d", drawn), columns=Columns(bits=16))
    audit = audit_cohort(cohort, checks=("blank",))
    assert audit.digest is not None
    assert audit.digest.image("0.tif").thumbnail.max() < 16
    assert images.read_image(cohort.samples[0].path).max() > 100, "by its own largest value"
    pictures = Pictures(cohort.root, bits={s.path: s.bits for s in cohort.samples})
    shown = np.asarray(Image.open(BytesIO(pictures.draw_picture(cohort.samples[0].path, longest_px=50))))
    assert shown.max() < 16


def test_bits_that_the_file_says_are_taken(tmp_path: Path) -> None:
    """16 significant bits are what writers put that do not know, and say nothing."""
    dark = TWELVE // 64  # of 12 bits: no value above 63
    how = {"metadata": {"axes": "YXS", "SignificantBits": 12}, "ome": True}
    tifffile.imwrite(tmp_path / "ome.tif", dark, **RGB, **how)
    tifffile.imwrite(tmp_path / "most.tif", dark, **RGB, extratags=[(281, "H", 3, (4095,) * 3, True)])
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(images.read_image(path), dark >> 4, err_msg=path.name)
    how["metadata"]["SignificantBits"] = 16
    tifffile.imwrite(tmp_path / "sixteen.tif", TWELVE, **RGB, **how)
    np.testing.assert_array_equal(images.read_image(tmp_path / "sixteen.tif"), TRUTH)
    how["metadata"]["SignificantBits"] = 10
    tifffile.imwrite(tmp_path / "wrong.tif", TWELVE, **RGB, **how)
    with pytest.raises(DataError, match=r"wrong\.tif: says that it uses 10 bits, and has values up to"):
        images.check_image(tmp_path / "wrong.tif")


# --- plausible pictures -------------------------------------------------------------------------------------------


def test_an_opacity_that_was_never_filled_is_told_once_and_not_held_against_images(tmp_path: Path) -> None:
    rows = [("image", "label", "patient")]
    for i in range(6):
        pixels = draw(i)
        Image.fromarray(np.dstack([pixels, FULL * 0]) if i % 3 == 0 else pixels).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", "ab"[i % 2], f"P{i}"))
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    cohort, problems = inspect_folder(tmp_path)
    assert cohort is not None
    assert [note for note in cohort.notes if note.startswith("alpha-zero (2): 0.png has an opacity of 0 everywhere")]
    assert all(p.warning and not p.images for p in problems)
    for i, sample in enumerate(cohort.samples):
        np.testing.assert_array_equal(images.read_image(sample.path), draw(i))
        np.testing.assert_array_equal(
            images.read_region(sample.path, 5, 7, height_px=9, width_px=8), draw(i)[5:14, 7:15]
        )


def test_a_cohort_of_which_no_pixel_is_plausible_is_told(tmp_path: Path) -> None:
    spoil: dict[str, Callable[[Pixels], Pixels]] = {
        "black": lambda p: p // 16,
        "one colour": lambda p: np.full_like(p, 200),
        "blue is 255": lambda p: np.dstack([p[..., :2], FULL]),
    }
    for name, change in spoil.items():
        samples = []
        for i in range(3):
            path = tmp_path / f"{name} {i}.png"
            Image.fromarray(change(draw(i))).save(path)
            samples.append(Sample(path.name, path, None, "ab"[i % 2], path.name, path.name))
        cohort = Cohort(tmp_path, "table", tuple(samples), (), ("a", "b"))
        found = audit_cohort(cohort, checks=("implausible-image",)).findings
        assert [f.images for f in found] == [(s.image,) for s in samples], name
        assert all(f.proposal == "exclude" for f in found)
    good = Sample("g.png", tmp_path / "g.png", None, "a", "g", "g")
    Image.fromarray(TRUTH).save(good.path)
    assert not audit_cohort(Cohort(tmp_path, "table", (good,), (), ("a",)), checks=("implausible-image",)).findings


# --- microns, slides ----------------------------------------------------------------------------------------------


def test_microns_are_read_in_every_way_that_they_are_said(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.0005, "PhysicalSizeYUnit": "mm"}
    ways: dict[str, dict[str, Any]] = {
        "cm": {**RGB, "resolution": (20000, 20000), "resolutionunit": "CENTIMETER"},
        "inch": {**RGB, "resolution": (50800, 50800), "resolutionunit": "INCH"},
        "ome": {**RGB, "ome": True, "metadata": {"axes": "YXS", **sizes}},
        "imagej": {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}},
        "imagej-micron": {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "micron"}},
        "imagej-mu": {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "\\u00B5m"}},
    }
    for name, how in ways.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", TRUTH, **how)
        assert images.read_mpp(tmp_path / f"{name}.tif") == pytest.approx(0.5), name
    tifffile.imwrite(tmp_path / "print.tif", TRUTH, **RGB, resolution=(96, 96), resolutionunit="INCH")
    tifffile.imwrite(tmp_path / "pixel.tif", TRUTH, imagej=True, resolution=(2, 2), metadata={"unit": "pixel"})
    assert {images.read_mpp(tmp_path / f"{name}.tif") for name in ("print", "pixel")} == {None}


def test_images_without_microns_are_a_question_where_tiles_ask_for_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TRUTH, **RGB, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    Image.fromarray(TRUTH).save(tmp_path / "b.png")
    both = [Sample(n, tmp_path / n, None, "a", n, n) for n in ("a.tif", "b.png")]
    with pytest.raises(DataError, match=r"b\.png: 1 of 2 images.*--set tile\.image_mpp=NUMBER.*tile\.mpp=null"):
        refuse_unscaled(both, Tile(mpp=0.5))
    for tile in (Tile(), Tile(mpp=0.5, image_mpp=1.0)):
        refuse_unscaled(both, tile)
    refuse_unscaled(both[:1], Tile(mpp=0.5))


class Plane:
    """A slide whose scanned part lies on a larger plane, as in MIRAX; every pixel tells where it is."""

    dimensions = (700, 500)
    level_downsamples = (1.0, 2.0)
    properties: dict[str, str]

    def __init__(self, *, bounds: tuple[int, int, int, int] | None) -> None:
        names = ("x", "y", "width", "height")
        self.properties = {} if bounds is None else {
            f"openslide.bounds-{n}": str(v) for n, v in zip(names, bounds, strict=True)
        }  # fmt: skip

    def get_best_level_for_downsample(self, downsample: float) -> int:
        return int(downsample >= 2)

    def read_region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image.Image:
        step = 2**level
        cols = corner[0] + step * np.arange(size[0])
        rows = corner[1] + step * np.arange(size[1])
        pixels = np.zeros((size[1], size[0], 4), np.uint8)
        pixels[..., 0], pixels[..., 1] = rows[:, None] % 251, cols[None] % 251
        pixels[..., 3] = 255
        return Image.fromarray(pixels)


def test_a_slide_is_what_its_bounds_enclose_as_qupath_counts(tmp_path: Path) -> None:
    slide = Plane(bounds=(120, 60, 400, 300))
    assert slides.find_slide_size(slide) == (300, 400)
    part = np.asarray(slides.read_slide_region(slide, (10, 20, 5, 6)))
    assert part[0, 0].tolist() == [70, 140, 0]
    assert part[-1, -1].tolist() == [74, 145, 0]
    small = np.asarray(slides.read_slide_region(slide, (0, 0, 300, 400), longest_px=200))
    assert small.shape == (150, 200, 3)
    for bounds in (None, (600, 60, 400, 300), (0, 0, 0, 0)):
        assert slides.find_slide_size(Plane(bounds=bounds)) == (500, 700), bounds


def test_files_of_one_dicom_series_are_one_slide(tmp_path: Path) -> None:
    for name, series in (("a", b"1.2"), ("b", b"1.2"), ("c", b"1.9")):
        tag = b"\x20\x00\x0e\x00UI" + struct.pack("<H", len(series)) + series
        (tmp_path / f"{name}.dcm").write_bytes(bytes(128) + b"DICM" + name.encode() + tag)
    one, two, other = (images.hash_image(tmp_path / f"{name}.dcm") for name in "abc")
    assert one == two != other
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes() + b"more")
    assert images.hash_image(tmp_path / "b.dcm") != two, "what belongs to it has changed"


def test_suffixes_name_what_is_read(tmp_path: Path) -> None:
    Image.fromarray(TRUTH).save(tmp_path / "a.jpg", quality=95)
    wanted = images.read_image(tmp_path / "a.jpg")
    for suffix in (".jfif", ".jpe"):
        assert suffix in images.IMAGE_SUFFIXES
        (tmp_path / f"a{suffix}").write_bytes((tmp_path / "a.jpg").read_bytes())
        np.testing.assert_array_equal(images.read_image(tmp_path / f"a{suffix}"), wanted)
    for suffix in (".qptiff", ".btf", ".tf8", ".dcm"):
        assert suffix in images.IMAGE_SUFFIXES
    tifffile.imwrite(tmp_path / "named.png", TRUTH, **RGB)  # a TIFF whatever it is called
    np.testing.assert_array_equal(images.read_image(tmp_path / "named.png"), TRUTH)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    assert ".heic" not in images.IMAGE_SUFFIXES
    with pytest.raises(DataError, match=r"a\.heic: is no image"):
        images.read_image(tmp_path / "a.heic")
