"""Tiles into training samples: folds, batches, augmentation, stain."""

from .augment import AUGMENTATIONS, Transform, apply_transform, normalise_tiles, view_transform
from .batches import BagBatches, Batch, iterate_ahead
from .splits import choose_sealed, count_folds, restrict_splits, split_cases, tabulate_folds
from .stain import StainMaps, apply_map, combine_frames, fit_maps, match_axes, solve_map

__all__ = [
    "AUGMENTATIONS",
    "BagBatches",
    "Batch",
    "StainMaps",
    "Transform",
    "apply_map",
    "apply_transform",
    "choose_sealed",
    "combine_frames",
    "count_folds",
    "fit_maps",
    "iterate_ahead",
    "match_axes",
    "normalise_tiles",
    "restrict_splits",
    "solve_map",
    "split_cases",
    "tabulate_folds",
    "view_transform",
]
