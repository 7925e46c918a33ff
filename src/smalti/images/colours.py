"""The meaning of stored values, and their conversion to 8-bit RGB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .failures import data_error

BUCKETS = (8, 10, 12, 14, 16)  # bits that cameras have; what uses fewer than its container lies in the next of these
SAMPLES = {"miniswhite": 1, "minisblack": 1, "palette": 1, "rgb": 3, "ycbcr": 3, "cmyk": 4}  # without extra samples
PREMULTIPLIED, OPACITY = 1, 2  # kinds of extra samples in TIFF; 0 is anything


@dataclass(frozen=True, eq=False)
class Meaning:
    """The meaning of the stored values of a picture.

    Attributes:
        photometric: one of `SAMPLES`.
        kind: their type, such as ``uint16``.
        bits: of a value, as the file says.
        said: whether these bits are all in use; not where the file says no more than the size of its 16-bit values.
        extras: kind of each sample beyond those of the colour, as TIFF numbers them.
        palette: (n, 3) colours of the values.
    """

    photometric: str
    kind: str
    bits: int
    said: bool = True
    extras: tuple[int, ...] = ()
    palette: NDArray[np.uint16] | None = None

    @property
    def samples(self) -> int:
        """Return the number of samples of a pixel that are its colour."""
        return SAMPLES[self.photometric]

    @property
    def alpha(self) -> int | None:
        """Return the index of the sample that is the opacity."""
        found = [i for i, kind in enumerate(self.extras) if kind in {PREMULTIPLIED, OPACITY}]
        return self.samples + found[0] if found else None


@dataclass(frozen=True)
class Ends:
    """The largest values of a whole picture: of its colour, and of its opacity where it has one."""

    colour: int
    alpha: int | None = None


def count_bits(largest: int) -> int:
    """Return the fewest bits of a camera that can have written a value."""
    return next((bits for bits in BUCKETS if largest < 1 << bits), BUCKETS[-1])


def refuse_range(meaning: Meaning, path: Path) -> None:
    """Raise a `DataError` about values whose range is not known."""
    if meaning.kind not in {"uint8", "uint16", "bool"}:
        raise data_error(
            path,
            "unsupported-pixels",
            message=f"has pixels of kind '{meaning.kind}' (32-bit, or with a sign), whose range is not known.",
            fix="export it as 8-bit or 16-bit RGB or grey",
        )


def measure_ends(values: NDArray[Any], meaning: Meaning) -> Ends:
    """Return the largest values of a picture, (H, W) or (H, W, samples)."""
    if values.ndim == 2:
        return Ends(int(values.max()))
    alpha = None if meaning.alpha is None else int(values[..., meaning.alpha].max())
    return Ends(int(values[..., : meaning.samples].max()), alpha)


def to_colours(values: NDArray[Any], meaning: Meaning, *, bits: int, ends: Ends | None) -> NDArray[np.uint8]:
    """Return stored values, (H, W) or (H, W, samples), as (H, W, 3) RGB, ``bits`` of which are in use.

    ``ends`` are those of the whole picture, of which these may be a part; they matter where there is an opacity.
    """
    values = values[..., None] if values.ndim == 2 else values
    if meaning.palette is not None:
        colours = meaning.palette >> 8 if meaning.palette.max() > 255 else meaning.palette
        colour = np.take(colours.astype(np.uint8), values[..., 0], axis=0, mode="clip")
    else:
        colour = _narrow(values[..., : meaning.samples], bits)
        if meaning.photometric in {"cmyk", "ycbcr"}:
            mode = {"cmyk": "CMYK", "ycbcr": "YCbCr"}[meaning.photometric]
            image = Image.frombytes(mode, (colour.shape[1], colour.shape[0]), colour.tobytes())
            colour = np.array(image.convert("RGB"))
        if meaning.photometric == "miniswhite":
            colour = 255 - colour
        colour = np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour
    if meaning.alpha is None or ends is None or not ends.alpha:  # an opacity that is 0 everywhere was never filled
        return colour
    own = bits if ends.alpha < 1 << bits else meaning.bits
    alpha = _narrow(values[..., meaning.alpha], own).astype(np.uint16)[..., None]
    if meaning.extras[meaning.alpha - meaning.samples] == PREMULTIPLIED:
        return np.minimum(colour + (255 - alpha), 255).astype(np.uint8)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _narrow(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the high byte of values of ``bits`` bits; values of fewer than 8 bits are spread over 0..255."""
    if bits < 8:
        return (values.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    return values if values.dtype == np.uint8 else np.minimum(values >> (bits - 8), 255).astype(np.uint8)
