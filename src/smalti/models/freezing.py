"""Gradual unfreezing: which part of a backbone learns at a stage, and at what rate.

Layer groups are timm's own (``group_matcher``), ordered from the stem to the last block. Stage s of S opens the upper
s/S of them (Howard & Ruder 2018); the rate falls by ``layer_decay`` from one group to the one below it. The slice of
the stem that takes the mask begins at zero like a head, so it learns from the first stage on, at the head's rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .mask.stem import list_slices
from .norms import Norm


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share a rate.

    Attributes:
        depth: 0 is the head, 1 the last group of the backbone, and so on down to the stem.
        lr_scale: rate relative to the head's.
        decays: false for biases and norm parameters, which take no weight decay.
    """

    parameters: tuple[nn.Parameter, ...]
    depth: int
    lr_scale: float
    decays: bool


def group_by_depth(backbone: nn.Module) -> list[list[str]]:
    """Names of the parameters of each layer group, the last group first; without the slice that takes the mask."""
    describe: Any = backbone.group_matcher  # a method of every timm network
    groups = group_parameters(backbone, describe(coarse=False))
    slices = list_slices(backbone)
    return [[name for name in groups[key] if name not in slices] for key in sorted(groups, reverse=True)]


def build_groups(backbone: nn.Module, head: nn.Module, *, layer_decay: float) -> list[ParameterGroup]:
    """All parameters of backbone and head with their relative rates."""
    named = dict(backbone.named_parameters())
    levels = [[*head.named_parameters(), *((name, named[name]) for name in sorted(list_slices(backbone)))]]
    levels += [[(name, named[name]) for name in names] for names in group_by_depth(backbone)]
    return [
        ParameterGroup(tuple(chosen), depth, layer_decay**depth, decays)
        for depth, level in enumerate(levels)
        for decays in (True, False)
        if (chosen := [p for _, p in level if (p.ndim > 1) is decays])
    ]


def open_stage(backbone: nn.Module, *, stage: int, stages: int, norm: Norm) -> int:
    """Let the upper ``stage / stages`` of the layer groups learn and freeze the rest; the number of open groups.

    Frozen groups are in eval mode. Where ``norm`` is not live every batch normalisation keeps its stored statistics;
    where it does not learn, its scale and shift too.
    """
    groups = group_by_depth(backbone)
    opened = max(1, round(len(groups) * stage / stages)) if stage > 0 else 0
    open_names = {name for names in groups[:opened] for name in names} | list_slices(backbone)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in open_names)
    backbone.train(opened > 0)
    for module in backbone.modules():
        if isinstance(module, _BatchNorm) and not norm.learns:
            module.requires_grad_(False)
    for module in backbone.modules():
        inside = [p.requires_grad for p in module.parameters()]
        closed = bool(inside) and not any(inside)  # its dropout and statistics rest too
        if closed or (not norm.live and isinstance(module, _BatchNorm)):
            module.eval()
    return opened
