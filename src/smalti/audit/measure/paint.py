"""Paint and ink on images: spots that no stain explains, and colours that the cohort does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...tissue.foreground import find_light
from ...tissue.gamut import find_common, measure_foreignness, measure_strangeness
from .digest import ImageDigest, PictureDigest
from .polygons import draw_outlines
from .spots import Spot

# Density between a pixel and the nearest colour that is native: within 0.04 for 99.5 % of the pixels of 143 of 145 real
# images. The bar is twice that, or four times what three quarters of the images reach where a cohort is more varied.
LEAST_DISTANCE, SPREADS, EDGE_SHARE = 0.09, 4.0, 0.6
CLEAR_QUANTILE, USUAL_QUANTILE = 0.995, 0.75
LEAST_STRANGE_FRAC = 0.006  # of the image, for a region that only the cohort makes strange
LEAST_FRAC, MOST_FRAC = 0.003, 0.75  # of the image; beyond it, there is no tissue at all rather than paint on it
CERTAIN_EXCESS = 2.0  # beyond this a colour is paint even if most images have it
# Images with a spot as like (grey levels) that make it a habit, in a cohort large enough to have habits.
NATIVE_FRAC, LIKE, HABIT_IMAGES = 0.3, 30, 10
BORDER_FRAC, GREY_SPREAD = 0.9, 24  # a black or grey frame fills a side of the image
DRAWING_FRAC = 0.9  # of all but glass is even: a drawing, with no tissue to paint on
# Around paint there is the cohort's tissue, on so much of the image; a photograph is no painted tissue.
REST_DISTANCE, REST_FRAC, LEAST_REST_FRAC = 0.2, 0.6, 0.04
INK_TEXTURE = 0.6  # tissue seen through ink on glass keeps its texture; digital paint covers it or washes it out


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Paint or ink on one image, as one region.

    Attributes:
        image_frac: share of the image.
        mask_frac: share of the mask; None without a mask or where it is empty.
        tissue_frac: share of all but glass.
        colour: median RGB.
        outline: polygons of [row_px, col_px] in the full image.
    """

    image_frac: float
    mask_frac: float | None
    tissue_frac: float
    colour: tuple[int, int, int]
    outline: list[list[list[int]]]


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """The colours that are native to a cohort.

    Attributes:
        common: densities (n, 3) that many images have; None in too small a cohort.
        bar: the tissue of the cohort does not reach this distance from its common colours.
        images: number of images.
        spots: (m, 5) of all spots: position of the image, median red, green and blue, 1 where it is even.
    """

    common: NDArray[np.float32] | None
    bar: float
    images: int
    spots: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Cover:
    """Paint and ink on one image; None where there is none."""

    paint: Region | None = None
    ink: Region | None = None


def find_covers(digests: Sequence[ImageDigest]) -> dict[str, Cover]:
    """Return image -> paint and ink on it, for images that have any."""
    palette, strange = find_palette(digests)
    found = ((d.image, _find_cover(d, palette, s)) for d, s in zip(digests, strange, strict=True))
    return {image: cover for image, cover in found if cover is not None}


def find_palette(digests: Sequence[PictureDigest]) -> tuple[Palette, list[NDArray[np.float32] | None]]:
    """Return the colours that are native to a cohort, and the distance of the pixels of each image from them."""
    common = find_common([d.thumbnail for d in digests])
    strange = [None if common is None else measure_strangeness(d.thumbnail, common) for d in digests]
    bar, reached = LEAST_DISTANCE, [np.quantile(s, CLEAR_QUANTILE) for s in strange if s is not None]
    if reached:
        bar = max(LEAST_DISTANCE, SPREADS * float(np.quantile(reached, USUAL_QUANTILE)))
    rows = [(i, *spot.colour, spot.even) for i, d in enumerate(digests) for spot in d.colours.spots]
    return Palette(common, bar, len(digests), np.array(rows, dtype=np.int32).reshape(-1, 5)), strange


