"""Tiles into training samples: folds, batches, augmentation."""

from .augment import AUGMENTATIONS, Transform, apply_transform, normalise_tiles, view_transform
from .batches import BagBatches, Batch, iterate_ahead
from .splits import choose_sealed, count_folds, restrict_splits, split_cases, tabulate_folds

__all__ = [
    "AUGMENTATIONS",
    "BagBatches",
    "Batch",
    "Transform",
    "apply_transform",
    "choose_sealed",
    "count_folds",
    "iterate_ahead",
    "normalise_tiles",
    "restrict_splits",
    "split_cases",
    "tabulate_folds",
    "view_transform",
]
