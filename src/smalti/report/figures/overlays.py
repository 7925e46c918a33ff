"""A heat map over its image: colour where the network looked, grey hatching where it did not, the mask's outline.

The picture has the shape of the map, so that it can be laid over the image; the legend stands in a corner of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .drawing import FONT

COLOURS = "viridis"  # even steps look even, in grey and with any colour vision (Smith & van der Walt 2015)
STRENGTH = 0.5  # of the colour over the image
TAILS = (0.5, 99.5)  # percentiles of the map at the ends of the scale: one hot tile would make all others alike
LEGEND_FRAC = 0.3  # of the picture's width
SMALLEST_LEGEND_PX = 150
LARGEST_LEGEND_FRAC = 0.4  # of the picture's height; beyond, the scale stands without words

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Legend:
    """What stands beside the scale: a title, and which end of the scale is what."""

    title: str
    unit: str


def draw_overlay(
    picture: Picture, heat: NDArray[np.float32], *, mask: NDArray[np.float32] | None, legend: Legend
) -> Picture:
    """The overlay, (h, w, 3) RGB.

    Args:
        picture: (h, w, 3) RGB of the shape of the map.
        heat: (h, w) map, NaN where nothing was looked at.
        mask: (h, w) share of each place under the mask, 0..1; None without one.
        legend: words beside the scale.
    """
    low, high = find_limits(heat)
    seen = ~np.isnan(heat)
    steps = np.where(seen, (heat - low) / (high - low), 0).clip(0, 1)
    colours = (mpl.colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    drawn = cv2.addWeighted(picture, 1 - STRENGTH, colours[(steps * 255).astype(np.uint8)], STRENGTH, 0)
    drawn = np.where(seen[..., None], drawn, _hatch(picture)).astype(np.uint8)
    width = max(1, round(max(heat.shape) / 500))
    if mask is not None:
        outlines, _ = cv2.findContours((mask >= 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        # White between black: seen on any colour of the scale.
        cv2.drawContours(drawn, outlines, -1, (0, 0, 0), 3 * width, cv2.LINE_AA)
        cv2.drawContours(drawn, outlines, -1, (255, 255, 255), width, cv2.LINE_AA)
    return _add_legend(
        np.asarray(drawn, dtype=np.uint8), colours, limits=(low, high), legend=legend, hatched=not bool(seen.all())
    )


def find_limits(heat: NDArray[np.float32]) -> tuple[float, float]:
    """Values at the ends of the scale; they differ."""
    seen = heat[~np.isnan(heat)]
    if not seen.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(seen, TAILS))
    if low >= 0:
        low = 0.0  # shares and Grad-CAM have a natural zero
    return (low, high) if high > low else (low, low + 1.0)


def _hatch(picture: Picture) -> Picture:
    """The picture in pale grey with diagonal lines."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    step = max(8, max(picture.shape[:2]) // 60)
    row, col = np.ogrid[: picture.shape[0], : picture.shape[1]]
    lines = (row + col) % step < max(1, step // 8)
    pale = cv2.addWeighted(grey, 0.6, np.full_like(grey, 235), 0.4, 0)
    return np.where(lines[..., None], np.uint8(130), pale).astype(np.uint8)


def _add_legend(
    drawn: Picture, colours: Picture, *, limits: tuple[float, float], legend: Legend, hatched: bool
) -> Picture:
    """A white box in the lower left corner: title, scale, the values at its ends, what hatching means."""
    picture = Image.fromarray(drawn)
    wide = min(max(round(LEGEND_FRAC * picture.width), SMALLEST_LEGEND_PX), picture.width)
    font = ImageFont.truetype(findfont(FONT), max(8, wide // 17))
    line, pad = round(font.size * 1.35), max(3, wide // 40)
    words = [*_wrap(legend.title, font, wide - 2 * pad)]
    below = [*_wrap(legend.unit, font, wide - 2 * pad), *(["hatched: not looked at"] if hatched else [])]
    tall = line * (len(words) + len(below) + 2) + 3 * pad
    if tall > LARGEST_LEGEND_FRAC * picture.height:
        words, below, tall = [], [], 2 * line + 3 * pad
    top = max(0, picture.height - tall)
    brush = ImageDraw.Draw(picture)
    brush.rectangle([0, top, wide, picture.height], fill="white", outline="black")
    for number, text in enumerate(words):
        brush.text((pad, top + pad + number * line), text, fill="black", font=font)
    bar = top + 2 * pad + len(words) * line
    scale = cv2.resize(colours[None], (wide - 2 * pad, line), interpolation=cv2.INTER_LINEAR)
    picture.paste(Image.fromarray(scale.astype(np.uint8)), (pad, bar))
    low, high = (f"{value:.3g}" for value in limits)
    brush.text((pad, bar + line), low, fill="black", font=font)
    brush.text((wide - pad, bar + line), high, fill="black", font=font, anchor="ra")
    for number, text in enumerate(below):
        brush.text((pad, bar + (number + 2) * line), text, fill="black", font=font)
    return np.asarray(picture)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width_px: float) -> list[str]:
    """Lines of words that fit a width; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width_px:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
