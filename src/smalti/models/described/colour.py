"""Colours and stains of a tile, pixel by pixel, wherever the pixels lie."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .channels import Doubles, Planes
from .description import DESCRIPTIONS, Description

LEVELS = np.linspace(0, 1, 256)
QUANTILES = (0.1, 0.5, 0.9)
BINS, LEAST, MOST = 512, -1.0, 3.0  # of stain amounts, for their quantiles
MIDDLES = np.linspace(LEAST, MOST, 2 * BINS + 1)[1::2]
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


def describe_colour(planes: Planes) -> Doubles:
    """Measure the numbers of `NAMES`."""
    hsv = cv2.cvtColor(planes.picture, cv2.COLOR_RGB2HSV_FULL)
    hue, saturation, value = (np.array(hsv[..., channel], dtype=np.uint8) for channel in range(3))
    numbers: list[float] = []
    for plane in (planes.red, planes.green, planes.blue, saturation, value):
        counts = np.bincount(plane.ravel(), minlength=256)
        shares = counts / counts.sum()
        mean = float(shares @ LEVELS)
        rest = LEVELS - mean
        numbers += [mean, *_finish_moments(float(shares @ rest**2), float(shares @ rest**3))]
        numbers += _find_quantiles(LEVELS, counts)
    named = dict(zip((*TONES[:3], *STAINED), (*planes.densities, *planes.stains), strict=True))
    means = {name: float(plane.mean(dtype=np.float64)) for name, plane in named.items()}
    rests = {name: plane.astype(np.float64).ravel() - means[name] for name, plane in named.items()}
    for stain in STAINED:
        numbers += [means[stain], *_measure_rest(rests[stain])]
        cells = ((named[stain] - np.float32(LEAST)) * np.float32(BINS / (MOST - LEAST))).astype(np.intp)
        numbers += _find_quantiles(MIDDLES, np.bincount(cells.ravel().clip(0, BINS - 1), minlength=BINS))
    for tone in TONES[:3]:
        numbers += [means[tone], *_measure_rest(rests[tone])]
    # The mean direction of the hue, weighted by saturation, and its length; small without any colour.
    weights = np.bincount(hue.ravel(), weights=saturation.ravel(), minlength=256)  # sums of whole numbers: exact
    angles = np.arange(256) * (2 * np.pi / 256)
    along, across = (float(weights @ turned) for turned in (np.cos(angles), np.sin(angles)))
    total = float(weights.sum()) + 255 * LEAST_SPREAD * hue.size
    numbers += [along / total, across / total, float(np.hypot(along, across)) / total]
    # Correlations (Pearson) fade to 0 where one of the two hardly varies.
    for pair in PAIRS:
        one, other = (rests[name] for name in pair)
        spreads = [float((values * values).mean()) + LEAST_SPREAD**2 for values in (one, other)]
        numbers.append(float((one * other).mean() / np.sqrt(spreads[0] * spreads[1])))
    share = float(planes.tissue.mean())
    amounts = [
        float(plane[planes.tissue].sum(dtype=np.float64)) / max(1, planes.tissue.sum()) for plane in planes.stains
    ]
    return np.array([*numbers, share, *amounts])


# Statistics over pixels, whose places play no part.
DESCRIPTIONS.add(
    "colour",
    Description(NAMES, describe_colour),
    summary="colours and stains: moments and quantiles of RGB, HSV, optical density and stain amounts",
    reference="Ruifrok & Johnston 2001",
)


def _measure_rest(rest: Doubles) -> list[float]:
    square = rest * rest
    return _finish_moments(float(square.mean()), float((square * rest).mean()))


def _finish_moments(second: float, third: float) -> list[float]:
    return [float(np.sqrt(second)), third / (second + LEAST_SPREAD**2) ** 1.5]


def _find_quantiles(values: Doubles, counts: NDArray[np.intp]) -> list[float]:
    places = np.searchsorted(np.cumsum(counts), np.array(QUANTILES) * counts.sum())
    return values[places].tolist()
