"""Learn: phases, the one loop, folds."""

from .checkpoints import read_checkpoint
from .devices import Device, choose_device, describe_cuda, make_fabric
from .experiment import Experiment, FrozenFeatures, check_parts, freeze
from .features import Features, GivenFeatures, HeldFeatures, compute_features, embed_view, time_pass
from .folds import load_network, tabulate_inner, train_folds, train_split
from .forward import read_chunks, score_bags
from .heads import HEADS, fit_heat
from .maskfeatures import MaskFeatureSource
from .optim.losses import LOSSES, weigh_classes
from .optim.optimisers import list_optimisers, settle_train
from .optim.schedules import SCHEDULES
from .policies.searches import SEARCHES
from .pretraining import PRETRAININGS
from .ranks.spreading import check_spread
from .synthesis import DRAWERS
from .tasks.bags import read_bags

__all__ = [
    "DRAWERS", "HEADS", "LOSSES", "PRETRAININGS", "SCHEDULES", "SEARCHES", "Device", "Experiment", "Features",
    "FrozenFeatures", "GivenFeatures", "HeldFeatures", "MaskFeatureSource", "check_parts", "check_spread",
    "choose_device", "compute_features", "describe_cuda", "embed_view", "fit_heat", "freeze", "list_optimisers",
    "load_network", "make_fabric", "read_bags", "read_checkpoint", "read_chunks", "score_bags", "settle_train",
    "tabulate_inner", "time_pass", "train_folds", "train_split", "weigh_classes",
]  # fmt: skip
