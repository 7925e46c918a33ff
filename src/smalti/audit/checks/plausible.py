"""Can this be a picture of tissue? An absolute check: a cohort that is black throughout has no usual image to miss."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Cohort, Finding
from .registered import CHECKS, Digest, propose_exclusion

BLACK = 16  # of 255; values of 12 bits that are taken for 16 end here, and so do those of 10 bits
EVEN = 2  # of 255; what all pixels of a channel may differ by, and be one value that was shrunk
CHANNELS = ("red", "green", "blue")


@CHECKS.register(
    "implausible-image", summary="images of which no pixel can be right: black, one colour, a channel that is empty"
)
def find_implausible(cohort: Cohort, digest: Digest) -> list[Finding]:
    """One finding for each image that is black, of one colour, or has a channel of one value."""
    findings = []
    for d in digest.images:
        reason = _find_reason(d.thumbnail)
        if reason:
            findings.append(
                Finding(
                    code="implausible-image",
                    severity="warning",
                    images=(d.image,),
                    score=1.0,
                    message=f"{d.image} cannot be a picture of tissue: {reason}.",
                    proposal=propose_exclusion(digest.sample(d.image)),
                    evidence={name: [int(low), int(high)] for name, low, high in _list_ends(d.thumbnail)},
                )
            )
    return findings


def _list_ends(thumbnail: NDArray[np.uint8]) -> list[tuple[str, int, int]]:
    return [(name, int(thumbnail[..., i].min()), int(thumbnail[..., i].max())) for i, name in enumerate(CHANNELS)]


def _find_reason(thumbnail: NDArray[np.uint8]) -> str:
    ends = _list_ends(thumbnail)
    if max(high for _, _, high in ends) < BLACK:
        return f"no pixel is brighter than {BLACK - 1} of 255; its values may use fewer bits than its file has room for"
    still = [f"{name} is {low}" for name, low, high in ends if high - low <= EVEN]
    if len(still) == len(ends):
        return "it is of one colour"
    return f"{' and '.join(still)} in all pixels" if still else ""