def find_cover(digest: PictureDigest, palette: Palette) -> Cover | None:
    """Return paint and ink on an image beside the colours of a cohort; None where there is none."""
    common = palette.common
    return _find_cover(digest, palette, None if common is None else measure_strangeness(digest.thumbnail, common))


def _find_cover(digest: PictureDigest, palette: Palette, distance: NDArray[np.float32] | None) -> Cover | None:
    if digest.colours.even_frac > DRAWING_FRAC:
        return None
    own = dict(enumerate(digest.colours.spots, 1))
    kept = [k for k, spot in own.items() if _is_paint(spot, palette)]
    ink = [k for k in kept if not own[k].even and own[k].excess < CERTAIN_EXCESS and own[k].texture > INK_TEXTURE]
    if not kept and (distance is None or (distance > palette.bar).mean() < LEAST_STRANGE_FRAC):
        return None
    labels = digest.colours.read_labels()
    inked = np.isin(labels, ink)
    painted = np.isin(labels, [k for k in kept if k not in ink])
    if distance is not None:
        painted |= _find_strange(distance, palette.bar, digest.colours.size_px) & ~inked
    if palette.common is not None and not _lies_on_tissue(digest, painted | inked, palette.common):
        return None
    cover = Cover(_describe(digest, painted), _describe(digest, inked))
    return None if cover == Cover() else cover


def _is_paint(spot: Spot, palette: Palette) -> bool:
    """Return whether a spot is neither a grey frame nor a habit of the cohort."""
    if spot.border_frac > BORDER_FRAC and max(spot.colour) - min(spot.colour) < GREY_SPREAD:
        return False
    if spot.excess >= CERTAIN_EXCESS or palette.images < HABIT_IMAGES:
        return True
    near = np.abs(palette.spots[:, 1:4] - np.array(spot.colour)).max(axis=1) <= LIKE
    alike = np.unique(palette.spots[near & (palette.spots[:, 4] == spot.even), 0])
    return len(alike) <= NATIVE_FRAC * palette.images


def _find_strange(distance: NDArray[np.float32], bar: float, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return connected regions of strange colour, grown to their edge, at the working size."""
    large = np.asarray(cv2.resize(distance, size_px[::-1], interpolation=cv2.INTER_LINEAR))
    count, regions = cv2.connectedComponents((large > EDGE_SHARE * bar).astype(np.uint8), connectivity=8)
    core = cv2.morphologyEx((large > bar).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
    cores = np.bincount(regions.ravel(), weights=core.ravel(), minlength=count)
    cores[0] = 0
    return np.isin(regions, np.flatnonzero(cores >= LEAST_STRANGE_FRAC * regions.size))


def _lies_on_tissue(digest: PictureDigest, covered: NDArray[np.bool_], common: NDArray[np.float32]) -> bool:
    """Return whether the rest of the image has the colours of the cohort."""
    height, width = digest.thumbnail.shape[:2]
    free = cv2.resize(covered.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) == 0
    rest = (
        measure_foreignness(digest.thumbnail, common)[free & ~find_light(digest.thumbnail, grey=False)] < REST_DISTANCE
    )
    return bool(rest.sum() > LEAST_REST_FRAC * free.size and rest.mean() > REST_FRAC)


def _describe(digest: PictureDigest, inside: NDArray[np.bool_]) -> Region | None:
    frac = float(inside.mean())
    if not LEAST_FRAC <= frac <= MOST_FRAC:
        return None
    height, width = digest.thumbnail.shape[:2]
    small = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    tissue = ~find_light(digest.thumbnail, grey=False) | small
    mask = digest.colours.read_mask()
    red, green, blue = (int(v) for v in np.median(digest.thumbnail[small], axis=0)) if small.any() else (0, 0, 0)
    return Region(
        image_frac=frac,
        mask_frac=float(inside[mask].mean()) if mask is not None and mask.any() else None,
        tissue_frac=float(small.sum() / max(1, tissue.sum())),
        colour=(red, green, blue),
        outline=draw_outlines(inside, digest.size_px),
    )
