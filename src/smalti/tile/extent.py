"""The part of an image that a tile shows, where images are smaller than a tile.

All images of a cohort are seen at one magnification. So it is the cohort that chooses the side of the square, by the
sizes of its labelled images alone, and a single image that is smaller than the square is not enlarged to fill it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from .. import images, recipe
from ..types import Sample
from .cut import find_sides, is_filled

# Small squares are enlarged so far and no further: 50 px scaled to 128 px scored within 0.03 of 224 px, for a third of
# the pixels; at 64 px the score was lower, though not beyond chance (decision 0035).
ENLARGED = 2.5
STRIDE_PX = 32  # of nearly all backbones
LEAST_PX = 16  # narrower images show next to nothing of tissue, and are no measure of a cohort


def settle_field(tile: recipe.Tile, samples: Sequence[Sample], *, tile_px: int, fixed: bool = False) -> recipe.Tile:
    """Return the knobs with ``field_px`` where images are smaller than a tile: the median of their shorter sides.

    ``tile_px`` is the side of a stored tile so far. Where neither the recipe nor the backbone (``fixed``) insists on
    it, ``size_px`` becomes the smaller one that such images need; where whole images are seen, the largest of them.
    Nothing changes where the recipe says the field itself, microns per pixel, or that the box of the mask is seen.

    Raises:
        DataError: an image cannot be read.
    """
    if tile.source == "mask_box" or tile.mpp is not None or tile.field_px is not None:
        return tile
    whole = tile.source == "whole"
    sizes = [size for s in samples if min(size := images.read_size(s.path)) >= LEAST_PX]
    sides = [max(size) if whole else min(size) for size in sizes]
    middle = tile_px if not sides else max(sides) if whole else int(statistics.median(sides))
    if middle >= tile_px:
        return tile
    enough = min(tile_px, math.ceil(ENLARGED * middle / STRIDE_PX) * STRIDE_PX)
    size_px = tile.size_px if fixed or tile.size_px is not None else enough
    return tile.model_copy(update={"size_px": size_px} | ({} if whole else {"field_px": middle}))


def note_sizes(tile: recipe.Tile, samples: Sequence[Sample], *, tile_px: int) -> tuple[str, ...]:
    """Return notes on images that are smaller than what a tile shows, one sentence each.

    Raises:
        DataError: an image cannot be read.
    """
    notes = []
    if tile.field_px is not None and tile.field_px < tile_px:
        notes.append(
            f"tiles show squares of {tile.field_px} px, scaled to {tile_px} px: tile.field_px (of images smaller than "
            "a tile the median of their shorter sides), tile.size_px"
        )
    sizes = {s.image: images.read_size(s.path) for s in samples}
    narrow = []
    for sample in samples if tile.source != "mask_box" else ():
        shorter_px, side_px = sorted(sizes[sample.image])
        if tile.source != "whole":
            side_px = find_sides(sample, tile, tile_px=tile_px)[0]
        if not is_filled(shorter_px, side_px):
            narrow.append(sample.image)
    if narrow:
        notes.append(
            f"{_count(narrow, len(samples))} fill less than half of a square along one side: the rest is of their "
            "palest colour, since enlarging some images would mix two magnifications"
        )
    tiny = [image for image, size in sizes.items() if min(size) < LEAST_PX]
    if tiny:
        notes.append(f"{_count(tiny, len(samples))} have a side below {LEAST_PX} px and show next to nothing")
    return tuple(notes)


def _count(names: list[str], total: int) -> str:
    return f"{len(names)} of {total} images ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
