"""Which values a plane of a mask holds, and which of them are mask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..failures import data_error

SLICE_PX = 8_000_000  # counted at once: OpenCV counts in 24 bits
SOLID_FRAC = 0.25  # of a label; discs of 5 px have 0.3, edges of drawings, JPEG and blur of 10 px below 0.07
LEVEL_FRAC = 0.01  # of all pixels; a level that is drawn and no edge
LEVEL_STEP = 0.125  # of the range, above the ground: ringing of JPEG stays below
MOST_CLASSES = 32
ENDS_FRAC = 0.125  # of the range at either end, where the ringing of lossy formats lies
RINGING_FRAC = 0.9  # of all values between the ends; numbered instances with a 255 among them stay below 0.8
LEAST_RINGING = 4  # different values at either end
SMALL_STEP = 3  # between neighbours of a smooth map; labels that touch differ by anything
SMOOTH_FRAC = 0.9


@dataclass
class Marks:
    """The values of one plane, band after band: what every ``step``-th pixel holds, and how often each occurs.

    Attributes:
        path: for messages.
        step: rows and columns from one kept pixel to the next.
        lossy: whether the file is compressed with loss, so that values waver.
    """

    path: Path
    step: int = 1
    lossy: bool = False
    parts: list[NDArray[Any]] = field(default_factory=list)
    counts: Counter[float] = field(default_factory=Counter)  # pixels of each value
    solid: Counter[float] = field(default_factory=Counter)  # of them, the first of four that are alike
    steps: int = 0
    small_steps: int = 0

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.counts)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.counts)

    def add(self, band: NDArray[Any], *, keep: bool = True) -> None:
        """Take the next rows, (h, W); they are only counted without ``keep``.

        Raises:
            DataError: values that are not finite.
        """
        if band.dtype.kind == "f" and not np.isfinite(band).all():
            raise data_error(
                self.path, "unreadable", message="holds values that are not finite.", fix="export the mask as 0 and 255"
            )
        if band.dtype == bool:
            band = band.astype(np.uint8)
        elif band.dtype.kind in "iu" and band.dtype.itemsize > 2 and band.min() >= 0 and band.max() < 2**16:
            band = band.astype(np.uint16)  # far faster to count
        for part in _slice(band):
            self._count(part)
        if keep:
            self.parts.append(band if self.step == 1 else band[:: self.step, :: self.step].copy())

    def _count(self, part: NDArray[Any]) -> None:
        found = _count_values(part)
        self.counts.update(found)
        if len(found) < 3:
            self.solid.update(found)  # what holds two values has no levels between them
            return
        first = part[:-1, :-1]
        alike = (first == part[1:, :-1]) & (first == part[:-1, 1:]) & (first == part[1:, 1:])
        self.solid.update(_count_values(first, alike))
        if len(self.counts) > MOST_CLASSES:
            steps = np.abs(np.diff(part[::4].astype(np.float64), axis=1))
            self.steps += int((steps > 0).sum())
            self.small_steps += int(((steps > 0) & (steps <= SMALL_STEP)).sum())

    @property
    def smooth(self) -> bool:
        """Whether values run into each other as those of a map of probabilities do."""
        return len(self.counts) > MOST_CLASSES and self.small_steps > SMOOTH_FRAC * self.steps

    @property
    def grey(self) -> bool:
        """Whether what lies between the ends is no label: edges, ringing, a smooth map."""
        if len(self.counts) < 3:
            return False
        low, high = self.low, self.high
        if low > 0 and high > MOST_CLASSES:
            return True  # paper that is not quite black, or pencil
        between = [value for value in self.counts if low < value < high]
        solid, total = (sum(counts[value] for value in between) for counts in (self.solid, self.counts))
        return self.lossy or self.smooth or solid < SOLID_FRAC * total or self._rings(between, total)

    def _rings(self, between: list[float], total: int) -> bool:
        """Whether values crowd around both ends, as those of two values that WebP or JPEG 2000 kept with loss."""
        low, high = self.low, self.high
        reach = ENDS_FRAC * (high - low)
        ends = [[v for v in between if v - low <= reach], [v for v in between if high - v <= reach]]
        crowded = sum(self.counts[value] for end in ends for value in end)
        return min(map(len, ends)) >= LEAST_RINGING and crowded > RINGING_FRAC * total

    @property
    def ground(self) -> float:
        """The lowest level that is drawn, in the lower half of the range; ringing goes below it."""
        low, high = self.low, self.high
        return min((v for v in self._find_drawn() if 2 * v < low + high), default=low)

    def _find_drawn(self) -> list[float]:
        """Values that fill areas."""
        least = LEVEL_FRAC * self.counts.total()
        return [v for v, n in self.counts.items() if n >= least and self.solid[v] >= SOLID_FRAC * n]

    def find_threshold(self) -> float:
        """Where grey levels become mask: half-way from the ground to the lowest level that is drawn above it.

        Of a smooth map, half of its range.
        """
        if self.smooth:
            return (self.low + self.high) / 2
        ground = self.ground
        least = ground + LEVEL_STEP * (self.high - ground)
        return (ground + min((v for v in self._find_drawn() if v >= least), default=self.high)) / 2

    def join(self) -> NDArray[Any]:
        """The pixels that were kept, (h, w)."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)

    def cut(self) -> NDArray[np.uint8]:
        """What is marked, (h, w) of 0 and 1."""
        plane = self.join()
        return (plane >= self.find_threshold() if self.grey else plane != 0).astype(np.uint8)


def _slice(band: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Parts of a band."""
    rows = max(1, SLICE_PX // band.shape[1])
    for row in range(0, len(band), rows):
        yield band[row : row + rows]


def _count_values(plane: NDArray[Any], where: NDArray[np.bool_] | None = None) -> dict[float, int]:
    if plane.dtype in (np.uint8, np.uint16):
        size = int(np.iinfo(plane.dtype).max) + 1
        mask = None if where is None else where.astype(np.uint8)
        counts = cv2.calcHist([np.ascontiguousarray(plane)], [0], mask, [size], [0, size]).ravel()
        (values,) = np.nonzero(counts)
        return dict(zip(values.tolist(), counts[values].astype(np.int64).tolist(), strict=True))
    values, counts = np.unique(plane if where is None else plane[where], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
