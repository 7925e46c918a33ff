"""Large folders of plain drawn images, quickly; what they show does not matter here, their size does."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def draw_folder(folder: Path, *, count: int, side_px: int) -> Path:
    """A table cohort: ``count`` square images of two classes and their masks (a disc), one image per case."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    names = [f"i{i:05d}.png" for i in range(count)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: _draw(folder, names[i], i, side_px), range(count)))
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "label"])
        writer.writerows([f"images/{n}", f"masks/{n}", "ab"[i % 2]] for i, n in enumerate(names))
    return folder


def _draw(folder: Path, name: str, index: int, side_px: int) -> None:
    rng = np.random.default_rng(index)
    coarse = rng.integers(120, 255, (side_px // (8 if index % 2 else 16), side_px // 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    image = cv2.add(image, rng.integers(0, 12, image.shape, dtype=np.uint8))
    mask = np.zeros((side_px, side_px), np.uint8)
    cv2.circle(mask, (side_px // 2, side_px // 2), side_px // 2, 255, -1)
    cv2.imwrite(str(folder / "images" / name), image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    cv2.imwrite(str(folder / "masks" / name), mask)


def draw_tissue(seed: int, *, side_px: int) -> NDArray[np.uint8]:
    """A square field of nuclei on uneven stroma, (H, W, 3) RGB; as many points to be found again as in a real one."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (12, 12)).astype(np.float32)
    uneven = cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)
    eosin = np.clip(0.5 + 0.15 * uneven, 0.1, 0.9).astype(np.float32)
    haematoxylin = np.zeros((side_px, side_px), np.float32)
    for _ in range(900):
        centre, axes = rng.integers(side_px, size=2).tolist(), rng.integers(side_px // 100, side_px // 45, 2).tolist()
        cv2.ellipse(haematoxylin, centre, axes, float(rng.uniform(0, 180)), 0, 360, rng.uniform(0.6, 1.1), -1)
    density = haematoxylin[..., None] * (0.65, 0.70, 0.29) + eosin[..., None] * (0.27, 0.80, 0.40)
    return (250 * np.exp(-density) + rng.normal(0, 2, density.shape)).clip(0, 255).astype(np.uint8)


def draw_class_folders(folder: Path, *, count: int, side_px: int) -> Path:
    """``count`` square pieces of drawn fields of 1,000 px in folders of two classes, all of a field in one."""
    field_px = 1000
    across = field_px // side_px
    for name in "ab":
        (folder / name).mkdir(parents=True)
    for start in range(0, count, across**2):
        number = start // across**2
        field = draw_tissue(number, side_px=field_px)[..., ::-1]  # OpenCV writes BGR
        for i in range(start, min(start + across**2, count)):
            row, col = (side_px * n for n in divmod(i - start, across))
            piece = field[row : row + side_px, col : col + side_px]
            cv2.imwrite(str(folder / "ab"[number % 2] / f"{i:05d}.png"), piece)
    return folder
