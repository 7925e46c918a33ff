"""Cut images into tiles: a grid, its mask coverage, the choice of tiles, their stain, and where they are kept."""

from .field import note_sizes, settle_field
from .grid import make_grid, measure_coverage, select_tiles
from .repair import preview_repair, read_sample
from .shape import SHAPE_NAMES
from .stain import STAINS
from .staining import KINDS
from .store import TileStore, build_store
from .tissue import find_tissue

__all__ = [
    "KINDS",
    "SHAPE_NAMES",
    "STAINS",
    "TileStore",
    "build_store",
    "find_tissue",
    "make_grid",
    "measure_coverage",
    "note_sizes",
    "preview_repair",
    "read_sample",
    "select_tiles",
    "settle_field",
]
