"""One file of features, opened: what it holds, who wrote it, where its tiles lie.

| tool | features | coordinates | unit |
|---|---|---|---|
| CLAM, TRIDENT, nnMIL, slide2vec | ``features`` | ``coords``, (x, y) | pixels of level 0 |
| STAMP | ``feats``, or ``patch_embeddings`` | ``coords``, (x, y) | micrometres, by the attribute ``unit`` |
| slideflow | the whole ``.pt`` | ``<slide>.index.npz`` | pixels of level 0 |
| smalti | ``features``, contiguous float16 | ``coords``, (x, y) | pixels of level 0 |

Every attribute may be missing: what is guessed in its place is in `FeatureFile.guessed`. Features that lie in one piece
and without compression are read by their place in the file, about ten times as fast as small chunks.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, Problem

H5_SUFFIXES = (".h5", ".hdf5")
FEATURE_SUFFIXES = (*H5_SUFFIXES, ".pt", ".npz")
NAMES = ("features", "feats", "patch_embeddings", "embeddings")  # of the array, the likeliest first
COORDS = ("coords", "coordinates", "coord")
LONELY = "values"  # what an array without a name is called
DTYPES = ("f2", "f4", "f8")
REMEMBERED = 10_000  # files whose description is kept
USUAL_TILES_PX = (224, 256, 512, 448, 1024)  # sides at level 0 that are not surprising


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """The bag of one slide in a file.

    Attributes:
        path: of the file.
        tool: who wrote it, as far as its content tells: ``stamp``, ``trident``, ``smalti``, ``slideflow``, or empty.
        dataset: name of the array in the file.
        tiles: N; 1 for one vector a slide.
        size: D.
        dtype: of the values.
        offset: where they begin in the file, if they lie in one piece; None where a library has to put them together.
        encoder: what made the features; empty where the file does not say it.
        unit: of the coordinates: ``px`` of level 0, ``um``, or empty where there are none.
        side: of a tile in that unit; 0 where not known.
        mpp: microns per pixel of level 0; None where not known.
        guessed: what the file does not say, in sentences for people.
        attributes: all that it says.
    """

    path: Path
    tool: str
    dataset: str
    tiles: int
    size: int
    dtype: np.dtype[Any]
    offset: int | None
    encoder: str = ""
    unit: str = ""
    side: float = 0.0
    mpp: float | None = None
    guessed: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` (excluded), (n, D), as they are stored.

        Raises:
            DataError: the file cannot be read any more.
        """
        stop = self.tiles if stop is None else stop
        if self.offset is not None:
            count = (stop - start) * self.size
            place = self.offset + start * self.size * self.dtype.itemsize
            values = np.fromfile(self.path, dtype=self.dtype, count=count, offset=place)
            if len(values) != count:
                raise _damaged(self.path, "became shorter")
            return values.reshape(-1, self.size)
        with _reading(self.path):
            if self.path.suffix.lower() in H5_SUFFIXES:
                with h5py.File(self.path, "r") as file:
                    part = file[self.dataset]
                    values = part[start:stop] if part.ndim == 2 else part[()].reshape(-1, self.size)[start:stop]
                return np.asarray(values)
            return _LOADERS[self.path.suffix.lower()](self.path)[self.dataset].reshape(-1, self.size)[start:stop]

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows (n, D), in this order.

        Raises:
            DataError: the file cannot be read any more.
        """
        if self.offset is not None:
            stored = np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=(self.tiles, self.size))
            return np.asarray(stored[rows])
        if self.path.suffix.lower() not in H5_SUFFIXES or len(rows) == 0:
            return self.read()[rows]
        order = np.unique(rows)
        if len(order) > self.tiles // 4:  # chunks are read whole; many rows touch nearly all of them
            return self.read()[rows]
        with _reading(self.path), h5py.File(self.path, "r") as file:
            values = np.asarray(file[self.dataset][order])
        return values[np.searchsorted(order, rows)]

    def read_coords(self) -> NDArray[np.float64] | None:
        """Return where the tiles begin, (N, 2) as (x, y) in `unit`; None without coordinates.

        Raises:
            DataError: they cannot be read.
        """
        if not self.unit:
            return None
        with _reading(self.path):
            if self.path.suffix.lower() in H5_SUFFIXES:
                with h5py.File(self.path, "r") as file:
                    name = next(name for name in COORDS if name in file)
                    return np.asarray(file[name], dtype=np.float64).reshape(-1, 2)
            beside = _find_beside(self.path)
            arrays = _load_npz(beside if beside is not None else self.path)
            return _take_coords(arrays)


def is_feature_name(name: str) -> bool:
    """Return whether the suffix is one of files of features; coordinates that lie beside them are none."""
    lower = name.lower()
    return lower.endswith(FEATURE_SUFFIXES) and not lower.endswith((".index.npz", ".coordinates.npz"))


def open_features(path: Path) -> FeatureFile | None:
    """Open the bag of one slide; None where the file holds no features but coordinates, as of CLAM's ``patches``.

    Raises:
        DataError: the file is damaged, or holds no array of features that can be told.
    """
    with _reading(path):
        state = path.stat()
        return _open(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=REMEMBERED)
def _open(path: Path, *stamp: int) -> FeatureFile | None:
    """Open a file once for as long as it stays as it is."""
    return _open_h5(path) if path.suffix.lower() in H5_SUFFIXES else _open_arrays(path)


def _open_h5(path: Path) -> FeatureFile | None:
    with h5py.File(path, "r") as file:
        arrays = {name: part for name, part in file.items() if isinstance(part, h5py.Dataset)}
        name = _choose_array(path, {n: (p.shape, p.dtype) for n, p in arrays.items()})
        if name is None:
            return None
        part = arrays[name]
        tiles, size = _check_shape(path, name, part.shape, part.dtype)
        coords = next((arrays[n] for n in COORDS if n in arrays), None)
        said = {k: _plain(v) for holder in (coords, part, file) if holder is not None for k, v in holder.attrs.items()}
        place = part.id.get_offset() if part.chunks is None and part.dtype.isnative else None
        offset = None if place is None else int(place)
        return _describe(path, name, (tiles, size), part.dtype, offset, said, None if coords is None else coords[:])


def _open_arrays(path: Path) -> FeatureFile | None:
    if path.suffix.lower() == ".npz":
        arrays, offset = _load_npz(path), None
    else:
        arrays, offset = _load_torch(path), None
    name = _choose_array(path, {n: (a.shape, a.dtype) for n, a in arrays.items()})
    if name is None:
        return None
    tiles, size = _check_shape(path, name, arrays[name].shape, arrays[name].dtype)
    said: dict[str, Any] = {}
    meta = path.with_suffix(".meta.json")
    for place in (meta, path.parent / "bags_config.json"):
        if place.is_file():
            found = json.loads(place.read_text(encoding="utf-8"))
            said |= {str(k): _plain(v) for k, v in found.items()} if isinstance(found, dict) else {}
    beside = _find_beside(path)
    coords = _take_coords(_load_npz(beside) if beside is not None else arrays)
    return _describe(path, name, (tiles, size), arrays[name].dtype, offset, said, coords)


def _choose_array(path: Path, arrays: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> str | None:
    """Return the name of the array of features; None where the file holds coordinates alone.

    Raises:
        DataError: several arrays may be it, or none.
    """
    for name in NAMES:
        if name in arrays:
            return name
    rest = [n for n, (shape, dtype) in arrays.items() if n not in COORDS and dtype.kind == "f" and len(shape) in {1, 2}]
    if len(rest) == 1:
        return rest[0]
    if not rest and any(name in arrays for name in (*COORDS, "x")):
        return None
    held = ", ".join(f"{n} {shape} {dtype}" for n, (shape, dtype) in arrays.items()) or "nothing"
    what = "several arrays that may be the features" if rest else "no array of features"
    fix = f"call the array of features '{NAMES[0]}', (tiles, dimensions)"
    raise DataError(f"{path} holds {what}", [Problem("features-unknown", str(path), f"holds {what}: {held}.", fix)])


def _check_shape(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return (N, D).

    Raises:
        DataError: it is no table of numbers.
    """
    bare = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape  # a batch of one slide
    if dtype.str[1:] not in DTYPES or len(bare) not in {1, 2} or bare[-1] == 0:
        message = f"has '{name}' of shape {shape} and type {dtype}, not (tiles, dimensions) of floating numbers."
        raise DataError(
            f"{path} holds no features",
            [Problem("features-shape", str(path), message, "export the features as a table of float16 or float32")],
        )
    return (1, bare[0]) if len(bare) == 1 else (bare[0], bare[1])


