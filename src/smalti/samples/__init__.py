"""Tiles into training samples: folds, batches, augmentation, mixing, stain."""

from .augment import (
    AUGMENTATIONS,
    Augmentation,
    Edit,
    Transform,
    apply_transform,
    identity_transform,
    normalise_tiles,
    view_transform,
)
from .automated import TileAugmentation, run_steps
from .batches import BagBatches, Batch, Share, draw_images, find_chances, iterate_ahead
from .mixing import Pairing, measure_step, mix_targets, pair_bags, split_tiles
from .operations import Operation
from .pixels import mix_pixels
from .policy import (
    OPERATIONS,
    Chain,
    Move,
    Policy,
    Stage,
    describe_policy,
    draw_chain,
    parse_policy,
    read_policy,
    write_policy,
)
from .splits import (
    choose_sealed,
    count_folds,
    deal_cases,
    find_lacking,
    number_sites,
    restrict_splits,
    split_cases,
    split_sites,
    tabulate_folds,
)
from .stain import StainMaps, apply_map, combine_frames, fit_maps, match_axes, solve_map

__all__ = [
    "AUGMENTATIONS", "OPERATIONS", "Augmentation", "BagBatches", "Batch", "Chain", "Edit", "Move", "Operation",
    "Pairing", "Policy", "Share", "Stage", "StainMaps", "TileAugmentation", "Transform", "apply_map", "apply_transform",
    "choose_sealed", "combine_frames", "count_folds", "deal_cases", "describe_policy", "draw_chain", "draw_images",
    "find_chances", "find_lacking", "fit_maps", "identity_transform", "iterate_ahead", "match_axes", "measure_step",
    "mix_pixels", "mix_targets", "normalise_tiles", "number_sites", "pair_bags", "parse_policy", "read_policy",
    "restrict_splits", "run_steps", "solve_map", "split_cases", "split_sites", "split_tiles", "tabulate_folds",
    "view_transform", "write_policy",
]  # fmt: skip
