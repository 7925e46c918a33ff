"""What becomes of a backbone's batch normalisation where batches are small and tissue is not photographs.

A strategy says whether the statistics are those of the batch (``live``) or the stored ones, whether scale and shift
learn, and what takes the place of each layer. The pretrained scale and shift, the activation and the dropout behind
them are carried over. A backbone without batch normalisation is left as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.layers import GroupNormAct
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from .. import recipe
from ..registry import Registry

GROUPS = 32  # Wu & He 2018; fewer where the channels do not divide by it
GHOST_TILES = 8  # of one virtual batch; a bag's share of a step at the default four tiles is half of it
# Wu & He 2018, figure 5: below 16 a batch's own statistics begin to harm.
FEW_TILES = 16
# Tiles of an image resemble each other, so that statistics are as good as there are images, not tiles.
FEW_IMAGES = 32


@dataclass(frozen=True, slots=True)
class Norm:
    """A strategy.

    Attributes:
        live: whether training uses (and updates) the statistics of the batch.
        learns: whether scale and shift learn where their layer group is open.
        convert: gives the backbone its new layers, in place where it can.
        reestimates: whether the stored statistics are measured anew on the training tiles before finetune.
    """

    live: bool = True
    learns: bool = True
    convert: Callable[[nn.Module], nn.Module] | None = None
    reestimates: bool = False


NORMS: Registry[Norm] = Registry("norm")


class _Carried(nn.BatchNorm2d, ABC):
    """Batch normalisation that takes over the parameters, statistics, dropout and activation of another."""

    def __init__(self, old: nn.BatchNorm2d) -> None:
        super().__init__(old.num_features, eps=old.eps, momentum=old.momentum, affine=old.affine)
        self.load_state_dict({name: value for name, value in old.state_dict().items() if name in self.state_dict()})
        self.drop = getattr(old, "drop", nn.Identity())
        self.act = getattr(old, "act", nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return self.act(self.drop(super().forward(x)))
        return self.act(self.drop(self._normalise(x)))

    @abstractmethod
    def _normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W) in training."""


