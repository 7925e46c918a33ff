"""TRIDENT's layout: ``<mag>x_<px>px_<overlap>px_overlap/patches`` and ``.../features_<encoder>``."""

from __future__ import annotations

from pathlib import Path

import h5py

from .feature_bag import FeatureBag, name_slide

MICRONS = 10.0  # of a pixel at a magnification of 1: 20x has 0.5


def write_trident(folder: Path, bag: FeatureBag) -> tuple[str, ...]:
    """Write coordinates and features below ``folder``; return their paths there."""
    slide, size = name_slide(bag.slide), bag.features.shape[1]
    near, far = (None if mpp is None else round(MICRONS / mpp) for mpp in (bag.mpp, bag.tile_mpp))
    job = f"{far}x_{bag.tile_px}px_{bag.overlap_px}px_overlap"
    names = (f"{job}/patches/{slide}_patches.h5", f"{job}/features_{bag.encoder}/{slide}.h5")
    # TRIDENT writes None as a word.
    about = {
        "patch_size": bag.tile_px, "patch_size_level0": bag.side_px, "overlap": bag.overlap_px,
        "level0_magnification": near or "None", "target_magnification": far or "None", "name": slide,
        "savetodir": f"{job}/patches", "level0_width": bag.plane[0], "level0_height": bag.plane[1],
    }  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / name, "w") as file:
            if name == names[1]:
                features = file.create_dataset(
                    "features", shape=bag.features.shape, dtype=bag.features.dtype, chunks=(1, size),
                    maxshape=(None, size),
                )  # fmt: skip
                for rows, values in bag.pieces():
                    features[rows] = values
                features.attrs.update(name=slide, savetodir=f"{job}/features_{bag.encoder}", encoder=bag.encoder)
            coords = file.create_dataset("coords", data=bag.plane_coords, chunks=(1, 2), maxshape=(None, 2))
            coords.attrs.update(about)
    return names
