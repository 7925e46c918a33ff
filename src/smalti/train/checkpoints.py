"""Weights and training state as safetensors: tensors as tensors, everything else as JSON in the header. No pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from ..errors import RunError
from ..store import reading, write_atomic


def write_checkpoint(path: Path, content: Mapping[str, object]) -> None:
    """Write a nested structure of dicts, lists, tuples, tensors, number formats and plain values atomically."""
    tensors: dict[str, torch.Tensor] = {}
    skeleton = _take_out(content, tensors)
    write_atomic(path, safetensors.torch.save(tensors, metadata={"content": json.dumps(skeleton)}))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read back what `write_checkpoint` wrote.

    Raises:
        RunError: the file is missing, damaged, or not one of ours.
    """
    try:
        with reading(path, fix="delete it and run again"):
            with safetensors.safe_open(path, framework="pt") as file:
                skeleton = json.loads((file.metadata() or {})["content"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            return dict(_put_back(skeleton, tensors))
    except safetensors.SafetensorError as error:
        raise RunError(f"checkpoint {path} cannot be read: {error}", fix="delete it and run again") from error


def _take_out(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Replace tensors by a number; dicts become pair lists, because JSON would turn integer keys into text."""
    if isinstance(value, torch.Tensor):
        key = str(len(tensors))  # names joined by dots could meet, since the names of weights hold dots
        tensors[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": key}
    if isinstance(value, dict):
        return {"pairs": [[k, _take_out(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "items" if isinstance(value, list) else "tuple"  # some optimisers ask for the same kind again
        return {kind: [_take_out(v, tensors) for v in value]}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    return value


def _put_back(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "pairs" in value:
        return {k: _put_back(v, tensors) for k, v in value["pairs"]}
    if "dtype" in value:
        return getattr(torch, value["dtype"])
    items = [_put_back(v, tensors) for v in value["items" if "items" in value else "tuple"]]
    return items if "items" in value else tuple(items)
