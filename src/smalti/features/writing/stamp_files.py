"""STAMP's layout, 2.1 and later: ``<extractor>-<8 of the hash>/<slide>.h5`` with coordinates in micrometres."""

from __future__ import annotations

import hashlib
from pathlib import Path

import h5py
import numpy as np

from ...errors import RecipeError
from .feature_bag import FeatureBag

FORMAT = "2.1.0"  # the version of STAMP whose files these are; it refuses files of a later one than its own
HASH_SIGNS = 8


def write_stamp(folder: Path, bag: FeatureBag) -> tuple[str, ...]:
    """Write the file below ``folder``; return its path there.

    Raises:
        RecipeError: microns per pixel are not known, and STAMP's coordinates are micrometres.
    """
    if bag.mpp is None:
        raise RecipeError("STAMP's coordinates are micrometres, and this slide does not say its own", fix="--image-mpp")
    code = hashlib.sha256(bag.key.encode()).hexdigest()[:HASH_SIGNS]
    name = f"{bag.encoder}-{code}/{bag.slide}.h5"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        features = file.create_dataset("feats", shape=bag.features.shape, dtype=bag.features.dtype)
        for rows, values in bag.pieces():
            features[rows] = values
        file.create_dataset("coords", data=(bag.plane_coords * bag.mpp).astype(np.float32))
        file.attrs.update(
            stamp_version=FORMAT, extractor=bag.encoder, unit="um", tile_size_um=bag.side_px * bag.mpp,
            tile_size_px=bag.tile_px, code_hash=code, feat_type="tile",
        )  # fmt: skip
    return (name,)
