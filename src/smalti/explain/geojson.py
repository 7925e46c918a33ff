"""Tiles with their values as GeoJSON, in the dialect that QuPath reads (0.4 and later).

Coordinates are (x, y) in pixels of the full-resolution image, its upper left corner at (0, 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe & Ito 2008: told apart with any colour vision.
CLASS_COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66),
)  # fmt: skip


def make_collection(
    boxes: NDArray[np.float64],
    measurements: Mapping[str, NDArray[np.float32]],
    *,
    size_px: tuple[int, int],
    names: Sequence[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """A FeatureCollection with one detection a tile, cut off at the border of the image.

    Args:
        boxes: (N, 4) row, column, height, width.
        measurements: name -> (N,) values.
        size_px: (height_px, width_px) of the image.
        names: (N,) class of each tile.
        classes: all classes, which decide the colours.
    """
    colours = {name: CLASS_COLOURS[i % len(CLASS_COLOURS)] for i, name in enumerate(classes)}
    features = []
    for number, (row, col, tall, wide) in enumerate(boxes.tolist()):
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + tall, size_px[0]), min(col + wide, size_px[1])
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        properties = {
            "objectType": "detection",
            "name": f"tile {number}",
            "classification": {"name": names[number], "color": list(colours[names[number]])},
            "measurements": {name: round(float(values[number]), 6) for name, values in measurements.items()},
        }
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}
