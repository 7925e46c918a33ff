"""Operations on one tile, each with an amount of -1 to 1; the pixels are torchvision's and OpenCV's work.

An amount of 1 is the strongest of RandAugment (Cubuk et al. 2020, `GENERAL`) or of the wide space of TrivialAugment
(Müller & Hutter 2021, `WIDE`); `AUTO` is `GENERAL` and the negative that AutoAugment knows (Cubuk et al. 2019). The
tissue operations are what a slide meets between knife and file: a warped section, a lens out of focus, a scanner that
smears along its way, and JPEG. A fourth channel, the mask, follows every operation that moves pixels, by nearest
neighbours, and none that changes colours; coverage of a tile stays what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from ..tissue.density import LIGHT

Tile = NDArray[np.uint8]
# (tile (H, W, 3 or 4), amount -1 to 1, generator) -> a tile of the same shape
Operation = Callable[[Tile, float, np.random.Generator], Tile]

SOFT = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13  # the kernel of PIL's SMOOTH
GLASS = LIGHT  # grey level of what is moved in from outside: a slide where nothing lies


def read_colours(tile: Tile) -> Tile:
    """Return the first three channels (H, W, 3), in memory as OpenCV and torch want them."""
    return np.ascontiguousarray(tile[..., :3])


def replace_colours(tile: Tile, colours: NDArray[np.generic]) -> Tile:
    """Return a new tile with other colours (H, W, 3) and the mask of the old one."""
    out = tile.copy()
    out[..., :3] = colours
    return out


def _colour(
    tile: Tile, amount: float, rng: np.random.Generator, *, change: Callable[[torch.Tensor, float], torch.Tensor]
) -> Tile:
    """Change the first three channels as a torch image (3, H, W)."""
    image = torch.from_numpy(read_colours(tile)).permute(2, 0, 1)
    return replace_colours(tile, change(image, amount).permute(1, 2, 0).numpy())


def _move(
    tile: Tile, amount: float, rng: np.random.Generator, *, angle: float = 0.0, shear: tuple[float, float] = (0.0, 0.0)
) -> Tile:
    """Move by an affine map about the centre; angle and shear in degrees at amount 1.

    The papers shear about a corner, which at their strongest leaves half a tile of glass.
    """
    image = torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1)
    parts = [(image[:3], InterpolationMode.BILINEAR, GLASS), (image[3:], InterpolationMode.NEAREST, 0.0)]
    moved = [
        tv.affine(
            part,
            angle=angle * amount,
            translate=[0, 0],
            scale=1.0,
            shear=[shear[0] * amount, shear[1] * amount],
            interpolation=mode,
            fill=[fill],
        )
        for part, mode, fill in parts
        if len(part)
    ]
    return np.asarray(torch.cat(moved).permute(1, 2, 0).contiguous().numpy(), dtype=np.uint8)


def _shift(tile: Tile, amount: float, rng: np.random.Generator, *, axis: int, share: float) -> Tile:
    """Move by whole pixels down (axis 0) or to the right (1), by ``share`` of the side at amount 1."""
    side = tile.shape[axis]
    pixels = round(share * amount * side)
    out = np.full_like(tile, GLASS)
    out[..., 3:] = 0
    there, here = (slice(max(pixels, 0), side + min(pixels, 0)), slice(max(-pixels, 0), side - max(pixels, 0)))
    along = (slice(None),) * axis
    out[(*along, there)] = tile[(*along, here)]
    return out


def _sharpen(tile: Tile, amount: float, rng: np.random.Generator, *, factor: float) -> Tile:
    """Sharpen, or blur by a mean of nine pixels, the middle one five times; the edge stays."""
    colours = read_colours(tile)
    soft = cv2.filter2D(colours, -1, SOFT)
    soft[[0, -1]], soft[:, [0, -1]] = colours[[0, -1]], colours[:, [0, -1]]
    ratio = 1 + factor * amount
    return replace_colours(tile, cv2.addWeighted(colours, ratio, soft, 1 - ratio, 0))


def warp(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Deform elastically (Simard et al. 2003) by a smooth random field of up to a fortieth of the side."""
    size = tile.shape[:2]
    if amount == 0:
        return tile
    coarse = rng.uniform(-1, 1, (2, 6, 6)).astype(np.float32) * abs(amount) * max(size) / 40
    rows, columns = np.meshgrid(*(np.arange(s, dtype=np.float32) for s in size), indexing="ij")
    down, right = (cv2.resize(c, size[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse)
    where = (columns + right, rows + down)
    moved = cv2.remap(read_colours(tile), *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    out = replace_colours(tile, moved)
    if tile.shape[2] == 4:
        mask = np.ascontiguousarray(tile[..., 3])
        out[..., 3] = cv2.remap(mask, *where, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
    return out


def defocus(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Blur by a Gaussian of up to 3 px, as does a lens out of focus."""
    if amount == 0:
        return tile
    return replace_colours(tile, cv2.GaussianBlur(read_colours(tile), (0, 0), 3 * abs(amount)))


def smear(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Average over up to 9 px along rows or columns, as does a stage that moves while the scanner looks."""
    length = 1 + round(8 * abs(amount))
    shape = (length, 1) if rng.random() < 0.5 else (1, length)
    return replace_colours(tile, cv2.blur(read_colours(tile), shape))


def compress(tile: Tile, amount: float, rng: np.random.Generator) -> Tile:
    """Compress as JPEG of quality 95 down to 20."""
    quality = round(95 - 75 * abs(amount))
    _, code = cv2.imencode(".jpg", np.ascontiguousarray(tile[..., 2::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return replace_colours(tile, np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1])


def list_general(*, angle: float, shear: float, shift: float, factor: float, bits: int) -> Mapping[str, Operation]:
    """Return the papers' fourteen operations but for the identity.

    An amount is signed where there is a direction; else its size counts.

    Args:
        angle: of the strongest rotation, in degrees.
        shear: tangent of the strongest shear.
        shift: strongest translation, in tile sides.
        factor: what the strongest change of brightness, saturation, contrast and sharpness adds to or takes from 1.
        bits: of eight that the strongest posterisation takes.
    """
    slant = math.degrees(math.atan(shear))
    return {
        "rotate": partial(_move, angle=angle),
        "shear_x": partial(_move, shear=(slant, 0)),
        "shear_y": partial(_move, shear=(0, slant)),
        "translate_x": partial(_shift, axis=1, share=shift),
        "translate_y": partial(_shift, axis=0, share=shift),
        "brightness": partial(_colour, change=lambda image, a: tv.adjust_brightness(image, 1 + factor * a)),
        "saturation": partial(_colour, change=lambda image, a: tv.adjust_saturation(image, 1 + factor * a)),
        "contrast": partial(_colour, change=lambda image, a: tv.adjust_contrast(image, 1 + factor * a)),
        "sharpness": partial(_sharpen, factor=factor),  # torchvision's takes 6 ms a tile
        "posterize": partial(_colour, change=lambda image, a: tv.posterize(image, 8 - round(bits * abs(a)))),
        "solarize": partial(_colour, change=lambda image, a: tv.solarize(image, 255 * (1 - abs(a))) if a else image),
        "autocontrast": partial(_colour, change=lambda image, a: tv.autocontrast(image)),
        "equalize": partial(_colour, change=lambda image, a: tv.equalize(image)),
    }


GENERAL = list_general(angle=30, shear=0.3, shift=150 / 331, factor=0.9, bits=4)
AUTO: Mapping[str, Operation] = {
    **GENERAL,
    "invert": partial(_colour, change=lambda image, a: tv.invert(image) if a else image),
}
# The paper moves by 32 px whatever the size; here it is that share of an ImageNet tile of 224.
WIDE = list_general(angle=135, shear=0.99, shift=32 / 224, factor=0.99, bits=6)
TISSUE: Mapping[str, Operation] = {"warp": warp, "defocus": defocus, "smear": smear, "compress": compress}
