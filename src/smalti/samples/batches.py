"""Bags of tiles from the store, a batch at a time, read one step ahead of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..tile import TileStore
from ..types import Sampling
from .mixing import measure_step, mix_targets, pair_bags, split_tiles

T = TypeVar("T")
_END = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """B images with N drawn tiles each: tiles uint8 (B, N, H, W, 3), with the mask (B, N, H, W, 4); targets int64 (B,),
    or shares (B, C) where bags are mixed.

    Attributes:
        places: (B, N, 2) (row, col) of the tiles in tile sides.
        bags, rows: (B,) and (B, N), where the images and the tiles are in the store.
        whole: targets of all images of the step, of which several processes take a share each; the same as ``targets``
            where one process takes all.
    """

    tiles: NDArray[np.uint8]
    places: NDArray[np.float32]
    targets: torch.Tensor
    bags: NDArray[np.int64]
    rows: NDArray[np.int64]
    whole: torch.Tensor

    def take(self, part: slice) -> Batch:
        """Return some of its images."""
        chosen = {name: getattr(self, name)[part] for name in ("tiles", "places", "targets", "bags", "rows")}
        return replace(self, **chosen)


@dataclass(frozen=True, slots=True)
class Share:
    """Which images of each step a process takes, of several that train one network together."""

    rank: int = 0
    ranks: int = 1

    def of(self, count: int) -> slice:
        """Return its places among ``count`` images; shares differ by one image at most."""
        return slice(count * self.rank // self.ranks, count * (self.rank + 1) // self.ranks)


@dataclass(frozen=True, slots=True)
class BagBatches:
    """Draws training batches.

    Attributes:
        bags: position in the store of each training image.
        targets: class of each training image.
        batch_images: images in a batch.
        tiles_per_image: tiles drawn from a bag, without replacement where the bag has enough.
        masked: whether tiles come with their mask as a fourth channel.
        mixing: alpha of the shares of two bags that are mixed, and the number of classes; None mixes nothing.
        chances: (n,) of each image at each draw; None takes each once in a pass.
        share: which images of each batch are read; all are drawn, so that the others are those of other processes.
    """

    store: TileStore
    bags: NDArray[np.int64]
    targets: NDArray[np.int64]
    batch_images: int
    tiles_per_image: int
    masked: bool = False
    mixing: tuple[float, int] | None = None
    chances: NDArray[np.float64] | None = None
    share: Share = Share()

    def draw(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch in random order; the same ``rng`` state gives the same batches."""
        for chosen in draw_images(len(self.bags), self.batch_images, rng=rng, chances=self.chances):
            bags = self.bags[chosen].tolist()
            stored = [np.asarray(self.store.rows(bag), dtype=np.int64) for bag in bags]
            count = self.tiles_per_image
            rows = np.stack([rng.choice(every, count, replace=len(every) < count) for every in stored])
            starts = (self.store.rows(bag).start for bag in bags)
            places = np.stack(
                [self.store.find_places(bag)[r - start] for bag, r, start in zip(bags, rows, starts, strict=True)]
            )
            targets = torch.from_numpy(self.targets[chosen])
            if self.mixing is not None:
                # The first of a bag's drawn tiles and the last of its partner's; both were drawn in random order.
                alpha, classes = self.mixing
                pairing = pair_bags(len(rows), alpha=alpha, rng=rng)
                kept = np.array([split_tiles(count, count, share=share)[0] for share in pairing.shares])
                own = np.arange(count) < kept[:, None]
                beside = places[pairing.partners] + measure_step(places)[:, None]
                places = np.where(own[..., None], places, beside).astype(np.float32)
                targets = mix_targets(targets, pairing, kept=kept / count, classes=classes)
                rows = np.where(own, rows, rows[pairing.partners])
            mine = self.share.of(len(rows))
            whole, rows = targets, rows[mine]
            tiles = self.store.read_tiles(rows.ravel(), masked=self.masked)
            shaped = tiles.reshape(*rows.shape, *tiles.shape[1:])
            yield Batch(shaped, places[mine], targets[mine], self.bags[chosen][mine], rows, whole)


def draw_images(
    count: int, size: int, *, rng: np.random.Generator, chances: NDArray[np.float64] | None = None
) -> list[NDArray[np.int64]]:
    """Draw the batches of one epoch over ``count`` images, near-equal batches of at most ``size``.

    A random order, or with ``chances`` (count,) as many independent draws. Near-equal because a last batch of one
    image would be a noisy step, and breaks live batch normalisation.
    """
    order = rng.permutation(count) if chances is None else rng.choice(count, count, p=chances)
    return [b for b in np.array_split(order, max(1, -(-count // size))) if len(b)]


def find_chances(targets: NDArray[np.int64], cases: Sequence[str], *, sampling: Sampling) -> NDArray[np.float64] | None:
    """Return the chance of each of n images at each draw (n,); None where each comes once in a pass.

    ``balanced``: every class alike. ``cases``: every case alike, so that a case of many images does not outvote the
    rest. ``balanced_cases``: every class alike, and in a class every case.
    """
    if sampling == "shuffled":
        return None
    names = np.unique(np.asarray(cases), return_inverse=True)[1]
    chances = np.ones(len(targets))
    if sampling != "balanced":
        # A case of images of two classes counts in both of them.
        groups = names if sampling == "cases" else np.unique([targets, names], axis=1, return_inverse=True)[1].ravel()
        chances /= np.bincount(groups)[groups]
    if sampling != "cases":
        chances /= np.bincount(targets, weights=chances)[targets]
    return chances / chances.sum()


def iterate_ahead(items: Iterator[T], *, depth: int = 2) -> Iterator[T]:
    """Yield the same items, made up to ``depth`` steps ahead in a thread; an error there is raised here."""
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
