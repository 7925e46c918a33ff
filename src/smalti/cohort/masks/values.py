"""The values of masks: what they look like, and how they are said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ... import images

MOST_CLASSES = 32
LEAST_BRIGHT = 64  # grey levels that end below are numbers that a lossy format has blurred
IGNORED = frozenset({-1, 255, 65535})  # what tools write for pixels that are not to be looked at


def is_dim(facts: images.MaskFacts) -> bool:
    """Whether grey levels end so low that they are numbers, blurred by a lossy format."""
    numbers = [value for value in facts.values if isinstance(value, int)]
    return bool(numbers) and len(numbers) == len(facts.values) < images.MOST_NAMED and max(numbers) < LEAST_BRIGHT


def is_blurred_colour(facts: images.MaskFacts) -> bool:
    """Whether a mask is drawn in colours on paper that is not black, and they run into each other."""
    return facts.grey and any(isinstance(value, str) for value in facts.values) and facts.ground >= LEAST_BRIGHT


def has_ignore(facts: images.MaskFacts) -> bool:
    """Whether classes 1, 2, ... and 255 are in one mask."""
    numbers = [value for value in facts.values if isinstance(value, int) and value != 0]
    classes = [value for value in numbers if value not in IGNORED]
    return len(classes) == len(numbers) - 1 and bool(classes) and max(classes) <= MOST_CLASSES


def list_values(facts: Iterable[images.MaskFacts]) -> str:
    """The values of masks in words, with the colours of palettes."""
    shown: dict[int | float | str, str] = {}
    for one in facts:
        shown |= dict(zip(one.values, one.shown or ("",) * len(one.values), strict=True))
    values = sorted(shown, key=lambda value: (isinstance(value, str), value))
    texts = [f"{value} (shown {shown[value]})" if shown[value] else str(value) for value in values]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:4], "...", texts[-1]])


def propose_values(facts: Iterable[images.MaskFacts]) -> str:
    """All values but the smallest, or white, as the recipe writes them."""
    counts = Counter(value for one in facts for value in one.values)
    values = sorted(counts, key=lambda value: (isinstance(value, str), value))
    ground = "#ffffff" if "#ffffff" in counts else values[0]
    return write_values([value for value in values if value != ground][:8])


def write_values(values: Iterable[int | float | str]) -> str:
    """Values as the recipe writes them."""
    return "[" + ",".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + "]"
