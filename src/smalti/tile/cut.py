"""One image into its bag of tiles.

Every tile is a square of the image, brought to the side of a stored tile. Where a square leaves the image, the picture
is mirrored outward, each pixel once at most; a square of which the image fills less than half along a side is filled up
with its palest colour, since copies of copies are a texture that no tissue has. A place is a square of the grid; with
several magnifications, wider squares around the same middle follow it as tiles of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import images, recipe
from ..errors import RecipeError
from ..tissue.stainable import MOST_PIXELS, MOST_TILES, judge_tile
from ..types import Outside, Sample
from .components import Squares, find_regions
from .grid import make_grid, place_square, select_tiles
from .plane import Plane
from .scene import Scene, open_plain_scene, open_scene
from .shape import describe_mask, draw_outline

MOST_SIDE_PX = 8192  # of a square that leaves its image; what is mirrored around that would fill the memory
PALE_SHARE = 0.01  # of the pixels; glass where an image has any, the palest tissue where it has none
# Standard deviation of the blur, share of the side of a tile: 14 px at 224. A nucleus (some 20 px at 20x) vanishes, the
# colour and the density of the surroundings stay.
BLUR_FRAC = 1 / 16


@dataclass(frozen=True, slots=True, eq=False)
class Bag:
    """The kept tiles of one image, or a piece of them. What only some recipes need is measured when it is asked for.

    Attributes:
        pixels: (N, tile_px, tile_px, 3) RGB.
        positions: (N, 2) (row_px, col_px) of the squares in the image; negative where they begin outside.
        coverage: (N,) share of the square's part inside the image that is under the mask (or tissue).
        scale: (N,) image pixels per pixel of the tile; the square has ``scale * tile_px`` image pixels to a side.
        masks: (N, tile_px, tile_px) of 0 and 1, the mask (or tissue) in each tile.
        whole: the mask (or tissue) of the whole image.
        given: whether the image came with a mask.
        marked: whether the mask marks anything in any tile of the image.
        spoken: tile -> the most pixels of it that speak of the image's stain; an even choice of the tiles.
    """

    pixels: NDArray[np.uint8]
    positions: NDArray[np.int64]
    coverage: NDArray[np.float32]
    scale: NDArray[np.float32]
    masks: NDArray[np.uint8]
    whole: Plane
    given: bool
    marked: bool
    spoken: Mapping[int, int]

    def judge_tiles(self) -> NDArray[np.uint8]:
        """Return (N,) why the stain of a tile is to be left alone, number of `KINDS`; 0 where it is not."""
        return np.array([judge_tile(tile) for tile in self.pixels], dtype=np.uint8)

    def choose_tissue(self) -> NDArray[np.uint8]:
        """Return an even choice of the pixels under the mask, of some of the tiles, (n, 3)."""
        chosen = [np.empty((0, 3), dtype=np.uint8)]
        for i, most in self.spoken.items():
            inside = np.flatnonzero(self.masks[i]) if self.marked else np.arange(self.masks[i].size)
            chosen.append(self.pixels[i].reshape(-1, 3)[inside[:: max(1, -(-len(inside) // most))]])
        return np.concatenate(chosen)

    def describe_whole(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the whole mask as a raster (S, S), 0 to 255, and the numbers of its `SHAPE_NAMES` (K,)."""
        mask = self.whole
        return draw_outline(mask.pixels, mask.size_px), describe_mask(mask.pixels, mask.size_px, given=self.given)


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """An open image and the squares that are to be cut from it, before any pixel of a large one is read.

    Attributes:
        positions: (N, 2) (row_px, col_px) of the squares.
        sides_px: (N,) their sides.
        coverage: (N,) as in `Bag`.
        given: whether the image came with a mask.
        outside: what becomes of pixels outside the mask.
        pale: the colour of a blank, and of what is left of a square that the image does not half fill.
    """

    scene: Scene
    tile_px: int
    positions: NDArray[np.int64]
    sides_px: NDArray[np.int64]
    coverage: NDArray[np.float32]
    given: bool
    outside: Outside
    pale: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, start: int, stop: int) -> Bag:
        """Return tiles ``start`` to ``stop`` (excluded)."""
        chosen = np.s_[start:stop]
        positions, sides_px = self.positions[chosen], self.sides_px[chosen]
        pixels = np.empty((len(positions), self.tile_px, self.tile_px, 3), dtype=np.uint8)
        masks = np.empty(pixels.shape[:3], dtype=np.uint8)
        for i, ((row, col), side) in enumerate(zip(positions.tolist(), sides_px.tolist(), strict=True)):
            pixels[i], masks[i] = _read_square(
                self.scene, (row, col), side_px=side, tile_px=self.tile_px, pale=self.pale
            )
        for shown, inside in zip(pixels, masks, strict=True) if self.outside != "keep" else ():
            hidden = inside == 0
            if self.outside == "blank":
                shown[hidden] = self.pale
            elif hidden.any():
                blurred = cv2.GaussianBlur(shown, (0, 0), BLUR_FRAC * len(shown), borderType=cv2.BORDER_REFLECT_101)
                shown[hidden] = blurred[hidden]
        # An even choice of the tiles under the mask speaks of the image's stain, and an even choice of their pixels.
        marked = bool(self.coverage.any())
        rows = np.flatnonzero(self.coverage) if marked else np.arange(len(self))
        rows = rows[:: -(-len(rows) // MOST_TILES)]
        mine = rows[(rows >= start) & (rows < stop)] - start
        # What mirroring and enlarging added to a small image says nothing new of its stain.
        own = np.minimum(sides_px[:, None], self.scene.size_px).prod(axis=1)
        spoken = {int(i): min(MOST_PIXELS // len(rows), int(own[i])) for i in mine}
        scale = (sides_px / self.tile_px).astype(np.float32)
        found = (pixels, positions, self.coverage[chosen], scale, masks, self.scene.mask, self.given, marked, spoken)
        return Bag(*found)


@contextmanager
def open_cut(
    sample: Sample, tile: recipe.Tile, *, tile_px: int, hashes: Mapping[Path, str] | None = None
) -> Iterator[Cut]:
    """Open an image and its mask once, and find the squares that the recipe asks for.

    Raises:
        DataError: as `open_scene`, or a file is not the one with the hash in ``hashes``.
        RecipeError: squares that are far larger than the image.
    """
    with images.hold_files(sample.files, expected=hashes), open_scene(sample) as scene:
        own_mpp = None if tile.mpp is None else images.read_mpp(sample.path)
        given = sample.mask_path is not None
        yield cut_scene(scene, tile, tile_px=tile_px, own_mpp=own_mpp, given=given, name=sample.image)


@contextmanager
def open_places(
    sample: Sample,
    positions: NDArray[np.int64],
    *,
    side_px: int,
    tile_px: int,
    hashes: Mapping[Path, str] | None = None,
) -> Iterator[Cut]:
    """Open an image with squares that were found before, (N, 2) positions as in `Cut`; tissue is not looked for.

    Raises:
        DataError: as `open_cut`.
    """
    with images.hold_files([sample.path], expected=hashes), open_plain_scene(sample) as scene:
        count = len(positions)
        sides_px, coverage = np.full(count, side_px, dtype=np.int64), np.ones(count, dtype=np.float32)
        pale = (255, 255, 255) if is_filled(min(scene.size_px), side_px) else find_pale(scene.view())
        yield Cut(scene, tile_px, positions, sides_px, coverage, False, "keep", pale)


def cut_scene(scene: Scene, tile: recipe.Tile, *, tile_px: int, own_mpp: float | None, given: bool, name: str) -> Cut:
    """Find the squares of an open image that the recipe asks for.

    Args:
        scene: the image, with what is wanted of it.
        tile: the knobs.
        tile_px: side of a stored tile.
        own_mpp: microns per pixel that the image says itself.
        given: whether the image came with a mask.
        name: of the image, for messages.

    Raises:
        RecipeError: squares that are far larger than the image.
    """
    sides_px = scale_sides(tile, tile_px=tile_px, own_mpp=own_mpp)
    if tile.source == "tiles" and sides_px[-1] > max(MOST_SIDE_PX, *scene.size_px):
        raise RecipeError(
            f"tiles show squares of {sides_px[-1]} px, and {name} has {scene.size_px[0]} x {scene.size_px[1]} px",
            fix="lower tile.size_px, tile.mpp or tile.magnifications",
        )
    squares = _find_squares(scene, tile, sides_px)
    blanks = tile.outside == "blank" or not is_filled(min(scene.size_px), int(squares[1].max()))
    pale = find_pale(scene.view()) if blanks else (255, 255, 255)
    # A mask of nothing is no guide; blanking all would leave no picture.
    outside = tile.outside if scene.mask.pixels.any() else "keep"
    return Cut(scene, tile_px, *squares, given, outside, pale)


def cut_bag(sample: Sample, tile: recipe.Tile, *, tile_px: int, hashes: Mapping[Path, str] | None = None) -> Bag:
    """Return all tiles of an image at once.

    Raises:
        DataError: as `open_cut`.
    """
    with open_cut(sample, tile, tile_px=tile_px, hashes=hashes) as cut:
        return cut.take(0, len(cut))


def cut_pieces(
    sample: Sample, tile: recipe.Tile, *, tile_px: int, piece_tiles: int, hashes: Mapping[Path, str]
) -> Iterator[Bag]:
    """Yield the tiles of an image, at most ``piece_tiles`` at a time.

    Raises:
        DataError: as `open_cut`.
    """
    with open_cut(sample, tile, tile_px=tile_px, hashes=hashes) as cut:
        for start in range(0, len(cut), piece_tiles):
            yield cut.take(start, start + piece_tiles)


def find_sides(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> tuple[int, ...]:
    """Return sides of the squares of one place in pixels of the image, one a magnification, smallest first.

    Where microns per pixel are asked for, and neither image nor recipe says its own, pixels are taken as they are. A
    field of another side than a stored tile (`tile.field_px`) is scaled to it.

    Raises:
        DataError: the image cannot be read.
    """
    return scale_sides(tile, tile_px=tile_px, own_mpp=None if tile.mpp is None else images.read_mpp(sample.path))


def scale_sides(tile: recipe.Tile, *, tile_px: int, own_mpp: float | None) -> tuple[int, ...]:
    """Return the same of an image that says ``own_mpp``; None where it says nothing."""
    own = own_mpp or tile.image_mpp
    unit = 1.0 if tile.mpp is None or own is None else tile.mpp / own
    return tuple(max(1, round((tile.field_px or tile_px) * unit * factor)) for factor in tile.magnifications)


def bound_bag(sample: Sample, tile: recipe.Tile, *, tile_px: int) -> int:
    """Return the most tiles that an image can have, from its header.

    Raises:
        DataError: the image cannot be read.
    """
    components = tile.max_tiles if tile.regions == "components" else None
    if tile.source != "tiles":
        return components or 1
    sides_px = find_sides(sample, tile, tile_px=tile_px)
    count = len(make_grid(*images.read_size(sample.path), tile_px=sides_px[0], overlap_frac=tile.overlap_frac))
    return len(sides_px) * (components or min(count, tile.max_tiles or count))


def _find_squares(scene: Scene, tile: recipe.Tile, sides_px: tuple[int, ...]) -> Squares:
    """Return the squares that the recipe asks for: of the components of the mask, of a grid, or a single one."""
    mask, side_px = scene.mask, sides_px[0]
    squares = find_regions(mask, tile, side_px) if tile.regions == "components" else None
    if tile.source != "tiles":
        if squares is not None:
            return squares
        # One square around the mask or the image, inside the image where that is possible.
        row, col, height, width = mask.bound() if tile.source == "mask_box" else (0, 0, *scene.size_px)
        side = max(height, width)
        position = [
            place_square(start, length, side=side, limit=limit)
            for start, length, limit in zip((row, col), (height, width), scene.size_px, strict=True)
        ]
        positions = np.array([position], dtype=np.int64)
        return positions, np.array([side], dtype=np.int64), mask.cover(positions, side_px=side)
    if squares is None:
        positions = make_grid(*scene.size_px, tile_px=side_px, overlap_frac=tile.overlap_frac)
        wanted = scene.find_tissue() if tile.within == "tissue" else mask
        share = wanted.cover(positions, side_px=side_px)
        kept = select_tiles(share, min_coverage=tile.min_coverage, min_tiles=tile.min_tiles, max_tiles=tile.max_tiles)
        places = positions[kept]
        coverage = mask.cover(places, side_px=side_px)
    else:
        places, _, coverage = squares
    # Around each square the wider ones with the same middle, place after place.
    around = [places - (side - side_px) // 2 for side in sides_px]
    shares = [mask.cover(wide, side_px=side) for wide, side in zip(around[1:], sides_px[1:], strict=True)]
    positions = np.stack(around, axis=1).reshape(-1, 2)
    return positions, np.tile(sides_px, len(places)), np.stack([coverage, *shares], axis=1).reshape(-1)


def _read_square(
    scene: Scene, position: tuple[int, int], *, side_px: int, tile_px: int, pale: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a square of the image and its mask, both brought to the side of a tile in the same way."""
    (row, height), (col, width) = (
        (max(start, 0), min(start + side_px, limit) - max(start, 0))
        for start, limit in zip(position, scene.size_px, strict=True)
    )
    # Twice as fine as wanted: the last halving is done by area below, the same for small and large images.
    part = scene.read((row, col, height, width), longest_px=2 * tile_px)
    under = scene.mask.window(row, col, height_px=height, width_px=width)
    if under.shape != part.shape[:2]:
        size = (part.shape[1], part.shape[0])
        under = np.asarray(cv2.resize(255 * under, size, interpolation=cv2.INTER_AREA) >= 128, dtype=np.uint8)
    shrunk = max(part.shape[:2]) / max(height, width)
    side = max(round(side_px * shrunk), *part.shape[:2])
    top, left = (
        min(round((inside - start) * shrunk), side - length)
        for inside, start, length in zip((row, col), position, part.shape[:2], strict=True)
    )
    square, mask = part, under
    for axis, (length, start) in enumerate(((height, top), (width, left))):
        mirrored = is_filled(length, side_px)
        square = _extend(square, axis, start, side=side, fill=None if mirrored else pale)
        mask = _extend(mask, axis, start, side=side, fill=None if mirrored else (0,))
    if side == tile_px:
        return square, mask
    # Area averaging keeps what shrinking can keep; it has no meaning when a small box is enlarged.
    how = cv2.INTER_AREA if side > tile_px else cv2.INTER_LINEAR
    size = (tile_px, tile_px)
    mask = np.asarray(cv2.resize(255 * mask, size, interpolation=how) >= 128, dtype=np.uint8)
    return np.asarray(cv2.resize(square, size, interpolation=how), dtype=np.uint8), mask


def is_filled(length_px: int, side_px: int) -> bool:
    """Return whether a stretch of an image fills half of a square, so that mirroring makes one copy at most."""
    return 2 * length_px >= side_px


def _extend(
    part: NDArray[np.uint8], axis: int, start: int, *, side: int, fill: tuple[int, ...] | None
) -> NDArray[np.uint8]:
    """Extend a picture outward along an axis to ``side``, of which it begins at ``start``.

    Mirrored without a ``fill``, since white or black borders would tell a network the size of the image.
    """
    length = part.shape[axis]
    if length == side:
        return part
    top, bottom, left, right = np.roll((start, side - length - start, 0, 0), 2 * axis).tolist()
    how = cv2.BORDER_REFLECT_101 if fill is None else cv2.BORDER_CONSTANT
    return np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, how, value=fill or (0,)), dtype=np.uint8)


def find_pale(view: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the median colour of the palest pixels of a picture (H, W, 3): those whose darkest channel is brightest.

    What an image shows where nothing is, so that a blank looks like the end of the tissue and not like an object.
    """
    light = view.min(axis=2)
    palest = view[light >= np.quantile(light, 1 - PALE_SHARE)]
    red, green, blue = np.rint(np.median(palest, axis=0)).astype(int).tolist()
    return red, green, blue
