"""One drawn H&E image: stroma, glands, fat, glass, and a tumour inside its mask, in two stains.

Light follows Beer and Lambert: ``rgb = 255 exp(-(h H + e E))`` with a stain vector per laboratory.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .shapes import (
    FULL_OD,
    Byte,
    NucleusKind,
    at,
    draw_fibres,
    draw_nuclei,
    fill,
    grid_points,
    outlines,
    shrunk,
    smooth_noise,
)
from .tumour import LYMPHOCYTE, Layer, draw_mask, draw_tumour


@dataclass(frozen=True, slots=True)
class Laboratory:
    """A staining and scanning habit.

    Attributes:
        haematoxylin, eosin: optical density of unit stain in red, green, blue.
        strength: stain amounts (haematoxylin, eosin) relative to the first laboratory.
        glass: colour of empty glass.
        focus_px: standard deviation of the blur of its scanner.
        noise: standard deviation of the pixel noise, grey levels.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    glass: tuple[float, float, float]
    focus_px: float
    noise: float


LABORATORIES = (
    Laboratory((0.62, 0.70, 0.33), (0.10, 0.92, 0.40), (1.0, 1.0), (243, 241, 244), 0.55, 1.6),
    Laboratory((0.70, 0.66, 0.24), (0.07, 0.80, 0.22), (0.92, 1.15), (247, 244, 238), 0.7, 1.2),
    Laboratory((0.55, 0.72, 0.42), (0.14, 0.95, 0.55), (1.12, 0.85), (236, 233, 238), 0.6, 2.0),
)
_SPINDLE = NucleusKind(4.6, size_spread=0.15, elongation=3.0, roughness=0.06, darkness=1.15)
_EPITHELIUM = NucleusKind(5.6, elongation=1.5, roughness=0.04, darkness=1.1, vesicular=0.2)


@dataclass(frozen=True, slots=True)
class TissuePlan:
    """Everything that one tissue image is drawn from.

    Attributes:
        seed: of the image; with the case seed it fixes every pixel.
        case_seed: of what images of one case share: small stain and scale shifts.
        shape: (height_px, width_px).
        label: class of the tumour; it changes pixels inside the mask only.
        laboratory: position in `LABORATORIES`.
    """

    seed: tuple[int, ...]
    case_seed: tuple[int, ...]
    shape: tuple[int, int]
    label: str
    laboratory: int


def draw_tissue(plan: TissuePlan) -> tuple[Byte, Byte]:
    """Draw an image, (H, W, 3) RGB, and its mask, (H, W) with 0 and 255."""
    scene, cells, camera = (np.random.default_rng([*plan.seed, stream]) for stream in range(3))
    case = np.random.default_rng([*plan.case_seed])
    scale = float(np.exp(0.06 * case.standard_normal()))
    stain_shift = np.exp(0.06 * case.standard_normal(2))
    mask = draw_mask(scene, plan.shape)
    ground = _draw_ground(scene, mask, scale=scale)
    tumour = draw_tumour(mask, plan.label, scene_rng=scene, cell_rng=cells, scale=scale)
    haematoxylin = ground.haematoxylin + tumour.alpha * (tumour.haematoxylin - ground.haematoxylin)
    eosin = ground.eosin + tumour.alpha * (tumour.eosin - ground.eosin)
    laboratory = LABORATORIES[plan.laboratory]
    amounts = (haematoxylin * np.float32(stain_shift[0]), eosin * np.float32(stain_shift[1]))
    # Light, focus, an uneven lamp, noise.
    shape = amounts[0].shape
    h, e = (np.float32(s) * a for s, a in zip(laboratory.strength, amounts, strict=True))
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    lean = camera.uniform(-0.025, 0.025, 2)
    slant, bow = (1 + lean[0] * y) + lean[1] * x, x * x + y * y
    bow *= 0.02
    slant -= bow
    lamp = slant.astype(np.float32)
    lamp *= np.float32(camera.uniform(0.97, 1.02))
    noise = np.float32(laboratory.noise) * camera.standard_normal(shape, dtype=np.float32)
    rgb = np.empty((*shape, 3), np.uint8)
    light = np.empty(shape, np.float32)
    for channel in range(3):  # in place: a map of a large image takes longer to allocate than to compute
        np.multiply(h, np.float32(-laboratory.haematoxylin[channel]), out=light)
        light -= np.float32(laboratory.eosin[channel]) * e
        np.exp(light, out=light)
        light *= np.float32(laboratory.glass[channel]) * lamp
        cv2.GaussianBlur(light, (0, 0), laboratory.focus_px, dst=light)
        light += noise
        light += np.float32(0.5)
        rgb[..., channel] = np.clip(light, 0, 255, out=light)
    return rgb, mask


