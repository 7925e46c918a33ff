"""Images of the same tissue: exact and near duplicates, overlapping fields, labels that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...types import Cohort, Finding, Sample
from ..bindings import join_groups
from ..compare.bag_pairs import BagPair
from ..compare.duplicates import NearPair
from .registered import CHECKS, Digest, NotApplicable, Partial, except_tiny, propose_exclusion

CONTRADICTION = "Their labels contradict each other: {}."


@CHECKS.register("exact-duplicate", summary="images with equal pixels, also in differing files")
def find_exact_duplicates(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable:
    """Return one finding for each image whose pixels came before."""
    if digest.count < 2:
        return NotApplicable("fewer than two images")
    return [
        _report_duplicate(
            digest,
            "exact-duplicate",
            names=[image, kept],
            score=1.0,
            words=f"has the same {digest.same} as",
            evidence={},
        )
        for kept, *others in digest.exact_groups
        for image in others
    ]


@CHECKS.register(
    "near-duplicate",
    summary="images of the same field: turned, mirrored, recompressed, recoloured, cropped or painted on",
    reference="SIFT, Lowe 2004; bags of words, Sivic & Zisserman 2003; verified by local contrast normalisation",
)
def find_near_duplicates(cohort: Cohort, digest: Digest) -> list[Finding] | NotApplicable | Partial:
    """Return one finding for each image of a group but the one to keep, with all images that it directly resembles."""
    if digest.count < 2:
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
    """Return one finding for each image whose field reaches into earlier ones; none is a copy, so all are kept."""
    if digest.count < 2:
        return NotApplicable("fewer than two images")
    later: dict[str, list[NearPair | BagPair]] = {}
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
    """Return a finding for each labelled image of a group of duplicates that disagree; all are proposed for exclusion.

    At most one of the labels is right, and pixels do not say which.
    """
    if digest.count < 2:
        return NotApplicable("fewer than two images")
    groups: dict[str, list[Sample]] = {}
    for sample in cohort.labelled:
        if sample.image in digest.duplicate_groups:
            groups.setdefault(digest.duplicate_groups[sample.image], []).append(sample)
    findings = []
    for samples in groups.values():
        samples.sort(key=lambda s: digest.rank(s.image))
        labels = sorted({str(s.label) for s in samples})
        for one in samples if len(labels) > 1 else ():
            others = [s for s in samples if s is not one]
            listed = ", ".join(f"{s.image} ({s.label})" for s in others)
            findings.append(
                Finding(
                    code="contradicting-labels",
                    severity="error",
                    images=(one.image, *(s.image for s in others)),
                    score=float(len(labels)),
                    message=f"{one.image} is labelled {one.label}, its duplicates otherwise: {listed}.",
                    proposal=propose_exclusion(one),
                    evidence={"labels": labels},
                )
            )
    return findings


def _report_bags(digest: Digest, image: str, *, pairs: Sequence[BagPair]) -> Finding:
    pairs = sorted(pairs, key=lambda p: (-p.shared_frac, p.distance, p.images))
    others = [name for p in pairs for name in p.images if name != image]
    shared = pairs[0].shared_frac
    return _report_duplicate(
        digest,
        "near-duplicate",
        names=[image, *others],
        score=shared,
        words=f"holds the same tiles ({shared:.0%} of the smaller bag, up to rounding) as",
        evidence={"shared_frac": round(shared, 3), "distance": round(pairs[0].distance, 4)},
    )


def _report_pairs(digest: Digest, image: str, *, code: str, pairs: Sequence[NearPair | BagPair]) -> Finding:
    if bags := [pair for pair in pairs if isinstance(pair, BagPair)]:
        return _report_bags(digest, image, pairs=bags)
    fields = sorted((p for p in pairs if isinstance(p, NearPair)), key=lambda p: (-p.correlation, p.images))
    others = [name for p in fields for name in p.images if name != image]
    best = fields[0]
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
    copies = code != "overlapping-fields"  # neighbouring fields may well differ in label
    labels = sorted({s.label for s in samples if s.label is not None})
    tested = [s.image for s in samples if s.label is None]
    shows = f"{names[0]} {words} {', '.join(names[1:])}."
    parts = f" In the unlabelled part: {', '.join(tested)}; the others are labelled." if tested and labels else ""
    blind = Finding(
        code=code,
        severity="warning" if copies else "info",
        images=tuple(names),
        score=score,
        message=shows + parts,
        proposal=propose_exclusion(samples[0]) if copies else "keep",
        evidence=dict(evidence),
    )
    if not copies:
        return blind
    told = replace(blind, evidence={**evidence, "labels": labels}, blind=blind if labels else None)
    if len(labels) < 2:
        return told
    return replace(told, severity="error", message=f"{shows} {CONTRADICTION.format(', '.join(labels))}{parts}")
