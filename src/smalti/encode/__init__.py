"""Send the tiles of slides through an encoder once, and keep the features as files that any tool reads."""

from .slides_folder import EncodedSlides, encode_folder
from .tiling import TileRules

__all__ = ["EncodedSlides", "TileRules", "encode_folder"]
