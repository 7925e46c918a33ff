"""Every way a file becomes pixels, against NumPy, OpenCV and Pillow's own conversions."""

from __future__ import annotations

import sys
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from smalti import images
from smalti.errors import DataError, MissingExtraError, Problem, SmaltiError

WSI = Path(__file__).parents[3] / "shared" / "data" / "wsi"
H, W = 24, 36


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def draw(rng: np.random.Generator, *shape: int, high: int = 256) -> NDArray:
    return rng.integers(0, high, shape, dtype=np.uint8 if high <= 256 else np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
def test_8_bit_pixels_are_kept(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    pixels = draw(rng, H, W, 3)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), pixels[..., ::-1])
    read = images.read_image(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, pixels)
    assert images.read_size(path) == images.check_image(path) == (H, W)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_keeps_the_high_byte(tmp_path: Path, rng: np.random.Generator, suffix: str, channels: int) -> None:
    pixels = draw(rng, H, W, channels, high=65536)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), pixels[..., ::-1])
    np.testing.assert_array_equal(images.read_image(path), np.broadcast_to(pixels // 256, (H, W, 3)))


@pytest.mark.parametrize("most", [65535, 4095])
def test_a_pgm_of_more_than_8_bits_is_read_by_the_largest_value_of_its_header(
    tmp_path: Path, rng: np.random.Generator, most: int
) -> None:
    grey = draw(rng, H, W, high=most + 1)
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P5 {W} {H} {most}\n".encode() + grey.astype(">u2").tobytes())
    doubts: list[Problem] = []
    assert images.check_image(path, doubts=doubts) == (H, W)
    assert not doubts
    read = images.read_image(path)
    np.testing.assert_array_equal(read[..., 0], np.rint(grey / most * 65535).astype(int) >> 8)
    assert (read == read[..., :1]).all()
    part = images.read_region(path, 3, 5, height_px=7, width_px=9)
    np.testing.assert_array_equal(part, read[3:10, 5:14])
    marked = np.where(grey > most // 2, most, 0)
    path.write_bytes(f"P5 {W} {H} {most}\n".encode() + marked.astype(">u2").tobytes())
    np.testing.assert_array_equal(images.read_mask(path)[0], marked > 0)


def test_grey_is_repeated_and_1_bit_is_black_and_white(tmp_path: Path, rng: np.random.Generator) -> None:
    grey = draw(rng, H, W)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1))
    bits = grey > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "bits.png")[..., 1], bits * 255)


def test_palette_goes_through_its_colours(tmp_path: Path, rng: np.random.Generator) -> None:
    index, palette = draw(rng, H, W, high=4), draw(rng, 4, 3)
    image = Image.fromarray(index, mode=None).convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "p.png"), palette[index])


