"""The diseased region: a blobby mask, and cells whose nuclei alone say which class it is.

Classes differ in size, density and pleomorphism of the nuclei. Everything that survives shrinking is drawn without
regard to the class: area covered by nuclei, mean darkness (matched in transmitted light), clusters, septa, lumina,
cytoplasm.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .shapes import (
    FULL_OD,
    Byte,
    Float,
    NucleusKind,
    at,
    draw_nuclei,
    fill,
    grid_points,
    outlines,
    smooth_noise,
)

CLASS_NUCLEI: dict[str, NucleusKind] = {
    "Luminal A": NucleusKind(4.4, size_spread=0.08, elongation=1.12, roughness=0.03, grain=0.10),
    "Luminal B": NucleusKind(5.4, size_spread=0.10, elongation=1.25, roughness=0.05, grain=0.22),
    "HER2(+)": NucleusKind(
        6.8, size_spread=0.10, elongation=1.15, roughness=0.04, vesicular=0.45, nucleolus=0.8, grain=0.15
    ),
    "Triple negative": NucleusKind(
        6.4,
        size_spread=0.34,
        elongation=1.4,
        roughness=0.15,
        darkness_spread=0.22,
        vesicular=0.2,
        nucleolus=0.3,
        grain=0.38,
    ),
}
_COVER = {"Luminal A": 0.95, "Luminal B": 1.1, "HER2(+)": 0.95, "Triple negative": 1.05}
_GRAIN_PX = 1.7  # spacing of the chromatin texture
LYMPHOCYTE = NucleusKind(4.0, elongation=1.05, roughness=0.04, darkness=1.6)


@dataclass(frozen=True, slots=True)
class Layer:
    """A piece of tissue: amounts of haematoxylin and eosin in optical density and its opacity, all (H, W)."""

    haematoxylin: Float
    eosin: Float
    alpha: Float


def draw_mask(rng: np.random.Generator, shape: tuple[int, int]) -> Byte:
    """Draw one to three irregular regions that cover 10 to 40 % of (H, W); 0 outside, 255 inside."""
    small = (max(16, shape[0] // 8), max(16, shape[1] // 8))
    y, x = np.mgrid[0 : small[0], 0 : small[1]].astype(np.float32)
    share = rng.uniform(0.17, 0.37)
    height = np.full(small, -9.0, np.float32)
    for _ in range(rng.choice([1, 2, 2, 3])):
        row, column = rng.uniform(0.16, 0.84, 2) * small
        bend = rng.uniform(0.75, 1.35)
        away = np.hypot((y - row) / bend, (x - column) * bend) / np.sqrt(small[0] * small[1] * share)
        height = np.maximum(height, rng.uniform(-0.12, 0.12) - away)
    height += 0.13 * smooth_noise(rng, small, scale_px=min(small) / 6)
    height += 0.05 * smooth_noise(rng, small, scale_px=min(small) / 14)
    height -= np.float32(np.quantile(height, 1 - share))
    full = cv2.resize(height, shape[::-1], interpolation=cv2.INTER_CUBIC)
    mask = (full > 0).astype(np.uint8)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(closed)
    area = stats[:, cv2.CC_STAT_AREA]
    greys = np.where(area > 0.08 * area[1:].max(initial=0), 255, 0).astype(np.uint8)
    greys[0] = 0  # the ground
    return greys[pieces]


@dataclass(frozen=True, slots=True)
class _Scene:
    """Everything of a tumour that does not depend on its class; maps are (H, W).

    Attributes:
        nests: where tumour cells lie, with soft edges; the rest is stroma.
        open: share of each pixel that is lumen.
        room: True where a nucleus may lie; clusters and lumina leave gaps.
        cover: share of the nests under nuclei.
        disorder: how far nuclei lie from an even grid, in steps of it.
        light: mean transmitted light of the nests.
        eosin, blue: cytoplasm, optical density of eosin and haematoxylin.
        guests: places of lymphocytes, (n, 2) as x, y.
    """

    nests: Float
    open: Float
    room: NDArray[np.bool_]
    cover: float
    disorder: float
    light: float
    eosin: Float
    blue: Float
    guests: Float


def _set_scene(rng: np.random.Generator, mask: Byte) -> _Scene:
    """Draw a `_Scene`; coarse patterns vary more between images than any class would change them."""
    shape = mask.shape
    septa = np.abs(smooth_noise(rng, shape, scale_px=float(rng.uniform(50, 90)))) < rng.uniform(0.04, 0.28)
    lumina = np.zeros(shape, np.uint8)  # small irregular holes, 255 inside
    count = rng.poisson(rng.uniform(0, 45) * shape[0] * shape[1] / 1e6)
    centres = (rng.random((count, 2)) * shape[::-1]).astype(np.float32)
    axes = rng.uniform(7, 22, (count, 2)).astype(np.float32)
    angles = rng.uniform(0, np.pi, count).astype(np.float32)
    fill(lumina, outlines(rng, centres, axes=axes, angles=angles, roughness=0.18, corners=28), grey=255)
    gaps = smooth_noise(rng, shape, scale_px=float(np.exp(rng.uniform(2.6, 4.1)))) < rng.uniform(-1.6, -0.3)
    eosin = 1 + 0.12 * smooth_noise(rng, shape, scale_px=3.0) + 0.10 * smooth_noise(rng, shape, scale_px=9.0)
    eosin += 0.12 * smooth_noise(rng, shape, scale_px=40.0)
    patches = smooth_noise(rng, shape, scale_px=float(np.exp(rng.uniform(2.1, 3.6))))
    blue = 1 + np.float32(rng.uniform(0.1, 0.6)) * patches
    count = rng.poisson(np.exp(rng.uniform(4, 7)) * mask.size / 1e6)
    guests = (rng.random((count, 2)) * shape[::-1]).astype(np.float32)
    depth = cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 3)
    edge = np.clip((depth - 4) / 5, 0, 1)  # the focus blur must not carry the class outside the mask
    open_ = cv2.GaussianBlur(lumina.astype(np.float32) / 255, (0, 0), 1.0)
    return _Scene(
        nests=(edge * cv2.GaussianBlur((~septa).astype(np.float32), (0, 0), 2.0)).astype(np.float32),
        open=np.asarray(open_, np.float32),
        room=(mask > 0) & ~septa & ~gaps & (lumina == 0),
        cover=float(0.42 * np.exp(0.24 * rng.standard_normal())),
        disorder=float(rng.uniform(0.12, 0.28)),
        light=float(rng.uniform(0.54, 0.65)),
        eosin=(np.float32(rng.uniform(0.30, 0.46)) * eosin * (1 - open_)).astype(np.float32),
        blue=(np.float32(rng.uniform(0.16, 0.28)) * blue * (1 - open_)).astype(np.float32),
        guests=guests[at(mask, guests) > 0],
    )


def draw_tumour(
    mask: Byte, label: str, *, scene_rng: np.random.Generator, cell_rng: np.random.Generator, scale: float
) -> Layer:
    """Draw the tumour of one image.

    Args:
        mask: (H, W), above zero inside; the layer's opacity is zero outside.
        label: one of `CLASS_NUCLEI`.
        scene_rng: drives everything that the class must not change; its draws do not depend on the label.
        cell_rng: drives the nuclei.
        scale: of all nuclei (section thickness, scanner), about 1.
    """
    scene = _set_scene(scene_rng, mask)
    kind = CLASS_NUCLEI[label]
    area = np.pi * (scale * kind.radius_px) ** 2 * np.exp(kind.size_spread**2)
    step = float(np.sqrt(area / (_COVER[label] * scene.cover) / 0.866))  # 0.866: rows of a hexagonal grid
    points = grid_points(cell_rng, mask.shape, step_px=step, jitter=scene.disorder)
    canvas = np.zeros(mask.shape, np.uint8)
    draw_nuclei(cell_rng, canvas, kind=kind, centres=points[at(scene.room, points)], scale=scale)
    draw_nuclei(cell_rng, canvas, kind=LYMPHOCYTE, centres=scene.guests, scale=scale)
    grain = 1 + kind.grain * smooth_noise(cell_rng, mask.shape, scale_px=_GRAIN_PX)
    nuclei = canvas.astype(np.float32) * (FULL_OD / 255) * np.clip(grain, 0.2, 2) * (1 - scene.open)
    # 0.55 and 0.5: mean optical density over red, green, blue of unit haematoxylin and eosin
    rest = scene.blue * 0.55 + scene.eosin * 0.5
    # The factor on the nuclei at which mean transmitted light inside the nests is that of the scene.
    inside = scene.nests > 0.5
    nuclear, other = (nuclei * 0.55)[inside][::7], np.exp(-rest[inside][::7])
    if len(nuclear):  # none in a mask so small that its soft edge is all of it
        factor = 1.0
        for _ in range(6):  # Newton; the light falls and is convex in the factor
            passed = np.exp(-factor * nuclear) * other
            slope = -float((nuclear * passed).mean())
            factor += (scene.light - float(passed.mean())) / min(slope, -1e-4)
        nuclei *= float(np.clip(factor, 0.3, 3.0))
    return Layer((nuclei + scene.blue).astype(np.float32), scene.eosin, scene.nests)
