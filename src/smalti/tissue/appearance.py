"""What an image looks like, by what stain and glass can do to light: tissue, light, texture, sharpness.

In optical density a pixel of H&E is a mixture of haematoxylin and eosin (Ruifrok and Johnston 2001), and both absorb
green more than the mean of red and blue; so do blood and any mixture of them. Grey, brown, yellow and green do not.

Defocus takes the contrast of fine details and leaves that of coarse ones (Pech-Pacheco et al. 2000 compare such focus
measures); the quotient of the two does not change with contrast, brightness or the amount of stain.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from ..stats.robust import SIGMA_PER_MAD
from .density import measure_absorbance, measure_log_light
from .foreground import find_glass_colour, find_stain

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]

VIEW_PX = 256  # longer side of the copy that colour and texture are measured on
SMOOTH_PX = 1.0  # noise of single pixels has a colour of its own
GLASS_PERCENTILE = 99  # glass is the brightest thing in a microscope, if there is any in view
ABSORBING = 0.3  # sum over the channels of optical density: 10 % darker than glass in each
DENSEST = 3.0  # sum of optical density; an 8-bit camera tells no more apart
UNEVEN = 0.1  # optical density beyond smooth light
DEGREE = 4  # of that surface; light falls off with the fourth power of the cosine
FIT_STEP = 4  # every fourth row and column knows enough of it
PATCHES, PATCH_PX = 12, 32  # full-resolution samples, in rows and columns
BLACK, WHITE = 1, 254  # a camera that says so may have seen less, or more
SAMPLES, SAMPLE_PX = 3, 384  # for sharpness, in rows and columns; nine of them cover most of 1,000 px
COARSE_BAND = 3  # octaves above the finest: details of eight times the size
NOISE_FLOOR = 1e-7  # mean square of optical density; far below the noise of any camera
BANDS_PX = (1, 2, 4, 8, 16)  # standard deviations of the Gaussians that part the scales of texture


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """One image, seen as tissue on glass.

    Attributes:
        tissue_frac: share of the image that absorbs as stain does.
        masked_tissue_frac: the same under the mask; None without a mask or where it marks nothing.
        dark_frac, bright_frac: share that is darker or brighter than smooth light over the image explains.
        off_colour_frac: of what is there, the share in colours that stain cannot have.
        grainless_frac: of what is there, the share in such colours, or even to the last grey level as only drawn or
            destroyed pictures are.
        texture: (7,) how contrast grows from scale to scale, along how straight lines, how sparse it is.
        sharpness: log10 of the contrast of the finest details over that of details of eight times the size.
        light: logarithm of the brightest colour channel, 0 at full scale.
        blown_frac, crushed_frac: share of the stained pixels in which two channels are at the upper, of all pixels in
            which two are at the lower end of their range.
    """

    tissue_frac: float
    masked_tissue_frac: float | None
    dark_frac: float
    bright_frac: float
    off_colour_frac: float
    grainless_frac: float
    texture: NDArray[np.float32]
    sharpness: float
    light: float
    blown_frac: float
    crushed_frac: float


def measure_appearance(picture: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None) -> Appearance:
    """Measure an RGB image (H, W, 3), and its mask (H, W) of 0 and 1 if it has one."""
    scale = min(1.0, VIEW_PX / max(picture.shape[:2]))
    height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
    view = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    smooth = cv2.GaussianBlur(view, (0, 0), SMOOTH_PX).astype(np.float64)
    brightest = np.percentile(smooth, GLASS_PERCENTILE, axis=(0, 1))
    glass = find_glass_colour(brightest)
    density = np.maximum(measure_absorbance(smooth, glass), 0)
    hue, stained = find_stain(density)
    unevenness = _measure_unevenness(smooth)
    there = stained | ((density.sum(axis=2) > ABSORBING) & (~hue | (np.abs(unevenness) > UNEVEN)))
    off_colour = float((~stained & there).sum() / there.sum()) if there.any() else 0.0
    even, blown, crushed = _sample_pixels(picture, glass)
    masked = None
    if mask is not None:  # each pixel of the view is weighted by its coverage
        coverage = cv2.resize(255 * mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64)
        masked = float((coverage * stained).sum() / coverage.sum()) if coverage.any() else None
    grey = measure_log_light(np.asarray(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), dtype=np.uint8), offset=8)
    below, bands = grey, []
    for sigma in BANDS_PX:
        above = np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), dtype=np.float32)
        bands.append(below - above)
        below = above
    growth = np.diff(np.log([float(band.var()) + 1e-5 for band in bands]))
    sparseness = [float(np.abs(bands[i]).mean() / (bands[i].std() + 1e-6)) for i in (1, 3)]
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(a, (0, 0), 4) for a in (across * across, down * down, across * down))
    along = float(np.sqrt((xx - yy) ** 2 + 4 * xy**2).sum() / ((xx + yy).sum() + 1e-6))
    return Appearance(
        tissue_frac=float(stained.mean()),
        masked_tissue_frac=masked,
        dark_frac=float((unevenness > UNEVEN).mean()),
        bright_frac=float((unevenness < -UNEVEN).mean()),
        off_colour_frac=off_colour,
        grainless_frac=1 - (1 - off_colour) * (1 - even),
        texture=np.array([*growth, along, *sparseness], dtype=np.float32),
        sharpness=measure_sharpness(picture),
        light=float(np.log(max(1.0, brightest.max()) / 255)),
        blown_frac=blown,
        crushed_frac=crushed,
    )


def _measure_unevenness(smooth: Floats) -> Floats:
    """Return grey optical density (h, w) beyond a polynomial surface: vignette and slanting light are on the surface.

    The surface is fitted again without pixels far off it, three times.
    """
    grey = np.minimum(measure_absorbance(smooth.mean(axis=2), 255), DENSEST)
    rows, cols = (np.linspace(-1, 1, n) for n in grey.shape)
    down, across = np.vander(rows, DEGREE + 1), np.vander(cols, DEGREE + 1)
    terms = np.add.outer(*[np.arange(DEGREE, -1, -1)] * 2) <= DEGREE
    sparse = np.s_[::FIT_STEP]
    values = grey[sparse, sparse].ravel()
    surface = np.einsum("ri,cj->rcij", down[sparse], across[sparse])[..., terms].reshape(len(values), -1)
    weights = np.ones(len(values))
    factors = np.zeros(surface.shape[1])
    for _ in range(4):
        weighted = surface.T * weights
        factors = np.linalg.solve(weighted @ surface + 1e-9 * np.eye(len(factors)), weighted @ values)
        off = np.abs(values - surface @ factors)
        weights = (off <= max(3 * SIGMA_PER_MAD * float(np.median(off)), UNEVEN / 3)).astype(np.float64)
    full = np.zeros(terms.shape)
    full[terms] = factors
    return np.asarray(grey - down @ full @ across.T)


def _sample_pixels(picture: NDArray[np.uint8], glass: Floats) -> tuple[float, float, float]:
    """Return shares of the stained pixels that equal all neighbours and that are blown, and the share of all crushed.

    Small samples at full resolution are measured, because shrinking makes and hides all of these. Where samples
    overlap, as in all images below 384 px, a pixel is measured once and counts for each of them.
    """
    size = min(PATCH_PX, *picture.shape[:2])
    (rows, down, down_inside), (cols, across, across_inside) = (_place_samples(n, size) for n in picture.shape[:2])
    samples = picture[np.ix_(rows, cols)]
    tables = np.maximum(measure_absorbance(np.arange(256, dtype=np.float32)[:, None], glass.astype(np.float32)), 0)
    # Planes one after the other, so that each is contiguous.
    _, stained = find_stain(np.moveaxis(np.stack(cv2.split(cv2.LUT(samples, tables[None]))), 0, 2))
    square = np.ones((3, 3), np.uint8)
    spread = cv2.split(cv2.absdiff(cv2.erode(samples, square), cv2.dilate(samples, square)))
    even = cv2.max(cv2.max(spread[0], spread[1]), spread[2]) == 0
    red, green, blue = cv2.split(samples)
    second = cv2.max(cv2.min(red, green), cv2.min(cv2.max(red, green), blue))  # of the three channels, the middle one

    def share(part: Flags, whole: Flags, weights: tuple[Floats, Floats]) -> float:
        counted, total = (float(weights[0] @ flags.astype(np.float64) @ weights[1]) for flags in (part & whole, whole))
        return counted / total if total else 0.0

    even_frac = share(np.asarray(even), stained, (down_inside, across_inside))
    blown_frac = share(np.asarray(second >= WHITE), stained, (down, across))
    return even_frac, blown_frac, share(np.asarray(second <= BLACK), np.ones_like(stained), (down, across))


def _place_samples(length: int, size: int) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return rows or columns in samples, the number of samples of each, and that without the margins of samples.

    Neighbours of the margin belong to other samples.
    """
    starts = np.linspace(0, length - size, PATCHES).round().astype(int)
    places, which = np.unique(starts[:, None] + np.arange(size), return_inverse=True)
    inside = np.zeros((PATCHES, size))
    inside[:, 1 : size - 1] = 1
    return (
        places,
        np.bincount(which.ravel()).astype(np.float64),
        np.bincount(which.ravel(), inside.ravel()).astype(np.float64),
    )


def measure_sharpness(picture: NDArray[np.uint8]) -> float:
    """Return log10 of the contrast of the finest details over that of details eight times as large, RGB (H, W, 3).

    Samples at full resolution are compared, whose number does not grow with the image, in the bands of a Laplacian
    pyramid (Burt and Adelson 1983).
    """
    fine, coarse = 0.0, 0.0
    starts = [np.unique(np.linspace(0, max(0, n - SAMPLE_PX), SAMPLES).round().astype(int)) for n in picture.shape[:2]]
    for row, col in product(*starts):
        # Green is what both stains absorb.
        plane = measure_log_light(picture[row : row + SAMPLE_PX, col : col + SAMPLE_PX, 1], offset=4)
        bands = []
        for _ in range(COARSE_BAND + 1):
            smaller = cv2.pyrDown(plane)
            larger = cv2.pyrUp(smaller, dstsize=(plane.shape[1], plane.shape[0]))
            bands.append(np.asarray(plane - larger, dtype=np.float32))
            plane = np.asarray(smaller, dtype=np.float32)
        fine += float(np.square(bands[0]).mean())
        coarse += float(np.square(bands[-1]).mean())
    return float(np.log10((fine + NOISE_FLOOR) / (coarse + NOISE_FLOOR)))
