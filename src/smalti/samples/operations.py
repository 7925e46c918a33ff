"""Operations on one tile, each with an amount of -1 to 1; the pixels are torchvision's and OpenCV's work.

Ranges are those of RandAugment and TrivialAugment (Cubuk et al. 2020, Müller & Hutter 2021) for what they have, so that
an amount of 1 is their strongest. The tissue operations are what a slide meets between knife and file: a warped
section, a lens out of focus, a scanner that smears along its way, and JPEG. A fourth channel, the mask, follows every
operation that moves pixels, by nearest neighbours, and none that changes colours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

Tile = NDArray[np.uint8]
# (tile (H, W, 3 or 4), amount -1 to 1, generator) -> a tile of the same shape
Operation = Callable[[Tile, float, np.random.Generator], Tile]

PAPER = 240  # grey level of what is moved in from outside: the glass of a slide


def _colour(change: Callable[[torch.Tensor, float], torch.Tensor]) -> Operation:
    """An operation on the first three channels as a torch image (3, H, W)."""

    def work(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
        image = torch.from_numpy(np.ascontiguousarray(tile[..., :3])).permute(2, 0, 1)
        out = tile.copy()
        out[..., :3] = change(image, amount).permute(1, 2, 0).numpy()
        return out

    return work


def _move(
    *, angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), shear: tuple[float, float] = (0.0, 0.0)
) -> Operation:
    """An affine operation; angle and shear in degrees, shift in tile sides, all at amount 1."""

    def work(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
        image = torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1)
        height, width = tile.shape[:2]

        def move(part: torch.Tensor, mode: InterpolationMode, fill: int) -> torch.Tensor:
            moved: torch.Tensor = tv.affine(
                part,
                angle=angle * amount,
                translate=[round(shift[0] * amount * width), round(shift[1] * amount * height)],
                scale=1.0,
                shear=[shear[0] * amount, shear[1] * amount],
                interpolation=mode,
                fill=[float(fill)],
            )
            return moved

        parts = [move(image[:3], InterpolationMode.BILINEAR, PAPER)]
        if len(image) == 4:
            parts.append(move(image[3:], InterpolationMode.NEAREST, 0))
        return np.asarray(torch.cat(parts).permute(1, 2, 0).contiguous().numpy(), dtype=np.uint8)

    return work


def warp(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Elastic deformation (Simard et al. 2003): a smooth random field of up to a fortieth of the side."""
    size = tile.shape[:2]
    if amount == 0:
        return tile
    coarse = rng.uniform(-1, 1, (2, 6, 6)).astype(np.float32) * abs(amount) * max(size) / 40
    rows, columns = np.meshgrid(*(np.arange(s, dtype=np.float32) for s in size), indexing="ij")
    down, right = (cv2.resize(c, size[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse)
    out = tile.copy()
    where = (columns + right, rows + down)
    out[..., :3] = cv2.remap(
        np.ascontiguousarray(tile[..., :3]), *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    if tile.shape[2] == 4:
        out[..., 3] = cv2.remap(
            np.ascontiguousarray(tile[..., 3]), *where, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101
        )
    return out


def defocus(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Gaussian blur of up to 3 px, as of a lens out of focus."""
    out = tile.copy()
    if amount != 0:
        out[..., :3] = cv2.GaussianBlur(np.ascontiguousarray(tile[..., :3]), (0, 0), 3 * abs(amount))
    return out


def smear(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Mean over up to 9 px along rows or columns, as of a stage that moves while the scanner looks."""
    length = 1 + round(8 * abs(amount))
    shape = (length, 1) if rng.random() < 0.5 else (1, length)
    out = tile.copy()
    out[..., :3] = cv2.blur(np.ascontiguousarray(tile[..., :3]), shape)
    return out


def compress(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """JPEG of quality 95 down to 20."""
    quality = round(95 - 75 * abs(amount))
    _, code = cv2.imencode(".jpg", np.ascontiguousarray(tile[..., 2::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    out = tile.copy()
    out[..., :3] = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
    return out


# Of the papers' fourteen, without the identity. An amount is signed where a direction is, else its size counts.
GENERAL: Mapping[str, Operation] = {
    "rotate": _move(angle=30),
    "shear_x": _move(shear=(17, 0)),
    "shear_y": _move(shear=(0, 17)),
    "translate_x": _move(shift=(0.45, 0)),
    "translate_y": _move(shift=(0, 0.45)),
    "brightness": _colour(lambda image, a: tv.adjust_brightness(image, 1 + 0.9 * a)),
    "saturation": _colour(lambda image, a: tv.adjust_saturation(image, 1 + 0.9 * a)),
    "contrast": _colour(lambda image, a: tv.adjust_contrast(image, 1 + 0.9 * a)),
    "sharpness": _colour(lambda image, a: tv.adjust_sharpness(image, 1 + 0.9 * a)),
    "posterize": _colour(lambda image, a: tv.posterize(image, 8 - round(4 * abs(a)))),
    "solarize": _colour(lambda image, a: tv.solarize(image, 255 * (1 - abs(a))) if a else image),
    "autocontrast": _colour(lambda image, a: tv.autocontrast(image)),
    "equalize": _colour(lambda image, a: tv.equalize(image)),
}
TISSUE: Mapping[str, Operation] = {"warp": warp, "defocus": defocus, "smear": smear, "compress": compress}
OPERATIONS: Mapping[str, Operation] = {**GENERAL, **TISSUE}
