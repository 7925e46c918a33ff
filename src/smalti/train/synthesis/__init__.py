"""Images that are drawn from the training cases of a fold, to teach beside them; nothing that was drawn is scored."""

from . import paste  # noqa: F401 - importing it registers the way
from .drawers import DRAWERS, Drawn, Material
from .looking import DrawnImages, check_synthesis, look_at_drawn

__all__ = ["DRAWERS", "Drawn", "DrawnImages", "Material", "check_synthesis", "look_at_drawn"]
