"""Where the tissue is, for images that come without a mask."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WORK_PX = 1024  # longest side of the copy that is looked at
# Absorbance is 255 minus the darkest channel: stain darkens at least one channel, glass darkens none.
SURELY_GLASS = 12  # JPEG noise and uneven light on white glass stay below
SURELY_TISSUE = 55  # grey glass of dim scanners stays below; the palest stroma may too, then Otsu decides
MIN_TISSUE_FRAC = 0.005


def find_tissue(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mask (H, W) of 0 and 1 over tissue of an RGB image (H, W, 3).

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
