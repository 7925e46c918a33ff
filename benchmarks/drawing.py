"""Large folders of plain drawn images, quickly; what they show does not matter here, their size does."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np


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
