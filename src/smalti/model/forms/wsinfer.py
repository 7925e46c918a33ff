"""The folder that WSInfer and QuPath's extension load: one file of TorchScript and one of JSON."""

from __future__ import annotations

from pathlib import Path

from ...store import write_json
from ...types import InputSpec
from ..scorer import Scorer
from .torchscript import write_torchscript

WEIGHTS, CONFIG = "torchscript_model.pt", "config.json"  # names that the extension looks for


def write_wsinfer(
    scorer: Scorer,
    folder: Path,
    *,
    classes: tuple[str, ...],
    architecture: str,
    spec: InputSpec,
    tile_px: int,
    field_px: int,
    mpp: float,
) -> float:
    """Write the folder; return the largest difference of logits, file against model.

    QuPath applies the softmax itself, so that the file gives logits; they hold temperature and weights of the classes.

    Args:
        field_px: side of the square in pixels of ``mpp``, of which a tile is made.
        mpp: microns per pixel of the images.

    Raises:
        PartError: the file would give other logits.
    """
    largest = write_torchscript(scorer, folder / WEIGHTS, tile_px=tile_px, single=True)
    write_json(
        folder / CONFIG,
        {
            "spec_version": "1.0",
            "architecture": architecture,
            "num_classes": len(classes),
            "patch_size_pixels": field_px,
            "spacing_um_px": mpp,
            "class_names": list(classes),
            "transform": [
                {"name": "Resize", "arguments": {"size": tile_px}},
                {"name": "ToTensor"},
                {"name": "Normalize", "arguments": {"mean": list(spec.mean), "std": list(spec.std)}},
            ],
        },
    )
    return largest
