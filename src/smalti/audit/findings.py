"""Carry the checks out, and keep what they found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .. import store
from ..errors import Problem
from ..types import Cohort, Finding
from .checks.registered import CHECKS, LABEL_CHECKS, Digest, NotApplicable, Partial
from .labels.evidence import Evidence, read_embeddings
from .measure.digest import ImageDigest, digest_sample

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Audit:
    """What the checks said.

    Attributes:
        findings: all findings, check after check.
        outcomes: check -> ``nothing found``, ``N found`` or ``not applicable: why``.
        digest: what the checks looked at; None where the audit was read from a file.
    """

    findings: tuple[Finding, ...]
    outcomes: dict[str, str]
    digest: Digest | None = field(default=None, compare=False, repr=False)


def audit_cohort(
    cohort: Cohort,
    *,
    checks: tuple[str, ...] | None = None,
    progress: Callable[[int, int], None] | None = None,
    problems: Sequence[Problem] = (),
    evidence: Evidence | None = None,
    embeddings: Path | None = None,
) -> Audit:
    """Look for what spoils learning or scoring.

    Args:
        cohort: labelled and unlabelled samples.
        checks: names of registered checks; None takes all.
        progress: called with images looked at and images in all.
        problems: what reading the data folder found; the images concerned are not in the cohort.
        evidence: of a trained run, for checks that need one.
        embeddings: of all images, as `write_embeddings` wrote them, for the check ``foreign``.

    Raises:
        PartError: no check has this name.
        DataError: an image cannot be read.
        RunError: the embeddings cannot be read.
    """
    names = tuple(entry.name for entry in CHECKS) if checks is None else checks
    for name in names:
        CHECKS.find(name)
    points = None if embeddings is None else read_embeddings(embeddings, tuple(s.image for s in cohort.samples))
    images = _digest_cohort(cohort, progress) if names else []
    digest = Digest(cohort, images, problems=problems, evidence=evidence, embeddings=points)
    return _carry_out(names, cohort, digest)


def hide_sealed(audit: Audit, cohort: Cohort) -> Audit:
    """The audit as it would be had nobody known the labels of the sealed part.

    Checks that read labels are carried out again on what is not sealed; other findings lose the labels that they tell.

    Args:
        audit: of the whole cohort.
        cohort: with sealed cases set apart. Duplicates share a case, so each group is sealed whole or not at all.
    """
    if not cohort.sealed or audit.digest is None:
        return audit
    names = tuple(name for name in audit.outcomes if name in LABEL_CHECKS)
    again = _carry_out(names, cohort, audit.digest)
    sealed = {s.image for s in cohort.sealed}
    findings: list[Finding] = []
    for name in audit.outcomes:
        source = again if name in names else audit
        findings += [_hide_labels(f, sealed) for f in source.findings if f.code == name]
    return Audit(tuple(findings), {**audit.outcomes, **again.outcomes}, audit.digest)


def _hide_labels(finding: Finding, sealed: set[str]) -> Finding:
    labels = finding.evidence.get("labels")
    if not labels or not sealed.intersection(finding.images):
        return finding
    evidence = {key: value for key, value in finding.evidence.items() if key != "labels"}
    message = finding.message.replace(f" Their labels contradict each other: {', '.join(labels)}.", "")
    return replace(finding, severity="warning", message=message, evidence=evidence)


def _carry_out(names: tuple[str, ...], cohort: Cohort, digest: Digest) -> Audit:
    findings: list[Finding] = []
    outcomes: dict[str, str] = {}
    for name in names:
        found = CHECKS.build(name, cohort, digest)
        if isinstance(found, NotApplicable):
            outcomes[name] = f"not applicable: {found.reason}"
            continue
        listed = found.findings if isinstance(found, Partial) else found
        outcomes[name] = f"{len(listed)} found" if listed else "nothing found"
        if isinstance(found, Partial):
            outcomes[name] += f"; not applicable for {found.reason}"
        findings += listed
    return Audit(tuple(findings), outcomes, digest)


def _digest_cohort(cohort: Cohort, progress: Callable[[int, int], None] | None) -> list[ImageDigest]:
    digests = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for digest in pool.map(digest_sample, cohort.samples):
                digests.append(digest)
                if progress is not None:
                    progress(len(digests), len(cohort.samples))
        except BaseException:
            # What waits in line would only delay the message.
            pool.shutdown(cancel_futures=True)
            raise
    return digests


def write_findings(path: Path, audit: Audit) -> Path:
    """Write ``findings.json`` atomically."""
    content = {"outcomes": audit.outcomes, "findings": [asdict(f) for f in audit.findings]}
    return store.write_json(path, content)


def read_findings(path: Path) -> Audit:
    """Read what `write_findings` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    with store.reading(path):
        content = store.read_json(path)
        findings = tuple(Finding(**{**f, "images": tuple(f["images"])}) for f in content["findings"])
        return Audit(findings, dict(content["outcomes"]))
