"""Is this data fit to learn from? Checks find, people or rules decide; source files stay as they are."""

from . import copies, masks, quality  # noqa: F401 - importing them registers the checks
from .cases import join_duplicates
from .checks import CHECKS, NotApplicable
from .decisions import (
    accept_proposals,
    append_decisions,
    apply_decisions,
    hold_decisions,
    read_decisions,
    settle_decisions,
    validate_decisions,
    write_decisions,
)
from .findings import Audit, audit_cohort, hide_sealed, read_findings, write_findings
from .repairs import REPAIRS, plan_repair

__all__ = [
    "CHECKS",
    "REPAIRS",
    "Audit",
    "NotApplicable",
    "accept_proposals",
    "append_decisions",
    "apply_decisions",
    "audit_cohort",
    "hide_sealed",
    "hold_decisions",
    "join_duplicates",
    "plan_repair",
    "read_decisions",
    "read_findings",
    "settle_decisions",
    "validate_decisions",
    "write_decisions",
    "write_findings",
]
