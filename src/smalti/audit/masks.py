"""Masks that cannot be right."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Cohort, Finding
from .checks import CHECKS, Digest, NotApplicable, propose_exclusion
from .digest import ImageDigest

TRIVIAL_MASK_FRAC = 0.01  # a mask over nearly all or nothing is the same in many images and says nothing


@CHECKS.register("shared-mask", summary="one and the same mask on images that differ")
def find_shared_masks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image whose mask lies on an image of another field too.

    Real outlines never repeat; a mask that does was copied to pictures that it does not belong to.
    """
    masked = [d for d in digest.images if d.mask_hash is not None and d.mask_frac is not None]
    if not masked:
        return NotApplicable("no image has a mask")
    groups: dict[str, list[ImageDigest]] = {}
    for d in masked:
        if d.mask_hash and d.mask_frac and TRIVIAL_MASK_FRAC < d.mask_frac < 1 - TRIVIAL_MASK_FRAC:
            groups.setdefault(d.mask_hash, []).append(d)
    findings = []
    for group in groups.values():
        # Duplicates may well share their mask.
        fields = {digest.duplicate_groups.get(d.image, d.image) for d in group}
        if len(fields) > 1:
            findings += [_report_mask(digest, d, group=group, masked=len(masked)) for d in group]
    return findings


def _report_mask(digest: Digest, one: ImageDigest, *, group: Sequence[ImageDigest], masked: int) -> Finding:
    # A mask on most images is how this data set marks its field of view, not a slip.
    template = 2 * len(group) > masked
    note = " Most images have this mask: it may mark the field of view." if template else ""
    return Finding(
        code="shared-mask",
        severity="info" if template else "warning",
        images=(one.image, *(d.image for d in group if d is not one)),
        score=float(len(group)),
        message=f"{one.image} has the same mask as {len(group) - 1} other images that show something else.{note}",
        proposal="keep" if template else propose_exclusion(digest.sample(one.image)),
        evidence={"images": len(group), "mask_frac": round(one.mask_frac or 0.0, 4)},
    )
