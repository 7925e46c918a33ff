"""What stages hand over: every file of a run folder has one owner here."""

from .cohorts import hash_cohort, identify_mask, tabulate_samples
from .environment import LIBRARIES, record_environment
from .run import CASES, FEW_CASES, RunFolder, open_run

__all__ = [
    "CASES",
    "FEW_CASES",
    "LIBRARIES",
    "RunFolder",
    "hash_cohort",
    "identify_mask",
    "open_run",
    "record_environment",
    "tabulate_samples",
]
