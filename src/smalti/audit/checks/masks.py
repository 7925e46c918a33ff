"""Masks that cannot be right: shared by images that differ, or of an implausible shape."""

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
    """Return one finding for each image whose mask lies on an image of another field too.

    Real outlines never repeat; a mask that does was copied to pictures that it does not belong to. A mask that was
    saved again, shifted by a pixel or resized is the same mask.
    """
    masked = [d for d in digest.images if d.mask_hash is not None and d.mask_frac is not None]
    if not masked:
        return NotApplicable("no image has a mask")
    shaped = {d.image: d for d in masked if TRIVIAL_MASK_FRAC < (d.mask_frac or 0) < 1 - TRIVIAL_MASK_FRAC}
    # Groups of images that have the same mask, byte for byte or nearly.
    equal: dict[str, list[str]] = {}
    for d in shaped.values():
        equal.setdefault(d.mask_hash or "", []).append(d.image)
    outlined = [(first, o) for first, *_ in equal.values() if (o := shaped[first].outline) is not None]
    near = find_near_outlines([outline for _, outline in outlined])
    links = [
        *(names for names in equal.values() if len(names) > 1),
        *([outlined[i][0], outlined[j][0]] for i, j, _ in near),
    ]
    groups: dict[str, list[str]] = {}
    for image, name in join_groups(links).items():
        groups.setdefault(name, []).append(image)
    findings = []
    # Images that show no tissue of this cohort: where one has the mask of tissue, the mask was copied to it.
    strangers: set[str] = set()
    for answer in (find_foreign(cohort, digest), find_blanks(cohort, digest)) if groups else ():
        found = answer.findings if isinstance(answer, Partial) else answer
        strangers |= set() if isinstance(found, NotApplicable) else {f.images[0] for f in found}
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
    """Return one finding for each such mask; none where most masks are so, since they are made like that.

    Masks that mark nothing or have another size than their image are refused when the folder is read.
    """
    masked = [d for d in digest.images if d.mask_frac is not None]
    if not masked:
        return NotApplicable("no image has a mask")
    full = [d for d in masked if (d.mask_frac or 0) >= 1 - TRIVIAL_MASK_FRAC]
    specked = []
    for d in masked:
        height, width = d.size_px
        area = (d.mask_frac or 0.0) * height * width * (PIECES_SIDE_PX / max(height, width)) ** 2
        pieces = d.source.mask_pieces or 0
        if pieces >= SPECKS and area / pieces <= SPECK_PX:
            specked.append(d)
    return [
        Finding(
            code="implausible-mask",
            severity="info",
            images=(d.image,),
            score=d.mask_frac or 0.0,
            message=f"the mask of {d.image} {words}, unlike most others.",
            proposal="keep",
            evidence={"mask_frac": round(d.mask_frac or 0.0, 4), "pieces": d.source.mask_pieces or 0},
        )
        for group, words in ((full, "covers the whole image"), (specked, "falls into specks"))
        if 2 * len(group) <= len(masked)
        for d in group
    ]


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
