"""An image opened for cutting, with the map of what is wanted of it; held whole when small, read by region when large.

A large image (above `smalti.images.WHOLE_PX`) is looked at through a shrunken view where something about the whole of
it is asked: where tissue is, what colour paint is filled with. Its mask, where it has one, is kept at every n-th pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .. import images
from ..tissue.foreground import find_tissue
from ..types import Sample
from .plane import Plane
from .repair import Picture, apply_repair, read_painted, read_sample_mask

VIEW_PX = 2048  # longer side of the view of a large image


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An open image.

    Attributes:
        size_px: (height_px, width_px).
        mask: what is wanted: under the mask, or tissue without one, after repairs.
        picture: all pixels, repaired, (H, W, 3) RGB; None where they are read by region.
        regions: where they are read from otherwise.
        paint: what was filled, or is filled with ``fill`` when a region is read; None for nothing.
    """

    size_px: tuple[int, int]
    mask: Plane
    picture: Picture | None = None
    regions: images.Regions | None = None
    paint: Plane | None = None
    fill: tuple[int, int, int] = (255, 255, 255)

    def read(self, box: tuple[int, int, int, int], *, longest_px: int) -> Picture:
        """Return the box (row_px, col_px, height_px, width_px) inside the image, RGB.

        A large image may give it shrunk, its longer side no less than ``longest_px``.
        """
        row, col, height, width = box
        if self.picture is not None:
            return self.picture[row : row + height, col : col + width]
        assert self.regions is not None
        shrunk = longest_px if max(height, width) > longest_px else None
        part = self.regions.read(row, col, height_px=height, width_px=width, longest_px=shrunk)
        if self.paint is not None and (inside := self.paint.crop(row, col, height_px=height, width_px=width)).any():
            size = (part.shape[1], part.shape[0])
            part[cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST).astype(bool)] = self.fill
        return part

    def view(self) -> Picture:
        """Return the whole image, shrunk where it is large."""
        return self.read((0, 0, *self.size_px), longest_px=VIEW_PX)

    def find_tissue(self) -> Plane:
        """Return the map of tissue, whatever the mask; without paint."""
        tissue = find_tissue(self.view())
        if self.paint is not None:
            size = (tissue.shape[1], tissue.shape[0])
            tissue[cv2.resize(self.paint.pixels, size, interpolation=cv2.INTER_NEAREST).astype(bool)] = 0
        return Plane.over(tissue, self.size_px)


@contextmanager
def open_scene(sample: Sample) -> Iterator[Scene]:
    """Open an image and its mask, with the sample's repair.

    Raises:
        DataError: a file cannot be read, the mask has another size than the image, or the repair leaves no mask.
    """
    with images.open_regions(sample.path, bits=sample.bits) as regions:
        if math.prod(regions.size_px) > images.WHOLE_PX:
            yield _look_through(sample, regions)
            return
    picture, mask, paint = read_painted(sample)
    painted = None if paint is None else Plane(paint.astype(np.uint8), (1, 1), mask.shape)
    yield Scene(mask.shape, Plane(mask, (1, 1), mask.shape), picture, paint=painted)


@contextmanager
def open_plain_scene(sample: Sample) -> Iterator[Scene]:
    """Open an image of which all is wanted; tissue is not looked for, and masks and repairs do not count.

    Raises:
        DataError: the file cannot be read.
    """
    with images.open_regions(sample.path, bits=sample.bits) as regions:
        size_px = regions.size_px
        everything = Plane.over(np.ones((1, 1), dtype=np.uint8), size_px)
        if math.prod(size_px) > images.WHOLE_PX:
            yield Scene(size_px, everything, regions=regions)
            return
    yield Scene(size_px, everything, images.read_image(sample.path, bits=sample.bits))


def _look_through(sample: Sample, regions: images.Regions) -> Scene:
    """Return the scene of a large image, which is read by region."""
    size_px = regions.size_px
    given: Plane | None = None
    if sample.mask_path is not None:
        kept = read_sample_mask(sample, size_px, most_px=images.WHOLE_PX)
        step = max(math.ceil(n / m) for n, m in zip(size_px, kept.shape, strict=True))
        given = Plane.over(kept, size_px) if sample.foreign_mask else Plane(kept, (step, step), size_px)
    if given is not None and sample.repair is None:
        return Scene(size_px, given, regions=regions)
    view = images.read_thumbnail(sample.path, longest_px=VIEW_PX, bits=sample.bits)
    if sample.repair is None:
        return Scene(size_px, Plane.over(find_tissue(view), size_px), regions=regions)
    # A repair is drawn on the view: its outline was found on a copy that is no finer.
    mask: Picture | None = None
    if given is not None:
        small = (view.shape[1], view.shape[0])
        mask = np.asarray(cv2.resize(given.pixels, small, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    down, across = view.shape[0] / size_px[0], view.shape[1] / size_px[1]
    outline = tuple(tuple((r * down, c * across) for r, c in polygon) for polygon in sample.repair.outline)
    shrunk = replace(sample, repair=replace(sample.repair, outline=outline))
    filled, mask, paint = apply_repair(shrunk, view, mask)
    covered = Plane.over(paint.astype(np.uint8), size_px)
    fill = tuple(filled[paint][0].tolist()) if paint.any() else (255, 255, 255)
    return Scene(size_px, Plane.over(mask, size_px), regions=regions, paint=covered, fill=fill)
