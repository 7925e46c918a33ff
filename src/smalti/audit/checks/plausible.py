"""Images that cannot be pictures of tissue. The check is absolute: in a cohort that is black, black is usual."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Cohort, Finding
from .registered import CHECKS, Digest, propose_exclusion

BLACK = 16  # of 255; values of 12 bits that are taken for 16 end here, and so do those of 10 bits
EVEN = 2  # of 255; pixels of a channel of one value differ by no more after shrinking
CHANNELS = ("red", "green", "blue")


@CHECKS.register(
    "implausible-image", summary="images of which no pixel can be right: black, one colour, a channel that is empty"
)
def find_implausible(cohort: Cohort, digest: Digest) -> list[Finding]:
    """Return a finding for each image that is black, of one colour, or has a channel of one value."""
    findings = []
    for d in digest.images:
        if not (reason := explain_implausible(d.thumbnail)):
            continue
        ends = _find_ends(d.thumbnail)
        findings.append(
            Finding(
                code="implausible-image",
                severity="warning",
                images=(d.image,),
                score=1.0,
                message=f"{d.image} cannot be a picture of tissue: {reason}.",
                proposal=propose_exclusion(digest.sample(d.image)),
                evidence={name: list(levels) for name, levels in ends.items()},
            )
        )
    return findings


def explain_implausible(thumbnail: NDArray[np.uint8]) -> str:
    """Return why an image cannot be a picture of tissue, by its thumbnail (h, w, 3); empty where it can."""
    ends = _find_ends(thumbnail)
    still = [f"{name} is {low}" for name, (low, high) in ends.items() if high - low <= EVEN]
    if max(high for _, high in ends.values()) < BLACK:
        return f"no pixel is brighter than {BLACK - 1} of 255; its values may use fewer bits than its file has room for"
    if len(still) == len(ends):
        return "it is of one colour"
    return f"{' and '.join(still)} in all pixels" if still else ""


def _find_ends(thumbnail: NDArray[np.uint8]) -> dict[str, tuple[int, int]]:
    return {name: (int(thumbnail[..., i].min()), int(thumbnail[..., i].max())) for i, name in enumerate(CHANNELS)}
