"""What is painted on images: spots that no stain explains, and colours that the cohort does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...tissue.gamut import find_common, measure_foreignness, measure_strangeness
from .digest import ImageDigest
from .polygons import draw_outlines
from .spots import Spot

# Density between a pixel and the nearest colour that is native: within 0.04 for 99.5 % of the pixels of 143 of 145 real
# images. The bar is twice that, or four times what three quarters of the images reach where a cohort is more varied.
LEAST_DISTANCE, SPREADS, EDGE_SHARE = 0.09, 4.0, 0.6
CLEAR_QUANTILE, USUAL_QUANTILE = 0.995, 0.75
LEAST_STRANGE_FRAC = 0.006  # of the image, for a region that only the cohort makes strange
LEAST_FRAC, MOST_FRAC = 0.003, 0.75  # of the image; more is no painted image but no tissue at all
CERTAIN_EXCESS = 2.0  # beyond this a colour is paint even if most images have it
# Images with a spot as like (grey levels) that make it a habit, in a cohort large enough to have habits.
NATIVE_FRAC, LIKE, HABIT_IMAGES = 0.3, 30, 10
BORDER_FRAC, GREY_SPREAD = 0.9, 24  # a black or grey frame fills a side of the image
DRAWING_FRAC = 0.9  # of what is no glass is even: a drawing, with no tissue to paint on
# Around paint there is the cohort's tissue, on so much of the image; a photograph is no painted tissue.
REST_DISTANCE, REST_FRAC, LEAST_REST_FRAC = 0.2, 0.6, 0.04
INK_TEXTURE = 0.6  # tissue seen through ink on glass keeps its texture; digital paint covers it or washes it out


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What is painted on one image, as one region.

    Attributes:
        image_frac: share of the image.
        mask_frac: share of the mask; None without a mask or where it is empty.
        tissue_frac: share of what is no glass.
        colour: median RGB.
        outline: polygons of [row_px, col_px] in the full image.
    """

    image_frac: float
    mask_frac: float | None
    tissue_frac: float
    colour: tuple[int, int, int]
    outline: list[list[list[int]]]


@dataclass(frozen=True, slots=True)
class Cover:
    """Paint and ink on one image; None where there is none."""

    paint: Region | None = None
    ink: Region | None = None


def find_covers(digests: Sequence[ImageDigest]) -> dict[str, Cover]:
    """Image -> what is painted on it; images with nothing are left out."""
    common = find_common([d.thumbnail for d in digests])
    strange = [None if common is None else measure_strangeness(d.thumbnail, common) for d in digests]
    bar = _set_bar([s for s in strange if s is not None])
    spots = [d.colours.spots for d in digests]
    covers = {}
    for position, digest in enumerate(digests):
        if digest.colours.even_frac > DRAWING_FRAC:
            continue
        kept = [k for k, spot in enumerate(spots[position], 1) if _is_paint(spot, position, spots)]
        ink = [k for k in kept if _is_ink(digest.colours.spots[k - 1])]
        distance = strange[position]
        if not kept and (distance is None or (distance > bar).mean() < LEAST_STRANGE_FRAC):
            continue
        height, width = digest.colours.size_px
        labels = digest.colours.read_labels()
        inked = np.isin(labels, ink)
        painted = np.isin(labels, [k for k in kept if k not in ink])
        if distance is not None:
            painted |= _find_strange(distance, bar, (height, width)) & ~inked
        if common is not None and not _lies_on_tissue(digest, painted | inked, common):
            continue
        cover = Cover(_describe(digest, painted), _describe(digest, inked))
        if cover != Cover():
            covers[digest.image] = cover
    return covers


def _set_bar(strange: Sequence[NDArray[np.float32]]) -> float:
    """Distance that the tissue of this cohort does not reach."""
    if not strange:
        return LEAST_DISTANCE
    reached = [np.quantile(s, CLEAR_QUANTILE) for s in strange]
    return max(LEAST_DISTANCE, SPREADS * float(np.quantile(reached, USUAL_QUANTILE)))


def _is_paint(spot: Spot, position: int, spots: Sequence[tuple[Spot, ...]]) -> bool:
    if spot.border_frac > BORDER_FRAC and max(spot.colour) - min(spot.colour) < GREY_SPREAD:
        return False
    if spot.excess >= CERTAIN_EXCESS or len(spots) < HABIT_IMAGES:
        return True
    colour = np.array(spot.colour)
    alike = sum(
        any(np.abs(colour - other.colour).max() <= LIKE and other.even == spot.even for other in others)
        for others in spots
    )
    return alike <= NATIVE_FRAC * len(spots)


def _is_ink(spot: Spot) -> bool:
    return not spot.even and spot.excess < CERTAIN_EXCESS and spot.texture > INK_TEXTURE


def _find_strange(distance: NDArray[np.float32], bar: float, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Connected regions of strange colour, grown to their edge, at the working size."""
    large = np.asarray(cv2.resize(distance, size_px[::-1], interpolation=cv2.INTER_LINEAR))
    count, regions = cv2.connectedComponents((large > EDGE_SHARE * bar).astype(np.uint8), connectivity=8)
    core = cv2.morphologyEx((large > bar).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
    cores = np.bincount(regions.ravel(), weights=core.ravel(), minlength=count)
    cores[0] = 0
    return np.isin(regions, np.flatnonzero(cores >= LEAST_STRANGE_FRAC * regions.size))


def _lies_on_tissue(digest: ImageDigest, covered: NDArray[np.bool_], common: NDArray[np.float32]) -> bool:
    """True where what is left of the image has the colours of the cohort."""
    height, width = digest.thumbnail.shape[:2]
    free = cv2.resize(covered.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) == 0
    rest = measure_foreignness(digest.thumbnail, common)[free & ~_is_glass(digest.thumbnail)] < REST_DISTANCE
    return bool(rest.sum() > LEAST_REST_FRAC * free.size and rest.mean() > REST_FRAC)


def _is_glass(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray(thumbnail.min(axis=2) > 190)


def _describe(digest: ImageDigest, inside: NDArray[np.bool_]) -> Region | None:
    frac = float(inside.mean())
    if not LEAST_FRAC <= frac <= MOST_FRAC:
        return None
    height, width = digest.thumbnail.shape[:2]
    small = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    tissue = ~_is_glass(digest.thumbnail) | small
    mask = digest.colours.read_mask()
    red, green, blue = (int(v) for v in np.median(digest.thumbnail[small], axis=0)) if small.any() else (0, 0, 0)
    return Region(
        image_frac=frac,
        mask_frac=float(inside[mask].mean()) if mask is not None and mask.any() else None,
        tissue_frac=float(small.sum() / max(1, tissue.sum())),
        colour=(red, green, blue),
        outline=draw_outlines(inside, digest.size_px),
    )
