"""Whether data are fit to learn from: checks find, people or rules decide; source files never change."""

# Importing them registers the checks.
from .bindings import find_bound_cases, join_duplicates
from .checks import artefacts, confounding, copies, foreign, integrity, masks, plausible, quality, shift  # noqa: F401
from .checks.registered import CHECKS, LABEL_CHECKS, CheckResult, NotApplicable
from .decisions import (
    accept_proposals,
    append_decisions,
    apply_decisions,
    check_accepted,
    hold_decisions,
    read_decisions,
    settle_decisions,
    validate_decisions,
    write_decisions,
)
from .findings import Audit, audit_cohort, hide_sealed, read_findings, write_findings
from .labels import suspects  # noqa: F401
from .labels.criteria import CRITERIA
from .labels.evidence import Evidence, read_evidence
from .labels.suspects import SUSPECT, find_suspects, trace_images

__all__ = [
    "CHECKS", "CRITERIA", "LABEL_CHECKS", "SUSPECT", "Audit", "CheckResult", "Evidence", "NotApplicable",
    "accept_proposals", "append_decisions", "apply_decisions", "audit_cohort", "check_accepted", "find_bound_cases",
    "find_suspects", "hide_sealed", "hold_decisions", "join_duplicates", "read_decisions", "read_evidence",
    "read_findings", "settle_decisions", "trace_images", "validate_decisions", "write_decisions", "write_findings",
]  # fmt: skip
