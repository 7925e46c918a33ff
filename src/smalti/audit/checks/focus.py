"""Images that are out of focus, by the standard of their cohort."""

from __future__ import annotations

import numpy as np

from ...stats.robust import LEAST_IMAGES, score_deviation
from ...types import Cohort, Finding
from ..measure.keypoints import SMALLEST_PX
from .quality import tell_blanks
from .registered import CHECKS, Digest, NotApplicable, Partial, except_tiny

BLURRED = -4.0  # robust z; normal values reach it once in 30,000
SPREAD_FLOOR = 0.08  # log10 of contrast; sharpness of one scanner and tissue varies by more


@CHECKS.register(
    "focus",
    summary="images whose fine details are far weaker than is usual among images of their size",
    reference="focus measures, Pech-Pacheco et al. 2000",
)
def find_blurred(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """One finding for each image far softer than the others of its size; blank images aside.

    Sizes are told apart by factors of two, for an image at half the size is not as sharp in pixels; a size with fewer
    than twenty images is held against the whole cohort.
    """
    shown = [
        d
        for d, blank in zip(digest.images, tell_blanks(digest), strict=True)
        if not blank and min(d.size_px) >= SMALLEST_PX
    ]
    if len(shown) < LEAST_IMAGES:
        return NotApplicable(f"{len(shown)} images show anything, it takes {LEAST_IMAGES} to know what is usual")
    sharpness = np.array([d.appearance.sharpness for d in shown])
    sizes = np.array([round(np.log2(max(d.size_px))) for d in shown])
    deviation = score_deviation(sharpness, floor=SPREAD_FLOOR)
    for size in np.unique(sizes):
        same = sizes == size
        if same.sum() >= LEAST_IMAGES:
            deviation[same] = score_deviation(sharpness[same], floor=SPREAD_FLOOR)
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
