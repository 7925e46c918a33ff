"""Is this data fit to learn from? Checks find, people or rules decide; source files stay as they are."""

# Importing them registers the checks.
from .bindings import find_bound_cases, join_duplicates
from .checks import artefacts, confounding, copies, focus, foreign, integrity, masks, plausible, quality, shift  # noqa: F401
from .checks.registered import CHECKS, LABEL_CHECKS, NotApplicable
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
from .labels.dynamics import DYNAMICS_NAME, Dynamics, join_dynamics, read_dynamics, write_dynamics
from .labels.evidence import EMBEDDINGS_NAME, Evidence, read_evidence, write_embeddings
from .labels.suspects import SUSPECT, SUSPECTS_NAME, find_suspects, trace_images
from .labels.traces import TRACES_NAME, write_traces

__all__ = [
    "CHECKS",
    "CRITERIA",
    "DYNAMICS_NAME",
    "EMBEDDINGS_NAME",
    "LABEL_CHECKS",
    "SUSPECT",
    "SUSPECTS_NAME",
    "TRACES_NAME",
    "Audit",
    "Dynamics",
    "Evidence",
    "NotApplicable",
    "accept_proposals",
    "append_decisions",
    "apply_decisions",
    "audit_cohort",
    "check_accepted",
    "find_bound_cases",
    "find_suspects",
    "hide_sealed",
    "hold_decisions",
    "join_duplicates",
    "join_dynamics",
    "read_decisions",
    "read_dynamics",
    "read_evidence",
    "read_findings",
    "settle_decisions",
    "trace_images",
    "validate_decisions",
    "write_decisions",
    "write_dynamics",
    "write_embeddings",
    "write_findings",
    "write_traces",
]
