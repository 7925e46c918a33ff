"""The diseased region: a blobby mask, and cells whose nuclei alone say which class it is.

Classes differ in size, density and pleomorphism of the nuclei. What survives shrinking is drawn without regard to the
class: area covered by nuclei, mean darkness (matched in transmitted light), clusters, septa, lumina, cytoplasm.
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
    "Luminal A": NucleusKind(5.4, size_spread=0.08, elongation=1.12, roughness=0.03, grain=0.10),
    "Luminal B": NucleusKind(6.9, size_spread=0.10, elongation=1.25, roughness=0.05, grain=0.22),
    "HER2(+)": NucleusKind(
        9.2, size_spread=0.10, elongation=1.15, roughness=0.04, vesicular=0.45, nucleolus=0.8, grain=0.15
    ),
    "Triple negative": NucleusKind(
        8.6,
        size_spread=0.36,
        elongation=1.4,
        roughness=0.15,
        darkness_spread=0.35,
        vesicular=0.2,
        nucleolus=0.3,
        grain=0.38,
    ),
}
_COVER = {"Luminal A": 0.95, "Luminal B": 1.1, "HER2(+)": 0.95, "Triple negative": 1.05}
_NUCLEAR_TEXTURE_PX = 1.7


@dataclass(frozen=True, slots=True)
class Layer:
    """A piece of tissue: amounts of haematoxylin and eosin in optical density and its opacity, all (H, W)."""

    haematoxylin: Float
    eosin: Float
    alpha: Float


def draw_mask(rng: np.random.Generator, shape: tuple[int, int]) -> Byte:
    """One to three irregular regions that cover 10 to 40 % of (H, W); 0 outside, 255 inside."""
    small = (max(16, shape[0] // 8), max(16, shape[1] // 8))
    y, x = np.mgrid[0 : small[0], 0 : small[1]].astype(np.float32)
    share = rng.uniform(0.13, 0.36)
    height = np.full(small, -9.0, np.float32)
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        row, column = rng.uniform(0.22, 0.78, 2) * small
        bend = rng.uniform(0.75, 1.35)
        away = np.hypot((y - row) / bend, (x - column) * bend) / np.sqrt(small[0] * small[1] * share)
        height = np.maximum(height, rng.uniform(-0.12, 0.12) - away)
    height += 0.13 * smooth_noise(rng, small, scale_px=min(small) / 6)
    height += 0.05 * smooth_noise(rng, small, scale_px=min(small) / 14)
    height -= np.float32(np.quantile(height, 1 - share))
    full = cv2.resize(height, shape[::-1], interpolation=cv2.INTER_CUBIC)
    mask = (full > 0).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask)
    area = stats[:, cv2.CC_STAT_AREA]
    keep = [i for i in range(1, count) if area[i] > 0.08 * area[1:].max()]
    return np.where(np.isin(pieces, keep), 255, 0).astype(np.uint8)


def _stroma_and_lumina(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[NDArray[np.bool_], Byte]:
    """Where no tumour cell lies: septa (bool), and lumina (255 inside), (H, W) each."""
    ridge = np.abs(smooth_noise(rng, shape, scale_px=float(rng.uniform(50, 90))))
    septa = ridge < rng.uniform(0.04, 0.28)
    lumina = np.zeros(shape, np.uint8)
    count = rng.poisson(rng.uniform(0, 45) * shape[0] * shape[1] / 1e6)
    centres = (rng.random((count, 2)) * shape[::-1]).astype(np.float32)
    axes = rng.uniform(7, 22, (count, 2)).astype(np.float32)
    angles = rng.uniform(0, np.pi, count).astype(np.float32)
    fill(lumina, outlines(rng, centres, axes=axes, angles=angles, roughness=0.18, corners=28), 255)
    return septa, lumina


def _match_light(nuclei: Float, rest: Float, inside: NDArray[np.bool_], *, light: float) -> float:
    """Factor on ``nuclei`` (optical density) at which the mean transmitted light under ``inside`` is ``light``."""
    nuclear, other = nuclei[inside][::7], np.exp(-rest[inside][::7])
    factor = 1.0
    for _ in range(6):  # Newton; the light falls and is convex in the factor
        passed = np.exp(-factor * nuclear) * other
        slope = -float((nuclear * passed).mean())
        factor += (light - float(passed.mean())) / min(slope, -1e-4)
    return float(np.clip(factor, 0.3, 3.0))


def draw_tumour(
    scene: np.random.Generator, cells: np.random.Generator, mask: Byte, label: str, *, scale: float
) -> Layer:
    """The tumour of one image.

    Args:
        scene: drives all that the class must not touch; its draws do not depend on the label.
        cells: drives the nuclei.
        mask: (H, W), above zero inside; the layer's opacity is zero outside.
        label: one of `CLASS_NUCLEI`.
        scale: of all nuclei (section thickness, scanner), about 1.
    """
    shape = mask.shape
    kind = CLASS_NUCLEI[label]
    septa, lumina = _stroma_and_lumina(scene, shape)
    crowd = smooth_noise(scene, shape, scale_px=float(scene.uniform(25, 60)))
    cover = _COVER[label] * 0.42 * np.exp(0.18 * scene.standard_normal())
    light = scene.uniform(0.56, 0.67)
    cytoplasm = scene.uniform(0.30, 0.46) * (1 + 0.12 * smooth_noise(scene, shape, scale_px=3.0))
    cytoplasm += 0.05 * smooth_noise(scene, shape, scale_px=40.0) + 0.04 * smooth_noise(scene, shape, scale_px=9.0)

    area = np.pi * (scale * kind.radius_px) ** 2 * np.exp(kind.size_spread**2)
    points = grid_points(cells, shape, step_px=float(np.sqrt(area / cover / 0.866)), jitter=0.16)
    stay = (at(mask, points) > 0) & ~at(septa, points).astype(bool) & (at(lumina, points) == 0)
    stay &= at(crowd, points) > -1.1
    canvas = np.zeros(shape, np.uint8)
    draw_nuclei(cells, canvas, kind, centres=points[stay], scale=scale)
    nuclei = canvas.astype(np.float32) * (FULL_OD / 255)
    nuclei *= np.clip(1 + kind.grain * smooth_noise(cells, shape, scale_px=_NUCLEAR_TEXTURE_PX), 0.2, 2)

    depth = cv2.distanceTransform((mask > 0).astype(np.uint8), cv2.DIST_L2, 3)
    alpha = np.clip((depth - 4) / 5, 0, 1)  # the focus blur must not carry class outside the mask
    alpha *= cv2.GaussianBlur((~septa).astype(np.float32), (0, 0), 2.0)
    open_ = cv2.GaussianBlur(lumina, (0, 0), 1.0).astype(np.float32) / 255
    eosin = cytoplasm * (1 - open_)
    blue = np.float32(scene.uniform(0.1, 0.22)) * (1 - open_)
    nuclei *= 1 - open_
    nuclei *= _match_light(nuclei * 0.55, blue * 0.55 + eosin * 0.5, alpha > 0.5, light=light)
    return Layer(nuclei + blue, eosin, alpha)
