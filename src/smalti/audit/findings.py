"""Run the checks on a cohort; write and read their findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import store
from ..errors import Problem
from ..records import Embeddings
from ..types import Cohort, Finding
from .checks.registered import CHECKS, LABEL_CHECKS, CheckResult, Digest, NotApplicable, Partial
from .labels.evidence import Evidence
from .measure.digest import ImageDigest, digest_sample

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings of checks on one cohort.

    Attributes:
        findings: all findings, check after check.
        outcomes: check -> its result.
        digest: what the checks read; None where the audit was read from a file.
    """

    findings: tuple[Finding, ...]
    outcomes: Mapping[str, CheckResult]
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
    """Run checks for faults that spoil learning or scoring.

    Args:
        cohort: labelled and unlabelled samples.
        checks: names of registered checks; None takes all.
        progress: called with the number of images read and of all.
        problems: found while the data folder was read; the images concerned are not in the cohort.
        evidence: of a trained run, for checks that need one.
        embeddings: of all images, for the check ``foreign``.

    Raises:
        PartError: no check has this name.
        DataError: an image cannot be read.
        RunError: the embeddings cannot be read.
    """
    names = tuple(entry.name for entry in CHECKS) if checks is None else checks
    for name in names:
        CHECKS.find(name)
    if cohort.features is not None:
        return Audit((), {name: CheckResult(None, "features have no pixels") for name in names})
    order = tuple(s.image for s in cohort.samples)
    points = None if embeddings is None else Embeddings.read_file(embeddings).order(order)
    images: list[ImageDigest] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for one in pool.map(digest_sample, cohort.samples if names else ()):
                images.append(one)
                if progress is not None:
                    progress(len(images), len(cohort.samples))
        except BaseException:
            # Images that still wait would only delay the message.
            pool.shutdown(cancel_futures=True)
            raise
    digest = Digest(cohort, images, problems=problems, evidence=evidence, embeddings=points)
    return _run_checks(names, cohort, digest)


def hide_sealed(audit: Audit, cohort: Cohort) -> Audit:
    """Return the audit without any label of the sealed part.

    Checks that read labels run again on the rest. Of other findings about sealed images, those that tell a label are
    replaced by their `Finding.blind`.

    Args:
        audit: of the whole cohort.
        cohort: with sealed cases set apart. Duplicates share a case, so each group is sealed whole or not at all.
    """
    if not cohort.sealed or audit.digest is None:
        return audit
    names = tuple(name for name in audit.outcomes if name in LABEL_CHECKS)
    again = _run_checks(names, cohort, audit.digest)
    sealed = {s.image for s in cohort.sealed}
    findings: list[Finding] = []
    for name in audit.outcomes:
        source = again if name in names else audit
        for finding in (f for f in source.findings if f.code == name):
            blind = finding.blind if sealed.intersection(finding.images) else None
            findings.append(blind or finding)
    return Audit(tuple(findings), {**audit.outcomes, **again.outcomes}, audit.digest)


def _run_checks(names: Sequence[str], cohort: Cohort, digest: Digest) -> Audit:
    findings: list[Finding] = []
    outcomes: dict[str, CheckResult] = {}
    for name in names:
        answer = CHECKS.find(name).call(cohort, digest)
        if isinstance(answer, NotApplicable):
            outcomes[name] = CheckResult(None, answer.reason)
            continue
        listed, reason = (answer.findings, answer.reason) if isinstance(answer, Partial) else (answer, "")
        outcomes[name] = CheckResult(len(listed), reason)
        findings += listed
    return Audit(tuple(findings), outcomes, digest)


def write_findings(path: Path, audit: Audit) -> Path:
    """Write ``findings.json`` atomically."""
    findings = [asdict(finding) for finding in audit.findings]
    for row in findings:
        del row["blind"]
    return store.write_json(path, {"outcomes": {c: str(r) for c, r in audit.outcomes.items()}, "findings": findings})


def read_findings(path: Path) -> Audit:
    """Read what `write_findings` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    with store.reading(path):
        content = store.read_json(path)
        findings = tuple(Finding(**{**f, "images": tuple(f["images"])}) for f in content["findings"])
        return Audit(findings, {code: CheckResult.parse(text) for code, text in content["outcomes"].items()})
