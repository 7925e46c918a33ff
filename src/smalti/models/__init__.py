"""Parts of a network: backbones, poolers, heads, freezing."""

from . import attention, clam, dsmil, settransformer, transmil  # noqa: F401 - importing them registers the poolers
from .attention import LearnedPooler
from .backbones import Backbone, build_backbone, describe_missing_weights, find_weights, hash_weights, read_input_px
from .freezing import ParameterGroup, build_groups, open_stage
from .network import BagReader, Head, Network
from .norms import NORMS, Norm, choose_norm
from .poolers import POOLERS, Pooled, Pooler

__all__ = [
    "NORMS",
    "POOLERS",
    "Backbone",
    "BagReader",
    "Head",
    "LearnedPooler",
    "Network",
    "Norm",
    "ParameterGroup",
    "Pooled",
    "Pooler",
    "build_backbone",
    "build_groups",
    "choose_norm",
    "describe_missing_weights",
    "find_weights",
    "hash_weights",
    "open_stage",
    "read_input_px",
]
