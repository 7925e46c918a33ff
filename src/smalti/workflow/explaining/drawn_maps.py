"""Draw the map of an answer over its image: for a folder of answers, and for a page."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...images import read_thumbnail
from ...records.layout import name_map
from ...store import write_atomic
from ...types import Sample

if TYPE_CHECKING:
    from ...model import FolderAnswers, Model, TileMap

UNIT = "score of each tile alone"


def write_maps(
    model: Model,
    found: FolderAnswers,
    *,
    mpp: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the map of each answered image below the folder of the answers; one that is there is kept.

    `smalti.model.answer_folder` deletes the map of an image that it asks about again, so that a map which is there
    belongs to its answer.

    Args:
        model: that gave the answers.
        found: the answers.
        mpp: microns per pixel of images that do not say their own, as for the answers.
        progress: hears how many images are done, and how many there are.

    Returns:
        How many answered images have a map; of the others no network sees more than one tile.
    """
    answered = set(found.table.loc[found.table["refused"] == "", "image"])
    samples = [sample for sample in found.fresh.samples if sample.image in answered]
    drawn = 0
    for done, sample in enumerate(samples, start=1):
        path = found.path / name_map(sample.image)
        if not path.is_file():
            answer, seen = model.map_answer(sample, mpp=mpp)
            if seen is not None and answer.scores is not None:
                title = model.classes[int(np.argmax(answer.scores))]
                write_atomic(path, encode_png(draw_map(sample, seen, title=title)))
        drawn += path.is_file()
        if progress is not None:
            progress(done, len(samples))
    return drawn


def draw_map(sample: Sample, seen: TileMap, *, title: str, longest_px: int | None = None) -> NDArray[np.uint8]:
    """Return the map over its image, (h, w, 3) RGB with a legend.

    Args:
        sample: the image.
        seen: its map.
        title: the class, for the legend.
        longest_px: the longer side at most; None keeps the size of the map.
    """
    from ...report import Legend, draw_overlay

    heat = seen.heat
    if longest_px is not None and (scale := longest_px / max(heat.shape)) < 1:
        size = tuple(max(1, round(side * scale)) for side in reversed(heat.shape))
        heat = np.asarray(cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST), dtype=np.float32)  # NaN stays NaN
    picture = read_scaled(sample, size_px=(heat.shape[0], heat.shape[1]))
    return draw_overlay(picture, heat, mask=None, legend=Legend(title, UNIT))


def read_scaled(sample: Sample, *, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image at the size (h, w) of its map."""
    picture = read_thumbnail(sample.path, longest_px=max(size_px), bits=sample.bits)
    if picture.shape[:2] != size_px:  # the shorter side may be rounded another way
        picture = np.asarray(cv2.resize(picture, size_px[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return picture


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture as PNG; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
