"""Facts about an image that are not its tissue: size, file, scale, mean colours, mask, name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...tissue.foreground import split_by_density
from ...types import Sample
from .digest import ImageDigest

GLASS_FRAC = 0.02  # of an image, so that its light can be told
GLASS_LEVEL = 170  # darkest channel of the brightest spot: below, tissue covers all of the image
GLASS_SPREAD = 40  # eosin, the palest stain, spreads the channels further
MOST_WORDS = 32
RUNNING = 0.95  # distinct numbers: one count over all images, none that begins anew in each class or case


@dataclass(frozen=True, slots=True, eq=False)
class Trait:
    """One number about each image.

    Attributes:
        name: as it stands in a sentence, for example ``width``.
        values: (n,), NaN where it is not known.
        unit: behind a number; empty where there is none.
        flag: True where the values are 0 and 1, and the name says what 1 means.
    """

    name: str
    values: NDArray[np.float64]
    unit: str = ""
    flag: bool = False


def tabulate_traits(digests: Sequence[ImageDigest]) -> dict[str, list[Trait]]:
    """Return kind -> traits of the images, without those that are the same for all."""
    heights, widths = (np.array([d.size_px[axis] for d in digests], dtype=float) for axis in (0, 1))
    sources = [d.source for d in digests]
    formats = [s.format for s in sources]
    masked = [d.mask_frac is not None for d in digests]
    colours = np.array([measure_colours(d.thumbnail) for d in digests]).reshape(-1, 9)
    names = [f"{what} {channel}" for what in ("mean", "spread of") for channel in ("red", "green", "blue")]
    kinds = {
        "size": [_number("width", widths, "px"), _number("height", heights, "px"), _number("aspect", widths / heights)],
        "file": [
            *(_flag(f"format {name}", [f == name for f in formats]) for name in sorted(set(formats))),
            _number("JPEG quantisation step", [s.jpeg_step for s in sources]),
        ],
        "bytes": [_number("bytes per pixel", np.array([s.bytes for s in sources]) / (heights * widths))],
        "scale": [_number("microns per pixel", [np.nan if s.mpp is None else s.mpp for s in sources])],
        "colour": [_number(f"{name} of the tissue", colours[:, i]) for i, name in enumerate(names)],
        "glass": [_number(f"{c} of the glass", colours[:, 6 + i]) for i, c in enumerate(("red", "green", "blue"))],
        "mask presence": [_flag("a mask", masked)],
        "mask shape": [
            _number("share under the mask", [np.nan if d.mask_frac is None else d.mask_frac for d in digests]),
            _number("pieces of the mask", [np.nan if s.mask_pieces is None else s.mask_pieces for s in sources]),
        ],
    }  # fmt: skip
    return {kind: varying for kind, traits in kinds.items() if (varying := [t for t in traits if varies(t)])}


def tabulate_names(samples: Sequence[Sample], classes: Sequence[str], *, layout: str) -> list[Trait]:
    """Return traits of file and folder names, and of their order.

    A name that says its class does so by construction: the class folder and the words of class names are skipped.
    """
    classes_said = {_fold(name) for name in classes}
    paths = [PurePosixPath(s.image) for s in samples]
    folders = ["/".join(p for p in path.parent.parts if _fold(p) not in classes_said) for path in paths]
    if layout == "class-folders":
        folders = ["" for _ in paths]  # cases and classes are all that they say
    words = [{w for w in re.findall(r"[^\W\d_]+", path.stem) if _fold(w) not in classes_said} for path in paths]
    whole_word = classes_said | {_fold(part) for name in classes for part in re.findall(r"[^\W\d_]+", name)}
    words = [{w for w in found if _fold(w) not in whole_word} for found in words]
    known = Counter(w for found in words for w in found)
    common = [w for w, count in known.most_common(MOST_WORDS) if 1 < count < len(samples)]
    traits = [_flag(f"'{w}' in the name", [w in found for found in words]) for w in common]
    traits += [_flag(f"folder '{name}'", [f == name for f in folders]) for name in sorted(set(folders))[:MOST_WORDS]]
    numbers = [[int(n[-15:]) for n in re.findall(r"\d+", path.stem)] for path in paths]
    if all(numbers):
        last = [found[-1] for found in numbers]
        if len(set(last)) >= RUNNING * len(last):  # it counts through all images
            traits.append(_number("last number in the name", last))
        if all(len(found) > 1 for found in numbers):
            traits.append(_number("first number in the name", [found[0] for found in numbers]))
    return [t for t in traits if varies(t)]


def _fold(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _number(name: str, values: Sequence[float] | NDArray[np.float64], unit: str = "") -> Trait:
    return Trait(name, np.asarray(values, dtype=np.float64), unit)


def _flag(name: str, values: Sequence[bool]) -> Trait:
    return Trait(name, np.asarray(values, dtype=np.float64), flag=True)


def varies(trait: Trait) -> bool:
    """Return whether a trait has two known values or more."""
    known = trait.values[np.isfinite(trait.values)]
    return bool(len(known)) and bool(np.ptp(known) > 0)


def measure_colours(thumbnail: NDArray[np.uint8]) -> list[float]:
    """Return mean and spread of tissue's channels and the colour of glass: nine numbers, NaN for too few pixels."""
    pixels = thumbnail.reshape(-1, 3).astype(np.float64)
    light = np.percentile(pixels, 99, axis=0)
    dense, clear = split_by_density(pixels, light)
    tissue, glass = pixels[dense], pixels[clear]
    plain = light.min() >= GLASS_LEVEL and np.ptp(light) <= GLASS_SPREAD and clear.mean() >= GLASS_FRAC
    stained = [*tissue.mean(axis=0), *tissue.std(axis=0)] if len(tissue) else [np.nan] * 6
    return [*stained, *(np.median(glass, axis=0) if plain else [np.nan] * 3)]
