"""Is there tissue to learn from, and can it be seen?"""

from __future__ import annotations

from ..types import Cohort, Finding
from .checks import CHECKS, Digest, NotApplicable, propose_exclusion

BLANK_FRAC = 0.03


@CHECKS.register("blank", summary="images with hardly any tissue")
def find_blanks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image of which less than 3 % is coloured or dark."""
    return [
        Finding(
            code="blank",
            severity="warning",
            images=(d.image,),
            score=1 - d.tissue_frac,
            message=f"{d.image} is blank: tissue covers {d.tissue_frac:.1%}, less than {BLANK_FRAC:.0%}.",
            proposal=propose_exclusion(digest.sample(d.image)),
            evidence={"tissue_frac": round(d.tissue_frac, 4), "contrast": round(d.contrast, 2)},
        )
        for d in digest.images
        if d.tissue_frac < BLANK_FRAC
    ]


@CHECKS.register("blank-under-mask", summary="masks that lie on glass")
def find_blank_masks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image with tissue of which less than 3 % lies under its mask; blank images aside."""
    measured = [(d, d.masked_tissue_frac) for d in digest.images if d.masked_tissue_frac is not None]
    if not measured:
        return NotApplicable("no image has a mask")
    return [
        Finding(
            code="blank-under-mask",
            severity="warning",
            images=(d.image,),
            score=1 - frac,
            message=f"the mask of {d.image} lies on glass: tissue fills {frac:.1%} of it, less than {BLANK_FRAC:.0%}.",
            proposal=propose_exclusion(digest.sample(d.image)),
            evidence={"masked_tissue_frac": round(frac, 4), "tissue_frac": round(d.tissue_frac, 4)},
        )
        for d, frac in measured
        if frac < BLANK_FRAC <= d.tissue_frac
    ]
