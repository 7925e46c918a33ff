"""A picture and its mask as tiles are cut from them: as they are in the files, or repaired.

Repairing invents no tissue. Paint is filled with one flat colour, so that a network sees neither the paint nor a
texture that was never there, and is taken off the mask, so that it counts neither as disease nor as tissue.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import images
from ..errors import DataError, Problem
from ..tissue.foreground import find_tissue
from ..types import Repair, Sample

Picture = NDArray[np.uint8]
# Paint ends softly: blurred or anti-aliased edges, and JPEG, whose colour blocks are 16 px wide, carry it outward. The
# outline itself was found on a shrunken copy, to about one pixel in a hundred of the longer side.
RIM_PX = 8
RIM_FRAC = 0.01


def read_sample(sample: Sample) -> tuple[Picture, Picture]:
    """Return RGB (H, W, 3) and mask (H, W) of zeros and ones, after the sample's repair.

    Without a mask, where tissue is.

    Raises:
        DataError: a file cannot be read, the mask has another size than the image, or the repair leaves no mask.
    """
    return read_painted(sample)[:2]


def read_painted(sample: Sample) -> tuple[Picture, Picture, NDArray[np.bool_] | None]:
    """Return the same as `read_sample`, and where paint was filled, (H, W); None without a repair."""
    image = images.read_image(sample.path, bits=sample.bits)
    mask = None if sample.mask_path is None else read_sample_mask(sample, image.shape[:2])
    if sample.repair is None:
        return image, find_tissue(image) if mask is None else mask, None
    return apply_repair(sample, image, mask)


def apply_repair(sample: Sample, image: Picture, mask: Picture | None) -> tuple[Picture, Picture, NDArray[np.bool_]]:
    """Return image and mask after the sample's repair, and where paint was, (H, W).

    The outline is in pixels of ``image``.

    Raises:
        DataError: the repair leaves no mask.
    """
    assert sample.repair is not None
    paint = draw_outline(sample.repair, height_px=image.shape[0], width_px=image.shape[1])
    if paint.any() and not paint.all():
        # Painted pixels get the median colour of the tissue under the mask that is free of paint; where no such tissue
        # is, that of the whole image, and where that is missing too, of all that is free of paint. Paint counts as
        # tissue for every threshold, so it is made glass before one is chosen.
        free = ~paint
        tissue = find_tissue(np.where(paint[..., None], np.uint8(255), image)).astype(bool) & free
        under = tissue if mask is None else tissue & mask.astype(bool)
        source = next(part for part in (under, tissue, free) if part.any())
        colour = np.rint(np.median(image[source], axis=0)).astype(np.uint8)
        image = np.where(paint[..., None], colour, image)
    if not paint.all():
        mask = find_tissue(image) if mask is None else mask & find_tissue(image) if sample.repair.recut else mask
        mask = np.where(paint, np.uint8(0), mask)
        if mask.any():
            return image, mask, paint
    problem = Problem(
        code="repair-leaves-nothing",
        file=sample.image,
        message="nothing is left under the mask after the repair.",
        fix="exclude the image instead, or keep it where it is one to predict",
        images=(sample.image,),
    )
    raise DataError("an image cannot be repaired", [problem])


def draw_outline(repair: Repair, *, height_px: int, width_px: int) -> NDArray[np.bool_]:
    """Return the pixels inside the outlines of a repair, and a rim for the soft edge of paint, (H, W)."""
    inside = np.zeros((height_px, width_px), dtype=np.uint8)
    if not repair.outline:
        return inside.astype(bool)
    for polygon in repair.outline:
        points = np.rint(np.array(polygon)[:, ::-1]).astype(np.int32)  # OpenCV has (column, row)
        cv2.fillPoly(inside, [points], 1)
    rim_px = max(RIM_PX, round(RIM_FRAC * max(height_px, width_px)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim_px + 1, 2 * rim_px + 1))
    return np.asarray(cv2.dilate(inside, disc), dtype=bool)


def read_sample_mask(sample: Sample, size_px: tuple[int, ...], *, most_px: int | None = None) -> Picture:
    """Return the mask of a sample that has one, as `smalti.images.read_mask`; another image's is stretched to this one.

    Raises:
        DataError: it cannot be read, or is not of the image's size (height_px, width_px).
    """
    assert sample.mask_path is not None
    if sample.foreign_mask:
        mask, _ = images.read_mask(sample.mask_path, reading=sample.mask_reading, most_px=images.WHOLE_PX)
        scale = 1.0 if most_px is None else min(1.0, (most_px / (size_px[0] * size_px[1])) ** 0.5)
        size = (max(1, int(size_px[1] * scale)), max(1, int(size_px[0] * scale)))
        return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    height, width = images.read_mask_size(sample.mask_path, reading=sample.mask_reading)
    if (height, width) != size_px:
        problem = Problem(
            code="mask-size",
            file=str(sample.mask_path),
            message=f"the mask is {width}x{height} px, its image {size_px[1]}x{size_px[0]} px.",
            fix="save the mask at the size of the image, or leave the image out",
            images=(sample.image,),
        )
        raise DataError("a mask does not fit its image", [problem])
    return images.read_mask(sample.mask_path, reading=sample.mask_reading, most_px=most_px)[0]
