"""What a file of features says of itself in its attributes, and what has to be guessed where they are silent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICRONS = frozenset({"um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"})
PIXELS = frozenset({"px", "pixel", "pixels", "level0", "level 0"})
ENCODERS = ("extractor", "encoder", "encoder_name", "feature_extractor", "model_name")
MPPS = ("mpp", "level0_mpp", "mpp_level0", "slide_mpp", "base_mpp")  # of level 0
SIDES_PX = ("patch_size_level0", "tile_size_lv0", "tile_size_level0")  # of a tile, at level 0
SIDES_UM = ("tile_size_um", "tile_size", "tile_um")
OLD_STRIDE, OLD_SIDE_UM = 224.0, 256.0  # STAMP before 2.0 wrote pixels of tiles that are 256 micrometres wide


@dataclass(frozen=True, slots=True)
class Said:
    """What is known of a file beside its numbers.

    Attributes:
        tool: who wrote it; empty where nothing tells.
        encoder: what made the features; empty where not known.
        unit: of the coordinates, ``px`` or ``um``; empty without coordinates.
        side: of a tile in that unit; 0 where not known.
        scale: what stored coordinates are multiplied with to be in that unit.
        mpp: microns per pixel of level 0; None where not known.
        guessed: sentences.
    """

    tool: str
    encoder: str
    unit: str = ""
    side: float = 0.0
    scale: float = 1.0
    mpp: float | None = None
    guessed: tuple[str, ...] = ()


def read_attributes(path: Path, dataset: str, said: Mapping[str, Any], coords: NDArray[Any] | None) -> Said:
    """Return what the attributes of a file mean.

    Args:
        path: of the file; its folders may name tool and encoder.
        dataset: name of the array of features.
        said: the attributes of the file and its arrays.
        coords: (N, 2) as they are stored, or an HDF5 dataset of them; None without.
    """
    tool, guessed = _tell_tool(path, said), list[str]()
    encoder = _read_encoder(said)
    if not encoder and (found := re.fullmatch(r"(?:slide_)?features_(.+)", path.parent.name)):
        encoder = found[1]
        guessed.append(f"the encoder is not said; taken from the name of its folder, {encoder}")
    elif not encoder:
        guessed.append("the encoder is not said")
    mpp = next((n for key in MPPS if (n := _number(said.get(key)))), None)
    if coords is None:
        return Said(tool, encoder, mpp=mpp, guessed=tuple(guessed))
    unit, side, scale = _settle_unit(tool, dataset, said, coords, guessed)
    if unit == "um" and mpp is not None:  # level 0 is what all else is in
        unit, side, scale = "px", side / mpp, scale / mpp
    return Said(tool, encoder, unit, side, scale, mpp, tuple(guessed))


def _settle_unit(
    tool: str, dataset: str, said: Mapping[str, Any], coords: NDArray[Any], guessed: list[str]
) -> tuple[str, float, float]:
    """Return unit, side of a tile, and scale of the coordinates; what is guessed is added to ``guessed``."""
    text = str(said.get("unit", "")).strip().lower()
    unit = "um" if text in MICRONS else "px"
    if text and text not in MICRONS | PIXELS:
        guessed.append(f"the unit '{text}' of the coordinates is not known; taken as pixels of level 0")
    elif not text and not tool:
        stride = find_stride(coords[:])
        if dataset == "feats" and abs(stride - OLD_STRIDE) < 0.5:
            factor = OLD_SIDE_UM / OLD_STRIDE
            guessed.append("no unit, and a stride of 224 as STAMP wrote it before 2.0: taken as tiles of 256 um")
            return "um", OLD_SIDE_UM, factor
        guessed.append("the unit of the coordinates is not said; taken as pixels of level 0")
    side = next((n for key in (SIDES_UM if unit == "um" else SIDES_PX) if (n := _number(said.get(key)))), 0.0)
    if not side and unit == "px":
        side = _read_clam_side(said)
    if not side:
        side = find_stride(coords[:])
        if side:
            guessed.append(f"the side of a tile is not said; taken as the stride of the grid, {side:g} {unit}")
    return unit, side, 1.0


def _read_clam_side(said: Mapping[str, Any]) -> float:
    """Return the side at level 0 of CLAM's ``patch_size`` at ``patch_level``; 0 where it cannot be told."""
    level, down = said.get("patch_level"), _number(said.get("downsample"))
    if down is None and level is not None and _number(level) is None:  # level 0, which has no other scale
        down = 1.0
    return (_number(said.get("patch_size")) or 0.0) * (down or 0.0)


def _tell_tool(path: Path, said: Mapping[str, Any]) -> str:
    if tool := said.get("tool"):
        return str(tool)
    if "stamp_version" in said or "code_hash" in said or ("extractor" in said and "unit" in said):
        return "stamp"
    if "savetodir" in said or "patch_size_level0" in said:
        return "trident"
    if "patch_level" in said or path.parent.name in {"h5_files", "pt_files"}:
        return "clam"
    if "normalizer" in said and "tile_px" in said:
        return "slideflow"
    return "slide2vec" if path.parent.name in {"tile_embeddings", "slide_embeddings"} else ""


def _read_encoder(said: Mapping[str, Any]) -> str:
    for key in ENCODERS:
        value = said.get(key)
        if isinstance(value, str) and value.startswith("{"):
            with suppress(ValueError):
                value = json.loads(value)
        if isinstance(value, Mapping):  # slideflow's class and its arguments
            value = str(value.get("class") or value.get("name") or "").rpartition(".")[2]
        if value and str(value) != "None":
            return str(value)
    return ""


def find_stride(coords: NDArray[Any]) -> float:
    """Return the commonest step between neighbouring places (N, 2) along an axis; 0 where there is none."""
    places = np.asarray(coords, dtype=np.float64).reshape(-1, 2)
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in places.T])
    steps = np.round(steps[steps > 0], 3)
    if not len(steps):
        return 0.0
    values, counts = np.unique(steps, return_counts=True)
    return float(values[counts.argmax()])


def plain(value: Any) -> Any:
    """Return an attribute as text, number, or what JSON holds."""
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value


def _number(value: Any) -> float | None:
    """Return a positive number, or the first of several that are alike, such as a downsample of both axes."""
    if isinstance(value, list) and value and len(set(map(str, value))) == 1:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
