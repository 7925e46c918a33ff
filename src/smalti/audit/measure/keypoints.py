"""What an image looks like beneath its colours: points that are found again after turning, cropping, recolouring."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE_PX = 256  # longer side on which points are found; a nucleus of a 1,000 px field at x20 is about 4 px wide there
# Smaller images are enlarged twofold at most, and to 100 px at least: tiles of 50 px show their copies as well there as
# at 256 px, at a sixth of the pixels.
ENLARGED, LEAST_SIDE_PX = 2, 100
SMALLEST_PX = 16  # of the shorter side; below, there are no points to be told by
LIGHT_PX = 192  # longer side of the lightness that is kept
MOST_POINTS = 300  # a crop to half the area that is painted on and compressed keeps about 40 of them
POINT_PX = 128  # pixels of the square around an image that are there for each of its points, where they are fewer
DETAIL_PX = 8.0  # light and stain change over longer distances than this, texture over shorter ones
CONTRAST_FLOOR = 4.0  # grey levels; keeps compression noise of even areas from counting as texture
GAIN = 45  # of 255 for one local standard deviation, so that nearly three fit on either side
DESCRIPTOR = 128
# A mirrored patch: its rows of cells change places and its gradients turn the other way.
MIRRORED = np.arange(DESCRIPTOR).reshape(4, 4, 8)[::-1][:, :, (-np.arange(8)) % 8].ravel()


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Points of one image and its lightness; 75 kB at most.

    Lengths are in units of the image's longer side, so that a rescaled image has the same texture.

    Attributes:
        extent: (width, height) of the image; the larger is 1.
        points: (P, 2) x and y.
        angles: (P,) radians, of the strongest gradient, from x to y.
        sizes: (P,) diameter of the neighbourhood that tells where the point is.
        descriptors: (P, 128) SIFT (Lowe 2004), which does not change when the image is turned.
        light: (h, w) lightness, longer side 192.
    """

    extent: NDArray[np.float32]
    points: NDArray[np.float32]
    angles: NDArray[np.float32]
    sizes: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    light: NDArray[np.uint8]


def describe_texture(picture: NDArray[np.uint8]) -> Texture:
    """Texture of an image (H, W, 3) RGB; without points where a side is below `SMALLEST_PX`."""
    side_px = min(SIDE_PX, max(LEAST_SIDE_PX, ENLARGED * max(picture.shape[:2])))
    most = min(MOST_POINTS, side_px**2 // POINT_PX) if min(picture.shape[:2]) >= SMALLEST_PX else 0
    light = _measure_light(_fit(picture, side_px))
    detail = np.clip(128 + GAIN * flatten_light(light, sigma_px=DETAIL_PX), 0, 255).astype(np.uint8)
    # Two layers an octave and a low threshold: flattened texture has no weak points, the strongest are taken.
    sift = cv2.SIFT.create(most, 2, 0.005, 10, 1.6, cv2.CV_8U, True)
    found, descriptors = sift.detectAndCompute(detail, None) if most else ((), None)
    found = found[:most]
    extent = np.array(picture.shape[1::-1], dtype=np.float32) / max(picture.shape[:2])
    step = extent / np.array(detail.shape[::-1], dtype=np.float32)
    places = np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2)
    return Texture(
        extent=extent,
        points=(places + np.float32(0.5)) * step,
        angles=np.radians(np.array([point.angle for point in found], dtype=np.float32)),
        sizes=np.array([point.size for point in found], dtype=np.float32) * step.mean(),
        descriptors=np.asarray(np.zeros((0, DESCRIPTOR)) if descriptors is None else descriptors[:most], np.uint8),
        light=_fit(light, min(LIGHT_PX, side_px)),
    )


def mirror_texture(texture: Texture) -> Texture:
    """Texture of the same image mirrored left to right."""
    points = texture.points.copy()
    points[:, 0] = texture.extent[0] - points[:, 0]
    return replace(
        texture,
        points=points,
        angles=np.float32(np.pi) - texture.angles,
        descriptors=texture.descriptors[:, MIRRORED],
        light=np.ascontiguousarray(texture.light[:, ::-1]),
    )


def flatten_light(light: NDArray[np.generic], *, sigma_px: float) -> NDArray[np.float32]:
    """Local contrast normalisation (Jarrett et al. 2009): what is left does not change with brightness or stain.

    Two fields of one slide share layout, light and colour; only the texture tells them apart.
    """
    detail = light.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), sigma_px)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma_px))
    return np.asarray(detail / (contrast + CONTRAST_FLOOR), dtype=np.float32)


def _fit(picture: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    longest = max(picture.shape[:2])
    height, width = (max(1, round(n * longest_px / longest)) for n in picture.shape[:2])
    way = cv2.INTER_AREA if longest >= longest_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=way), dtype=np.uint8)


def _measure_light(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of the strongest and the weakest channel: a turned hue leaves it as it is, luma changes."""
    red, green, blue = cv2.split(picture)
    most = np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)
    least = np.asarray(cv2.min(cv2.min(red, green), blue), dtype=np.uint8)
    return (most & least) + ((most ^ least) >> 1)  # half of the sum, which has a ninth bit
