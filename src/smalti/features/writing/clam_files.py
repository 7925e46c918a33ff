"""CLAM's layout: ``patches/`` with coordinates, ``h5_files/`` with features, ``pt_files/`` with the bare tensor.

CLAM reads a tile as ``patch_size`` pixels of level ``patch_level``: here its side at level 0.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .feature_bag import FeatureBag, name_slide

CHUNK_ROWS = 32


def write_clam(folder: Path, bag: FeatureBag) -> tuple[str, ...]:
    """Write the three files below ``folder``; return their paths there, the features with coordinates last."""
    import torch

    slide, size = name_slide(bag.slide), bag.features.shape[1]
    names = (f"patches/{slide}.h5", f"pt_files/{slide}.pt", f"h5_files/{slide}.h5")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / names[0], "w") as file:
        coords = file.create_dataset("coords", data=bag.plane_coords, chunks=(CHUNK_ROWS, 2), maxshape=(None, 2))
        plane = np.array(bag.plane, dtype=np.int64)
        coords.attrs.update(
            patch_size=bag.side_px, patch_level=0, downsample=np.array([1.0, 1.0]), downsampled_level_dim=plane,
            level_dim=plane, name=slide, save_path="patches",
        )  # fmt: skip
    with h5py.File(folder / names[2], "w") as file:
        features = file.create_dataset(
            "features", shape=bag.features.shape, dtype=bag.features.dtype, chunks=(CHUNK_ROWS, size),
            maxshape=(None, size),
        )  # fmt: skip
        for rows, values in bag.pieces():
            features[rows] = values
        places = bag.plane_coords.astype(np.int32)
        file.create_dataset("coords", data=places, chunks=(CHUNK_ROWS, 2), maxshape=(None, 2))
    with (folder / names[1]).open("wb") as stream:  # a stream: the name of a file would be part of its content
        torch.save(torch.from_numpy(np.asarray(bag.features)), stream)
    return names