def _draw_ground(rng: np.random.Generator, mask: Byte, *, scale: float) -> Layer:
    """Draw everything that is not tumour; it does not depend on the class."""
    shape = mask.shape
    direction = (rng.uniform(0, np.pi) + 0.7 * smooth_noise(rng, shape, scale_px=170)).astype(np.float32)
    # Loose collagen bundles along the direction.
    base = 0.34 + 0.07 * smooth_noise(rng, shape, scale_px=90) + 0.03 * smooth_noise(rng, shape, scale_px=8)
    eosin = np.clip(base * 255 / FULL_OD, 8, 255).astype(np.uint8)
    count = shape[0] * shape[1] // 620
    greys = 255 / FULL_OD * rng.normal(0.45, 0.14, count)
    greys[rng.random(count) < rng.uniform(0.08, 0.3)] = 255 / FULL_OD * 0.08  # clefts between bundles
    draw_fibres(rng, eosin, direction=direction, greys=np.clip(greys, 4, 255).astype(np.float32))
    haematoxylin = np.zeros(shape, np.uint8)
    # Spindle cells along the fibres, and lymphocytes in clouds.
    spindles = grid_points(rng, shape, step_px=float(rng.uniform(20, 30)), jitter=0.4)
    sparse = smooth_noise(rng, shape, scale_px=60)
    spindles = spindles[at(sparse, spindles) > rng.normal(0.1, 0.4, len(spindles))]
    angles = at(direction, spindles) + 0.25 * rng.standard_normal(len(spindles))
    draw_nuclei(rng, haematoxylin, kind=_SPINDLE, centres=spindles, angles=angles.astype(np.float32), scale=scale)
    drift = smooth_noise(rng, shape, scale_px=110)
    round_cells = grid_points(rng, shape, step_px=11.5, jitter=0.22)
    chance = np.clip(at(drift, round_cells) - rng.uniform(0.6, 1.6), 0.004, 0.75)
    chosen = round_cells[rng.random(len(round_cells)) < chance]
    draw_nuclei(rng, haematoxylin, kind=LYMPHOCYTE, centres=chosen, scale=scale)
    white = np.zeros(shape, np.uint8)
    if rng.random() < 0.45:
        _fat(rng, white=white, haematoxylin=haematoxylin)
    if rng.random() < 0.5:  # empty glass along one side of the image
        side: NDArray[np.float32] = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
        if rng.random() < 0.5:
            side = np.linspace(0, 1, shape[1], dtype=np.float32)[None]
        if rng.random() < 0.5:
            side = 1 - side
        height = side + 0.06 * smooth_noise(rng, shape, scale_px=120) + 0.012 * smooth_noise(rng, shape, scale_px=14)
        white[height < rng.uniform(0.05, 0.22)] = 255
    _glands(rng, (haematoxylin, eosin, white), mask=mask, scale=scale)
    left = 1 - cv2.GaussianBlur(white, (0, 0), 0.9).astype(np.float32) / 255
    grain = 1 + 0.2 * smooth_noise(rng, shape, scale_px=1.8)
    h = haematoxylin.astype(np.float32)
    h *= FULL_OD / 255
    h *= grain
    h += 0.05
    h *= left
    e = cv2.GaussianBlur(eosin, (0, 0), 0.7).astype(np.float32)
    e *= FULL_OD / 255
    e *= 1 + 0.10 * smooth_noise(rng, shape, scale_px=2.5)
    e *= left
    return Layer(h, e, np.ones(shape, np.float32))


