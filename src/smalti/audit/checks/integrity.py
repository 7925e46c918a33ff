"""Files that cannot be used, as reading the data folder found them."""

from __future__ import annotations

from ...errors import Problem
from ...types import Cohort, Finding
from .registered import CHECKS, Digest


@CHECKS.register("integrity", summary="unreadable or truncated files, wrong sizes, masks that are missing or empty")
def find_broken(cohort: Cohort, digest: Digest) -> list[Finding]:
    """One finding for each image of each problem; what concerns no single image has stopped the reading."""
    return [_report(problem, image) for problem in digest.problems for image in problem.images]


def _report(problem: Problem, image: str) -> Finding:
    """A warning does not stop a run, so it proposes to keep the image."""
    return Finding(
        code="integrity",
        severity="warning" if problem.warning else "error",
        images=(image, *(other for other in problem.images if other != image)),
        score=0.5 if problem.warning else 1.0,
        message=f"{problem.file} {problem.message} Fix: {problem.fix}.",
        proposal="keep" if problem.warning else "exclude",
        evidence={"problem": problem.code, "file": problem.file},
    )
