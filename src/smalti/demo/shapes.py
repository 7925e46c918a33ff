"""Shapes that tissue is made of: smooth noise, irregular outlines, nuclei, fibres.

Everything is drawn with anti-aliasing into 8-bit maps of stain amount, (H, W); 255 stands for `FULL_OD` optical
density along a stain vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Byte = NDArray[np.uint8]

T = TypeVar("T", bound=np.generic)

FULL_OD = 2.4
CORNERS = 18  # of one nucleus; enough that a radius of 14 px looks round
_SHIFT = 4  # OpenCV takes coordinates in 1/16 px
_HARMONICS = np.arange(2, 6)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], *, scale_px: float) -> Float:
    """Return a random field with unit variance at its nodes, which lie ``scale_px`` apart; (H, W)."""
    rows = max(2, round(shape[0] / scale_px) + 2)
    columns = max(2, round(shape[1] / scale_px) + 2)
    nodes = rng.standard_normal((rows, columns), dtype=np.float32)
    return np.asarray(cv2.resize(nodes, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def outlines(
    rng: np.random.Generator,
    centres: Float,
    *,
    axes: Float,
    angles: Float,
    roughness: float,
    corners: int = CORNERS,
) -> Float:
    """Return closed irregular ovals, (n, corners, 2) as x, y.

    Args:
        rng: source of the irregularity.
        centres: (n, 2) as x, y.
        axes: half axes in px, (n, 2).
        angles: of the first axis, radians, (n,).
        roughness: standard deviation of the radius along the outline, as a share of it.
        corners: points of each outline.
    """
    n = len(centres)
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False, dtype=np.float32)
    size = rng.standard_normal((n, len(_HARMONICS), 2)).astype(np.float32) / _HARMONICS[None, :, None]
    waves = np.stack([np.cos(np.outer(_HARMONICS, turn)), np.sin(np.outer(_HARMONICS, turn))], axis=1)
    radius = 1 + 1.6 * roughness * np.einsum("nhk,hkc->nc", size, waves)
    radius = np.clip(radius, 0.4, 1.7)
    x = axes[:, :1] * radius * np.cos(turn)
    y = axes[:, 1:] * radius * np.sin(turn)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return (np.stack([x * cos - y * sin, x * sin + y * cos], axis=2) + centres[:, None]).astype(np.float32)


def fill(canvas: Byte, shapes: Float, *, grey: NDArray[np.float64] | float) -> None:
    """Fill outlines (n, corners, 2) one over the other with ``grey`` (one value or n) from 0 to 255."""
    points = np.rint(shapes * (1 << _SHIFT)).astype(np.int32)
    greys = np.clip(np.broadcast_to(grey, len(shapes)), 0, 255).tolist()
    for outline, value in zip(points, greys, strict=True):
        cv2.fillPoly(canvas, [outline], value, cv2.LINE_AA, _SHIFT)


def shrunk(shapes: Float, factor: NDArray[np.float64] | float) -> Float:
    """Return the same outlines, (n, corners, 2), scaled about their centres."""
    centres = shapes.mean(axis=1, keepdims=True)
    scale = np.broadcast_to(factor, len(shapes))[:, None, None]
    return (centres + (shapes - centres) * scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class NucleusKind:
    """The look of nuclei of one cell type.

    Attributes:
        radius_px: mean radius.
        size_spread: standard deviation of log radius (anisonucleosis).
        elongation: long over short axis.
        roughness: irregularity of the outline, share of the radius.
        darkness: mean chromatin, optical density.
        darkness_spread: standard deviation of log darkness.
        vesicular: how much paler the centre is than the rim, 0 to 1.
        nucleolus: share of nuclei with a dark nucleolus.
        grain: contrast of the chromatin texture.
    """

    radius_px: float
    size_spread: float = 0.08
    elongation: float = 1.15
    roughness: float = 0.05
    darkness: float = 1.1
    darkness_spread: float = 0.1
    vesicular: float = 0.12
    nucleolus: float = 0.0
    grain: float = 0.15


def draw_nuclei(
    rng: np.random.Generator,
    canvas: Byte,
    *,
    kind: NucleusKind,
    centres: Float,
    angles: Float | None = None,
    scale: float = 1.0,
) -> None:
    """Draw nuclei at ``centres`` (n, 2 as x, y) into a haematoxylin map: rim, chromatin, nucleolus.

    ``angles`` are those of the long axes; None draws them at random. ``scale`` enlarges every nucleus.
    """
    n = len(centres)
    if n == 0:
        return
    radius = scale * kind.radius_px * np.exp(kind.size_spread * rng.standard_normal(n) - kind.size_spread**2)
    stretch = np.sqrt(kind.elongation) * np.exp(0.06 * rng.standard_normal(n))
    if angles is None:
        angles = rng.uniform(0, np.pi, n).astype(np.float32)
    axes = np.stack([radius * stretch, radius / stretch], axis=1).astype(np.float32)
    shapes = outlines(rng, centres, axes=axes, angles=angles, roughness=kind.roughness)
    grey = 255 / FULL_OD * kind.darkness * np.exp(kind.darkness_spread * rng.standard_normal(n))
    inner = shrunk(shapes, 0.78)
    nucleoli = rng.random(n) < kind.nucleolus
    offset = 0.3 * radius[:, None] * rng.uniform(-1, 1, (n, 2))
    spots = shrunk(inner, 0.3) + offset[:, None].astype(np.float32)
    bodies = [np.rint(s * (1 << _SHIFT)).astype(np.int32) for s in (shapes, inner, spots)]
    rim = np.clip(grey * (1 + 0.5 * kind.vesicular), 0, 255).tolist()
    body = np.clip(grey * (1 - kind.vesicular), 0, 255).tolist()
    for i in range(n):  # each nucleus whole before the next, so that neighbours overlap as cells do
        cv2.fillPoly(canvas, [bodies[0][i]], rim[i], cv2.LINE_AA, _SHIFT)
        cv2.fillPoly(canvas, [bodies[1][i]], body[i], cv2.LINE_AA, _SHIFT)
        if nucleoli[i]:
            cv2.fillPoly(canvas, [bodies[2][i]], rim[i], cv2.LINE_AA, _SHIFT)


def grid_points(rng: np.random.Generator, shape: tuple[int, int], *, step_px: float, jitter: float) -> Float:
    """Return a jittered hexagonal grid over (H, W) in random order, (n, 2) as x, y; ``jitter`` in steps."""
    rows = np.arange(-1, shape[0] / (step_px * 0.866) + 1)
    columns = np.arange(-1, shape[1] / step_px + 1)
    y, x = np.meshgrid(rows * step_px * 0.866, columns * step_px, indexing="ij")
    x[::2] += step_px / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    points += jitter * step_px * rng.standard_normal(points.shape)
    return rng.permutation(points).astype(np.float32)


def at(field: NDArray[T], points: Float) -> NDArray[T]:
    """Return values of a (H, W) field under points (n, 2 as x, y); beyond the edge the nearest pixel counts."""
    x = np.clip(points[:, 0], 0, field.shape[1] - 1).astype(np.intp)
    y = np.clip(points[:, 1], 0, field.shape[0] - 1).astype(np.intp)
    return field[y, x]


def draw_fibres(rng: np.random.Generator, canvas: Byte, *, direction: Float, greys: Float) -> None:
    """Draw wavy fibres that follow a field of directions (radians, (H, W)) into an eosin map.

    ``greys`` (n,) are the values of the n fibres; a low one makes a cleft.
    """
    count = len(greys)
    height, width = direction.shape
    point = (rng.random((count, 2)) * [width, height]).astype(np.float32)
    wave = rng.uniform(0, 2 * np.pi, count)
    path = [point]
    for step in range(26):
        angle = at(direction, point) + 0.3 * np.sin(wave + 0.7 * step)
        point = point + 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        path.append(point)
    lines = np.rint(np.stack(path, axis=1) * (1 << _SHIFT)).astype(np.int32)
    widths = rng.choice([1, 1, 2, 2, 3, 4], count).tolist()
    for line, grey, thickness in zip(lines, greys.tolist(), widths, strict=True):
        cv2.polylines(canvas, [line], False, grey, thickness, cv2.LINE_AA, _SHIFT)
