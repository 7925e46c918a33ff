"""Images that show the same: findings about exact and near duplicates, and labels that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Cohort, Finding, Sample
from .cases import join_groups
from .checks import CHECKS, Digest, NotApplicable, propose_exclusion


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
        proposal=propose_exclusion(samples[0]),
        evidence={**evidence, "labels": labels},
    )
