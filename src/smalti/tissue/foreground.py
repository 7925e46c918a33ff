"""Where tissue is and where glass shows through: one definition for each purpose, each with its reason.

* `find_tissue`: a mask for images that come without one. It must lose no tissue, so its threshold adapts to the image
  (Otsu) and it marks everything where nothing is found.
* `find_stain`: pixels that absorb green more than red and blue, as haematoxylin and eosin do. The audit asks how much
  of an image is *stained* tissue, so grey dirt, pen and photographs must not count.
* `find_light`: light, nearly grey pixels. The search for paint needs glass in any image, also where paint fills most
  of it, so nothing is estimated from the image. With `BARE_LEVEL` only what hardly any stain darkens: whether a mask
  lies on glass or beside it, and the descriptions of tiles, must not take pale stroma for glass. On 60 images of glands
  it is 12 % of the pixels, and 20 % with `LIGHT_LEVEL`.
* `split_by_density`: thin and dense pixels of a thumbnail, relative to its own light. Mean colours of tissue and of
  glass are compared between images, so pixels in between belong to neither.
* `find_dense`: pixels beyond Macenko's threshold. Which pixels a stain is estimated from is part of that method.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .density import LEAST_DENSITY, measure_relative_density

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Picture = NDArray[np.uint8]

WORK_PX = 1024  # longest side of the copy that `find_tissue` looks at
# Absorbance is 255 minus the darkest channel: stain darkens at least one channel, glass darkens none.
SURELY_GLASS = 12  # JPEG noise and uneven light on white glass stay below
SURELY_TISSUE = 55  # grey glass of dim scanners stays below; the palest stroma may too, then Otsu decides
MIN_TISSUE_FRAC = 0.005

LEAST_GLASS = 180  # grey levels; a darker brightest part is tissue or nothing, not what tissue lies on
TINT = 0.06  # optical density of green over red and blue; glass and white balance stay below, more of it is stain
GREEN_SHARE = 0.05  # lead of green over the mean of red and blue, share of the sum; haematoxylin 0.13, brown (DAB) 0.03
GREEN_DEFICIT = 0.08  # of green behind the strongest channel, share of the sum; aniline blue has 0.16, yellow more

BARE_LEVEL = 219  # darkest channel; `DENSITY` 0.065, which is Macenko's 0.15 in natural logarithms, here below white
LIGHT_LEVEL, LIGHT_SPREAD = 190, 30  # darkest channel, and distance to the lightest; stain is darker or has a colour

TISSUE_OD = 0.15  # optical density of the palest stain (Macenko et al. 2009)
GLASS_OD = 0.05  # of the darkest glass: light that falls off by a tenth towards the corners


def find_tissue(image: Picture) -> Picture:
    """Return a mask (H, W) of 0 and 1 over the tissue of an RGB image (H, W, 3).

    Otsu's threshold (1979) on the absorbance of a shrunken, smoothed copy, held between two bounds, so that an image
    that is all tissue is not split into nuclei and stroma. An image without any tissue gives ones everywhere:
    nothing is lost here, and the audit's check ``blank`` is the place to say so.
    """
    height, width = image.shape[:2]
    scale = WORK_PX / max(height, width, WORK_PX)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    absorbance = cv2.medianBlur(255 - small.min(axis=2), 5)
    otsu, _ = cv2.threshold(absorbance, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    threshold = min(max(otsu, SURELY_GLASS), SURELY_TISSUE)
    tissue = (absorbance > threshold).astype(np.uint8)
    tissue = np.asarray(cv2.morphologyEx(tissue, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), dtype=np.uint8)
    if tissue.mean() < MIN_TISSUE_FRAC:
        return np.ones((height, width), dtype=np.uint8)
    if scale == 1:
        return tissue
    return np.asarray(cv2.resize(tissue, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def find_glass_colour(brightest: Floats) -> Floats:
    """Return the colour (3,) of light without tissue: that of the brightest part, within what glass can look like.

    Where tissue fills the view, its palest part is taken. That part is still stained; the bound on the tint corrects
    for it.
    """
    glass = np.maximum(brightest, 1.0)
    glass = np.minimum(glass * max(1.0, LEAST_GLASS / glass.mean()), 255.0)
    glass[1] *= np.exp(max(0.0, float(_measure_tint(-np.log(glass))) - TINT))
    return glass


def find_stain(absorbance: Floats) -> tuple[Flags, Flags]:
    """Return which pixels have a hue of stain, and which of these enough of it, for `measure_absorbance` (..., 3)."""
    total = absorbance[..., 0] + absorbance[..., 1] + absorbance[..., 2]
    deficit = np.maximum(absorbance[..., 0], absorbance[..., 2]) - absorbance[..., 1]
    tint = _measure_tint(absorbance)
    hue = np.asarray((tint > GREEN_SHARE * total) & (deficit < GREEN_DEFICIT * total))
    return hue, np.asarray(hue & (tint > TINT))


def _measure_tint(absorbance: Floats) -> Floats:
    """Return the optical density of green over the mean of red and blue."""
    return np.asarray(absorbance[..., 1] - (absorbance[..., 0] + absorbance[..., 2]) / 2)


def find_light(picture: Picture, *, grey: bool, level: int = LIGHT_LEVEL) -> Flags:
    """Return which pixels of an RGB image (H, W, 3) are as light as glass, the darkest channel above ``level``.

    With ``grey`` they are also as colourless.

    Glass is even in any compressed image, as paint is, so the search for even regions asks for ``grey`` too: pale paint
    has a colour. Where the colours of tissue are compared, pale paint and glass are both no tissue.
    """
    red, green, blue = cv2.split(picture)  # an axis of three is slow to reduce along
    darkest, lightest = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    light = np.asarray(darkest > level)
    return light & np.asarray(cv2.subtract(lightest, darkest) < LIGHT_SPREAD) if grey else light


def split_by_density(pixels: Floats, light: Floats) -> tuple[Flags, Flags]:
    """Return which pixels (n, 3) are surely tissue and which surely glass under this light, (3,)."""
    density = measure_relative_density(pixels, light)
    return density >= TISSUE_OD, density < GLASS_OD


def find_dense(densities: Floats, *, channels: Literal["any", "all"]) -> Flags:
    """Return which `STAIN_DENSITY` (n, 3) reach Macenko's bound in ``any`` channel (no glass) or ``all`` (stained)."""
    dense = densities >= LEAST_DENSITY
    return np.asarray(dense.any(axis=1) if channels == "any" else dense.all(axis=1))
