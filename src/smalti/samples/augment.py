"""Augmentation of tiles on the CPU: flips and quarter turns, stain and colour as one map per image each.

Brightness, contrast, saturation and channel gains are all linear in RGB, so they are composed into one 3x4 matrix,
which OpenCV applies to 8-bit pixels with saturation, as an image would. That keeps data feeding cheap beside the
network (benchmarks/bench_finetune.py). Tiles of one image share their colour, since a stain varies between images
and not inside one. Tiles stay 8-bit until they are on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..registry import Registry
from ..types import InputSpec
from .stain import Maps, apply_map

ROTATIONS = (-1, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
TURNS = 8  # the symmetries of the square: quarter turns 0-3, then the same after a flip

# Luma weights of ITU-R BT.601, which torchvision's adjust_saturation uses as well.
GREY = np.array([0.2989, 0.5870, 0.1140])

Edit = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Transform:
    """What happens to a batch of B images with N tiles.

    Attributes:
        turns: (B, N) symmetry of the square of each tile, 0 to 7; 0 leaves it alone.
        matrix: (B, 3, 3) applied to RGB in 0..1.
        offset: (B, 3) added after the matrix.
        amounts: (B, 3, 2) factor and shift of the amounts of stain, along each axis of the image's frame.
        edits: B times N, what is done to each tile (H, W, 3 or 4) at the end; empty for nothing.
    """

    turns: NDArray[np.int64]
    matrix: NDArray[np.float32]
    offset: NDArray[np.float32]
    amounts: NDArray[np.float64]
    edits: tuple[tuple[Edit, ...], ...] = ()

    def take(self, part: slice) -> Transform:
        """Return what happens to some of the images."""
        return Transform(*(getattr(self, field.name)[part] for field in fields(self)))


Augmentation = Callable[[int, int, float, np.random.Generator], Transform]
AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")


def identity_transform(images: int, tiles: int) -> Transform:
    """Return the transform that changes nothing, for B images of N tiles."""
    return Transform(
        np.zeros((images, tiles), dtype=np.int64),
        np.repeat(np.eye(3, dtype=np.float32)[None], images, axis=0),
        np.zeros((images, 3), dtype=np.float32),
        np.tile([1.0, 0.0], (images, 3, 1)),
    )


def view_transform(view: int, *, images: int, tiles: int) -> Transform:
    """Return the stored view of phase ``transfer``: view 0 is plain, view v is symmetry v of the square."""
    return replace(identity_transform(images, tiles), turns=np.full((images, tiles), view, dtype=np.int64))


def draw_flips(images: int, tiles: int, strength: float, rng: np.random.Generator) -> Transform:
    """Draw flips and quarter turns: tissue has no up or down."""
    return replace(identity_transform(images, tiles), turns=rng.integers(0, TURNS, (images, tiles)))


AUGMENTATIONS.add("none", lambda images, tiles, *_: identity_transform(images, tiles), summary="tiles as they are")
AUGMENTATIONS.add("flips", draw_flips, summary="flips and quarter turns, all eight equally likely, at any strength")


@AUGMENTATIONS.register(
    "flips_colour", summary="flips and turns; brightness, contrast, saturation and stain gains grow with the strength"
)
def build_flips_colour(*, largest: float = 0.4) -> Augmentation:
    """Flips, and colour factors drawn from 1 +- ``largest * strength`` for each image."""

    def draw(images: int, tiles: int, strength: float, rng: np.random.Generator) -> Transform:
        turned = draw_flips(images, tiles, strength, rng)
        spread = largest * strength
        bright, contrast, saturation = rng.uniform(1 - spread, 1 + spread, (3, images))
        gains = rng.uniform(1 - spread / 4, 1 + spread / 4, (images, 3))
        matrix, offset = colour_matrix(bright, contrast, saturation, gains=gains)
        return replace(turned, matrix=matrix, offset=offset)

    return draw


@AUGMENTATIONS.register(
    "flips_stain",
    summary="flips and turns; amounts of haematoxylin, eosin and the rest vary with the strength",
    reference="Tellez et al. 2018, 2019",
)
def build_flips_stain(*, largest: float = 0.4) -> Augmentation:
    """Flips, and for each image factors of 1 +- ``largest * strength`` on its amounts of stain and small shifts.

    The image's own stains where they are known, not one matrix for all. A shift of the two stains is up to an eighth
    of the spread of the factors, in units of what is much in the image; of what is neither stain, a sixteenth, in
    density.
    """

    def draw(images: int, tiles: int, strength: float, rng: np.random.Generator) -> Transform:
        turned = draw_flips(images, tiles, strength, rng)
        spread = largest * strength
        factors = rng.uniform(1 - spread, 1 + spread, (images, 3))
        shifts = rng.uniform(-spread, spread, (images, 3)) / [8, 8, 16]
        return replace(turned, amounts=np.stack([factors, shifts], axis=-1))

    return draw


def colour_matrix(
    bright: NDArray[np.float64],
    contrast: NDArray[np.float64],
    saturation: NDArray[np.float64],
    *,
    gains: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return gains, then saturation, contrast and brightness as one matrix (B, 3, 3) and offset (B, 3).

    Contrast turns about mid-grey 0.5 instead of the image's own mean, which keeps it linear. Factors are (B,), gains
    (B, 3).
    """
    grey = np.repeat(GREY[None], 3, axis=0)  # every output channel is the luma
    s = saturation[:, None, None]
    mixed = s * np.eye(3) + (1 - s) * grey
    matrix = (bright * contrast)[:, None, None] * mixed * gains[:, None, :]
    offset = np.repeat((bright * 0.5 * (1 - contrast))[:, None], 3, axis=1)
    return matrix.astype(np.float32), offset.astype(np.float32)


