"""The stain of an image as a frame: three axes and an origin in optical density, estimated from some tissue pixels.

Density is `smalti.tissue.density.STAIN_DENSITY`, in which stains add. A frame (3, 4) says
``density = axes @ amounts + origin``; its columns are the three axes and the origin. Along an axis, amount 1 is a high
amount for this image. An image gets another look where its amounts stay and its frame changes, whatever method found
the frame: one affine map (`smalti.samples.stain`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..registry import Registry
from .vahadane import factorise

TAIL_PERCENT = 1.0  # of the stained pixels beyond each of the two stain vectors (Macenko's alpha)
MUCH_PERCENT = 99.0  # of the pixels have less of a stain than amount 1
# Degrees. Haematoxylin and eosin are 13 to 34 apart (Vahadane: 7 to 31) in all but one of 145 real images; grain of two
# grey levels alone spreads one stain over 3 to 5.
LEAST_ANGLE = 5.0
# Ruderman's axes of natural images: lightness, yellow-blue, red-green; orthonormal, one a row.
OPPONENT = np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]]) / np.sqrt([[3], [6], [2]])

Floats = NDArray[np.float64]
Estimator = Callable[[Floats], Floats]
STAINS: Registry[Estimator] = Registry("stain")
UNKNOWN = np.full((3, 4), np.nan)  # frame of an image whose stain cannot be told
UNKNOWN.setflags(write=False)


# Every image has the same frame: density itself.
STAINS.add("none", lambda densities: np.eye(3, 4), summary="tiles keep the colours that they have")


@STAINS.register(
    "macenko", summary="stain vectors at both ends of the plane of densities", reference="Macenko et al. 2009"
)
def build_macenko(*, centred: bool = False) -> Estimator:
    """Estimate haematoxylin, eosin and a third axis; see `find_stains`."""
    return lambda densities: make_frame(find_stains(densities, centred=centred), densities)


STAINS.add(
    "vahadane",
    lambda densities: make_frame(_order(factorise(densities, start=find_stains(densities))), densities),
    summary="stain vectors by sparse non-negative factorisation",
    reference="Vahadane et al. 2016",
)


def spread_opponent(densities: Floats) -> Floats:
    """Return the frame (3, 4) of mean and standard deviation along lightness, yellow-blue and red-green.

    Reinhard et al. take these axes after the logarithm of cone responses, which are mixtures of red, green and blue;
    here they are taken of the logarithm of red, green and blue themselves. That keeps the change of an image one
    affine map in density, so that it composes with stain augmentation, and costs little
    (``benchmarks/bench_stain.py`` has the difference to the textbook's way).
    """
    seen = densities @ OPPONENT.T
    spread = seen.std(axis=0)
    if not (spread > 1e-6).all():
        return UNKNOWN
    return np.column_stack([OPPONENT.T * spread, OPPONENT.T @ seen.mean(axis=0)])


STAINS.add(
    "reinhard",
    spread_opponent,
    summary="mean and spread along opponent axes of optical density",
    reference="Reinhard et al. 2001",
)


def find_stains(densities: Floats, *, centred: bool = False) -> Floats:
    """Return unit vectors (3, 2) of haematoxylin and eosin in densities (n, 3) of stained pixels (Macenko et al. 2009).

    The pixels are seen in the plane of their two largest singular vectors; the stains lie where a hundredth of the
    pixels is left on either side. Angles are measured from the mean direction, so that the arbitrary signs of the
    vectors cannot tear the pixels apart. Haematoxylin is the one that absorbs more red.

    With ``centred`` the plane is that of the covariance, as in implementations that go back to the paper's authors. It
    need not pass near the pixels, whose mean is far from white: on 85 real gland images it leaves nearly twice the
    difference between normalised images.
    """
    _, vectors = np.linalg.eigh(np.cov(densities.T) if centred else densities.T @ densities)
    plane = vectors[:, 1:]
    seen = densities @ plane
    middle = seen.mean(axis=0)
    middle /= max(float(np.linalg.norm(middle)), 1e-12)
    turn = np.array([[middle[0], -middle[1]], [middle[1], middle[0]]])  # its first column is the middle
    along, aside = (seen @ turn).T
    angles = np.percentile(np.arctan2(aside, along), [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return _order(plane @ turn @ np.stack([np.cos(angles), np.sin(angles)]))


def make_frame(stains: Floats, densities: Floats) -> Floats:
    """Return the frame (3, 4) of two stain vectors (3, 2), each as long as a high amount of it in densities (n, 3).

    The third axis is the direction that neither stain explains, of unit length, so that nothing of a pixel is lost; the
    origin is zero. NaN where the two vectors are too close to be two stains, or a stain is missing.
    """
    angle = np.degrees(np.arccos(np.clip(stains[:, 0] @ stains[:, 1], -1, 1)))
    if not angle >= LEAST_ANGLE:  # also where it is NaN
        return UNKNOWN
    amounts = densities @ np.linalg.pinv(stains).T
    much = np.percentile(amounts, MUCH_PERCENT, axis=0)
    if not (much > 0).all():
        return UNKNOWN
    third = np.cross(stains[:, 0], stains[:, 1])
    return np.column_stack([stains * much, third / np.linalg.norm(third), np.zeros(3)])


def _order(stains: Floats) -> Floats:
    return stains if stains[0, 0] > stains[0, 1] else stains[:, ::-1]
