"""What new images are compared by: the audit's digest of a picture, and some numbers of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import images
from ..audit.measure.digest import COPY_PX, PictureDigest, digest_picture
from ..audit.measure.traits import measure_colours
from ..images.pictures import shrink
from ..tissue.density import DENSITY

# name, group, and the smallest spread that counts, which single images of one slide differ by
TRAITS = (
    ("optical density of the tissue", "stain", 0.05),
    ("absorption of green over red and blue", "stain", 0.03),
    ("absorption of red over blue", "stain", 0.03),
    ("brightness of the light", "stain", 0.08),
    ("contrast of red", "contrast", 0.15),
    ("contrast of green", "contrast", 0.15),
    ("contrast of blue", "contrast", 0.15),
    *((f"detail at {px} px beside half of it", "texture", 0.08) for px in (2, 4, 8, 16)),
    ("share of straight lines", "texture", 0.08),
    ("sparseness of fine detail", "texture", 0.08),
    ("sparseness of coarse detail", "texture", 0.08),
    ("sharpness", "texture", 0.08),
    ("share of tissue", "content", 0.1),
    ("share darker than smooth light", "content", 0.05),
    ("share brighter than smooth light", "content", 0.05),
    ("share in colours that no stain has", "content", 0.05),
    ("share without grain", "content", 0.05),
)
NAMES = tuple(name for name, _, _ in TRAITS)
GROUPS = {
    group: np.array([i for i, trait in enumerate(TRAITS) if trait[1] == group])
    for group in dict.fromkeys(trait[1] for trait in TRAITS)
}
SHARPNESS = NAMES.index("sharpness")
# Defocus moves these two together; among all of texture, small tiles would hide it.
GROUPS |= {
    "focus": np.array([NAMES.index("detail at 2 px beside half of it"), SHARPNESS]),
    "all": np.arange(len(TRAITS)),
}
LABORATORY = np.concatenate([GROUPS["stain"], GROUPS["contrast"], [SHARPNESS]])  # what stain and scanner decide


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One picture, measured.

    Attributes:
        digest: by which faults are told.
        traits: (T,) numbers, in the order of `TRAITS`.
        mpp: microns per pixel; None where not known.
    """

    digest: PictureDigest
    traits: NDArray[np.float32]
    mpp: float | None = None


def measure_look(
    picture: NDArray[np.uint8], *, mpp: float | None = None, size_px: tuple[int, int] | None = None
) -> Look:
    """Measure an RGB image (H, W, 3); one above `images.WHOLE_PX` from a shrunken copy, as the audit does.

    Args:
        picture: the whole image; of a slide a copy whose longer side is 1,024 px, as the audit reads it.
        mpp: microns per pixel of the whole image.
        size_px: (height, width) of the whole image, where ``picture`` is a copy.
    """
    height, width = picture.shape[:2]
    if height * width > images.WHOLE_PX:
        picture = np.array(shrink(Image.fromarray(picture), COPY_PX))
    digest = digest_picture(picture, size_px=size_px or (height, width))
    return Look(digest, measure_traits(digest), mpp)


def measure_traits(digest: PictureDigest) -> NDArray[np.float32]:
    """Return the traits (T,) of a picture; where nothing is surely tissue, all of it is taken for the colours."""
    colours = np.array(measure_colours(digest.thumbnail)[:6])
    if not np.isfinite(colours).all():
        pixels = digest.thumbnail.reshape(-1, 3)
        colours = np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)])
    red, green, blue = np.interp(colours[:3], np.arange(256), DENSITY)
    look = digest.appearance
    numbers = [
        (red + green + blue) / 3, green - (red + blue) / 2, red - blue, look.light,
        *np.log(np.maximum(colours[3:], 1)), *look.texture, look.sharpness,
        look.tissue_frac, look.dark_frac, look.bright_frac, look.off_colour_frac, look.grainless_frac,
    ]  # fmt: skip
    return np.array(numbers, dtype=np.float32)
