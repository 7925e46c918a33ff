"""A picture as its file stores it: values by region, levels, and what the values mean."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..colours import Ends, Meaning, measure_ends
from ..pyramids import BAND_PX, Box

# Of an EXIF orientation: whether rows and columns change places, and which of them are then turned round.
TWISTS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Level:
    """One resolution of a picture, as it lies in the file.

    Attributes:
        size_px: (height_px, width_px).
        read: the values of a box, (h, w) or (h, w, samples).
    """

    size_px: tuple[int, int]
    read: Callable[[Box], NDArray[Any]]


@dataclass(eq=False)
class Stored:
    """An open picture whose values are read as they are stored, turned as its orientation wants; threads may share it.

    Attributes:
        path: its file.
        levels: from the largest to the smallest.
        meaning: of its values.
        orientation: as EXIF numbers it.
        form: format, kind and compression, in words.
        mpp: microns per pixel, across and down; 0 where not said.
        remarks: code and sentence of each rule that was not plain.
    """

    path: Path
    levels: tuple[Level, ...]
    meaning: Meaning
    orientation: int = 1
    form: str = ""
    mpp: tuple[float, float] = (0.0, 0.0)
    remarks: tuple[tuple[str, str], ...] = ()
    _ends: Ends | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def size_px(self) -> tuple[int, int]:
        """(height_px, width_px) after turning."""
        return self.find_size(0)

    def find_size(self, level: int) -> tuple[int, int]:
        """(height_px, width_px) of a level after turning."""
        height_px, width_px = self.levels[level].size_px
        return (width_px, height_px) if TWISTS[self.orientation][0] else (height_px, width_px)

    def read(self, box: Box, *, level: int = 0) -> NDArray[Any]:
        """The values of a box of a level, (h, w) or (h, w, samples)."""
        swapped, upside_down, mirrored = TWISTS[self.orientation]
        height_px, width_px = self.find_size(level)
        row, col, height, width = box
        row = height_px - row - height if upside_down else row
        col = width_px - col - width if mirrored else col
        values = self.levels[level].read((col, row, width, height) if swapped else (row, col, height, width))
        values = values.swapaxes(0, 1) if swapped else values
        return values[:: -1 if upside_down else 1, :: -1 if mirrored else 1]

    def find_ends(self, whole: NDArray[Any] | None = None) -> Ends:
        """The largest values of the whole picture; decoded for this in bands, unless it is at hand as ``whole``."""
        with self._lock:
            if self._ends is None and whole is not None:
                self._ends = measure_ends(whole, self.meaning)
            elif self._ends is None:
                self._ends = self._measure_bands()
            return self._ends

    def _measure_bands(self) -> Ends:
        height_px, width_px = self.levels[0].size_px
        rows = max(1, BAND_PX // width_px)
        bands = (
            self.levels[0].read((row, 0, min(rows, height_px - row), width_px)) for row in range(0, height_px, rows)
        )
        found = [measure_ends(band, self.meaning) for band in bands]
        alphas = [ends.alpha for ends in found if ends.alpha is not None]
        return Ends(max(ends.colour for ends in found), max(alphas, default=None))
