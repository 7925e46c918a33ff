"""Files of features, written here by hand as each tool's own code writes them."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from smalti.errors import DataError
from smalti.features import is_feature_name, open_features

RNG = np.random.default_rng(0)
BAG = RNG.normal(size=(12, 6)).astype(np.float32)
GRID = np.stack(np.divmod(np.arange(12), 4), axis=1)[:, ::-1].astype(np.int64)  # (x, y), in tiles


def write_h5(path, arrays, attrs=None, on=None, **options):
    """Write arrays with attributes of the file, and ``on``: array -> its attributes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            chosen = options if np.ndim(values) > 1 else {}
            file.create_dataset(name, data=values, **chosen)
            for key, value in (on or {}).get(name, {}).items():
                file[name].attrs[key] = value
        for key, value in (attrs or {}).items():
            file.attrs[key] = value
    return path


def check_bag(path, expected, coords=None):
    """Check that a file is read alike in whole, in parts, and row by row."""
    bag = open_features(path)
    assert (bag.tiles, bag.size) == expected.shape
    assert bag.dtype.isnative
    np.testing.assert_array_equal(bag.read(), expected)
    np.testing.assert_array_equal(np.concatenate([bag.read(0, 1), bag.read(1, None)]), expected)
    np.testing.assert_array_equal(np.concatenate(list(bag.read_parts())), expected)
    for rows in ([0], [len(expected) - 1, 0, 0], range(len(expected)), []):
        some = np.array(list(rows), dtype=np.int64)
        np.testing.assert_array_equal(bag.read_rows(some), expected[some])
    if coords is None:
        assert bag.unit == ""
        assert bag.read_coords() is None
    else:
        np.testing.assert_allclose(bag.read_coords(), coords)
    return bag


def test_clam(tmp_path):
    places = GRID * 512
    path = write_h5(tmp_path / "h5_files/a.h5", {"features": BAG, "coords": places.astype(np.int32)}, chunks=True)
    bag = check_bag(path, BAG, places)
    assert (bag.tool, bag.unit, bag.side, bag.offset) == ("clam", "px", 512, None)
    assert any("stride" in text for text in bag.guessed)


@pytest.mark.parametrize("down", [4.0, np.array([4.0, 4.0])])
def test_clam_attributes_give_the_side_at_level_0(tmp_path, down):
    on = {"coords": {"patch_size": 256, "patch_level": 1, "downsample": down}}
    path = write_h5(tmp_path / "a.h5", {"features": BAG, "coords": GRID * 2000}, on=on)
    bag = open_features(path)
    assert (bag.tool, bag.side) == ("clam", 1024)
    assert not any("side" in text or "unit" in text for text in bag.guessed)


def test_coordinates_alone_are_no_features(tmp_path):
    assert open_features(write_h5(tmp_path / "patches/a.h5", {"coords": GRID})) is None
    assert not is_feature_name("a.index.npz")
    assert not is_feature_name("tiles/a.coordinates.npz")


TRIDENT = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
           "overlap": 0, "name": "a", "savetodir": "/job", "level0_width": "None", "level0_height": "None"}  # fmt: skip


def test_trident_tiles(tmp_path):
    on = {"coords": TRIDENT, "features": {"encoder": "uni_v1", "name": "a", "savetodir": "/job"}}
    path = tmp_path / "20x_256px_0px_overlap/features_uni_v1/a.h5"
    write_h5(path, {"features": BAG, "coords": GRID * 512}, on=on, chunks=(1, 2), maxshape=(None, None))
    bag = check_bag(path, BAG, GRID * 512)
    assert (bag.tool, bag.encoder, bag.unit, bag.side, bag.guessed) == ("trident", "uni_v1", "px", 512, ())


def test_trident_slides_have_one_vector_and_many_coordinates(tmp_path):
    path = tmp_path / "slide_features_titan/a.h5"
    write_h5(path, {"features": BAG[0], "coords": GRID * 512}, on={"coords": TRIDENT})
    bag = check_bag(path, BAG[:1])
    assert bag.encoder == "titan"
    assert any("folder" in text for text in bag.guessed)


