"""Regions of one image that look painted, found before anything is known of the other images."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...tissue.foreground import find_light
from ...tissue.gamut import measure_excess

WORKING_PX = 512  # longer side of what is looked at; averaging to it leaves tissue its texture and paint its evenness
SMOOTH_PX = 1.5
SEED_EXCESS, GROWN_EXCESS = 1.25, 0.8  # a spot starts beyond what stains can do and grows to where they could
# Mean absolute difference of a pixel from its neighbours, in grey levels. Sensors and tissue have more; JPEG at quality
# 60 leaves painted areas less. In blurred images the bar is lower: a share of what the image's own tissue has. An even
# spot starts below the first bar and grows up to the second; a bubble or a place out of focus is between them.
SEED_DETAIL, SEED_SHARE = 0.5, 0.08
EVEN_DETAIL, EVEN_SHARE = 0.8, 0.1
EXACT_DETAIL = 0.12  # the same within thin strokes: nearly no pixel differs from its neighbours
MOST_EVEN_FRAC = 0.5  # of the tissue; where most is even, as in a drawing, evenness says nothing
EVEN_SPOT_FRAC = 0.3  # the rest of an even spot is its soft edge
MIN_SEED_FRAC = 0.0005  # of the image
MOST_SPOTS = 250
RIM_PX = 4
RECTANGLE_FILL, LEAST_RECTANGLE_FRAC = 0.96, 0.003  # even glass is not paint, but a sheet of it is


@dataclass(frozen=True, slots=True)
class Spot:
    """One connected region.

    Attributes:
        colour: median RGB.
        area_frac: share of the image.
        excess: median of `measure_excess`; above 1 no stain makes the colour.
        even: True where the pixels are as constant as no camera sees them.
        texture: detail in its core over that of the rest of the tissue.
        border_frac: largest share of one side of the image that it covers.
    """

    colour: tuple[int, int, int]
    area_frac: float
    excess: float
    even: bool
    texture: float
    border_frac: float


@dataclass(frozen=True, slots=True, eq=False)
class ColourSummary:
    """The facts about one image that the search for paint needs.

    Attributes:
        size_px: (height, width) of the working size.
        spots: regions to be judged beside the other images.
        even_frac: share of all but glass that is as even as paint; nearly all of a drawing.
        labels: compressed (height, width) map, 0 or 1 + position in ``spots``.
        mask: compressed (height, width) map of the image's mask, 0 and 1; None without.
    """

    size_px: tuple[int, int]
    spots: tuple[Spot, ...]
    even_frac: float
    labels: bytes
    mask: bytes | None

    def read_labels(self) -> NDArray[np.uint8]:
        """Return the map of the spots, (height, width)."""
        return np.frombuffer(zlib.decompress(self.labels), dtype=np.uint8).reshape(self.size_px)

    def read_mask(self) -> NDArray[np.bool_] | None:
        """Return the mask at the working size, (height, width)."""
        if self.mask is None:
            return None
        return np.frombuffer(zlib.decompress(self.mask), dtype=np.uint8).reshape(self.size_px).astype(bool)


def summarise_colours(picture: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> ColourSummary:
    """Look for spots in an image, (H, W, 3) RGB, with its mask, (H, W)."""
    scale = min(1.0, WORKING_PX / max(picture.shape[:2]))
    height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
    small = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    fine = small.astype(np.float32)
    red, green, blue = cv2.split(cv2.absdiff(fine, cv2.blur(fine, (3, 3))))
    detail = np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.float32)
    smooth = np.asarray(cv2.GaussianBlur(small, (0, 0), SMOOTH_PX), dtype=np.uint8)
    tissue = ~find_light(smooth, grey=True)
    labels, spots = _find_spots(small, detail, tissue)
    even_frac = float((cv2.blur(detail, (5, 5)) <= SEED_DETAIL)[tissue].mean()) if tissue.any() else 0.0
    packed = None
    if mask is not None:
        packed = zlib.compress(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST).tobytes(), 1)
    return ColourSummary((height, width), spots, even_frac, zlib.compress(labels.tobytes(), 1), packed)


def _find_spots(
    small: NDArray[np.uint8], detail: NDArray[np.float32], tissue: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], tuple[Spot, ...]]:
    excess = measure_excess(small, sigma_px=SMOOTH_PX)
    usual = float(np.percentile(cv2.blur(detail, (5, 5))[tissue], 75)) if tissue.any() else 0.0
    flat, even = _find_even(detail, tissue, usual)
    seeds = (excess > SEED_EXCESS) | flat
    grown = (excess > GROWN_EXCESS) | even
    firm = cv2.morphologyEx(seeds.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2)))
    joined = cv2.dilate(grown.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, regions = cv2.connectedComponents(joined, connectivity=8)
    seeded = np.bincount(regions.ravel(), weights=firm.ravel(), minlength=count)
    seeded[0] = 0
    kept = [i for i in np.argsort(-seeded)[:MOST_SPOTS] if seeded[i] >= max(4.0, MIN_SEED_FRAC * regions.size)]
    labels = np.zeros(regions.shape, np.uint8)
    spots = []
    for number, region in enumerate(kept, start=1):
        inside = regions == region
        labels[inside] = number
        # Half of a region lies deepest, where its edge does not count.
        depth = cv2.distanceTransform(np.pad(inside.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        core = inside & (depth >= np.median(depth[inside]))
        red, green, blue = (int(v) for v in np.median(small[inside], axis=0))
        spots.append(
            Spot(
                colour=(red, green, blue),
                area_frac=float(inside.mean()),
                excess=float(np.median(excess[inside])),
                even=float(even[inside].mean()) > EVEN_SPOT_FRAC,
                texture=float(np.median(detail[core])) / max(usual, 1e-6),
                border_frac=max(float(side.mean()) for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1])),
            )
        )
    return labels, tuple(spots)


def _find_even(
    detail: NDArray[np.float32], tissue: NDArray[np.bool_], usual: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where pixels are as even as paint, and where nearly so; sheets of glass count, other glass does not."""
    level = cv2.blur(detail, (5, 5))
    exact = cv2.blur(detail, (3, 3)) <= min(EXACT_DETAIL, SEED_SHARE * usual)
    flat = exact | (level <= min(SEED_DETAIL, SEED_SHARE * usual))
    # Connected regions that fill a rectangle, turned or not. One at the rim of an image may be a part that the scanner
    # did not cover, so it does not count.
    inside = flat & ~tissue
    kept = np.zeros(inside.shape, np.uint8)
    height, width = inside.shape
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        around = float(np.prod(cv2.minAreaRect(contour)[1]))
        left, top, wide, high = cv2.boundingRect(contour)
        if min(left, top, width - left - wide, height - top - high) <= RIM_PX:
            continue
        if around >= LEAST_RECTANGLE_FRAC * inside.size and cv2.contourArea(contour) >= RECTANGLE_FILL * around:
            cv2.drawContours(kept, [contour], -1, 1, cv2.FILLED)
    sheets = kept.astype(bool) & inside
    if flat[tissue].sum() > MOST_EVEN_FRAC * tissue.sum():
        return sheets, sheets
    even = flat | (level <= min(EVEN_DETAIL, EVEN_SHARE * usual))
    return (flat & tissue) | sheets, (even & tissue) | sheets