def apply_transform(tiles: NDArray[np.uint8], transform: Transform, *, maps: Maps | None = None) -> NDArray[np.uint8]:
    """Turn and recolour square tiles (B, N, H, W, 3); the same array where nothing changes, else a new one.

    ``maps`` (B, N, 3, 4) is what becomes of the stain: `StainMaps.solve` of the rows and the transform's amounts. A
    fourth channel, the mask, is turned along and keeps its values.
    """
    plain = bool((transform.matrix == np.eye(3, dtype=np.float32)).all() and not transform.offset.any())
    if plain and maps is None and not transform.turns.any() and not transform.edits:
        return tiles
    # OpenCV multiplies 0..255, the transform is written for 0..1.
    colours = np.concatenate([transform.matrix, transform.offset[..., None] * 255], axis=2)
    out = np.empty_like(tiles)
    for image, tile in np.ndindex(*tiles.shape[:2]):
        turned = turn_tile(tiles[image, tile], int(transform.turns[image, tile]))
        out[image, tile] = turned
        if maps is not None:
            turned = apply_map(turned, maps[image, tile])
            out[image, tile] = turned
        if not plain:
            out[image, tile, ..., :3] = cv2.transform(np.ascontiguousarray(turned[..., :3]), colours[image])
        if transform.edits:
            out[image, tile] = transform.edits[image][tile](out[image, tile])
    return out


def turn_tile(tile: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Apply symmetry ``turn`` of the square, 0 to 7, to a tile (H, W, 3 or 4)."""
    flipped = cv2.flip(tile, 1) if turn >= 4 else tile
    turned = cv2.rotate(flipped, ROTATIONS[turn % 4]) if turn % 4 else flipped
    return np.asarray(turned, dtype=np.uint8)


def normalise_tiles(tiles: torch.Tensor, *, spec: InputSpec) -> torch.Tensor:
    """Convert tiles for the backbone: uint8 (M, H, W, 3) to float32 (M, 3, H, W) in channels-last memory.

    A fourth channel, the mask as 0 and 255, becomes 0 and 1.

    Where the backbone takes one size only, tiles of another size are resized to it.
    """
    count, height, width, channels = tiles.shape
    std = torch.tensor((*spec.std, 1.0)[:channels], device=tiles.device)
    scale = (1 / (255 * std)).repeat(width)
    shift = (-torch.tensor((*spec.mean, 0.0)[:channels], device=tiles.device) / std).repeat(width)
    # Whole rows of pixels at a time: a last dimension of three would be slow on a CPU.
    rows = tiles.reshape(count * height, width * channels).to(torch.float32).mul_(scale).add_(shift)
    images = rows.reshape(count, height, width, channels).permute(0, 3, 1, 2)
    if not spec.fixed or height == spec.size_px:
        return images
    return F.interpolate(images, size=spec.size_px, mode="bilinear", antialias=True)
