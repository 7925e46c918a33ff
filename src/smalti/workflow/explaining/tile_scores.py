"""What one explained bag of features leaves in the run folder: a table of its tiles, and a file for QuPath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...explain import Measured, find_boxes, measure_map
from ...records.layout import HEATMAP_OUTLINES, HEATMAP_TABLE, name_heatmap
from ...store import write_atomic, write_table
from ...tile import GivenStore
from .heatmaps import MAP, describe_tiles

if TYPE_CHECKING:
    from ...explain.explanation import Explanation


def write_tile_scores(
    folder: Path, explanation: Explanation, store: GivenStore, *, classes: tuple[str, ...]
) -> dict[str, Measured]:
    """Write ``IMAGE.csv``, one row a tile, and ``IMAGE.geojson`` where the places are known in pixels.

    Returns:
        The measures of the map, by name.
    """
    from ...explain import make_collection

    image, bag = explanation.question.sample.image, store.position(explanation.question.sample.image)
    boxes, file = find_boxes(store, bag), store.files[bag]
    placed = file is not None and bool(file.unit)
    numbers = describe_tiles(explanation, classes)
    about = {"tile": np.arange(len(boxes))} | ({"x": boxes[:, 1], "y": boxes[:, 0]} if placed else {})
    write_table(folder / name_heatmap(image, HEATMAP_TABLE), pd.DataFrame(about | numbers))
    outlines = folder / name_heatmap(image, HEATMAP_OUTLINES)
    outlines.unlink(missing_ok=True)
    per_unit = None if file is None or not placed else 1.0 if file.unit == "px" else file.mpp and 1 / file.mpp
    if per_unit:
        boxes = boxes * per_unit
        height, width = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        names = [classes[i] for i in explanation.alone.argmax(axis=1)]
        size_px = (int(np.ceil(height)), int(np.ceil(width)))
        found = make_collection(boxes, numbers, size_px=size_px, names=names, classes=classes)
        write_atomic(outlines, json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")
    curves = (explanation.deletion[:, 0], explanation.insertion[:, 0], explanation.random)
    mean = np.stack([curve.mean(axis=0) for curve in curves])
    shares = (float("nan"), float("nan"))
    return {MAP: measure_map(explanation.values, explanation.kept, mean, shares=shares)}
