"""Use the model: out-of-fold scores, scores of the unlabelled part, the submission."""

from .calibrations import CALIBRATIONS
from .ensembles import ENSEMBLES, PARTIAL, Combined, Member, combine_members, make_design, mix_members
from .inference import (
    list_parts,
    predict_given,
    predict_outer,
    predict_split,
    predict_unlabelled,
    score_network,
    write_predictions,
)
from .rules import Rule, fit_rule, settle_tables
from .submission import average_scores, calibrate_scores, check_submission, fill_form, find_unreadable, write_submission
from .thresholds import DECISIONS

__all__ = [
    "CALIBRATIONS", "DECISIONS", "ENSEMBLES", "PARTIAL", "Combined", "Member", "Rule", "average_scores",
    "calibrate_scores", "check_submission", "combine_members", "fill_form", "find_unreadable", "fit_rule",
    "list_parts", "make_design", "mix_members", "predict_given", "predict_outer", "predict_split", "predict_unlabelled",
    "score_network", "settle_tables", "write_predictions", "write_submission",
]  # fmt: skip
