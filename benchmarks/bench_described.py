"""CPU milliseconds that each description takes a tile, on one thread, and what scikit-image takes for parts of it.

Run: python benchmarks/bench_described.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from skimage.feature import graycomatrix, local_binary_pattern

from smalti.models import DESCRIPTIONS
from smalti.models.described import texture
from smalti.models.described.channels import Planes

SIDES_PX = (50, 128, 224)
TIMES = 40


def time_least(work: Callable[[], object]) -> float:
    """Least CPU time of `TIMES` calls, milliseconds."""
    least = np.inf
    for _ in range(TIMES):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return 1000 * float(least)


def main() -> None:
    """Describe a drawn tile of each size."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    for side_px in SIDES_PX:
        picture = np.clip(170 + 40 * rng.standard_normal((side_px, side_px, 3)), 0, 255).astype(np.uint8)
        picture = np.ascontiguousarray(cv2.GaussianBlur(picture, (0, 0), 2))
        for entry in DESCRIPTIONS:
            measure = entry.build().measure
            print(f"{side_px} px, {entry.name}: {time_least(lambda m=measure, p=picture: m(Planes(p))):.1f} ms")
    plane = Planes(picture).light
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = {
        "patterns": lambda: texture.count_patterns(plane, 1),
        "patterns, scikit-image": lambda: local_binary_pattern(plane, 8, 1, method="uniform"),
        "pairs": lambda: texture.count_pairs(plane // 16, 1),
        "pairs, scikit-image": lambda: graycomatrix(plane // 16, [1], angles, levels=16),
    }
    for name, work in pairs.items():
        print(f"{SIDES_PX[-1]} px, {name}: {time_least(work):.2f} ms")


if __name__ == "__main__":
    main()
