"""Drawn tissue in stains of optical density, what is no tissue, and cohorts of such pictures."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from smalti.audit.measure.digest import digest_sample
from smalti.types import Cohort, Sample

Picture = NDArray[np.uint8]
DIGESTS = functools.cache(digest_sample)  # most tests look at the same tissue again
# Unit vectors of optical density, Ruifrok and Johnston 2001.
HAEMATOXYLIN, EOSIN, DAB = (
    np.array([0.650, 0.704, 0.286]),
    np.array([0.072, 0.990, 0.105]),
    np.array([0.268, 0.570, 0.776]),
)


def draw_tissue(
    seed: int, *, stains: tuple[NDArray[np.float64], ...] = (HAEMATOXYLIN, EOSIN), amount: float = 1.0, side: int = 256
) -> Picture:
    """Nuclei in wavy stroma, mixed from two stains in optical density, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    stroma = 0.35 + 0.08 * cv2.resize(rng.normal(0, 1, (9, 9)).astype(np.float32), (side, side))
    nuclei = np.zeros((side, side), np.float32)
    for x, y in rng.integers(0, side, (side, 2)).tolist():
        cv2.circle(nuclei, (x, y), int(rng.integers(2, 6)), float(rng.uniform(0.6, 1.2)), -1)
    nuclei = cv2.GaussianBlur(nuclei, (0, 0), 0.7)
    density = amount * (nuclei[..., None] * stains[0] + np.clip(stroma, 0, None)[..., None] * stains[1])
    return np.clip(245 * np.exp(-density) + rng.normal(0, 2, density.shape), 0, 255).astype(np.uint8)


def draw_photograph(seed: int, *, grey: bool) -> Picture:
    """A scene with a spectrum like that of nature (amplitude over frequency), warm or without colour, with noise."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    spectrum = np.fft.fft2(rng.normal(0, 1, (256, 256))) / (frequency + 0.004)
    scene = np.fft.ifft2(spectrum).real
    light = 120 + 50 * scene / scene.std()
    colour = (1, 1, 1) if grey else (1.15, 0.95, 0.6)
    return np.clip(light[..., None] * colour + rng.normal(0, 2, (256, 256, 3)), 0, 255).astype(np.uint8)


def write_cohort(root: Path, pictures: dict[str, Picture], *, beside: tuple[Sample, ...] = ()) -> Cohort:
    samples = list(beside)
    for name, picture in pictures.items():
        cv2.imwrite(str(root / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        samples.append(Sample(name, root / name, None, "a", name, name))
    return Cohort(root, "table", tuple(samples), (), ("a",))


def write_tissues(root: Path) -> tuple[Sample, ...]:
    """Thirty images of one laboratory, from pale to dark."""
    pictures = {f"tissue{i:02}.png": draw_tissue(i, amount=0.7 + 0.02 * i) for i in range(30)}
    return write_cohort(root, pictures).labelled
