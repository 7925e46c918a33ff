"""Evidence of tissue and glass about masks, in small copies of an image and its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import images
from ...tissue.foreground import BARE_LEVEL, find_light

LEAST_GLASS = 0.01  # of the image, in one piece that reaches its margin: lumina of glands are white as well
ODDS = 4.0  # of glass under the mask against beside it
MOSTLY = 0.5
FEWEST_SUPPORTING = 3  # masks that lie beside the glass, so that one that lies on it is odd
CLEAR = 0.01  # probability that a fair coin is so one-sided


@dataclass(frozen=True, slots=True)
class View:
    """An image and its mask, small.

    Attributes:
        picture: (h, w, 3) RGB.
        mask: (h, w) of 0 and 1.
    """

    picture: NDArray[np.uint8]
    mask: NDArray[np.uint8]

    @classmethod
    def over(cls, picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> View:
        """Return the picture at the size of the mask."""
        size = (mask.shape[1], mask.shape[0])
        return cls(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), mask)


@dataclass(frozen=True, slots=True)
class Polarity:
    """Evidence of one image about whether its mask is inverted.

    Attributes:
        against: whether the mask lies on the glass rather than beside it.
        supporting: whether it lies beside it.
        marked_frac: share of the image that is mask.
        on_glass: share of the mask that lies on glass.
        islands: whether most of what is not marked is stained, in pieces that do not reach the margin.
    """

    against: bool
    supporting: bool
    marked_frac: float
    on_glass: float
    islands: bool

    @property
    def odd(self) -> bool:
        """Return whether it looks inverted by itself."""
        return self.against and (self.marked_frac > MOSTLY or self.on_glass > MOSTLY)


@dataclass(frozen=True, slots=True)
class Balance:
    """Evidence of all images of a cohort.

    Attributes:
        looks: one an image.
        against: how many masks lie on the glass.
        supporting: how many lie beside it.
        marked_frac: share of an image that is marked, the median.
    """

    looks: Sequence[Polarity]
    against: int
    supporting: int
    marked_frac: float

    @classmethod
    def over(cls, looks: Sequence[Polarity]) -> Balance:
        """Return the evidence of these images."""
        marked_frac = median(look.marked_frac for look in looks) if looks else 0.0
        return cls(looks, sum(look.against for look in looks), sum(look.supporting for look in looks), marked_frac)

    @property
    def upright(self) -> bool:
        """Return whether glass says clearly that what is marked is mask."""
        return bool(self.looks) and 2 * self.supporting >= len(self.looks) and self.supporting > ODDS * self.against

    @property
    def reversed(self) -> bool:
        """Return whether glass says clearly that what is not marked is mask."""
        return bool(self.looks) and 2 * self.against >= len(self.looks) and self.against > ODDS * self.supporting

    @property
    def inverted(self) -> bool:
        """Return whether masks lie on glass, and mark most of their images or lie on little else."""
        on_glass = median(look.on_glass for look in self.looks) if self.looks else 0.0
        return self.reversed and (self.marked_frac > MOSTLY or on_glass > MOSTLY)

    @property
    def islands(self) -> bool:
        """Return whether masks mark most of their images, around islands, and glass does not speak for them."""
        count = len(self.looks)
        around = 2 * sum(look.islands for look in self.looks) > count
        return self.marked_frac > MOSTLY and around and ODDS * self.supporting < count

    @property
    def odd(self) -> list[int]:
        """Return the positions of the masks that look inverted by themselves, where glass speaks for the others."""
        if self.supporting < max(self.against, FEWEST_SUPPORTING):
            return []
        return [i for i, look in enumerate(self.looks) if look.odd]


def weigh_polarity(view: View) -> Polarity:
    """Compare a mask with the glass of its image."""
    mask = view.mask.astype(bool)
    pale = find_light(view.picture, grey=False, level=BARE_LEVEL)
    glass = _keep_at_margin(pale.astype(np.uint8), inside=False)
    odds = 1.0
    if glass.mean() >= LEAST_GLASS:
        under, beside = int((glass & mask).sum()), int((glass & ~mask).sum())
        odds = ((under + 1) / (beside + 1)) / ((int(mask.sum()) + 1) / (int((~mask).sum()) + 1))
    ground = 1 - view.mask
    off_margin = _keep_at_margin(ground, inside=True)
    return Polarity(
        against=odds > ODDS,
        supporting=odds < 1 / ODDS,
        marked_frac=float(mask.mean()),
        on_glass=float(glass[mask].mean()) if mask.any() else 0.0,
        islands=bool(2 * off_margin.sum() > ground.sum() > 2 * pale[ground == 1].sum()),
    )


def _keep_at_margin(plane: NDArray[np.uint8], *, inside: bool) -> NDArray[np.bool_]:
    """Return the larger pieces of a plane that reach its margin, or with ``inside`` all that do not."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(plane)
    edges = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    kept = np.full(len(stats), inside)
    kept[edges] = not inside
    kept[0] = False
    if not inside:
        kept &= stats[:, cv2.CC_STAT_AREA] >= LEAST_GLASS * plane.size
    return np.asarray(kept[labels])


def compare_turns(view: View, orientation: int) -> float:
    """Return the gain in how well a mask explains its image's colours once an EXIF orientation turns it as well.

    What is compared is the share of the variance of the mask that is linear in the colours.
    """
    colours = np.column_stack([np.ones(view.mask.size), view.picture.reshape(-1, 3) / 255.0])
    shares = []
    for mask in (images.turn_plane(view.mask, orientation), view.mask):
        wanted = mask.ravel().astype(np.float64)
        factors, *_ = np.linalg.lstsq(colours, wanted, rcond=None)
        variance = float(wanted.var())
        shares.append(1 - float((wanted - colours @ factors).var()) / variance if variance else 0.0)
    return shares[0] - shares[1]


def is_clear(wins: int, count: int) -> bool:
    """Return whether a fair coin would hardly win this often."""
    return count > 0 and sum(math.comb(count, k) for k in range(wins, count + 1)) / 2**count <= CLEAR
