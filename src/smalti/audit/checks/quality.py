"""Is there tissue to learn from, and can it be seen?"""

from __future__ import annotations

import numpy as np

from ...stats.robust import LEAST_IMAGES, score_deviation
from ...tissue.appearance import Appearance
from ...types import Cohort, Finding
from .registered import CHECKS, Digest, NotApplicable, propose_exclusion

BLANK_FRAC = 0.03
# Dirt only takes light away and covers little; more, or anything brighter than glass, is a picture of something.
MOST_DIRT_FRAC, MOST_SHINE_FRAC = 0.10, 0.01
CLIPPED_FRAC = 0.05  # of the pixels; specks and nuclei of one clip less
LIGHT_FLOOR = 0.08  # natural logarithm, 8 %; exposures of one scanner differ by as much
FAR = 6.0  # robust z; normal values reach it once in 10**9


def tell_blanks(digest: Digest) -> list[bool]:
    """Whether each image shows nothing: neither tissue nor a picture of anything else.

    Where the usual image has no colours of H&E, whatever stands out from smooth light counts instead of tissue.
    """
    looks = [d.appearance for d in digest.images]
    if _is_coloured(digest):
        return [look.tissue_frac < BLANK_FRAC and _is_empty(look) for look in looks]
    return [max(look.tissue_frac, look.dark_frac, look.bright_frac) < BLANK_FRAC for look in looks]


def _is_coloured(digest: Digest) -> bool:
    return not digest.images or float(np.median([d.appearance.tissue_frac for d in digest.images])) >= BLANK_FRAC


def _is_empty(look: Appearance) -> bool:
    return look.dark_frac < MOST_DIRT_FRAC and look.bright_frac < MOST_SHINE_FRAC


@CHECKS.register("blank", summary="images with hardly any tissue, nor anything else")
def find_blanks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image of which less than 3 % absorbs as stain does; what shows something else is foreign."""
    return [
        Finding(
            code="blank",
            severity="warning",
            images=(d.image,),
            score=1 - d.appearance.tissue_frac,
            message=f"{d.image} is blank: tissue covers {d.appearance.tissue_frac:.1%}, less than {BLANK_FRAC:.0%}.",
            proposal=propose_exclusion(digest.sample(d.image)),
            evidence={
                "tissue_frac": round(d.appearance.tissue_frac, 4),
                "dark_frac": round(d.appearance.dark_frac, 4),
                "contrast": round(d.contrast, 2),
            },
        )
        for d, blank in zip(digest.images, tell_blanks(digest), strict=True)
        if blank
    ]


@CHECKS.register("blank-under-mask", summary="masks that lie on glass")
def find_blank_masks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image with tissue of which less than 3 % lies under its mask; blank images aside."""
    measured = [
        (d, d.appearance.masked_tissue_frac) for d in digest.images if d.appearance.masked_tissue_frac is not None
    ]
    if not measured:
        return NotApplicable("no image has a mask")
    if not _is_coloured(digest):
        return NotApplicable("the usual image is not coloured like H&E")
    return [
        Finding(
            code="blank-under-mask",
            severity="warning",
            images=(d.image,),
            score=1 - frac,
            message=f"the mask of {d.image} lies on glass: tissue fills {frac:.1%} of it, less than {BLANK_FRAC:.0%}.",
            proposal=propose_exclusion(digest.sample(d.image)),
            evidence={"masked_tissue_frac": round(frac, 4), "tissue_frac": round(d.appearance.tissue_frac, 4)},
        )
        for d, frac in measured
        if frac < BLANK_FRAC <= d.appearance.tissue_frac
    ]


@CHECKS.register("saturation", summary="images too bright or too dark for the camera, or for this cohort")
def find_saturated(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image with clipped tissue, clipped shadows, or far less light than the cohort."""
    blank = tell_blanks(digest)
    shown = [d for d, empty in zip(digest.images, blank, strict=True) if not empty]
    if len(shown) < LEAST_IMAGES:
        return NotApplicable(f"{len(shown)} images show anything, it takes {LEAST_IMAGES} to know what is usual")
    blown, crushed = (np.array([getattr(d.appearance, name) for d in shown]) for name in ("blown_frac", "crushed_frac"))
    light = score_deviation([d.appearance.light for d in shown], floor=LIGHT_FLOOR)
    findings = []
    for i, d in enumerate(shown):
        # What is usual in a cohort is how it was scanned, not a slip.
        reasons = [
            f"{blown[i]:.0%} of its tissue is clipped to white" * bool(blown[i] - np.median(blown) > CLIPPED_FRAC),
            f"{crushed[i]:.0%} of it is clipped to black" * bool(crushed[i] - np.median(crushed) > CLIPPED_FRAC),
            "it has far less light than the others" * bool(light[i] < -FAR),
        ]
        if any(reasons):
            evidence = {"blown_frac": blown[i], "crushed_frac": crushed[i], "light": light[i]}
            findings.append(
                Finding(
                    code="saturation",
                    severity="info",
                    images=(d.image,),
                    score=round(max(float(blown[i]), float(crushed[i]), float(-light[i]) / FAR), 3),
                    message=f"{d.image} is badly exposed: {', '.join(r for r in reasons if r)}.",
                    evidence={name: round(float(value), 4) for name, value in evidence.items()},
                )
            )
    return findings
