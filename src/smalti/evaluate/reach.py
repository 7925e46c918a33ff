"""What a number of cases can show, before anything is learned: how wide an interval, how small a difference.

Images of a case are between independent and one and the same. So each is told twice: as if all images counted by
themselves, and as if each case counted once; the truth lies between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

SCORE = 0.8  # that is supposed for the width of an interval
DIFFERING = 0.2  # share of the images that two recipes are supposed to tell differently
POWER = 0.8


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
