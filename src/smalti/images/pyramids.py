"""Boxes of a picture with several resolutions, shrunk without holding more than a band of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from .pictures import shrink

BAND_PX = 16_000_000  # pixels of a level that are decoded at once; 64 MB
Box = tuple[int, int, int, int]  # row_px, col_px, height_px, width_px


def read_shrunk(
    box: Box, *, longest_px: int | None, downsamples: Sequence[float], read: Callable[[Box, int], Image.Image]
) -> Image.Image:
    """Return the box, its longer side no more than ``longest_px``, from the smallest level that is fine enough.

    Where that level is much finer than what is wanted (a file without a pyramid), it is read and averaged in bands.

    Args:
        box: in pixels of the largest level.
        longest_px: None for the box as it is.
        downsamples: how much coarser each level is than the first.
        read: gives a box, in pixels of the largest level, as a level shows it.
    """
    height_px, width_px = box[2:]
    wanted = 1.0 if longest_px is None else max(height_px, width_px) / longest_px
    level = max((i for i, scale in enumerate(downsamples) if scale <= max(wanted, downsamples[0])), default=0)
    scale = downsamples[level]
    height, width = (max(1, round(n / scale)) for n in (height_px, width_px))
    step = 1 if longest_px is None else max(height, width) // (2 * longest_px)  # twice too fine; the last step is exact
    if step <= 1 or height * width <= BAND_PX:
        return shrink(read(box, level), longest_px)
    rows = max(1, BAND_PX // width // step) * step
    whole = Image.new("RGB", (-(-width // step), -(-height // step)))
    for row in range(0, height, rows):
        part = (box[0] + round(row * scale), box[1], round(min(rows, height - row) * scale), width_px)
        whole.paste(read(part, level).reduce(step), (0, row // step))
    return shrink(whole, longest_px)
