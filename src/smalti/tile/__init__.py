"""Cut images into tiles: a grid, its mask coverage, the choice of tiles, their stain, and where they are kept."""

from .extent import note_sizes, settle_field
from .grid import make_grid, measure_coverage, select_tiles
from .repair import read_sample
from .shape import SHAPE_NAMES
from .store import TileStore, build_store

__all__ = [
    "SHAPE_NAMES", "TileStore", "build_store", "make_grid", "measure_coverage", "note_sizes", "read_sample",
    "select_tiles", "settle_field",
]  # fmt: skip
