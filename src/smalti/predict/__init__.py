"""Use the model: out-of-fold scores, scores of the unlabelled part, the submission."""

from . import weighing  # noqa: F401 - importing it registers the ensemble
from .calibrations import CALIBRATIONS
from .decisions import DECISIONS
from .ensembles import ENSEMBLES, PARTIAL, Combined, Member, combine_members
from .explanation import Explanation, Question, explain_images
from .geojson import make_collection
from .heatmap import choose_scale, find_boxes, share_inside, shrink_size, stitch_tiles
from .inference import predict_given, predict_outer, predict_sealed, predict_unlabelled, write_predictions
from .rules import Rule, fit_rule, settle_tables
from .stacking import make_design
from .submission import average_scores, calibrate_scores, check_submission, fill_form, find_unreadable, write_submission

__all__ = [
    "CALIBRATIONS",
    "DECISIONS",
    "ENSEMBLES",
    "PARTIAL",
    "Combined",
    "Explanation",
    "Member",
    "Question",
    "Rule",
    "average_scores",
    "calibrate_scores",
    "check_submission",
    "choose_scale",
    "combine_members",
    "explain_images",
    "fill_form",
    "find_boxes",
    "find_unreadable",
    "fit_rule",
    "make_collection",
    "make_design",
    "predict_given",
    "predict_outer",
    "predict_sealed",
    "predict_unlabelled",
    "settle_tables",
    "share_inside",
    "shrink_size",
    "stitch_tiles",
    "write_predictions",
    "write_submission",
]
