"""A sheet of tiles: for each class those that speak most for it, and those that speak least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .drawing import FONT

TILE_PX = 144
GAP_PX = 10
TEXT_PX = 13
TITLE_PX = 18

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TileCard:
    """One tile (H, W, 3) RGB with its case and its value."""

    pixels: Picture
    case: str
    value: float


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A row of tiles under one title."""

    title: str
    cards: Sequence[TileCard]


def draw_sheet(rows: Sequence[SheetRow]) -> Picture:
    """The rows below one another, (H, W, 3) RGB."""
    small, large = (ImageFont.truetype(findfont(FONT), size) for size in (TEXT_PX, TITLE_PX))
    line, title = round(1.4 * TEXT_PX), round(1.6 * TITLE_PX)
    tall = title + TILE_PX + 2 * line + GAP_PX
    most = max((len(row.cards) for row in rows), default=1)
    titles = max((large.getlength(row.title) for row in rows), default=0)
    width = max(most * (TILE_PX + GAP_PX), round(titles)) + GAP_PX
    sheet = Image.new("RGB", (width, GAP_PX + tall * len(rows)), "white")
    brush = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = GAP_PX + number * tall
        brush.text((GAP_PX, top), row.title, fill="black", font=large)
        for place, card in enumerate(row.cards):
            left = GAP_PX + place * (TILE_PX + GAP_PX)
            pixels = cv2.resize(card.pixels, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(np.asarray(pixels, dtype=np.uint8)), (left, top + title))
            for step, text in enumerate((_fit(card.case, small), f"{card.value:+.2f}")):
                brush.text((left, top + title + TILE_PX + 2 + step * line), text, fill="black", font=small)
    return np.asarray(sheet)


def _fit(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text, cut off where it is wider than a tile."""
    line = " ".join(text.split())
    if font.getlength(line) <= TILE_PX:
        return line
    while line and font.getlength(f"{line}…") > TILE_PX:
        line = line[:-1]
    return f"{line}…"
