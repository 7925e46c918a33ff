"""Networks of encoders: made as their records say, with weights from a file or the hub, or refused before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from timm.layers import SwiGLUPacked
from torch import nn

from ...errors import WeightsError
from ..weights import load_weights
from .encoder import Encoder
from .tokens import take_tokens

LAYERS = {"SwiGLUPacked": SwiGLUPacked}  # what options name and timm's builder takes as a class only


def read_layers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of timm's builder with classes in place of the names of layers."""
    return {key: LAYERS.get(value, value) if isinstance(value, str) else value for key, value in options.items()}


def create_encoder(encoder: Encoder) -> nn.Module:
    """Make the network of an encoder with drawn weights: (M, 3, H, W) to (M, D).

    Raises:
        WeightsError: timm cannot build it.
    """
    check_builder(encoder)
    options = read_layers(encoder.options)
    if encoder.embedding != "model":
        # By any other pooling timm puts the last normalisation elsewhere, under another name.
        options["global_pool"] = "token"
    network = timm.create_model(encoder.architecture, pretrained=False, num_classes=0, **options)
    return take_tokens(network, encoder.embedding)


def load_encoder(network: nn.Module, encoder: Encoder, *, weights: Path | None, part: str | None) -> str | None:
    """Load a weights file, by default that of the hub, strictly; return one sentence about what was taken.

    Raises:
        WeightsError: it cannot be had, or is of another network.
    """
    path = fetch_encoder(encoder) if weights is None else weights
    name = encoder.architecture.partition(".")[0]
    # DINO's training keeps a token for hidden patches beside the network.
    note = load_weights(network, path, name=name, heads=["head", "mask_token"], part=part)
    return note if weights is not None else "; ".join(filter(None, (f"weights of {encoder.name} from the hub", note)))


def find_downloaded(encoder: Encoder) -> Path | None:
    """Return the weights file that the hub's client downloaded earlier."""
    for file in encoder.files if encoder.hub_id else ():
        found = huggingface_hub.try_to_load_from_cache(encoder.hub_id, file)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch_encoder(encoder: Encoder) -> Path:
    """Return the weights file of the hub, downloaded where it is not here; a token of this computer goes along.

    Raises:
        WeightsError: it cannot be had.
    """
    if (found := find_downloaded(encoder)) is not None:
        return found
    for file in encoder.files:
        try:
            return Path(huggingface_hub.hf_hub_download(encoder.hub_id, file))
        except EntryNotFoundError:
            continue
        except (OSError, ValueError) as error:  # the client's own errors are kinds of these
            raise refuse_encoder(encoder, f"the hub did not give {file}: {error}") from error
    raise refuse_encoder(encoder, f"the hub has no file {' or '.join(encoder.files)} of it")


def check_builder(encoder: Encoder) -> None:
    """Check that timm can build it.

    Raises:
        WeightsError: it needs other code; the message says whose.
    """
    if not encoder.architecture:
        raise WeightsError(
            f"encoder '{encoder.name}' needs {encoder.built_by}, which smalti does not run. {_say_terms(encoder)}",
            fix="make features with that code and give smalti their folder; or save its visual network there with "
            "timm's save_for_hf, and take --set model.backbone=local-dir:FOLDER",
        )


def check_hub_file(encoder: Encoder) -> None:
    """Check that the hub has weights under timm's names.

    Raises:
        WeightsError: a file is needed.
    """
    if not encoder.by_timm and not (encoder.hub_id and encoder.files):
        raise refuse_encoder(encoder, f"they are not fetched from a hub: {encoder.unchecked}")


def check_gate(encoder: Encoder) -> None:
    """Ask the hub whether this computer may download the weights, with its token if there is one.

    Raises:
        WeightsError: it may not.
    """
    try:
        huggingface_hub.auth_check(encoder.hub_id)
    except GatedRepoError:
        token = "the token of this computer was not let in" if huggingface_hub.get_token() else "there is no token here"
        raise refuse_encoder(encoder, f"the authors ask for an agreement first, and {token}") from None
    except RepositoryNotFoundError:
        raise refuse_encoder(encoder, f"{huggingface_hub.constants.ENDPOINT} shows no {encoder.hub_id}") from None
    except (HfHubHTTPError, OSError) as error:
        raise refuse_encoder(encoder, f"the hub did not answer: {error}") from error


def refuse_encoder(encoder: Encoder, reason: str) -> WeightsError:
    """Return the error for weights that cannot be had: why, under which licence they are, and the ways to them."""
    file = f"FOLDER/{' or FOLDER/'.join(encoder.files)}" if encoder.files else "FILE"
    ways = [
        f"--set model.weights={file} where it is on this computer",
        "a folder of timm's layout is read by --set model.backbone=local-dir:FOLDER, as its config.json says",
    ]
    if encoder.hub_id:
        page = f"https://huggingface.co/{encoder.hub_id}"
        asks = encoder.terms.gated == "yes"
        log_in = ", and log in (hf auth login, or HF_TOKEN)" if asks else ""
        fetch = f"hf download {encoder.hub_id} --local-dir FOLDER brings its files"
        ways = [f"{'ask at' if asks else 'see'} {page}{log_in}", fetch, *ways]
    return WeightsError(
        f"no weights for encoder '{encoder.name}': {reason}. {_say_terms(encoder)}", fix="; ".join(ways)
    )


def _say_terms(encoder: Encoder) -> str:
    terms = encoder.terms
    doubts = f" ({terms.doubts})" if terms.doubts else ""
    return f"Licence {terms.licence}, commercial use: {terms.commercial}{doubts}."
