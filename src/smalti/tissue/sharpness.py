"""How sharp an image is, from full-resolution samples of constant cost.

Defocus takes the contrast of fine details and leaves that of coarse ones (Pech-Pacheco et al. 2000 compare such focus
measures); the quotient of the two does not change with contrast, brightness or the amount of stain.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLES, SAMPLE_PX = 3, 384  # in rows and columns; nine of them cover most of 1,000 px
COARSE_BAND = 3  # octaves above the finest: details of eight times the size
NOISE_FLOOR = 1e-7  # mean square of optical density; far below the noise of any camera


def measure_sharpness(picture: NDArray[np.uint8]) -> float:
    """log10 of the contrast of the finest details over that of details of eight times the size, RGB (H, W, 3)."""
    fine, coarse = 0.0, 0.0
    for part in _cut_samples(picture):
        # Green is what both stains absorb.
        bands = _split_octaves(np.log(256 / (part[..., 1].astype(np.float32) + 4)))
        fine += float(np.square(bands[0]).mean())
        coarse += float(np.square(bands[-1]).mean())
    return float(np.log10((fine + NOISE_FLOOR) / (coarse + NOISE_FLOOR)))


def _cut_samples(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    starts = [np.unique(np.linspace(0, max(0, n - SAMPLE_PX), SAMPLES).round().astype(int)) for n in picture.shape[:2]]
    return [picture[row : row + SAMPLE_PX, col : col + SAMPLE_PX] for row in starts[0] for col in starts[1]]


def _split_octaves(plane: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The finest bands of a Laplacian pyramid (Burt and Adelson 1983), up to the coarse one."""
    bands = []
    for _ in range(COARSE_BAND + 1):
        smaller = cv2.pyrDown(plane)
        larger = cv2.pyrUp(smaller, dstsize=(plane.shape[1], plane.shape[0]))
        bands.append(np.asarray(plane - larger, dtype=np.float32))
        plane = np.asarray(smaller, dtype=np.float32)
    return bands