def _describe(
    path: Path,
    name: str,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    offset: int | None,
    said: dict[str, Any],
    coords: NDArray[Any] | None,
) -> FeatureFile:
    """Return the file with what its attributes say, and what is guessed where they are silent."""
    guessed: list[str] = []
    tool = "stamp" if "stamp_version" in said else "trident" if "patch_size_level0" in said else ""
    tool = str(said.get("tool", tool)) or ("slideflow" if "normalizer" in said and "tile_px" in said else "")
    encoder = str(said.get("extractor") or said.get("encoder") or "")
    if not encoder:
        guessed.append("the encoder is not said")
    unit, side, mpp = "", 0.0, _number(said.get("mpp"))
    if coords is not None:
        if len(coords) != shape[0]:
            message = f"has {shape[0]} tiles and {len(coords)} coordinates."
            raise DataError(
                f"{path} contradicts itself",
                [Problem("features-coords", str(path), message, "extract this slide again")],
            )
        unit = "um" if str(said.get("unit", "")).lower() in {"um", "µm", "micrometer", "micrometre"} else "px"
        if "unit" not in said:
            guessed.append("the unit of the coordinates is not said; taken as pixels of level 0")
        side = _number(said.get("tile_size_um" if unit == "um" else "patch_size_level0")) or 0.0
        if not side and unit == "px":
            side = (_number(said.get("patch_size")) or 0.0) * (_number(said.get("downsample")) or 1.0)
        if not side and len(coords) > 1:
            side = _find_stride(np.asarray(coords, dtype=np.float64))
            if side:
                guessed.append(f"the side of a tile is not said; taken as the stride of the grid, {side:g} {unit}")
    return FeatureFile(
        path, tool, name, *shape, np.dtype(dtype), offset, encoder, unit, float(side), mpp, tuple(guessed), said
    )


