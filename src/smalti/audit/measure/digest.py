"""What the checks need to know about each image, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import images
from ...tissue.appearance import Appearance, measure_appearance
from ...types import Sample
from .keypoints import Texture, describe_texture
from .outlines import Outline, describe_outline
from .spots import ColourSummary, summarise_colours

THUMBNAIL_PX = 256  # contrast
KEPT_PX = 128  # what checks may look at again; 48 kB an image. Smaller images are taken as they are


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Where an image comes from rather than what it shows.

    Attributes:
        bytes: length of the file.
        format: file format, kind of pixels, compression, as in ``JPEG RGB``.
        jpeg_step: mean quantisation step, larger is coarser; 0 for what is no JPEG.
        mpp: microns per pixel; None where not known.
        mask_pieces: connected parts of the mask; None without a mask.
    """

    bytes: int
    format: str
    jpeg_step: float
    mpp: float | None
    mask_pieces: int | None


@dataclass(frozen=True, slots=True, eq=False)
class ImageDigest:
    """One image, summed up.

    Attributes:
        image: name in the cohort.
        file_hash: of the bytes of the file.
        pixel_hash: of the decoded pixels; of the file where the image is too large to be decoded whole.
        size_px: (height, width) of the image.
        thumbnail: (h, w, 3) RGB, longer side at most 128.
        contrast: standard deviation of the grey levels of the shrunken image.
        texture: points and lightness, by which duplicates are found.
        mask_hash: of the mask's 0 and 1 and its size; None without a mask.
        mask_frac: share of the image under the mask.
        outline: of the mask; None without a mask.
        source: of the file and its mask.
        colours: what may be painted on it.
        appearance: tissue, glass, light, texture.
    """

    image: str
    file_hash: str
    pixel_hash: str
    size_px: tuple[int, int]
    thumbnail: NDArray[np.uint8]
    contrast: float
    texture: Texture
    mask_hash: str | None
    mask_frac: float | None
    outline: Outline | None
    source: SourceFacts
    colours: ColourSummary
    appearance: Appearance


def digest_sample(sample: Sample) -> ImageDigest:
    """Read an image and its mask once and sum them up.

    Raises:
        DataError: a file cannot be read.
    """
    with images.hold_files(sample.files):
        return _digest_held(sample)


def _digest_held(sample: Sample) -> ImageDigest:
    file_hash = images.hash_image(sample.path)
    height, width = images.read_size(sample.path)
    if height * width > images.WHOLE_PX:  # looked at through a thumbnail only
        picture = images.read_thumbnail(sample.path, longest_px=4 * THUMBNAIL_PX, bits=sample.bits)
        pixel_hash = file_hash
    else:
        picture = images.read_image(sample.path, bits=sample.bits)
        pixel_hash = _hash_array(picture)
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    thumbnail = picture
    if max(picture.shape[:2]) >= KEPT_PX:
        grey = _shrink(grey, THUMBNAIL_PX)
        thumbnail = _shrink(_shrink(picture, THUMBNAIL_PX), KEPT_PX)
    mask = None
    if sample.mask_path is not None:
        mask, _ = images.read_mask(sample.mask_path, reading=sample.mask_reading, most_px=images.WHOLE_PX)
    return ImageDigest(
        image=sample.image,
        file_hash=file_hash,
        pixel_hash=pixel_hash,
        size_px=(height, width),
        thumbnail=thumbnail,
        contrast=float(grey.std()),
        texture=describe_texture(picture),
        mask_hash=None if mask is None else _hash_array(mask),
        mask_frac=None if mask is None else cv2.countNonZero(mask) / mask.size,
        outline=None if mask is None else describe_outline(mask),
        source=_read_source(sample, mask),
        colours=summarise_colours(picture, mask),
        appearance=measure_appearance(picture, mask),
    )


def _read_source(sample: Sample, mask: NDArray[np.uint8] | None) -> SourceFacts:
    form, jpeg_step = images.read_encoding(sample.path)
    pieces = None if mask is None else cv2.connectedComponents(_shrink(mask, 2 * THUMBNAIL_PX))[0] - 1
    return SourceFacts(images.read_stamp(sample.path)[0], form, jpeg_step, images.read_mpp(sample.path), pieces)


def _hash_array(array: NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=12)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _resize(picture: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrink(picture: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    height, width = (max(1, round(n * longest_px / max(picture.shape[:2]))) for n in picture.shape[:2])
    return _resize(picture, height=height, width=width)
