"""Run the checks on a cohort; write and read their findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from .. import store
from ..errors import Problem
from ..recipe import NO_PIXELS
from ..records import Embeddings
from ..types import Cohort, Finding, Sample
from .checks.bag_checks import OF_BAGS, BagsDigest
from .checks.registered import CHECKS, LABEL_CHECKS, CheckResult, Digest, NotApplicable, Partial
from .labels.evidence import Evidence
from .measure.bag_digest import digest_bag
from .measure.digest import digest_sample

WORKERS = 2
One = TypeVar("One")


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

    def list_outcomes(self) -> list[tuple[str, CheckResult]]:
        """Return every check with its result, for people; those that lack pixels are one line."""
        blind = [name for name, result in self.outcomes.items() if result.reason == NO_PIXELS]
        if len(blind) < 2:
            return list(self.outcomes.items())
        seen = [(name, result) for name, result in self.outcomes.items() if name not in blind]
        return [*seen, (f"{len(blind)} checks of pixels", CheckResult(None, NO_PIXELS))]


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
    samples = cohort.samples if names else ()
    if cohort.features is not None:
        bags = _digest_all(partial(digest_bag, spec=cohort.features), samples, progress)
        return _run_checks(names, cohort, BagsDigest(cohort, bags, problems=problems, evidence=evidence))
    order = tuple(s.image for s in cohort.samples)
    points = None if embeddings is None else Embeddings.read_file(embeddings).order(order)
    images = _digest_all(digest_sample, samples, progress)
    digest = Digest(cohort, images, problems=problems, evidence=evidence, embeddings=points)
    return _run_checks(names, cohort, digest)


def _digest_all(
    digest: Callable[[Sample], One], samples: Sequence[Sample], progress: Callable[[int, int], None] | None
) -> list[One]:
    """Read images or bags, a few at a time, in their order."""
    found: list[One] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for one in pool.map(digest, samples):
                found.append(one)
                if progress is not None:
                    progress(len(found), len(samples))
        except BaseException:
            # Images that still wait would only delay the message.
            pool.shutdown(cancel_futures=True)
            raise
    return found


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
        if cohort.features is not None and name not in OF_BAGS:
            outcomes[name] = CheckResult(None, NO_PIXELS)
            continue
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
