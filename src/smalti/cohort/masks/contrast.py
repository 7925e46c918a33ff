"""What tissue and glass say about masks: seen in small copies of an image and its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import images

GLASS = 35  # 255 less the darkest channel; stain darkens at least one channel
LEAST_GLASS = 0.01  # of the image, in one piece that reaches its margin: lumina of glands are white as well
ODDS = 4.0  # of glass under the mask against beside it
MOSTLY = 0.5
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
        """The picture at the size of the mask."""
        size = (mask.shape[1], mask.shape[0])
        return cls(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), mask)


@dataclass(frozen=True, slots=True)
class Polarity:
    """What one image says of whether its mask is inverted.

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
        """Whether it looks inverted by itself."""
        return self.against and (self.marked_frac > MOSTLY or self.on_glass > MOSTLY)


@dataclass(frozen=True, slots=True)
class Balance:
    """What the images of a cohort say together.

    Attributes:
        looks: one an image.
    """

    looks: Sequence[Polarity]

    @property
    def against(self) -> int:
        """How many masks lie on the glass."""
        return sum(look.against for look in self.looks)

    @property
    def supporting(self) -> int:
        """How many lie beside it."""
        return sum(look.supporting for look in self.looks)

    @property
    def upright(self) -> bool:
        """Whether glass says clearly that what is marked is mask."""
        return bool(self.looks) and 2 * self.supporting >= len(self.looks) and self.supporting > ODDS * self.against

    @property
    def reversed(self) -> bool:
        """Whether glass says clearly that what is not marked is mask."""
        return bool(self.looks) and 2 * self.against >= len(self.looks) and self.against > ODDS * self.supporting

    @property
    def marked_frac(self) -> float:
        """Share of an image that is marked, the median."""
        return median(look.marked_frac for look in self.looks) if self.looks else 0.0

    @property
    def inverted(self) -> bool:
        """Whether masks lie on glass, and mark most of their images or lie on little else."""
        on_glass = median(look.on_glass for look in self.looks) if self.looks else 0.0
        return self.reversed and (self.marked_frac > MOSTLY or on_glass > MOSTLY)

    @property
    def islands(self) -> bool:
        """Whether masks mark most of their images, around islands, and glass does not speak for them."""
        count = len(self.looks)
        around = 2 * sum(look.islands for look in self.looks) > count
        return self.marked_frac > MOSTLY and around and ODDS * self.supporting < count

    @property
    def odd(self) -> list[int]:
        """Positions of the masks that look inverted by themselves."""
        return [i for i, look in enumerate(self.looks) if look.odd]

    @property
    def words(self) -> str:
        """The counts, for messages."""
        return f"{self.against} of {len(self.looks)} looked at lie on it, {self.supporting} beside it"


def weigh_polarity(view: View) -> Polarity:
    """Compare a mask with the glass of its image."""
    mask = view.mask.astype(bool)
    absorbed = (255 - view.picture.min(axis=2)).astype(np.uint8)
    pale = absorbed <= GLASS
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
    """The larger pieces of a plane that reach its margin, or with ``inside`` all that do not."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(plane)
    edges = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    kept = np.full(len(stats), inside)
    kept[edges] = not inside
    kept[0] = False
    if not inside:
        kept &= stats[:, cv2.CC_STAT_AREA] >= LEAST_GLASS * plane.size
    return np.asarray(kept[labels])


def compare_turns(view: View, orientation: int) -> float:
    """By how much a mask explains the colours of its image better once it is turned by an EXIF orientation as well."""
    turned = images.turn_plane(view.mask, orientation)
    return _explain(view.picture, turned) - _explain(view.picture, view.mask)


def _explain(picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Share of the variance of a mask that is linear in the colours."""
    colours = np.column_stack([np.ones(mask.size), picture.reshape(-1, 3) / 255.0])
    wanted = mask.ravel().astype(np.float64)
    factors, *_ = np.linalg.lstsq(colours, wanted, rcond=None)
    variance = float(wanted.var())
    return 1 - float((wanted - colours @ factors).var()) / variance if variance else 0.0


def is_clear(wins: int, count: int) -> bool:
    """Whether a fair coin would hardly win so often."""
    return count > 0 and sum(math.comb(count, k) for k in range(wins, count + 1)) / 2**count <= CLEAR
