"""Bags of features that were made elsewhere, as a store of tiles without pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import store
from ..errors import NotApplicableError
from ..features import FeatureFile, open_features, read_feature_table
from ..recipe import NO_PIXELS
from ..records.layout import HASHES
from ..types import Cohort, FeatureSpec, Sample
from .store import TileStore


@dataclass(frozen=True, slots=True, eq=False)
class GivenStore(TileStore):
    """The bags of a cohort of features; a tile is a row of numbers, a place if its file says one, and no picture.

    Attributes:
        spec: what the features are.
        samples: of each bag, in the order of ``images``.
        files: of each bag; None for rows of a table.
    """

    spec: FeatureSpec
    samples: tuple[Sample, ...]
    files: tuple[FeatureFile | None, ...]

    def read_bag(self, i: int) -> NDArray[np.float32]:
        """Return the features (N, D) of a bag.

        Raises:
            DataError: its file cannot be read.
        """
        file = self.files[i]
        if file is not None:
            return file.read().astype(np.float32, copy=False)
        sample = self.samples[i]
        table = read_feature_table(sample.path, self.spec.columns, delimiter=self.spec.delimiter)
        return table.values[list(sample.bag or ())]

    def read_part(self, i: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop`` (excluded) of a bag, (n, D)."""
        file = self.files[i]
        return self.read_bag(i)[start:stop] if file is None else file.read(start, stop).astype(np.float32, copy=False)

    def read_bag_rows(self, i: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows (n, D) of a bag, counted from its first."""
        file = self.files[i]
        return self.read_bag(i)[rows] if file is None else file.read_rows(rows).astype(np.float32, copy=False)

    def _read(self, name: str, rows: NDArray[np.int64]) -> NoReturn:
        raise NotApplicableError(f"not applicable: {NO_PIXELS}", fix="leave out what looks at tiles")


def open_given(cohort: Cohort, *, cache: Path) -> GivenStore:
    """Return the bags of all samples of a cohort of features; nothing is copied.

    Raises:
        DataError: a file cannot be read.
    """
    spec = cohort.features
    assert spec is not None
    samples = tuple(sorted(cohort.samples, key=lambda s: s.image))
    cache.mkdir(parents=True, exist_ok=True)
    hashes = store.hash_files((s.path for s in samples), memo=cache / HASHES)
    return hold_given(samples, spec, hashes=hashes)


@dataclass(frozen=True, slots=True, eq=False)
class HeldGiven(GivenStore):
    """One bag in memory; ``values`` are its features (N, D) float32."""

    values: NDArray[np.float32]

    def read_bag(self, i: int) -> NDArray[np.float32]:
        """Return the features (N, D)."""
        return self.values


def hold_array(name: str, values: NDArray[np.float32], spec: FeatureSpec) -> GivenStore:
    """Return a bag (N, D) that is in memory as a store; its tiles have no places."""
    count = len(values)
    return HeldGiven(
        "", Path(), 1, (name,), np.array([0, count]), np.stack([np.arange(count), np.zeros(count, np.int64)], axis=1),
        np.ones(count, np.float32), np.ones(count, np.float32), np.zeros(count, np.uint8), np.zeros(2, np.int64),
        spec, (), (None,), values,
    )  # fmt: skip


def count_tiles(samples: Sequence[Sample]) -> list[int]:
    """Return the number of tiles of each bag of a cohort of features; nothing but the heads of files is read."""
    files = (open_features(s.path) if s.bag is None else None for s in samples)
    return [len(s.bag or ()) if file is None else file.tiles for s, file in zip(samples, files, strict=True)]


def hold_given(samples: tuple[Sample, ...], spec: FeatureSpec, *, hashes: Mapping[Path, str]) -> GivenStore:
    """Return bags of these samples, which are sorted by their images."""
    rows = [f"{s.image}|{hashes[s.path]}|{s.bag}" for s in samples]
    files = tuple(open_features(s.path) if s.bag is None else None for s in samples)
    counts = count_tiles(samples)
    places, sides = [], []
    for file, count in zip(files, counts, strict=True):
        coords = None if file is None else file.read_coords()
        # A bag without places is a column of tiles, so that each has one of its own.
        known = np.stack([np.arange(count), np.zeros(count)], axis=1) if coords is None else coords[:, ::-1]
        places.append(np.rint(known).astype(np.int64))
        sides.append(np.full(count, 1.0 if coords is None or file is None else file.side or 1.0))
    total = sum(counts)
    return GivenStore(
        key=store.hash_text("given", str(spec.columns), *rows),
        folder=Path(),
        tile_px=1,
        images=tuple(s.image for s in samples),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        positions=np.concatenate(places),
        coverage=np.ones(total, dtype=np.float32),
        scale=np.concatenate(sides).astype(np.float32),
        kind=np.zeros(total, dtype=np.uint8),
        stained=np.zeros(len(samples) + 1, dtype=np.int64),
        spec=spec,
        samples=samples,
        files=files,
    )
