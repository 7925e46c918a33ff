"""Parts of a network: backbones, poolers, heads, freezing."""

from .backbones import Backbone, build_backbone, describe_missing_weights, find_weights, hash_weights, read_input_px
from .freezing import ParameterGroup, build_groups, open_stage
from .network import Head, Network
from .poolers import POOLERS, Pooler

__all__ = [
    "POOLERS",
    "Backbone",
    "Head",
    "Network",
    "ParameterGroup",
    "Pooler",
    "build_backbone",
    "build_groups",
    "describe_missing_weights",
    "find_weights",
    "hash_weights",
    "open_stage",
    "read_input_px",
]
