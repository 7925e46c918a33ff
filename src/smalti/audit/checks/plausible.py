"""Images that cannot be pictures of tissue. The check is absolute: in a cohort that is black, black is usual."""

from __future__ import annotations

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
        ends = {
            name: (int(d.thumbnail[..., i].min()), int(d.thumbnail[..., i].max())) for i, name in enumerate(CHANNELS)
        }
        still = [f"{name} is {low}" for name, (low, high) in ends.items() if high - low <= EVEN]
        if max(high for _, high in ends.values()) < BLACK:
            reason = f"no pixel is brighter than {BLACK - 1} of 255; its values may use fewer bits than its file has"
            reason += " room for"
        elif len(still) == len(ends):
            reason = "it is of one colour"
        elif still:
            reason = f"{' and '.join(still)} in all pixels"
        else:
            continue
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
