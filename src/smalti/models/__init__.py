"""Parts of a network: backbones (and descriptions in their place), poolers, fusions, heads, freezing."""

from .backbones import (
    Backbone,
    build_backbone,
    describe_missing_weights,
    find_weights,
    hash_weights,
    read_input_px,
)
from .described import DESCRIPTIONS, Description, build_described, is_described
from .freezing import ParameterGroup, build_groups, open_stage
from .maps import UpperPart, cut_backbone
from .mask.branch import MASK_WIDTH, TILE_WIDTH, MaskBranch, MaskFeatures
from .mask.fusion import FUSIONS, Fusion
from .mask.stem import MaskStem, add_mask_channel
from .network import BagReader, Head, Network
from .norms import NORMS, Norm, choose_norm
from .poolers import attention, clam, dsmil, settransformer, transmil  # noqa: F401 - importing them registers the poolers
from .poolers.attention import AdditivePooler, LearnedPooler
from .poolers.pooler import POOLERS, Pooled, Pooler, keeps_single
from .scale import fit_scale

__all__ = [
    "DESCRIPTIONS", "FUSIONS", "MASK_WIDTH", "NORMS", "POOLERS", "TILE_WIDTH", "AdditivePooler", "Backbone",
    "BagReader", "Description", "Fusion", "Head", "LearnedPooler", "MaskBranch", "MaskFeatures", "MaskStem", "Network",
    "Norm", "ParameterGroup", "Pooled", "Pooler", "UpperPart", "add_mask_channel", "build_backbone", "build_described",
    "build_groups", "choose_norm", "cut_backbone", "describe_missing_weights", "find_weights", "fit_scale",
    "hash_weights",
    "is_described", "keeps_single", "open_stage", "read_input_px",
]  # fmt: skip
