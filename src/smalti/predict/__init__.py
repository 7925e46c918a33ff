"""Use the model: out-of-fold scores, scores of the unlabelled part, the submission."""

from .inference import predict_outer, predict_unlabelled
from .submission import average_scores, check_submission, find_unreadable, write_submission

__all__ = [
    "average_scores",
    "check_submission",
    "find_unreadable",
    "predict_outer",
    "predict_unlabelled",
    "write_submission",
]
