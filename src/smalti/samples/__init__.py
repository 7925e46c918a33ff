"""Tiles into training samples: folds, batches, augmentation, mixing, stain."""

from . import storms  # noqa: F401 - registers its augmentations
from .augment import (
    AUGMENTATIONS,
    Transform,
    apply_transform,
    identity_transform,
    normalise_tiles,
    view_transform,
)
from .batches import BagBatches, Batch, draw_images, find_chances, iterate_ahead
from .mixing import Pairing, measure_step, mix_targets, pair_bags, split_tiles
from .pixels import mix_pixels
from .splits import choose_sealed, count_folds, restrict_splits, split_cases, tabulate_folds
from .stain import StainMaps, apply_map, combine_frames, fit_maps, match_axes, solve_map

__all__ = [
    "AUGMENTATIONS",
    "BagBatches",
    "Batch",
    "Pairing",
    "StainMaps",
    "Transform",
    "apply_map",
    "apply_transform",
    "choose_sealed",
    "combine_frames",
    "count_folds",
    "draw_images",
    "find_chances",
    "fit_maps",
    "identity_transform",
    "iterate_ahead",
    "match_axes",
    "measure_step",
    "mix_pixels",
    "mix_targets",
    "normalise_tiles",
    "pair_bags",
    "restrict_splits",
    "solve_map",
    "split_cases",
    "split_tiles",
    "tabulate_folds",
    "view_transform",
]
