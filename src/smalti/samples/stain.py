"""From an image's stain to that of the fold: one affine map in optical density per image.

Amounts of stain stay what they are and the frame changes (`smalti.tissue.frames`), so that the map is
``target @ inverse(source)``. Factors and shifts of the amounts, which is what stain augmentation draws, go between the
two: normalisation and augmentation together are still one map. 8-bit pixels are brought to density and back by tables
and OpenCV.

The reference is the middle of the images that the fold learns from, each case counting once; images that score have no
part in it. Images and tiles whose stain cannot be told are left as they are.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..store import hash_text
from ..tile import TileStore
from ..tissue import KINDS, STAINS
from ..tissue.frames import DENSITIES, LIGHT
from ..tissue.stainable import Staining

OWN_METHOD = "macenko"  # whose frames stain augmentation uses where nothing is normalised
STEPS = 100  # of the search for the middle of directions
SINGULAR = "singular"  # two stains cannot be told apart, by the method that was asked

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class StainMaps:
    """What happens to the stain of every image of a store in one fold.

    Attributes:
        store: whose images; its order.
        method: of `smalti.tissue.frames.STAINS`, by which their frames are told.
        reference: (3, 4) the frame that all are brought to; None leaves each its own.
    """

    store: TileStore
    method: str
    reference: Floats | None

    @functools.cached_property
    def staining(self) -> Staining:
        """What the method makes of the images; not looked at before a tile changes."""
        return self.store.read_staining(self.method)

    @functools.cached_property
    def sources(self) -> Floats:
        """The frame of each image, (images, 3, 4); not a number where it is left as it is."""
        frames = self.staining.frames
        return frames if self.reference is None else match_axes(frames, self.reference)

    @property
    def key(self) -> str:
        """What features depend on beside the store; the same for all folds where nothing is normalised."""
        if self.reference is None:
            return ""
        return hash_text(self.sources.tobytes().hex(), self.reference.tobytes().hex())

    def solve(self, rows: NDArray[np.int64], amounts: Floats | None = None) -> Maps | None:
        """The map of each tile.

        Args:
            rows: (B, N) rows of the store; of one image in each of B where ``amounts`` are given.
            amounts: (B, 3, 2) factor and shift of the amounts along each axis.

        Returns:
            (B, N, 3, 4), or None where no tile changes.
        """
        still = amounts is None or bool((amounts == [1.0, 0.0]).all())
        if self.reference is None and still:
            return None
        bags = np.searchsorted(self.store.starts, rows, side="right") - 1
        sources = self.sources[bags]
        left = np.isnan(sources).any(axis=(-2, -1)) | (self.staining.tile_kind[rows] > 0)
        sources = np.where(left[..., None, None], np.eye(3, 4), sources)
        targets = sources if self.reference is None else np.broadcast_to(self.reference, sources.shape)
        maps = solve_map(sources, targets, amounts=None if amounts is None else amounts[:, None])
        return np.where(left[..., None, None], np.eye(3, 4), maps).astype(np.float32)

    def restain(self, tiles: NDArray[np.uint8], start: int) -> NDArray[np.uint8]:
        """Tiles (n, H, W, 3 or 4) from row ``start`` on, each after its map; the same array where none changes."""
        maps = self.solve(np.arange(start, start + len(tiles))[:, None])
        if maps is None:
            return tiles
        return np.stack([apply_map(tile, stain_map) for tile, stain_map in zip(tiles, maps[:, 0], strict=True)])

    def find_left(self, bags: NDArray[np.int64]) -> tuple[dict[str, str], dict[str, int]]:
        """What is left as it is of these: image -> reason, and reason -> number of tiles of the other images."""
        reasons = {int(bag): self._say_why(int(bag)) for bag in bags}
        images = {self.store.images[bag]: why for bag, why in reasons.items() if why}
        rows = [self.store.rows(bag) for bag, why in reasons.items() if not why]
        kinds = [kind for r in rows for kind in self.staining.tile_kind[r.start : r.stop].tolist() if kind]
        return images, {KINDS[kind]: number for kind, number in sorted(Counter(kinds).items())}

    def _say_why(self, bag: int) -> str:
        if kind := KINDS[self.staining.kind[bag]]:
            return kind
        return SINGULAR if np.isnan(self.sources[bag]).any() else ""


def fit_maps(store: TileStore, method: str, *, bags: NDArray[np.int64], cases: Sequence[str]) -> StainMaps:
    """The maps of one fold; with method ``none`` every image keeps its own stain.

    Args:
        bags: positions in the store of the images that the reference is made of.
        cases: of these images.

    Raises:
        PartError: no stain method has this name.
    """
    plain = method == STAINS.find("none").name
    name = OWN_METHOD if plain else STAINS.find(method).name
    return StainMaps(store, name, None if plain else combine_frames(store.read_staining(name).frames[bags], cases))


def combine_frames(frames: Floats, cases: Sequence[str]) -> Floats | None:
    """The frame (3, 4) in the middle of those of n images, (n, 3, 4), each case counting once.

    Directions have their geometric median, lengths of the axes and the origin their median: a quarter of odd images
    moves neither far. Which of two stains is which is settled once more by the first answer. None where no image's
    stain is known.
    """
    known = ~np.isnan(frames).any(axis=(1, 2))
    if not known.any():
        return None
    frames = frames[known]
    names = np.asarray(list(cases))[known]
    sizes = Counter(names.tolist())
    weights = np.array([1 / sizes[name] for name in names.tolist()])
    return _find_middle(match_axes(frames, _find_middle(frames, weights)), weights)


def match_axes(frames: Floats, reference: Floats) -> Floats:
    """Frames (n, 3, 4) with their first two axes in the order that is nearer to the reference's.

    Where red light tells haematoxylin from eosin too narrowly, a swap would turn one into the other.
    """
    straight, crossed = (_measure_cosines(frames[:, :, order], reference) for order in ([0, 1], [1, 0]))
    return np.where((crossed > straight)[:, None, None], frames[:, :, [1, 0, 2, 3]], frames)


def solve_map(source: Floats, target: Floats, *, amounts: Floats | None = None) -> Floats:
    """The map (..., 3, 4) in density that takes frames (..., 3, 4) to others and keeps the amounts.

    Args:
        amounts: (..., 3, 2) factor and shift of the amounts along each axis; None keeps them. Where the source is the
            target and they are 1 and 0 the map is exactly the unit.
    """
    back = np.linalg.inv(source[..., :3])
    same = (source == target).all(axis=(-2, -1))
    matrix = np.where(same[..., None, None], np.eye(3), target[..., :3] @ back)
    shift = target[..., 3]
    if amounts is not None:
        matrix = matrix + target[..., :3] @ ((amounts[..., 0] - 1)[..., None] * back)
        shift = shift + (target[..., :3] @ amounts[..., 1, None])[..., 0]
    offset = shift - (matrix @ source[..., 3, None])[..., 0]
    return np.concatenate([matrix, offset[..., None]], axis=-1)


def apply_map(tile: NDArray[np.uint8], stain_map: Maps) -> NDArray[np.uint8]:
    """A tile (H, W, 3) after a map (3, 4) in density; the same array where the map changes nothing.

    A fourth channel, the mask, keeps its values.
    """
    if (stain_map == np.eye(3, 4)).all():
        return tile
    colour = tile if tile.shape[2] == 3 else np.ascontiguousarray(tile[..., :3])
    light = cv2.transform(cv2.LUT(colour, DENSITIES), -stain_map)
    cv2.exp(light, light)
    stained = np.asarray(cv2.convertScaleAbs(light, alpha=LIGHT, beta=-1), dtype=np.uint8)
    return stained if tile.shape[2] == 3 else np.concatenate([stained, tile[..., 3:]], axis=2)


def _find_middle(frames: Floats, weights: Floats) -> Floats:
    lengths = np.linalg.norm(frames[:, :, :3], axis=1)
    axes = [
        _find_direction(frames[:, :, k] / lengths[:, k, None], weights) * _find_median(lengths[:, k], weights)
        for k in range(3)
    ]
    origin = [_find_median(frames[:, channel, 3], weights) for channel in range(3)]
    return np.column_stack([*axes, origin])


def _find_direction(vectors: Floats, weights: Floats) -> Floats:
    """Geometric median of unit vectors (n, 3), of unit length (Weiszfeld 1937)."""
    middle = np.average(vectors, axis=0, weights=weights)
    for _ in range(STEPS):
        distances = np.linalg.norm(vectors - middle, axis=1)
        middle = np.average(vectors, axis=0, weights=weights / np.maximum(distances, 1e-9))
    return np.asarray(middle / np.linalg.norm(middle))


def _find_median(values: Floats, weights: Floats) -> float:
    """Weighted median; the mean of two where it lies between them."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    low, high = np.searchsorted(reached, [0.5 - 1e-9, 0.5 + 1e-9])
    return float(values[order][[low, min(high, len(order) - 1)]].mean())


def _measure_cosines(axes: Floats, reference: Floats) -> Floats:
    """Sum of the cosines between two axes of n frames, (n, 3, 2), and the first two of the reference, (n,)."""
    unit = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    wanted = reference[:, :2] / np.linalg.norm(reference[:, :2], axis=0)
    return np.asarray((unit * wanted).sum(axis=(1, 2)))
