"""How scores become probabilities: one temperature, fitted on inner images.

A calibration never changes which class has the largest score. It is fitted on images that had no say in the weights
of the network but chose its epochs, so what it finds is a little too sure; outer images have no say at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from ..registry import Registry

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLDEST, HOTTEST = 0.1, 10.0
FLAT = 1e-12  # slope of the loss below which scores, such as those of 0 and 1, have nothing to say
SMALLEST_SCORE = float(np.finfo(np.float64).tiny)


# From classes (n,), scores (n, C) and cases (n,) of images to a temperature; without cases, each image is its own.
FitTemperature = Callable[[Ints, Floats, NDArray[np.generic] | None], float]
CALIBRATIONS: Registry[FitTemperature] = Registry("calibration")


@CALIBRATIONS.register("none", summary="scores stay as the network gives them")
def build_none() -> FitTemperature:
    """Return temperature 1."""
    return lambda y, scores, cases: 1.0


@CALIBRATIONS.register(
    "temperature",
    summary="one temperature for all logits, by log loss on inner images; no class changes",
    reference="Guo et al. 2017; drawn to 1 by a conjugate prior (Diaconis & Ylvisaker 1979)",
)
def build_temperature(*, imagined_cases: float = 5.0) -> FitTemperature:
    """Return the temperature of the lowest log loss of scores**(1/temperature), normalised.

    Few images can be all right by luck, and their log loss then asks for a temperature of 0. To the loss are therefore
    added imagined cases whose labels are distributed as the network says: they pull the temperature to 1 and weigh
    nothing beside many real ones. The sum stays convex in 1/temperature, so there is one optimum; it is sought from
    0.1 to 10. Without images, with images of one class only, or where the loss is flat, the temperature is 1.

    Args:
        imagined_cases: their number; each weighs as many images as a real case has on average. 0 is Guo et al.
    """

    def fit(y: Ints, scores: Floats, cases: NDArray[np.generic] | None = None) -> float:
        if np.unique(y).size < 2:
            return 1.0
        logits = log_scores(scores)
        imagined = imagined_cases / (y.size if cases is None else np.unique(cases).size)  # relative to the images
        real = logits[np.arange(y.size), y].mean()
        claimed = _expect_logit(logits, 0.0)

        def slope(log_temperature: float) -> float:
            """Return the derivative of the loss in 1/temperature: rises with it, so it falls with the temperature."""
            expected = _expect_logit(logits, log_temperature)
            return float(expected - real + imagined * (expected - claimed))

        if abs(slope(0.0)) < FLAT:
            return 1.0
        coldest, hottest = np.log(COLDEST), np.log(HOTTEST)
        if slope(coldest) <= 0:
            return COLDEST
        if slope(hottest) >= 0:
            return HOTTEST
        return float(np.exp(brentq(slope, coldest, hottest, xtol=1e-12)))

    return fit


def log_scores(scores: Floats) -> Floats:
    """Return the logarithms of scores (n, C); a score of 0 counts as the smallest number, so that they are finite."""
    logs: Floats = np.log(np.maximum(scores, SMALLEST_SCORE))
    return logs


def _expect_logit(logits: Floats, log_temperature: float) -> float:
    """Return the mean over images of the logit that the scores at this temperature expect."""
    scaled = logits / np.exp(log_temperature)
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return float(((weights * logits).sum(axis=1) / weights.sum(axis=1)).mean())
