"""Backbones that are not networks: numbers that describe a tile by hand, of its colours, its texture, its nuclei."""

from . import colour, nuclei, texture  # noqa: F401 - importing them registers the descriptions
from .description import DESCRIPTIONS, PREFIX, Described, Description, build_described, is_described

__all__ = ["DESCRIPTIONS", "PREFIX", "Described", "Description", "build_described", "is_described"]
