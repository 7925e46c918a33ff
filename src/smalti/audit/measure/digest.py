"""The facts that the checks need about each image, read once."""

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
COPY_PX = 4 * THUMBNAIL_PX  # of an image above `images.WHOLE_PX`
KEPT_PX = 128  # for checks that need pixels again; 48 kB an image. Smaller images stay as they are


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The file of an image and of its mask, apart from the picture.

    Attributes:
        bytes: length of the file.
        format: file format, kind of pixels, compression, as in ``JPEG RGB``.
        jpeg_step: mean quantisation step, larger is coarser; 0 for other formats.
        mpp: microns per pixel; None where not known.
        mask_pieces: connected parts of the mask; None without a mask.
    """

    bytes: int
    format: str
    jpeg_step: float
    mpp: float | None
    mask_pieces: int | None


@dataclass(frozen=True, slots=True, eq=False)
class PictureDigest:
    """One picture, summed up by its pixels alone.

    Attributes:
        size_px: (height, width) of the image.
        thumbnail: (h, w, 3) RGB, longer side at most 128.
        colours: possible paint.
        appearance: tissue, glass, light, texture.
    """

    size_px: tuple[int, int]
    thumbnail: NDArray[np.uint8]
    colours: ColourSummary
    appearance: Appearance


@dataclass(frozen=True, slots=True, eq=False)
class ImageDigest(PictureDigest):
    """One image of a cohort, summed up.

    Attributes:
        image: name in the cohort.
        file_hash: of the bytes of the file.
        pixel_hash: of the decoded pixels; of the file where the image is too large to be decoded whole.
        contrast: standard deviation of the grey levels of the shrunken image.
        texture: points and lightness, by which duplicates are found.
        mask_hash: of the mask's 0 and 1 and its size; None without a mask.
        mask_frac: share of the image under the mask.
        outline: of the mask; None without a mask.
        source: of the file and its mask.
    """

    image: str
    file_hash: str
    pixel_hash: str
    contrast: float
    texture: Texture
    mask_hash: str | None
    mask_frac: float | None
    outline: Outline | None
    source: SourceFacts


def digest_sample(sample: Sample) -> ImageDigest:
    """Read an image and its mask once and summarise them.

    Raises:
        DataError: a file cannot be read.
    """
    with images.hold_files(sample.files):
        file_hash = images.hash_image(sample.path)
        height, width = images.read_size(sample.path)
        if height * width > images.WHOLE_PX:  # only a thumbnail is decoded
            picture = images.read_thumbnail(sample.path, longest_px=COPY_PX, bits=sample.bits)
            pixel_hash = file_hash
        else:
            picture = images.read_image(sample.path, bits=sample.bits)
            pixel_hash = _hash_array(picture)
        mask = None
        if sample.mask_path is not None:
            mask, _ = images.read_mask(sample.mask_path, reading=sample.mask_reading, most_px=images.WHOLE_PX)
        pieces = None if mask is None else cv2.connectedComponents(_shrink(mask, 2 * THUMBNAIL_PX))[0] - 1
        form, jpeg_step = images.read_encoding(sample.path)
        source = SourceFacts(images.read_stamp(sample.path)[0], form, jpeg_step, images.read_mpp(sample.path), pieces)
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    if max(picture.shape[:2]) >= KEPT_PX:
        grey = _shrink(grey, THUMBNAIL_PX)
    seen = digest_picture(picture, mask, size_px=(height, width))
    return ImageDigest(
        size_px=seen.size_px,
        thumbnail=seen.thumbnail,
        colours=seen.colours,
        appearance=seen.appearance,
        image=sample.image,
        file_hash=file_hash,
        pixel_hash=pixel_hash,
        contrast=float(grey.std()),
        texture=describe_texture(picture),
        mask_hash=None if mask is None else _hash_array(mask),
        mask_frac=None if mask is None else cv2.countNonZero(mask) / mask.size,
        outline=None if mask is None else describe_outline(mask),
        source=source,
    )


def digest_picture(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8] | None = None, *, size_px: tuple[int, int] | None = None
) -> PictureDigest:
    """Summarise the pixels of an RGB image (H, W, 3), and its mask (H, W) of 0 and 1 if it has one.

    Args:
        picture: the whole image, or a shrunken copy of a large one.
        mask: where it has one.
        size_px: (height, width) of the whole image, where ``picture`` is a copy.
    """
    thumbnail = picture
    if max(picture.shape[:2]) >= KEPT_PX:
        thumbnail = _shrink(_shrink(picture, THUMBNAIL_PX), KEPT_PX)
    height, width = size_px or picture.shape[:2]
    return PictureDigest(
        (height, width), thumbnail, summarise_colours(picture, mask), measure_appearance(picture, mask)
    )


def _hash_array(array: NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=12)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _shrink(picture: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    height, width = (max(1, round(n * longest_px / max(picture.shape[:2]))) for n in picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
