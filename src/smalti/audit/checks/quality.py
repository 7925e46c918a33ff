"""Whether an image shows tissue, in good light and in focus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...stats.robust import LEAST_IMAGES, Usual, find_usual, score_deviation
from ...tissue.appearance import Appearance
from ...types import Cohort, Finding
from ..measure.digest import PictureDigest
from ..measure.keypoints import SMALLEST_PX
from .registered import CHECKS, Digest, NotApplicable, Partial, except_tiny, propose_exclusion

BLANK_FRAC = 0.03
# Dirt only takes light away and covers little; more, or anything brighter than glass, is a picture of something.
MOST_DIRT_FRAC, MOST_SHINE_FRAC = 0.10, 0.01
CLIPPED_FRAC = 0.05  # of the pixels; specks and nuclei of one clip less
LIGHT_FLOOR = 0.08  # natural logarithm, 8 %; exposures of one scanner differ by as much
FAR = 6.0  # robust z; normal values reach it once in 10**9
BLURRED = -4.0  # robust z; normal values reach it once in 30,000
SPREAD_FLOOR = 0.08  # log10 of contrast; sharpness of one scanner and tissue varies by more


def tell_blanks(digest: Digest) -> list[bool]:
    """Return whether each image is empty: neither tissue nor a picture of anything else."""
    stained = has_stain(digest.images)
    return [is_blank(d.appearance, stained=stained) for d in digest.images]


def is_blank(look: Appearance, *, stained: bool) -> bool:
    """Return whether an image is empty, in a cohort whose usual image is ``stained`` (`has_stain`) or not.

    Where it has no colours of H&E, everything beyond smooth light counts instead of tissue.
    """
    if stained:
        return look.tissue_frac < BLANK_FRAC and look.dark_frac < MOST_DIRT_FRAC and look.bright_frac < MOST_SHINE_FRAC
    return max(look.tissue_frac, look.dark_frac, look.bright_frac) < BLANK_FRAC


def has_stain(images: Sequence[PictureDigest]) -> bool:
    """Return whether the usual image has colours of H&E."""
    return not images or float(np.median([d.appearance.tissue_frac for d in images])) >= BLANK_FRAC


@CHECKS.register("blank", summary="images with hardly any tissue, nor anything else")
def find_blanks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """Return a finding for each image of which less than 3 % absorbs as stain does; other pictures are foreign."""
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
    """Return a finding for each image with a mask of which less than 3 % is tissue, except blank images."""
    measured = [
        (d, d.appearance.masked_tissue_frac) for d in digest.images if d.appearance.masked_tissue_frac is not None
    ]
    if not measured:
        return NotApplicable("no image has a mask")
    if not has_stain(digest.images):
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
    """Return a finding for each image with clipped tissue, clipped shadows, or far less light than the cohort."""
    blank = tell_blanks(digest)
    shown = [d for d, empty in zip(digest.images, blank, strict=True) if not empty]
    if len(shown) < LEAST_IMAGES:
        return NotApplicable(f"{len(shown)} images show anything, it takes {LEAST_IMAGES} to know what is usual")
    blown, crushed = (np.array([getattr(d.appearance, name) for d in shown]) for name in ("blown_frac", "crushed_frac"))
    light = score_deviation([d.appearance.light for d in shown], floor=LIGHT_FLOOR)
    findings = []
    for i, d in enumerate(shown):
        # A share that is usual in a cohort is due to its scanner and no fault of one image.
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


@CHECKS.register(
    "focus",
    summary="images whose fine details are far weaker than is usual among images of their size",
    reference="focus measures, Pech-Pacheco et al. 2000",
)
def find_blurred(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """Return a finding for each image far softer than the others of its size, except blank images.

    Sizes are compared by factors of two, since an image at half the size is not as sharp in pixels; an image of a size
    with fewer than twenty images is compared with the whole cohort.
    """
    shown = [
        d
        for d, blank in zip(digest.images, tell_blanks(digest), strict=True)
        if not blank and min(d.size_px) >= SMALLEST_PX
    ]
    if len(shown) < LEAST_IMAGES:
        return NotApplicable(f"{len(shown)} images show anything, it takes {LEAST_IMAGES} to know what is usual")
    usual = find_usual_focus(shown)
    deviation = [score_focus(d, usual) for d in shown]
    findings = [
        Finding(
            code="focus",
            severity="warning",
            images=(d.image,),
            score=round(float(-z), 2),
            message=f"{d.image} is out of focus: its fine details are far weaker than usual here (robust z {z:.1f}).",
            evidence={"robust_z": round(float(z), 2), "sharpness_log10": round(d.appearance.sharpness, 3)},
        )
        for d, z in zip(shown, deviation, strict=True)
        if z < BLURRED
    ]
    return except_tiny(findings, digest)


def find_usual_focus(images: Sequence[PictureDigest]) -> dict[int, Usual]:
    """Return size class -> usual sharpness, for classes of at least twenty images; class 0 is the whole cohort."""
    sharpness = np.array([d.appearance.sharpness for d in images])
    sizes = np.array([classify_size(d.size_px) for d in images])
    usual = {0: find_usual(sharpness, floor=SPREAD_FLOOR)}
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        if count >= LEAST_IMAGES:
            usual[int(size)] = find_usual(sharpness[sizes == size], floor=SPREAD_FLOOR)
    return usual


def score_focus(image: PictureDigest, usual: Mapping[int, Usual]) -> float:
    """Return robust z of the sharpness of an image beside the images of its size; below `BLURRED` it is blurred."""
    return float(usual.get(classify_size(image.size_px), usual[0]).score(image.appearance.sharpness))


def classify_size(size_px: tuple[int, int]) -> int:
    """Return the class of a size, by factors of two."""
    return round(np.log2(max(size_px)))