def test_trident_of_an_empty_slide(tmp_path):
    path = write_h5(tmp_path / "a.h5", {"features": np.zeros((0, 6), "f4"), "coords": np.zeros((0, 2), "i8")})
    bag = open_features(path)
    assert (bag.tiles, bag.size) == (0, 6)
    assert bag.read().shape == (0, 6)
    assert list(bag.read_parts()) == []


STAMP = {"stamp_version": "2.3.0", "extractor": "uni2", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224,
         "code_hash": "0123", "feat_type": "tile"}  # fmt: skip


@pytest.mark.parametrize("old", [False, True])
def test_stamp_tiles_lie_in_micrometres(tmp_path, old):
    said = {"unit": "um", "tile_size": 256.0, "extractor": "uni2"} if old else STAMP
    half, places = BAG.astype(np.float16), (GRID * 256).astype(np.float32)
    bag = check_bag(write_h5(tmp_path / "a.h5", {"feats": half, "coords": places}, said), half, places)
    assert (bag.tool, bag.encoder, bag.unit, bag.side, bag.dtype) == ("stamp", "uni2", "um", 256, np.float16)
    assert bag.guessed == ()


def test_micrometres_become_pixels_where_their_size_is_known(tmp_path):
    path = write_h5(tmp_path / "a.h5", {"feats": BAG, "coords": GRID * 256.0}, STAMP | {"mpp": 0.5})
    bag = check_bag(path, BAG, GRID * 512)
    assert (bag.unit, bag.side, bag.mpp) == ("px", 512, 0.5)


def test_stamp_before_2_is_a_guess_that_is_said(tmp_path):
    bag = check_bag(write_h5(tmp_path / "a.h5", {"feats": BAG, "coords": GRID * 224}), BAG, GRID * 256)
    assert (bag.unit, bag.side) == ("um", 256)
    assert any("STAMP" in text for text in bag.guessed)
    other = open_features(write_h5(tmp_path / "b.h5", {"features": BAG, "coords": GRID * 224}))
    assert (other.unit, other.side) == ("px", 224)


@pytest.mark.parametrize("kind", ["slide", "patient"])
@pytest.mark.parametrize("values", [BAG[0], BAG[:1]])
def test_stamp_vectors(tmp_path, kind, values):
    said = {"version": "1", "encoder": "cobra", "precision": "float32", "stamp_version": "2.3", "feat_type": kind}
    bag = check_bag(write_h5(tmp_path / "p.h5", {"feats": values}, said), BAG[:1])
    assert (bag.tool, bag.encoder) == ("stamp", "cobra")


def test_stamp_multiplex(tmp_path):
    check_bag(write_h5(tmp_path / "a.h5", {"patch_embeddings": BAG}), BAG)


def test_unknown_unit_is_said(tmp_path):
    path = write_h5(tmp_path / "a.h5", {"features": BAG, "coords": GRID * 9}, {"unit": "furlong"})
    assert any("furlong" in text for text in open_features(path).guessed)


def test_slideflow(tmp_path):
    import torch

    torch.save(torch.tensor(BAG), tmp_path / "a.pt")
    np.savez(tmp_path / "a.index.npz", GRID * 300)
    config = {"extractor": {"class": "slideflow.model.extractors.ctranspath.CTransPathFeatures", "kwargs": {}},
              "normalizer": "macenko", "tile_px": 256, "tile_um": 256, "num_features": 6}  # fmt: skip
    (tmp_path / "bags_config.json").write_text(json.dumps(config), encoding="utf-8")
    bag = check_bag(tmp_path / "a.pt", BAG, GRID * 300)
    assert (bag.tool, bag.encoder, bag.unit, bag.side) == ("slideflow", "CTransPathFeatures", "px", 300)


