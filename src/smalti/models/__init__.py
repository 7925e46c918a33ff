"""Parts of a network: backbones (and descriptions in their place), poolers, fusions, heads, freezing."""

from .assembly import (
    OF_BACKBONE,
    assemble_network,
    build_pooler,
    describe_architecture,
    fill_network,
    open_backbone,
    restore_backbone,
)
from .backbones import (
    Backbone,
    build_backbone,
    describe_missing_weights,
    find_weights,
    hash_weights,
    read_input_px,
)
from .described import DESCRIPTIONS, Description, build_described, is_described
from .encoders import pathology, unbuilt  # noqa: F401 - importing them registers the encoders
from .encoders.building import build_encoder, check_weights, name_encoder
from .encoders.encoder import ENCODERS, Encoder, find_encoder
from .freezing import ParameterGroup, build_groups, open_stage
from .maps import UpperPart, cut_backbone
from .mask.branch import MASK_WIDTH, TILE_WIDTH, MaskBranch, MaskFeatures
from .mask.fusion import FUSIONS, Fusion
from .mask.stem import MaskStem, add_mask_channel
from .network import BagReader, Head, Network
from .norms import NORMS, Norm, choose_norm
from .poolers import attention, clam, dsmil, settransformer, transmil  # noqa: F401 - importing them registers the poolers
from .poolers.attention import AdditivePooler, LearnedPooler
from .poolers.in_parts import pool_parts
from .poolers.pooler import POOLERS, Pooled, Pooler, keeps_single, looks_at_places
from .scale import fit_scale
from .transforms import TRANSFORMS, EmbeddingTransform

__all__ = [
    "DESCRIPTIONS", "ENCODERS", "FUSIONS", "MASK_WIDTH", "NORMS", "OF_BACKBONE", "POOLERS", "TILE_WIDTH", "TRANSFORMS",
    "AdditivePooler", "Backbone", "BagReader", "Description", "EmbeddingTransform", "Encoder", "Fusion", "Head",
    "LearnedPooler", "MaskBranch", "MaskFeatures", "MaskStem", "Network", "Norm", "ParameterGroup", "Pooled", "Pooler",
    "UpperPart", "add_mask_channel", "assemble_network", "build_backbone", "build_described", "build_encoder",
    "build_groups", "build_pooler", "check_weights", "choose_norm", "cut_backbone", "describe_architecture",
    "describe_missing_weights", "fill_network", "find_encoder", "find_weights", "fit_scale", "hash_weights",
    "is_described", "keeps_single", "looks_at_places", "name_encoder", "open_backbone", "open_stage", "pool_parts",
    "read_input_px", "restore_backbone",
]  # fmt: skip
