"""What the checks need to know about each image, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import images, runs
from ..types import Sample
from .spots import ColourSummary, summarise_colours

WHOLE_PX = 100_000_000  # larger images are looked at through a thumbnail only
THUMBNAIL_PX = 256  # tissue
KEPT_PX = 128  # what checks may look at again; 48 kB an image
FINE_PX = 128  # verifies duplicates; about one pixel per nucleus at 1,000 px
COARSE_PX = 32  # proposes duplicates
# Parts of an image (top, left, side; shares): all of it, and what a crop of a few percent may have left.
COARSE_CROPS = ((0, 0, 1), (0.03, 0.03, 0.94), (0, 0, 0.94), (0, 0.06, 0.94), (0.06, 0, 0.94), (0.06, 0.06, 0.94))
CHROMA = 18  # channel spread that stain has and glass has not
DARKNESS = 60  # below white by so much: ink, nuclei, pigment
CONTRAST_FLOOR = 4.0  # grey levels; keeps compression noise of even areas from counting as texture


@dataclass(frozen=True, slots=True, eq=False)
class ImageDigest:
    """One image, summed up.

    Attributes:
        image: name in the cohort.
        file_hash: of the bytes of the file.
        pixel_hash: of the decoded pixels; of the file where the image is too large to be decoded whole.
        size_px: (height, width) of the image.
        thumbnail: (h, w, 3) RGB, longer side 128.
        contrast: standard deviation of the thumbnail's grey levels.
        tissue_frac: share of the thumbnail that is coloured or dark.
        masked_tissue_frac: the same of the part under the mask; None without a mask or where it marks nothing.
        coarse: (crops, 32, 32) texture of the whole image and of its crops, aspect dropped.
        fine: (h, w) texture, longer side 128.
        mask_hash: of the mask's 0 and 1 and its size; None without a mask.
        mask_frac: share of the image under the mask.
        colours: what may be painted on it.
    """

    image: str
    file_hash: str
    pixel_hash: str
    size_px: tuple[int, int]
    thumbnail: NDArray[np.uint8]
    contrast: float
    tissue_frac: float
    masked_tissue_frac: float | None
    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    mask_hash: str | None
    mask_frac: float | None
    colours: ColourSummary


def digest_sample(sample: Sample) -> ImageDigest:
    """Read an image and its mask once and sum them up.

    Raises:
        DataError: a file cannot be read.
    """
    file_hash = runs.hash_file(sample.path)
    height, width = images.read_size(sample.path)
    if height * width > WHOLE_PX:
        picture = images.read_thumbnail(sample.path, longest_px=4 * THUMBNAIL_PX)
        pixel_hash = file_hash
    else:
        picture = images.read_image(sample.path)
        pixel_hash = _hash_array(picture)
    small = _shrink(picture, THUMBNAIL_PX)
    thumbnail = small.astype(np.int16)
    grey = _shrink(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8), THUMBNAIL_PX)
    mask = None if sample.mask_path is None else images.read_mask(sample.mask_path)[0]
    tissue = _find_tissue(thumbnail)
    return ImageDigest(
        image=sample.image,
        file_hash=file_hash,
        pixel_hash=pixel_hash,
        size_px=(height, width),
        thumbnail=_shrink(small, KEPT_PX),
        contrast=float(grey.std()),
        tissue_frac=float(tissue.mean()),
        masked_tissue_frac=None if mask is None else _measure_under(mask, tissue),
        coarse=np.stack([_flatten_light(_crop(grey, crop), sigma_px=3.0) for crop in COARSE_CROPS]),
        fine=_flatten_light(_shrink(grey, FINE_PX), sigma_px=4.0),
        mask_hash=None if mask is None else _hash_array(mask),
        mask_frac=None if mask is None else cv2.countNonZero(mask) / mask.size,
        colours=summarise_colours(picture, mask),
    )


def _hash_array(array: NDArray[np.uint8]) -> str:
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=12)
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _resize(picture: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _shrink(picture: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    height, width = (max(1, round(n * longest_px / max(picture.shape[:2]))) for n in picture.shape[:2])
    return _resize(picture, height=height, width=width)


def _crop(grey: NDArray[np.uint8], crop: tuple[float, float, float]) -> NDArray[np.uint8]:
    top, left, side = crop
    height, width = grey.shape
    row, col = round(top * height), round(left * width)
    part = grey[row : row + max(1, round(side * height)), col : col + max(1, round(side * width))]
    return _resize(part, height=COARSE_PX, width=COARSE_PX)


def _find_tissue(thumbnail: NDArray[np.int16]) -> NDArray[np.bool_]:
    brightest, darkest = thumbnail.max(axis=2), thumbnail.min(axis=2)
    return np.asarray((brightest - darkest > CHROMA) | (255 - brightest > DARKNESS))


def _measure_under(mask: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> float | None:
    """Share of tissue under the mask, each pixel of the thumbnail weighed by its coverage."""
    height, width = tissue.shape
    coverage = _resize(255 * mask, height=height, width=width).astype(np.float64)
    return float((coverage * tissue).sum() / coverage.sum()) if coverage.any() else None


def _flatten_light(grey: NDArray[np.uint8], *, sigma_px: float) -> NDArray[np.float32]:
    """Local contrast normalisation (Jarrett et al. 2009): what is left does not change with brightness or stain.

    Two fields of one slide share layout, light and colour; only the texture tells them apart.
    """
    detail = grey.astype(np.float32)
    detail -= cv2.GaussianBlur(detail, (0, 0), sigma_px)
    contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), sigma_px))
    return np.asarray(detail / (contrast + CONTRAST_FLOOR), dtype=np.float32)