@pytest.mark.parametrize("form", ["pt", "npz"])
def test_slide2vec(tmp_path, form):
    import torch

    path = tmp_path / f"tile_embeddings/a.{form}"
    for folder in ("tile_embeddings", "tiles"):
        (tmp_path / folder).mkdir()
    if form == "pt":
        torch.save(torch.tensor(BAG), path)
    else:
        np.savez(path, features=BAG)
    path.with_suffix(".meta.json").write_text('{"encoder_name": "virchow2", "tile_size_lv0": 448}', encoding="utf-8")
    x, y = (GRID * 448).T
    tissue = np.ones(12, "f4")
    np.savez(tmp_path / "tiles/a.coordinates.npz", tile_index=np.arange(12, dtype="i4"), x=x, y=y,
             tissue_fractions=tissue)  # fmt: skip
    bag = check_bag(path, BAG, GRID * 448)
    assert (bag.tool, bag.encoder, bag.side, bag.guessed) == ("slide2vec", "virchow2", 448, ())


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("options", [{}, {"chunks": (5, 3)}, {"compression": "gzip", "shuffle": True}])
def test_types_and_layouts_of_hdf5(tmp_path, dtype, options):
    values = BAG.astype(dtype)
    bag = check_bag(write_h5(tmp_path / "a.h5", {"features": values}, **options), values)
    assert (bag.offset is not None) == (options == {} and dtype[0] == "<")


def test_batch_of_one_slide_and_user_block(tmp_path):
    check_bag(write_h5(tmp_path / "a.h5", {"features": BAG[None], "coords": GRID[None] * 8}), BAG, GRID * 8)
    check_bag(write_h5(tmp_path / "b.h5", {"features": BAG[None]}, chunks=(1, 2, 6)), BAG)
    with h5py.File(tmp_path / "c.h5", "w", userblock_size=1024) as file:
        file["features"] = BAG
    check_bag(tmp_path / "c.h5", BAG)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("packed", [False, True])
def test_npz(tmp_path, dtype, packed):
    values = BAG.astype(dtype)
    (np.savez_compressed if packed else np.savez)(tmp_path / "a.npz", features=values, coords=GRID * 64)
    bag = check_bag(tmp_path / "a.npz", values, GRID * 64)
    assert (bag.offset is not None) == (not packed and dtype[0] == "<")


def test_npz_by_columns_is_not_read_in_place(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.asfortranarray(BAG))
    assert check_bag(tmp_path / "a.npz", BAG).offset is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("old", [False, True])
def test_pt(tmp_path, dtype, old):
    import torch

    tensor = torch.tensor(BAG).to(getattr(torch, dtype)).requires_grad_()
    torch.save(tensor, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    expected = tensor.detach().to(torch.float32 if dtype == "bfloat16" else tensor.dtype).numpy()
    bag = check_bag(tmp_path / "a.pt", expected)
    assert (bag.offset is not None) == (not old and dtype != "bfloat16")


def test_pt_of_a_view_and_of_a_dict(tmp_path):
    import torch

    tensor = torch.tensor(BAG)
    torch.save(tensor[3:], tmp_path / "view.pt")
    check_bag(tmp_path / "view.pt", BAG[3:])
    torch.save(tensor.T.contiguous().T, tmp_path / "turned.pt")
    check_bag(tmp_path / "turned.pt", BAG)
    torch.save({"features": tensor, "coords": torch.tensor(GRID * 7), "slide": "a", "level": 3}, tmp_path / "dict.pt")
    check_bag(tmp_path / "dict.pt", BAG, GRID * 7)


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm-was-done"),))


@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_hostile_pickle_is_carried_out(tmp_path, monkeypatch, old):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"features": torch.tensor(BAG), "x": Harm()}, "a.pt", _use_new_zipfile_serialization=not old)
    refuse("a.pt", "features-unsafe", "carried out")
    Path("b.pt").write_bytes(pickle.dumps(Harm()))
    assert refuse("b.pt").code in {"features-unsafe", "features-damaged"}
    assert not Path("harm-was-done").exists()


def refuse(path, code=None, words=""):
    with pytest.raises(DataError) as caught:
        open_features(Path(path)).read()
    (problem,) = caught.value.problems
    assert str(path) in problem.file
    assert problem.fix
    assert words in problem.message
    assert code in {None, problem.code}
    return problem


