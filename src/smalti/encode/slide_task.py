"""One slide from file to files: the unit of work."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import images
from ..engine import say
from ..errors import DataError, Problem, RunError
from ..features.writing import FeatureBag, find_file_layout
from ..records import EncodingRecord, SlideRecord, TilePlaces
from ..records.layout import name_encoded, name_places
from ..store import UNKNOWN_REQUEST, hash_file, passing_over
from ..store.leftovers import name_temporary
from ..types import Sample
from .embedder import open_embedder
from .tiling import TileRules, open_tiles


@dataclass(frozen=True, slots=True)
class _Rows:
    """Features in a temporary file."""

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def open(self) -> NDArray[Any]:
        """Return them, (N, D); mapped, not held."""
        if not self.shape[0]:
            return np.empty(self.shape, dtype=self.dtype)
        return np.memmap(self.path, self.dtype, mode="c", shape=self.shape)  # torch takes no array that is read-only


def encode_slide(
    *,
    image: str,
    path: str,
    bits: int | None,
    out: str,
    encoder: Mapping[str, Any],
    rules: Mapping[str, Any],
    workers: int,
) -> None:
    """Encode one slide into the folder of an encoder; the record of the slide is written last.

    Args:
        image: name of the slide in its folder.
        path: its file.
        bits: of its 16-bit values that are in use; None as it says.
        out: folder of the encoder, which has its record.
        encoder: what `open_embedder` takes.
        rules: of `TileRules`.
        workers: threads that read.

    Raises:
        DataError: the slide cannot be read, is not the one of before, or its features are no numbers.
        RunError: a file of other content is in the place of one that is to be written.
        WeightsError: the encoder cannot be had here.
    """
    started, folder = time.monotonic(), Path(out)
    about = EncodingRecord.read(folder)
    chosen = TileRules(**rules)
    sample = Sample(image, Path(path), None, None, image, image, bits=bits)
    mpp = chosen.find_mpp(sample.path)
    content = images.hash_image(sample.path)
    places_file = folder.parent / name_places(image)
    known = TilePlaces.read_file(places_file) if places_file.is_file() else None
    if known is not None and known.content != content:
        message = "is not the file whose tiles were found before."
        problem = Problem("slide-changed", image, message, f"delete {places_file}, or give another --out", (image,))
        raise DataError(f"{image} changed", [problem])
    embedder = open_embedder(**encoder)
    if embedder.weights != about.weights:
        raise RunError(f"{about.encoder} has other weights here", fix="give the same weights to all machines")
    with _temporary(folder) as room:
        with open_tiles(sample, chosen, content=content, known=known) as tiles:
            size = embedder.backbone.features
            values = embedder.embed(tiles.read(workers=workers), say=say)
            rows = _keep_rows(values, room / "rows", size, about.dtype, name=image)
            places = known or tiles.keep_places(content)
        if known is None:
            places.write_file(places_file)
        bag = make_bag(about, places, rows.open(), image=image, path=sample.path, mpp=mpp, rules=chosen)
        made = find_file_layout(about.layout).write(room / "files", bag)
        del bag
        for name in made:
            _put(room / "files" / name, folder / name)
    SlideRecord(
        image=image, key=about.key, content=content, size=sample.path.stat().st_size, files=made, tiles=rows.shape[0],
        glass=places.left_out["glass"], pen=places.left_out["pen"], side_px=places.side_px, mpp=mpp,
        seconds=round(time.monotonic() - started, 3), note=places.note,
    ).write_file(folder / name_encoded(image))  # fmt: skip


def make_bag(
    about: EncodingRecord,
    places: TilePlaces,
    features: NDArray[Any],
    *,
    image: str,
    path: Path,
    mpp: float | None,
    rules: TileRules,
) -> FeatureBag:
    """Return features with all that layouts say of them."""
    row_px, col_px, height_px, width_px = images.read_plane(path)
    return FeatureBag(
        slide=name_bag(image), features=features, coords=np.ascontiguousarray(places.positions[:, ::-1]),
        corner=(col_px, row_px), plane=(width_px, height_px), tile_px=rules.tile_px, side_px=places.side_px,
        overlap_px=round(rules.tile_px * rules.overlap_frac), mpp=mpp,
        tile_mpp=None if mpp is None else mpp * places.side_px / rules.tile_px, encoder=about.encoder, key=about.key,
        version=about.smalti, licence=about.licence,
    )  # fmt: skip


def name_bag(image: str) -> str:
    """Return the name of an image without its suffix."""
    return str(Path(image).with_suffix("").as_posix())


def _keep_rows(values: Iterable[NDArray[np.float32]], path: Path, size: int, dtype: str, *, name: str) -> _Rows:
    """Write features to a file as they come, as numbers of a type.

    Raises:
        DataError: some are NaN or infinite, or too large for half precision.
    """
    count = 0
    with path.open("wb") as file:
        for part in values:
            with np.errstate(over="ignore"):
                kept = part.astype(dtype)
            if not np.isfinite(kept).all():
                large = np.isfinite(part).all()
                what = f"too large for {dtype}" if large else "NaN or infinite"
                fix = "--dtype float32, in another folder" if large else "--precision 32-true, or another encoder"
                raise DataError(
                    f"{name}: features are {what}", [Problem("features-nan", name, f"{what}.", fix, (name,))]
                )
            kept.tofile(file)
            count += len(kept)
    return _Rows(path, (count, size), np.dtype(dtype))


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    room = name_temporary(folder)
    (room / "files").mkdir(parents=True)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _put(made: Path, place: Path) -> None:
    """Move a file to its place, on disk; the same file may be there, of a process that was killed after this.

    Raises:
        RunError: another file is there.
    """
    if place.exists() and hash_file(place) != hash_file(made):
        raise RunError(f"{place} is there already, with other content", fix="delete it, or give another --out")
    place.parent.mkdir(parents=True, exist_ok=True)
    with made.open("rb+") as file, passing_over(UNKNOWN_REQUEST):
        os.fsync(file.fileno())
    made.replace(place)
