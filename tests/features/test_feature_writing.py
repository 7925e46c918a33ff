"""Files of features that smalti writes, read as CLAM, TRIDENT and STAMP read them, and by smalti."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from smalti.errors import RecipeError
from smalti.features import open_features
from smalti.features.writing import FILE_LAYOUTS, FeatureBag, find_file_layout

MPP, SIDE_PX, TILE_PX = 0.25, 448, 224


def draw_bag(tiles: int = 5000, *, dtype: str = "float16", mpp: float | None = MPP) -> FeatureBag:
    rng = np.random.default_rng(tiles)
    return FeatureBag(
        slide="site/a.b", features=rng.normal(size=(tiles, 6)).astype(dtype),
        coords=rng.integers(0, 90_000, size=(tiles, 2)), corner=(0, 0), plane=(100_000, 90_500), tile_px=TILE_PX,
        side_px=SIDE_PX, overlap_px=0, mpp=mpp, tile_mpp=None if mpp is None else 2 * mpp, encoder="uni", key="k" * 24,
        version="1.0", licence="CC-BY-NC-ND-4.0",
    )  # fmt: skip


def read_clam(folder: Path, slide: str) -> tuple[NDArray[np.generic], NDArray[np.generic], int]:
    """As CLAM's dataset and its heat maps do: features and coordinates whole, the level and side from ``patches``."""
    with h5py.File(folder / "h5_files" / f"{slide}.h5", "r") as file:
        features, coords = file["features"][:], file["coords"][:]
        assert file["features"].chunks == (32, features.shape[1])
    with h5py.File(folder / "patches" / f"{slide}.h5", "r") as file:
        places = file["coords"]
        assert (places[:] == coords).all()
        assert places.attrs["patch_level"] == 0
        assert tuple(places.attrs["level_dim"]) == tuple(places.attrs["downsampled_level_dim"])
        assert places.attrs["name"] == slide
        return features, coords, int(places.attrs["patch_size"] * places.attrs["downsample"][0])


def read_trident(job: Path, slide: str) -> tuple[NDArray[np.generic], NDArray[np.generic], dict[str, object]]:
    """As TRIDENT's readers do: the attributes of ``coords`` are copied from the patches to the features."""
    (patches,) = job.glob("*/patches")
    with h5py.File(patches / f"{slide}_patches.h5", "r") as file:
        about, places = dict(file["coords"].attrs), file["coords"][:]
    (found,) = job.glob("*/features_uni")
    with h5py.File(found / f"{slide}.h5", "r") as file:
        features, coords = file["features"], file["coords"]
        assert features.chunks == (1, features.shape[1])
        assert coords.dtype == np.int64
        assert (coords[:] == places).all()
        assert dict(coords.attrs) == about
        assert features.attrs["encoder"] == "uni"
        assert {"name", "savetodir"} <= set(features.attrs)
        return features[:], coords[:], about | {"job": patches.parent.name}


def read_stamp(folder: Path, slide: str) -> tuple[NDArray[np.generic], NDArray[np.generic], dict[str, object]]:
    """As STAMP 2.1 does: without an extractor it raises, the unit decides what coordinates mean."""
    (found,) = folder.glob("uni-????????")
    with h5py.File(found / f"{slide}.h5", "r") as file:
        about = dict(file.attrs)
        assert about["code_hash"] == found.name.removeprefix("uni-")
        assert about["extractor"] == "uni"
        assert about["feat_type"] == "tile"
        assert about["unit"] == "um"
        assert tuple(map(int, str(about["stamp_version"]).split("."))) >= (2, 1, 0)
        return file["feats"][:], file["coords"][:], about


