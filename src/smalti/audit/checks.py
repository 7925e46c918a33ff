"""The checks of the audit. Each looks at the digests and proposes; none acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..registry import Registry
from ..types import Action, Cohort, Finding, Sample
from .cases import join_groups
from .digest import ImageDigest
from .duplicates import NearPair, find_near_pairs

BLANK_FRAC = 0.03
TRIVIAL_MASK_FRAC = 0.01  # a mask over nearly all or nothing is the same in many images and says nothing

LABEL_CHECKS = ("contradicting-labels", "confounding")  # what they find depends on labels, so they see no sealed one


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The answer of a check that cannot run; never to be read as passed."""

    reason: str


class Digest:
    """The digests of a cohort in its order, and what several checks derive from them."""

    def __init__(self, cohort: Cohort, images: Sequence[ImageDigest]) -> None:
        self.images = tuple(images)
        self._samples = {s.image: s for s in cohort.samples}
        self._order = {d.image: i for i, d in enumerate(images)}

    @cached_property
    def exact_groups(self) -> tuple[tuple[str, ...], ...]:
        """Images with equal pixels, two or more, the one to keep first."""
        groups: dict[str, list[str]] = {}
        for digest in self.images:
            groups.setdefault(digest.pixel_hash, []).append(digest.image)
        return tuple(tuple(sorted(names, key=self.rank)) for names in groups.values() if len(names) > 1)

    @cached_property
    def near_pairs(self) -> tuple[NearPair, ...]:
        """Pairs that show the same field; of images with equal pixels only the one to keep takes part."""
        later = {name for group in self.exact_groups for name in group[1:]}
        return find_near_pairs([d for d in self.images if d.image not in later])

    @cached_property
    def duplicate_groups(self) -> dict[str, str]:
        """Image -> name of its group of exact and near duplicates."""
        return join_groups([*self.exact_groups, *(pair.images for pair in self.near_pairs)])

    def sample(self, image: str) -> Sample:
        """The sample of an image."""
        return self._samples[image]

    def rank(self, image: str) -> tuple[bool, float, int]:
        """Order in which duplicates are kept: labelled, not painted on, first in the cohort."""
        position = self._order[image]
        return (self._samples[image].label is None, round(self.images[position].green_frac, 2), position)


CHECKS: Registry[list[Finding] | NotApplicable] = Registry("check")


@CHECKS.register("exact-duplicate", summary="images with equal pixels, also in differing files")
def find_exact_duplicates(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image whose pixels came before."""
    if len(digest.images) < 2:
        return NotApplicable("fewer than two images")
    findings = []
    for kept, *others in digest.exact_groups:
        for image in others:
            findings.append(
                _report_duplicate(
                    digest,
                    "exact-duplicate",
                    names=[image, kept],
                    score=1.0,
                    words="has the same pixels as",
                    evidence={},
                )
            )
    return findings


@CHECKS.register(
    "near-duplicate",
    summary="images of the same field: turned, mirrored, recompressed, recoloured, cropped or painted on",
    reference="local contrast normalisation, Jarrett et al. 2009; template matching, OpenCV",
)
def find_near_duplicates(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each image of a group but the one to keep, with all images it directly resembles."""
    if len(digest.images) < 2:
        return NotApplicable("fewer than two images")
    groups = join_groups(pair.images for pair in digest.near_pairs)
    kept = {min((i for i in groups if groups[i] == name), key=digest.rank) for name in groups.values()}
    findings = []
    for image in sorted(groups.keys() - kept, key=digest.rank):
        pairs = sorted((p for p in digest.near_pairs if image in p.images), key=lambda p: -p.correlation)
        others = [name for p in pairs for name in p.images if name != image]
        best = pairs[0]
        evidence = {
            "correlation": round(best.correlation, 4),
            "local_correlation": round(best.local, 4),
            "scale": round(best.scale, 2),
            "quarter_turns": best.quarter_turns,
            "mirrored": best.mirrored,
        }
        findings.append(
            _report_duplicate(
                digest,
                "near-duplicate",
                names=[image, *others],
                score=best.correlation,
                words=f"shows the same field (correlation {best.correlation:.2f}) as",
                evidence=evidence,
            )
        )
    return findings


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
            proposal=_propose_exclusion(digest.sample(d.image)),
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
            proposal=_propose_exclusion(digest.sample(d.image)),
            evidence={"masked_tissue_frac": round(frac, 4), "tissue_frac": round(d.tissue_frac, 4)},
        )
        for d, frac in measured
        if frac < BLANK_FRAC <= d.tissue_frac
    ]


@CHECKS.register("contradicting-labels", summary="duplicates that carry different labels")
def find_contradictions(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """One finding for each labelled image of a group of duplicates that disagree; all are proposed for exclusion.

    At most one of the labels is right, and pixels do not say which.
    """
    if len(digest.images) < 2:
        return NotApplicable("fewer than two images")
    groups: dict[str, list[Sample]] = {}
    for sample in cohort.labelled:
        if sample.image in digest.duplicate_groups:
            groups.setdefault(digest.duplicate_groups[sample.image], []).append(sample)
    findings = []
    for samples in groups.values():
        samples.sort(key=lambda s: digest.rank(s.image))
        if len({s.label for s in samples}) > 1:
            findings += [_report_contradiction(one, samples) for one in samples]
    return findings


def _report_contradiction(one: Sample, group: Sequence[Sample]) -> Finding:
    others = [s for s in group if s is not one]
    listed = ", ".join(f"{s.image} ({s.label})" for s in others)
    return Finding(
        code="contradicting-labels",
        severity="error",
        images=(one.image, *(s.image for s in others)),
        score=float(len({s.label for s in group})),
        message=f"{one.image} is labelled {one.label}, its duplicates otherwise: {listed}.",
        proposal=_propose_exclusion(one),
        evidence={"labels": sorted({str(s.label) for s in group})},
    )


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
        proposal="keep" if template else _propose_exclusion(digest.sample(one.image)),
        evidence={"images": len(group), "mask_frac": round(one.mask_frac or 0.0, 4)},
    )


def _propose_exclusion(sample: Sample) -> Action:
    # An image of the test part must be predicted whatever it shows.
    return "keep" if sample.label is None else "exclude"


def _report_duplicate(
    digest: Digest,
    code: str,
    *,
    names: Sequence[str],
    score: float,
    words: str,
    evidence: dict[str, float | int | bool],
) -> Finding:
    samples = [digest.sample(name) for name in names]
    labels = sorted({s.label for s in samples if s.label is not None})
    tested = [s.image for s in samples if s.label is None]
    message = f"{names[0]} {words} {', '.join(names[1:])}."
    if len(labels) > 1:
        message += f" Their labels contradict each other: {', '.join(labels)}."
    if tested and labels:
        message += f" In the unlabelled part: {', '.join(tested)}; the others are labelled."
    return Finding(
        code=code,
        severity="error" if len(labels) > 1 else "warning",
        images=tuple(names),
        score=score,
        message=message,
        proposal=_propose_exclusion(samples[0]),
        evidence={**evidence, "labels": labels},
    )
