"""Recipes in order, each changing one thing, compared rung by rung."""

from .definition import Ladder, Rung, Step, load_ladder, resolve_ladder
from .runner import run_ladder
from .tabulating import describe_ladder

__all__ = ["Ladder", "Rung", "Step", "describe_ladder", "load_ladder", "resolve_ladder", "run_ladder"]
