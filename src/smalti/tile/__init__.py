"""Cut images into tiles: a grid, its mask coverage, the choice of tiles, their stain, and where they are kept."""

from .cut import cut_bag
from .extent import note_sizes, settle_field
from .given import GivenStore, count_tiles, hold_array, hold_given, open_given
from .grid import make_grid, measure_coverage, select_tiles
from .held import frame_array, hold_scene
from .repair import read_sample
from .scene import Scene, open_scene
from .shape import SHAPE_NAMES
from .store import TileStore, build_store, is_large, open_store

__all__ = [
    "SHAPE_NAMES", "GivenStore", "Scene", "TileStore", "build_store", "count_tiles", "cut_bag", "frame_array",
    "hold_array", "hold_given", "hold_scene", "is_large", "make_grid", "measure_coverage", "note_sizes", "open_given",
    "open_scene", "open_store", "read_sample", "select_tiles", "settle_field",
]  # fmt: skip
