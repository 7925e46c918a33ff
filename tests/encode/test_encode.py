"""Slides to files of features: which tiles, resumed how, refused when."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from smalti.encode import EncodedSlides, encode_folder, slide_task, tiling
from smalti.errors import DataError, RunError, WeightsError
from smalti.features import open_features
from smalti.tissue import foreground

COLOUR, TEXTURE = "described:colour", "described:texture"
REAL = Path(__file__).parents[3] / "shared" / "data" / "wsi"


def draw_picture(seed: int = 0, *, pen: bool = False) -> NDArray[np.uint8]:
    """An island of tissue on glass, 512 x 768 px; a green mark of a pen at its right."""
    rng = np.random.default_rng(seed)
    image = np.full((512, 768, 3), 245, np.uint8)
    cv2.ellipse(image, (220, 250), (150, 170), 0, 0, 360, (200, 120, 180), -1)
    for _ in range(400):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.9)
        at = (int(220 + 150 * far * np.cos(angle)), int(250 + 170 * far * np.sin(angle)))
        cv2.circle(image, at, 4, (110, 60, 140), -1)
    if pen:
        cv2.rectangle(image, (560, 120), (740, 380), (20, 160, 60), -1)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def write_slide(path: Path, picture: NDArray[np.uint8], *, mpp: float | None = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    said: dict[str, Any] = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, tile=(128, 128), photometric="rgb", **said)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    root = tmp_path / "slides"
    write_slide(root / "a.tif", draw_picture(0))
    write_slide(root / "site" / "b.tif", draw_picture(1, pen=True))
    return root


def encode(root: Path, out: Path, encoder: str = COLOUR, **more: Any) -> EncodedSlides:
    return encode_folder(root, out, encoder, **({"tile_px": 64} | more))


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.h5"))}


def test_tiles_lie_on_tissue_and_what_is_left_out_is_counted(slides: Path, tmp_path: Path) -> None:
    found = encode(slides, tmp_path / "out")
    rows = {row.image: row for row in found.rows}
    assert set(rows) == {"a.tif", "site/b.tif"}
    for name, picture in (("a", draw_picture(0)), ("site/b", draw_picture(1, pen=True))):
        bag = open_features(found.folder / "features" / f"{name}.h5")
        assert bag is not None
        coords = bag.read_coords()
        assert coords is not None
        row = rows[f"{name}.tif"]
        assert bag.tiles == row.tiles == len(coords) > 10
        assert row.tiles + row.glass + row.pen == 8 * 12
        for x, y in coords.astype(int):
            tile = picture[y : y + 64, x : x + 64]
            assert tile.shape == (64, 64, 3)
            assert x < 400  # the pen is at the right
            assert (tile.min(axis=2) < 215).mean() > 0.3
    assert rows["a.tif"].pen == 0
    assert rows["site/b.tif"].pen >= 6
    assert bag.dtype == np.float16
    assert bag.offset is not None
    with found.table.open(encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["encoded", "encoded"]


def test_a_slide_without_colours_is_no_pen(tmp_path: Path) -> None:
    grey = np.repeat(draw_picture(0).min(axis=2)[..., None], 3, axis=2)
    write_slide(tmp_path / "slides" / "a.tif", grey)
    (row,) = encode(tmp_path / "slides", tmp_path / "out").rows
    assert row.tiles > 10
    assert row.pen == 0
    assert "grey" in row.reason


def test_pen_is_kept_on_request(slides: Path, tmp_path: Path) -> None:
    rows = encode(slides, tmp_path / "out", keep_pen=True).rows
    assert sum(row.pen for row in rows) == 0


def test_a_tile_has_the_microns_that_are_asked_for(slides: Path, tmp_path: Path) -> None:
    found = encode(slides, tmp_path / "out", mpp=1.0)
    assert {row.side_px for row in found.rows} == {128}
    with h5py.File(found.folder / "features" / "a.h5", "r") as file:
        assert file.attrs["patch_size_level0"] == 128
        assert (file.attrs["mpp"], file.attrs["tile_mpp"]) == pytest.approx((0.5, 1.0))


def test_a_second_encoder_takes_the_tiles_of_the_first(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = encode(slides, out, COLOUR)
    alone = encode(slides, tmp_path / "alone", TEXTURE)

    def search(*args: object) -> None:
        raise AssertionError("tissue is looked for again")

    for place in ("smalti.tile.scene.find_tissue", "smalti.tile.repair.find_tissue"):
        monkeypatch.setattr(place, search)
    assert foreground.find_tissue is not search
    second = encode(slides, out, TEXTURE)
    assert [(r.tiles, r.glass, r.pen) for r in second.rows] == [(r.tiles, r.glass, r.pen) for r in first.rows]
    for name in ("a", "site/b"):
        files = [h5py.File(found.folder / "features" / f"{name}.h5", "r") for found in (first, second, alone)]
        one, two, three = (file["coords"][:] for file in files)
        assert one.tobytes() == two.tobytes() == three.tobytes()
        # Features do not tell whether tiles were found now or before.
        assert files[1]["features"][:].tobytes() == files[2]["features"][:].tobytes()


def test_a_slide_that_stops_the_command_is_done_at_the_next_and_no_other_twice(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(slides, tmp_path / "whole")
    seen, put = [], slide_task._put

    def stop(made: Path, place: Path) -> None:
        put(made, place)
        seen.append(place.name)
        if place.name == "b.h5" and seen.count("b.h5") == 1:
            raise KeyboardInterrupt  # the file is there, its record is not

    monkeypatch.setattr(slide_task, "_put", stop)
    with pytest.raises(KeyboardInterrupt):
        encode(slides, tmp_path / "out")
    found = encode(slides, tmp_path / "out")
    assert seen == ["a.h5", "b.h5", "b.h5"]
    assert read_bytes(found.folder) == read_bytes(whole.folder)
    assert not list(found.folder.glob(".smalti-*"))


def test_a_slide_that_cannot_be_read_is_a_row_with_the_reason(slides: Path, tmp_path: Path) -> None:
    (slides / "broken.tif").write_bytes((slides / "a.tif").read_bytes()[:9000])
    rows = {row.image: row for row in encode(slides, tmp_path / "out").rows}
    assert rows["broken.tif"].status == "failed"
    assert "broken.tif" in rows["broken.tif"].reason
    assert rows["a.tif"].status == rows["site/b.tif"].status == "encoded"


def test_a_slide_that_the_table_does_not_name_is_encoded(slides: Path, tmp_path: Path) -> None:
    write_slide(slides / "c.tif", draw_picture(2))
    (slides / "labels.csv").write_text("image,label\na.tif,benign\nsite/b.tif,malignant\n")
    found = encode(slides, tmp_path / "out")
    assert {row.image: row.status for row in found.rows} == dict.fromkeys(("a.tif", "site/b.tif", "c.tif"), "encoded")


def test_a_slide_of_glass_has_an_empty_file(tmp_path: Path) -> None:
    glass = np.random.default_rng(0).normal(246, 2, (512, 512, 3)).clip(0, 255).astype(np.uint8)
    write_slide(tmp_path / "slides" / "a.tif", glass)
    found = encode(tmp_path / "slides", tmp_path / "out")
    assert [(row.status, row.tiles, row.glass) for row in found.rows] == [("empty", 0, 64)]
    with h5py.File(found.folder / "features" / "a.h5", "r") as file:
        assert file["features"].shape[0] == file["coords"].shape[0] == 0


def test_files_of_other_rules_are_refused_by_name(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = read_bytes(encode(slides, out).folder)
    for more, what in (({"mpp": 1.0}, "mpp"), ({"tile_px": 96}, "tile_px"), ({"dtype": "float32"}, "dtype")):
        with pytest.raises(RunError, match=rf"made otherwise: .*{what}.*Fix: (--tile-px 64, )?--out"):
            encode(slides, out, **more)
    write_slide(slides / "a.tif", draw_picture(5))
    (slides / "a.tif").write_bytes((slides / "a.tif").read_bytes() + b"\0")
    rows = {row.image: row for row in encode(slides, out).rows}
    assert "not the file that was encoded" in rows["a.tif"].reason
    assert rows["site/b.tif"].status == "encoded"
    assert read_bytes(out / "described-colour") == before


def test_microns_that_are_not_known_are_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "slides"
    write_slide(root / "a.tif", draw_picture(0), mpp=None)
    with pytest.raises(DataError, match=r"a\.tif.*--image-mpp.*--mpp 0"):
        encode(root, tmp_path / "out")
    with pytest.raises(DataError, match=r"a\.tif.*--image-mpp"):
        encode(root, tmp_path / "out", mpp=None, layout="stamp")
    assert not (tmp_path / "out").exists()
    native = encode(root, tmp_path / "native", mpp=None)
    said = encode(root, tmp_path / "said", image_mpp=0.5)
    assert [r.side_px for r in native.rows] == [r.side_px for r in said.rows] == [64]
    assert encode(root, tmp_path / "coarse", image_mpp=2.0).rows[0].reason.count("2 microns per pixel")


def test_ways_to_weights_are_options_of_the_command_and_no_knobs(slides: Path, tmp_path: Path) -> None:
    for encoder, file, option in (
        ("tf_efficientnet_lite0", "gone.pth", "check --weights"), ("conch", None, "--encoder local-dir:FOLDER")
    ):  # fmt: skip
        with pytest.raises(WeightsError) as caught:
            encode(slides, tmp_path / "out", encoder, weights=None if file is None else tmp_path / file)
        assert option in caught.value.fix
        assert "model." not in caught.value.fix


def test_two_slides_of_one_name_are_refused(slides: Path, tmp_path: Path) -> None:
    write_slide(slides / "other" / "a.tif", draw_picture(3))
    with pytest.raises(DataError, match="several slides"):
        encode(slides, tmp_path / "out", layout="clam")
    assert len(encode(slides, tmp_path / "out").rows) == 3


def test_a_bag_of_any_size_is_the_same_in_pieces(slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(slides, tmp_path / "whole")
    monkeypatch.setattr(tiling, "PIECE_BYTES", 3 * 3 * 64**2)
    parts = encode(slides, tmp_path / "parts", cpus=2)
    assert read_bytes(whole.folder) == read_bytes(parts.folder)


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(slides: Path, tmp_path: Path) -> None:
    here = encode(slides, tmp_path / "here", cpus=1)
    there = encode(slides, tmp_path / "there", cpus=1, on="processes:2")
    assert read_bytes(here.folder) == read_bytes(there.folder)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["smalti", "clam", "trident", "stamp"])
def test_real_slides(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("openslide", reason="not applicable: the extra openslide is not installed")
    if not REAL.is_dir():
        pytest.skip(f"not applicable: {REAL} is not there")
    found = encode(REAL, tmp_path / "out", mpp=1.0, image_mpp=0.5, layout=layout, tile_px=128)
    assert {row.status for row in found.rows} == {"encoded"}
    assert len(found.rows) == 3
    assert found.features is not None
    files = [path for path in sorted(found.features.rglob("*")) if path.suffix in {".h5", ".pt"}]
    bags = [bag for path in files if (bag := open_features(path)) is not None]
    assert sorted(bag.tiles for bag in bags) == sorted(row.tiles for row in found.rows)
