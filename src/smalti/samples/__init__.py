"""Tiles into training samples: folds, batches, augmentation."""

from .augment import AUGMENTATIONS, Transform, apply_transform, normalise_tiles, view_transform
from .batches import BagBatches, Batch, iterate_ahead
from .splits import count_folds, split_cases, tabulate_folds

__all__ = [
    "AUGMENTATIONS",
    "BagBatches",
    "Batch",
    "Transform",
    "apply_transform",
    "count_folds",
    "iterate_ahead",
    "normalise_tiles",
    "split_cases",
    "tabulate_folds",
    "view_transform",
]