def test_object_arrays_are_refused_and_those_beside_are_passed_over(tmp_path):
    words = np.array([{"a": 1}] * 12, dtype=object)
    np.savez(tmp_path / "a.npz", features=words)
    refuse(tmp_path / "a.npz", "features-shape", "object")
    np.savez(tmp_path / "b.npz", features=BAG, metadata=words)
    check_bag(tmp_path / "b.npz", BAG)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["features"] = BAG
        file.create_dataset("metadata", data=["slide"] * 12, dtype=h5py.string_dtype())
    check_bag(tmp_path / "c.h5", BAG)


@pytest.mark.parametrize("name", ["a.h5", "a.pt", "a.npz"])
def test_truncated_files_are_named(tmp_path, name):
    import torch

    path, large = tmp_path / name, np.tile(BAG, (500, 1))
    if name.endswith("h5"):
        write_h5(path, {"features": large})
    elif name.endswith("pt"):
        torch.save(torch.tensor(large), path)
    else:
        np.savez(path, features=large)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        assert refuse(path).code in {"features-damaged", "features-unsafe"}
    path.write_bytes(whole)
    bag = open_features(path)
    path.write_bytes(whole[:200])
    with pytest.raises(DataError, match=name):
        bag.read()
    with pytest.raises(DataError, match=name):
        bag.read_rows(np.array([2900]))


@pytest.mark.parametrize(
    ("arrays", "code"),
    [
        ({"features": np.arange(12).reshape(4, 3)}, "features-shape"),  # whole numbers
        ({"features": np.zeros((2, 3, 4), "f4")}, "features-shape"),  # two slides
        ({"features": np.zeros((4, 0), "f4")}, "features-shape"),
        ({"features": np.float32(1)}, "features-shape"),
        ({"weight": np.zeros((4, 4), "f4"), "other": np.zeros((4, 4), "f4")}, "features-unknown"),
        ({"words": np.arange(3)}, "features-unknown"),
        ({"features": BAG, "coords": GRID[:-1]}, "features-coords"),
    ],
)
def test_what_is_no_bag_is_refused(tmp_path, arrays, code):
    refuse(write_h5(tmp_path / "a.h5", arrays), code)
    np.savez(tmp_path / "a.npz", **arrays)
    refuse(tmp_path / "a.npz", code)


def test_numbers_that_lie_in_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = BAG
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = h5py.ExternalLink("secret.h5", "features")
    refuse(tmp_path / "a.h5", "features-unknown")
    (tmp_path / "raw").write_bytes(BAG.tobytes())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("features", BAG.shape, "f4", external=[(str(tmp_path / "raw"), 0, BAG.nbytes)])
    refuse(tmp_path / "b.h5", "features-elsewhere")


def test_second_array_of_features_is_said(tmp_path):
    bag = open_features(write_h5(tmp_path / "a.h5", {"features": BAG, "feats": BAG[:, :3]}))
    assert bag.size == 6
    assert any("'feats'" in text for text in bag.guessed)


def test_lonely_array_of_another_name_is_the_features(tmp_path):
    np.savez(tmp_path / "a.npz", BAG, tissue_fractions=np.ones(12, "f4"))
    check_bag(tmp_path / "a.npz", BAG)


def test_a_zip_that_is_neither(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", b"\x93NUMPY" + bytes(40))
    refuse(tmp_path / "a.npz", "features-damaged")
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", io.BytesIO(b"(dp0\n.").getvalue())
    refuse(tmp_path / "a.pt")


@pytest.mark.real
def test_real_bags():
    folder = Path(__file__).parents[2] / "shared" / "data" / "wsi"
    if not folder.is_dir():
        pytest.skip(f"not applicable: no data at {folder}")
    plain = check_bag(*read_whole(folder / "TCGA-3X-AAVA-01Z-00-DX1_features.h5", "features"))
    assert (plain.tiles, plain.size, plain.unit) == (180, 512, "")
    placed = check_bag(*read_whole(folder / "TCGA-AD-6964-01Z-00-DX1_features.h5", "feats"))
    assert (placed.tiles, placed.size, placed.unit, placed.side) == (777, 512, "px", 512)


def read_whole(path, name):
    with h5py.File(path) as file:
        return path, file[name][:], file["coords"][:] if "coords" in file else None