def _fat(rng: np.random.Generator, *, white: Byte, haematoxylin: Byte) -> None:
    """Draw fat cells in a patch: empty, with thin walls."""
    shape = white.shape
    where = smooth_noise(rng, shape, scale_px=260)
    step = float(rng.uniform(46, 64))
    centres = grid_points(rng, shape, step_px=step, jitter=0.09)
    centres = centres[at(where, centres) > rng.uniform(0.35, 0.9)]
    n = len(centres)
    axes = (0.5 * step * rng.uniform(0.95, 1.12, (n, 2))).astype(np.float32)
    angles = rng.uniform(0, np.pi, n).astype(np.float32)
    shapes = outlines(rng, centres, axes=axes, angles=angles, roughness=0.06, corners=28)
    fill(haematoxylin, shapes, grey=0.0)
    for shape_ in shapes:  # wall after cell, so that neighbours keep theirs
        fill(white, shape_[None], grey=250.0)
        cv2.polylines(white, [np.rint(shape_).astype(np.int32)], True, 70, 2, cv2.LINE_AA)


def _glands(rng: np.random.Generator, maps: tuple[Byte, Byte, Byte], *, mask: Byte, scale: float) -> None:
    """Draw benign ducts beside the tumour: basement membrane, cytoplasm, two rows of nuclei, a lumen."""
    haematoxylin, eosin, white = maps
    shape = mask.shape
    away = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, 3)
    for _ in range(rng.poisson(14 * shape[0] * shape[1] / 1e6)):
        centre = (rng.random((1, 2)) * shape[::-1]).astype(np.float32)
        axes = rng.uniform(30, 85, (1, 2)).astype(np.float32)
        wall = outlines(
            rng, centre, axes=axes, angles=rng.uniform(0, np.pi, 1).astype(np.float32), roughness=0.10, corners=64
        )
        band = float(rng.uniform(17, 24)) * scale
        if (at(away, wall[0]) < 6).any() or at(away, centre)[0] < 6 or (at(white, wall[0]) > 0).any():
            continue
        fill(eosin, shrunk(wall, 1.07), grey=255 / FULL_OD * 0.72)
        fill(eosin, wall, grey=255 / FULL_OD * 0.42)
        fill(haematoxylin, shrunk(wall, 1.02), grey=255 / FULL_OD * 0.14)
        fill(white, shrunk(wall, 1.05), grey=0.0)
        middle = float(axes.mean())
        for depth, kind in ((0.28, LYMPHOCYTE), (0.52, _EPITHELIUM)):
            line = shrunk(wall, 1 - depth * band / middle)[0]
            # Nuclei side by side along the line, pointing across it.
            closed = np.vstack([line, line[:1]])
            reach = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
            step = 2.3 * scale * kind.radius_px / np.sqrt(kind.elongation)
            stops = np.arange(0, reach[-1] - step / 2, step) + rng.uniform(-0.12, 0.12) * step
            x, y = (np.interp(stops, reach, closed[:, k], period=reach[-1]) for k in range(2))
            centres = np.stack([x, y], axis=1) + rng.normal(0, 0.8, (len(stops), 2))
            across = np.arctan2(y - line[:, 1].mean(), x - line[:, 0].mean())
            draw_nuclei(
                rng,
                haematoxylin,
                kind=kind,
                centres=centres.astype(np.float32),
                angles=(across + rng.normal(0, 0.2, len(across))).astype(np.float32),
                scale=scale,
            )
        lumen = shrunk(wall, max(0.05, 1 - 1.05 * band / middle))
        fill(haematoxylin, lumen, grey=0.0)
        fill(white, lumen, grey=float(rng.choice([235.0, 235.0, 120.0])))  # some hold secretion
