"""Use the model: out-of-fold scores, scores of the unlabelled part, the submission."""

from .calibrations import CALIBRATIONS
from .decisions import DECISIONS
from .ensembles import ENSEMBLES, Combined, Member, combine_members
from .inference import predict_outer, predict_sealed, predict_unlabelled, write_predictions
from .rules import Rule, fit_rule, settle_tables
from .stacking import make_design
from .submission import average_scores, check_submission, find_unreadable, write_submission

__all__ = [
    "CALIBRATIONS",
    "DECISIONS",
    "ENSEMBLES",
    "Combined",
    "Member",
    "Rule",
    "average_scores",
    "check_submission",
    "combine_members",
    "find_unreadable",
    "fit_rule",
    "make_design",
    "predict_outer",
    "predict_sealed",
    "predict_unlabelled",
    "settle_tables",
    "write_predictions",
    "write_submission",
]
