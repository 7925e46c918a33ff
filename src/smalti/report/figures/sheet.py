"""Draw a sheet of tiles: for each class those that speak most for it, and those that speak least."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

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
    """Return the rows below one another, (H, W, 3) RGB."""
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


def draw_pairs(above: Picture, below: Picture, *, marks: tuple[str, str]) -> bytes:
    """Return a PNG of pairs of tiles (m, H, W, 3), one column a pair; every tile bears its mark, and so does the file.

    Args:
        above, below: the two rows.
        marks: what stands on the tiles of each.
    """
    font = ImageFont.truetype(findfont(FONT), TEXT_PX)
    size = TILE_PX + GAP_PX
    sheet = Image.new("RGB", (GAP_PX + size * len(above), GAP_PX + 2 * size), "white")
    brush = ImageDraw.Draw(sheet)
    for row, (tiles, mark) in enumerate(zip((above, below), marks, strict=True)):
        for column, tile in enumerate(tiles):
            left, top = GAP_PX + column * size, GAP_PX + row * size
            pixels = cv2.resize(tile, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(np.asarray(pixels, dtype=np.uint8)), (left, top))
            brush.rectangle((left, top, left + 6 + font.getlength(mark), top + round(1.4 * TEXT_PX)), fill="white")
            brush.text((left + 3, top + 1), mark, fill="black", font=font)
    told = PngInfo()
    told.add_text("Description", f"above: {marks[0]}; below: {marks[1]}")
    out = io.BytesIO()
    sheet.save(out, "PNG", pnginfo=told)
    return out.getvalue()


def _fit(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text, cut to the width of a tile."""
    line = " ".join(text.split())
    if font.getlength(line) <= TILE_PX:
        return line
    while line and font.getlength(f"{line}…") > TILE_PX:
        line = line[:-1]
    return f"{line}…"
