"""Faults that a real challenge had among its images: cartoons, slime, empty glass, copies.

Each function returns new pixels; images are (H, W, 3) RGB, masks (H, W) with 0 and 255.
"""

from __future__ import annotations

import cv2
import numpy as np

from .shapes import Byte, Float, fill, outlines, smooth_noise
from .tumour import draw_mask

FOREIGN_SHAPE = (900, 900)
NEAR_WAYS = ("crop", "flip", "jpeg", "brightness", "shift")
Colour = tuple[int, int, int]
_INK: Colour = (25, 20, 25)


def foreign_mask() -> Byte:
    """Return the one mask that all foreign pictures share, (H, W) of `FOREIGN_SHAPE`."""
    mask = np.zeros(FOREIGN_SHAPE, np.uint8)
    cv2.ellipse(mask, (450, 470), (260, 300), 0, 0, 360, 255, -1)
    return mask


def draw_foreign(rng: np.random.Generator, kind: int) -> Byte:
    """Draw a picture that is not tissue; ``kind`` (taken modulo 4) is figure, landscape, house or chart."""
    picture = np.empty((*FOREIGN_SHAPE, 3), np.uint8)
    picture[:] = rng.integers(150, 256, 3, dtype=np.uint8)
    (_figure, _landscape, _house, _chart)[kind % 4](rng, picture)
    return picture


def _colour(rng: np.random.Generator, *, low: int = 30, high: int = 230) -> Colour:
    red, green, blue = (int(c) for c in rng.integers(low, high, 3))
    return red, green, blue


def _oval(picture: Byte, centre: tuple[float, float], *, axes: tuple[float, float], colour: Colour) -> None:
    """Draw a filled oval with an ink outline."""
    place, size = (round(centre[0]), round(centre[1])), (round(axes[0]), round(axes[1]))
    cv2.ellipse(picture, place, size, 0, 0, 360, colour, -1, cv2.LINE_AA)
    cv2.ellipse(picture, place, size, 0, 0, 360, _INK, 5, cv2.LINE_AA)


def _figure(rng: np.random.Generator, picture: Byte) -> None:
    """Draw a green cartoon figure with funnel ears."""
    skin = (int(rng.integers(110, 160)), int(rng.integers(170, 220)), int(rng.integers(40, 90)))
    x, y = rng.uniform(400, 500), rng.uniform(360, 420)
    wide, high = rng.uniform(150, 200), rng.uniform(170, 220)
    _oval(picture, (x, 860), axes=(wide * 1.5, 320), colour=_colour(rng, low=60, high=180))
    for side in (-1, 1):
        _oval(picture, (x + side * wide * 1.15, y - high * 0.55), axes=(62, 34), colour=skin)
    _oval(picture, (x, y), axes=(wide, high), colour=skin)
    for side in (-1, 1):
        _oval(picture, (x + side * wide * 0.4, y - high * 0.2), axes=(38, 30), colour=(255, 255, 255))
        _oval(
            picture, (x + side * wide * 0.4 + rng.uniform(-12, 12), y - high * 0.2), axes=(12, 14), colour=(60, 40, 20)
        )
    _oval(picture, (x, y + high * 0.15), axes=(52, 36), colour=(skin[0] - 25, skin[1] - 25, skin[2] - 25))
    mouth = (round(x), round(y + high * 0.45))
    cv2.ellipse(picture, mouth, (95, 50), 0, 0, 180, _INK, 9, cv2.LINE_AA)


def _landscape(rng: np.random.Generator, picture: Byte) -> None:
    """Draw hills under a sky with a sun."""
    sky = np.linspace(0, 1, picture.shape[0])[:, None, None]
    picture[:] = (np.array([90, 150, 230]) * (1 - sky) + np.array([250, 230, 200]) * sky).astype(np.uint8)
    _oval(picture, (float(rng.uniform(120, 780)), 170), axes=(80, 80), colour=(255, 220, 60))
    x = np.arange(picture.shape[1])
    for level in range(4):
        height = 380 + 120 * level + 70 * np.sin(x / rng.uniform(70, 190) + rng.uniform(0, 6))
        ridge = np.stack([x, height], axis=1).astype(np.int32)
        hill = np.vstack([ridge, [[picture.shape[1], 950], [0, 950]]])
        green = (40 + 15 * level, int(rng.integers(100, 170)), 50)
        cv2.fillPoly(picture, [hill.astype(np.int32)], green, cv2.LINE_AA)


def _house(rng: np.random.Generator, picture: Byte) -> None:
    """Draw a house, a tree, a lawn."""
    left, top = (int(v) for v in rng.integers(180, 300, 2))
    top += 150
    cv2.rectangle(picture, (0, 720), (899, 899), (90, 170, 70), -1)
    cv2.rectangle(picture, (left, top), (left + 380, 760), _colour(rng), -1)
    roof = np.array([[left - 40, top], [left + 420, top], [left + 190, top - 190]], np.int32)
    cv2.fillPoly(picture, [roof], _colour(rng, low=80, high=200), cv2.LINE_AA)
    for column in (60, 240):
        cv2.rectangle(picture, (left + column, top + 60), (left + column + 80, top + 140), (250, 240, 150), -1)
    cv2.rectangle(picture, (left + 150, 620), (left + 230, 760), (90, 50, 30), -1)
    cv2.rectangle(picture, (740, 540), (770, 770), (100, 60, 30), -1)
    _oval(picture, (755, 470), axes=(95, 120), colour=(50, int(rng.integers(110, 170)), 60))