def test_alpha_is_laid_over_white(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = draw(rng, H, W, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    alpha = pixels[..., 3:] / 255
    over_white = pixels[..., :3] * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(images.read_image(tmp_path / "a.png"), over_white, atol=1.01)


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (W, H), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "t.png", transparency=0)
    read = images.read_image(tmp_path / "t.png")
    assert read[0, 0].tolist() == [255, 255, 255]
    assert read[1, 1].tolist() == [10, 20, 30]


def test_cmyk_is_pillows_conversion(tmp_path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(draw(rng, H, W, 4), mode="RGBA").convert("RGB").convert("CMYK")
    image.save(tmp_path / "c.tif")
    np.testing.assert_array_equal(images.read_image(tmp_path / "c.tif"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bit_is_refused_with_a_fix(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((H, W), dtype)).save(tmp_path / "f.tif")
    for read in (images.read_image, images.check_image):
        with pytest.raises(DataError, match=r"f\.tif.*32-bit.*Fix: export it as 8-bit"):
            read(tmp_path / "f.tif")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_size_pixels_and_mask(tmp_path: Path, suffix: str, orientation: int) -> None:
    ramp = np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"o.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(path, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(images.read_image(path), expected)
    assert images.read_size(path) == images.check_image(path) == expected.shape[:2]
    mask, _ = images.read_mask(path)
    grey = expected[..., 1].astype(float)
    np.testing.assert_array_equal(mask, grey >= (grey.min() + grey.max()) / 2)
    assert images.read_thumbnail(path, longest_px=12).shape == (12 if expected.shape[0] == W else 8,
                                                               12 if expected.shape[1] == W else 8, 3)  # fmt: skip


@pytest.mark.parametrize("sound", [True, False])
def test_exif_behind_the_pixels_of_a_png_turns_it(tmp_path: Path, rng: np.random.Generator, sound: bool) -> None:
    pixels, path = draw(rng, H, W, 3), tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    check = zlib.crc32(chunk) ^ (not sound)
    late = (len(chunk) - 4).to_bytes(4, "big") + chunk + check.to_bytes(4, "big")
    data = path.read_bytes()
    path.write_bytes(data[:-12] + late + data[-12:])  # before the chunk IEND
    assert images.read_orientation(path) == (6 if sound else 1)
    assert images.read_size(path) == ((W, H) if sound else (H, W))
    if sound:
        np.testing.assert_array_equal(images.read_image(path), np.rot90(pixels, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "gif", "jp2"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_data_errors(tmp_path: Path, rng: np.random.Generator, suffix: str, share: float) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(draw(rng, 100, 100, 3)).save(whole)
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for read in (images.read_image, images.check_image, images.read_mask):
        with pytest.raises(DataError, match=rf"cut\.{suffix}.*Fix: ") as caught:
            read(path)
        assert caught.value.problems[0].code == "unreadable"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on the damaged TIFF tags made here
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp", "gif", "jp2"])
def test_flipped_bytes_never_escape_the_error_tree(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(draw(rng, 20, 20, 3)).save(path)
    good = path.read_bytes()
    for _ in range(60):
        bad = bytearray(good)
        for at in rng.integers(0, min(len(good), 300), 3):
            bad[at] = rng.integers(0, 256)
        path.write_bytes(bytes(bad))
        try:
            pixels = images.read_image(path)
        except SmaltiError:
            continue
        assert pixels.ndim == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that Pillow knows"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"page\.png.*{said}.*Fix: "):
        images.read_image(path)
    with pytest.raises(DataError, match=r"none\.png: does not exist\. Fix: "):
        images.read_size(tmp_path / "none.png")


def test_pixel_bomb_names_the_extra_and_leaves_pillow_alone(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.bmp"
    Image.new("1", (8, 8)).save(path)
    header = bytearray(path.read_bytes())
    header[18:22] = header[22:26] = (60_000).to_bytes(4, "little")
    path.write_bytes(bytes(header))
    with pytest.raises(DataError, match=r"bomb\.bmp.*million pixels.*openslide"):
        images.read_size(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_large_pictures_do_not_warn_and_filters_survive_threads(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (11_000, 10_000)).save(path)  # 110 megapixels: Pillow would warn, and here warnings are errors
    before = list(warnings.filters)
    threads = [threading.Thread(target=images.read_size, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert images.read_size(path) == (10_000, 11_000)
    assert list(warnings.filters) == before


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [1, 2, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_two_values_become_0_and_1(tmp_path: Path, rng: np.random.Generator, high: int, dtype: type) -> None:
    wanted = draw(rng, H, W, high=2)
    path = tmp_path / ("m.png" if dtype in {np.uint8, np.uint16} else "m.tif")
    Image.fromarray((wanted * high).astype(dtype)).save(path)
    mask, grey = images.read_mask(path)
    assert mask.dtype == np.uint8
    assert not grey
    np.testing.assert_array_equal(mask, wanted)


def test_grey_levels_are_cut_at_half_of_their_range(tmp_path: Path, rng: np.random.Generator) -> None:
    levels = draw(rng, H, W, high=101) + np.uint8(50)
    levels[0, :2] = 50, 150
    Image.fromarray(levels).save(tmp_path / "g.png")
    mask, grey = images.read_mask(tmp_path / "g.png")
    assert grey
    np.testing.assert_array_equal(mask, levels >= 100)


@pytest.mark.parametrize(("value", "wanted"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value(tmp_path: Path, value: int, wanted: int) -> None:
    Image.new("L", (W, H), value).save(tmp_path / "c.png")
    mask, grey = images.read_mask(tmp_path / "c.png")
    assert not grey
    assert (mask == wanted).all()


def test_colour_palette_bits_and_opacity_as_masks(tmp_path: Path, rng: np.random.Generator) -> None:
    wanted = draw(rng, H, W, high=2)
    red = np.zeros((H, W, 3), np.uint8)
    red[..., 0] = wanted * 255
    black = np.zeros((H, W, 4), np.uint8)
    black[..., 3] = wanted * 255  # black everywhere, drawn in the opacity
    opaque = np.dstack([np.stack([wanted * 255] * 3, axis=-1), np.full((H, W), 255, np.uint8)])
    hidden = np.full((H, W, 4), 255, np.uint8)
    hidden[wanted == 0] = (90, 90, 90, 0)  # grey below transparent pixels does not count
    drawn = {"red": red, "black": black, "opaque": opaque, "hidden": hidden, "bits": wanted.astype(bool)}
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    palette = Image.fromarray(wanted).convert("P")
    palette.putdata(wanted.ravel().tolist())
    palette.putpalette([0, 0, 0, 0, 0, 128])
    palette.save(tmp_path / "palette.png")
    for name in (*drawn, "palette"):
        mask, grey = images.read_mask(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(mask, wanted, err_msg=name)
        assert not grey, name


def test_a_mask_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((H, W), np.nan, np.float32)).save(tmp_path / "n.tif")
    with pytest.raises(DataError, match=r"n\.tif.*not finite.*Fix: "):
        images.read_mask(tmp_path / "n.tif")


# --- regions, thumbnails, microns per pixel -----------------------------------------------------------------------


def test_region_is_a_slice_and_may_not_leave_the_image(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = draw(rng, H, W, 3)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(images.read_region(path, 3, 5, height_px=7, width_px=31), pixels[3:10, 5:36])
    for row, col, height, width in ((-1, 0, 2, 2), (0, 0, H + 1, 2), (0, W - 1, 2, 2), (0, 0, 0, 2)):
        with pytest.raises(DataError, match=r"a\.png: region .* leaves the image"):
            images.read_region(path, row, col, height_px=height, width_px=width)


def test_thumbnail_keeps_the_mean_and_is_never_enlarged(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = cv2.GaussianBlur(draw(rng, 300, 400, 3), (0, 0), 9)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    small = images.read_thumbnail(path, longest_px=40)
    assert small.shape == (30, 40, 3)
    reference = cv2.resize(pixels, (40, 30), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - reference).mean() < 3
    assert images.read_thumbnail(path, longest_px=4000).shape == (300, 400, 3)


@pytest.mark.parametrize(
    ("unit", "resolution", "mpp"), [(2, 50_800, 0.5), (3, 40_000, 0.25), (2, 96, None), (3, 0, None), (1, 40_000, None)]
)
def test_microns_per_pixel_from_tiff_tags(tmp_path: Path, unit: int, resolution: float, mpp: float | None) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (W, H)).save(path, tiffinfo={282: resolution, 283: resolution, 296: unit})
    assert images.read_mpp(path) == (None if mpp is None else pytest.approx(mpp))
    Image.new("RGB", (W, H)).save(tmp_path / "a.png", dpi=(50_800, 50_800))
    assert images.read_mpp(tmp_path / "a.png") is None


# --- slides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", images.SLIDE_SUFFIXES)
def test_a_slide_without_openslide_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"II*\0")
    with pytest.raises(MissingExtraError, match=r"a\.\w+: a whole-slide file.*smalti\[openslide\]"):
        images.read_size(path)


def test_damaged_slides_are_data_errors(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    path = tmp_path / "a.svs"
    path.write_bytes(b"no slide")
    with pytest.raises(DataError, match=r"a\.svs: cannot be read by OpenSlide.*Fix: "):
        images.check_image(path)
    with pytest.raises(DataError, match=r"b\.svs: does not exist"):
        images.read_size(tmp_path / "b.svs")


@pytest.mark.real
def test_a_real_slide() -> None:
    pytest.importorskip("openslide", reason="not applicable: the extra openslide is not installed")
    path = WSI / "cmu-1-small-region.svs"
    if not path.is_file():
        pytest.skip(f"not applicable: {path} is not there")
    assert images.read_size(path) == images.check_image(path) == (2967, 2220)
    assert images.read_mpp(path) == pytest.approx(0.499)
    whole = images.read_image(path)
    region = images.read_region(path, 1000, 800, height_px=300, width_px=200)
    np.testing.assert_array_equal(region, whole[1000:1300, 800:1000])
    with Image.open(path) as image:  # Pillow decodes the same JPEG tiles by its own way
        other = np.asarray(image.convert("RGB"))[1000:1300, 800:1000]
    assert np.abs(region.astype(int) - other).mean() < 2
    small = images.read_thumbnail(path, longest_px=100)
    assert small.shape == (100, 75, 3)
    assert small.mean() == pytest.approx(whole.mean(), abs=2)
