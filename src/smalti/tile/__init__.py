"""Cut images into tiles: a grid, its mask coverage, the choice of tiles, and the store they are kept in."""

from .grid import make_grid, measure_coverage, select_tiles
from .repair import preview_repair, read_sample
from .shape import SHAPE_NAMES
from .store import TileStore, build_store
from .tissue import find_tissue

__all__ = [
    "SHAPE_NAMES",
    "TileStore",
    "build_store",
    "find_tissue",
    "make_grid",
    "measure_coverage",
    "preview_repair",
    "read_sample",
    "select_tiles",
]