class GhostBatchNorm(_Carried):
    """Statistics of virtual batches of at most ``size`` tiles (Hoffer et al. 2017)."""

    def __init__(self, old: nn.BatchNorm2d, *, size: int) -> None:
        super().__init__(old)
        self.size = size

    def _normalise(self, x: torch.Tensor) -> torch.Tensor:
        parts = x.tensor_split(-(-len(x) // self.size))  # near-equal: a rest of one tile has no statistics
        return torch.cat([nn.BatchNorm2d.forward(self, part) for part in parts])


class BatchRenorm(_Carried):
    """The batch's statistics, corrected towards the stored ones within bounds (Ioffe 2017).

    With ``r`` and ``d`` the bounds 1 and 0 it is batch normalisation; without bounds, training does what evaluation
    does. The gradient does not flow through the correction.
    """

    def __init__(self, old: nn.BatchNorm2d, *, r_max: float, d_max: float) -> None:
        super().__init__(old)
        self.r_max, self.d_max = r_max, d_max

    def _normalise(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        running_mean, running_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        stored = (running_var + self.eps).sqrt()
        with torch.no_grad():
            r = ((variance + self.eps).sqrt() / stored).clamp(1 / self.r_max, self.r_max)
            d = ((mean - running_mean) / stored).clamp(-self.d_max, self.d_max)
            running_mean.lerp_(mean.to(running_mean.dtype), self.momentum or 0.1)
            running_var.lerp_(variance.to(running_var.dtype), self.momentum or 0.1)
        scale = r / (variance + self.eps).sqrt()
        y = (x - mean[:, None, None]) * scale[:, None, None] + d[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class _Standardised(nn.Module):
    """Weights (O, I, h, w) with mean 0 and variance 1 over the inputs of each output (Qiao et al. 2019)."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return (weight - mean) / (variance + 1e-6).sqrt()


def _replace(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    """Give every two-dimensional batch normalisation below ``module`` its successor, in the same mode."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, make(child).train(child.training))
    return module


def _make_group(old: nn.BatchNorm2d, groups: int) -> nn.Module:
    """Return the group normalisation with the scale and shift of ``old``."""
    new = GroupNormAct(old.num_features, num_groups=groups, eps=old.eps, apply_act=False)
    new.load_state_dict({"weight": old.weight, "bias": old.bias})
    new.drop, new.act = getattr(old, "drop", nn.Identity()), getattr(old, "act", nn.Identity())
    return new


def count_groups(channels: int, *, most: int = GROUPS) -> int:
    """Return the largest number of groups up to ``most`` that divides the channels."""
    return next(g for g in range(min(most, channels), 0, -1) if channels % g == 0)


NORMS.add(
    "live",
    Norm(),
    summary="batch normalisation with the statistics of the batch",
    reference="Ioffe & Szegedy 2015",
)
# What the backbone was trained with stays; small batches cannot spoil it.
NORMS.add("frozen_statistics", Norm(live=False), summary="stored statistics; scale and shift learn")
# Statistics of tissue instead of photographs, free of the noise of small batches.
NORMS.add(
    "reestimated",
    Norm(live=False, reestimates=True),
    summary="statistics measured anew on the training tiles, then kept; scale and shift learn",
    reference="Li et al. 2017 (AdaBN)",
)
# Each layer is one fixed affine map.
NORMS.add(
    "frozen",
    Norm(live=False, learns=False),
    summary="stored statistics, scale and shift: nothing of the layer moves",
)


@NORMS.register("group", summary="group normalisation, scale and shift carried over", reference="Wu & He 2018")
def build_group(*, groups: int = GROUPS) -> Norm:
    """At most ``groups`` groups, as many as divide the channels."""
    return Norm(
        convert=lambda m: _replace(m, lambda old: _make_group(old, count_groups(old.num_features, most=groups)))
    )


@NORMS.register(
    "standardised",
    summary="group normalisation, and convolutions before a norm with standardised weights",
    reference="Qiao et al. 2019",
)
def build_standardised(*, groups: int = GROUPS) -> Norm:
    """Convolutions without a bias are those that a norm follows: its shift makes their bias useless."""

    def convert(module: nn.Module) -> nn.Module:
        for child in module.modules():
            if isinstance(child, nn.Conv2d) and child.bias is None:
                parametrize.register_parametrization(child, "weight", _Standardised())
        return _replace(module, lambda old: _make_group(old, count_groups(old.num_features, most=groups)))

    return Norm(convert=convert)


NORMS.add(
    "layer",
    Norm(convert=lambda m: _replace(m, lambda old: _make_group(old, 1))),
    summary="normalisation over all channels of a tile, carried over",
    reference="Ba et al. 2016",
)
# As many groups as channels; takes the colour and contrast of a stain away, and more.
NORMS.add(
    "instance",
    Norm(convert=lambda m: _replace(m, lambda old: _make_group(old, old.num_features))),
    summary="each channel of a tile by itself, carried over",
    reference="Ulyanov et al. 2016",
)


@NORMS.register("renorm", summary="the batch's statistics corrected towards the stored ones", reference="Ioffe 2017")
def build_renorm(*, r_max: float = 3.0, d_max: float = 5.0) -> Norm:
    """The paper's last bounds from the start: the stored statistics of a pretrained backbone are worth following."""
    return Norm(convert=lambda m: _replace(m, lambda old: BatchRenorm(old, r_max=r_max, d_max=d_max)))


@NORMS.register("ghost", summary="statistics of small virtual batches within a step", reference="Hoffer et al. 2017")
def build_ghost(*, size: int = GHOST_TILES) -> Norm:
    """Virtual batches of at most ``size`` tiles."""
    return Norm(convert=lambda m: _replace(m, lambda old: GhostBatchNorm(old, size=size)))


def has_batchnorm(module: nn.Module) -> bool:
    """Tell whether there is anything for a strategy to act on."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())


def choose_norm(train: recipe.Train, *, pretrained: bool) -> tuple[str, str]:
    """Return the strategy that ``auto`` stands for, and why, by the batches of phase ``finetune``.

    Args:
        train: images and tiles of a step.
        pretrained: whether there are stored statistics worth keeping.
    """
    images = train.finetune.batch_images
    tiles = images * train.finetune.tiles_per_image
    if pretrained and images < FEW_IMAGES:
        return "frozen_statistics", f"a step sees {images} images, too few for statistics better than the stored ones"
    if tiles < FEW_TILES:
        return "group", f"a step sees {tiles} tiles, too few for statistics, and none worth keeping are stored"
    return "live", f"a step sees {tiles} tiles of {images} images, enough for statistics of its own"
