"""All tiles of a cohort in one file, built once, read by row.

A store is a folder named by its key: ``tiles.u8`` (rows of tile_px x tile_px x 3 bytes), ``masks.u1`` (the mask in
each tile, a bit a pixel), ``rasters.u8`` (the same shrunk), ``stained.u8`` (pixels that speak of each image's stain),
``shapes.npz`` (whole masks), ``index.npz`` and ``store.json``; what a method makes of the stains, ``stain-METHOD.npz``,
is added when it is first asked for. The key covers the bytes of images and masks, repairs, the knobs that matter for
the source, and the code of this module and of what it imports; labels, cases and the order of the samples are left out,
so that a corrected label does not cut anything again.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import images, recipe, records, store
from ..errors import DataError, RunError
from ..records.layout import (
    HASHES,
    MASK_SHAPES,
    STAINED_PIXELS,
    TILE_INDEX,
    TILE_MASKS,
    TILE_PIXELS,
    TILE_RASTERS,
    TILE_STORE,
    TILES_PREFIX,
    name_stain_frames,
)  # fmt: skip
from ..tissue.stainable import Staining, measure_frame
from ..types import Cohort, Sample
from .cut import Bag, bound_bag, cut_bag, cut_pieces
from .exchange import exchange_masks
from .shape import OUTLINE_PX, SHAPE_NAMES

WORKERS = 2
LOOK_AHEAD = 4  # bags cut but not yet written; bounds memory when the disk is slower than the cutting
PIECE_BYTES = 64_000_000  # larger bags are cut and written in pieces
CHANNELS = 3
GRID_KNOBS = (
    "field_px", "mpp", "image_mpp", "magnifications", "overlap_frac", "min_coverage", "min_tiles", "max_tiles",
)  # fmt: skip
RASTER_PX = 16  # side of the shrunken mask of a tile: a cell is some 14 px at 224, a nucleus; finer is the channel's
Packed = dict[str, NDArray[Any]]
INDEX_COLUMNS = ("positions", "coverage", "scale", "kind")  # of a bag and of the store: one entry a tile


@dataclass(frozen=True, slots=True, eq=False)
class TileStore:
    """The tiles of a cohort, bag after bag.

    Attributes:
        key: hash of everything that the tiles depend on.
        folder: where the files are.
        tile_px: side of a tile.
        images: image names, sorted; bag i belongs to ``images[i]``.
        starts: (len(images) + 1,) rows where bags start; the last is the number of rows.
        positions: (rows, 2) (row_px, col_px) of each tile in its image.
        coverage: (rows,) share of each tile under the mask.
        scale: (rows,) image pixels per pixel of each tile, which shows ``scale * tile_px`` image pixels to a side.
        kind: (rows,) why the stain of a tile is to be left alone, as in `Staining`.
        stained: (len(images) + 1,) where the pixels of images start that speak of their stain.
    """

    key: str
    folder: Path
    tile_px: int
    images: tuple[str, ...]
    starts: NDArray[np.int64]
    positions: NDArray[np.int64]
    coverage: NDArray[np.float32]
    scale: NDArray[np.float32]
    kind: NDArray[np.uint8]
    stained: NDArray[np.int64]
    _order: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", {name: i for i, name in enumerate(self.images)})

    def __len__(self) -> int:
        return int(self.starts[-1])

    def position(self, image: str) -> int:
        """Return the index of an image in `images`.

        Raises:
            RunError: the store does not hold this image.
        """
        if image not in self._order:
            raise RunError(f"{self.folder} holds no tiles of {image}", fix="build the store of the cohort that has it")
        return self._order[image]

    def count(self, i: int) -> int:
        """Return number of tiles of bag ``i``."""
        return len(self.rows(i))

    def rows(self, i: int) -> range:
        """Return rows of bag ``i``."""
        return range(int(self.starts[i]), int(self.starts[i + 1]))

    def find_places(self, i: int) -> NDArray[np.float32]:
        """Return the places of the tiles of bag ``i``, (row, col) in sides of its finest tiles, (N, 2).

        What counts is the middle of a tile: tiles of several magnifications around one point have one place.
        """
        rows = self.rows(i)
        if not rows:
            return np.empty((0, 2), dtype=np.float32)
        chosen = np.s_[rows.start : rows.stop]
        sides = self.scale[chosen, None].astype(np.float64) * self.tile_px
        finest = sides.min()
        return ((self.positions[chosen] + (sides - finest) / 2) / finest).astype(np.float32)

    def read_staining(self, method: str) -> Staining:
        """Return the stain of each image by one of `smalti.tissue.frames.STAINS`; measured once and kept.

        Raises:
            RunError: the store is damaged.
        """
        path = self.folder / name_stain_frames(method)
        if not path.is_file():
            pixels = np.fromfile(self.folder / STAINED_PIXELS, dtype=np.uint8).reshape(-1, CHANNELS)
            found = [measure_frame(part, method) for part in np.split(pixels, self.stained[1:-1])]
            frames, kinds = zip(*found, strict=True)
            store.write_arrays(path, {"frames": np.stack(frames), "kind": np.array(kinds, dtype=np.uint8)})
        return Staining(**store.read_arrays(path, ("frames", "kind")), tile_kind=self.kind)

    def read_rows(self, start: int, stop: int, *, masked: bool = False) -> NDArray[np.uint8]:
        """Return tiles ``start`` to ``stop`` (excluded), as `read_tiles`."""
        return self.read_tiles(np.arange(start, stop, dtype=np.int64), masked=masked)

    def read_tiles(self, rows: NDArray[np.int64], *, masked: bool = False) -> NDArray[np.uint8]:
        """Return tiles of these rows, in this order, (n, tile_px, tile_px, 3) RGB.

        ``masked``: the mask last, 0 and 255.

        Read from the file, not through a memory map: as fast (``benchmarks/bench_tile.py``), and pages of a map count
        as this process's memory until it ends, so a walk through a large store would fill what a machine has.

        Raises:
            IndexError: a row outside the store.
        """
        tiles = self._read(TILE_PIXELS, rows).reshape(-1, self.tile_px, self.tile_px, CHANNELS)
        if not masked:
            return tiles
        return np.concatenate([tiles, 255 * self.read_masks(rows)[..., None]], axis=3)

    def read_masks(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the mask (or tissue) in tiles, (n, tile_px, tile_px) of 0 and 1."""
        pixels = self.tile_px * self.tile_px
        bits = np.unpackbits(self._read(TILE_MASKS, rows), axis=1, count=pixels)
        return bits.reshape(-1, self.tile_px, self.tile_px)

    def read_rasters(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the same shrunk, (n, `RASTER_PX`, `RASTER_PX`): coverage of each cell, 0 to 255."""
        return self._read(TILE_RASTERS, rows).reshape(-1, RASTER_PX, RASTER_PX)

    def read_shapes(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the whole mask of each image, (images, S, S) 0 to 255, and its `SHAPE_NAMES`, (images, K)."""
        arrays = store.read_arrays(self.folder / MASK_SHAPES, ("outlines", "shapes"))
        return arrays["outlines"], arrays["shapes"]

    def _read(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return rows of one of the files, (n, bytes of a row)."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a store with {len(self)} rows")
        size = self._row_bytes[name]
        values = np.empty((len(rows), size), dtype=np.uint8)
        if len(rows) == 0:
            return values
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        with (self.folder / name).open("rb", buffering=0) as file:
            for first, last in zip([0, *edges], [*edges, len(rows)], strict=True):
                file.seek(int(rows[first]) * size)
                view = values[first:last].reshape(-1).data
                while view:
                    count = file.readinto(view)  # may be less than asked for: Linux reads at most 2 GB at once
                    if not count:
                        fix = f"delete {self.folder} and run again"
                        raise RunError(f"a file in {self.folder} became shorter", fix=fix)
                    view = view[count:]
        return values

    @property
    def _row_bytes(self) -> dict[str, int]:
        """Return bytes of a row of each file that has one a tile."""
        pixels = self.tile_px * self.tile_px
        return {TILE_PIXELS: pixels * CHANNELS, TILE_MASKS: -(-pixels // 8), TILE_RASTERS: RASTER_PX * RASTER_PX}


def build_store(
    cohort: Cohort,
    tile: recipe.Tile,
    *,
    tile_px: int,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> TileStore:
    """Return the tiles of all samples of a cohort; cut now unless ``cache`` has them.

    Args:
        cohort: labelled and unlabelled samples.
        tile: source, overlap, floor and ceiling; ``size_px`` is resolved by the caller into ``tile_px``.
        tile_px: side of a stored tile.
        cache: folder of stores; may be shared by several processes and runs.
        progress: called with images done and images in all.

    Raises:
        RunError: not enough disk, or a damaged store.
        DataError: an image or a mask cannot be read, or is not the one that the key was made of.
        RecipeError: masks cannot be exchanged between cases.
    """
    if tile.other_masks:
        cohort = exchange_masks(cohort)
    samples = tuple(sorted(cohort.samples, key=lambda s: s.image))
    cache.mkdir(parents=True, exist_ok=True)
    memo = cache / HASHES
    hashes = store.hash_files((p for s in samples for p in s.files), memo=memo)
    rows = [
        f"{s.image}|{hashes[s.path]}|{records.identify_mask(s, hashes)}|{s.foreign_mask}|{s.repair or ''}"
        + (f"|{s.bits}" if s.bits else "")
        for s in samples
    ]
    knobs = json.dumps(_name_knobs(tile, tile_px), sort_keys=True)
    key = store.hash_text(knobs, store.hash_code("smalti.tile.store"), *rows)

    def build(folder: Path) -> None:
        _check_disk(samples, tile, tile_px=tile_px, folder=folder)
        try:
            _write_store(samples, tile, tile_px=tile_px, hashes=hashes, folder=folder, progress=progress)
        except DataError:
            memo.unlink(missing_ok=True)  # where the file system gave a changed file its old stamp, the memo is wrong
            raise

    return open_store(store.build_once(cache / f"{TILES_PREFIX}{key}", build))


def open_store(folder: Path) -> TileStore:
    """Read the index of a store.

    Raises:
        RunError: no store there, or it is damaged.
    """
    with store.reading(folder, fix="delete it and run again"):
        about = store.read_json(folder / TILE_STORE, "tile_px", "images")
        tiles = TileStore(
            key=folder.name.removeprefix(TILES_PREFIX),
            folder=folder,
            tile_px=int(about["tile_px"]),
            images=tuple(about["images"]),
            **store.read_arrays(folder / TILE_INDEX, ("starts", "stained", *INDEX_COLUMNS)),
        )
        wholes = {name: len(tiles) * size for name, size in tiles._row_bytes.items()}
        wholes[STAINED_PIXELS] = int(tiles.stained[-1]) * CHANNELS
        sizes = {name: (folder / name).stat().st_size for name in wholes}
    for name, wanted in wholes.items():
        found = sizes[name]
        if wanted != found:
            raise RunError(f"{folder / name} has {found} bytes, not {wanted}", fix=f"delete {folder} and run again")
    return tiles


def _name_knobs(tile: recipe.Tile, tile_px: int) -> dict[str, object]:
    """Return the knobs that this source reads; others must not change the key."""
    knobs = {"tile_px": tile_px, **tile.model_dump(include={"source", "regions", "outside"})}
    if tile.source == "tiles":
        # Components are cut as the whole image is, by all of these, where the mask is empty.
        knobs |= tile.model_dump(include={*GRID_KNOBS, "within"})
    if tile.regions == "components":
        knobs["max_tiles"] = tile.max_tiles
    return knobs


def _check_disk(samples: tuple[Sample, ...], tile: recipe.Tile, *, tile_px: int, folder: Path) -> None:
    tiles = sum(bound_bag(s, tile, tile_px=tile_px) for s in samples)
    needed_gb = tiles * tile_px * tile_px * CHANNELS / 1e9
    free_gb = shutil.disk_usage(folder).free / 1e9
    if needed_gb > free_gb:
        raise RunError(
            f"the tiles of {len(samples)} images need up to {needed_gb:.1f} GB in {folder.parent}, "
            f"{free_gb:.1f} GB are free",
            fix="free some disk, lower tile.max_tiles, or put the cache elsewhere",
        )


def _write_store(
    samples: tuple[Sample, ...],
    tile: recipe.Tile,
    *,
    tile_px: int,
    hashes: Mapping[Path, str],
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write bag after bag and piece after piece, so that memory is bounded whatever the images."""
    counts, stained = (np.zeros(len(samples) + 1, dtype=np.int64) for _ in range(2))
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in INDEX_COLUMNS}
    outlines = np.empty((len(samples), OUTLINE_PX, OUTLINE_PX), dtype=np.uint8)
    shapes = np.empty((len(samples), len(SHAPE_NAMES)), dtype=np.float32)
    names = (TILE_PIXELS, TILE_MASKS, TILE_RASTERS, STAINED_PIXELS)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in names}
        for i, pieces in enumerate(_cut_ahead(samples, tile, tile_px=tile_px, hashes=hashes)):
            for packed in pieces:
                for name, file in files.items():
                    file.write(np.ascontiguousarray(packed[name]).data)
                counts[i + 1] += len(packed[TILE_PIXELS])
                stained[i + 1] += len(packed[STAINED_PIXELS])
                for name, column in columns.items():
                    column.append(packed[name])
                outlines[i], shapes[i] = packed["outline"], packed["shape"]
            if progress is not None:
                progress(i + 1, len(samples))
    index = {name: np.concatenate(column) for name, column in columns.items()}
    starts = {"starts": np.cumsum(counts), "stained": np.cumsum(stained)}
    np.savez(folder / TILE_INDEX, **starts, **index)  # type: ignore[arg-type]  # no key is allow_pickle
    np.savez(folder / MASK_SHAPES, outlines=outlines, shapes=shapes)
    about = {"knobs": _name_knobs(tile, tile_px), "tile_px": tile_px, "images": [s.image for s in samples]}
    store.write_json(folder / TILE_STORE, about)


def pack_bag(bag: Bag) -> Packed:
    """Return what a store keeps of a bag, by file and by column; of stained pixels (n, 3), of the rest a row a tile."""
    outline, shape = bag.describe_whole()
    return {
        TILE_PIXELS: bag.pixels, TILE_MASKS: pack_masks(bag.masks), TILE_RASTERS: shrink_masks(bag.masks),
        STAINED_PIXELS: bag.choose_tissue(), "positions": bag.positions, "coverage": bag.coverage, "scale": bag.scale,
        "kind": bag.judge_tiles(), "outline": outline, "shape": shape,
    }  # fmt: skip


def pack_masks(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return masks (n, side, side) of 0 and 1 with eight pixels a byte, (n, bytes)."""
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


def shrink_masks(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return their coverage of the cells of a raster, 0 to 255, (n, `RASTER_PX`, `RASTER_PX`)."""
    side = (RASTER_PX, RASTER_PX)
    return np.asarray([cv2.resize(255 * m, side, interpolation=cv2.INTER_AREA) for m in masks], dtype=np.uint8)


def is_large(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> bool:
    """Return whether an image, or its bag, is too large to be held in memory as a whole.

    Raises:
        DataError: the image cannot be read.
    """
    if math.prod(images.read_size(sample.path)) > images.WHOLE_PX:
        return True
    return bound_bag(sample, tile, tile_px=tile_px) * tile_px * tile_px * CHANNELS > PIECE_BYTES


def _cut_ahead(
    samples: tuple[Sample, ...], tile: recipe.Tile, *, tile_px: int, hashes: Mapping[Path, str]
) -> Iterator[Iterable[Packed]]:
    """Yield packed bags in the order of the samples, cut by a few threads that never run far ahead of the reader.

    What is too large to be held is cut by the reader itself, while it reads.
    """
    piece_tiles = max(1, PIECE_BYTES // (tile_px * tile_px * CHANNELS))
    pending: deque[Future[Packed] | Iterator[Packed]] = deque()

    def pack(sample: Sample) -> Packed:
        return pack_bag(cut_bag(sample, tile, tile_px=tile_px, hashes=hashes))

    def collect() -> Iterable[Packed]:
        first = pending.popleft()
        return (first.result(),) if isinstance(first, Future) else first

    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for sample in samples:
                if is_large(sample, tile, tile_px=tile_px):
                    pieces = cut_pieces(sample, tile, tile_px=tile_px, piece_tiles=piece_tiles, hashes=hashes)
                    pending.append(map(pack_bag, pieces))
                else:
                    pending.append(pool.submit(pack, sample))
                if len(pending) >= LOOK_AHEAD:
                    yield collect()
            while pending:
                yield collect()
        finally:
            # After a failure the cutting that has not begun would only delay the message.
            for waiting in pending:
                if isinstance(waiting, Future):
                    waiting.cancel()
