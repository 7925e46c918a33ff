"""A folder that timm loads as ``local-dir:FOLDER``, and that a model hub takes."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from ...errors import PartError
from ...models import keeps_single
from ...models.intermediate import Stages
from ..scorer import Vote
from .build import Built
from .check import CLOSE, draw_tiles


def write_hub_folder(built: Built, folder: Path) -> float:
    """Write one network as timm's folder: weights as safetensors, ``config.json``; return the largest difference.

    The standardisation of the embedding, the temperature and the weights of the classes go into the last layer.

    Raises:
        PartError: the model is several networks, or one whose last layers are none of timm's.
    """
    vote, backbone = built.scorer.answer, built.scorer.backbones[0]
    if not isinstance(vote, Vote):
        count = sum(isinstance(part, Vote) for part in built.scorer.modules())
        raise PartError(
            f"timm's folder holds one network, and this model is {count}", fix="--network with one, such as fold0-seed0"
        )
    if vote.views > 1:
        raise PartError(
            f"timm's folder looks at a tile once, and this network averages {vote.views} views of it",
            fix="--to onnx or --to torchscript, or run with --set predict.views=1",
        )
    reader = vote.reader
    if isinstance(backbone, Stages) or not keeps_single(reader.pooler, features=reader.head.linear.in_features):
        raise PartError(
            "timm's folder holds a network that reads its last layer and takes the mean of its tiles",
            fix="train with --set model.embedding=last --set model.pooler=mean, or --to onnx",
        )
    network = timm.create_model(built.architecture, pretrained=False, num_classes=len(built.record.classes))
    last = network.get_classifier()
    if not isinstance(last, nn.Linear) or str(backbone) != str(_behead(built.architecture)):
        raise PartError(f"{built.architecture} as trained here is no network of timm's own", fix="--to onnx")
    head, scale = reader.head, reader.head.scale * vote.decide.temperature
    state = backbone.state_dict()
    network.load_state_dict(state, strict=False)
    with torch.no_grad():
        last.weight.copy_(head.linear.weight / scale)
        shift = (head.linear.weight * (head.center / head.scale)).sum(dim=1)
        last.bias.copy_((head.linear.bias - shift) / vote.decide.temperature + vote.decide.weights)
    network.eval()
    network.pretrained_cfg = {
        **network.pretrained_cfg, "mean": built.spec.mean, "std": built.spec.std,
        "input_size": (3, built.tile_px, built.tile_px), "crop_pct": 1.0, "hf_hub_id": None, "url": "",
    }  # fmt: skip
    save_for_hf(network, folder, model_config={"label_names": list(built.record.classes)}, safe_serialization=True)
    tiles = draw_tiles(4, 1, tile_px=built.tile_px)
    with torch.inference_mode():
        read = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        largest = float((read(tiles[:, 0]).log_softmax(dim=1) - built.scorer(tiles)).abs().max())
    if not largest <= CLOSE:
        raise PartError(f"timm's folder gives other logits than the model (difference {largest:.2g})", fix="--to onnx")
    return largest


def _behead(architecture: str) -> nn.Module:
    network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
    return network
