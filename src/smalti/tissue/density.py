"""The colours that haematoxylin and eosin can make, in optical density, where stains add (Beer-Lambert).

Light that passes tissue is divided by ten for each unit of density, channel by channel. Both stains, blood and brown
pigment absorb green most or nearly so; what mixes them lies in a cone that starts at white (Ruifrok & Johnston 2001,
Macenko et al. 2009). Paint need not lie there.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

DENSITY = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)  # of a grey level; 0 for white, 2.4 for black
# Rare in a cohort and yet tissue, as (red, green, blue) density where it lies thick: blood (haemoglobin takes most of
# the blue light, eosin of the green) and melanin. Thinner than a third of it, both are mixed with the stain around.
BLOOD, MELANIN = (0.5, 1.65, 1.7), (1.2, 1.5, 1.6)
BLACK = 1.1  # density of all three channels at once that thin tissue does not reach; folds and nuclei stay below 1
# Angle around the grey axis (degrees; 0 absorbs green alone, 60 is red, 120 yellow, 180 green, -120 cyan, -60 blue) and
# the chroma, in density, that tissue may have there. Eosin and haematoxylin stay below 1 even where they are thick;
# blood is red, pigment and bile brown and never pure yellow; nothing in H&E is green or cyan: 0.12 is tinted glass.
_ANGLES = (-180, -90, -80, -70, -60, 0, 70, 100, 110, 118, 125, 135, 180)
_CHROMAS = (0.12, 0.12, 0.25, 0.5, 0.9, 1.1, 1.0, 0.8, 0.6, 0.35, 0.2, 0.12, 0.12)
_LIMITS = np.interp(np.arange(-180, 180), _ANGLES, _CHROMAS).astype(np.float32)
# A native colour stands for thinner and thicker tissue of the same composition, within these factors.
_THINNER, _THICKER = 0.35, 2.8


def measure_excess(picture: NDArray[np.uint8], *, sigma_px: float = 0.0) -> NDArray[np.float32]:
    """How far a colour is beyond what H&E can make, (H, W); at most 1 is possible.

    Args:
        picture: (H, W, 3) RGB.
        sigma_px: smoothing before densities are taken; keeps single odd pixels out. 0 takes them as they are.
    """
    smooth = cv2.GaussianBlur(picture, (0, 0), sigma_px) if sigma_px else picture
    red, green, blue = cv2.split(DENSITY[smooth])
    away = green - (red + blue) / 2
    aside = (blue - red) * np.float32(np.sqrt(3) / 2)
    chroma, angle = cv2.cartToPolar(away, aside, angleInDegrees=True)
    limit = _LIMITS[(np.asarray(angle).astype(np.int32) + 180) % 360]
    darkness = np.minimum(np.minimum(red, green), blue) / BLACK
    return np.asarray(np.maximum(np.asarray(chroma) / limit, darkness), dtype=np.float32)


def count_densities(picture: NDArray[np.uint8], *, width: float) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Centres of the bins of density that occur, (n, 3), ``width`` wide, and which of them each pixel is in, (H, W)."""
    bins = np.floor(DENSITY / np.float32(width)).astype(np.int32)
    red, green, blue = cv2.split(picture)
    codes = (bins[red] * 256 + bins[green]) * 256 + bins[blue]
    found, which = np.unique(codes, return_inverse=True)
    centres = np.stack([found // 65536, found // 256 % 256, found % 256], axis=1) + 0.5
    return (centres * width).astype(np.float32), which.reshape(picture.shape[:2])


def measure_distance(densities: NDArray[np.float32], rays: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distance of densities, (n, 3), to the nearest of the rays, (m, 3), each made thinner or thicker, (n,)."""
    if not len(rays):
        return np.full(len(densities), np.inf, dtype=np.float32)
    length = np.maximum((rays * rays).sum(axis=1), 1e-9)
    along = densities @ rays.T
    thickness = np.clip(along / length, _THINNER, _THICKER)
    apart = (densities * densities).sum(axis=1)[:, None] - 2 * thickness * along + thickness * thickness * length
    return np.asarray(np.sqrt(np.maximum(apart.min(axis=1), 0)), dtype=np.float32)
