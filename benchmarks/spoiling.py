"""What may go wrong with a picture: paint on it, glass in its place, the same view once more after a change.

Images are (H, W, 3) RGB, masks (H, W) with 0 and 1; every function returns new pixels.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Byte = NDArray[np.uint8]
Change = Callable[[np.random.Generator, Byte], Byte]

STROKES = ("blobs", "slime", "scribble")
BLANKS = ("white", "grey", "tinted", "vignette", "dirty", "black")
LEAST_COVER = 0.02  # share of the image; what nobody would see spoils nothing
MOST_COVER = 0.25


def paint(rng: np.random.Generator, image: Byte, *, stroke: str, hue: float) -> tuple[Byte, str]:
    """Bright paint on an image, opaque or slightly transparent, and its description.

    Args:
        stroke: one of `STROKES`.
        hue: 0 to 1 around the hue circle.
    """
    cover = np.zeros(image.shape[:2], np.uint8)
    while not LEAST_COVER < (cover > 127).mean() < MOST_COVER:
        cover[:] = 0
        _draw_strokes(rng, cover, stroke)
    alpha = 1.0 if rng.random() < 0.5 else round(rng.uniform(0.75, 0.92), 2)
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 1), rng.uniform(0.8, 1)), np.float32)
    coat = np.broadcast_to(colour, image.shape)
    if stroke == "slime":
        depth = cv2.GaussianBlur(cover, (0, 0), 0.012 * min(cover.shape)).astype(np.float32) / 255
        coat = np.clip(coat * (0.7 + 0.4 * depth[..., None]), 0, 255)
    weight = alpha * cover[..., None].astype(np.float32) / 255
    text = f"{stroke} hue {360 * hue:.0f} alpha {alpha:g} cover {(cover > 127).mean():.3f}"
    return (image * (1 - weight) + coat * weight).astype(np.uint8), text


def _draw_strokes(rng: np.random.Generator, cover: Byte, stroke: str) -> None:
    side, size = min(cover.shape), np.array(cover.shape[::-1])
    if stroke == "scribble":
        for _ in range(rng.integers(1, 4)):
            steps = rng.normal(0, 0.07 * side, (rng.integers(15, 40), 2)).cumsum(axis=0)
            path = (rng.uniform(0.2, 0.8, 2) * size + steps).round().astype(np.int32)
            cv2.polylines(cover, [path], False, 255, max(2, round(rng.uniform(0.012, 0.03) * side)), cv2.LINE_AA)
        return
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    for _ in range(rng.integers(2, 6)):
        centre, axes = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0.05, 0.16, 2) * side
        waves = sum(rng.uniform(0, 0.12) * np.sin(k * angles + rng.uniform(0, 6.3)) for k in range(2, 6))
        outline = centre + axes * (1 + waves)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(cover, [outline.round().astype(np.int32)], 255, cv2.LINE_AA)
        for _ in range(rng.integers(2, 5) if stroke == "slime" else 0):
            x, y = round(centre[0] + axes[0] * rng.uniform(-0.7, 0.7)), round(centre[1])
            cv2.line(cover, (x, y), (x, y + round(side * rng.uniform(0.1, 0.3))), 255, max(2, side // 45), cv2.LINE_AA)


def draw_blank(rng: np.random.Generator, shape: tuple[int, int], *, way: str) -> Byte:
    """Glass without tissue as a camera sees it, or no light at all; ``way`` is one of `BLANKS`."""
    base = {"grey": rng.uniform(165, 225), "black": rng.uniform(2, 12)}.get(way, rng.uniform(232, 250))
    tint = rng.uniform(-1, 1, 3) * {"tinted": 9, "black": 0}.get(way, 1.5)
    fall = 0.0
    if way in ("vignette", "dirty"):
        rows, cols = (np.linspace(-1, 1, n) for n in shape)
        fall = rng.uniform(25, 60) * (rows[:, None] ** 2 + cols**2) / 2
    light = base - fall + rng.normal(0, rng.uniform(0.8, 3), shape)
    if way == "dirty":
        dirt = np.zeros(shape, np.float32)
        for _ in range(rng.integers(8, 30)):
            place = rng.integers(0, shape[::-1])
            cv2.circle(dirt, (int(place[0]), int(place[1])), int(rng.integers(1, 6)), float(rng.uniform(40, 130)), -1)
        light -= cv2.GaussianBlur(dirt, (0, 0), 1.2)
    return np.clip(light[..., None] + tint, 0, 255).astype(np.uint8)


def spoil_jpeg(image: Byte, *, quality: int) -> bytes:
    """The image as a JPEG file."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _turn(quarters: int) -> Change:
    return lambda rng, image: np.ascontiguousarray(np.rot90(image, quarters))


def _flip(rng: np.random.Generator, image: Byte) -> Byte:
    return np.ascontiguousarray(image[:, ::-1] if rng.random() < 0.5 else image[::-1])


def _crop(least: float, most: float) -> Change:
    """Cut away between these shares of the height and of the width, divided at random between the two sides."""

    def change(rng: np.random.Generator, image: Byte) -> Byte:
        (rows, top), (cols, left) = (
            (n - cut, round(cut * rng.random())) for n in image.shape[:2] for cut in [int(n * rng.uniform(least, most))]
        )
        return np.ascontiguousarray(image[top : top + rows, left : left + cols])

    return change


def _recolour(rng: np.random.Generator, image: Byte) -> Byte:
    """Another stainer and scanner: hue, saturation, gamma and the gain of each channel."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    hue = ((hue.astype(np.int16) + rng.integers(-9, 10)) % 180).astype(np.uint8)
    saturation = np.clip(saturation * rng.uniform(0.65, 1.35), 0, 255).astype(np.uint8)
    moved = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB).astype(np.float32) / 255
    gain = rng.uniform(0.9, 1.08, 3).astype(np.float32)
    return np.clip(255 * gain * moved ** rng.uniform(0.8, 1.25), 0, 255).astype(np.uint8)


def _shift(rng: np.random.Generator, image: Byte) -> Byte:
    """Moved by 2 to 6 % of each side; the gap is filled with the mirror image."""
    down, right = (int(n * rng.uniform(0.02, 0.06) * rng.choice([-1, 1])) for n in image.shape[:2])
    moved = cv2.copyMakeBorder(image, max(0, down), max(0, -down), max(0, right), max(0, -right), cv2.BORDER_REFLECT)
    return np.ascontiguousarray(moved[max(0, -down) :, max(0, -right) :][: image.shape[0], : image.shape[1]])


def _rescale(rng: np.random.Generator, image: Byte) -> Byte:
    factor = rng.uniform(0.5, 0.8) if rng.random() < 0.7 else rng.uniform(1.15, 1.4)
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=way), np.uint8)


def _same(rng: np.random.Generator, image: Byte) -> Byte:
    return image


# How one view is seen again. A JPEG is made when the file is written.
CHANGES: dict[str, Change] = {
    "turn-90": _turn(1),
    "turn-180": _turn(2),
    "turn-270": _turn(3),
    "flip": _flip,
    "crop-10": _crop(0.05, 0.10),
    "crop-20": _crop(0.10, 0.20),
    "jpeg-60": _same,
    "recolour": _recolour,
    "shift": _shift,
    "rescale": _rescale,
}
COLOUR_CHANGES = ("jpeg-60", "recolour")  # these leave the mask as it is
