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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, Problem, show_text
from .arrays import StoredArray, list_arrays
from .attributes import plain, read_attributes

H5_SUFFIXES = (".h5", ".hdf5")
FEATURE_SUFFIXES = (*H5_SUFFIXES, ".pt", ".npz")
NAMES = ("features", "feats", "patch_embeddings", "embeddings")  # of the array, the likeliest first
COORDS = ("coords", "coordinates", "coord")
INDEX = "arr_0"  # slideflow's coordinates, beside features
DTYPES = ("f2", "f4", "f8")
PART_ROWS = 8192  # tiles that are looked at together
REMEMBERED = 10_000  # files whose description is kept


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """The bag of one slide in a file.

    Attributes:
        path: of the file.
        tool: who wrote it, as far as it tells: ``stamp``, ``trident``, ``clam``, ``slideflow``, ``slide2vec``,
            ``smalti``, or empty.
        dataset: name of the array in the file.
        tiles: N; 1 for one vector a slide.
        size: D.
        dtype: of the values as they are read.
        offset: where they begin in the file, if they lie in one piece; None where a library has to put them together.
        encoder: what made the features; empty where the file does not say it.
        unit: of the coordinates: ``px`` of level 0, ``um``, or empty where there are none.
        side: of a tile in that unit; 0 where not known.
        scale: what stored coordinates are multiplied with to be in that unit.
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
    scale: float = 1.0
    mpp: float | None = None
    guessed: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows ``start`` to ``stop`` (excluded), (n, D), as they are stored.

        Raises:
            DataError: the file cannot be read any more.
        """
        stop = self.tiles if stop is None else min(stop, self.tiles)
        with _reading(self.path):
            if self.offset is not None:
                count = (stop - start) * self.size
                place = self.offset + start * self.size * self.dtype.itemsize
                values = np.fromfile(self.path, dtype=self.dtype, count=count, offset=place)
                if len(values) != count:
                    raise _damaged(self.path, "became shorter")
                return values.reshape(-1, self.size)
            if self.path.suffix.lower() not in H5_SUFFIXES:
                return list_arrays(self.path)[self.dataset].read().reshape(-1, self.size)[start:stop]
            with h5py.File(self.path, "r") as file:
                return self._take(file[self.dataset], slice(start, stop))

    def read_parts(self) -> Iterator[NDArray[Any]]:
        """Yield all rows in parts (n, D) that are not large; a file that is read whole comes as one.

        Raises:
            DataError: the file cannot be read any more.
        """
        whole = self.offset is None and self.path.suffix.lower() not in H5_SUFFIXES
        step = self.tiles if whole else PART_ROWS
        for start in range(0, self.tiles, max(1, step)):
            yield self.read(start, start + step)

    def read_rows(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows (n, D), in this order.

        Raises:
            DataError: the file cannot be read any more.
        """
        if len(rows) == 0:
            return np.empty((0, self.size), dtype=self.dtype)
        if self.offset is not None:
            with _reading(self.path):
                stored = np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=(self.tiles, self.size))
                return np.asarray(stored[rows])
        order = np.unique(rows)
        # Chunks are read whole; many rows touch nearly all of them.
        if self.path.suffix.lower() not in H5_SUFFIXES or len(order) > self.tiles // 4:
            return self.read()[rows]
        with _reading(self.path), h5py.File(self.path, "r") as file:
            return self._take(file[self.dataset], order)[np.searchsorted(order, rows)]

    def _take(self, part: Any, rows: Any) -> NDArray[Any]:
        """Return rows of a dataset, whose bag may lie in a batch of one, in the byte order of this machine."""
        values = part[rows] if part.ndim == 2 else part[0, rows] if part.ndim == 3 else part[()][None][rows]
        return np.asarray(values, dtype=self.dtype)

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
                    found = np.asarray(file[name], dtype=np.float64).reshape(-1, 2)
            else:
                found = np.asarray(_find_coords(self.path, list_arrays(self.path)), dtype=np.float64)
            return found if self.scale == 1.0 else found * self.scale


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
        # What a link leads to in another file is not part of this one.
        own = [name for name in file if not isinstance(file.get(name, getlink=True), h5py.ExternalLink)]
        arrays = {name: part for name in own if isinstance(part := file.get(name), h5py.Dataset)}
        name = _choose_array(path, {n: (p.shape or (), p.dtype) for n, p in arrays.items()})
        if name is None:
            return None
        part = arrays[name]
        if part.external or part.is_virtual:
            raise _refuse(path, "features-elsewhere", f"keeps '{name}' in other files", "copy the numbers into it")
        coords = next((arrays[n] for n in COORDS if n in arrays), None)
        said = {k: plain(v) for holder in (coords, part, file) if holder is not None for k, v in holder.attrs.items()}
        place = part.id.get_offset() if part.chunks is None and part.dtype.isnative else None
        stored = StoredArray(part.shape, part.dtype.newbyteorder("="), place, lambda: part[()])
        return _describe(path, name, stored, said, coords, others=arrays)


def _open_arrays(path: Path) -> FeatureFile | None:
    arrays = list_arrays(path)
    name = _choose_array(path, {n: (a.shape, a.dtype) for n, a in arrays.items()})
    if name is None:
        return None
    said: dict[str, Any] = {}
    for place in (path.parent / "bags_config.json", path.with_suffix(".meta.json")):
        if place.is_file():
            found = json.loads(place.read_text(encoding="utf-8"))
            said |= {str(k): plain(v) for k, v in found.items()} if isinstance(found, dict) else {}
    return _describe(path, name, arrays[name], said, _find_coords(path, arrays), others=arrays)


def _choose_array(path: Path, arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> str | None:
    """Return the name of the array of features; None where the file holds coordinates alone.

    Raises:
        DataError: several arrays may be it, or none.
    """
    for name in NAMES:
        if name in arrays:
            return name
    numbers = {n: len(shape) for n, (shape, dtype) in arrays.items() if n not in COORDS and dtype.kind == "f" and shape}
    rest = [n for n, axes in numbers.items() if axes > 1] or list(numbers)
    if len(rest) == 1:
        return rest[0]
    if not rest and any(name in arrays for name in (*COORDS, "x")):
        return None
    held = ", ".join(f"{n} {shape} {dtype}" for n, (shape, dtype) in list(arrays.items())[:6]) or "nothing"
    what = "several arrays that may be the features" if rest else "no array of features"
    fix = f"call the array of features '{NAMES[0]}', (tiles, dimensions)"
    raise _refuse(path, "features-unknown", f"holds {what}: {held}", fix)


def _describe(
    path: Path,
    name: str,
    stored: StoredArray,
    said: dict[str, Any],
    coords: Any | None,
    *,
    others: Mapping[str, Any],
) -> FeatureFile:
    """Return the file with what its attributes say, and what is guessed where they are silent.

    Raises:
        DataError: the array is no table of numbers, or tiles and coordinates do not fit.
    """
    shape, dtype = stored.shape, stored.dtype
    bare = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape  # a batch of one slide
    if dtype.str[1:] not in DTYPES or len(bare) not in {1, 2} or bare[-1] == 0:
        message = f"has '{name}' of shape {shape} and type {dtype}, not (tiles, dimensions) of floating numbers"
        raise _refuse(path, "features-shape", message, "export the features as a table of float16 or float32")
    tiles, size = (1, bare[0]) if len(bare) == 1 else (bare[0], bare[1])
    notes = [f"it also holds '{n}', which is not read" for n in NAMES if n in others and n != name]
    if coords is not None and (coords.ndim not in {2, 3} or coords.shape[-1] != 2):
        notes.append(f"coordinates of shape {tuple(coords.shape)} are not read, which are not (tiles, 2)")
        coords = None
    if coords is not None and (places := int(np.prod(coords.shape[:-1]))) != tiles:
        if tiles != 1:
            fix = "extract this slide again"
            raise _refuse(path, "features-coords", f"has {tiles} tiles and {places} coordinates", fix)
        coords = None  # one vector of a slide, beside the tiles that it was made of
    one = read_attributes(path, name, said, coords)
    return FeatureFile(
        path, one.tool, name, tiles, size, dtype, stored.offset, one.encoder, one.unit, one.side, one.scale, one.mpp,
        (*one.guessed, *notes), said,
    )  # fmt: skip


def _find_coords(path: Path, arrays: Mapping[str, StoredArray]) -> NDArray[Any] | None:
    """Return coordinates of features without HDF5: slideflow's index and slide2vec's file beside them, or their own."""
    stem = path.with_suffix("").name
    for place in (
        path.with_name(f"{stem}.index.npz"),
        path.with_name(f"{stem}.coordinates.npz"),
        path.parent.parent / "tiles" / f"{stem}.coordinates.npz",
    ):
        if place.is_file():
            with _reading(place):
                beside = list_arrays(place)
                if "x" in beside and "y" in beside:
                    return np.stack([beside["x"].read(), beside["y"].read()], axis=1)
                found = next((beside[n] for n in (*COORDS, INDEX) if n in beside), None)
                return None if found is None else found.read()
    if "x" in arrays and "y" in arrays:
        return np.stack([arrays["x"].read(), arrays["y"].read()], axis=1)
    return next((arrays[n].read() for n in COORDS if n in arrays), None)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libraries raise about a damaged file into a problem that names it."""
    try:
        yield
    except DataError:
        raise
    except (
        OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(path, f"cannot be read: {said.rstrip('.')}") from None


def _damaged(path: Path, what: str) -> DataError:
    return _refuse(path, "features-damaged", what, "extract or copy this file again")


def _refuse(path: Path, code: str, what: str, fix: str) -> DataError:
    what = show_text(what)  # names in a file may hold anything
    return DataError(f"{path} {what}", [Problem(code, str(path), f"{what}.", fix)])
