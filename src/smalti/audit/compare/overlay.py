"""One image laid over another: by the points that both have, then by looking at every part of the overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..measure.keypoints import DESCRIPTOR, Texture, flatten_light

Matches = tuple[NDArray[np.intp], NDArray[np.intp]]

LEAST_LIKENESS = 0.7  # cosine of two descriptors; unrelated nearest neighbours lie about here
LEAST_MATCHES = 4
# Terms of one product of matrices: larger ones are shared out to threads, which on a busy machine wait fifty times as
# long as the product takes.
PRODUCT_TERMS, LEAST_ROWS = 2**18, 4
STRONGEST_SCALE = 2.5  # a crop to 40 % of the side; smaller ones keep too few points
# A match alone fixes a similarity; its angle is known to some 10 degrees, which moves far points by several percent.
REACH, REACH_RAD, REACH_LOG = 0.06, 0.4, 0.5
TRIED = 5  # similarities with the most consent
STEPS = ((0.04, "similarity"), (0.025, "similarity"), (0.02, "affine"), (0.015, "affine"))  # tolerances, long sides
AFFINE_MATCHES = 8
BLOCKS = 6
BLOCK_SIGMA_PX = 5.0
LEAST_DEVIATION = 0.25  # of flattened light; empty glass resembles empty glass
LEAST_BLOCKS = 4
# Share of the overlap that paint, or corners filled after turning, may have replaced. Where few points agree it must be
# small: charts of one layout have a dozen points and three of five blocks in common.
MANY_MATCHES = 30
DAMAGED_FRAC, LITTLE_DAMAGED_FRAC = 0.6, 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """How the second image lies on the first.

    Attributes:
        matches: points of both that agree on the place.
        matrix: (2, 3) takes points of the second to the first, in longer sides of each.
        correlation: of the flattened lightness, which all blocks of the overlap but the damaged ones reach.
        overlap_frac: share of the first and of the second that the other shows.
    """

    matches: int
    matrix: NDArray[np.float64]
    correlation: float
    overlap_frac: tuple[float, float]


def overlay_textures(
    first: Texture, second: Texture, *, least_matches: int, matches: Matches | None = None
) -> Overlay | None:
    """Lay the second over the first: turn, rescale and stretch it; None where too few points agree.

    ``matches`` are those of `match_points`, where they are already known.
    """
    if matches is None:
        (matches,) = match_points([(first, second)])
    fitted = _fit(first, second, matches, least_matches=least_matches)
    if fitted is None or fitted[0] < least_matches:
        return None
    count, matrix = fitted
    # The lightness of the second in the pixels of the first, and where it lies.
    (height, width), (rows, cols) = first.light.shape, second.light.shape
    step = second.extent / (cols, rows)  # long sides a pixel, of the second
    unit = first.extent / (width, height)
    linear = matrix[:, :2] * step / unit[:, None]
    # Pixel centres lie half a pixel inside.
    pixels = np.c_[linear, (matrix[:, :2] @ (step / 2) + matrix[:, 2]) / unit - 0.5]
    soft = _soften(second.light, 1 / float(np.sqrt(abs(np.linalg.det(linear)))))
    laid = cv2.warpAffine(soft, pixels, (width, height), borderMode=cv2.BORDER_REFLECT)
    ones = np.ones((rows, cols), np.uint8)
    covered = np.asarray(cv2.warpAffine(ones, pixels, (width, height), flags=cv2.INTER_NEAREST) > 0)
    scale = float(np.sqrt(np.linalg.det(matrix[:, :2])))
    # Correlations of the blocks in which both lightnesses have texture.
    ours, theirs = (flatten_light(light, sigma_px=BLOCK_SIGMA_PX) for light in (_soften(first.light, scale), laid))
    values = []
    for down in np.array_split(np.arange(height), BLOCKS):
        for across in np.array_split(np.arange(width), BLOCKS):
            block = np.ix_(down, across)
            inside = covered[block]
            a, b = ours[block][inside], theirs[block][inside]
            if 2 * inside.sum() < inside.size or max(a.std(), b.std()) < LEAST_DEVIATION:
                continue
            a, b = a - a.mean(), b - b.mean()
            values.append(float((a @ b) / np.sqrt((a @ a) * (b @ b) + 1e-6)))
    damaged_frac = DAMAGED_FRAC if count >= MANY_MATCHES else LITTLE_DAMAGED_FRAC
    correlation = float(np.quantile(values, damaged_frac)) if len(values) >= LEAST_BLOCKS else -1.0
    area = float(covered.mean() * np.prod(first.extent))
    overlap_frac = (float(covered.mean()), min(1.0, area / (scale**2 * float(np.prod(second.extent)))))
    return Overlay(count, matrix, correlation, overlap_frac)


def root_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return RootSIFT (Arandjelovic & Zisserman 2012): unit rows whose product is the Bhattacharyya coefficient."""
    rows = np.sqrt(descriptors.astype(np.float32))
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6), dtype=np.float32)


