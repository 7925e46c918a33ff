"""Colours and stains of a tile, pixel by pixel, wherever the pixels lie."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ...audit.stains import DENSITY
from .description import DESCRIPTIONS, Description
from .planes import Bytes, Floats, Planes

LEVELS = np.arange(256) / 255
QUANTILES = (0.1, 0.5, 0.9)
BINS, LEAST, MOST = 512, -1.0, 3.0  # of stain amounts, for their quantiles
LEAST_SPREAD = 0.01  # of 0..1 and of density: skewness and correlation of what varies less fade to 0
TONES, STAINED = ("red", "green", "blue", "saturation", "value"), ("haematoxylin", "eosin", "residual")
PAIRS = (("red", "green"), ("green", "blue"), ("red", "blue"), ("haematoxylin", "eosin"))
MOMENTS = ("mean", "spread", "skewness")
NAMES = (
    *(f"{tone} {what}" for tone in (*TONES, *STAINED) for what in (*MOMENTS, *(f"q{q:g}" for q in QUANTILES))),
    *(f"{tone} density {what}" for tone in TONES[:3] for what in MOMENTS),
    *("hue cosine", "hue sine", "hue agreement"),
    *(f"{one} with {other}" for one, other in PAIRS),
    *("tissue", *(f"{stain} of tissue" for stain in STAINED)),
)

Doubles = NDArray[np.float64]


@DESCRIPTIONS.register(
    "colour",
    summary="colours and stains: moments and quantiles of RGB, HSV, optical density and stain amounts",
    reference="Ruifrok & Johnston 2001",
)
def build_colour() -> Description:
    """Statistics over pixels, whose places play no part."""
    return Description(NAMES, describe_colour)


def describe_colour(planes: Planes) -> Doubles:
    """Measure the numbers of `NAMES`."""
    hue, saturation, value = _split_hue(planes)
    counts = [_count(plane) for plane in (planes.red, planes.green, planes.blue, saturation, value)]
    numbers = [n for count in counts for n in (*_weigh_moments(LEVELS, count), *_find_quantiles(LEVELS, count))]
    middles = LEAST + (np.arange(BINS) + 0.5) * ((MOST - LEAST) / BINS)
    for stain in planes.stains:
        cells = ((stain - np.float32(LEAST)) * np.float32(BINS / (MOST - LEAST))).clip(0, BINS - 1).astype(np.intp)
        numbers += _measure_moments(stain)
        numbers += _find_quantiles(middles, np.bincount(cells.ravel(), minlength=BINS))
    for count in counts[:3]:
        numbers += _weigh_moments(DENSITY.astype(np.float64), count)
    named = dict(zip((*TONES[:3], *STAINED), (*planes.densities, *planes.stains), strict=True))
    numbers += [*hue, *(_correlate(named[one], named[other]) for one, other in PAIRS)]
    tissue = planes.tissue
    share = float(tissue.mean())
    amounts = [float((stain * tissue).sum(dtype=np.float64)) / max(1, tissue.sum()) for stain in planes.stains]
    return np.array([*numbers, share, *amounts])


def _split_hue(planes: Planes) -> tuple[list[float], Bytes, Bytes]:
    """Mean direction of the hue, weighted by saturation, and its length where there is any colour; then S and V."""
    hsv = cv2.cvtColor(planes.picture, cv2.COLOR_RGB2HSV_FULL)
    hue, saturation, value = (np.ascontiguousarray(hsv[..., channel]) for channel in range(3))
    weights = np.bincount(hue.ravel(), weights=saturation.ravel(), minlength=256)  # sums of whole numbers: exact
    angles = np.arange(256) * (2 * np.pi / 256)
    along, across = (float(weights @ turned) for turned in (np.cos(angles), np.sin(angles)))
    total = float(weights.sum()) + 255 * LEAST_SPREAD * hue.size
    return [along / total, across / total, float(np.hypot(along, across)) / total], saturation, value


def _count(plane: Bytes) -> NDArray[np.intp]:
    return np.bincount(plane.ravel(), minlength=256)


def _weigh_moments(values: Doubles, counts: NDArray[np.intp]) -> list[float]:
    """Mean, standard deviation and skewness of values of which there are so many."""
    shares = counts / counts.sum()
    mean = float(shares @ values)
    rest = values - mean
    return [mean, *_finish_moments(float(shares @ rest**2), float(shares @ rest**3))]


def _measure_moments(plane: Floats) -> list[float]:
    mean = float(plane.mean(dtype=np.float64))
    rest = plane.astype(np.float64) - mean
    square = rest * rest
    return [mean, *_finish_moments(float(square.mean()), float((square * rest).mean()))]


def _finish_moments(second: float, third: float) -> list[float]:
    return [float(np.sqrt(second)), third / (second + LEAST_SPREAD**2) ** 1.5]


def _find_quantiles(values: Doubles, counts: NDArray[np.intp]) -> list[float]:
    places = np.searchsorted(np.cumsum(counts), np.array(QUANTILES) * counts.sum())
    return [float(values[place]) for place in places]


def _correlate(one: Floats, other: Floats) -> float:
    """Correlation (Pearson) of two planes; it fades to 0 where one of them hardly varies."""
    a, b = (plane.astype(np.float64) - plane.mean(dtype=np.float64) for plane in (one, other))
    spreads = [(plane * plane).mean() + LEAST_SPREAD**2 for plane in (a, b)]
    return float((a * b).mean() / np.sqrt(spreads[0] * spreads[1]))
