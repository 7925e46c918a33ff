"""Images that show the same: findings about exact and near duplicates, and labels that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import Cohort, Finding, Sample
from ..bindings import join_groups
from ..compare.duplicates import NearPair
from .registered import CHECKS, Digest, NotApplicable, Partial, except_tiny, propose_exclusion


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
    reference="SIFT, Lowe 2004; bags of words, Sivic & Zisserman 2003; verified by local contrast normalisation",
)
def find_near_duplicates(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """One finding for each image of a group but the one to keep, with all images it directly resembles."""
    if len(digest.images) < 2:
        return NotApplicable("fewer than two images")
    pairs = [pair for pair in digest.near_pairs if not pair.partial]
    groups = join_groups(pair.images for pair in pairs)
    kept = {min((i for i in groups if groups[i] == name), key=digest.rank) for name in set(groups.values())}
    findings = [
        _report_pairs(digest, image, code="near-duplicate", pairs=[p for p in pairs if image in p.images])
        for image in sorted(groups.keys() - kept, key=digest.rank)
    ]
    return except_tiny(findings, digest)


@CHECKS.register("overlapping-fields", summary="images that show a part of the same field; they join one case")
def find_overlaps(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """One finding for each image whose field reaches into that of earlier ones; none is a copy, so all are kept."""
    if len(digest.images) < 2:
        return NotApplicable("fewer than two images")
    later: dict[str, list[NearPair]] = {}
    for pair in digest.near_pairs:
        if pair.partial:
            later.setdefault(max(pair.images, key=digest.rank), []).append(pair)
    findings = [
        _report_pairs(digest, image, code="overlapping-fields", pairs=later[image])
        for image in sorted(later, key=digest.rank)
    ]
    return except_tiny(findings, digest)


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
        proposal=propose_exclusion(one),
        evidence={"labels": sorted({str(s.label) for s in group})},
    )


def _report_pairs(digest: Digest, image: str, *, code: str, pairs: Sequence[NearPair]) -> Finding:
    pairs = sorted(pairs, key=lambda p: (-p.correlation, p.images))
    others = [name for p in pairs for name in p.images if name != image]
    best = pairs[0]
    scale, turn_deg = best.lay(image)
    shown, shared = best.overlap_frac if image == best.images[0] else best.overlap_frac[::-1]
    how = f"turned by {turn_deg:.0f} degrees, " if abs(turn_deg) >= 1 else ""
    how = ("mirrored, " if best.mirrored else "") + how
    what = "shows the same field" if code == "near-duplicate" else "shows a part of the same field"
    return _report_duplicate(
        digest,
        code,
        names=[image, *others],
        score=best.correlation,
        words=f"{what} ({how}correlation {best.correlation:.2f}, {max(shown, shared):.0%} of the smaller) as",
        evidence={
            "correlation": round(best.correlation, 4),
            "matches": best.matches,
            "mirrored": best.mirrored,
            "turn_deg": round(turn_deg, 1),
            "scale": round(scale, 3),
            "overlap_frac": round(shown, 3),
            "partner_overlap_frac": round(shared, 3),
        },
    )


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
    copies = code != "overlapping-fields"  # neighbouring fields may well differ in label
    if copies and len(labels) > 1:
        message += f" Their labels contradict each other: {', '.join(labels)}."
    if tested and labels:
        message += f" In the unlabelled part: {', '.join(tested)}; the others are labelled."
    return Finding(
        code=code,
        severity=("error" if len(labels) > 1 else "warning") if copies else "info",
        images=tuple(names),
        score=score,
        message=message,
        proposal=propose_exclusion(samples[0]) if copies else "keep",
        evidence={**evidence, "labels": labels} if copies else evidence,
    )