def _find_stride(coords: NDArray[np.float64]) -> float:
    """Return the commonest step between neighbouring places along an axis; 0 where there is none."""
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in coords.T])
    steps = np.round(steps[steps > 0], 3)
    if not len(steps):
        return 0.0
    values, counts = np.unique(steps, return_counts=True)
    return float(values[counts.argmax()])


def _find_beside(path: Path) -> Path | None:
    """Return the file of coordinates beside features without any: slideflow's index, slide2vec's coordinates."""
    stem = path.with_suffix("").name
    for place in (
        path.with_name(f"{stem}.index.npz"),
        path.with_name(f"{stem}.coordinates.npz"),
        path.parent.parent / "tiles" / f"{stem}.coordinates.npz",
    ):
        if place.is_file():
            return place
    return None


def _take_coords(arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64] | None:
    if "x" in arrays and "y" in arrays:
        return np.stack([arrays["x"], arrays["y"]], axis=1).astype(np.float64)
    found = next((arrays[n] for n in (*COORDS, "arr_0") if n in arrays), None)
    return None if found is None or found.ndim != 2 or found.shape[1] != 2 else found.astype(np.float64)


def _load_npz(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _load_torch(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a ``.pt`` as arrays; nothing in it is carried out, for only tensors are read."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    found = {LONELY: content} if isinstance(content, torch.Tensor) else content if isinstance(content, dict) else {}
    tensors = {str(k): v.detach() for k, v in found.items() if isinstance(v, torch.Tensor)}
    return {k: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for k, v in tensors.items()}


_LOADERS: dict[str, Callable[[Path], dict[str, NDArray[Any]]]] = {".pt": _load_torch, ".npz": _load_npz}


def _plain(value: Any) -> Any:
    """Return an attribute as text or number."""
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value.item() if isinstance(value, np.generic) else value


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise about a damaged file into a problem that names it."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(path, f"cannot be read: {said}") from None


def _damaged(path: Path, what: str) -> DataError:
    fix = "extract or copy this file again"
    return DataError(f"{path} {what}", [Problem("features-damaged", str(path), f"{what}.", fix)])
