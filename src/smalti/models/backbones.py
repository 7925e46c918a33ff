"""Any timm backbone by its own name, with weights from a file, a folder, a package or the hub; or descriptions.

A backbone travels with what it was trained on: input size, mean and standard deviation.
"""

from __future__ import annotations

import difflib
import hashlib
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from torch import nn

from .. import recipe
from ..errors import PartError, WeightsError
from ..packages import INSTALL, PACKAGES, find_package
from ..recipe import AUTO, GIVEN, settle_backbone
from ..types import InputSpec
from .described import build_described, is_described
from .encoders.encoder import HUB_FILES, Encoder, find_encoder
from .encoders.fetching import (
    check_builder,
    check_gate,
    check_hub_file,
    create_encoder,
    find_downloaded,
    load_encoder,
    refuse_encoder,
)
from .intermediate import Stages
from .norms import NORMS, Norm, has_batchnorm
from .weights import load_package, load_weights

FILE_OPTION = "--set model.weights=FILE (.safetensors) takes weights from a file, --set model.pretrained=false none"


# Descriptions take tiles of any size as 0..1; this one is stored where neither recipe nor images say another.
DESCRIBED = InputSpec(224, fixed=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its last layer, or descriptions that need none: (M, 3, H, W) to (M, D).

    Attributes:
        name: as the recipe calls it.
        features: D.
        spec: input size, mean and standard deviation.
        norm: what became of its batch normalisation; None where it has none.
        note: which package or hub the weights came from, or what was unwrapped, chosen or left out of a weights file;
            one sentence, None where there is nothing to say.
    """

    module: nn.Module
    name: str
    features: int
    spec: InputSpec
    norm: Norm | None = None
    note: str | None = None


def build_backbone(model: recipe.Model, *, seed: int = 0) -> Backbone:
    """Build the backbone of a recipe, with its weights and then the normalisation that the recipe asks for.

    ``seed`` draws the initial weights where none are loaded.

    Raises:
        PartError: no such norm.
        WeightsError: no such backbone, or weights that cannot be had or do not fit it.
    """
    torch.manual_seed(seed)
    model = settle_backbone(model)
    source = find_weights(model)
    if model.backbone.startswith(GIVEN):
        return Backbone(nn.Identity(), model.backbone, int(model.backbone.removeprefix(GIVEN)), DESCRIBED)
    if source == "described":
        described = build_described(model.backbone)
        return Backbone(described, model.backbone, len(described.names), DESCRIBED)
    if source is None and not model.backbone.startswith("local-dir:") and _wants_hub(model):
        raise describe_missing_weights(model)
    encoder = _find_record(model.backbone)
    module = _create(model, source) if encoder is None else create_encoder(encoder)
    trained: Any = module.pretrained_cfg  # timm's record of how a network was trained
    config = dict(trained)
    note = None
    if encoder is not None and source != "none":
        note = load_encoder(module, encoder, weights=model.weights, part=model.weights_part)
    elif model.weights is not None:
        name = str(config.get("architecture") or model.backbone)
        classifier = config.get("classifier") or ()
        last = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        heads = [layer.split(".")[0] for layer in last]
        note = load_weights(module, model.weights, name=name, heads=heads, part=model.weights_part)
    elif source == "package":
        note = load_package(module, PACKAGES[model.backbone])
    elif source in {"cache", "hub"}:
        note = f"weights of {model.backbone} from the hub{', downloaded earlier' if source == 'cache' else ''}"
    # What auto stands for is chosen before; a backbone that only looks is the same under all that it may choose.
    norm = NORMS.build("live" if model.norm == "auto" else model.norm) if has_batchnorm(module) else None
    if norm is not None and norm.convert is not None:
        module = norm.convert(module)
    if model.embedding == "stages":
        module = Stages(module, name=model.backbone)
    size = int(config["input_size"][-1])
    spec = InputSpec(size, bool(config.get("fixed_input_size")), tuple(config["mean"]), tuple(config["std"]))
    spec = spec if encoder is None else encoder.spec
    with torch.inference_mode():
        module.eval()
        shape = module(torch.zeros(1, 3, spec.size_px, spec.size_px)).shape
    if len(shape) != 2:
        raise WeightsError(
            f"{model.backbone} gives {tuple(shape)} for a tile and not one row of features",
            fix="name its encoder instead, if 'smalti parts encoders' lists it, with --set model.weights=FILE",
        )
    features = int(shape[1])
    # Once and here: another memory layout is another kernel, and another kernel rounds differently.
    return Backbone(module.to(memory_format=torch.channels_last), model.backbone, features, spec, norm, note)


def read_input_px(model: recipe.Model) -> int:
    """Return the input size of a timm backbone from its listing, without building it; 224 where it is not listed."""
    if is_described(model.backbone) or model.backbone.startswith(GIVEN):
        return DESCRIBED.size_px
    if (encoder := find_encoder(model.backbone)) is not None and encoder.size_px:
        return encoder.size_px
    config = timm.get_pretrained_cfg(settle_backbone(model).backbone, allow_unregistered=True)
    return int(config.input_size[-1]) if config is not None else 224


def find_weights(model: recipe.Model) -> str | None:
    """Find where the weights will come from, the first that is available: ``file`` (or ``folder``), ``package``,
    ``cache``, ``hub``; ``none`` where the recipe wants none (from scratch).

    ``described`` where nothing is needed, since numbers are measured by hand. None when weights are wanted and cannot
    be had: the hub did not answer within ``model.hub_timeout_s``. It is not asked where an earlier place has them.

    Raises:
        WeightsError: no such backbone, since a slip in its name must not look like a silent hub; an encoder that timm
            cannot build, or whose gate is closed.
    """
    model = settle_backbone(model)
    encoder = find_encoder(model.backbone)
    if encoder is not None:
        check_builder(encoder)
    else:
        _check_name(model.backbone)
    if is_described(model.backbone) or model.backbone.startswith(GIVEN):
        return "described"
    if model.weights is not None:
        return "file"
    if model.backbone.startswith("local-dir:"):
        return "folder"
    if not _wants_hub(model):
        return "none"
    if encoder is not None and not encoder.by_timm:
        check_hub_file(encoder)
        if find_downloaded(encoder) is not None:
            return "cache"
        if not _reach_hub(model.hub_timeout_s):
            return None
        check_gate(encoder)
        return "hub"
    if find_package(model.backbone) is not None:
        return "package"
    if _find_cached(model.backbone) is not None:
        return "cache"
    return "hub" if _reach_hub(model.hub_timeout_s) else None


def describe_missing_weights(model: recipe.Model) -> WeightsError:
    """Return the error for weights that cannot be had: what was looked for, where, and the ways out."""
    name = settle_backbone(model).backbone
    silent = f"{huggingface_hub.constants.ENDPOINT} did not answer within {model.hub_timeout_s:g} s"
    if (encoder := find_encoder(name)) is not None:
        return refuse_encoder(encoder, f"{silent} and there is no downloaded copy")
    package = PACKAGES.get(name)
    looked = f"package {package.name} is not installed, " if package is not None else ""
    brings = "brings them" if package is not None else f"brings those of {', '.join(PACKAGES)} (model.backbone={AUTO})"
    return WeightsError(
        f"no weights for '{name}': {looked}{silent} and there is no downloaded copy",
        fix=f"{INSTALL} {brings}, {FILE_OPTION}",
    )


def hash_weights(module: nn.Module) -> str:
    """Hash of every parameter and buffer, by name and bytes, and of the layers: some differ in nothing else."""
    digest = hashlib.blake2b(str(module).encode(), digest_size=12)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _wants_hub(model: recipe.Model) -> bool:
    return model.weights is None and (model.pretrained or model.backbone.startswith("hf-hub:"))


def _find_record(name: str) -> Encoder | None:
    """Return the encoder whose record makes the network; None where timm knows all of it."""
    encoder = find_encoder(name)
    return None if encoder is None or encoder.by_timm else encoder


def _create(model: recipe.Model, source: str | None) -> nn.Module:
    encoder = find_encoder(model.backbone)
    name, options = model.backbone if encoder is None else encoder.architecture, {}
    if source == "cache" and (cached := _find_cached(name)) is not None:
        if name.startswith("hf-hub:"):
            name = f"local-dir:{cached.parent}"
        else:
            options = {"pretrained_cfg_overlay": {"file": str(cached)}}
    _check_name(name)
    try:
        return timm.create_model(name, pretrained=source in {"folder", "cache", "hub"}, num_classes=0, **options)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        # timm, the hub client and torch each raise their own kinds; all mean that these weights cannot be had.
        raise WeightsError(f"backbone '{model.backbone}' could not be built: {error}", fix=f"{FILE_OPTION}") from error


def _check_name(name: str) -> None:
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "config.json").is_file():
            raise WeightsError(f"no config.json in {folder}", fix="give a folder as timm's save_for_hf writes it")
    elif name.startswith(GIVEN):
        if not name.removeprefix(GIVEN).isdecimal():
            raise WeightsError(
                f"backbone '{name}' is that of features which were made elsewhere, whose number it ends with",
                fix="leave model.backbone=auto on a folder of features",
            )
    elif is_described(name):
        try:
            build_described(name)
        except PartError as error:
            raise WeightsError(error.message, fix=error.fix) from None
    elif not name.startswith("hf-hub:"):
        plain, _, tag = name.partition(".")
        if not timm.is_model(plain):
            near = difflib.get_close_matches(name, timm.list_models(), n=3)
            raise WeightsError(
                f"timm has no backbone '{name}'", fix=f"one of {', '.join(near) or 'timm.list_models()'}"
            )
        try:
            timm.get_pretrained_cfg(name)
        except RuntimeError:
            known = ", ".join(timm.list_pretrained(f"{plain}.*")) or plain
            raise WeightsError(f"timm has no weights '{tag}' of {plain}", fix=f"one of {known}") from None


def _find_cached(name: str) -> Path | None:
    """Return a file that the hub client downloaded earlier."""
    encoder = find_encoder(name)
    name = name if encoder is None else encoder.architecture
    if name.startswith("hf-hub:"):
        hub_id: str | None = name.removeprefix("hf-hub:")
    else:
        config = timm.get_pretrained_cfg(name, allow_unregistered=True)
        hub_id = config.hf_hub_id if config is not None else None
    for file in HUB_FILES:
        found = huggingface_hub.try_to_load_from_cache(hub_id, file) if hub_id else None
        if isinstance(found, str):
            return Path(found)
    return None


def find_config(name: str) -> Path | None:
    """Return the ``config.json`` of a backbone from a folder or the hub; None for timm's own, and for encoders."""
    if find_encoder(name) is not None:
        return None
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:")) / "config.json"
    if not name.startswith("hf-hub:"):
        return None
    found = _find_cached(name)
    return None if found is None else found.parent / "config.json"


def _reach_hub(timeout_s: float) -> bool:
    """Ask the hub for its front page, in a thread, since looking up a host name knows no time limit of its own."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=timeout_s):
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # it answered, if only with a refusal: downloads may still work
        except (OSError, ValueError):
            return

    thread = threading.Thread(target=ask, name="reach-hub", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answered.is_set()
