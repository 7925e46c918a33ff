"""A tile as planes of numbers, each made once however many descriptions read it."""

from __future__ import annotations

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ...tissue.density import DENSITY
from ...tissue.foreground import BARE_LEVEL, find_light

# Optical density of haematoxylin, eosin and what is left over, each of unit length; one a row.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])  # Ruifrok & Johnston 2001
UNMIXING = np.linalg.inv(STAINS).astype(np.float32)  # density (r, g, b) @ this: amounts of the three
STAIN_GAIN = 160.0  # grey levels of `Planes.nuclear` for one unit of haematoxylin; thick nuclei reach 1.5

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Planes:
    """A tile (H, W, 3) of grey levels and what is made of it pixel by pixel.

    All is computed by operations whose result for a pixel does not depend on where it lies, so that a turned tile has
    the turned planes, to the bit.
    """

    def __init__(self, picture: Bytes) -> None:
        self.picture = picture
        self.red, self.green, self.blue = (np.ascontiguousarray(picture[..., channel]) for channel in range(3))

    @cached_property
    def light(self) -> Bytes:
        """Return the luminance, (H, W) grey levels."""
        return np.asarray(cv2.cvtColor(self.picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)

    @cached_property
    def densities(self) -> tuple[Floats, Floats, Floats]:
        """Return the optical density of red, green and blue, each (H, W)."""
        red, green, blue = (
            np.asarray(cv2.LUT(plane, DENSITY), dtype=np.float32) for plane in (self.red, self.green, self.blue)
        )
        return red, green, blue

    @cached_property
    def stains(self) -> tuple[Floats, Floats, Floats]:
        """Return amounts of haematoxylin, eosin and residual, each (H, W)."""
        red, green, blue = self.densities
        haematoxylin, eosin, residual = (red * a + green * b + blue * c for a, b, c in UNMIXING.T)
        return haematoxylin, eosin, residual

    @cached_property
    def nuclear(self) -> Bytes:
        """Return haematoxylin as (H, W) grey levels, more of it brighter, none 0."""
        return np.clip(np.rint(self.stains[0] * np.float32(STAIN_GAIN)), 0, 255).astype(np.uint8)

    @cached_property
    def tissue(self) -> NDArray[np.bool_]:
        """Tell which pixels are no glass, (H, W)."""
        return ~find_light(self.picture, grey=False, level=BARE_LEVEL)


def blur(plane: Bytes, side_px: int) -> Floats:
    """Return a plane (H, W) after two means over squares, which is much like a Gaussian of 0.41 ``side_px``.

    Sums of whole numbers are exact for sides up to 53, so that turning a tile changes no bit; all sides cost the same.
    """
    once = cv2.boxFilter(plane, cv2.CV_32S, (side_px, side_px), normalize=False, borderType=cv2.BORDER_REFLECT)
    twice = cv2.boxFilter(once, cv2.CV_32S, (side_px, side_px), normalize=False, borderType=cv2.BORDER_REFLECT)
    return np.multiply(twice, np.float32(side_px**-4), dtype=np.float32, casting="unsafe")  # no copy of double width