def match_points(pairs: Sequence[tuple[Texture, Texture]]) -> list[Matches]:
    """Return for each pair the indices of points of first and second that are alike and each other's nearest.

    Many pairs are compared at a time, because pairs of small images cost less than a call.
    """
    most = max(len(texture.points) for pair in pairs for texture in pair)
    rows = max(LEAST_ROWS, PRODUCT_TERMS // (DESCRIPTOR * max(most, 1)) // LEAST_ROWS * LEAST_ROWS)
    points = -(-max(most, 1) // rows) * rows
    stacked = np.zeros((len(pairs), 2, points, DESCRIPTOR), np.uint8)
    for row, pair in zip(stacked, pairs, strict=True):
        for part, texture in zip(row, pair, strict=True):
            part[: len(texture.points)] = texture.descriptors
    unit = root_descriptors(stacked)
    blocks, others = unit[:, 0].reshape(len(pairs), -1, rows, DESCRIPTOR), unit[:, 1].transpose(0, 2, 1)
    likeness = (blocks @ others[:, None]).reshape(len(pairs), points, points)
    nearest = likeness.argmax(axis=2)  # (pairs, points)
    back = np.take_along_axis(likeness.argmax(axis=1), nearest, axis=1)
    alike = np.take_along_axis(likeness, nearest[..., None], axis=2)[..., 0] > LEAST_LIKENESS
    kept = [np.flatnonzero(row) for row in (back == np.arange(points)) & alike]
    return [(mine, nearest[pair, mine]) for pair, mine in enumerate(kept)]


def _fit(
    first: Texture, second: Texture, matches: Matches, *, least_matches: int
) -> tuple[int, NDArray[np.float64]] | None:
    """Return the transformation that most matches agree on, and their number; None for too few.

    Each match proposes one, so nothing is drawn at random.
    """
    i, j = matches
    ratio = np.log(first.sizes[i] / second.sizes[j])
    plausible = np.abs(ratio) < np.log(STRONGEST_SCALE)
    i, j, ratio = i[plausible], j[plausible], ratio[plausible]
    if len(i) < max(least_matches, LEAST_MATCHES):
        return None
    turn = first.angles[i] - second.angles[j]
    target, source = (p.astype(np.float64) @ (1, 1j) for p in (first.points[i], second.points[j]))
    factor = np.exp(ratio + 1j * turn)
    shift = target - factor * source
    near = np.abs(factor[:, None] * source + shift[:, None] - target) < REACH
    near &= np.abs(np.angle(np.exp(1j * (turn[:, None] - turn)))) < REACH_RAD
    near &= np.abs(ratio[:, None] - ratio) < REACH_LOG
    best: tuple[int, NDArray[np.float64]] | None = None
    for row in np.argsort(-near.sum(axis=1), kind="stable")[:TRIED]:
        refined = _refine(first.points[i].astype(np.float64), second.points[j].astype(np.float64), near[row])
        if refined is not None and (best is None or refined[0] > best[0]):
            best = refined
    return best


def _refine(
    target: NDArray[np.float64], source: NDArray[np.float64], agree: NDArray[np.bool_]
) -> tuple[int, NDArray[np.float64]] | None:
    """Fit, keep the points that agree, and fit again with smaller tolerances."""
    matrix = None
    for tolerance, model in STEPS:
        count = int(agree.sum())
        if count < LEAST_MATCHES:
            return None
        p, q = target[agree], source[agree]
        if model == "affine" and count >= AFFINE_MATCHES:
            matrix = np.asarray(np.linalg.lstsq(np.c_[q, np.ones(len(q))], p, rcond=None)[0].T)
        else:
            # A similarity by least squares, in the complex plane.
            onto, at = p @ (1, 1j), q @ (1, 1j)
            away = at - at.mean()
            factor = (np.conj(away) * (onto - onto.mean())).sum() / max(float((np.abs(away) ** 2).sum()), 1e-12)
            shift = onto.mean() - factor * at.mean()
            matrix = np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])
        agree = np.linalg.norm(source @ matrix[:, :2].T + matrix[:, 2] - target, axis=1) < tolerance
    if matrix is None or not STRONGEST_SCALE**-2 < np.linalg.det(matrix[:, :2]) < STRONGEST_SCALE**2:
        return None
    return int(agree.sum()), matrix


def _soften(light: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Blur the sharper image, over which the other is enlarged by ``scale``."""
    if scale < 1.1:
        return light
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 0.5 * float(np.sqrt(scale**2 - 1))), dtype=np.uint8)
