"""A whole network from a recipe, before training and after; and a backbone without the place its weights came from."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import nn

from .. import recipe
from ..errors import WeightsError
from ..recipe import GIVEN
from ..registry import read_options
from ..tile import SHAPE_NAMES
from ..types import InputSpec
from .backbones import Backbone, find_config
from .described import build_described, is_described
from .encoders.encoder import find_encoder
from .encoders.fetching import read_layers
from .encoders.tokens import take_tokens
from .intermediate import Stages
from .mask.branch import MASK_WIDTH, TILE_WIDTH, MaskBranch
from .mask.fusion import FUSIONS
from .mask.stem import add_mask_channel
from .network import Head, Network
from .norms import NORMS, has_batchnorm
from .poolers.pooler import POOLERS, Pooler

State = Mapping[str, torch.Tensor]
# Arguments by which timm's builder reads files or asks a hub; a model says none of them.
FETCHING = frozenset({
    "cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
    "scriptable", "features_only",
})  # fmt: skip
OF_BACKBONE = "backbone."  # how the names begin of weights of a backbone that was fine-tuned


def build_pooler(model: recipe.Model, *, features: int, classes: int) -> Pooler:
    """Return a fresh pooler of a recipe, for a backbone with so many features."""
    width = features + (TILE_WIDTH if model.fusion is not None else 0)
    return POOLERS.build(model.pooler, width, classes, **read_options(model.pooler_options))


def assemble_network(model: recipe.Model, backbone: Backbone, *, classes: int) -> Network:
    """Return a fresh network; the backbone is shared, pooler, head and the branch of the mask are drawn."""
    pooler, branch = build_pooler(model, features=backbone.features, classes=classes), None
    if model.fusion is not None:
        fusion = FUSIONS.build(model.fusion, pooler.features, MASK_WIDTH, backbone.features + TILE_WIDTH)
        branch = MaskBranch(backbone.features, len(SHAPE_NAMES), fusion, dropout=model.dropout)
    features = pooler.features if branch is None else branch.fusion.features
    head = Head(features, classes, dropout=model.dropout, by_class=pooler.by_class, transform=model.transform)
    return Network(backbone, pooler, head, branch=branch, weighs=model.coverage_weights)


def open_backbone(network: Network, model: recipe.Model) -> None:
    """Give a network a backbone of its own that may learn, with the mask as a channel if the recipe says so."""
    network.backbone = copy.deepcopy(network.backbone)
    if model.mask_channel:
        add_mask_channel(network.backbone, name=model.backbone)


def fill_network(network: Network, model: recipe.Model, weights: State) -> Network:
    """Load the weights that training left into a fresh network; return it in eval mode.

    Weights of a backbone are among them where it was fine-tuned; else the shared one stays.
    """
    if any(name.startswith(OF_BACKBONE) for name in weights):
        open_backbone(network, model)
        network.load_state_dict(weights)
    else:
        network.reader.load_state_dict(weights)
    return network.eval()


def describe_architecture(backbone: Backbone) -> tuple[str, dict[str, Any]]:
    """Return the name of a backbone's architecture in timm, and what its builder takes besides.

    Descriptions are their own architecture.
    """
    if is_described(backbone.name) or backbone.name.startswith(GIVEN):
        return backbone.name, {}
    if (encoder := find_encoder(backbone.name)) is not None:
        pooled = {} if encoder.embedding == "model" else {"global_pool": "token"}
        return encoder.architecture.partition(".")[0], {**encoder.options, **pooled}
    network: Any = backbone.module.network if isinstance(backbone.module, Stages) else backbone.module
    path = find_config(backbone.name)
    content = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    return str(network.pretrained_cfg["architecture"]), dict(content.get("model_args") or {})


def restore_backbone(
    model: recipe.Model,
    *,
    architecture: str,
    options: Mapping[str, Any],
    features: int,
    spec: InputSpec,
    weights: State | None,
) -> Backbone:
    """Build a backbone by its architecture alone, in eval mode; nothing is fetched.

    Args:
        model: how the recipe changes it (norm, embedding).
        architecture: as `describe_architecture` gives it, with ``options``.
        features: numbers that it gives for a tile.
        spec: of its input.
        weights: loaded strictly; None leaves drawn ones, for networks that bring their own.

    Raises:
        WeightsError: this timm has no such architecture, or the weights do not fit it.
    """
    if architecture.startswith(GIVEN):
        return Backbone(nn.Identity(), model.backbone, features, spec)
    if is_described(architecture):
        return Backbone(build_described(architecture), model.backbone, features, spec)
    if wrong := sorted(set(options) & FETCHING):
        raise WeightsError(
            f"{architecture} is not built with {', '.join(wrong)}, which would read other files",
            fix="take the model again from where it came",
        )
    if not timm.is_model(architecture):
        raise WeightsError(
            f"timm {timm.__version__} has no network '{architecture}'", fix="install the timm that model.json names"
        )
    with torch.random.fork_rng(devices=[]):
        try:
            module: nn.Module = timm.create_model(
                architecture, pretrained=False, **{**read_layers(options), "num_classes": 0}
            )
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise WeightsError(
                f"timm {timm.__version__} builds no {architecture} so: {error}",
                fix="install the timm that model.json names",
            ) from None
    if (encoder := find_encoder(model.backbone)) is not None:
        module = take_tokens(module, encoder.embedding)
    norm = NORMS.build("live" if model.norm == "auto" else model.norm) if has_batchnorm(module) else None
    if norm is not None and norm.convert is not None:
        module = norm.convert(module)
    if model.embedding == "stages":
        module = Stages(module, name=model.backbone)
    if weights is not None:
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise WeightsError(
                f"the weights do not fit {architecture} of timm {timm.__version__}: {error}",
                fix="install the timm that model.json names",
            ) from None
    module = module.eval().to(memory_format=torch.channels_last)
    return Backbone(module, model.backbone, features, spec, norm)