@pytest.mark.parametrize("tiles", [5000, 1, 0])
def test_clam_reads_what_is_written(tiles: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    bag = draw_bag(tiles, dtype="float32")
    find_file_layout("clam").write(tmp_path, bag)
    features, coords, side = read_clam(tmp_path, "a.b")
    assert features.dtype == np.float32
    assert (features == bag.features).all()
    assert coords.dtype == np.int32
    assert (coords == bag.coords).all()
    assert side == SIDE_PX
    bare = torch.load(tmp_path / "pt_files" / "a.b.pt", weights_only=True)
    assert bare.shape == bag.features.shape
    assert (bare.numpy() == bag.features).all()


@pytest.mark.parametrize("tiles", [5000, 1, 0])
def test_trident_reads_what_is_written(tiles: int, tmp_path: Path) -> None:
    bag = draw_bag(tiles, dtype="float32")
    find_file_layout("trident").write(tmp_path, bag)
    features, coords, about = read_trident(tmp_path, "a.b")
    assert features.dtype == np.float32
    assert features.shape == bag.features.shape
    assert (features == bag.features).all()
    assert (coords == bag.coords).all()
    wanted = {
        "patch_size": TILE_PX, "patch_size_level0": SIDE_PX, "level0_magnification": 40, "target_magnification": 20,
        "overlap": 0, "name": "a.b", "level0_width": 100_000, "level0_height": 90_500, "job": "20x_224px_0px_overlap",
    }  # fmt: skip
    assert {name: about[name] for name in wanted} == wanted


def test_trident_is_told_where_no_magnification_is_known(tmp_path: Path) -> None:
    find_file_layout("trident").write(tmp_path, draw_bag(3, mpp=None))
    assert read_trident(tmp_path, "a.b")[2]["level0_magnification"] == "None"


@pytest.mark.parametrize("tiles", [5000, 1, 0])
def test_stamp_reads_what_is_written(tiles: int, tmp_path: Path) -> None:
    bag = draw_bag(tiles)
    find_file_layout("stamp").write(tmp_path, bag)
    features, coords, about = read_stamp(tmp_path, "site/a.b")
    assert features.dtype == np.float16
    assert (features == bag.features).all()
    assert coords.dtype == np.float32
    assert (coords == (bag.coords * MPP).astype(np.float32)).all()
    assert (about["tile_size_um"], about["tile_size_px"]) == (SIDE_PX * MPP, TILE_PX)
    # Micrometres are exact at a quarter: the tiles are found again.
    assert (np.rint(coords / MPP).astype(np.int64) == bag.coords).all()


def test_stamp_needs_micrometres(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--image-mpp"):
        find_file_layout("stamp").write(tmp_path, draw_bag(3, mpp=None))


@pytest.mark.parametrize("layout", [entry.name for entry in FILE_LAYOUTS])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_smalti_reads_what_is_written(layout: str, dtype: str, tmp_path: Path) -> None:
    bag = draw_bag(700, dtype=dtype)
    read = 0
    for name in find_file_layout(layout).write(tmp_path, bag):
        found = open_features(tmp_path / name)
        if found is None or (layout == "clam" and not found.unit):
            continue  # coordinates alone, or the bare tensor
        read += 1
        assert (found.read() == bag.features).all()
        coords = found.read_coords()
        assert coords is not None
        if layout == "stamp":
            assert found.unit == "um"
            assert (coords == bag.coords * MPP).all()
            assert found.side == SIDE_PX * MPP
        else:
            assert found.unit == "px"
            assert (coords == bag.coords).all()
        if layout != "clam":
            assert found.encoder == "uni"
            assert found.tool == layout
        if layout == "smalti":
            assert found.offset is not None
            assert (found.side, found.mpp, found.guessed) == (SIDE_PX, MPP, ())
    assert read == 1


def test_coordinates_are_those_of_the_plane_for_other_tools(tmp_path: Path) -> None:
    bag = replace(draw_bag(9, dtype="float32"), corner=(1000, 50))
    for layout in ("clam", "smalti"):
        find_file_layout(layout).write(tmp_path, bag)
    assert (read_clam(tmp_path, "a.b")[1] == bag.coords + np.array([1000, 50])).all()
    with h5py.File(tmp_path / "features/site/a.b.h5", "r") as file:
        assert (file["coords"][:] == bag.coords).all()
        assert (file.attrs["corner_x"], file.attrs["corner_y"]) == (1000, 50)


@pytest.mark.parametrize("layout", [entry.name for entry in FILE_LAYOUTS])
def test_equal_bags_give_equal_bytes(layout: str, tmp_path: Path) -> None:
    for place in ("one", "two"):
        names = find_file_layout(layout).write(tmp_path / place, draw_bag(40))
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
