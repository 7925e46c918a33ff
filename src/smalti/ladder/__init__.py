"""Recipes in order, each changing one thing, compared rung by rung."""

from .climb import climb_ladder
from .definition import Ladder, Rung, Step, list_ladders, load_ladder, resolve_ladder
from .table import describe_ladder

__all__ = ["Ladder", "Rung", "Step", "climb_ladder", "describe_ladder", "list_ladders", "load_ladder", "resolve_ladder"]
