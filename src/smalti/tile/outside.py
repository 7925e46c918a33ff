"""What is left of the pixels outside the mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Outside

PALE_SHARE = 0.01  # of the pixels; glass where an image has any, the palest tissue where it has none
# Standard deviation of the blur, share of the side of a tile: 14 px at 224. A nucleus (some 20 px at 20x) vanishes, the
# colour and the density of the surroundings stay.
BLUR_FRAC = 1 / 16


def find_pale(view: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the median colour of the palest pixels of a picture (H, W, 3): those whose darkest channel is brightest.

    What an image shows where nothing is, so that a blank looks like the end of the tissue and not like an object.
    """
    light = view.min(axis=2)
    palest = view[light >= np.quantile(light, 1 - PALE_SHARE)]
    red, green, blue = np.rint(np.median(palest, axis=0)).astype(int).tolist()
    return red, green, blue


def hide_outside(
    pixels: NDArray[np.uint8], masks: NDArray[np.uint8], *, outside: Outside, pale: tuple[int, int, int]
) -> None:
    """Blank or blur tiles (N, H, W, 3) in place where their masks (N, H, W) are 0; ``keep`` leaves them alone."""
    if outside == "keep":
        return
    for tile, mask in zip(pixels, masks, strict=True):
        hidden = mask == 0
        if outside == "blank":
            tile[hidden] = pale
        elif hidden.any():
            blurred = cv2.GaussianBlur(tile, (0, 0), BLUR_FRAC * len(tile), borderType=cv2.BORDER_REFLECT_101)
            tile[hidden] = blurred[hidden]
