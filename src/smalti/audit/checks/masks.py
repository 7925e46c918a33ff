"""Masks that cannot be right."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import Cohort, Finding
from ..bindings import join_groups
from ..measure.digest import ImageDigest
from ..measure.outlines import find_near_outlines
from .foreign import find_foreign
from .quality import find_blanks
from .registered import CHECKS, Digest, NotApplicable, Partial, propose_exclusion

TRIVIAL_MASK_FRAC = 0.01  # a mask over nearly all or nothing is the same in many images and says nothing
SPECKS = 1000  # connected parts, on a longer side of 512 px
SPECK_PX = 9  # mean area of a speck there; a nucleus of a 1,000 px field at x20 has about 50
PIECES_SIDE_PX = 512  # where `SourceFacts.mask_pieces` was counted


@CHECKS.register("shared-mask", summary="one and the same mask, byte for byte or nearly, on images that differ")
def find_shared_masks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image whose mask lies on an image of another field too.

    Real outlines never repeat; a mask that does was copied to pictures that it does not belong to. A mask that was
    saved anew, shifted by a pixel or resized is the same mask.
    """
    masked = [d for d in digest.images if d.mask_hash is not None and d.mask_frac is not None]
    if not masked:
        return NotApplicable("no image has a mask")
    shaped = {d.image: d for d in masked if TRIVIAL_MASK_FRAC < (d.mask_frac or 0) < 1 - TRIVIAL_MASK_FRAC}
    groups: dict[str, list[str]] = {}
    for image, name in join_groups(_link_masks(list(shaped.values()))).items():
        groups.setdefault(name, []).append(image)
    findings = []
    strangers = _find_strangers(cohort, digest) if groups else set()
    for names in groups.values():
        group = [d for d in shaped.values() if d.image in names]
        # Duplicates may well share their mask.
        if len({digest.duplicate_groups.get(d.image, d.image) for d in group}) > 1:
            owners = {digest.duplicate_groups.get(d.image, d.image) for d in group if d.image not in strangers}
            owned = {d.image for d in group if d.image not in strangers} if len(owners) == 1 else set()
            findings += [
                _report_shared(digest, d, group=group, masked=len(masked), owner=d.image in owned) for d in group
            ]
    return findings


@CHECKS.register(
    "implausible-mask", summary="masks over the whole image, or of thousands of specks, where others are not"
)
def find_implausible_masks(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each such mask; none where most masks are so, since then that is how they are made.

    Masks that mark nothing or have another size than their image are refused when the folder is read.
    """
    masked = [d for d in digest.images if d.mask_frac is not None]
    if not masked:
        return NotApplicable("no image has a mask")
    full = [d for d in masked if (d.mask_frac or 0) >= 1 - TRIVIAL_MASK_FRAC]
    specked = [d for d in masked if (d.source.mask_pieces or 0) >= SPECKS and _measure_piece(d) <= SPECK_PX]
    findings = []
    for group, words in ((full, "covers the whole image"), (specked, "falls into specks")):
        if 2 * len(group) <= len(masked):
            findings += [_report_implausible(d, words) for d in group]
    return findings


def _find_strangers(cohort: Cohort, digest: Digest) -> set[str]:
    """Images that show no tissue of this cohort: where they have the mask of one that does, it was copied to them."""
    found = set()
    for answer in (find_foreign(cohort, digest), find_blanks(cohort, digest)):
        findings = answer.findings if isinstance(answer, Partial) else answer
        found |= set() if isinstance(findings, NotApplicable) else {f.images[0] for f in findings}
    return found


def _link_masks(masked: Sequence[ImageDigest]) -> list[tuple[str, ...]]:
    """Images that have the same mask, byte for byte or nearly."""
    equal: dict[str, list[str]] = {}
    for d in masked:
        equal.setdefault(d.mask_hash or "", []).append(d.image)
    outlined = [
        (d.image, d.outline) for d in masked if d.outline is not None and d.image == equal[d.mask_hash or ""][0]
    ]
    near = find_near_outlines([outline for _, outline in outlined])
    return [tuple(names) for names in equal.values() if len(names) > 1] + [
        (outlined[i][0], outlined[j][0]) for i, j, _ in near
    ]


def _measure_piece(one: ImageDigest) -> float:
    """Mean area of the parts of a mask, pixels of an image whose longer side is 512 px."""
    height, width = one.size_px
    area = (one.mask_frac or 0.0) * height * width * (PIECES_SIDE_PX / max(height, width)) ** 2
    return area / max(one.source.mask_pieces or 0, 1)


def _report_shared(
    digest: Digest, one: ImageDigest, *, group: Sequence[ImageDigest], masked: int, owner: bool
) -> Finding:
    # A mask on most images is how this data set marks its field of view, not a slip.
    template = 2 * len(group) > masked
    note = " Most images have this mask: it may mark the field of view." if template else ""
    if owner:
        note = " The others show no tissue of this cohort: the mask is probably its own."
    equal = sum(d.mask_hash == one.mask_hash for d in group)
    same = "the same mask" if equal == len(group) else "the same or nearly the same mask"
    return Finding(
        code="shared-mask",
        severity="info" if template or owner else "warning",
        images=(one.image, *(d.image for d in group if d is not one)),
        score=float(len(group)),
        message=f"{one.image} has {same} as {len(group) - 1} other images that show something else.{note}",
        proposal="keep" if template or owner else propose_exclusion(digest.sample(one.image)),
        evidence={"images": len(group), "equal": equal, "mask_frac": round(one.mask_frac or 0.0, 4)},
    )


def _report_implausible(one: ImageDigest, words: str) -> Finding:
    return Finding(
        code="implausible-mask",
        severity="info",
        images=(one.image,),
        score=one.mask_frac or 0.0,
        message=f"the mask of {one.image} {words}, unlike most others.",
        proposal="keep",
        evidence={"mask_frac": round(one.mask_frac or 0.0, 4), "pieces": one.source.mask_pieces or 0},
    )
