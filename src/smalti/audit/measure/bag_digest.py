"""The facts that the checks need about each bag of features, read once; a bag has no pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...features import open_features, read_feature_table
from ...types import FeatureSpec, Sample

SAMPLED = 16  # tiles of a bag that are kept, to look for them in another


@dataclass(frozen=True, slots=True, eq=False)
class BagDigest:
    """One bag of a cohort, summed up.

    Attributes:
        image: name in the cohort.
        content_hash: of its numbers as float32, in their order.
        tiles: N.
        mean: (D,) of its tiles.
        spread: (D,) standard deviation of its tiles; zeros for one tile.
        sampled: (n, D) tiles at equal steps, n at most `SAMPLED`.
        tool: what wrote the file; empty for a table, or where it is not known.
        encoder: what made the features; empty where it is not said.
        side: of a tile in the unit of the coordinates; 0 where not known.
        mpp: microns per pixel; None where not known.
        form: type of the numbers as they are stored.
    """

    image: str
    content_hash: str
    tiles: int
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]
    sampled: NDArray[np.float32]
    tool: str = ""
    encoder: str = ""
    side: float = 0.0
    mpp: float | None = None
    form: str = ""


def digest_bag(sample: Sample, spec: FeatureSpec) -> BagDigest:
    """Read a bag once, in parts, and summarise it.

    Raises:
        DataError: it cannot be read.
    """
    if sample.bag is not None:
        return BagDigest(sample.image, *_sum_up(read_bag_parts(sample, spec), len(sample.bag)))
    file = open_features(sample.path)
    assert file is not None  # it was opened when the folder was read
    known = (file.tool, file.encoder, file.side, file.mpp, str(file.dtype))
    return BagDigest(sample.image, *_sum_up(file.read_parts(), file.tiles), *known)


def read_bag_parts(sample: Sample, spec: FeatureSpec) -> Iterable[NDArray[np.floating]]:
    """Return all tiles of a bag in parts (n, D) that are not large.

    Raises:
        DataError: it cannot be read.
    """
    if sample.bag is not None:
        table = read_feature_table(sample.path, spec.columns, delimiter=spec.delimiter)
        return [table.values[list(sample.bag)]]
    file = open_features(sample.path)
    assert file is not None
    return file.read_parts()


def _sum_up(
    parts: Iterable[NDArray[np.floating]], tiles: int
) -> tuple[str, int, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return hash, N, mean, spread and some tiles of the parts of a bag, which come one after the other."""
    wanted = np.unique(np.linspace(0, tiles - 1, min(tiles, SAMPLED)).round().astype(np.int64))
    digest, start, sampled = hashlib.blake2b(digest_size=12), 0, []
    total: NDArray[np.float64] | float = 0.0
    square: NDArray[np.float64] | float = 0.0
    for part in parts:
        values = np.ascontiguousarray(part, dtype=np.float32)
        digest.update(values.data)
        inside = wanted[(wanted >= start) & (wanted < start + len(values))] - start
        sampled.append(values[inside])
        total = total + values.sum(axis=0, dtype=np.float64)
        square = square + np.square(values, dtype=np.float64).sum(axis=0)
        start += len(values)
    digest.update(str(start).encode())
    mean = np.asarray(total) / start
    spread = np.sqrt(np.maximum(np.asarray(square) / start - mean**2, 0))
    return digest.hexdigest(), start, mean.astype(np.float32), spread.astype(np.float32), np.concatenate(sampled)
