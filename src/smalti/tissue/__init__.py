"""Light and tissue, defined once: optical density, glass, stains, sharpness."""

from .foreground import find_tissue
from .frames import STAINS
from .stainable import KINDS

__all__ = ["KINDS", "STAINS", "find_tissue"]