def _chart(rng: np.random.Generator, picture: Byte) -> None:
    """Draw a slide with bars and lines of scribble."""
    picture[:] = 250
    for bar in range(7):
        x, high = 130 + 95 * bar, int(rng.integers(80, 420))
        cv2.rectangle(picture, (x, 620 - high), (x + 65, 620), _colour(rng), -1)
    cv2.line(picture, (100, 620), (820, 620), _INK, 5, cv2.LINE_AA)
    cv2.line(picture, (100, 150), (100, 620), _INK, 5, cv2.LINE_AA)
    for line in range(4):
        along = np.arange(110, int(rng.integers(450, 820)), 7)
        y = 690 + 45 * line + rng.integers(-9, 10, len(along))
        cv2.polylines(picture, [np.stack([along, y], axis=1).astype(np.int32)], False, _INK, 3, cv2.LINE_AA)


def paint_slime(rng: np.random.Generator, image: Byte) -> Byte:
    """Return the image with bright green blobs and drips on it."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.uint8)
    side = min(height, width)
    for _ in range(rng.integers(3, 6)):
        centre = (rng.uniform(0.15, 0.85, (1, 2)) * [width, height]).astype(np.float32)
        axes = (side * rng.uniform(0.06, 0.15, (1, 2))).astype(np.float32)
        blob = outlines(rng, centre, axes=axes, angles=np.zeros(1, np.float32), roughness=0.2, corners=72)
        fill(cover, blob, grey=255)
        for _ in range(3):
            x = float(centre[0, 0] + axes[0, 0] * rng.uniform(-0.7, 0.7))
            end = (round(x), round(float(centre[0, 1]) + side * rng.uniform(0.1, 0.26)))
            cv2.line(cover, (round(x), round(float(centre[0, 1]))), end, 255, round(side * 0.022), cv2.LINE_AA)
            cv2.circle(cover, end, round(side * 0.018), 255, -1, cv2.LINE_AA)
    depth = cv2.GaussianBlur(cover, (0, 0), side * 0.012).astype(np.float32) / 255
    shine = cv2.Sobel(depth, cv2.CV_32F, 1, 1, ksize=5)
    shine = np.clip(0.75 + 0.35 * depth + 2.0 * shine / (np.abs(shine).max() + 1e-6), 0.4, 1.5)
    slime = np.clip(shine[..., None] * np.array([95, 225, 35], np.float32), 0, 255)
    alpha = cover[..., None].astype(np.float32) / 255 * 0.93
    return (image * (1 - alpha) + slime * alpha).astype(np.uint8)


def draw_blank(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Byte, Byte]:
    """Draw almost empty glass with a little dirt, and a mask nevertheless."""
    mask = draw_mask(rng, shape)
    light = 242 + 2.0 * smooth_noise(rng, shape, scale_px=300) + 1.3 * rng.standard_normal(shape, dtype=np.float32)
    dirt = np.zeros(shape, np.uint8)
    n = 2 + int(rng.integers(4, 20) * mask.size / 1e6)
    centres = (rng.random((n, 2)) * shape[::-1]).astype(np.float32)
    axes: Float = rng.uniform(1.5, 7, (n, 2)).astype(np.float32)
    angles = rng.uniform(0, np.pi, n).astype(np.float32)
    fill(dirt, outlines(rng, centres, axes=axes, angles=angles, roughness=0.2), grey=rng.uniform(40, 150, n))
    grey = light - cv2.GaussianBlur(dirt, (0, 0), 1.2)
    tint = np.array([0, -2, 1], np.float32)
    return np.clip(grey[..., None] + tint, 0, 255).astype(np.uint8), mask


def nearly_copy(image: Byte, mask: Byte, *, rng: np.random.Generator, way: str) -> tuple[Byte, Byte]:
    """Return the same view after a small change; ``way`` is one of `NEAR_WAYS`."""
    if way == "flip":
        return np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
    if way == "crop":
        top, left, bottom, right = (
            int(share * side) for share, side in zip(rng.uniform(0.01, 0.03, 4), mask.shape * 2, strict=True)
        )
        part = np.s_[top : mask.shape[0] - bottom, left : mask.shape[1] - right]
        return np.ascontiguousarray(image[part]), np.ascontiguousarray(mask[part])
    if way == "brightness":
        return np.clip(image * np.float32(rng.uniform(0.9, 0.95)), 0, 255).astype(np.uint8), mask
    if way == "shift":
        by = max(2, mask.shape[1] // 100)
        moved = [np.roll(a, by, axis=1) for a in (image, mask)]
        for a in moved:
            a[:, :by] = a[:, by : by + 1]
        return moved[0], moved[1]
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 80))])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8), mask
