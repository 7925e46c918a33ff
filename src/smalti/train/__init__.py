"""Learn: phases, the one loop, folds."""

from .bags import read_bags
from .checkpoints import read_checkpoint
from .devices import Device, choose_device, describe_cuda, make_fabric
from .experiment import Experiment, Frozen, check_parts, freeze
from .features import Features, compute_features, time_pass
from .folds import find_dynamics, load_network, tabulate_inner, train_folds, train_split
from .forward import read_chunks, score_bags
from .guides import GuideSource
from .heads import HEADS, fit_heat
from .optim.losses import LOSSES
from .optim.optimisers import list_optimisers, settle_train
from .optim.schedules import SCHEDULES
from .policies.search import SEARCHES

__all__ = [
    "HEADS",
    "LOSSES",
    "SCHEDULES",
    "SEARCHES",
    "Device",
    "Experiment",
    "Features",
    "Frozen",
    "GuideSource",
    "check_parts",
    "choose_device",
    "compute_features",
    "describe_cuda",
    "find_dynamics",
    "fit_heat",
    "freeze",
    "list_optimisers",
    "load_network",
    "make_fabric",
    "read_bags",
    "read_checkpoint",
    "read_chunks",
    "score_bags",
    "settle_train",
    "tabulate_inner",
    "time_pass",
    "train_folds",
    "train_split",
]
