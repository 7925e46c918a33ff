"""Where networks looked, and whether that can be trusted; `smalti.explain.explanation`, which needs torch, is apart."""

from .faithfulness import GRID, Measured, measure_map, measure_ratio, summarise_maps
from .geojson import make_collection
from .heatmap import choose_scale, find_boxes, share_inside, shrink_size, stitch_tiles

__all__ = [
    "GRID", "Measured", "choose_scale", "find_boxes", "make_collection", "measure_map", "measure_ratio", "share_inside",
    "shrink_size", "stitch_tiles", "summarise_maps",
]  # fmt: skip
