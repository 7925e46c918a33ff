"""From a name to an encoder that is ready: a record, any backbone of timm, or a folder."""

from __future__ import annotations

from pathlib import Path

from ... import recipe
from ...errors import WeightsError
from ..backbones import Backbone, build_backbone, describe_missing_weights, find_weights


def build_encoder(
    name: str, *, weights: Path | None = None, part: str | None = None, hub_timeout_s: float = 5.0
) -> Backbone:
    """Return an encoder of tiles in eval mode, with what it expects of them.

    Args:
        name: of a record (``smalti parts encoders``), of timm, ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.
        weights: file instead of the hub's.
        part: of that file, where it holds several networks.
        hub_timeout_s: a silent hub is given up after this long.

    Raises:
        WeightsError: there is none, or its weights cannot be had; `check_weights` says so before any work.
    """
    return build_backbone(name_encoder(name, weights=weights, part=part, hub_timeout_s=hub_timeout_s))


def name_encoder(
    name: str, *, weights: Path | None = None, part: str | None = None, hub_timeout_s: float = 5.0
) -> recipe.Model:
    """Return the section of a recipe that names an encoder and nothing else, for `check_weights`."""
    return recipe.Model(
        backbone=name, weights=weights, weights_part=part, hub_timeout_s=hub_timeout_s, embedding="last", norm="live"
    )


def check_weights(model: recipe.Model) -> None:
    """Check, before any work, that the weights of a section can be had; no network is built and nothing downloaded.

    Raises:
        WeightsError: they cannot: no such encoder, file or folder, a gate that is closed, a hub that is silent.
    """
    if model.weights is not None and not model.weights.is_file():
        raise WeightsError(f"no weights file at {model.weights.resolve()}", fix="check model.weights")
    if find_weights(model) is None and model.without_weights == "error":
        raise describe_missing_weights(model)
