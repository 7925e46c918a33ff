"""Frozen features: each tile goes through the backbone once per view, for all folds, seeds and heads.

Kept in the cache, keyed by the tile store, the weights, the number format and the code.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from .. import recipe
from ..errors import RunError
from ..models import Backbone, Pooler, hash_weights, pool_parts
from ..records import FeatureView
from ..records.layout import FEATURE_VALUES, POOLED, POOLED_VALUES
from ..samples import StainMaps, apply_transform, iterate_ahead, view_transform
from ..store import build_once, hash_code, hash_text, read_arrays, write_arrays
from ..tile import GivenStore, TileStore
from .devices import choose_device, make_fabric
from .halving import Embedder, batch_tiles

PART_NUMBERS = 2**22  # of a bag that are pooled together, 16 MB; more do not fit the caches of a processor


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings of every tile of a store, one file per view.

    Attributes:
        files: of each view, (tiles, D) float32.
        size: D.
    """

    files: tuple[Path, ...]
    store: TileStore
    size: int

    @property
    def views(self) -> int:
        """Return the number of views."""
        return len(self.files)

    def read_bag(self, bag: int, *, view: int = 0) -> NDArray[np.float32]:
        """Return embeddings (N, D) of one image."""
        rows = self.store.rows(bag)
        count = len(rows) * self.size
        values = np.fromfile(self.files[view], dtype=np.float32, count=count, offset=rows.start * self.size * 4)
        return values.reshape(len(rows), self.size)

    def read_rows(
        self, bag: int, rows: NDArray[np.int64], *, view: int = 0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return embeddings (n, D) of some tiles of one image, counted from its first; no others are read.

        They are written to ``out`` where that is given, without a copy between.
        """
        tiles = self.store.rows(bag)
        shape = (len(tiles), self.size)
        stored = np.memmap(self.files[view], np.float32, mode="r", offset=tiles.start * self.size * 4, shape=shape)
        return np.take(stored, rows, axis=0, out=out, mode="clip")  # any other mode copies

    def read_coverage(self, bag: int) -> NDArray[np.float32]:
        """Return the share of the tiles of one image under the mask, (N,)."""
        rows = self.store.rows(bag)
        return self.store.coverage[rows.start : rows.stop]

    def pool(self, pooler: Pooler, *, weighs: bool = False) -> torch.Tensor:
        """Return image embeddings (views, images, D) of a pooler that does not learn, weighted by coverage on
        request."""
        out = torch.empty(self.views, len(self.store.images), pooler.features)
        with torch.inference_mode():
            for view, bag in itertools.product(range(self.views), range(len(self.store.images))):
                coverage = torch.from_numpy(self.read_coverage(bag))[None] if weighs else None
                tiles = torch.from_numpy(self.read_bag(bag, view=view))[None]
                out[view, bag] = pooler(tiles, coverage=coverage).embedding[0]
        return out


@dataclass(frozen=True, slots=True)
class HeldFeatures(Features):
    """Embeddings of the tiles of one image in memory.

    Attributes:
        values: of each view, (N, D) float32.
    """

    values: tuple[NDArray[np.float32], ...]

    @property
    def views(self) -> int:
        """Return the number of views."""
        return len(self.values)

    def read_bag(self, bag: int, *, view: int = 0) -> NDArray[np.float32]:
        """Return embeddings (N, D) of the image."""
        return self.values[view]

    def read_rows(
        self, bag: int, rows: NDArray[np.int64], *, view: int = 0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return embeddings (n, D) of some of its tiles, in ``out`` where that is given."""
        return np.take(self.values[view], rows, axis=0, out=out, mode="clip")


@dataclass(frozen=True, slots=True)
class GivenFeatures(Features):
    """Features that were made elsewhere, read where they lie.

    Attributes:
        cache: where embeddings of bags are kept; None keeps none.
    """

    cache: Path | None = None

    @property
    def views(self) -> int:
        """Return 1: there are no pixels to look at again."""
        return 1

    def read_bag(self, bag: int, *, view: int = 0) -> NDArray[np.float32]:
        """Return embeddings (N, D) of one image."""
        return self._given.read_bag(bag)

    def read_rows(
        self, bag: int, rows: NDArray[np.int64], *, view: int = 0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return embeddings (n, D) of some tiles of one image, in ``out`` where that is given."""
        found = self._given.read_bag_rows(bag, rows)
        if out is None:
            return found
        np.copyto(out, found)
        return out

    def pool_bag(self, bag: int, pooler: Pooler) -> torch.Tensor | None:
        """Return what a pooler makes of a bag that is large, (E,) or by class (C, E), read in parts.

        None of a bag that is small, or for a pooler that takes the whole bag.
        """
        count, step = self.store.count(bag), max(1, PART_NUMBERS // self.size)
        if count <= step:
            return None
        device = next((tensor.device for tensor in pooler.state_dict().values()), torch.device("cpu"))

        def read() -> Iterator[torch.Tensor]:
            starts = range(0, count, step)
            parts = (self._given.read_part(bag, start, min(start + step, count)) for start in starts)
            for part in iterate_ahead(parts, depth=1):  # the disk does not wait for the sums
                yield torch.from_numpy(part).to(device)

        return pool_parts(pooler, read)

    def pool(self, pooler: Pooler, *, weighs: bool = False) -> torch.Tensor:
        """Return embeddings (1, bags, E) of a pooler that does not learn, from the cache where they are known."""

        def pool() -> NDArray[np.float32]:
            out = torch.empty(len(self.store.images), pooler.features)
            with torch.inference_mode():
                for bag in range(len(out)):
                    embedding = self.pool_bag(bag, pooler)
                    if embedding is None:
                        embedding = pooler(torch.from_numpy(self.read_bag(bag))[None]).embedding[0]
                    out[bag] = embedding
            return out.numpy()

        if self.cache is None:
            return torch.from_numpy(pool())[None]
        options = {name: value for name, value in vars(pooler).items() if isinstance(value, int | float | str)}
        asked = f"{type(pooler).__name__} {sorted(options.items())}"
        key = hash_text(self.store.key, asked, torch.__version__, hash_code("smalti.train.features"))

        def build(folder: Path) -> None:
            write_arrays(folder / POOLED_VALUES, {"values": pool()})

        folder = build_once(self.cache / "features" / f"{POOLED}-{key}", build)
        return torch.from_numpy(read_arrays(folder / POOLED_VALUES, ("values",))["values"])[None]

    @property
    def _given(self) -> GivenStore:
        assert isinstance(self.store, GivenStore)
        return self.store


def compute_features(
    backbone: Backbone,
    store: TileStore,
    *,
    views: int,
    fabric: Fabric,
    cache: Path,
    stains: StainMaps | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Features:
    """Return features of every tile in the store, from the cache where they are known; each view is kept by itself.

    Tiles are seen after their map of ``stains``, if there are any. Features that were made elsewhere are read as they
    are. ``say`` hears when memory runs out, after which fewer tiles are seen at once.
    """
    if isinstance(store, GivenStore):
        return GivenFeatures((), store, store.spec.size, cache)
    weights = hash_weights(backbone.module)
    code = hash_code("smalti.train.features")
    # Devices round differently, and a run says which one it had.
    computed = f"{fabric.device.type} {fabric._precision.precision}"
    look = "" if stains is None else stains.key
    key = hash_text(store.key, look, backbone.name, weights, str(backbone.spec), computed, torch.__version__, code)
    tiles = int(store.starts[-1])

    def build(folder: Path, view: int) -> None:
        module = fabric.setup_module(backbone.module).eval()
        with (folder / FEATURE_VALUES).open("wb") as file:
            for done, values in embed_view(
                module, backbone, store, view=view, stains=stains, device=fabric.device, say=say
            ):
                values.tofile(file)
                if progress is not None:
                    progress(view * tiles + done, views * tiles)
        FeatureView(size=backbone.features, view=view, backbone=backbone.name).write(folder)

    folders = [
        build_once(cache / "features" / f"{key}-view{view}", lambda folder, view=view: build(folder, view))  # type: ignore[misc]
        for view in range(views)
    ]
    size = FeatureView.read(folders[0]).size
    for folder in folders:
        wanted, found = tiles * size * 4, (folder / FEATURE_VALUES).stat().st_size
        if wanted != found:
            raise RunError(
                f"{folder / FEATURE_VALUES} has {found} bytes, not {wanted}", fix=f"delete {folder}, run again"
            )
    return Features(tuple(folder / FEATURE_VALUES for folder in folders), store, size)


def time_pass(backbone: Backbone, tile_px: int, train: recipe.Train, *, tiles: int) -> float:
    """Return seconds of one tile through a frozen backbone on this machine, the mean over some after a first pass."""
    fabric = make_fabric(choose_device(train))
    module = fabric.setup_module(backbone.module).eval()
    drawn = torch.rand(tiles, 3, tile_px, tile_px, device=fabric.device)
    with torch.inference_mode():
        module(drawn[:2])
        started = time.perf_counter()
        module(drawn).float().cpu()
    return (time.perf_counter() - started) / tiles


def embed_view(
    module: torch.nn.Module,
    backbone: Backbone,
    store: TileStore,
    *,
    view: int,
    stains: StainMaps | None,
    device: torch.device,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield tiles done so far and the embeddings (n, D) of the next chunk, in the order of the store.

    ``module`` is the backbone in eval mode, set up by Fabric.
    """
    total, chunk = int(store.starts[-1]), batch_tiles(device)
    starts = range(0, total, chunk)
    embedder = Embedder(module, backbone.spec, device=device, say=say)

    def read() -> Iterator[NDArray[np.uint8]]:
        for start in starts:
            tiles = store.read_rows(start, min(start + chunk, total))
            seen = tiles if stains is None else stains.restain(tiles, start)
            yield apply_transform(seen[None], view_transform(view, images=1, tiles=len(seen)))[0]

    for start, tiles in zip(starts, iterate_ahead(read()), strict=True):
        yield start + len(tiles), embedder.embed(tiles)
