"""Facts about the files of masks, and their values in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ... import images
from ...types import MaskReading

MOST_CLASSES = 32

IGNORED = frozenset({-1, 255, 65535})  # what tools write for pixels that are not to be looked at


@dataclass(frozen=True, slots=True)
class Seen:
    """A mask and its image, as their files say.

    Attributes:
        facts: of the mask.
        size_px: of the image, turned as its file says.
        orientation: EXIF orientation of the image.
    """

    facts: images.MaskFacts
    size_px: tuple[int, int]
    orientation: int

    def find_size(self, reading: MaskReading) -> tuple[int, int]:
        """Return the size of the mask, turned as ``reading`` says, before it is brought to another."""
        orientation = self.facts.orientation
        swapped = (orientation > 4) != ((reading.orientation or orientation) > 4)
        return self.facts.size_px[::-1] if swapped else self.facts.size_px


def has_ignore(facts: images.MaskFacts) -> bool:
    """Return whether classes 1, 2, ... and 255 are in one mask."""
    numbers = [value for value in facts.values if isinstance(value, int) and value != 0]
    classes = [value for value in numbers if value not in IGNORED]
    return len(classes) == len(numbers) - 1 and bool(classes) and max(classes) <= MOST_CLASSES


def list_values(facts: Iterable[images.MaskFacts]) -> str:
    """Return the values of masks in words, with the colours of palettes."""
    shown: dict[int | float | str, str] = {}
    for one in facts:
        shown |= dict(zip(one.values, one.shown or ("",) * len(one.values), strict=True))
    values = sorted(shown, key=lambda value: (isinstance(value, str), value))
    texts = [f"{value} (shown {shown[value]})" if shown[value] else str(value) for value in values]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:4], "...", texts[-1]])


def propose_values(facts: Iterable[images.MaskFacts]) -> str:
    """Return all values but the smallest, or white, as the recipe writes them."""
    counts = Counter(value for one in facts for value in one.values)
    values = sorted(counts, key=lambda value: (isinstance(value, str), value))
    ground = "#ffffff" if "#ffffff" in counts else values[0]
    return format_values([value for value in values if value != ground][:8])


def format_values(values: Iterable[int | float | str]) -> str:
    """Return values as the recipe writes them."""
    return "[" + ",".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + "]"
