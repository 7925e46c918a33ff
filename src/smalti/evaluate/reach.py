"""What a number of cases can show, before anything is learned: how wide an interval, how small a difference.

Images of a case are between independent and one and the same. So each is told twice: as if all images counted by
themselves, and as if each case counted once; the truth lies between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

SCORE = 0.8  # that is supposed for the width of an interval
DIFFERING = 0.2  # share of the images that two recipes are supposed to tell differently
POWER = 0.8
EDGE = 1e-3  # scores of 0 and 1 have no logit


@dataclass(frozen=True, slots=True)
class Reach:
    """What to expect, at best (images count alone) and at worst (cases count once).

    Attributes:
        width: of the interval of a score of `SCORE`, from lower to upper bound (Wilson 1927).
        smallest: difference of two recipes that is seen with a power of 80 % (McNemar's test; Connor 1987).
    """

    width: tuple[float, float]
    smallest: tuple[float, float]


def foresee_reach(images: int, cases: int, *, confidence: float = 0.95) -> Reach:
    """Foresee what so many labelled images of so many cases can show."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    power = float(stats.norm.ppf(POWER))
    width, smallest = [], []
    for count in (images, cases):
        width.append(2 * z / (1 + z * z / count) * math.sqrt(SCORE * (1 - SCORE) / count + (z / count / 2) ** 2))
        smallest.append((z + power) * math.sqrt(DIFFERING / count))
    return Reach((width[0], width[1]), (smallest[0], smallest[1]))


def foresee_score(value: float, low: float, high: float, *, cases: int, new_cases: int) -> tuple[float, float]:
    """Foresee between which bounds the score of ``new_cases`` other cases like these lies.

    The interval (low, high) of a score that ``cases`` cases gave holds the score of endless other cases. Few other
    cases have luck of their own: variances add, so that each distance to the score grows by sqrt(1 + cases / new_cases)
    on the logit scale (a prediction interval; Geisser 1993, ch. 2). Few cases have few scores, so that half a case is
    added on both sides. A hidden test part is such a part.
    """
    score, lower, upper = special.logit(np.clip([value, low, high], EDGE, 1 - EDGE))
    wider = math.sqrt(1 + cases / new_cases)
    found = special.expit([score - wider * (score - lower), score + wider * (upper - score)])
    half = 0.5 / new_cases
    return max(0.0, float(min(value, found[0]) - half)), min(1.0, float(max(value, found[1]) + half))
