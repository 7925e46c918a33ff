"""One file for onnxruntime and whatever else reads ONNX."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import torch

from ...errors import MissingExtraError
from ...store import write_atomic
from ..scorer import Scorer
from .check import BAGS, check_equal, draw_tiles

OPSET = 18


def write_onnx(scorer: Scorer, path: Path, *, tile_px: int) -> float:
    """Write a model as ONNX, opset 18; return the largest difference of logits, onnxruntime's against the model's.

    The input ``tiles`` is (N, T, 3, H, W), normalised, N and T free; the output ``logits`` (N, C). Of a model on
    features the input is ``features``, (N, T, D).

    Raises:
        PartError: onnxruntime gives other logits.
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter imports it late
    except ImportError:
        raise MissingExtraError("--to onnx", "onnx") from None
    drawn = draw_tiles(*BAGS[0], tile_px=tile_px, size=scorer.size)
    name = "features" if scorer.size else "tiles"
    free = {0: torch.export.Dim("images", min=1), 1: torch.export.Dim("tiles", min=1)}
    # The exporter prints its progress; the first size of a batch must not be one, which it would take as fixed.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            scorer, (drawn,), dynamo=True, dynamic_shapes=(free,), opset_version=OPSET,
            input_names=[name], output_names=["logits"], verbose=False,
        )  # fmt: skip
    assert program is not None  # it is, with dynamo
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def call(tiles: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(["logits"], {name: tiles.numpy()})[0])

    largest = check_equal("ONNX", scorer, call, tile_px=tile_px)
    write_atomic(path, content)
    return largest
