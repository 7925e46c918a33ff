"""Optical density, in which stains add (Beer-Lambert), on the scales that smalti uses; each has its purpose.

Light that passes tissue is divided by ten (decadic scale) or by e (natural scale) for each unit of density, channel by
channel. The scales differ in what counts as no density at all:

* `DENSITY`: decadic, 0 at white. Compares colours where the glass of an image is not known: paint, gamut, texture.
* `STAIN_DENSITY`: natural, 0 at grey level 240, as Macenko et al. 2009 define it. Stain vectors are fitted and
  normalised in it, so that frames can be compared with the literature.
* `measure_absorbance`: natural, 0 at the glass of the image itself. Says how much tissue there is under any lamp.
* `measure_relative_density`: decadic, 0 at the brightest pixels of the image itself. Tells glass from pale stain with
  the thresholds of the literature, which are decadic.
* `measure_log_light`: natural, with an offset that keeps the noise of dark pixels small. For contrast of details only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

LIGHT = 240.0  # grey level of empty glass for `STAIN_DENSITY`; brighter pixels have a density below zero
DENSITY = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)  # of a grey level; 0 for white, 2.4 for black
STAIN_DENSITY = (DENSITY * np.log(10) - np.log(256 / LIGHT)).astype(np.float32)  # of a grey level: -ln((v + 1) / 240)
LEAST_DENSITY = 0.15  # of `STAIN_DENSITY`, for a channel to count as stained (Macenko's beta)


def measure_absorbance(levels: Floats, glass: Floats | float) -> Floats:
    """Return natural density of grey levels (..., 3) below the glass, (3,) or a number; negative where brighter."""
    return np.asarray(np.log(glass / np.maximum(levels, 1)))


def measure_relative_density(pixels: Floats, light: Floats) -> Floats:
    """Return the mean decadic density (n,) over the channels of pixels (n, 3) below the brightest level (3,)."""
    return np.asarray(-np.log10((pixels + 1) / (light + 1)).mean(axis=1))


def measure_log_light(plane: NDArray[np.uint8], *, offset: int) -> NDArray[np.float32]:
    """Return natural density (H, W) of a plane below full scale; ``offset`` grey levels are added first."""
    return np.asarray(np.log(256 / (plane.astype(np.float32) + offset)))
