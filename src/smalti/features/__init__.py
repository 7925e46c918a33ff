"""Open any supported file of features; nothing else in smalti opens such files, and nothing here knows pictures.

A file holds the bag of one slide: ``features`` (N, D), one row a tile, with ``coords`` (N, 2) or without. Tools write
them under many names; see `smalti.features.opening`. A table of features is one row a slide, or one row a tile.
"""

from .opening import FEATURE_SUFFIXES, FeatureFile, is_feature_name, open_features
from .table_numbers import FeatureTable, Head, read_cells, read_feature_table, read_head

__all__ = [
    "FEATURE_SUFFIXES", "FeatureFile", "FeatureTable", "Head", "is_feature_name", "open_features", "read_cells",
    "read_feature_table", "read_head",
]  # fmt: skip
