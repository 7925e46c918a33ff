"""Bags of tiles from the store, a batch at a time, read one step ahead of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..tile import TileStore

T = TypeVar("T")
_END = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """B images with N drawn tiles each: tiles uint8 (B, N, H, W, 3), with the mask (B, N, H, W, 4); targets int64 (B,).

    Attributes:
        places: (B, N, 2) (row, col) of the tiles in tile sides.
        bags, rows: (B,) and (B, N), where the images and the tiles are in the store.
    """

    tiles: NDArray[np.uint8]
    places: NDArray[np.float32]
    targets: torch.Tensor
    bags: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BagBatches:
    """Draws training batches.

    Attributes:
        bags: position in the store of each training image.
        targets: class of each training image.
        batch_images: images in a batch.
        tiles_per_image: tiles drawn from a bag, without replacement where the bag has enough.
        masked: whether tiles come with their mask as a fourth channel.
    """

    store: TileStore
    bags: NDArray[np.int64]
    targets: NDArray[np.int64]
    batch_images: int
    tiles_per_image: int
    masked: bool = False

    def draw(self, rng: np.random.Generator) -> Iterator[Batch]:
        """One pass over the images in random order; the same ``rng`` state gives the same batches."""
        for chosen in shuffle_batches(len(self.bags), self.batch_images, rng=rng):
            bags = self.bags[chosen].tolist()
            rows = [self._draw_rows(bag, rng) for bag in bags]
            tiles = self.store.read_tiles(np.concatenate(rows), masked=self.masked)
            shape = (len(chosen), self.tiles_per_image, *tiles.shape[1:])
            places = [
                self.store.find_places(bag)[r - self.store.rows(bag).start] for bag, r in zip(bags, rows, strict=True)
            ]
            targets = torch.from_numpy(self.targets[chosen])
            yield Batch(tiles.reshape(shape), np.stack(places), targets, self.bags[chosen], np.stack(rows))

    def _draw_rows(self, bag: int, rng: np.random.Generator) -> NDArray[np.int64]:
        rows = np.asarray(self.store.rows(bag), dtype=np.int64)
        return rng.choice(rows, self.tiles_per_image, replace=len(rows) < self.tiles_per_image)


def shuffle_batches(count: int, size: int, *, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """A random order of ``count`` items cut into near-equal batches of at most ``size``; no batch of one is left over.

    Near-equal because a last batch of one image would be a noisy step, and breaks live batch normalisation.
    """
    return [b for b in np.array_split(rng.permutation(count), max(1, -(-count // size))) if len(b)]


def iterate_ahead(items: Iterator[T], *, depth: int = 2) -> Iterator[T]:
    """The same items, made up to ``depth`` steps ahead in a thread; an error there is raised here."""
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def offer(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, which raises it
            failure.append(error)
        offer(_END)

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        thread.join()
